//! The gateway's answers to questions over NATS.
//!
//! # Invariants
//! - Collection goes before every question: everything here runs on threads of low priority, and no
//!   lock of the readings is held longer than a few hundred tags take.
//! - Answers go only to inboxes and to reply subjects of the server's own making, and to none of the
//!   daemon's own inboxes: see [`reply`].
//! - Questions at work and waiting, their rows, bytes and time are bounded; who comes too much hears
//!   `busy`, and what even that is too slow for is counted.
//! - Nothing that can be asked changes anything.
//! - Every question leaves its trace in the audit, also one that gets no answer.
//! - A question that panics is one answer that is missing, and no more.

mod credit;
mod digests;
mod discovery;
mod lowly;
mod ops;
mod paging;
mod parts;
mod reply;
mod service;
mod turns;
mod work;

pub use service::{Service, Sources};

/// Starts the thread that the service lives on.
///
/// # Errors
/// When the system has no room for one.
pub(crate) fn thread(work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    lowly::spawn("questions", lowly::ASIDE, work).map(drop)
}
