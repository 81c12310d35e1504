//! The rig: the real binary between real servers, and an oracle that judges the outcome from the
//! values alone.
//!
//! ```text
//! counting PLC ──cable──► gateway ──► leaf ──wan──► hub ──► tap, prove, raw stream
//!  (pymodbus)    (Wan)   (tidegate) (managed) (Wan) (nats-server, mTLS)      │
//!      └───────── history of what was served ─────────────────────────► oracle
//! ```
//!
//! Where it is about devices, the gateway stands among them without the wide-area link, and every
//! value is judged by the place that it was read from: see [`field`] and [`peers`].
//!
//! # Invariants
//! - Every port is chosen by the system, every file is in a directory of its own: scenarios run
//!   side by side.
//! - Everything started ends with the test, also when the test panics or is killed.
//! - No code of the product is used here; the binary is asked through its command line alone.
//! - Nothing waits by sleeping: a condition is polled until it holds or a deadline passes.
//!
//! # The binary's command line, as far as the rig leans on it
//! - `tidegate run --config FILE`: logs to standard error, ends gracefully on SIGTERM.
//! - `tidegate status --config FILE --json`: succeeds once the daemon answers.
//! - `tidegate tap --server URL --gateway PLANT/NAME --format jsonl`: one sample a line with
//!   `path, epoch, seq, ts, acquired, v, q`, in the hub's order.
//! - `tidegate prove --server URL --gateway PLANT/NAME --json`: one object with `verdict`; every
//!   object in it that has a `cause` is a named loss, with `from` and `to` in nanoseconds since
//!   1970 or as RFC 3339 text.
//! - `tidegate hub init …` and `tidegate hub apply …`: see [`planned`].
//! - `tidegate internal-hub-config …` and `tidegate internal-hub-stream …`: see [`hub`].

pub mod authority;
pub mod bench;
pub mod clock;
pub mod cluster;
pub mod consumer;
pub mod container;
pub mod disk;
pub mod est;
pub mod family;
pub mod field;
pub mod fleet;
pub mod forge;
pub mod gateway;
pub mod golden;
pub mod hub;
pub mod installed;
pub mod leaf_service;
pub mod machine;
pub mod net;
pub mod opcua;
pub mod operator;
pub mod oracle;
pub mod outpost;
pub mod papers;
pub mod peers;
pub mod pilot;
pub mod planned;
pub mod plc;
pub mod proxy;
pub mod reader;
mod remains;
pub mod report;
mod rig;
pub mod server;
pub mod stream;
pub mod system;
pub mod tools;
pub mod unruly;
pub mod vitals;
pub mod wait;
pub mod wan;

pub use clock::WallClock;
pub use gateway::Wishes;
pub use rig::{Account, Rig, is_long, live_values, outage};
