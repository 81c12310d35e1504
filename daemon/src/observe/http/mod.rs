//! Metrics and health over HTTP: `/metrics` in OpenMetrics text, `/healthz` in JSON with 200 while
//! every part does its job and 503 while one is down.
//!
//! `/healthz` is for people and monitoring. It is no reason to restart the daemon: a dead PLC
//! makes it 503, and a hung daemon is the watchdog's business.
//!
//! # Invariants
//! - Read-only, without access control: loopback unless the configuration says otherwise.
//! - Connections, header bytes, header count and time are bounded; one request per connection.

mod exposition;
#[cfg(test)]
mod operations_tests;
mod server;

pub use exposition::{CONTENT_TYPE, exposition};
pub use server::{HttpError, HttpLimits, HttpServer};
