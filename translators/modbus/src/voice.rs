//! What a device says in the log and in its state: once per change, and never in a flood.
//!
//! A device whose tags are polled in several groups has one voice, and its state is made of theirs:
//! live when all are, down when all are or when the device itself is gone, degraded otherwise.

use std::sync::Arc;
use std::time::Duration;

use tidegate_translator::{DeviceState, Restraint, Sink};
use tokio::time::Instant;
use tracing::{info, warn};

/// The voice of one device.
pub(crate) struct Voice {
    device: Arc<str>,
    sink: Arc<dyn Sink>,
    /// What each group said last.
    groups: Vec<Option<(DeviceState, Option<String>)>>,
    /// Whether the group that spoke last found the device itself gone.
    gone: bool,
    state: (DeviceState, Option<String>),
    restraint: Restraint<Instant>,
    faults: u64,
}

impl Voice {
    /// A voice of so many groups that reports the first connection as being tried.
    pub(crate) fn new(device: Arc<str>, sink: Arc<dyn Sink>, groups: usize, now: Instant) -> Self {
        let state = (DeviceState::Connecting, None);
        sink.state(&device, state.0, None);
        let groups = vec![None; groups];
        Self { device, sink, groups, gone: false, state, restraint: Restraint::new(now), faults: 0 }
    }

    /// A group reads all of its tags, or all but some.
    pub(crate) fn reads(&mut self, group: usize, but: Option<String>) {
        self.gone = false;
        let state = if but.is_none() { DeviceState::Live } else { DeviceState::Degraded };
        self.said(group, state, but);
    }

    /// A group reads nothing; `gone` when no other group can either.
    pub(crate) fn lost(&mut self, group: usize, gone: bool, why: String) {
        self.gone = gone;
        self.said(group, DeviceState::Down, Some(why));
    }

    fn said(&mut self, group: usize, state: DeviceState, why: Option<String>) {
        if let Some(said) = self.groups.get_mut(group) {
            *said = Some((state, why));
        }
        let said = || self.groups.iter().flatten();
        let all = |state| said().all(|(of_group, _)| *of_group == state);
        let overall = if all(DeviceState::Live) {
            DeviceState::Live
        } else if self.gone || all(DeviceState::Down) {
            DeviceState::Down
        } else {
            DeviceState::Degraded
        };
        let is_worst = |state| match overall {
            DeviceState::Down => state == DeviceState::Down,
            _ => state != DeviceState::Live,
        };
        let why = said().find(|(state, _)| is_worst(*state)).and_then(|(_, why)| why.clone());
        self.state(overall, why);
    }

    /// Reports a state when it or its reason is another one than before.
    fn state(&mut self, state: DeviceState, why: Option<String>) {
        if self.state == (state, why.clone()) {
            return;
        }
        if self.state.0 != state && self.may_speak() {
            let (device, left_out) = (&*self.device, self.restraint.take_left_out());
            let why = why.as_deref().unwrap_or("every block was answered");
            match state {
                DeviceState::Live => info!(device, left_out, why, "device is live"),
                DeviceState::Degraded => warn!(device, left_out, why, "device is degraded"),
                DeviceState::Down | DeviceState::ConfigurationError => {
                    warn!(device, left_out, why, "device is down");
                }
                DeviceState::Connecting => info!(device, left_out, why, "device is connecting"),
            }
        }
        self.sink.state(&self.device, state, why.clone());
        self.state = (state, why);
    }

    /// The number of one more fault of the device.
    pub(crate) const fn next_fault(&mut self) -> u64 {
        self.faults += 1;
        self.faults - 1
    }

    /// Tells that tags are not read any more, naming the first of them.
    pub(crate) fn tags_lost(&mut self, first: &str, tags: usize, why: &str) {
        if self.may_speak() {
            let (device, left_out) = (&*self.device, self.restraint.take_left_out());
            warn!(device, tag = first, tags, left_out, why, "tags cannot be read");
        }
    }

    /// Tells that tags are read again, naming the first of them.
    pub(crate) fn tags_back(&mut self, first: &str, tags: usize) {
        if self.may_speak() {
            let (device, left_out) = (&*self.device, self.restraint.take_left_out());
            info!(device, tag = first, tags, left_out, "tags are read again");
        }
    }

    /// Tells that slots pass because polls take too long.
    pub(crate) fn overrun(&mut self, period: Duration) {
        if self.may_speak() {
            let (device, left_out) = (&*self.device, self.restraint.take_left_out());
            warn!(device, left_out, ?period, "polls take longer than their interval");
        }
    }

    fn may_speak(&mut self) -> bool {
        self.restraint.lets_through(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tidegate_translator::{Missed, Sample};

    use super::*;

    #[derive(Default)]
    struct States(Mutex<Vec<DeviceState>>);

    impl Sink for States {
        fn samples(&self, _batch: Vec<Sample>) {}
        fn missed(&self, _missed: Missed) {}
        fn state(&self, _device: &Arc<str>, state: DeviceState, _why: Option<String>) {
            self.0.lock().unwrap().push(state);
        }
    }

    #[test]
    fn a_devices_state_is_made_of_its_groups_states_and_told_once() {
        use DeviceState::{Connecting, Degraded, Down, Live};
        let sink = Arc::new(States::default());
        let mut voice = Voice::new("press-1".into(), Arc::clone(&sink) as _, 2, Instant::now());
        voice.reads(0, None);
        voice.reads(1, None);
        voice.reads(1, Some("1 of 3 tags not read".into()));
        voice.reads(0, None);
        voice.reads(1, None);
        // One group cannot read anything, the other can.
        voice.lost(1, false, "unit 7 silent for 1s".into());
        voice.reads(0, None);
        // The device is gone, then both know.
        voice.lost(0, true, "unit 7 silent for 1s".into());
        voice.lost(1, true, "unit 7 silent for 1s".into());
        voice.reads(0, None);
        voice.reads(1, None);
        let told = sink.0.lock().unwrap();
        assert_eq!(*told, [Connecting, Live, Degraded, Live, Degraded, Down, Degraded, Live]);
    }
}
