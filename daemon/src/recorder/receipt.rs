//! What becomes of samples that somebody waits for.
//!
//! # Invariants
//! - A receipt is given once: recorded after `fdatasync`, or not, whatever happens on the way.

use tidegate_journal::Epoch;
use tidegate_translator::{LossCause, Sample};

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

/// A sample in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The epoch.
    pub epoch: Epoch,
    /// Its number there.
    pub seq: u64,
}

type Told = Box<dyn FnOnce(Result<Place, LossCause>) + Send>;

/// Whom to tell. It is called on the recorder's thread and must not wait.
pub struct Receipt(Option<Told>);

impl Receipt {
    /// Tells `told` the place of the last sample once all of them are durable, or why they are not.
    #[must_use]
    pub fn new(told: impl FnOnce(Result<Place, LossCause>) + Send + 'static) -> Self {
        Self(Some(Box::new(told)))
    }

    pub(super) fn give(mut self, outcome: Result<Place, LossCause>) {
        if let Some(told) = self.0.take() {
            told(outcome);
        }
    }

    /// Forgets whom to tell: they are told otherwise.
    pub(crate) fn discard(mut self) {
        self.0 = None;
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(told) = self.0.take() {
            told(Err(LossCause::NotRunning));
        }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receipt(..)")
    }
}

/// Samples that came together.
#[derive(Debug)]
pub struct Batch {
    pub(super) samples: Arc<[Sample]>,
    pub(super) awaited: Option<Awaited>,
}

/// Samples that stand in one frame, and of which somebody is told.
#[derive(Debug)]
pub(super) struct Awaited {
    pub(super) receipt: Receipt,
    /// How long the commit may take; `None` as long as it always may.
    pub(super) within: Option<Duration>,
}

impl Deref for Batch {
    type Target = [Sample];
    fn deref(&self) -> &[Sample] {
        &self.samples
    }
}
