//! Sending, and what becomes of each transmission.
//!
//! # Invariants
//! - Only our stream in our domain, with a sequence beyond the expected one, acknowledges.
//! - An acknowledgement of any transmission of the unresolved message counts; a failure counts
//!   only for the last one.
//! - `duplicate` counts as stored only for a message that this run had sent before under that id.

use super::answers::{NO_JETSTREAM, NO_MAJORITY, SEVERAL};
use super::{Asked, Phase, Uplink};
use crate::alarm::AlarmKind;
use crate::chain::Chain;
use crate::event::{Action, Outcome, Publish};
use crate::memory::MessageEnd;
use crate::reconcile::wrong_last_sequence;

/// JetStream error codes, as nats-server 2.15.1 answers them (measured), or names them in its
/// source.
mod code {
    pub(super) const ACCOUNT_LIMIT: u32 = 10_002;
    pub(super) const INSUFFICIENT_RESOURCES: u32 = 10_023;
    pub(super) const MEMORY_EXCEEDED: u32 = 10_028;
    pub(super) const STORAGE_EXCEEDED: u32 = 10_047;
    pub(super) const MESSAGE_TOO_LARGE: u32 = 10_054;
    pub(super) const STREAM_NOT_FOUND: u32 = 10_059;
    pub(super) const STREAM_MISMATCH: u32 = 10_060;
    pub(super) const WRONG_LAST_SEQUENCE: u32 = 10_071;
    pub(super) const STORE_FAILED: u32 = 10_077;
    pub(super) const DUPLICATE_IN_PROCESS: u32 = 10_158;
    /// Without a number: another message of the subject is just being decided.
    pub(super) const WRONG_LAST_SEQUENCE_CONSTANT: u32 = 10_164;
}

/// After so many answers "nobody listens" in a row, INFO is asked: it tells a closed link from a
/// missing permission.
const NOBODY_TWICE_OVER: u32 = 3;

impl Uplink {
    /// Sends the unresolved message, for the first time or unchanged.
    pub(super) fn send(&mut self) {
        let Some(message) = self.unresolved.as_mut() else { return };
        message.attempt = message.attempt.saturating_add(1);
        message.phase = Phase::InFlight;
        let deadline = self.pace.deadline(message.run.bytes, message.attempt);
        self.limit.take(message.run.bytes);
        self.counters.published += 1;
        self.counters.repeats += u64::from(message.attempt > 1);
        if message.attempt == 1 {
            let end = MessageEnd { epoch: message.epoch, last: message.run.last };
            self.actions.push(Action::Sent(end));
        }
        self.actions.push(Action::Publish(Publish {
            ticket: message.ticket,
            attempt: message.attempt,
            epoch: message.epoch,
            first_frame: message.run.first,
            last_frame: message.run.last.frame,
            bytes: message.run.bytes,
            expected_last_seq: message.expected,
            msg_id: message.msg_id.clone(),
            deadline,
        }));
        let until = self.now.saturating_add(deadline);
        self.asked = Asked::Publish { since: self.now, until };
        self.wake_at(until.saturating_add(super::GRACE));
    }

    pub(super) fn on_reply(
        &mut self,
        ticket: u64,
        attempt: u32,
        outcome: Outcome,
        chain: &dyn Chain,
    ) {
        let Some(message) = self.unresolved.as_ref().filter(|m| m.ticket == ticket) else {
            return;
        };
        if let Outcome::Ack { stream, domain, seq, duplicate } = outcome {
            return self.on_ack(&stream, domain.as_deref(), seq, duplicate, chain);
        }
        if message.phase != Phase::InFlight || message.attempt != attempt {
            return;
        }
        self.asked = Asked::Nothing;
        match outcome {
            Outcome::Ack { .. } => {}
            Outcome::Refused { code, description } => self.on_refused(code, &description),
            Outcome::NoResponders => self.on_no_responders(),
            Outcome::TimedOut => self.on_timed_out(),
            Outcome::Unreadable { why } => self.on_unreadable(&why),
        }
    }

    fn on_ack(
        &mut self,
        stream: &str,
        domain: Option<&str>,
        seq: u64,
        duplicate: bool,
        chain: &dyn Chain,
    ) {
        let Some(message) = self.unresolved.as_mut() else { return };
        let ours = stream == self.settings.stream && domain == Some(&*self.settings.domain);
        if !ours || seq <= message.expected {
            self.counters.foreign_acks += 1;
            let wanted = format!("{} in domain {}", self.settings.stream, self.settings.domain);
            let got = format!("{stream} in domain {}", domain.unwrap_or("(none)"));
            self.raise(AlarmKind::WrongHub, || {
                format!(
                    "frames were acknowledged by stream {got} with sequence {seq}; only stream \
                     {wanted} counts. Remove what overlaps with tide.> on the way, or correct the \
                     hub's stream and domain in the configuration"
                )
            });
            // The answer of the right stream may still come until the deadline. What is asked
            // next is INFO: a refusal of another hub's stream must not be taken for ours.
            self.info = None;
            return;
        }
        if duplicate {
            self.counters.duplicate_acks += 1;
            if message.attempt < 2 {
                // Nobody had sent it under this id: what the hub remembers is something else.
                self.salt += 1;
                self.give_up();
                self.asked = Asked::Nothing;
                return self.wait_after_failure();
            }
        }
        let epoch = message.epoch;
        self.accepted(seq, chain);
        // The dedupe window outlives a deleted message. The next message of the epoch would tell;
        // a former epoch may have none.
        let is_former = chain.epochs().last() != Some(&epoch);
        if let Some(track) = self.track_mut(epoch) {
            track.doubtful |= duplicate && is_former;
        }
    }

    fn on_refused(&mut self, code: u32, description: &str) {
        self.counters.refused += 1;
        self.no_responders = 0;
        let Some(message) = self.unresolved.as_mut() else { return };
        message.phase = Phase::Send;
        match code {
            code::WRONG_LAST_SEQUENCE => {
                self.counters.wrong_last_sequence += 1;
                self.refusals = self.refusals.saturating_add(1);
                let n = wrong_last_sequence(description);
                match n.filter(|n| *n != message.expected) {
                    Some(0) => message.phase = Phase::ReadInfo,
                    Some(n) => message.phase = Phase::ReadHead { n, stale: 0 },
                    // The leader is just deciding another copy: ask again.
                    None => return self.not_decided_yet(),
                }
                // The first comparison goes at once; a hub that keeps changing its mind waits.
                if self.refusals > 1 {
                    self.wait_after_failure();
                }
                return;
            }
            code::DUPLICATE_IN_PROCESS | code::WRONG_LAST_SEQUENCE_CONSTANT => {
                return self.not_decided_yet();
            }
            NO_MAJORITY => self.raise_no_majority(),
            code::MESSAGE_TOO_LARGE => self.info_due = self.now,
            code::STORE_FAILED
            | code::STORAGE_EXCEEDED
            | code::MEMORY_EXCEEDED
            | code::ACCOUNT_LIMIT
            | code::INSUFFICIENT_RESOURCES => self.raise_full(code, description),
            code::STREAM_NOT_FOUND | code::STREAM_MISMATCH => self.raise_no_stream(),
            code if NO_JETSTREAM.contains(&code) => self.raise_no_jetstream(),
            _ => {
                let stream = self.settings.stream.clone();
                let description = shortened(description);
                self.raise(AlarmKind::HubRefuses, || {
                    format!(
                        "stream {stream} refuses frames: {description} (error {code}); delivery \
                         is retried. Look at the hub's log"
                    )
                });
            }
        }
        self.wait_after_failure();
    }

    /// A copy of the message is under way from the leader to the other replicas. That takes long
    /// only where most of them are away, and a leader may take long to notice.
    fn not_decided_yet(&mut self) {
        self.undecided = self.undecided.saturating_add(1);
        if self.undecided.saturating_add(self.unanswered) >= SEVERAL {
            self.raise_no_majority();
        }
        self.wait_after_failure();
    }

    pub(super) fn raise_no_majority(&mut self) {
        let stream = self.settings.stream.clone();
        self.raise(AlarmKind::Unanswered, || {
            format!(
                "stream {stream} is reached and decides nothing: see that most of the hub's \
                 servers that hold it run and reach each other. Recording goes on"
            )
        });
    }

    fn raise_full(&mut self, code: u32, description: &str) {
        let stream = self.settings.stream.clone();
        let description = shortened(description);
        self.raise(AlarmKind::StreamFull, || {
            format!(
                "stream {stream} takes no more: {description} (error {code}); raise its max_bytes \
                 or the account's storage, or let it discard old messages"
            )
        });
    }

    pub(super) fn raise_no_stream(&mut self) {
        let (stream, domain) = (self.settings.stream.clone(), self.settings.domain.clone());
        self.raise(AlarmKind::NoStream, || {
            format!(
                "the hub has no stream {stream} in domain {domain}; create it there, or correct \
                 the hub's stream in the configuration. Recording goes on"
            )
        });
    }

    fn on_no_responders(&mut self) {
        self.counters.no_responders += 1;
        self.was_away = true;
        self.no_responders = self.no_responders.saturating_add(1);
        if let Some(message) = self.unresolved.as_mut() {
            message.phase = Phase::Send;
            message.slow_since = None;
        }
        if self.no_responders == NOBODY_TWICE_OVER {
            self.info_due = self.now;
        }
        if self.no_responders > NOBODY_TWICE_OVER && self.info_failures == 0 {
            self.raise_no_permission("finds nobody who listens");
        }
        self.wait_after_failure();
    }

    pub(super) fn on_timed_out(&mut self) {
        self.counters.timeouts += 1;
        self.was_away = true;
        self.not_answered(false);
        self.wait_after_failure();
        // Next is a question: whether the hub is there, and what it takes.
        self.in_doubt = true;
        self.limits_wanted = true;
        self.info_due = self.not_before;
    }

    /// A transmission of the unresolved message will have no answer.
    pub(super) fn not_answered(&mut self, link_closed: bool) {
        if let Some(message) = self.unresolved.as_mut() {
            message.phase = Phase::Send;
            message.slow_since.take_if(|_| link_closed);
        }
        if self.pace.unanswered(link_closed) {
            self.counters.halved += 1;
            if self.unanswered > 0 {
                let until = self.now.saturating_add(super::SMALLER_FOR);
                self.ceiling = Some((self.message_size(), until));
            }
            // Formed anew when its turn comes.
            if let Some(message) = self.unresolved.as_mut() {
                message.cut = true;
            }
        }
    }

    fn on_unreadable(&mut self, why: &str) {
        self.counters.unreadable += 1;
        let Some(message) = self.unresolved.clone() else { return };
        self.give_up();
        let (first, last) = (message.run.first, message.run.last.frame);
        let why = shortened(why);
        self.raise(AlarmKind::JournalUnreadable, || {
            format!(
                "frames {first} to {last} of epoch {} cannot be read: {why}; they are tried again \
                 or stepped over as the journal decides",
                message.epoch
            )
        });
        self.wait_after_failure();
    }
}

/// What a server says goes into alarms, but not at any length.
pub(super) fn shortened(text: &str) -> String {
    text.chars().take(200).collect()
}
