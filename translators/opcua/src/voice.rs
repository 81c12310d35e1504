//! What a device says in the log and in its state: once per change, and never in a flood.

use std::sync::Arc;
use std::time::Duration;

use tidegate_translator::{DeviceState, Sink};
use tokio::time::Instant;
use tracing::{error, info, warn};

/// Lines that a device may write in a burst.
const BURST: u32 = 12;
/// Time after which one more line is allowed: a device that flaps for a day writes 2,880 lines.
const REFILL: Duration = Duration::from_secs(30);

/// The voice of one device.
pub(crate) struct Voice {
    device: Arc<str>,
    sink: Arc<dyn Sink>,
    state: (DeviceState, Option<String>),
    left: u32,
    since: Instant,
    swallowed: u64,
}

impl Voice {
    /// A voice that reports the first connection as being tried.
    pub(crate) fn new(device: Arc<str>, sink: Arc<dyn Sink>, now: Instant) -> Self {
        let state = (DeviceState::Connecting, None);
        sink.state(&device, state.0, None);
        Self { device, sink, state, left: BURST, since: now, swallowed: 0 }
    }

    /// Reports a state; it is logged when it is another one than before, or for another reason.
    pub(crate) fn state(&mut self, state: DeviceState, why: Option<String>) {
        if self.state == (state, why.clone()) {
            return;
        }
        let is_new = self.state.0 != state
            || (state == DeviceState::ConfigurationError && self.state.1 != why);
        self.state = (state, why);
        if is_new && self.may_speak() {
            let (device, left_out) = (&*self.device, self.left_out());
            let why = self.state.1.as_deref().unwrap_or_default();
            match state {
                DeviceState::Live => info!(device, left_out, "device is live"),
                DeviceState::Connecting => info!(device, left_out, why, "device is connecting"),
                DeviceState::Degraded => warn!(device, left_out, why, "device is degraded"),
                DeviceState::Down => warn!(device, left_out, why, "device is down"),
                DeviceState::ConfigurationError => {
                    error!(device, left_out, why, "device needs a person");
                }
            }
            self.swallowed = 0;
        }
        self.repeat();
    }

    /// Says the present state again: whoever listens knows then that it is still true.
    pub(crate) fn repeat(&self) {
        let (state, why) = &self.state;
        self.sink.state(&self.device, *state, why.clone());
    }

    /// Tells something that values may have been lost by.
    pub(crate) fn warns(&mut self, what: &str, why: &str) {
        if self.may_speak() {
            let (device, left_out) = (&*self.device, self.left_out());
            warn!(device, left_out, why, "{what}");
            self.swallowed = 0;
        }
    }

    /// Tells something that a person may want to know.
    pub(crate) fn notes(&mut self, what: &str, detail: &str) {
        if self.may_speak() {
            let (device, left_out) = (&*self.device, self.left_out());
            info!(device, left_out, detail, "{what}");
            self.swallowed = 0;
        }
    }

    /// How many lines were not written before this one, where there were any.
    fn left_out(&self) -> Option<u64> {
        (self.swallowed > 0).then_some(self.swallowed)
    }

    fn may_speak(&mut self) -> bool {
        let now = Instant::now();
        while self.left < BURST && now.saturating_duration_since(self.since) >= REFILL {
            self.left += 1;
            self.since += REFILL;
        }
        if self.left == BURST {
            self.since = now;
        }
        if self.left == 0 {
            self.swallowed += 1;
            return false;
        }
        self.left -= 1;
        true
    }
}
