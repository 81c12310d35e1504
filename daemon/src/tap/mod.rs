//! The record at hubs, turned back into samples: of one gateway in its order, of many merged in
//! the order of time, or published again for consumers that know nothing of us.
//!
//! # Invariants
//! - Memory is bounded by a portion of messages and one decoded frame for each gateway and copy
//!   that is read, and by what waits for the names of its tags.
//! - A sample is given once for each gateway, epoch and sequence number when several copies are
//!   read, and when it is published again.
//! - Samples are never left out silently: a frame that cannot be read, and a message of somebody
//!   else on a gateway's subject, are told.
//! - Where a stream that is published into stands is what that stream says. Nothing is remembered
//!   here.

mod choice;
mod feed;
mod fleet;
mod lane;
mod republish;
mod seen;
mod target;
mod unpack;

pub use choice::Choice;
pub use fleet::{Fleet, FleetError, Sink, Source};
pub use republish::{RepublishError, Republished, Told, republish};
pub use target::{SubjectTemplate, Target, TemplateError};
pub use unpack::{Block, Said, Unpacker};
