//! What a device says in the log and in its state: once per change, and never in a flood.

use std::sync::Arc;

use tidegate_translator::{DeviceState, Restraint, Sink};
use tokio::time::Instant;
use tracing::{error, info, warn};

/// The voice of one device.
pub(crate) struct Voice {
    device: Arc<str>,
    sink: Arc<dyn Sink>,
    state: (DeviceState, Option<String>),
    restraint: Restraint<Instant>,
}

impl Voice {
    /// A voice that reports the first connection as being tried.
    pub(crate) fn new(device: Arc<str>, sink: Arc<dyn Sink>, now: Instant) -> Self {
        let state = (DeviceState::Connecting, None);
        sink.state(&device, state.0, None);
        Self { device, sink, state, restraint: Restraint::new(now) }
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
            let (device, left_out) = (&*self.device, self.restraint.take_left_out());
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
            let (device, left_out) = (&*self.device, self.restraint.take_left_out());
            warn!(device, left_out, why, "{what}");
        }
    }

    /// Tells something that a person may want to know.
    pub(crate) fn notes(&mut self, what: &str, detail: &str) {
        if self.may_speak() {
            let (device, left_out) = (&*self.device, self.restraint.take_left_out());
            info!(device, left_out, detail, "{what}");
        }
    }

    fn may_speak(&mut self) -> bool {
        self.restraint.lets_through(Instant::now())
    }
}
