//! The delivery machine against a model of hub, WAN and journal on a simulated clock.

#![allow(clippy::unwrap_used, reason = "helpers of a test are test code")]
#![allow(unreachable_pub, reason = "a test binary has no public surface")]

mod hub;
mod journal;
mod refusals;
mod rules;
mod schedules;
mod world;
