//! The questions that this gateway answers, and the trace that each leaves.
//!
//! # Invariants
//! - At most [`MAX_AUDITED`] questions are kept, the oldest give way.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use tidegate_translator::Timestamp;

use super::parts::millis_always;

/// Questions kept for the audit; the log has those before.
pub const MAX_AUDITED: usize = 100;

/// How questions are doing.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct QuestionsStatus {
    /// Questions that are worked on now.
    pub at_work: usize,
    /// Questions that wait for their turn.
    pub waiting: usize,
    /// The last ones that ended, oldest first.
    pub recent: VecDeque<AuditedQuestion>,
}

/// Who asked what, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditedQuestion {
    /// When it came.
    #[serde(rename = "at_ms", with = "millis_always")]
    pub at: Timestamp,
    /// What was asked, such as `history`.
    pub op: String,
    /// Of what: the first patterns, cut.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub what: String,
    /// Who asked, as they say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// How it came: `local`, `relayed` by the hub or from another account of the leaf, or `hostile`.
    pub via: String,
    /// The account and the user that a server vouches for, where one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// From its arrival to the end of its answer, in milliseconds.
    pub took_ms: f64,
    /// Rows of the answer.
    pub rows: u64,
    /// `answered`, why it is partial, or the code of its refusal.
    pub outcome: String,
}

impl QuestionsStatus {
    pub(super) fn note(&mut self, audited: AuditedQuestion) {
        while self.recent.len() >= MAX_AUDITED {
            self.recent.pop_front();
        }
        self.recent.push_back(audited);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_questions_are_kept_and_no_more() {
        let mut status = QuestionsStatus::default();
        for n in 0..250 {
            status.note(AuditedQuestion {
                at: Timestamp(0),
                op: "history".to_owned(),
                what: String::new(),
                by: None,
                via: "local".to_owned(),
                account: None,
                took_ms: 1.0,
                rows: n,
                outcome: "answered".to_owned(),
            });
        }
        assert_eq!(status.recent.len(), MAX_AUDITED);
        assert_eq!((status.recent[0].rows, status.recent[99].rows), (150, 249));
    }
}
