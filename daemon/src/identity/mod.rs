//! The gateway's own identity: examined, renewed, tried at the hub, shown, and taken back when the
//! hub does not take it.
//!
//! # Invariants
//! - Recording never waits for any of this: what fails here is an alarm, and is tried again.
//! - Nothing is deleted because of a time: neither an identity nor a key is worse for being expired.
//! - A certificate is shown once the hub has admitted it in a connection of its own, or when the one
//!   before it is of no use any more. One that brings no link is taken back.
//! - What was signed is on disk before it is used, so that a power cut costs neither it nor the token
//!   that it was signed for.
//! - What a clock says is judged anew at every look: nothing is remembered as "expired".

mod candidate;
mod hub;
mod keeper;
mod renewal;
mod seams;
#[cfg(test)]
mod tests;
mod words;

pub use hub::LeafHub;
pub(crate) use keeper::BUILT;
pub use keeper::{Keeper, KeeperSettings, Wake};
pub use seams::{Hub, Trust, Verdict};
pub use words::WORDS;
