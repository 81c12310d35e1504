//! What people do with the folders: look, approve, reject, add.
//!
//! # Invariants
//! - A certificate is written where it goes before it is removed where it was: a power cut leaves
//!   it in both, and the refusal wins.
//! - Only what a person names by an unambiguous thumbprint is moved.

use std::path::{Path, PathBuf};

use super::TrustStore;
use super::folders::{self, Filed, FolderError, MAX_LIST, REFUSED};
use super::revocation::{self, RevocationList};
use crate::certificate::CertificateFacts;
use crate::opcua::certificate::{Certificate, Key};
use crate::opcua::thumbprint::{Thumbprint, ThumbprintPrefix, sha1};

/// What a certificate in the folders counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// A server showed it and nobody has decided.
    Waiting,
    /// A person approved it.
    Trusted,
    /// It completes chains.
    Issuer,
    /// A person refused it.
    Rejected,
}

impl Standing {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Trusted => "trusted",
            Self::Issuer => "issuer",
            Self::Rejected => "rejected",
        }
    }
}

/// A certificate of the folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// What it counts as.
    pub standing: Standing,
    /// Its file.
    pub path: PathBuf,
    /// Its thumbprint.
    pub thumbprint: Thumbprint,
    /// Its SHA-1, hexadecimal: what many a server's screen calls its thumbprint.
    pub sha1: String,
    /// What it says.
    pub facts: CertificateFacts,
    /// The URIs that it names.
    pub uris: Vec<String>,
    /// Whether whatever it signs is trusted with it.
    pub is_authority: bool,
    /// The size of its RSA key in bits.
    pub rsa_bits: Option<usize>,
}

/// Everything in the folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The certificates, those that wait for a person first.
    pub certificates: Vec<Listed>,
    /// The revocation lists.
    pub lists: Vec<RevocationList>,
    /// What could not be read.
    pub remarks: Vec<String>,
}

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The certificate stands like this now.
    Moved(Listed),
    /// It stood like this before.
    Nothing(Listed),
    /// A revocation list was added.
    List(PathBuf),
}

/// Why a command did nothing.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The folders cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// No certificate has this thumbprint.
    #[error("no certificate in {dir} has a thumbprint that begins with {prefix}; tidegate identity trust list shows all", dir = dir.display())]
    NoSuch {
        /// The folder.
        dir: PathBuf,
        /// What was looked for.
        prefix: ThumbprintPrefix,
    },
    /// More than one has.
    #[error("{count} certificates have a thumbprint that begins with {prefix}; give more digits")]
    Ambiguous {
        /// What was looked for.
        prefix: ThumbprintPrefix,
        /// How many.
        count: usize,
    },
    /// A file is nothing that can be added.
    #[error("{path} cannot be added: {why}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

impl TrustStore {
    /// Everything in the folders.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn list(&self) -> Result<Listing, FolderError> {
        let mut remarks = Vec::new();
        let mut certificates: Vec<Listed> = self
            .all(&mut remarks)?
            .iter()
            .map(|(standing, filed)| listed(*standing, filed))
            .collect();
        certificates.sort_by(|a, b| {
            (a.standing, &a.facts.subject, &a.path).cmp(&(b.standing, &b.facts.subject, &b.path))
        });
        let lists = revocation::all(&self.lists(), &mut remarks)?;
        Ok(Listing { certificates, lists, remarks })
    }

    /// Moves a certificate that was shown or rejected among the trusted.
    ///
    /// # Errors
    /// When none or more than one fits, or the folders refuse.
    pub fn approve(&self, prefix: &ThumbprintPrefix) -> Result<Change, TrustError> {
        let found = self.find(prefix, |standing| standing != Standing::Issuer)?;
        self.shift(&found, Standing::Trusted, &self.trusted(), ".der")
    }

    /// Moves a certificate that was shown or approved among those that are refused for good.
    ///
    /// # Errors
    /// When none or more than one fits, or the folders refuse.
    pub fn reject(&self, prefix: &ThumbprintPrefix) -> Result<Change, TrustError> {
        let found = self.find(prefix, |standing| standing != Standing::Issuer)?;
        self.shift(&found, Standing::Rejected, &self.rejected(), REFUSED)
    }

    /// Takes a certificate out of a file among the trusted, or as an issuer; or a revocation list.
    ///
    /// # Errors
    /// When the file holds neither or more than one certificate, or the folders refuse.
    pub fn add(&self, path: &Path, as_issuer: bool) -> Result<Change, TrustError> {
        let refuse = |why: String| TrustError::File { path: path.to_owned(), why };
        let bytes = folders::read(path, MAX_LIST).map_err(refuse)?;
        let lists = folders::lists_in(&bytes).unwrap_or_default();
        if let [der] = lists.as_slice()
            && revocation::is_list(der)
        {
            let name = format!("{}.crl", Thumbprint::of(der).short());
            return Ok(Change::List(folders::write(&self.lists(), &name, der)?));
        }
        let mut certificates = folders::certificates_in(&bytes).map_err(refuse)?;
        let (Some(certificate), true) = (certificates.pop(), certificates.is_empty()) else {
            return Err(refuse(
                "it holds more than one certificate; add them one by one".to_owned(),
            ));
        };
        if as_issuer && certificate.authority.is_none() {
            return Err(refuse("it is no authority's certificate".to_owned()));
        }
        let (standing, dir) = if as_issuer {
            (Standing::Issuer, self.issuers())
        } else {
            (Standing::Trusted, self.trusted())
        };
        let everywhere = self.all(&mut Vec::new())?;
        let same: Vec<_> = everywhere
            .into_iter()
            .filter(|(_, filed)| filed.certificate.thumbprint == certificate.thumbprint)
            .collect();
        let known = same.iter().find(|(known, _)| *known == standing);
        if let Some((_, filed)) = known
            && !same.iter().any(|(other, _)| *other == Standing::Rejected)
        {
            return Ok(Change::Nothing(listed(standing, filed)));
        }
        let filed = put(&dir, certificate, ".der")?;
        // Whoever adds it does not refuse it, and it no longer waits.
        for (other, old) in &same {
            if matches!(other, Standing::Rejected | Standing::Waiting) && old.alone {
                folders::remove(&old.path)?;
            }
        }
        Ok(Change::Moved(listed(standing, &filed)))
    }

    fn all(&self, remarks: &mut Vec<String>) -> Result<Vec<(Standing, Filed)>, FolderError> {
        let refused = |name: &str| name.ends_with(REFUSED);
        let mut all = Vec::new();
        let mut take = |standing, (found, said): (Vec<Filed>, Vec<String>)| {
            all.extend(found.into_iter().map(|filed| (standing, filed)));
            remarks.extend(said);
        };
        take(Standing::Trusted, folders::certificates(&self.trusted(), |_| true)?);
        take(Standing::Issuer, folders::certificates(&self.issuers(), |_| true)?);
        take(Standing::Rejected, folders::certificates(&self.rejected(), refused)?);
        take(Standing::Waiting, folders::certificates(&self.rejected(), |name| !refused(name))?);
        Ok(all)
    }

    /// Every file of the one certificate that fits.
    fn find(
        &self,
        prefix: &ThumbprintPrefix,
        wanted: impl Fn(Standing) -> bool,
    ) -> Result<Vec<(Standing, Filed)>, TrustError> {
        let mut found = self.all(&mut Vec::new())?;
        found.retain(|(standing, filed)| {
            wanted(*standing) && prefix.fits(&filed.certificate.thumbprint)
        });
        let mut thumbprints: Vec<_> =
            found.iter().map(|(_, filed)| filed.certificate.thumbprint).collect();
        thumbprints.sort_unstable();
        thumbprints.dedup();
        match thumbprints.len() {
            0 => Err(TrustError::NoSuch { dir: self.dir.clone(), prefix: prefix.clone() }),
            1 => Ok(found),
            count => Err(TrustError::Ambiguous { prefix: prefix.clone(), count }),
        }
    }

    fn shift(
        &self,
        found: &[(Standing, Filed)],
        to: Standing,
        dir: &Path,
        suffix: &str,
    ) -> Result<Change, TrustError> {
        let (there, elsewhere): (Vec<_>, Vec<_>) =
            found.iter().partition(|(standing, _)| *standing == to);
        let filed = match (there.first(), elsewhere.first()) {
            (Some((_, filed)), None) => return Ok(Change::Nothing(listed(to, filed))),
            (Some((_, filed)), Some(_)) => filed.clone(),
            (None, Some((_, filed))) => put(dir, filed.certificate.clone(), suffix)?,
            (None, None) => {
                return Err(TrustError::File {
                    path: dir.to_owned(),
                    why: "there is nothing to move".to_owned(),
                });
            }
        };
        for (standing, old) in elsewhere {
            // A bundle that a person put there holds others too, and stays. Where it is trusted,
            // the refusal goes before it.
            if old.alone {
                folders::remove(&old.path)?;
            } else if *standing == Standing::Rejected {
                return Err(TrustError::File {
                    path: old.path.clone(),
                    why: "it holds other certificates too; take it apart".to_owned(),
                });
            }
        }
        Ok(Change::Moved(listed(to, &filed)))
    }
}

fn put(dir: &Path, certificate: Certificate, suffix: &str) -> Result<Filed, FolderError> {
    let name = folders::file_name(&certificate, suffix);
    let path = folders::write(dir, &name, &certificate.der)?;
    Ok(Filed { path, certificate, alone: true })
}

fn listed(standing: Standing, filed: &Filed) -> Listed {
    let certificate = &filed.certificate;
    Listed {
        standing,
        path: filed.path.clone(),
        thumbprint: certificate.thumbprint,
        sha1: sha1(&certificate.der),
        facts: certificate.facts.clone(),
        uris: certificate.uris.clone(),
        is_authority: certificate.authority.is_some(),
        rsa_bits: match certificate.key {
            Key::Rsa(bits) => Some(bits),
            Key::Other => None,
        },
    }
}
