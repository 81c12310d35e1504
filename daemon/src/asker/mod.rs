//! Asking gateways from anywhere: at one's own leaf, or at a hub.
//!
//! # Invariants
//! - Nothing is spawned here and no server runs for it: whoever asks finds the owners, asks them side
//!   by side, and says what is missing.
//! - An owner that does not answer is named, and so is one that falls silent in the middle. An answer
//!   never looks whole when it is not.
//! - Memory is bounded, whatever owners send and however slowly rows are taken: each owner may send
//!   only as many parts as it was granted, and all grants together are bounded.
//! - Whoever stops listening tells the owners so.

mod conversation;
mod directory;
mod merge;
mod owners;
mod reach;
mod report;

pub use conversation::{Absence, Answers, Asked, Event, MAX_OWNERS};
pub use directory::{Directory, Owner};
pub(crate) use merge::named;
pub use merge::{Merged, Order, Progress, Row};
pub use owners::{LeftOut, Owners, Wanted};
pub use reach::{Asker, AskerError, Place, ReachArgs};
pub use report::{Outcome, OwnerReport, Report};

#[cfg(test)]
mod tests;
