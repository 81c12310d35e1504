//! Answers as they go over the wire: parts of rows, the last one with a summary.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{Refusal, VERSION};

/// One message of an answer. Parts count from 0 without a hole; the last one has the summary, or
/// the refusal that ended the answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Part {
    /// The version that it is written in.
    pub v: u8,
    /// The question's identity.
    pub id: String,
    /// Its place among the parts.
    pub part: u64,
    /// One JSON object for each row: samples as `tidegate tap` writes them, buckets, tags, devices,
    /// losses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<Box<RawValue>>,
    /// The last part of an answer has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// Why there is no answer, or no more of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Refusal>,
}

impl Part {
    /// Rows of an answer that goes on.
    #[must_use]
    pub fn rows(id: impl Into<String>, part: u64, rows: Vec<Box<RawValue>>) -> Self {
        Self { v: VERSION, id: id.into(), part, rows, summary: None, error: None }
    }

    /// Whether nothing follows.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        self.summary.is_some() || self.error.is_some()
    }
}

/// What every whole answer says of itself.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Summary {
    /// Rows in all parts.
    pub rows: u64,
    /// Time from the question's arrival to its last row, in milliseconds.
    pub took_ms: f64,
    /// Who answered.
    pub sources: Vec<Source>,
    /// How much of the asked range is really there; absent where no range was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Coverage>,
    /// Where to continue; absent when there is no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Why there are fewer rows than there could be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial: Option<PartialCause>,
    /// Bytes of the record and its sidecars that were read.
    #[serde(default)]
    pub bytes_read: u64,
    /// What a person should know beside it, such as a range that was cut at the present.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Who answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The gateway, `PLANT/NAME`.
    pub gateway: String,
    /// The time of its clock when it answered, RFC 3339.
    pub at: String,
    /// Rows that are its.
    pub rows: u64,
}

/// Why an answer has fewer rows than there could be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartialCause {
    /// As many rows as were asked for, or as are allowed; `next` goes on.
    Rows,
    /// As many bytes as one message or answer may have; `next` goes on.
    Bytes,
    /// The time was over; `next` goes on.
    Deadline,
    /// The asker cancelled.
    Cancelled,
    /// The owner fell silent in the middle of its answer. Only askers say this.
    OwnerLost,
    /// An owner that did not answer at all. Only askers say this.
    OwnerAbsent,
    /// The record changed under the reading: what was asked for was dropped meanwhile.
    Dropped,
    /// A cause of a later version.
    #[serde(other)]
    Other,
}

/// How much of a range is really there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Coverage {
    /// Where the range begins, RFC 3339.
    pub from: String,
    /// Where it ends: what was asked, or the present if that is earlier.
    pub to: String,
    /// How many tags were meant; 0 where that is not known.
    #[serde(default)]
    pub tags: u64,
    /// The share of the range, over all tags that were meant, that is not in a gap: 0 to 1.
    pub share: f64,
    /// What is missing, in time order.
    #[serde(default)]
    pub gaps: Vec<Gap>,
    /// Gaps beyond the most that are listed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gaps_left_off: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// A time of which nothing is recorded, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Its beginning, RFC 3339, cut to the asked range.
    pub from: String,
    /// Its end.
    pub to: String,
    /// `gateway`, a device's name, or a tag's path.
    pub who: String,
    /// The loss record's word, such as `device-silent`; or `before-record` (nothing older is kept),
    /// `dropped-oldest`, `damaged`, `lost-at-hub`, `not-yet-durable`.
    pub cause: String,
    /// Samples that are missing; absent when nobody can know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Whether it was still going on when it was last told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub open: bool,
}
