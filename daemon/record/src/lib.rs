//! What stands inside frames: columns of samples, the catalog, clock events; and the proof over
//! a sequence of frames.
//!
//! # Invariants
//! - Nothing here does I/O, reads a clock or knows the network.
//! - Nothing here panics on what it reads, or takes memory that its input merely claims to need.

pub mod catalog;
mod checkpoint;
mod clock;
mod clock_book;
pub mod json;
mod moment;
pub mod proof;
mod reading;
pub mod samples;
pub mod wire;

pub use catalog::{Catalog, CatalogEntry, CatalogError, CatalogPart};
pub use checkpoint::Checkpoint;
pub use clock::{ClockEvent, ClockEventKind};
pub use clock_book::ClockBook;
pub use moment::{Moment, Span};
pub use reading::{Reading, readings};

/// A frame's checksum is right and its body is still not what its kind says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{kind} body does not parse")]
pub struct BodyError {
    kind: &'static str,
}

/// A postcard value that takes all of the bytes.
fn whole<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> Option<T> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Some(value),
        _ => None,
    }
}
