//! The control socket: local, read-only questions to the running daemon.
//!
//! One JSON object per line each way, over a Unix stream socket:
//! `{"v":1,"ask":"status"}` → `{"v":1,"status":{…}}`,
//! `{"v":1,"ask":"tags","pattern":"PlantA/Line3","limit":100}` → `{"v":1,"tags":{…}}`,
//! `{"v":1,"ask":"faults","device":"press-1"}` → `{"v":1,"faults":{…}}`,
//! anything else → `{"v":1,"error":{"kind":"…","text":"…"}}`. Several questions may follow each
//! other on a connection.
//!
//! # Invariants
//! - Nothing that can be asked changes anything.
//! - Requests, answers, connections and waiting times are bounded; who asks too much gets a typed
//!   error, and the daemon goes on.
//! - The socket is for its owner and the group [`GROUP`]; a socket of another running daemon is
//!   never taken away.

mod client;
mod conversation;
mod protocol;
mod server;
mod socket;

pub use client::{AskError, Client};
pub use conversation::Conversation;
pub use protocol::{Answer, Ask, ErrorKind, FaultQuery, Refusal, Response, TagQuery, VERSION};
pub use server::{ControlLimits, ControlServer};
pub(crate) use socket::group;
pub use socket::{ControlError, GROUP};
