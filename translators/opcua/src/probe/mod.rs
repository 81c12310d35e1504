//! Finding out what a server offers and why it cannot be used, for the person who connects it.
//!
//! ```text
//! survey ─► knock, offer, connect, session ─► Findings, or a Cause ─► wording
//! browse ─► the same, and walk             ─► Holdings
//! ```
//!
//! # Invariants
//! - Only reading: nothing is written, no method is called, no subscription outlives the probe.
//! - `greeting`, `offer` and `wording` decide and never wait; `knock`, `session` and `survey` wait
//!   and decide little.
//! - What was learnt is in [`Findings`] from the moment it was learnt, so that whoever gives up
//!   early has it.

mod cause;
mod findings;
mod greeting;
mod holdings;
mod knock;
mod offer;
mod session;
mod survey;
mod walk;
pub mod wording;

pub use cause::Cause;
pub use findings::{Build, Findings, Reach, SessionFindings, Subscribed};
pub use greeting::{Greeting, Limits};
pub use holdings::{Class, Holding, Holdings, Variable};
pub use knock::Answered;
pub use offer::{Application, Offer, OfferedMode, OfferedPolicy, Token, TokenKind, policy_name};
pub use survey::{browse, survey};
pub use walk::Below;
