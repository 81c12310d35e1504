//! What is told of a fault: the bytes around it.
//!
//! # Invariants
//! - A fault is told at once, and once more after each of the next [`AFTER`] exchanges, under the
//!   same number.

use std::sync::Arc;

use tidegate_translator::{Exchange, FaultReport, Sink};

/// Exchanges told after the one that failed: they show whether the device came back, and how.
const AFTER: usize = 2;

/// The fault told last, while exchanges are still to follow.
#[derive(Default)]
pub(crate) struct Fault {
    report: Option<FaultReport>,
    left: usize,
}

impl Fault {
    /// Tells a fault with what the unit was asked until now.
    pub(crate) fn tell(&mut self, report: FaultReport, device: &Arc<str>, sink: &dyn Sink) {
        sink.fault(device, report.clone());
        (self.report, self.left) = (Some(report), AFTER);
    }

    /// Whether more exchanges belong to it.
    pub(crate) const fn goes_on(&self) -> bool {
        self.left > 0
    }

    /// One more exchange is over; `exchanges` are the unit's last ones.
    pub(crate) fn goes_on_with(
        &mut self,
        exchanges: Vec<Exchange>,
        device: &Arc<str>,
        sink: &dyn Sink,
    ) {
        let Some(report) = &mut self.report else { return };
        let told = report.exchanges.last();
        let known = exchanges.iter().rposition(|exchange| Some(exchange) == told);
        // Where other units were asked so much that the fault itself is forgotten, the last one
        // is the one that is new.
        let new = known.map_or(exchanges.len().saturating_sub(1), |at| at + 1);
        for exchange in exchanges.into_iter().skip(new).take(self.left) {
            report.exchanges.push(exchange);
            self.left -= 1;
        }
        sink.fault(device, report.clone());
        if self.left == 0 {
            self.report = None;
        }
    }
}
