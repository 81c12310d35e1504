//! The link, the stream's INFO, and deadlines that passed.
//!
//! # Invariants
//! - After each opening of the link INFO is read before anything is sent: a message above the
//!   hub's limit would close the link, without a word, at every send.
//! - Another domain or stream is waited out, never sent to.

use std::time::Duration;

use super::publish::shortened;
use super::{Asked, Phase, Uplink};
use crate::MAX_EPOCHS;
use crate::alarm::AlarmKind;
use crate::chain::Chain;
use crate::event::{RequestFailure, RewindReason, StreamInfo};
use crate::reconcile::Footing;

/// JetStream's "stream not found".
const STREAM_NOT_FOUND: u32 = 10_059;
/// JetStream is off in the account that holds the stream, or in the whole server.
pub(super) const NO_JETSTREAM: [u32; 2] = [10_039, 10_076];
/// JetStream's "system temporarily unavailable": the cluster has no majority.
pub(super) const NO_MAJORITY: u32 = 10_008;
/// So many failures in a row are reported; one or two are the ordinary end of a link.
pub(super) const SEVERAL: u32 = 3;
/// And only when they lasted so long: at a start the leaf makes its link first, which takes seconds
/// over a satellite or behind a hub that starts again.
const PATIENCE: Duration = Duration::from_secs(10);
/// So many failures of any kind since the last success are reported with the first question that is
/// not answered: by then the waits between attempts are long.
const MANY: u32 = 6;

impl Uplink {
    pub(super) fn link_up(&mut self, max_payload: usize) {
        self.max_payload = Some(max_payload);
        self.info = None;
        self.limits_wanted = true;
        self.drop_request();
        self.no_responders = 0;
        self.info_failures = 0;
        self.info_failing_since = None;
        self.backoff.reset();
        self.not_before = self.now;
        self.drain.restart();
    }

    pub(super) fn link_down(&mut self) {
        if self.max_payload.take().is_none() {
            return;
        }
        self.counters.link_downs += 1;
        self.info = None;
        self.pace.suspect_size();
        self.drop_request();
        self.drain.restart();
        self.clear(AlarmKind::HubSilent);
    }

    /// Whatever was asked stays unanswered.
    fn drop_request(&mut self) {
        if matches!(self.asked, Asked::Publish { .. }) {
            self.counters.cut_off += 1;
            self.not_answered(true);
        }
        self.asked = Asked::Nothing;
    }

    pub(super) fn enforce_deadlines(&mut self) {
        let Some(until) = self.asked_until() else { return };
        if self.now < until.saturating_add(super::GRACE) {
            return;
        }
        match self.asked {
            Asked::Nothing => {}
            Asked::Publish { .. } => {
                self.asked = Asked::Nothing;
                self.on_timed_out();
            }
            Asked::Info { .. } => self.on_info_failed(&RequestFailure::TimedOut),
            Asked::Head { .. } => self.on_head_failed(&RequestFailure::TimedOut),
            Asked::Test { .. } => self.on_tested(false),
        }
    }

    pub(super) fn on_info_failed(&mut self, failure: &RequestFailure) {
        if !matches!(self.asked, Asked::Info { .. }) {
            return;
        }
        self.asked = Asked::Nothing;
        if *failure == RequestFailure::TimedOut {
            self.pace.unheard();
        }
        self.info_failures = self.info_failures.saturating_add(1);
        self.was_away = true;
        // Nothing answers: that tells nothing of the message. Nobody listens: so it looks as well
        // when the hub has just closed the link because of it.
        self.in_doubt &= *failure == RequestFailure::NoResponders;
        self.tests_failed = 0;
        let since = *self.info_failing_since.get_or_insert(self.now);
        let lasts = self.now.saturating_sub(since) >= PATIENCE;
        // How the backlog grew meanwhile tells nothing of how it will shrink.
        self.drain.restart();
        let (stream, failures) = (self.settings.stream.clone(), self.info_failures);
        let gateway = self.settings.gateway.clone();
        match failure {
            RequestFailure::Refused { code: STREAM_NOT_FOUND, .. } => {
                self.info = None;
                self.clear(AlarmKind::HubSilent);
                self.raise_no_stream();
            }
            RequestFailure::Refused { code: NO_MAJORITY, .. } => {
                self.clear(AlarmKind::HubSilent);
                self.raise_no_majority();
            }
            RequestFailure::Refused { code, .. } if NO_JETSTREAM.contains(code) => {
                self.info = None;
                self.clear(AlarmKind::HubSilent);
                self.raise_no_jetstream();
            }
            RequestFailure::Refused { code, description } => {
                let description = shortened(description);
                self.raise(AlarmKind::HubSilent, || {
                    format!(
                        "the hub does not tell about stream {stream}: {description} (error \
                         {code}). Look at the hub's log"
                    )
                });
            }
            RequestFailure::NoResponders | RequestFailure::TimedOut
                if (failures >= SEVERAL && lasts)
                    || (*failure == RequestFailure::TimedOut
                        && self.backoff.failures() >= MANY) =>
            {
                let failures = failures.max(self.backoff.failures());
                self.raise(AlarmKind::HubSilent, || {
                    format!(
                        "the hub does not answer for stream {stream} ({failures} times); check \
                         the way to it, that it runs with JetStream, of a cluster most of the \
                         servers, that it admits the \
                         certificate in use as gateway {gateway}, and that this gateway may ask \
                         tideinfo.{stream}. Recording goes on"
                    )
                });
            }
            RequestFailure::NoResponders | RequestFailure::TimedOut => {}
        }
        if *failure == RequestFailure::NoResponders {
            self.wait_for_the_link();
        } else {
            self.wait_after_failure();
        }
        // A refresh that failed is tried again after the back-off, not after minutes.
        self.info_due = self.not_before;
    }

    pub(super) fn on_info(&mut self, info: StreamInfo, chain: &dyn Chain) {
        let Asked::Info { since, .. } = self.asked else { return };
        self.asked = Asked::Nothing;
        self.pace.answered(self.now.saturating_sub(since));
        self.info_failures = 0;
        self.info_failing_since = None;
        self.clear(AlarmKind::HubSilent);
        self.clear(AlarmKind::NoStream);
        self.clear(AlarmKind::NoJetStream);
        let wanted = (Some(&self.settings.domain), &self.settings.stream);
        if (info.domain.as_ref(), &info.stream) != wanted {
            return self.wrong_hub(&info);
        }
        if self.counters.foreign_acks == 0 {
            self.clear(AlarmKind::WrongHub);
        }
        self.watch_epochs(&info, chain);
        let (created, first_seq) = (info.created, info.first_seq);
        if std::mem::take(&mut self.limits_wanted) {
            self.hub_payload = info.max_payload;
        }
        self.hub_answers_questions(info.has_majority);
        let is_first_on_this_link = self.info.replace(info).is_none();
        if is_first_on_this_link || self.was_away {
            self.doubt_former_epochs(chain);
        }
        if self.unresolved.as_ref().is_some_and(|m| m.phase == Phase::ReadInfo) {
            self.subject_is_empty(created, first_seq);
        }
        self.compare_creation(created);
    }

    pub(super) fn raise_no_jetstream(&mut self) {
        let (stream, domain) = (self.settings.stream.clone(), self.settings.domain.clone());
        self.raise(AlarmKind::NoJetStream, || {
            format!(
                "JetStream is off at the hub, or in the account that holds stream {stream} of \
                 domain {domain}; switch it on there. Recording goes on"
            )
        });
    }

    fn wrong_hub(&mut self, info: &StreamInfo) {
        self.info = None;
        let got =
            format!("{} in domain {}", info.stream, info.domain.as_deref().unwrap_or("(none)"));
        let wanted = format!("{} in domain {}", self.settings.stream, self.settings.domain);
        self.raise(AlarmKind::WrongHub, || {
            format!(
                "the hub's stream is {got}, not {wanted}; nothing is sent. Correct the hub's \
                 address, or its stream and domain, in the configuration"
            )
        });
        self.wait_after_failure();
    }

    /// Somebody else who has our name was answered. INFO tells whether that is another gateway; an
    /// answer that came too late for an earlier run of ours is not.
    pub(super) fn overheard(&mut self) {
        let every = if self.alarms.has(AlarmKind::TwoEpochs) {
            super::INFO_EVERY
        } else {
            super::OVERHEARD_EVERY
        };
        let soonest = self.info_asked.map_or(self.now, |asked| asked.saturating_add(every));
        self.info_due = self.info_due.min(soonest);
    }

    /// A hub that went back to older data was restarted, which closed the link. The current epoch
    /// notices at its next message; former ones have none to send, so they are looked at.
    pub(super) fn doubt_former_epochs(&mut self, chain: &dyn Chain) {
        self.was_away = false;
        let current = chain.epochs().last().copied();
        for track in &mut self.tracks {
            track.doubtful |= Some(track.epoch) != current && track.acked.is_some();
        }
    }

    /// A stream made anew knows nothing of what the former one acknowledged.
    fn compare_creation(&mut self, created: i64) {
        let busy = self.unresolved.as_ref().map(|message| message.epoch);
        for track in &mut self.tracks {
            let Some(acked) = track.acked else { continue };
            let recreated = Some(RewindReason::Recreated);
            // The message under way is resolved first, by the leader's answer.
            if busy == Some(track.epoch) {
                continue;
            }
            if acked.created != created && track.footing.claim.is_none() {
                track.footing = Footing { expected: 0, after: None, claim: recreated };
            } else if acked.created == created && track.footing.claim == recreated {
                track.stand_on_acked();
            }
        }
    }

    /// An epoch that is not ours and grows is another gateway with our name.
    fn watch_epochs(&mut self, info: &StreamInfo, chain: &dyn Chain) {
        let ours = chain.epochs();
        let others: Vec<_> = info
            .epochs
            .iter()
            .take(MAX_EPOCHS)
            .filter(|(epoch, _)| !ours.contains(epoch))
            .copied()
            .collect();
        if let Some(before) = self.epochs_seen.take() {
            let known = |epoch| before.iter().find(|(e, _)| *e == epoch).map_or(0, |(_, n)| *n);
            let growing = others.iter().find(|(epoch, count)| *count > known(*epoch));
            if let Some((epoch, _)) = growing {
                let gateway = self.settings.gateway.clone();
                self.raise(AlarmKind::TwoEpochs, || {
                    format!(
                        "epoch {epoch} of gateway {gateway} grows at the hub, and this gateway \
                         does not write it: two devices run under one name. Stop or rename one"
                    )
                });
            }
        }
        self.epochs_seen = Some(others);
    }

    /// When the answer to what is outstanding is due.
    pub(super) const fn asked_until(&self) -> Option<Duration> {
        match self.asked {
            Asked::Nothing => None,
            Asked::Publish { until, .. }
            | Asked::Info { until, .. }
            | Asked::Head { until, .. }
            | Asked::Test { until, .. } => Some(until),
        }
    }

    pub(super) fn since_asked(&self) -> Option<Duration> {
        match self.asked {
            Asked::Nothing => None,
            Asked::Publish { since, .. }
            | Asked::Info { since, .. }
            | Asked::Head { since, .. }
            | Asked::Test { since, .. } => Some(self.now.saturating_sub(since)),
        }
    }
}
