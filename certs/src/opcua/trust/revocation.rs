//! What authorities have withdrawn.
//!
//! # Invariants
//! - A list counts when an authority that is known here signed it, whatever its age: a list that
//!   is too old is remarked and still refuses what it names. Without a list nothing is refused, as
//!   plants without a connection to their authority need it.
//! - Where the configuration refuses ([`WhenStale::Refuse`]), too old a list refuses everything of
//!   its authority, and a file that cannot be read everything that has an authority: nobody gets by
//!   because a list was damaged.
//! - A list that nobody known signed is remarked and changes nothing.

use std::path::Path;
use std::time::{Duration, SystemTime};

use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry::OID_X509_EXT_REASON_CODE;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, X509Certificate};

use super::folders::{self, FolderError, MAX_LIST, shown};
use crate::certificate::{instant, rfc2253};
use crate::crl::{CrlRule, WhenStale};
use crate::files::rough;
use crate::opcua::certificate::Certificate;
use crate::opcua::distrust::{DistrustKind, Flaw};

/// RFC 5280, 5.3.1: the entry takes a revocation back.
const REMOVE_FROM_LIST: u8 = 8;

/// As old as its authority lets it be.
pub(super) const UNTIL_REPLACED: CrlRule =
    CrlRule { max_age: Duration::MAX, when_stale: WhenStale::Accept };

/// One list, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationList {
    /// Its file.
    pub path: std::path::PathBuf,
    /// The authority, as RFC 2253 writes it.
    pub issuer: String,
    /// How many certificates it names.
    pub revoked: usize,
    /// When the authority meant to replace it.
    pub next_update: Option<SystemTime>,
}

/// Calls `look` with every list of the folder; the remark about the first that is none.
fn each(
    dir: &Path,
    remarks: &mut Vec<String>,
    mut look: impl FnMut(&Path, &CertificateRevocationList<'_>, &mut Vec<String>),
) -> Result<Option<String>, FolderError> {
    let mut unread = None;
    for path in folders::files(dir, |_| true)? {
        match folders::read(&path, MAX_LIST).and_then(|bytes| folders::lists_in(&bytes)) {
            Err(why) => {
                let remark = format!("{} is passed over: {why}", shown(&path));
                unread.get_or_insert_with(|| remark.clone());
                remarks.push(remark);
            }
            Ok(lists) => {
                for der in lists {
                    match CertificateRevocationList::from_der(&der) {
                        Ok(([], list)) => look(&path, &list, remarks),
                        _ => {
                            let remark = format!(
                                "{} is passed over: it is no revocation list",
                                shown(&path)
                            );
                            unread.get_or_insert_with(|| remark.clone());
                            remarks.push(remark);
                        }
                    }
                }
            }
        }
    }
    Ok(unread)
}

/// What lists say against a certificate of `chain`; they count when one of `known` signed them.
pub(super) fn flaw<'a>(
    dir: &Path,
    chain: &[&'a Certificate],
    known: &[&Certificate],
    (now, rule): (SystemTime, CrlRule),
    remarks: &mut Vec<String>,
) -> Result<Option<(&'a Certificate, Flaw)>, FolderError> {
    let mut revoked = None;
    // Of whose authority there is a list that is recent enough, and whose is too old.
    let (mut fresh, mut stale) = (Vec::new(), Vec::new());
    let unread = each(dir, remarks, |path, list, remarks| {
        let issuer = list.issuer().as_raw();
        let mut concerned =
            chain.iter().filter(|certificate| certificate.issuer == issuer).peekable();
        if concerned.peek().is_none() {
            return;
        }
        if !known.iter().any(|authority| authority.subject == issuer && signed(authority, list)) {
            remarks
                .push(format!("{} is passed over: no authority known here signed it", shown(path)));
            return;
        }
        match late(list, now, rule.max_age) {
            None => fresh.push(issuer.to_vec()),
            Some(late) => {
                let text = format!("revocation list {} {late}", shown(path));
                remarks.push(format!("{text} and still counts"));
                stale.push((issuer.to_vec(), text));
            }
        }
        for certificate in concerned {
            if names(list, certificate) {
                revoked = Some(*certificate);
            }
        }
    })?;
    if let Some(certificate) = revoked {
        let flaw = Flaw::new(
            DistrustKind::Revoked,
            "was revoked by its authority",
            "give the server a new certificate",
        );
        return Ok(Some((certificate, flaw)));
    }
    if rule.when_stale == WhenStale::Accept {
        return Ok(None);
    }
    let has_authority = |certificate: &&&Certificate| certificate.issuer != certificate.subject;
    for certificate in chain.iter().filter(has_authority) {
        let is_fresh = fresh.contains(&certificate.issuer);
        let old = stale.iter().find(|(issuer, _)| *issuer == certificate.issuer && !is_fresh);
        let doubt = unread.clone().or_else(|| old.map(|(_, why)| why.clone()));
        if let Some(why) = doubt {
            let what = format!("may have been revoked: {why}");
            let remedy =
                "bring the authority's present list with: tidegate identity trust add FILE";
            return Ok(Some((
                *certificate,
                Flaw::new(DistrustKind::RevocationUnknown, what, remedy),
            )));
        }
    }
    Ok(None)
}

/// Why a list is too old, as it follows its name.
fn late(
    list: &CertificateRevocationList<'_>,
    now: SystemTime,
    max_age: Duration,
) -> Option<String> {
    let next = list.next_update().map(|time| instant(time.timestamp()));
    if let Some(late) = next.and_then(|next| now.duration_since(next).ok()) {
        return Some(format!("should have been replaced {} ago", rough(late)));
    }
    let age = now.duration_since(instant(list.last_update().timestamp())).ok()?;
    (age > max_age)
        .then(|| format!("is {} old, more than crl-max-age-hours lets it be", rough(age)))
}

fn signed(authority: &Certificate, list: &CertificateRevocationList<'_>) -> bool {
    X509Certificate::from_der(&authority.der)
        .is_ok_and(|(_, parsed)| list.verify_signature(parsed.public_key()).is_ok())
}

fn names(list: &CertificateRevocationList<'_>, certificate: &Certificate) -> bool {
    let bare = |serial: &[u8]| {
        let zeros = serial.iter().take_while(|byte| **byte == 0).count();
        serial.get(zeros..).unwrap_or_default().to_vec()
    };
    let serial = bare(&certificate.serial);
    list.iter_revoked_certificates().any(|entry| {
        let taken_back = entry.extensions().iter().any(|extension| {
            extension.oid == OID_X509_EXT_REASON_CODE
                && matches!(
                    extension.parsed_extension(),
                    ParsedExtension::ReasonCode(reason) if reason.0 == REMOVE_FROM_LIST
                )
        });
        bare(entry.raw_serial()) == serial && !taken_back
    })
}

/// Every list of the folder.
pub(super) fn all(
    dir: &Path,
    remarks: &mut Vec<String>,
) -> Result<Vec<RevocationList>, FolderError> {
    let mut found = Vec::new();
    each(dir, remarks, |path, list, _| {
        found.push(RevocationList {
            path: path.to_owned(),
            issuer: rfc2253(list.issuer()),
            revoked: list.iter_revoked_certificates().count(),
            next_update: list.next_update().map(|time| instant(time.timestamp())),
        });
    })?;
    Ok(found)
}

/// Whether the bytes are exactly one list, DER.
pub(super) fn is_list(der: &[u8]) -> bool {
    matches!(CertificateRevocationList::from_der(der), Ok(([], _)))
}
