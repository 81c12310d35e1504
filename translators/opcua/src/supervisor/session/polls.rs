//! The values of a device that is polled.

use super::*;

impl Session<'_> {
    /// Reads the groups whose slot it is.
    pub(super) fn poll(&mut self, now: Instant) {
        if self.core.spec.collect != Collect::Poll || !self.is_built {
            return;
        }
        for at in 0..self.core.ledger.slots.len() {
            let Some(due) = self.core.ledger.slots.get_mut(at).and_then(|slots| slots.take(now))
            else {
                continue;
            };
            let members = self.mirror.groups.get(at).map(|group| group.members.clone());
            let members = members.unwrap_or_default();
            if due.passed > 0 {
                let to = self.core.ledger.now();
                let from = self.core.ledger.last_heard().min(to);
                let count = Some(due.passed);
                self.core.ledger.missed(None, LossCause::PollOverrun, from, to, count);
            }
            let items = self.readable(&members);
            self.todo.push(Chore::Poll { group: at, items });
        }
    }

    pub(super) fn polled(
        &mut self,
        group: usize,
        places: Vec<usize>,
        result: Result<Vec<DataValue>, ServiceError>,
        now: Instant,
    ) {
        if let Some(slots) = self.core.ledger.slots.get_mut(group) {
            slots.done();
        }
        match result {
            Ok(values) => {
                let acquired = self.hears(now);
                self.needs_refresh = false;
                let values: Vec<_> = places.into_iter().zip(values).collect();
                self.values(values.into_iter(), acquired);
            }
            Err(error) => {
                if self.fails(&error) {
                    return;
                }
                let at = self.core.ledger.now();
                let count = u64::try_from(places.len()).ok();
                let cause =
                    if error.answered { LossCause::DeviceRefused } else { LossCause::DeviceSilent };
                self.core.ledger.missed(None, cause, at, at, count);
                self.core.voice.warns("a poll failed", &error.to_string());
            }
        }
    }
}
