//! The translator for messages that local applications publish: which tags they are, which values
//! stand in them, and which of them came before.
//!
//! # Invariants
//! - Nothing here does I/O or reads a clock; the connection is the daemon's.
//! - Two subjects never meet on one path, and reading never panics.
//! - What cannot be understood is kept as it came, marked, rather than refused: only what has no
//!   tag, is too large or bears an unusable identifier is.

mod answer;
mod ids;
mod json;
mod message;
mod path;
mod spec;
mod time;

pub use answer::{Answer, Code};
pub use ids::{Known, Window};
pub use message::{Message, Part, Reading, Refused, read};
pub use path::{IDS, Subject, SubjectError};
pub use spec::{DeviceSpec, Payload, WhenFull};
pub use time::parse as parse_time;

/// The longest identifier of a message, in bytes: a UUID has 36.
pub const MAX_ID_BYTES: usize = 128;

/// The largest payload that may be configured, in bytes: with its identifier and its parts it fits
/// one frame, so that a message is in the record whole or not at all.
pub const MAX_PAYLOAD_BYTES: usize = 48 * 1024;

/// The most tags that one message is split into.
pub const MAX_PARTS: usize = 128;
