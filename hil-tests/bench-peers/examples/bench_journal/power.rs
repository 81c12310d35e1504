//! Power cuts: what has reached the device while the writer runs is all that is left.
//!
//! # Invariants
//! - The writer is stopped between two of its own instructions and the device is at rest, so the
//!   copy is the device at one moment. What the kernel had not yet been made to write is lost.
//! - What counts as promised was said before the moment.
//! - A store that syncs nothing must lose something: otherwise the cut cuts nothing.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::device::Device;
use crate::figures::{Table, progress};
use crate::worker::Worker;

const IMAGE_BYTES: u64 = 192 << 20;
const RECORD_BYTES: u64 = 2_000;
/// No metadata reaches the device by the clock alone, as on a busy gateway in the seconds before
/// ext4's own commit.
const MOUNT: &str = ",commit=300";
const PATIENCE: Duration = Duration::from_secs(20);
const STORES: [(&str, &str); 6] = [
    ("tidegate", "tidegate"),
    ("sled, flush()", "sled-flush"),
    ("sled, flush() and fdatasync", "sled"),
    ("redb", "redb"),
    ("sqlite", "sqlite"),
    ("control: never synced", "unsynced"),
];

enum Cut {
    Survived,
    Lost { promised: u64, found: u64 },
    Broken(String),
}

pub(crate) fn table(scratch: &Path, cuts: u64) -> anyhow::Result<Table> {
    let title = format!("Power cut under a running writer, {cuts} moments each");
    let columns = ["store", "survived", "of", "lost promised", "did not open"];
    let mut table = Table::new(title, &columns);
    for (name, store) in STORES {
        progress(&format!("{name}: {cuts} power cuts"));
        let (mut survived, mut lost, mut broken) = (0_u64, 0_u64, 0_u64);
        let mut worst = None;
        for outcome in run(scratch, store, cuts)? {
            match outcome {
                Cut::Survived => survived += 1,
                Cut::Lost { promised, found } => {
                    lost += 1;
                    worst = Some(format!("{found} of {promised} promised records were left"));
                }
                Cut::Broken(why) => {
                    broken += 1;
                    worst = Some(why);
                }
            }
        }
        let counts = [survived, survived + lost + broken, lost, broken];
        table.row([name.to_owned()].into_iter().chain(counts.map(|count| count.to_string())));
        if let Some(worst) = worst {
            table.note(format!("{name}, for example: {worst}"));
        }
        if store == "unsynced" && survived == counts[1] {
            table.note("THE CONTROL SURVIVED: these cuts cut nothing, the table proves nothing");
        }
    }
    table.note("records of 2,000 B, each committed; ext4 on a loop device with commit=300; a cut between two writes, so a torn block is not among them");
    Ok(table)
}

fn run(scratch: &Path, store: &str, cuts: u64) -> anyhow::Result<Vec<Cut>> {
    let mut outcomes = Vec::new();
    let mut moment = 0x2545_f491_4f6c_dd1d_u64;
    for number in 0..cuts {
        let device = Device::fresh(scratch, "power", IMAGE_BYTES, MOUNT)?;
        let mut worker =
            Worker::start("append", store, &device.place().join("store"), &[RECORD_BYTES])?;
        // A store whose first commit does not return has promised nothing.
        let first = worker.answer(PATIENCE).map_err(|failure| anyhow::anyhow!("{failure}"))?;
        moment ^= moment << 13;
        moment ^= moment >> 7;
        moment ^= moment << 17;
        std::thread::sleep(Duration::from_millis(100 + moment % 900));
        let pid = i32::try_from(worker.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            kill_process(pid, Signal::STOP)?;
        }
        device.idle()?;
        // What comes out of the pipe now was said before the stop.
        std::thread::sleep(Duration::from_millis(20));
        let said = worker.said();
        let last = said.last().unwrap_or(&first)["safe"].as_u64().unwrap_or(0);
        let image = scratch.join(format!("cut-{number}.img"));
        device.idle()?;
        std::fs::copy(device.image(), &image)?;
        drop(worker);
        drop(device);
        outcomes.push(look(scratch, store, image, last)?);
    }
    Ok(outcomes)
}

/// Starts the machine again.
fn look(
    scratch: &Path,
    store: &str,
    image: std::path::PathBuf,
    promised: u64,
) -> anyhow::Result<Cut> {
    let device = match Device::mount(image, scratch.join("after"), "") {
        Ok(device) => device,
        Err(error) => return Ok(Cut::Broken(error.to_string())),
    };
    let mut worker = Worker::start("verify", store, &device.place().join("store"), &[])?;
    Ok(match worker.answer(PATIENCE) {
        Err(failure) => Cut::Broken(failure.to_string()),
        Ok(said) => {
            let found = said["found"].as_u64().unwrap_or(0);
            if found >= promised { Cut::Survived } else { Cut::Lost { promised, found } }
        }
    })
}
