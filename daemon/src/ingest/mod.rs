//! What local applications publish, into the record: the connection behind `protocol = "nats"`.
//!
//! # Invariants
//! - An application is told `ok` after `fdatasync` and never before.
//! - A repeat is not recorded again: identifiers stand in the record beside the values, in the same
//!   frame, and are read from there at a start.
//! - Whatever is neither recorded nor left with an application that waits is in a loss record.
//! - Answers go to inboxes of applications and nowhere else.

mod door;
mod feed;
mod reply;
mod seen;

pub(crate) use door::Door;
pub(crate) use feed::Feed;
pub(crate) use seen::Ids;

/// The header that says when a value arose, where no member of the payload does.
const TIME_HEADER: &str = "Tidegate-Time";

/// The header that identifies a message, as JetStream has it.
const ID_HEADER: &str = "Nats-Msg-Id";
