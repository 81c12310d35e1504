//! A crash-proof, append-only log of hash-chained frames.
//!
//! It knows frames and sequence numbers; it knows neither tags nor the network.
//!
//! # Invariants
//! - Nothing counts as recorded before `fdatasync` returned; readers see nothing else.
//! - Whatever was durable and is gone is named by a bridge, unless the hub acknowledged it.
//! - Nothing on the disk makes it panic.
//! - It reads no clock; age drops nothing.
//!
//! The format is described in `docs/journal-format.md`.

mod amount;
mod cursor;
mod delivery;
mod epoch;
mod error;
mod files;
mod fold;
pub mod frame;
mod journal;
mod log;
mod loss;
mod reader;
mod recover;
mod report;
mod room;
mod scan;
mod segment;
mod settings;
mod sidecar;
pub mod storage;
mod survey;
mod visit;

pub use amount::Kept;
pub use cursor::MAX_DESTINATION_BYTES;
pub use error::{CursorError, OpenError, ReadError, SidecarError, StorageError, WriteError};
pub use frame::{
    ClockState, Codec, Epoch, Frame, FrameError, FrameHash, Header, Kind, MAX_FRAME_BYTES,
};
pub use journal::Journal;
pub use loss::{Bridge, BridgeCause, EpochReason, LossRecord, Position, Predecessor, Unsequenced};
pub use reader::{Batch, EpochSpan, FrameRef, Read, Reader, TimePage};
pub use recover::{Recovery, inspect};
pub use report::{Appended, Delivered, Draft, Event, Rewound, Stats};
pub use settings::{
    DEFAULT_SEGMENT_BYTES, MIN_SEGMENT_BYTES, MIN_SEGMENTS, Settings, Stamp, WhenFull,
};
pub use sidecar::Sidecar;
pub use storage::{DirStorage, Storage, StoredFile};
pub use visit::{SegmentSpan, Spot, Visited};
