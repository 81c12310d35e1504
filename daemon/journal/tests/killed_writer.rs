//! A writer that is killed. In a binary of its own: between fork and exec a child holds a copy of
//! every lock of its parent, which tests beside it would meet.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use common::{append, frames_of, settings, stamp};
use tidegate_journal::{DirStorage, Journal, Recovery, Settings};

/// Set for the child that writes until it is killed.
const WRITER: &str = "TIDEGATE_JOURNAL_TEST_WRITER";

/// With so much room that no bridge moves the numbers.
fn open_roomy(dir: &Path) -> (Journal, Recovery) {
    let settings = Settings { max_bytes: 1 << 30, ..settings() };
    Journal::open(Arc::new(DirStorage::new(dir).unwrap()), settings, stamp(1)).unwrap()
}

/// Not a test of its own: what the child of the test below runs.
#[test]
fn the_writer_that_is_killed() {
    let Ok(dir) = std::env::var(WRITER) else { return };
    let (mut journal, _) = open_roomy(Path::new(&dir));
    let mut out = std::io::stdout().lock();
    for tag in journal.upcoming().number.. {
        append(&mut journal, tag, usize::try_from(tag * 7919 % 5000).unwrap());
        if tag.is_multiple_of(3) {
            let position = journal.commit().unwrap();
            writeln!(out, "durable {} {}", position.frame, position.hash).unwrap();
            out.flush().unwrap();
        }
    }
}

#[test]
fn a_writer_killed_at_any_moment_leaves_everything_it_promised() {
    let dir = tempfile::tempdir().unwrap();
    let mut promised: Option<(u64, String)> = None;
    for round in 0..6_u32 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["the_writer_that_is_killed", "--exact", "--nocapture", "--test-threads=1"])
            .env(WRITER, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        for line in lines {
            let line = line.unwrap();
            let Some(rest) = line.split("durable ").nth(1) else { continue };
            let (frame, hash) = rest.split_once(' ').unwrap();
            promised = Some((frame.parse().unwrap(), hash.to_owned()));
            seen += 1;
            if seen == 3 + 17 * round {
                child.kill().unwrap();
            }
        }
        assert!(!child.wait().unwrap().success());
        let (frame, hash) = promised.clone().unwrap();
        let (mut journal, recovery) = open_roomy(dir.path());
        assert!(recovery.damaged.is_empty(), "{recovery:?}");
        let position = journal.reader().position_of(journal.epoch(), frame).unwrap().unwrap();
        assert_eq!(position.hash.to_string(), hash);
        // The writer's rule is that tag and number are the same.
        assert!(
            frames_of(&journal.reader(), journal.epoch(), 1)
                .iter()
                .all(|it| { it.tag().is_none_or(|tag| tag == it.header.number) })
        );
        journal.commit().unwrap();
    }
}
