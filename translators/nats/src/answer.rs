//! What an application is told of its message.
//!
//! # Invariants
//! - `ok` is said of what is on the disk and of nothing else.
//! - A code says whether trying again can help.

use std::fmt::Write as _;

use tidegate_translator::json;

/// Why a message is not recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// Its payload is larger than allowed.
    TooLarge,
    /// Its subject is no tag.
    BadSubject,
    /// Its identifier is none.
    BadId,
    /// There are as many tags as allowed, or the path is another device's.
    NoTag,
    /// Too much waits for the disk.
    Busy,
    /// Too much waited for the disk, and the message is lost by policy.
    Dropped,
    /// The journal did not take it.
    NotRecorded,
    /// The gateway ends.
    Stopping,
}

impl Code {
    /// The word in the answer.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::TooLarge => "too-large",
            Self::BadSubject => "bad-subject",
            Self::BadId => "bad-id",
            Self::NoTag => "no-tag",
            Self::Busy => "busy",
            Self::Dropped => "dropped",
            Self::NotRecorded => "not-recorded",
            Self::Stopping => "stopping",
        }
    }

    /// Whether the same message may be taken later.
    #[must_use]
    pub const fn is_worth_a_retry(self) -> bool {
        matches!(self, Self::Busy | Self::NotRecorded | Self::Stopping)
    }
}

/// What an application is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is on the disk.
    Recorded {
        /// The epoch of the record.
        epoch: String,
        /// The number of the message's last sample in it.
        seq: u64,
        /// Whether it was there before this message came.
        duplicate: bool,
    },
    /// It is not.
    Refused {
        /// Why.
        code: Code,
        /// Why, for a person.
        why: String,
    },
}

impl Answer {
    /// The payload of the answer.
    #[must_use]
    pub fn json(&self) -> String {
        let mut out = String::new();
        match self {
            Self::Recorded { epoch, seq, duplicate } => {
                out.push_str("{\"ok\":true,\"epoch\":");
                json::write_text(&mut out, epoch);
                out.push_str(",\"seq\":");
                json::write_integer(&mut out, seq, *seq);
                if *duplicate {
                    out.push_str(",\"duplicate\":true");
                }
            }
            Self::Refused { code, why } => {
                // Writing to a String cannot fail.
                let _ = write!(out, "{{\"ok\":false,\"code\":\"{}\",\"error\":", code.word());
                json::write_text(&mut out, why);
                let _ = write!(out, ",\"retry\":{}", code.is_worth_a_retry());
            }
        }
        out.push('}');
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_one_line_of_json() {
        let recorded = Answer::Recorded { epoch: "ab".into(), seq: 7, duplicate: false };
        assert_eq!(recorded.json(), r#"{"ok":true,"epoch":"ab","seq":7}"#);
        let again = Answer::Recorded { epoch: "ab".into(), seq: 7, duplicate: true };
        assert_eq!(again.json(), r#"{"ok":true,"epoch":"ab","seq":7,"duplicate":true}"#);
        let refused = Answer::Refused { code: Code::Busy, why: "a \"b\"\n".into() };
        assert_eq!(
            refused.json(),
            r#"{"ok":false,"code":"busy","error":"a \"b\"\n","retry":true}"#
        );
    }
}
