//! The live plane: each change, at once, on core NATS, at most once.
//!
//! # Invariants
//! - An old value is never published as a new one: what cannot go out now is dropped and counted,
//!   and a silence is only broken by a reading that was just made.
//! - Nothing here blocks a driver: the queue is bounded and makes room by dropping its oldest
//!   batch, counted as `live_overflow`.
//! - The decision ([`LastPublished`]) and the rendering ([`envelope`]) do no I/O and have no clock.

pub mod envelope;
mod policy;
mod publisher;
mod queue;

pub use policy::{LastPublished, LivePolicy, Verdict};
pub use publisher::{LiveTag, NatsOutlet, Outlet, OutletError, Publisher};
pub use queue::{LiveQueue, MAX_QUEUED_SAMPLES};
