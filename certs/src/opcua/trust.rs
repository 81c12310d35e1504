//! Which servers are spoken to: by thumbprint, by folder, by authority.
//!
//! # Invariants
//! - A refusal by a person goes before everything else, then what is wrong with the certificate in
//!   itself, then whether anybody trusts it, then whether it fits this server now.
//! - Approval by a person says who it is and nothing else: time, names, strength and revocation are
//!   asked of an approved certificate too.
//! - Each refusal is one sentence with the thumbprint and what helps.

mod chain;
mod folders;
mod revocation;
mod shelf;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use self::chain::{Found, Pool};
pub use self::folders::FolderError;
use self::folders::{Filed, REFUSED};
pub use self::revocation::RevocationList;
pub use self::shelf::{Change, Listed, Listing, Standing, TrustError};
use super::certificate::{Certificate, Key, tame};
use super::distrust::{Distrust, DistrustKind, Flaw, misused, untimely, weak};
use super::thumbprint::Thumbprint;
use crate::crl::CrlRule;

/// The most bytes of a chain that are looked at: ten certificates with RSA-4096 keys are 25 kB.
const MAX_CHAIN_BYTES: usize = 64 << 10;
/// The most certificates of a chain.
const MAX_CHAIN: usize = 10;
/// How many of a certificate's names a message repeats.
const MAX_SHOWN: usize = 4;

/// The folders.
#[derive(Debug, Clone)]
pub struct TrustStore {
    dir: PathBuf,
    rule: CrlRule,
}

/// What a server's certificate must fit.
#[derive(Debug, Clone, Copy)]
pub struct Expectation<'a> {
    /// The application URI that it must name.
    pub application_uri: &'a str,
    /// The host that is dialled: a name or an address.
    pub host: &'a str,
    /// Whether it may name any host.
    pub any_host: bool,
    /// Accepted beside those of the folders.
    pub thumbprints: &'a [Thumbprint],
    /// What time it is.
    pub now: SystemTime,
}

/// Why a certificate is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The server's certificate.
    pub thumbprint: Thumbprint,
    /// By whom.
    pub by: AcceptedBy,
    /// What a person should know: a revocation list that is too old, a file that cannot be read.
    /// One sentence each.
    pub remarks: Vec<String>,
}

/// By whom a certificate is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptedBy {
    /// Its thumbprint is configured.
    Thumbprint,
    /// It lies among the trusted.
    Folder,
    /// A trusted authority signed it, or one below signed it.
    Authority(Thumbprint),
}

/// What is in the folders.
struct Known {
    trusted: Vec<Certificate>,
    issuers: Vec<Certificate>,
    refused: Vec<Thumbprint>,
}

impl TrustStore {
    /// The folders below the folder of OPC UA, whether they are there or not.
    #[must_use]
    pub fn below(opcua: &Path) -> Self {
        Self { dir: opcua.to_owned(), rule: revocation::UNTIL_REPLACED }
    }

    /// How old a revocation list may be, and what an older one means for the servers of its
    /// authority. Unless told, it may be as old as the authority says, and is remarked then.
    #[must_use]
    pub fn revoking(self, rule: CrlRule) -> Self {
        Self { rule, ..self }
    }

    pub(super) fn trusted(&self) -> PathBuf {
        self.dir.join("trusted")
    }

    pub(super) fn issuers(&self) -> PathBuf {
        self.dir.join("issuers")
    }

    pub(super) fn lists(&self) -> PathBuf {
        self.dir.join("crl")
    }

    pub(super) fn rejected(&self) -> PathBuf {
        self.dir.join("rejected")
    }

    /// Judges the certificate that a server showed, followed by its chain as far as the server
    /// sent it: DER, one behind the other. One that nobody knows is kept among the rejected. Reads
    /// files, and so blocks the thread.
    ///
    /// # Errors
    /// With the reason why the server must not be spoken to.
    pub fn judge(&self, chain: &[u8], expected: &Expectation<'_>) -> Result<Accepted, Distrust> {
        let (leaf, others) = shown_chain(chain)?;
        let store = |error: FolderError| Distrust {
            kind: DistrustKind::Store,
            text: format!(
                "nobody can be trusted because the trust folders cannot be used: {error}: {}; \
                 let the user that runs tidegate read them",
                error.source
            ),
            thumbprint: Some(leaf.thumbprint),
        };
        let (known, mut remarks) = self.known().map_err(store)?;
        if known.refused.contains(&leaf.thumbprint) {
            return Err(
                Flaw::new(DistrustKind::Rejected, "was rejected here", approve(&leaf)).of(&leaf)
            );
        }
        if let Some(flaw) = weak(&leaf).or_else(|| not_rsa(&leaf)) {
            return Err(flaw.of(&leaf));
        }
        let candidates = [known.issuers.as_slice(), &others].concat();
        let (by, path) = self.trust(&leaf, &candidates, &known, &remarks, expected)?;
        let chain: Vec<&Certificate> = std::iter::once(&leaf).chain(path.iter().copied()).collect();
        let signers: Vec<&Certificate> =
            path.iter().copied().chain(&known.trusted).chain(&known.issuers).collect();
        let withdrawn = revocation::flaw(
            &self.lists(),
            &chain,
            &signers,
            (expected.now, self.rule),
            &mut remarks,
        );
        if let Some((flawed, flaw)) = withdrawn.map_err(store)? {
            return Err(if flawed.thumbprint == leaf.thumbprint {
                flaw.of(&leaf)
            } else {
                flaw.of_authority(flawed, &leaf)
            });
        }
        match unfit(&leaf, expected) {
            Some(flaw) => Err(flaw.of(&leaf)),
            None => {
                folders::forget(&self.rejected(), &leaf);
                Ok(Accepted { thumbprint: leaf.thumbprint, by, remarks })
            }
        }
    }

    /// Who trusts it, and the authorities that lead there.
    fn trust<'a>(
        &self,
        leaf: &Certificate,
        candidates: &'a [Certificate],
        known: &'a Known,
        remarks: &[String],
        expected: &Expectation<'_>,
    ) -> Result<(AcceptedBy, Vec<&'a Certificate>), Distrust> {
        if expected.thumbprints.contains(&leaf.thumbprint) {
            return Ok((AcceptedBy::Thumbprint, Vec::new()));
        }
        if known.trusted.iter().any(|trusted| trusted.thumbprint == leaf.thumbprint) {
            return Ok((AcceptedBy::Folder, Vec::new()));
        }
        let pool = Pool {
            trusted: &known.trusted,
            others: candidates,
            refused: &known.refused,
            now: expected.now,
        };
        match chain::search(leaf, pool) {
            Found::Path(path) => {
                if let Some(oid) = &leaf.obscure {
                    let what = format!("has a critical extension that is not known here ({oid})");
                    return Err(Flaw::new(DistrustKind::Unusable, what, approve(leaf)).of(leaf));
                }
                let anchor = path.last().map_or(leaf.thumbprint, |anchor| anchor.thumbprint);
                Ok((AcceptedBy::Authority(anchor), path))
            }
            Found::Flawed(distrust) => Err(distrust),
            Found::Nothing => Err(self.unknown(leaf, remarks, expected)),
        }
    }

    /// Keeps an unknown certificate and says how it is approved.
    fn unknown(
        &self,
        leaf: &Certificate,
        remarks: &[String],
        expected: &Expectation<'_>,
    ) -> Distrust {
        let mut what = "is not approved".to_owned();
        // Whoever approves it should not learn afterwards that this was not enough.
        if let Some(flaw) = unfit(leaf, expected) {
            what = format!("{what} and {}", flaw.what);
        }
        let mut remedy = match folders::keep(&self.rejected(), leaf) {
            Ok(_) => approve(leaf),
            Err(error) => format!(
                "it could not be kept ({error}: {}), so approve it from a file with: \
                 tidegate identity trust add FILE",
                error.source
            ),
        };
        if let Some(remark) = remarks.first() {
            remedy = format!("{remedy} ({remark})");
        }
        Flaw::new(DistrustKind::Unknown, what, remedy).of(leaf)
    }

    /// What is in the folders, and what of it cannot be read.
    fn known(&self) -> Result<(Known, Vec<String>), FolderError> {
        let owned = |filed: Vec<Filed>| filed.into_iter().map(|filed| filed.certificate).collect();
        let (trusted, mut remarks) = folders::certificates(&self.trusted(), |_| true)?;
        let (issuers, more) = folders::certificates(&self.issuers(), |_| true)?;
        let (refused, most) =
            folders::certificates(&self.rejected(), |name| name.ends_with(REFUSED))?;
        remarks.extend(more);
        remarks.extend(most);
        let known = Known {
            trusted: owned(trusted),
            issuers: owned(issuers),
            refused: refused.iter().map(|filed| filed.certificate.thumbprint).collect(),
        };
        Ok((known, remarks))
    }
}

/// The server's certificate and what it sent with it.
fn shown_chain(chain: &[u8]) -> Result<(Certificate, Vec<Certificate>), Distrust> {
    let unusable = |text: String| Distrust { kind: DistrustKind::Unusable, text, thumbprint: None };
    if chain.is_empty() {
        return Err(unusable(
            "the server shows no certificate; give it one, or connect without security".to_owned(),
        ));
    }
    if chain.len() > MAX_CHAIN_BYTES {
        return Err(unusable(format!(
            "the server shows certificates of {} bytes, more than {MAX_CHAIN_BYTES}; shorten its \
             chain",
            chain.len()
        )));
    }
    let (leaf, mut rest) = Certificate::split(chain).map_err(|error| {
        unusable(format!(
            "what the server shows as its certificate is none ({error}); give it another one"
        ))
    })?;
    let mut others = Vec::new();
    while !rest.is_empty() {
        let next = Certificate::split(rest).ok().filter(|_| others.len() + 1 < MAX_CHAIN);
        let Some((certificate, after)) = next else {
            let left = rest.len();
            let flaw = Flaw::new(
                DistrustKind::Unusable,
                format!("is followed by {left} bytes that are no chain of at most {MAX_CHAIN}"),
                "correct the chain at the server",
            );
            return Err(flaw.of(&leaf));
        };
        others.push(certificate);
        rest = after;
    }
    Ok((leaf, others))
}

fn approve(certificate: &Certificate) -> String {
    format!(
        "compare it with the server and approve it with: tidegate identity trust approve {}",
        certificate.thumbprint.short()
    )
}

fn not_rsa(leaf: &Certificate) -> Option<Flaw> {
    (leaf.key == Key::Other).then(|| {
        Flaw::new(
            DistrustKind::Unusable,
            "has no RSA key, and the security policies spoken here know no other",
            "have the server make a new one",
        )
    })
}

/// What keeps an approved certificate from being this server's.
fn unfit(leaf: &Certificate, expected: &Expectation<'_>) -> Option<Flaw> {
    untimely(leaf, expected.now)
        .or_else(|| wrong_uri(leaf, expected.application_uri))
        .or_else(|| if expected.any_host { None } else { wrong_host(leaf, expected.host) })
        .or_else(|| misused(leaf))
}

fn wrong_uri(leaf: &Certificate, wanted: &str) -> Option<Flaw> {
    if leaf.uris.iter().any(|uri| uri == wanted) {
        return None;
    }
    let named = if leaf.uris.is_empty() {
        "names no application URI".to_owned()
    } else {
        format!("names the application URI {}", some(leaf.uris.iter().map(String::as_str)))
    };
    Some(Flaw::new(
        DistrustKind::WrongUri,
        format!("{named} and not \"{}\"", tame(wanted)),
        "have the server make a new one, or correct server-uri",
    ))
}

fn wrong_host(leaf: &Certificate, wanted: &str) -> Option<Flaw> {
    let bare = |host: &str| host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let named = leaf.hosts.iter().any(|host| bare(host) == bare(wanted));
    // Some makers write addresses as names: those were compared above.
    let addressed = wanted.parse::<IpAddr>().is_ok_and(|wanted| leaf.addresses.contains(&wanted));
    if named || addressed {
        return None;
    }
    let all: Vec<String> =
        leaf.hosts.iter().cloned().chain(leaf.addresses.iter().map(ToString::to_string)).collect();
    let what = if all.is_empty() {
        format!("names no host, and so not \"{}\"", tame(wanted))
    } else {
        format!(
            "names {} and not the host \"{}\"",
            some(all.iter().map(String::as_str)),
            tame(wanted)
        )
    };
    Some(Flaw::new(
        DistrustKind::WrongHost,
        what,
        "dial it by a name that it has, have the server make a new one, or set check-host = false",
    ))
}

/// The first few, for a message.
fn some<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = names.len().saturating_sub(MAX_SHOWN);
    let mut text = names
        .take(MAX_SHOWN)
        .map(|name| format!("\"{}\"", tame(name)))
        .collect::<Vec<_>>()
        .join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

#[cfg(test)]
mod tests;
