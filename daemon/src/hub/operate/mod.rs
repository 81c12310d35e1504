//! Operating a hub while it runs: over its system account, with every server asked and named.
//!
//! # Invariants
//! - Who is connected is told by the server from the certificate that was shown, never by the name
//!   that a gateway gives itself.
//! - A server that does not answer is named, not left out: what it holds is unknown.
//! - A server has taken a configuration only when it says the digest of that very text. A reload
//!   that was refused, a file that was not copied to its machine and an edit by hand all show.
//! - Collections are bounded in time and in number, whatever answers.

mod connections;
mod cut;
mod digest;
mod events;
pub mod findings;
mod gather;
mod handshake;
pub mod roll;
mod servers;
mod take_over;

pub use connections::{Connection, End, Which};
pub use cut::{Cut, cut};
pub use digest::{NoDigest, digest, users};
pub use events::{Event, EventKind, Events};
pub use gather::Gathered;
pub use handshake::{HandshakeError, shown};
pub use servers::{Served, Server};
pub use take_over::{Taken, take_over};
