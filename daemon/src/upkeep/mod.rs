//! What a person who runs a fleet does to one gateway: take it along, and show it to others.
//!
//! # Invariants
//! - A backup holds secrets and is readable for its owner alone, or for whoever has the passphrase.
//! - A support bundle holds none: what is known to be secret is cut wherever it stands, and what
//!   looks like a secret is cut as well.
//! - Both are read and written whole in memory, within limits.

pub(crate) mod archive;
pub(crate) mod backup;
pub(crate) mod belongings;
pub(crate) mod bundle;
pub(crate) mod places;
pub(crate) mod redact;
pub(crate) mod seal;
