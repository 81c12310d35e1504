//! What the daemon lets others see of itself: its log, its state, the control socket, metrics and
//! health over HTTP, and its own health tags.
//!
//! # Invariants
//! - Nothing here changes what the daemon does: every interface is read-only.
//! - Nothing here listens toward the WAN unless the configuration says so, and every listener
//!   limits connections, sizes and time.
//! - Health is the age of data and of acknowledgements, never the state of a socket.

pub mod control;
pub mod health;
pub mod http;
pub(crate) mod listen;
pub mod log;
pub mod state;
