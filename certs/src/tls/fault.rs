//! What a failed handshake says, in a few words: each is another alarm.

use std::fmt;
use std::io;

use rustls::{AlertDescription, CertificateError, Error};

use crate::crl::RevocationError;

/// Why a handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeerFault {
    /// The peer's certificate leads to no root that is trusted here, or is none.
    Untrusted,
    /// It bears another name than the one that was dialled.
    WrongName,
    /// It is not good for a server.
    WrongUsage,
    /// Its time is over, or the clock here is wrong.
    Expired,
    /// Its time has not come, or the clock here is wrong.
    NotYetValid,
    /// Its authority has withdrawn it.
    Revoked,
    /// The list of its authority is missing or too old, and the configuration refuses then.
    RevocationUnknown,
    /// The peer does not take our certificate.
    RefusesUs,
    /// Something else: no TLS there, no common version, an end in the middle.
    Other,
}

impl PeerFault {
    /// Whether it is the peer that is not believed.
    #[must_use]
    pub fn is_the_peers(self) -> bool {
        !matches!(self, Self::RefusesUs | Self::Other)
    }
}

impl fmt::Display for PeerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Untrusted => "its certificate leads to no root that is trusted here",
            Self::WrongName => "its certificate bears another name than the one that was dialled",
            Self::WrongUsage => "its certificate may not be a server's",
            Self::Expired => "its certificate has expired, or the clock here is ahead",
            Self::NotYetValid => "its certificate is not valid yet, or the clock here is behind",
            Self::Revoked => "its certificate was revoked",
            Self::RevocationUnknown => "its authority's revocation list is missing or too old",
            Self::RefusesUs => "it does not take the certificate of this gateway",
            Self::Other => "no TLS connection came about",
        })
    }
}

/// What an error of TLS says.
#[must_use]
pub fn fault_of(error: &Error) -> PeerFault {
    match error {
        Error::InvalidCertificate(error) => of_certificate(error),
        Error::NoCertificatesPresented | Error::UnsupportedNameType => PeerFault::Untrusted,
        Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied,
        ) => PeerFault::RefusesUs,
        _ => PeerFault::Other,
    }
}

/// What an error of TLS says to a person; never what the peer sent.
#[must_use]
pub fn told(error: &Error) -> String {
    let fault = fault_of(error);
    match error {
        Error::InvalidCertificate(CertificateError::Other(other))
            if fault == PeerFault::RevocationUnknown =>
        {
            other.0.to_string()
        }
        Error::InvalidCertificate(_) => fault.to_string(),
        _ => format!("{fault}: {error}"),
    }
}

/// What an error of a connection says; nothing when it is not about TLS.
#[must_use]
pub fn fault_of_io(error: &io::Error) -> Option<PeerFault> {
    error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).map(fault_of)
}

fn of_certificate(error: &CertificateError) -> PeerFault {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => PeerFault::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            PeerFault::NotYetValid
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            PeerFault::WrongName
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            PeerFault::WrongUsage
        }
        CertificateError::Revoked => PeerFault::Revoked,
        CertificateError::UnknownRevocationStatus
        | CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => PeerFault::RevocationUnknown,
        CertificateError::Other(other) if other.0.is::<RevocationError>() => {
            PeerFault::RevocationUnknown
        }
        _ => PeerFault::Untrusted,
    }
}
