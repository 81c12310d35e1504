//! Certificates of the hub's servers and people, from a lab authority.

use std::time::{Duration, SystemTime};

use tidegate_identity::lab::{LabCa, Lifetime};

use super::super::exit::{DISK, Failure};
use crate::hub::{HubFile, HubFolder, Secrecy};

/// A clock that differs a little between two machines must not refuse a fresh certificate.
const BACKDATED: Duration = Duration::from_secs(300);
/// Long enough for a pilot; `tidegate hub rotate` renews the servers' before.
const A_YEAR: Duration = Duration::from_secs(366 * 86_400);

/// Makes an authority, and certificates for everybody in `file`.
pub(super) fn issue(folder: &HubFolder, file: &HubFile, now: SystemTime) -> Result<(), Failure> {
    let failed = |error: tidegate_identity::lab::IssueError| {
        Failure::new(DISK, crate::causes::chain(&error))
    };
    let lifetime = Lifetime::from(now - BACKDATED);
    let name = format!("Tidegate lab CA {}", file.hub.name);
    let authority = LabCa::new(&name, lifetime.lasting(A_YEAR * 10)).map_err(failed)?;
    folder.write(&folder.ca(), authority.certificate_pem().as_bytes(), Secrecy::Open)?;
    for node in &file.nodes {
        let hosts = node.certified_hosts();
        let issued = authority.hub(node.name.as_str(), &hosts, lifetime.lasting(A_YEAR));
        let issued = issued.map_err(failed)?;
        let own = folder.node(&node.name);
        folder.write(&own.join("key.pem"), issued.key_pem.as_bytes(), Secrecy::Secret)?;
        folder.write(&own.join("cert.pem"), issued.certificate_pem.as_bytes(), Secrecy::Open)?;
    }
    for person in file.people.iter().filter(|person| person.subject.is_none()) {
        let issued = authority.reader(person.name.as_str(), lifetime.lasting(A_YEAR));
        let issued = issued.map_err(failed)?;
        let (cert, key) = (folder.user_cert(&person.name), folder.user_key(&person.name));
        folder.write(&key, issued.key_pem.as_bytes(), Secrecy::Secret)?;
        folder.write(&cert, issued.certificate_pem.as_bytes(), Secrecy::Open)?;
    }
    Ok(())
}
