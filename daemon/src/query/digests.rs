//! Keeps the digests of the journal's segments, so that questions need not read them.
//!
//! # Invariants
//! - It runs when nobody else wants to, on a thread that the recorder knows nothing of.
//! - Whatever fails costs a digest: questions are answered by reading the segment.
//! - It ends with the service that it was begun for.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

use tidegate_query::sidecar::Progress;
use tidegate_query::{Archive, PartialCause, Watch};

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
pub(super) fn keep(archive: Arc<Archive>) -> std::io::Result<Keeping> {
    let (ends, end) = sync_channel(1);
    lowly::spawn("digests", lowly::LAST, move || work(&archive, &End(end)))?;
    Ok(Keeping { _ends: ends })
}

fn work(archive: &Archive, end: &End) {
    let (mut pause, sidecars) = (EVERY, archive.sidecars());
    while end.0.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
        pause = match sidecars.advance(&mut || !end.is_here()) {
            Ok(Progress::More) => PAUSE,
            Ok(Progress::Done) => {
                // What it cannot read now, the next question reads, or says why not.
                if let Err(refusal) = archive.keep_up(end) {
                    tracing::debug!("losses and names were not read ahead: {refusal}");
                }
                EVERY
            }
            Err(error) => {
                tracing::debug!("no digest of the record: {}", chain(&error));
                AFTER_FAILURE
            }
        };
    }
}

/// The end of the service.
struct End(Receiver<()>);

impl End {
    fn is_here(&self) -> bool {
        self.0.try_recv() == Err(TryRecvError::Disconnected)
    }
}

impl Watch for End {
    /// Nothing that is read ahead depends on the present.
    fn now(&self) -> i64 {
        i64::MAX
    }

    fn ended(&self) -> Option<PartialCause> {
        self.is_here().then_some(PartialCause::Cancelled)
    }
}
