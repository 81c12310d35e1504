//! Samples as columns.
//!
//! The samples are put in order of their tag numbers, those of one tag in the order in which they
//! came: that is the order in which they come out again, and the order that sequence numbers
//! count. Fourteen columns follow each other, the lengths of all but the last in front:
//!
//! | column | holds |
//! |---|---|
//! | tags | distance to the tag before, samples − 1, and how many more tags look the same |
//! | times | per tag: first against the first of the tag before, then a difference, then differences of differences; then how many more tags have the very same times |
//! | source, server | runs of absent and present in turn, starting with absent; present ones as difference to the acquisition time |
//! | quality | runs of the quality word |
//! | status | runs of the status |
//! | kinds | runs of the value's kind |
//! | bools | one bit each |
//! | modes, integers, shapes, bits | see `series` |
//! | lengths | of texts, bytes and JSON, plus one; 0 repeats the one before of the same tag and kind |
//! | blobs | their bytes |
//!
//! # Invariants
//! - Every length is checked before memory is taken for it; see the limits in the parent module.
//! - A column must be read to its end, else the body is damaged.

mod read;
mod write;

use tidegate_translator::ValueKind;

pub(super) use read::scan;
pub(super) use write::Encoder;

/// Columns with a length in front.
pub(super) const COLUMNS: usize = 13;

/// The kinds that have values, in the order in which their series of one tag follow each other.
pub(super) const KINDS: [ValueKind; 8] = [
    ValueKind::Bool,
    ValueKind::I64,
    ValueKind::U64,
    ValueKind::F32,
    ValueKind::F64,
    ValueKind::Text,
    ValueKind::Bytes,
    ValueKind::Json,
];
