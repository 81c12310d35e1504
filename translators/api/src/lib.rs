//! What every translator shares: tags, samples, quality, and the contract between a device and
//! the daemon.
//!
//! # Invariants
//! - Nothing here does I/O or reads a clock; time comes in through [`Clock`]. Of the runtime there are
//!   queues and their deadlines alone ([`FreshDesk`]).
//! - A translator returns futures and never spawns: only the daemon spawns and supervises.
//! - Nothing handed to a [`Sink`] can block the caller; what the sink cannot take, it counts.
//! - Times are never rewritten once a sample exists.

mod clock;
mod device;
mod fault;
mod fresh;
pub mod grid;
pub mod json;
mod loss;
mod path;
mod quality;
mod restraint;
mod sample;
mod value;

pub use clock::{Clock, Timestamp};
pub use device::{Device, DeviceFuture, DeviceState, Reading, ReadingFuture, Sink};
pub use fault::{Exchange, FaultReport};
pub use fresh::{
    Fresh, FreshAnswer, FreshDesk, FreshFuture, MAX_WAITING, Questions, ReadNow, Unread, fresh_desk,
};
pub use loss::{LossCause, Missed};
pub use path::{MAX_BYTES as MAX_PATH_BYTES, PathError, TagPath};
pub use quality::{Quality, Reason};
pub use restraint::Restraint;
pub use sample::{Sample, TagId};
pub use tokio_util::sync::CancellationToken;
pub use value::{Value, ValueKind};
