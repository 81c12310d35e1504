//! Why a question has no answer, for programs and for people.

use serde::{Deserialize, Serialize};

/// The kind of a refusal. The words are part of version 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// Not one JSON object, a key that is not known, or a field of the wrong type.
    Malformed,
    /// More bytes than a question may have.
    TooLarge,
    /// Nested deeper than a question may be.
    TooDeep,
    /// A version that this gateway does not speak.
    UnknownVersion,
    /// An operation that this gateway does not know.
    UnknownOperation,
    /// No tag of this gateway is meant.
    UnknownTag,
    /// A device that is not configured.
    UnknownDevice,
    /// The question has no beginning in time.
    Unbounded,
    /// The range ends before it begins.
    ReversedRange,
    /// A text that is no time, has no time zone, or lies beyond what can be recorded.
    BadTime,
    /// A limit, a step or an aggregate that is not possible.
    BadLimit,
    /// More tags, rows or steps than one question may ask for.
    TooMuch,
    /// The place to continue at is not one of ours, or no longer kept.
    StaleContinuation,
    /// Too many questions at once; ask again later.
    Busy,
    /// Not done in the time that was given.
    Deadline,
    /// Whoever asked has cancelled it.
    Cancelled,
    /// There is no question of that identity.
    UnknownQuestion,
    /// Answers do not go to such a subject.
    HostileReply,
    /// The record cannot be read at present.
    Unreadable,
    /// The gateway has only just started, or is stopping.
    NotReady,
    /// A code of a later version.
    #[serde(other)]
    Other,
}

impl Code {
    /// The word for people and JSON, such as `unknown-tag`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooLarge => "too-large",
            Self::TooDeep => "too-deep",
            Self::UnknownVersion => "unknown-version",
            Self::UnknownOperation => "unknown-operation",
            Self::UnknownTag => "unknown-tag",
            Self::UnknownDevice => "unknown-device",
            Self::Unbounded => "unbounded",
            Self::ReversedRange => "reversed-range",
            Self::BadTime => "bad-time",
            Self::BadLimit => "bad-limit",
            Self::TooMuch => "too-much",
            Self::StaleContinuation => "stale-continuation",
            Self::Busy => "busy",
            Self::Deadline => "deadline",
            Self::Cancelled => "cancelled",
            Self::UnknownQuestion => "unknown-question",
            Self::HostileReply => "hostile-reply",
            Self::Unreadable => "unreadable",
            Self::NotReady => "not-ready",
            Self::Other => "other",
        }
    }

    /// The number for clients of the micro-service protocol (`Nats-Service-Error-Code`), after
    /// HTTP's.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Malformed | Self::TooDeep | Self::UnknownVersion => 400,
            Self::HostileReply => 403,
            Self::UnknownOperation
            | Self::UnknownTag
            | Self::UnknownDevice
            | Self::UnknownQuestion => 404,
            Self::Deadline => 408,
            Self::StaleContinuation => 410,
            Self::TooLarge => 413,
            Self::Unbounded
            | Self::ReversedRange
            | Self::BadTime
            | Self::BadLimit
            | Self::TooMuch => 422,
            Self::Busy => 429,
            Self::Cancelled => 499,
            Self::Unreadable | Self::NotReady => 503,
            Self::Other => 500,
        }
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// For programs.
    pub code: Code,
    /// For people: object, value, remedy.
    pub text: String,
}

impl Refusal {
    /// A refusal of this kind.
    #[must_use]
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_reads_as_its_word_and_one_of_a_later_version_is_still_a_code() {
        for code in [Code::Malformed, Code::StaleContinuation, Code::Busy, Code::Other] {
            let word = serde_json::to_value(code).unwrap();
            assert_eq!(word, code.word());
        }
        let later: Code = serde_json::from_str("\"tired\"").unwrap();
        assert_eq!(later, Code::Other);
    }
}
