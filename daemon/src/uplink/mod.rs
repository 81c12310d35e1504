//! The thin shell around the delivery state machine: it publishes, asks, waits and reports, and
//! decides nothing.
//!
//! # Invariants
//! - At most one publish and one question of each kind are in flight; their answers come back as
//!   events of one loop.
//! - The bytes of a message are kept until the next one, so that a repeat is the same message.

mod chain;
mod fail_back;
mod limits;
mod links;
mod namesake;
mod rights;
mod shell;
mod wire;

pub use links::Remedy;
pub(crate) use rights::needs;
pub use shell::{Hub, Shell};
