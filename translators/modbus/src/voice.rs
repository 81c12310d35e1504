//! What a device says in the log and in its state: once per change, and never in a flood.

use std::sync::Arc;
use std::time::Duration;

use tidegate_translator::{DeviceState, Sink};
use tokio::time::Instant;
use tracing::{info, warn};

/// Lines that a device may write in a burst: a block that is taken apart tells of its bad tags.
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

    /// Reports a state when it or its reason is another one than before.
    pub(crate) fn state(&mut self, state: DeviceState, why: Option<String>) {
        if self.state == (state, why.clone()) {
            return;
        }
        if self.state.0 != state && self.may_speak() {
            let (device, left_out) = (&*self.device, self.left_out());
            let why = why.as_deref().unwrap_or("every block was answered");
            match state {
                DeviceState::Live => info!(device, left_out, why, "device is live"),
                DeviceState::Degraded => warn!(device, left_out, why, "device is degraded"),
                DeviceState::Down => warn!(device, left_out, why, "device is down"),
                DeviceState::Connecting => info!(device, left_out, why, "device is connecting"),
            }
            self.swallowed = 0;
        }
        self.sink.state(&self.device, state, why.clone());
        self.state = (state, why);
    }

    /// Tells that tags are not read any more, naming the first of them.
    pub(crate) fn tags_lost(&mut self, first: &str, tags: usize, why: &str) {
        if self.may_speak() {
            let (device, left_out) = (&*self.device, self.left_out());
            warn!(device, tag = first, tags, left_out, why, "tags cannot be read");
            self.swallowed = 0;
        }
    }

    /// Tells that tags are read again, naming the first of them.
    pub(crate) fn tags_back(&mut self, first: &str, tags: usize) {
        if self.may_speak() {
            let (device, left_out) = (&*self.device, self.left_out());
            info!(device, tag = first, tags, left_out, "tags are read again");
            self.swallowed = 0;
        }
    }

    /// Tells that slots pass because polls take too long.
    pub(crate) fn overrun(&mut self, period: Duration) {
        if self.may_speak() {
            let (device, left_out) = (&*self.device, self.left_out());
            warn!(device, left_out, ?period, "polls take longer than their interval");
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
