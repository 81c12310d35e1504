//! What to do next: ask, repeat, or form a message.
//!
//! # Invariants
//! - The oldest epoch with frames to deliver goes first, the current one last.
//! - A message of the current epoch that is not full waits for `send_every` from the first frame
//!   in it.
//! - The back-fill limit holds only messages behind which more waits than fits into one: what is
//!   recorded now is never held back while it fits into a message.

use std::time::Duration;

use tidegate_journal::Epoch;

use super::{Asked, GRACE, INFO_EVERY, Phase, Unresolved, Uplink};
use crate::HEADER_ALLOWANCE;
use crate::alarm::AlarmKind;
use crate::chain::{Chain, Run};
use crate::event::Action;
use crate::reconcile::Track;
use crate::settings::{Cursor, HubId, Suspicion};

/// How long a frame that is too large for the hub is left alone: only an operator changes that.
const SLOWLY: Duration = Duration::from_secs(20);
/// When nothing else is due. Every change of the journal or the link is an event of its own.
const IDLE: Duration = Duration::from_secs(60);

impl Uplink {
    /// Issues the next request, if one may be issued.
    pub(super) fn proceed(&mut self, chain: &dyn Chain) {
        self.note_waiting(chain);
        if let Some(until) = self.asked_until() {
            return self.wake_at(until.saturating_add(GRACE));
        }
        if self.max_payload.is_none() {
            return;
        }
        if self.now < self.not_before {
            return self.wake_at(self.not_before);
        }
        let info_wanted = self.unresolved.as_ref().is_some_and(|m| m.phase == Phase::ReadInfo);
        if self.info.is_none() || info_wanted || self.now >= self.info_due {
            return self.ask_info();
        }
        self.wake_at(self.info_due);
        match self.unresolved.as_ref().map(|message| (message.phase, message.epoch)) {
            Some((Phase::ReadHead { .. }, epoch)) => self.ask_head(epoch),
            Some(_) if self.test() => {}
            Some(_) => self.repeat(chain),
            None => self.form_next(chain),
        }
    }

    /// Notices the first frame that waits beyond the message under way.
    fn note_waiting(&mut self, chain: &dyn Chain) {
        let Some(epoch) = chain.epochs().last().copied() else { return };
        let under_way = self.unresolved.as_ref().filter(|message| message.epoch == epoch);
        let from = match under_way {
            Some(message) => message.run.last.frame.saturating_add(1),
            None => self.track(epoch).map_or(0, Track::next_frame),
        };
        if chain.tail(epoch).is_none_or(|tail| tail.frame < from) {
            self.waiting_since = None;
        } else if self.waiting_since.is_none() {
            self.waiting_since = Some(self.now);
        }
    }

    fn ask_info(&mut self) {
        let deadline = self.pace.question_deadline();
        self.counters.info_reads += 1;
        self.info_due = self.now.saturating_add(INFO_EVERY);
        self.asked = Asked::Info { since: self.now, until: self.now.saturating_add(deadline) };
        self.info_asked = Some(self.now);
        self.actions.push(Action::AskInfo { deadline, limits: self.limits_wanted });
        self.wake_at(self.now.saturating_add(deadline).saturating_add(GRACE));
    }

    fn ask_head(&mut self, epoch: Epoch) {
        let deadline = self.pace.question_deadline();
        self.counters.head_reads += 1;
        self.asked =
            Asked::Head { epoch, since: self.now, until: self.now.saturating_add(deadline) };
        self.actions.push(Action::AskHead { epoch, deadline });
        self.wake_at(self.now.saturating_add(deadline).saturating_add(GRACE));
    }

    /// The largest payload that the way to the hub takes, in bytes.
    pub(super) fn hub_limit(&self) -> usize {
        let payload = self.max_payload.unwrap_or(usize::MAX);
        let payload = payload.min(self.hub_payload.unwrap_or(usize::MAX));
        let message = self.info.as_ref().and_then(|info| info.max_msg_size).unwrap_or(usize::MAX);
        payload.min(message).saturating_sub(HEADER_ALLOWANCE)
    }

    pub(super) fn largest(&self) -> usize {
        let ceiling = self.ceiling.filter(|(_, until)| self.now < *until);
        let most = self.settings.max_message.min(self.hub_limit());
        ceiling.map_or(most, |(ceiling, _)| most.min(ceiling))
    }

    /// A second's worth at most, also of a rate that is only configured: a larger message would fill a
    /// thin link for longer than others can wait.
    pub(super) fn message_size(&self) -> usize {
        let second = self
            .settings
            .limit
            .map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        self.pace.size(self.largest().min(second))
    }

    /// Sends the unresolved message again.
    fn repeat(&mut self, chain: &dyn Chain) {
        let Some((run, cut)) = self.unresolved.as_ref().map(|message| (message.run, message.cut))
        else {
            return;
        };
        let bytes = run.bytes;
        let too_large = bytes > self.hub_limit();
        if (too_large || cut) && run.frames() > 1 && self.form_smaller(run.bytes, chain) {
            return;
        }
        if too_large {
            return self.blocked_by_size(bytes);
        }
        self.send();
    }

    /// Gives the unresolved message up for a smaller one, formed now under the same expectation:
    /// whichever of both arrives first is stored, and the other one is refused.
    fn form_smaller(&mut self, bytes: usize, chain: &dyn Chain) -> bool {
        let Some(epoch) = self.unresolved.as_ref().map(|message| message.epoch) else {
            return false;
        };
        let Some(track) = self.track(epoch).cloned() else { return false };
        let smaller = chain.run(epoch, track.next_frame(), self.message_size());
        if smaller.is_none_or(|run| run.bytes >= bytes) {
            return false;
        }
        self.counters.cut_smaller += 1;
        self.give_up();
        let Some(track) = self.track(epoch).cloned() else { return false };
        self.form(&track, chain, true)
    }

    /// Forgets the unresolved message but for what tells it at the hub.
    pub(super) fn give_up(&mut self) {
        let Some(old) = self.unresolved.take() else { return };
        if old.attempt > 0
            && let Some(track) = self.track_mut(old.epoch)
        {
            track.give_up(old.run.last, old.msg_id);
        }
    }

    fn form_next(&mut self, chain: &dyn Chain) {
        let epochs = chain.epochs();
        let current = epochs.last().copied();
        for epoch in epochs {
            let Some(track) = self.track(epoch).cloned() else { continue };
            if track.doubtful {
                return self.ask_head(epoch);
            }
            if self.form(&track, chain, Some(epoch) != current) {
                return;
            }
        }
    }

    /// Forms the next message of an epoch and sends it, or notes when it is due. `false` when the
    /// epoch has nothing to deliver.
    fn form(&mut self, track: &Track, chain: &dyn Chain, at_once: bool) -> bool {
        let size = self.message_size();
        let Some(run) = chain.run(track.epoch, track.next_frame(), size) else { return false };
        let more = chain.tail(track.epoch).is_some_and(|tail| tail.frame > run.last.frame);
        let is_full = more || run.bytes >= size;
        if !at_once && !is_full {
            let since = self.waiting_since.unwrap_or(self.now);
            let due = since.saturating_add(self.settings.send_every);
            if self.now < due {
                self.wake_at(due);
                return true;
            }
        }
        if run.bytes > self.hub_limit() {
            self.blocked_by_size(run.bytes);
            return true;
        }
        self.clear(AlarmKind::TooLarge);
        let mut free = self.limit.free_at(self.now);
        if more {
            free = free.max(self.bucket.free_at(self.now));
        }
        if free > self.now {
            self.wake_at(free);
            return true;
        }
        if more {
            self.bucket.take(run.bytes);
        }
        // What is sent because the hub lost something meets no id from before.
        self.salt += u64::from(track.footing.claim.is_some());
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiting_since = more.then_some(self.now);
        self.unresolved = Some(Unresolved {
            ticket,
            epoch: track.epoch,
            msg_id: self.message_id(track.epoch, &run),
            run,
            expected: track.footing.expected,
            attempt: 0,
            phase: Phase::Send,
            slow_since: Some(self.now),
            cut: false,
        });
        self.note_suspicion(track);
        self.send();
        true
    }

    /// Has the belief kept on which the message just formed rests.
    fn note_suspicion(&mut self, track: &Track) {
        let (Some(reason), Some(acked)) = (track.footing.claim, track.acked) else { return };
        let Some(message) = self.unresolved.as_ref() else { return };
        let former = track.given_up.iter().map(|old| (old.last, old.msg_id.clone()));
        let now = (message.run.last, message.msg_id.clone());
        let suspicion = Suspicion {
            reason,
            after: track.footing.after,
            expected_last_seq: track.footing.expected,
            sent: former.chain([now]).collect(),
        };
        let hub = HubId { created: acked.created, ..self.hub() };
        self.actions.push(Action::Suspect(Cursor {
            hub,
            epoch: track.epoch,
            up_to: acked.at,
            stream_seq: acked.stream_seq,
            suspicion: Some(suspicion),
        }));
    }

    /// The id names the frames for a person who looks at the hub. Its end makes it unlike any id
    /// of an earlier run or formed on another footing: the dedupe window outlives
    /// a deleted or purged message and would acknowledge what is no longer there (measured with
    /// nats-server 2.15.1).
    pub(super) fn message_id(&self, epoch: Epoch, run: &Run) -> String {
        let (first, last) = (run.first, run.last.frame);
        format!("{epoch}-{first}-{last}-{:x}-{}", self.settings.incarnation, self.salt)
    }

    fn blocked_by_size(&mut self, bytes: usize) {
        let limit = self.hub_limit();
        let leaf = self.max_payload.unwrap_or_default();
        let payload = leaf.min(self.hub_payload.unwrap_or(usize::MAX));
        let whose = match self.hub_payload {
            Some(hub) if hub < leaf => "of the hub",
            _ => "of the leaf",
        };
        let message = self.info.as_ref().and_then(|info| info.max_msg_size);
        let stream = self.settings.stream.clone();
        self.raise(AlarmKind::TooLarge, || {
            let setting = match message {
                Some(message) if message <= payload => {
                    format!("max_msg_size {message} of stream {stream}")
                }
                _ => format!("max_payload {payload} {whose}"),
            };
            let needed = bytes.saturating_add(HEADER_ALLOWANCE);
            format!(
                "a frame of {bytes} bytes does not fit the {limit} bytes that the hub takes; \
                 raise {setting} to at least {needed}. Recording goes on, and nothing is lost \
                 while the journal has room"
            )
        });
        self.not_before = self.now.saturating_add(SLOWLY);
        // The next thing that is done is a look at the limits.
        self.limits_wanted = true;
        self.info_due = self.not_before;
        self.wake_at(self.not_before);
    }

    /// When to come back, always later than now.
    pub(super) fn wake_time(&self) -> Duration {
        let idle = self.now.saturating_add(IDLE);
        let at = self.wake.unwrap_or(idle).min(idle);
        at.max(self.now.saturating_add(Duration::from_millis(1)))
    }
}
