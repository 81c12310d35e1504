//! Questions to a gateway: their wire form, and what answers them from its record.
//!
//! # Invariants
//! - Nothing here knows the network or reads a clock; the record is read through the journal's
//!   reader alone.
//! - Whatever arrives gives a question or a [`Refusal`] with a code; no input takes more memory
//!   than its own size and the named limits.
//! - An answer never looks whole when it is not: what was not read is named by the coverage's gaps
//!   or by `partial`.

mod answer;
mod archive;
mod cell;
mod code;
mod pattern;
mod question;
pub mod sidecar;
mod time;

pub use answer::{Coverage, Gap, Part, PartialCause, Source, Summary};
pub use archive::{Archive, Bounds, Catalogs, Out, Row, Watch};
pub use cell::{Cell, Last, Number};
pub use code::{Code, Refusal};
pub use pattern::Pattern;
pub use question::{
    Aggregate, Envelope, Flow, History, LatestQuestion, LossesQuestion, MAX_DEPTH,
    MAX_QUESTION_BYTES, Op, Page, ProveQuestion, Question, ReadQuestion, parse,
};
pub use time::{MAX_SPAN_DAYS, TimeError, Wish, parse_span};

/// The version of questions and answers. A later one keeps answering this one.
pub const VERSION: u8 = 1;
