//! Why an authority's folder cannot be used, and why somebody gets no certificate.

use std::path::PathBuf;

use crate::generations::StoreError;
use crate::lab::{self, IssueError, SignError};

/// Why the folder cannot be used, or nothing was issued.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityStoreError {
    /// The file system refused, or a file is not what belongs there.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no authority in the folder.
    #[error("{dir} holds no authority; make one with tidegate hub init", dir = dir.display())]
    Missing {
        /// The folder.
        dir: PathBuf,
    },
    /// There is one already.
    #[error("{dir} holds an authority already, and another one would cut off everybody who trusts it", dir = dir.display())]
    Exists {
        /// The folder.
        dir: PathBuf,
    },
    /// Its files are damaged.
    #[error("the authority in {dir} cannot be used; restore its files from a backup", dir = dir.display())]
    Broken {
        /// The folder.
        dir: PathBuf,
        /// What is wrong.
        #[source]
        source: lab::ReadError,
    },
    /// It could not be issued.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// No random numbers.
    #[error("the system gives no random numbers")]
    Random,
    /// More tokens than an authority has reason to hold.
    #[error("{most} tokens wait to be used; revoke some, or wait until they end")]
    TooManyTokens {
        /// How many there may be.
        most: usize,
    },
}

/// Why somebody gets no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The token is unknown, used or too old: which of them, an attacker need not know.
    #[error("the token is unknown, used, or too old; ask for a new one")]
    Token,
    /// The certificate was not issued here, or not to a gateway.
    #[error("the certificate of {subject} is not one that is renewed here")]
    NotOurs {
        /// Whose it is.
        subject: String,
    },
    /// It was revoked.
    #[error("the certificate of {subject} is revoked")]
    Revoked {
        /// Whose it is.
        subject: String,
    },
    /// The request bears another name than whoever asks.
    #[error("{asks} asks for a certificate of {asked}; only its own is given")]
    OtherName {
        /// Who asks.
        asks: String,
        /// Whose it wants.
        asked: String,
    },
    /// The request cannot be signed.
    #[error(transparent)]
    Request(#[from] SignError),
    /// The authority is out of order.
    #[error(transparent)]
    Store(#[from] AuthorityStoreError),
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error.into())
    }
}
