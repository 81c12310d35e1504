//! Keeps the digests of the journal's segments, so that questions need not read them.
//!
//! # Invariants
//! - It runs when nobody else wants to, on a thread that the recorder knows nothing of.
//! - Whatever fails costs a digest: questions are answered by reading the segment.
//! - It ends with the service that it was begun for.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

use tidegate_query::sidecar::{Progress, Sidecars};

use super::lowly;
use crate::causes::chain;

/// What became durable is taken in so often: little enough that a question waits for nothing, seldom
/// enough that an idle gateway sleeps.
const EVERY: Duration = Duration::from_secs(5);
/// Between two segments of a journal that has none yet.
const PAUSE: Duration = Duration::from_millis(100);
/// After a record that could not be read.
const AFTER_FAILURE: Duration = Duration::from_secs(60);

/// The thread ends when this is dropped.
#[derive(Debug)]
pub(super) struct Keeping {
    _ends: SyncSender<()>,
}

/// Begins to keep them.
///
/// # Errors
/// When the system has no room for a thread.
pub(super) fn keep(sidecars: Arc<Sidecars>) -> std::io::Result<Keeping> {
    let (ends, end) = sync_channel(1);
    lowly::spawn("digests", lowly::LAST, move || work(&sidecars, &end))?;
    Ok(Keeping { _ends: ends })
}

fn work(sidecars: &Sidecars, end: &Receiver<()>) {
    let mut pause = EVERY;
    while end.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
        let mut goes_on = || end.try_recv() != Err(TryRecvError::Disconnected);
        pause = match sidecars.advance(&mut goes_on) {
            Ok(Progress::More) => PAUSE,
            Ok(Progress::Done) => EVERY,
            Err(error) => {
                tracing::debug!("no digest of the record: {}", chain(&error));
                AFTER_FAILURE
            }
        };
    }
}
