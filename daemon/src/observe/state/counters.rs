//! The named counters: every overflow, drop and refusal in the daemon has one.
//!
//! # Invariants
//! - A counter only grows, from 0 at start.
//! - The names are part of the metrics' interface: `tidegate_<name>_total`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows. A clone counts into the same number.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds.
    pub fn add(&self, n: u64) {
        // Nothing is ordered by a counter.
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Adds a length.
    pub fn add_len(&self, n: usize) {
        self.add(u64::try_from(n).unwrap_or(u64::MAX));
    }

    /// Adds one.
    pub fn one(&self) {
        self.add(1);
    }

    /// The sum so far.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A counter as it stood when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CounterReading {
    /// Its name, in the form of the metrics without prefix and suffix.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// The sum so far.
    pub value: u64,
}

macro_rules! counters {
    ($($name:ident: $help:literal,)*) => {
        /// Every counter, by name.
        #[derive(Debug, Default)]
        pub struct Counters {
            $(#[doc = $help] pub $name: Counter,)*
        }

        impl Counters {
            /// Reads them all, in the order in which they are declared.
            #[must_use]
            pub fn read(&self) -> Vec<CounterReading> {
                vec![$(CounterReading {
                    name: stringify!($name),
                    help: $help,
                    value: self.$name.read(),
                },)*]
            }
        }
    };
}

counters! {
    samples_acquired: "Samples that translators handed over",
    samples_of_unknown_tags: "Samples of tags that are not configured; they are recorded nowhere",
    samples_recorded: "Samples made durable in the journal",
    recorder_overflow: "Samples that the recorder's queue could not take; each is in a loss record",
    live_published: "Values published on the live plane",
    live_suppressed: "Readings that differed too little to publish",
    live_overflow: "Readings dropped because the live queue was full, oldest first",
    live_late: "Readings dropped because they waited too long to still be live",
    live_disconnected: "Readings not published because the local server was not connected",
    live_refused: "Values that the client refused to publish",
    live_unknown_tags: "Readings of tags that the live plane does not know",
    uplink_messages: "Messages that the hub acknowledged",
    uplink_frames: "Frames that the hub acknowledged",
    uplink_bytes: "Bytes of frames that the hub acknowledged",
    uplink_timeouts: "Messages without an acknowledgement in time",
    uplink_refusals: "Messages that the hub refused",
    uplink_rewinds: "Times that delivery went back because the hub had lost data",
    uplink_foreign_messages: "Messages of somebody else found on this gateway's subject",
    frames_dropped: "Undelivered frames dropped to make room; each is in a loss record",
    samples_dropped: "Samples in dropped frames",
    frames_damaged: "Frames found damaged on disk; each is in a loss record",
    journal_errors: "Writes to the journal that failed",
    leaf_restarts: "Times that the managed nats-server was started again",
    driver_restarts: "Times that a driver was started again",
    alarms_overflow: "Alarms not shown because too many were raised",
    log_overflow: "Log lines that could not be written",
    control_refused: "Connections to the control socket refused because too many were open",
    control_errors: "Requests on the control socket that were answered with an error",
    questions_answered: "Questions answered, whole or in part",
    questions_declined: "Questions answered with an error, other than busy",
    questions_busy: "Questions turned away because too many were asked at once",
    questions_hostile: "Questions without an answer because their reply subject is no inbox",
    questions_overflow: "Questions dropped because more came than could be told busy",
    questions_rows: "Rows of answers to questions",
    http_refused: "HTTP connections refused because too many were open",
}

impl Counters {
    /// The sum of everything that did not fit into a queue.
    #[must_use]
    pub fn overflows(&self) -> u64 {
        self.read().iter().filter(|c| c.name.ends_with("_overflow")).map(|c| c.value).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_legal_in_metrics_and_every_help_says_something() {
        for c in Counters::default().read() {
            assert!(c.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", c.name);
            assert!(!c.name.ends_with("_total") && c.help.len() > 10, "{}", c.name);
        }
    }

    #[test]
    fn overflows_are_what_ends_in_overflow() {
        let counters = Counters::default();
        counters.live_overflow.add(2);
        counters.recorder_overflow.one();
        counters.live_suppressed.add(100);
        assert_eq!(counters.overflows(), 3);
    }
}
