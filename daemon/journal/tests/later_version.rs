//! What a later version wrote, in the hands of this one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{append, settings, stamp, try_append};
use tidegate_journal::{
    DirStorage, Journal, OpenError, ReadError, Recovery, Settings, WhenFull, WriteError, frame,
};

const LATER: u8 = 9;

fn open(dir: &Path) -> Result<(Journal, Recovery), OpenError> {
    let settings = Settings { when_full: WhenFull::DropOldest, ..settings() };
    Journal::open(Arc::new(DirStorage::new(dir).unwrap()), settings, stamp(1))
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let is_segment =
        |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("seg-");
    let mut paths: Vec<PathBuf> = paths.filter(is_segment).collect();
    paths.sort();
    paths
}

/// A closed journal of so many segments.
fn filled(count: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path()).unwrap();
    let mut tag = 0;
    while segments(dir.path()).len() < count {
        tag += 1;
        append(&mut journal, tag, 5000);
        journal.commit().unwrap();
    }
    journal.close().unwrap();
    dir
}

/// Makes the last frame in a segment one of a later version.
fn demand_newer(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.windows(4).rposition(|four| four == frame::MAGIC).unwrap();
    let length = frame::whole_length(&bytes[at..]).unwrap();
    let whole = &mut bytes[at..at + length];
    whole[8..10].fill(LATER);
    whole[12..16].fill(0);
    let sum = crc32c::crc32c(whole);
    whole[12..16].copy_from_slice(&sum.to_le_bytes());
    fs::write(path, bytes).unwrap();
}

fn content(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut content: Vec<_> = paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    content.sort();
    content
}

#[test]
fn a_newest_segment_with_frames_of_a_later_version_is_refused_and_nothing_is_changed() {
    let dir = filled(3);
    demand_newer(&segments(dir.path())[2]);
    let before = content(dir.path());
    let error = open(dir.path()).unwrap_err();
    assert!(matches!(&error, OpenError::NeedsNewer { needs: LATER, .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("version 9") && text.contains("install the newer release"), "{text}");
    assert!(before == content(dir.path()));
}

/// A later version may have sealed it, and have written only old frames since.
#[test]
fn an_older_segment_with_frames_of_a_later_version_is_never_dropped() {
    let dir = filled(3);
    let oldest = segments(dir.path()).remove(0);
    demand_newer(&oldest);
    let before = fs::read(&oldest).unwrap();
    let (mut journal, _) = open(dir.path()).unwrap();
    let refused = (1000..2000).find_map(|tag| {
        let appended = try_append(&mut journal, tag, 5000).map(|_| ());
        appended.and_then(|()| journal.commit().map(|_| ())).err()
    });
    let error = refused.unwrap();
    let newer = matches!(&error, WriteError::Read(ReadError::NeedsNewer { needs: LATER, .. }));
    assert!(newer, "{error}");
    assert!(before == fs::read(&oldest).unwrap());
    // Once it is delivered it may go like any other.
    let (epoch, start) = (journal.epoch(), journal.reader().epochs()[0].first_frame);
    assert_eq!(start, 0);
    let end = journal.reader().durable().unwrap().1;
    journal.acknowledge(epoch, end, b"").unwrap();
    append(&mut journal, 3000, 5000);
    journal.commit().unwrap();
}
