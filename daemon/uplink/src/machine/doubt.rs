//! A message without an answer, and what that means.
//!
//! # Invariants
//! - It is followed by a question: a hub that answers that is there, so it is the message that gets
//!   no answer. Then an empty message on the same subject tells a right that is missing, which a
//!   leaf does not tell of, from a message that is too large or a way that has become slow. Smaller
//!   messages help the latter two.
//! - Nothing is concluded from silence alone, and nothing from one silence.

use super::answers::SEVERAL;
use super::{Asked, Uplink};
use crate::HEADER_ALLOWANCE;
use crate::alarm::AlarmKind;
use crate::event::Action;

/// After so many messages without an answer between answered questions, the subject is tested; and
/// so many tests without an answer count. One can be the moment at which a link falls.
const MORE_THAN_CHANCE: u32 = 2;

impl Uplink {
    /// INFO was answered. When the last message was not, it is the message that gets no answer.
    pub(super) fn hub_answers_questions(&mut self, has_majority: bool) {
        if !has_majority && (self.in_doubt || self.tests_failed > 0) {
            // Neither a right nor a size: nothing would be answered.
            self.in_doubt = false;
            self.test_wanted = false;
            self.tests_failed = 0;
            return self.raise_no_majority();
        }
        if self.tests_failed >= MORE_THAN_CHANCE {
            self.raise_no_permission("gets no answer");
        }
        if !std::mem::take(&mut self.in_doubt) {
            return;
        }
        self.pace.suspect_size();
        self.unanswered = self.unanswered.saturating_add(1);
        self.test_wanted = self.unanswered >= MORE_THAN_CHANCE;
        // A leader that has answered on this message at all has the right message and no majority.
        if self.undecided > 0 && self.undecided.saturating_add(self.unanswered) >= SEVERAL {
            self.raise_no_majority();
        }
    }

    /// Asks whether the hub takes anything on the subject of the message that it did not answer.
    /// `false` when there is no such message, or no doubt.
    pub(super) fn test(&mut self) -> bool {
        if !self.test_wanted {
            return false;
        }
        let Some(epoch) = self.unresolved.as_ref().map(|message| message.epoch) else {
            self.test_wanted = false;
            return false;
        };
        let deadline = self.pace.question_deadline();
        let until = self.now.saturating_add(deadline);
        self.asked = Asked::Test { since: self.now, until };
        self.actions.push(Action::TestFrames { epoch, deadline });
        self.wake_at(until.saturating_add(super::GRACE));
        true
    }

    pub(super) fn on_tested(&mut self, answered: bool) {
        if !matches!(self.asked, Asked::Test { .. }) {
            return;
        }
        self.asked = Asked::Nothing;
        if !answered {
            // Counts only when the hub answers the next question.
            self.tests_failed = self.tests_failed.saturating_add(1);
            self.wait_after_failure();
            self.info_due = self.not_before;
            return;
        }
        self.test_wanted = false;
        self.tests_failed = 0;
        self.clear(AlarmKind::NoPermission);
        if self.unanswered >= SEVERAL {
            self.raise_unanswered();
        }
    }

    fn raise_unanswered(&mut self) {
        let Some(bytes) = self.unresolved.as_ref().map(|message| message.run.bytes) else { return };
        if bytes > self.hub_limit() {
            return;
        }
        let stream = self.settings.stream.clone();
        let needed = bytes.saturating_add(HEADER_ALLOWANCE);
        self.raise(AlarmKind::Unanswered, || {
            format!(
                "the hub answers questions about stream {stream} and not a message of {bytes} \
                 bytes, which is tried again: see that the max_payload of the hub, and of every \
                 server on the way, is at least {needed}, that most of the stream's replicas run, \
                 and that the link is not slower than it was. Recording goes on"
            )
        });
    }

    pub(super) fn raise_no_permission(&mut self, what: &str) {
        let (stream, gateway) = (self.settings.stream.clone(), self.settings.gateway.clone());
        self.raise(AlarmKind::NoPermission, || {
            let subject = gateway.replace('/', ".");
            format!(
                "the hub answers for stream {stream} but takes no frames: what is sent on \
                 tide.{subject}.*.frames {what}. Admit the gateway to publish it, let the stream \
                 collect tide.*.*.*.frames, and see that most of the servers that hold it run. \
                 Recording goes on"
            )
        });
    }
}
