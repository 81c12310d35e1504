//! OPC UA: the gateway's own application certificate, and which servers it speaks to.
//!
//! ```text
//! opcua/
//!   own/       generations of our key and certificate
//!   trusted/   certificates of servers, or of authorities, that a person approved
//!   issuers/   authorities that complete chains and are not trusted themselves
//!   crl/       what authorities have withdrawn
//!   rejected/  what was shown and not accepted; *.rejected.der: what a person refused
//! ```
//!
//! # Invariants
//! - Files are read anew for each question, so that what a person changes counts at once.
//! - Nothing is trusted on first sight.
//! - Whatever comes from a server is bounded, and never a reason to panic.

mod certificate;
mod describe;
mod distrust;
pub mod own;
mod thumbprint;
pub mod trust;

pub use describe::{Described, NotACertificate};
pub use distrust::{Distrust, DistrustKind};
pub use own::{KeyBits, Own, OwnCertificate, OwnError, OwnSpec};
pub use thumbprint::{PrefixError, Thumbprint, ThumbprintPrefix};
pub use trust::{Accepted, AcceptedBy, Expectation, TrustStore};
