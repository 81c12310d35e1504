//! Key and certificate generations of a gateway, the files that an operator hands over, its OPC UA
//! certificate and whom it trusts over OPC UA, and a certification authority for the lab.
//!
//! # Invariants
//! - A private key cannot be cloned or printed, and its bytes are wiped when it is dropped.
//! - A key and a certificate that do not belong together never leave this crate as an [`Identity`].
//! - Nothing here has a clock of its own: whoever asks about validity says what time it is.

mod authority;
pub mod authority_store;
mod certificate;
pub mod crl;
mod disk;
pub mod est;
pub mod examine;
mod files;
pub mod floor;
mod folder;
mod generations;
mod identity;
mod key;
pub mod lab;
mod lock;
#[cfg(test)]
mod made;
pub mod opcua;
mod owner;
mod pem;
pub mod policy;
mod request;
mod sign;
pub mod tls;

pub use authority::{Answer, Authority, AuthorityError, Enrolled, Token, Warrant};
pub use certificate::{CertificateError, CertificateFacts, Validity};
pub use files::{FileError, OperatorFiles, PemFile, Trust, load_identity, load_trust};
pub use folder::{FolderLock, IdentityFolder, IdentityState, InstallError, Pending};
pub use generations::{Generation, GenerationStore, Loaded, StoreError, Wiped};
pub use identity::{Identity, IdentityError};
pub use key::{KeyError, PrivateKey};
pub use pem::pem_of_all;
pub use request::{CertificateRequest, NotAccepted, RequestError, uri};
pub use sign::{SignError, Signature, VerifyError, verify};
