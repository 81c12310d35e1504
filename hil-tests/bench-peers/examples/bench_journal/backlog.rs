//! Filling, opening after SIGKILL, draining.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tidegate_bench_peers::{STORES, frame_overhead};

use crate::figures::{Table, figure, float, progress};
use crate::worker::{Failure, Worker};

/// 5,000 tags once a second.
const FRAME_BYTES: u64 = 27_000;
const FRAMES_PER_COMMIT: u64 = 16;

pub(crate) fn table(scratch: &Path, wanted_gib: u64) -> anyhow::Result<Table> {
    let free = rustix::fs::statvfs(scratch)?;
    let free = (free.f_bavail * free.f_frsize) >> 30;
    // Others need room too, and two of the stores take more than they are given.
    let gib = wanted_gib.min(free / 3).max(1);
    let title = format!("A backlog of {gib} GiB in frames of {FRAME_BYTES} B");
    let columns = [
        "store",
        "fill MB/s",
        "fill RSS MiB",
        "open ms",
        "open RSS MiB",
        "drain MB/s",
        "drain RSS MiB",
        "disk full MiB",
        "disk empty MiB",
    ];
    let mut table = Table::new(title, &columns);
    if gib < wanted_gib {
        table.note(format!("{wanted_gib} GiB were wanted; {free} GiB are free"));
    }
    for store in STORES {
        let place = scratch.join("backlog");
        crate::remove(&place)?;
        let mut cells = vec![store.to_owned()];
        if let Err(failure) = row(&mut cells, store, &place, gib << 30)? {
            table.note(format!("{store}: {failure}"));
        }
        cells.resize(columns.len(), "-".to_owned());
        table.row(cells);
        crate::remove(&place)?;
    }
    table.note(format!(
        "opened after SIGKILL, files out of the page cache; RSS is the highest; commits of {FRAMES_PER_COMMIT} frames"
    ));
    table.note("drained in messages of 256 KiB, what 64 of them held dropped durably together");
    table.note("tidegate keeps delivered frames until the room is needed, to heal a hub that lost them: by design its disk use stays");
    Ok(table)
}

fn row(
    cells: &mut Vec<String>,
    store: &str,
    place: &Path,
    bytes: u64,
) -> anyhow::Result<Result<(), Failure>> {
    // Three times what a store that works needs on a disk that works; one that hangs must not take
    // the afternoon.
    let at_rate = |bytes_per_s: u64| Duration::from_secs((bytes / bytes_per_s).max(30));
    let (patience, patience_to_open, patience_to_drain) =
        (at_rate(40_000_000), Duration::from_secs(60), at_rate(80_000_000));
    let body = if store == "tidegate" { u64::try_from(frame_overhead()?)? } else { 0 };
    let numbers = [bytes, FRAME_BYTES - body, FRAMES_PER_COMMIT];

    progress(&format!("{store}: fill, at most {} s", patience.as_secs()));
    let mut worker = Worker::start("fill", store, place, &numbers)?;
    let filled = match worker.answer(patience) {
        Ok(filled) => filled,
        Err(failure) => return Ok(Err(failure)),
    };
    cells.extend([rate(&filled), worker.memory().1.to_string()]);
    drop(worker);
    let full = blocks(place)?;

    progress(&format!("{store}: open, at most {} s", patience_to_open.as_secs()));
    let mut worker = Worker::start("open", store, place, &[])?;
    let opened = match worker.answer(patience_to_open) {
        Ok(opened) => opened,
        Err(failure) => return Ok(Err(failure)),
    };
    let ms = opened["seconds"].as_f64().unwrap_or(0.0) * 1e3;
    cells.extend([figure(ms), worker.memory().1.to_string()]);
    drop(worker);

    progress(&format!("{store}: drain, at most {} s", patience_to_drain.as_secs()));
    let mut worker = Worker::start("drain", store, place, &[])?;
    let drained = match worker.answer(patience_to_drain) {
        Ok(drained) => drained,
        Err(failure) => return Ok(Err(failure)),
    };
    cells.extend([rate(&drained), worker.memory().1.to_string()]);
    drop(worker);
    cells.extend([full.to_string(), blocks(place)?.to_string()]);
    Ok(Ok(()))
}

fn rate(said: &Value) -> String {
    let bytes = float(said["bytes"].as_u64().unwrap_or(0));
    figure(bytes / said["seconds"].as_f64().unwrap_or(1.0) / 1e6)
}

/// MiB that a directory takes on the disk.
fn blocks(place: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(place)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() {
            blocks(&entry.path())? << 20
        } else {
            std::os::unix::fs::MetadataExt::blocks(&entry.metadata()?) * 512
        };
    }
    Ok(bytes >> 20)
}
