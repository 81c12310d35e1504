//! What authorities have withdrawn.
//!
//! # Invariants
//! - A list counts when an authority that is known here signed it, whatever its age: a list that
//!   should have been replaced is remarked and still refuses what it names. Without a list nothing
//!   is refused, as plants without a connection to their authority need it.
//! - A list that cannot be read, or that nobody known signed, is remarked and changes nothing.

use std::path::Path;
use std::time::SystemTime;

use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry::OID_X509_EXT_REASON_CODE;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, X509Certificate};

use super::folders::{self, FolderError, MAX_LIST, shown};
use crate::certificate::{instant, rfc2253};
use crate::files::rough;
use crate::opcua::certificate::Certificate;

/// RFC 5280, 5.3.1: the entry takes a revocation back.
const REMOVE_FROM_LIST: u8 = 8;

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

/// Calls `look` with every list of the folder.
fn each(
    dir: &Path,
    remarks: &mut Vec<String>,
    mut look: impl FnMut(&Path, &CertificateRevocationList<'_>, &mut Vec<String>),
) -> Result<(), FolderError> {
    for path in folders::files(dir, |_| true)? {
        match folders::read(&path, MAX_LIST).and_then(|bytes| folders::lists_in(&bytes)) {
            Err(why) => remarks.push(format!("{} is passed over: {why}", shown(&path))),
            Ok(lists) => {
                for der in lists {
                    match CertificateRevocationList::from_der(&der) {
                        Ok(([], list)) => look(&path, &list, remarks),
                        _ => remarks.push(format!(
                            "{} is passed over: it is no revocation list",
                            shown(&path)
                        )),
                    }
                }
            }
        }
    }
    Ok(())
}

/// Which of `chain` an authority out of `known` has withdrawn.
pub(super) fn revoked<'a>(
    dir: &Path,
    chain: &[&'a Certificate],
    known: &[&Certificate],
    now: SystemTime,
    remarks: &mut Vec<String>,
) -> Result<Option<&'a Certificate>, FolderError> {
    let mut found = None;
    each(dir, remarks, |path, list, remarks| {
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
        let next = list.next_update().map(|time| instant(time.timestamp()));
        if let Some(late) = next.and_then(|next| now.duration_since(next).ok()) {
            remarks.push(format!(
                "revocation list {} should have been replaced {} ago and still counts",
                shown(path),
                rough(late)
            ));
        }
        for certificate in concerned {
            if names(list, certificate) {
                found = Some(*certificate);
            }
        }
    })?;
    Ok(found)
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
