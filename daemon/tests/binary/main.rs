//! The real binary: what it says and does when something is wrong with its configuration, its
//! disk, its ports, its nats-server or its hub, and how it reloads, ends and shows itself.
//!
//! Every test has a folder, a simulated PLC and ports of its own, so all of them run side by side.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail anywhere, also in what tests share"
)]

#[path = "../common/mod.rs"]
mod common;

mod command_line;
mod commissioning;
mod ending;
mod hub;
mod journal;
mod neighbours;
mod observing;
mod proving;
mod refusals;
mod reload;
mod secrets;
mod site;
mod tapping;
mod ways_in;
