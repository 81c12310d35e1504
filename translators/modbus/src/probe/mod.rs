//! Finding out what a device is and holds, for the person who connects it.
//!
//! ```text
//! survey ─► scan, limit ─► ask ─► bus
//! ```
//!
//! # Invariants
//! - Only reading: functions 1 to 4, and 43/14 for the identification.
//! - Polite: one request at a time with a pause in between, a bounded number of them, and an end
//!   at once when the device falls silent.
//! - `scan`, `limit` and `wording` decide and never wait; `survey` waits and never decides.
//! - What was learnt is in [`Findings`] from the moment it was learnt, so that whoever gives up
//!   early has it.

mod ask;
mod findings;
mod limit;
mod scan;
mod survey;
pub mod wording;

pub use crate::link::{IdCode, Identity as Identification, Reply, Request};
pub use ask::{Ask, Way};
pub use findings::{Evidence, Findings, Identity, Merged, TableFindings, Times, UnitFindings};
pub use limit::{Bound, Largest};
pub use scan::{End, Run, Scan, Told};
pub use survey::{Units, Wanted, cells, survey};
