//! Commits a second, and bytes at the device for each byte committed.

use std::path::Path;
use std::time::Duration;

use tidegate_bench_peers::{STORES, frame_overhead};

use crate::device::Device;
use crate::figures::{Table, figure, float, progress, ratio};
use crate::worker::Worker;

/// Payloads of a commit. The least is what a gateway with hardly anything to say commits.
const SIZES: [u64; 5] = [60, 550, 2_000, 5_500, 27_000];
/// Large enough for what four seconds of the fastest store write.
const IMAGE_BYTES: u64 = 3 << 30;
const PATIENCE: Duration = Duration::from_secs(60);

struct Measured {
    commits: f64,
    seconds: f64,
    device: f64,
}

pub(crate) fn table(scratch: &Path, root: bool, seconds: u64) -> anyhow::Result<Table> {
    let title = "Commits of one frame each, made durable one by one";
    let mut table = Table::new(
        title,
        &["store", "frame B", "commits/s", "MB/s", "device B ÷ frame B", "rate ÷ tidegate"],
    );
    let overhead = u64::try_from(frame_overhead()?)?;
    for size in SIZES {
        // Nothing smaller than its envelope can be a frame.
        let frame = if size < 2 * overhead { size + overhead } else { size };
        let mut own_rate = None;
        for (name, store, recycled) in rows() {
            progress(&format!("{name}: commits of {frame} bytes for {seconds} s"));
            let length = if store == "tidegate" { frame - overhead } else { frame };
            let cells = match measure(scratch, root, store, recycled, length, seconds) {
                Ok(measured) => {
                    let rate = measured.commits / measured.seconds;
                    let own = *own_rate.get_or_insert(rate);
                    let bytes = measured.commits * float(frame);
                    let megabytes = bytes / measured.seconds / 1e6;
                    let device = ratio(measured.device, bytes);
                    [figure(rate), figure(megabytes), device, ratio(rate, own)]
                }
                Err(error) => [error.to_string(), "-".into(), "-".into(), "-".into()],
            };
            table.row([name.to_owned(), frame.to_string()].into_iter().chain(cells));
        }
    }
    table.note(if root {
        "bytes counted at a loop device with ext4, after syncfs; each store on a fresh file system"
    } else {
        "not root: bytes as /proc/self/io counts them, without the file system's own journal"
    });
    table.note("'recycled' is the journal at its size limit, writing over delivered segments: its steady state");
    table.note(format!(
        "a frame has {overhead} bytes of envelope and header; the others store the same bytes as one value"
    ));
    table.note(
        "sled with an fdatasync after its flush, redb with quick repair, SQLite with WAL and FULL",
    );
    Ok(table)
}

fn rows() -> impl Iterator<Item = (&'static str, &'static str, bool)> {
    let own = [("tidegate", "tidegate", false), ("tidegate recycled", "tidegate", true)];
    let others = STORES.iter().filter(|store| **store != "tidegate");
    own.into_iter().chain(others.map(|store| (*store, *store, false)))
}

fn measure(
    scratch: &Path,
    root: bool,
    store: &str,
    recycled: bool,
    length: u64,
    seconds: u64,
) -> anyhow::Result<Measured> {
    let device = root.then(|| Device::fresh(scratch, "rates", IMAGE_BYTES, "")).transpose()?;
    let place = device.as_ref().map_or(scratch, Device::place).join("store");
    crate::remove(&place)?;
    let (max_bytes, before) = if recycled { (32 << 20, 64 << 20) } else { (2 << 30, 0) };
    let numbers = [max_bytes, length, before, seconds * 1000];
    let mut worker = Worker::start("write", store, &place, &numbers)?;
    let failed = |failure: crate::worker::Failure| anyhow::anyhow!("{failure}");
    worker.answer(PATIENCE).map_err(failed)?;
    let at_first = device.as_ref().map_or(Ok(0), Device::written)?;
    worker.go_on()?;
    let said = worker.answer(PATIENCE).map_err(failed)?;
    let written = match &device {
        Some(device) => device.written()? - at_first,
        None => said["written"].as_u64().unwrap_or(0),
    };
    drop(worker);
    crate::remove(&place)?;
    Ok(Measured {
        commits: said["commits"].as_f64().unwrap_or(0.0),
        seconds: said["seconds"].as_f64().unwrap_or(1.0),
        device: float(written),
    })
}
