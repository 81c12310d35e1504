//! What an authority has withdrawn, and what an old list is worth.
//!
//! # Invariants
//! - A list is looked at only up to a bound, and nothing in it is a reason to panic.
//! - A list counts when an authority that is known here signed it, and then whatever its age for what
//!   it names: too old a list still refuses those.
//! - What a list that is missing or too old means for all others is a person's choice, and written
//!   down ([`WhenStale`]): never a silent one.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, SystemTime};

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use webpki::BorrowedCertRevocationList;
use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry::OID_X509_EXT_REASON_CODE;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, X509Certificate};

use crate::certificate::{instant, rfc2253};
use crate::files::rough;

/// A list of a hundred thousand certificates.
pub const MAX_CRL_BYTES: u64 = 4 << 20;

/// More authorities than a gateway has.
const MAX_LISTS: usize = 16;

/// RFC 5280, 5.3.1: the entry takes a revocation back.
const REMOVE_FROM_LIST: u8 = 8;

/// One list.
#[derive(Clone)]
pub struct Crl {
    der: CertificateRevocationListDer<'static>,
    issuer: String,
    issuer_der: Vec<u8>,
    this_update: SystemTime,
    next_update: Option<SystemTime>,
    /// Without leading zeros.
    withdrawn: BTreeSet<Vec<u8>>,
}

/// Why a text holds no list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CrlError {
    /// It is longer than any list of the field.
    #[error("it is larger than {} MiB", MAX_CRL_BYTES >> 20)]
    TooLarge,
    /// There is nothing that could be one.
    #[error("it holds no revocation list, neither DER nor an X509 CRL block of PEM")]
    None,
    /// Too many.
    #[error("it holds more than {MAX_LISTS} revocation lists")]
    TooMany,
    /// The PEM is broken.
    #[error("its PEM text is broken")]
    Pem,
    /// It is none, or of a kind that is not understood here: a delta, an indirect list.
    #[error("it holds a revocation list that cannot be used ({0})")]
    Unusable(String),
}

/// What the age of a list says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// It is recent enough, for so long.
    Fresh {
        /// Until it is too old.
        left: Duration,
    },
    /// It is too old.
    Stale {
        /// Since when.
        since: Duration,
        /// By which bound.
        bound: StaleBy,
    },
}

/// Which bound made a list too old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StaleBy {
    /// The authority meant to replace it.
    NextUpdate,
    /// It is older than the configuration lets it be.
    MaxAge,
}

/// What a missing or too old list means for certificates that no list names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum WhenStale {
    /// They are taken, and a person is told.
    #[default]
    Accept,
    /// They are refused, and so is every link until a list comes.
    Refuse,
}

/// How old a list may be and what happens then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrlRule {
    /// The greatest age of a list.
    pub max_age: Duration,
    /// What a missing or older one means.
    pub when_stale: WhenStale,
}

impl Default for CrlRule {
    /// A week, and taken.
    fn default() -> Self {
        Self { max_age: Duration::from_secs(168 * 3_600), when_stale: WhenStale::Accept }
    }
}

/// Why a certificate is refused by lists.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RevocationError {
    /// An authority has withdrawn it.
    #[error("the certificate of {subject} with serial {serial} was revoked by {issuer}")]
    Revoked {
        /// Whose.
        subject: String,
        /// Its serial number.
        serial: String,
        /// By whom.
        issuer: String,
    },
    /// Its authority's list is too old, and the configuration refuses then.
    #[error("{}", stale(issuer, *since, *bound))]
    Stale {
        /// The authority.
        issuer: String,
        /// Since when.
        since: Duration,
        /// By which bound.
        bound: StaleBy,
    },
    /// There is no list of its authority, and the configuration refuses then.
    #[error("there is no revocation list of {issuer}; put one there")]
    Unknown {
        /// The authority.
        issuer: String,
    },
    /// It is none.
    #[error("a certificate of the chain cannot be read")]
    Unreadable,
}

fn stale(issuer: &str, since: Duration, bound: StaleBy) -> String {
    let since = rough(since);
    match bound {
        StaleBy::NextUpdate => {
            format!("the revocation list of {issuer} should have been replaced {since} ago")
        }
        StaleBy::MaxAge => {
            format!("the revocation list of {issuer} has been older than allowed for {since}")
        }
    }
}

/// The lists that count here, and the rule for those that are missing or old.
#[derive(Debug, Clone, Default)]
pub struct Revocation {
    lists: Vec<Crl>,
    rule: CrlRule,
}

impl Crl {
    /// Reads one list in DER, or every list of a PEM text.
    ///
    /// # Errors
    /// When one cannot be used, or there is none.
    pub fn read(bytes: &[u8]) -> Result<Vec<Self>, CrlError> {
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_CRL_BYTES {
            return Err(CrlError::TooLarge);
        }
        if is_der(bytes) {
            return Self::of(bytes.to_vec().into()).map(|list| vec![list]);
        }
        let mut lists = Vec::new();
        for der in CertificateRevocationListDer::pem_slice_iter(bytes) {
            if lists.len() == MAX_LISTS {
                return Err(CrlError::TooMany);
            }
            lists.push(Self::of(der.map_err(|_| CrlError::Pem)?)?);
        }
        if lists.is_empty() { Err(CrlError::None) } else { Ok(lists) }
    }

    fn of(der: CertificateRevocationListDer<'static>) -> Result<Self, CrlError> {
        let unusable = |error: &dyn fmt::Debug| CrlError::Unusable(format!("{error:?}"));
        // What TLS would not take is not taken here either: it knows deltas and indirect lists.
        BorrowedCertRevocationList::from_der(&der).map_err(|error| unusable(&error))?;
        let (rest, list) =
            CertificateRevocationList::from_der(&der).map_err(|_| unusable(&"not DER"))?;
        if !rest.is_empty() {
            return Err(unusable(&"bytes after its end"));
        }
        let withdrawn = list
            .iter_revoked_certificates()
            .filter(|entry| {
                !entry.extensions().iter().any(|extension| {
                    extension.oid == OID_X509_EXT_REASON_CODE
                        && matches!(
                            extension.parsed_extension(),
                            ParsedExtension::ReasonCode(reason) if reason.0 == REMOVE_FROM_LIST
                        )
                })
            })
            .map(|entry| bare(entry.raw_serial()).to_vec())
            .collect();
        Ok(Self {
            issuer: rfc2253(list.issuer()),
            issuer_der: list.issuer().as_raw().to_vec(),
            this_update: instant(list.last_update().timestamp()),
            next_update: list.next_update().map(|time| instant(time.timestamp())),
            withdrawn,
            der,
        })
    }

    /// The list itself.
    #[must_use]
    pub fn der(&self) -> &CertificateRevocationListDer<'static> {
        &self.der
    }

    /// The authority, as RFC 2253 writes it.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// When it was made.
    #[must_use]
    pub fn this_update(&self) -> SystemTime {
        self.this_update
    }

    /// When the authority meant to replace it.
    #[must_use]
    pub fn next_update(&self) -> Option<SystemTime> {
        self.next_update
    }

    /// How many certificates it withdraws.
    #[must_use]
    pub fn withdrawn(&self) -> usize {
        self.withdrawn.len()
    }

    /// Whether this authority signed it, and may.
    #[must_use]
    pub fn is_signed_by(&self, authority: &CertificateDer<'_>) -> bool {
        let Ok((_, authority)) = X509Certificate::from_der(authority) else { return false };
        let Ok((_, list)) = CertificateRevocationList::from_der(&self.der) else { return false };
        let may = match authority.key_usage() {
            Ok(usage) => usage.is_none_or(|usage| usage.value.crl_sign()),
            Err(_) => false,
        };
        may && authority.subject().as_raw() == self.issuer_der
            && list.verify_signature(authority.public_key()).is_ok()
    }

    /// Whether it is recent enough at `now`. A list from the future is: the clock may be behind, and
    /// nobody else could have signed it.
    #[must_use]
    pub fn freshness(&self, now: SystemTime, max_age: Duration) -> Freshness {
        let by_age = self.this_update.checked_add(max_age);
        let (end, bound) = match (self.next_update, by_age) {
            (Some(next), Some(age)) if age < next => (age, StaleBy::MaxAge),
            (Some(next), _) => (next, StaleBy::NextUpdate),
            (None, Some(age)) => (age, StaleBy::MaxAge),
            (None, None) => return Freshness::Fresh { left: max_age },
        };
        match end.duration_since(now) {
            Ok(left) => Freshness::Fresh { left },
            Err(past) => Freshness::Stale { since: past.duration(), bound },
        }
    }

    fn concerns(&self, certificate: &X509Certificate<'_>) -> bool {
        certificate.issuer().as_raw() == self.issuer_der
    }

    fn names(&self, certificate: &X509Certificate<'_>) -> bool {
        self.withdrawn.contains(bare(certificate.raw_serial()))
    }
}

impl Revocation {
    /// The lists of `lists` that one of `authorities` signed, and a sentence about each other one.
    #[must_use]
    pub fn new(
        lists: Vec<Crl>,
        authorities: &[CertificateDer<'_>],
        rule: CrlRule,
    ) -> (Self, Vec<String>) {
        let (lists, others): (Vec<_>, Vec<_>) = lists
            .into_iter()
            .partition(|list| authorities.iter().any(|authority| list.is_signed_by(authority)));
        let remarks = others
            .iter()
            .map(|list| {
                format!(
                    "the revocation list of {} is passed over: no authority known here signed it",
                    list.issuer
                )
            })
            .collect();
        (Self { lists, rule }, remarks)
    }

    /// The lists that count.
    #[must_use]
    pub fn lists(&self) -> &[Crl] {
        &self.lists
    }

    /// The rule.
    #[must_use]
    pub fn rule(&self) -> CrlRule {
        self.rule
    }

    /// The list that has been too old for longest, if one is.
    #[must_use]
    pub fn stalest(&self, now: SystemTime) -> Option<RevocationError> {
        let stale = |list: &Crl| match list.freshness(now, self.rule.max_age) {
            Freshness::Fresh { .. } => None,
            Freshness::Stale { since, bound } => {
                Some((since, RevocationError::Stale { issuer: list.issuer.clone(), since, bound }))
            }
        };
        self.lists.iter().filter_map(stale).max_by_key(|(since, _)| *since).map(|(_, told)| told)
    }

    /// Whether a chain may be used at `now`, the peer's own certificate first. A certificate that
    /// signed itself has no authority that could withdraw it.
    ///
    /// # Errors
    /// When one of it was withdrawn, or the rule refuses because a list is missing or too old.
    pub fn judge(
        &self,
        chain: &[CertificateDer<'_>],
        now: SystemTime,
    ) -> Result<(), RevocationError> {
        for der in chain {
            let (_, certificate) =
                X509Certificate::from_der(der).map_err(|_| RevocationError::Unreadable)?;
            if certificate.issuer().as_raw() == certificate.subject().as_raw() {
                continue;
            }
            self.judge_one(&certificate, now)?;
        }
        Ok(())
    }

    fn judge_one(
        &self,
        certificate: &X509Certificate<'_>,
        now: SystemTime,
    ) -> Result<(), RevocationError> {
        let issuer = || rfc2253(certificate.issuer());
        let mut freshest: Option<Freshness> = None;
        for list in self.lists.iter().filter(|list| list.concerns(certificate)) {
            if list.names(certificate) {
                return Err(RevocationError::Revoked {
                    subject: rfc2253(certificate.subject()),
                    serial: bare(certificate.raw_serial())
                        .iter()
                        .map(|byte| format!("{byte:02x}"))
                        .collect(),
                    issuer: issuer(),
                });
            }
            let freshness = list.freshness(now, self.rule.max_age);
            // One fresh list of an authority is enough.
            if !matches!(freshest, Some(Freshness::Fresh { .. })) {
                freshest = Some(freshness);
            }
        }
        match (self.rule.when_stale, freshest) {
            (WhenStale::Accept, _) | (WhenStale::Refuse, Some(Freshness::Fresh { .. })) => Ok(()),
            (WhenStale::Refuse, Some(Freshness::Stale { since, bound })) => {
                Err(RevocationError::Stale { issuer: issuer(), since, bound })
            }
            (WhenStale::Refuse, None) => Err(RevocationError::Unknown { issuer: issuer() }),
        }
    }
}

impl fmt::Debug for Crl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crl")
            .field("issuer", &self.issuer)
            .field("this_update", &self.this_update)
            .field("next_update", &self.next_update)
            .field("withdrawn", &self.withdrawn.len())
            .finish_non_exhaustive()
    }
}

fn bare(serial: &[u8]) -> &[u8] {
    let zeros = serial.iter().take_while(|byte| **byte == 0).count();
    serial.get(zeros..).unwrap_or_default()
}

fn is_der(bytes: &[u8]) -> bool {
    // A SEQUENCE; the length that follows is no printable character for anything this long.
    bytes.first() == Some(&0x30) && bytes.get(1).is_some_and(|byte| !byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests;
