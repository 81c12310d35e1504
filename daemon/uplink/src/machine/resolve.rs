//! What became of the unresolved message, and what the machine does about it.
//!
//! # Invariants
//! - A claim that the hub lost something is put on record only in [`Uplink::accepted`] (the leader
//!   took a publish with the lower expectation) or when the leader names that very publish as the
//!   subject's last.
//! - Going back gives every later message another id.

use std::time::Duration;

use tidegate_journal::{Epoch, Position};

use super::{Asked, Phase, Uplink};
use crate::alarm::AlarmKind;
use crate::chain::{Amount, Chain};
use crate::event::{Action, HeadAnswer, HeadContent, RequestFailure, RewindReason};
use crate::reconcile::{Acked, Emptiness, Footing, Sent, Verdict, judge, judge_empty};
use crate::settings::Cursor;

/// After so many reads that lag behind the leader, the leader itself is asked again.
const STALE_READS: u32 = 4;
/// So many failed reads in a row are reported.
const SEVERAL: u32 = 3;

impl Uplink {
    /// The leader stored the unresolved message under this sequence.
    pub(super) fn accepted(&mut self, seq: u64, chain: &dyn Chain) {
        let Some(message) = self.unresolved.take() else { return };
        let took = self.since_asked().filter(|_| message.attempt == 1);
        if let (Some(since), None) = (message.slow_since, took) {
            let (waited, repeats) =
                (self.now.saturating_sub(since), message.attempt.saturating_sub(1));
            self.pace.late(message.run.bytes, waited, repeats);
        }
        self.pace.acknowledged(message.run.bytes, took, self.largest());
        self.asked = Asked::Nothing;
        let run = message.run;
        self.confirm_claim(message.epoch, run.first, run.last, chain);
        self.delivered(message.epoch, run.last, seq);
        if self.was_away {
            self.doubt_former_epochs(chain);
        }
        self.counters.delivered += Amount {
            frames: run.frames(),
            samples: run.samples,
            bytes: u64::try_from(run.bytes).unwrap_or(u64::MAX),
        };
    }

    /// Moves the cursor; whatever held delivery up is over.
    fn delivered(&mut self, epoch: Epoch, up_to: Position, seq: u64) {
        let (created, hub) = (self.created(), self.hub());
        let Some(track) = self.track_mut(epoch) else { return };
        track.acked = Some(Acked { at: up_to, stream_seq: seq, created });
        track.stand_on_acked();
        track.confirmed = true;
        track.given_up.clear();
        track.doubtful = false;
        self.counters.delivered_messages += 1;
        self.last_ack = Some(self.now);
        self.backoff.reset();
        self.not_before = self.now;
        self.no_responders = 0;
        self.refusals = 0;
        self.head_failures = 0;
        self.unanswered = 0;
        self.undecided = 0;
        self.test_wanted = false;
        self.tests_failed = 0;
        self.in_doubt = false;
        self.actions.push(Action::Delivered(Cursor {
            hub,
            epoch,
            up_to,
            stream_seq: seq,
            suspicion: None,
        }));
        for kind in [
            AlarmKind::NoStream,
            AlarmKind::WrongHub,
            AlarmKind::NoPermission,
            AlarmKind::StreamFull,
            AlarmKind::TooLarge,
            AlarmKind::Unanswered,
            AlarmKind::NoJetStream,
            AlarmKind::HubRefuses,
            AlarmKind::HubSilent,
            AlarmKind::HeadUnreadable,
            AlarmKind::NewerVersion,
            AlarmKind::JournalUnreadable,
        ] {
            self.clear(kind);
        }
    }

    /// Frames `first..=up_to` were stored on the belief that the hub had lost something: now that
    /// is certain, and goes on record.
    fn confirm_claim(&mut self, epoch: Epoch, first: u64, up_to: Position, chain: &dyn Chain) {
        let Some(track) = self.track(epoch) else { return };
        let (footing, acked) = (track.footing, track.acked);
        let (Some(reason), Some(acked)) = (footing.claim, acked) else { return };
        self.counters.rewinds += 1;
        self.salt += 1;
        self.drain.restart();
        self.actions.push(Action::Rewind { epoch, to_frame: first, reason });
        // What lies before the message and is no longer kept …
        let before = footing.after.map_or(0, |after| after.frame.saturating_add(1));
        self.lost_at_hub(epoch, footing.after, before, first, acked.at.frame);
        // … and what the journal dropped as delivered while the message was under way.
        let behind = up_to.frame.saturating_add(1);
        let next = chain.run(epoch, behind, 0).map_or(u64::MAX, |next| next.first);
        self.lost_at_hub(epoch, Some(up_to), behind, next, acked.at.frame);
        self.doubt_others(epoch);
        let stream = self.settings.stream.clone();
        let may_be_purged = self.info.as_ref().is_some_and(|info| info.may_be_purged);
        self.raise(AlarmKind::HubLostData, || {
            let what = match reason {
                RewindReason::HubBehind if may_be_purged => {
                    "lost frames that it had acknowledged, or somebody deleted them there, which \
                     it allows (deny_delete, deny_purge) and which looks the same"
                }
                RewindReason::HubBehind => "lost frames that it had acknowledged",
                RewindReason::Recreated => "was made anew",
            };
            format!(
                "stream {stream} {what}; epoch {epoch} is sent again from frame {first}. Check \
                 the hub's replicas and its sync_interval"
            )
        });
    }

    /// Frames `from..until` are at the hub no more and in the journal no more, as far as the hub
    /// had acknowledged them.
    fn lost_at_hub(
        &mut self,
        epoch: Epoch,
        after: Option<Position>,
        from: u64,
        until: u64,
        acked: u64,
    ) {
        let end = until.min(acked.saturating_add(1));
        if from < end {
            self.counters.frames_lost_at_hub =
                self.counters.frames_lost_at_hub.saturating_add(end - from);
            self.actions.push(Action::HubLost { epoch, after, last_frame: end - 1 });
        }
    }

    pub(super) fn on_head(&mut self, epoch: Epoch, answer: HeadAnswer, chain: &dyn Chain) {
        let Asked::Head { epoch: asked, since, .. } = self.asked else { return };
        if asked != epoch {
            return;
        }
        if let HeadAnswer::Failed(failure) = answer {
            return self.on_head_failed(&failure);
        }
        self.asked = Asked::Nothing;
        self.pace.answered(self.now.saturating_sub(since));
        self.head_failures = 0;
        self.clear(AlarmKind::HeadUnreadable);
        let found = match answer {
            HeadAnswer::Found { stream_seq, content } => Some((stream_seq, content)),
            HeadAnswer::Empty | HeadAnswer::Failed(_) => None,
        };
        match self.unresolved.as_ref().map(|message| (message.epoch, message.phase)) {
            Some((of, Phase::ReadHead { n, stale })) if of == epoch => {
                self.head_of_unresolved(n, stale, found, chain);
            }
            Some(_) => {}
            None => self.head_of_doubtful(epoch, found, chain),
        }
    }

    pub(super) fn on_head_failed(&mut self, failure: &RequestFailure) {
        self.asked = Asked::Nothing;
        if *failure == RequestFailure::TimedOut {
            self.pace.unheard();
        }
        self.head_failures = self.head_failures.saturating_add(1);
        if self.head_failures == SEVERAL {
            let stream = self.settings.stream.clone();
            let why = match failure {
                RequestFailure::NoResponders => "nobody listens".to_owned(),
                RequestFailure::TimedOut => "no answer".to_owned(),
                RequestFailure::Refused { code, description } => {
                    format!("{} (error {code})", super::publish::shortened(description))
                }
            };
            self.raise(AlarmKind::HeadUnreadable, || {
                format!(
                    "the last message of this gateway in stream {stream} cannot be read: {why}. \
                     Admit the gateway to tidehead.{stream}.>, and let the stream allow direct get"
                )
            });
        }
        if *failure == RequestFailure::NoResponders {
            self.wait_for_the_link();
        } else {
            self.wait_after_failure();
        }
    }

    /// Compares a read with what the leader said: only message `n` itself is evidence.
    fn head_of_unresolved(
        &mut self,
        n: u64,
        stale: u32,
        found: Option<(u64, HeadContent)>,
        chain: &dyn Chain,
    ) {
        let Some(message) = self.unresolved.as_mut() else { return };
        match found {
            Some((seq, content)) if seq == n => self.judge_unresolved(n, &content, chain),
            Some((seq, _)) if seq > n => {
                // The subject went on since: what does the leader say now?
                message.phase = Phase::Send;
                self.wait_after_failure();
            }
            Some(_) | None => {
                self.counters.stale_reads += 1;
                message.phase = if stale < STALE_READS {
                    Phase::ReadHead { n, stale: stale + 1 }
                } else {
                    Phase::Send
                };
                self.wait_after_failure();
            }
        }
    }

    fn judge_unresolved(&mut self, n: u64, content: &HeadContent, chain: &dyn Chain) {
        let Some(message) = self.unresolved.clone() else { return };
        let Some(track) = self.track(message.epoch).cloned() else { return };
        let sent = Sent { last: message.run.last, msg_id: &message.msg_id };
        let verdict = judge(&track, Some(sent), content, &self.settings.gateway, chain);
        match verdict {
            Verdict::Stored { up_to, proves_claim } => {
                self.unresolved = None;
                if proves_claim {
                    self.confirm_claim(message.epoch, message.run.first, up_to, chain);
                }
                let before = track.footing.after.map_or(0, |after| after.frame.saturating_add(1));
                self.counters.delivered.frames = self
                    .counters
                    .delivered
                    .frames
                    .saturating_add(up_to.frame.saturating_add(1).saturating_sub(before));
                self.delivered(message.epoch, up_to, n);
            }
            Verdict::Behind { after } => {
                let claim = track.footing.claim.or(Some(RewindReason::HubBehind));
                self.stand_on(message.epoch, Footing { expected: n, after: Some(after), claim });
            }
            Verdict::Fork { common } => self.fork(message.epoch, common),
            Verdict::Foreign => {
                self.foreign_message(message.epoch, n);
                // An earlier transmission, of this run or the last, may stand below it. The same
                // frames once more are recognised by every reader; a hole would not be filled.
                let created = self.created();
                let Some(track) = self.track_mut(message.epoch) else { return };
                let (footing, repeats) = track.footing_over(n, created);
                let is_first = message.attempt == 1 && track.given_up.is_empty();
                if repeats || !is_first || !track.confirmed {
                    self.counters.repeated_past_foreign += 1;
                }
                self.stand_on(message.epoch, footing);
            }
            Verdict::Newer { needs } => {
                if let Some(message) = self.unresolved.as_mut() {
                    message.phase = Phase::Send;
                }
                self.newer_version(message.epoch, needs);
                self.wait_after_failure();
            }
        }
    }

    /// A refused message is over: the next one is formed on this footing.
    fn stand_on(&mut self, epoch: Epoch, footing: Footing) {
        self.unresolved = None;
        self.salt += 1;
        // Its frames have waited their time.
        self.waiting_since = Some(Duration::ZERO);
        if let Some(track) = self.track_mut(epoch) {
            track.footing = footing;
        }
        if footing.claim.is_some() {
            self.doubt_others(epoch);
        }
    }

    /// What the hub lost of one epoch it may have lost of all. Former ones are sent again first, so
    /// that epochs follow each other at the hub.
    fn doubt_others(&mut self, epoch: Epoch) {
        for other in &mut self.tracks {
            other.doubtful |= other.epoch != epoch && other.acked.is_some();
        }
    }

    /// The leader has nothing on the unresolved message's subject.
    pub(super) fn subject_is_empty(&mut self, created: i64, first_seq: u64) {
        let Some(epoch) = self.unresolved.as_ref().map(|message| message.epoch) else { return };
        let Some(track) = self.track(epoch).cloned() else { return };
        let footing = match judge_empty(&track, created, first_seq) {
            Emptiness::Expired => {
                self.counters.expired += 1;
                Footing { expected: 0, ..track.footing }
            }
            Emptiness::Lost(reason) => Footing { expected: 0, after: None, claim: Some(reason) },
        };
        self.stand_on(epoch, footing);
    }

    /// Looks whether an epoch that was delivered is still there. A read is only a hint: what looks
    /// lost is a claim, which the leader refuses when the read was stale.
    fn head_of_doubtful(
        &mut self,
        epoch: Epoch,
        found: Option<(u64, HeadContent)>,
        chain: &dyn Chain,
    ) {
        let Some(track) = self.track(epoch).cloned() else { return };
        let (created, first_seq) =
            self.info.as_ref().map_or((0, 0), |info| (info.created, info.first_seq));
        let mut footing = track.footing;
        match found {
            None => match judge_empty(&track, created, first_seq) {
                Emptiness::Expired => footing.expected = 0,
                Emptiness::Lost(reason) => {
                    footing = Footing { expected: 0, after: None, claim: Some(reason) };
                }
            },
            Some((n, content)) => {
                match judge(&track, None, &content, &self.settings.gateway, chain) {
                    Verdict::Stored { .. } => {}
                    Verdict::Behind { after } => {
                        let claim = Some(RewindReason::HubBehind);
                        footing = Footing { expected: n, after: Some(after), claim };
                    }
                    Verdict::Fork { common } => return self.fork(epoch, common),
                    Verdict::Foreign => {
                        self.foreign_message(epoch, n);
                        let Some(track) = self.track_mut(epoch) else { return };
                        let repeats;
                        let is_new = !track.confirmed;
                        (footing, repeats) = track.footing_over(n, created);
                        let repeats = repeats || is_new;
                        self.counters.repeated_past_foreign += u64::from(repeats);
                    }
                    Verdict::Newer { needs } => self.newer_version(epoch, needs),
                }
            }
        }
        if let Some(track) = self.track_mut(epoch) {
            track.doubtful = false;
            track.footing = footing;
        }
    }

    fn foreign_message(&mut self, epoch: Epoch, n: u64) {
        self.counters.foreign_messages += 1;
        let (stream, gateway) = (self.settings.stream.clone(), self.settings.gateway.clone());
        self.raise(AlarmKind::ForeignMessage, || {
            format!(
                "message {n} of stream {stream} stands on the subject of gateway {gateway}, epoch \
                 {epoch}, and is not from it; it is stepped over. Find out who may publish there"
            )
        });
    }

    fn newer_version(&mut self, epoch: Epoch, needs: u8) {
        let stream = self.settings.stream.clone();
        self.raise(AlarmKind::NewerVersion, || {
            format!(
                "stream {stream} holds frames of epoch {epoch} for a reader of version {needs}; \
                 install the version that wrote them. Recording goes on"
            )
        });
    }
}
