//! A gateway that nobody logs in to: how it gets its configuration, whether a boot went well, and
//! how it becomes as new.
//!
//! # Invariants
//! - Nothing that a medium holds is put in place before the daemon's own check took it whole.
//! - What was in place stays in place until the new one is durable beside it; the configuration
//!   itself is the last to change.
//! - A secret on a medium is destroyed there once it is safe here, and never printed.
//! - What is decided ([`decide`], [`health`]) is decided without I/O and without a clock.
//! - What these commands remember lies in a folder of root's own, so that nothing that the daemon
//!   may write leads them elsewhere.

pub mod decide;
pub mod erase;
pub mod folder;
pub mod health;
pub mod offer;
pub mod place;
pub mod provision;
pub mod record;
pub mod short;
