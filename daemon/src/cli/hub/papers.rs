//! Certificates of the hub's servers and people, from its lab authority.
//!
//! # Invariants
//! - What is there is never replaced: a certificate is renewed by `tidegate hub rotate`, on purpose.

use std::path::Path;
use std::time::{Duration, SystemTime};

use tidegate_identity::authority_store::{AuthorityStore, AuthorityStoreError};
use tidegate_identity::lab::Issued;

use super::super::exit::{DISK, Failure};
use crate::hub::{HubFile, HubFolder, Secrecy};

/// Long enough for a pilot; `tidegate hub audit` tells when one ends soon.
const A_YEAR: Duration = Duration::from_secs(366 * 86_400);

/// Makes an authority where there is none, and certificates for everybody in `file`.
pub(super) fn issue(folder: &HubFolder, file: &HubFile, now: SystemTime) -> Result<(), Failure> {
    let name = format!("Tidegate lab CA {}", file.hub.name);
    let authority = match AuthorityStore::open(folder.authority()) {
        Err(AuthorityStoreError::Missing { .. }) => {
            AuthorityStore::create(folder.authority(), &name, A_YEAR * 10, now)
        }
        opened => opened,
    };
    let authority = authority.map_err(refused)?;
    folder.write(&folder.ca(), authority.certificate_pem().as_bytes(), Secrecy::Open)?;
    issue_missing(folder, file, &authority, now)
}

/// Makes the certificates that are not there, where the hub has a lab authority.
pub(super) fn complete(folder: &HubFolder, file: &HubFile, now: SystemTime) -> Result<(), Failure> {
    match AuthorityStore::open(folder.authority()) {
        Ok(authority) => issue_missing(folder, file, &authority, now),
        // Somebody else signs.
        Err(AuthorityStoreError::Missing { .. }) => Ok(()),
        Err(error) => Err(refused(error)),
    }
}

fn issue_missing(
    folder: &HubFolder,
    file: &HubFile,
    authority: &AuthorityStore,
    now: SystemTime,
) -> Result<(), Failure> {
    for node in &file.nodes {
        let own = folder.node(&node.name);
        let (cert, key) = (own.join("cert.pem"), own.join("key.pem"));
        if !cert.exists() || !key.exists() {
            let hosts = node.certified_hosts();
            let issued = authority.server(node.name.as_str(), &hosts, A_YEAR, now);
            keep(folder, &cert, &key, &issued.map_err(refused)?)?;
        }
    }
    // Whose subject is another one has a certificate from somewhere else.
    for person in file.people.iter().filter(|person| person.subject.is_none()) {
        let (cert, key) = (folder.user_cert(&person.name), folder.user_key(&person.name));
        if !cert.exists() || !key.exists() {
            let issued = authority.person(person.name.as_str(), A_YEAR, now);
            keep(folder, &cert, &key, &issued.map_err(refused)?)?;
        }
    }
    Ok(())
}

fn keep(folder: &HubFolder, cert: &Path, key: &Path, issued: &Issued) -> Result<(), Failure> {
    // Both are missing or neither counts, so the key goes first.
    folder.write(key, issued.key_pem.as_bytes(), Secrecy::Secret)?;
    folder.write(cert, issued.certificate_pem.as_bytes(), Secrecy::Open)?;
    Ok(())
}

fn refused(error: AuthorityStoreError) -> Failure {
    Failure::new(DISK, crate::causes::chain(&error))
}
