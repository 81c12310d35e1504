//! The files that an operator hands over: whom we trust, who we are, and our key.
//!
//! Everything that is wrong with them is told in one run, each with the file and what to do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::certificate::{CertificateError, CertificateFacts, Validity};
use crate::identity::{Identity, IdentityError, certificates_of};
use crate::key::KeyError;

/// No certificate file of the field comes near: ten certificates with RSA-4096 keys are 25 kB.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Where the three PEM files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorFiles {
    /// Certificates of the authorities that the hub's certificate may come from.
    pub ca: PathBuf,
    /// Our certificate, followed by those between it and the authority.
    pub cert: PathBuf,
    /// Our private key, not encrypted.
    pub key: PathBuf,
}

/// Which of the files a mistake is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PemFile {
    /// Whom we trust.
    Ca,
    /// Who we are.
    Cert,
    /// Our key.
    Key,
}

impl fmt::Display for PemFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ca => "ca",
            Self::Cert => "cert",
            Self::Key => "key",
        })
    }
}

/// The authorities that we trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// Their certificates.
    pub certificates: Vec<CertificateDer<'static>>,
    /// What they say, in the same order.
    pub facts: Vec<CertificateFacts>,
}

/// What is wrong with one of the files.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is not there.
    #[error("{file} file {path} does not exist; put it there or correct tls.{file}", path = path.display())]
    Missing {
        /// Which one.
        file: PemFile,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("{file} file {path} cannot be read; let the user that runs tidegate read it", path = path.display())]
    Unreadable {
        /// Which one.
        file: PemFile,
        /// Where it is.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is far too large.
    #[error("{file} file {path} is larger than {MAX_FILE_BYTES} bytes; it is no PEM file", path = path.display())]
    TooLarge {
        /// Which one.
        file: PemFile,
        /// Where it is.
        path: PathBuf,
    },
    /// There is no certificate in it.
    #[error("{file} file {path} holds no certificate; it needs a block that begins with -----BEGIN CERTIFICATE-----", path = path.display())]
    NoCertificate {
        /// Which one.
        file: PemFile,
        /// Where it is.
        path: PathBuf,
    },
    /// What stands in it as a certificate is none.
    #[error("{file} file {path} holds a broken certificate; export it again as PEM", path = path.display())]
    BrokenCertificate {
        /// Which one.
        file: PemFile,
        /// Where it is.
        path: PathBuf,
        /// What is broken.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is no usable key in it.
    #[error("key file {path} holds no usable private key; it needs an unencrypted EC, Ed25519 or RSA key in PEM", path = path.display())]
    Key {
        /// Where it is.
        path: PathBuf,
        /// Why.
        #[source]
        source: KeyError,
    },
    /// Key and certificate are not of one pair.
    #[error("key file {key} does not belong to the certificate of {subject} in {cert}; take both from the same request", key = key.display(), cert = cert.display())]
    Mismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        cert: PathBuf,
        /// Whose certificate it is.
        subject: String,
    },
    /// The time of the certificate is over.
    #[error("certificate of {subject} in {file} file {path} expired {since} ago; renew it, or correct the clock", path = path.display(), since = rough(*since))]
    Expired {
        /// Which one.
        file: PemFile,
        /// Where it is.
        path: PathBuf,
        /// Whose.
        subject: String,
        /// Since when.
        since: Duration,
    },
    /// The time of the certificate has not begun.
    #[error("certificate of {subject} in {file} file {path} becomes valid only in {begins_in}; correct the clock, or wait", path = path.display(), begins_in = rough(*begins_in))]
    NotYetValid {
        /// Which one.
        file: PemFile,
        /// Where it is.
        path: PathBuf,
        /// Whose.
        subject: String,
        /// Until when.
        begins_in: Duration,
    },
}

impl FileError {
    /// Whether time alone, or a corrected clock, may mend it. The daemon then goes on with the
    /// files: the hub decides, and collecting never waits for it.
    #[must_use]
    pub fn is_about_time(&self) -> bool {
        matches!(self, Self::Expired { .. } | Self::NotYetValid { .. })
    }
}

impl OperatorFiles {
    /// Reads and checks all three files and reports every mistake. Certificates outside their
    /// time at `now` are mistakes too ([`FileError::is_about_time`]).
    ///
    /// # Errors
    /// Everything that is wrong, the authority's file first; never an empty list.
    pub fn check(&self, now: SystemTime) -> Result<(Trust, Identity), Vec<FileError>> {
        let mut errors = Vec::new();
        let trust = match load_trust(&self.ca) {
            Ok(trust) => {
                // One usable authority is enough: bundles keep retired ones for a while.
                let mistakes: Vec<_> = trust
                    .facts
                    .iter()
                    .map(|facts| time_error(PemFile::Ca, &self.ca, facts, now))
                    .collect();
                if mistakes.iter().all(Option::is_some) {
                    errors.extend(mistakes.into_iter().flatten().next());
                }
                Some(trust)
            }
            Err(error) => {
                errors.push(error);
                None
            }
        };
        let identity = self.read_identity(&mut errors);
        if let Some(identity) = &identity {
            errors.extend(time_error(PemFile::Cert, &self.cert, identity.facts(), now));
        }
        match (trust, identity) {
            (Some(trust), Some(identity)) if errors.is_empty() => Ok((trust, identity)),
            _ => Err(errors),
        }
    }

    /// Certificate and key, when nothing is wrong with them.
    fn read_identity(&self, errors: &mut Vec<FileError>) -> Option<Identity> {
        let cert = read(PemFile::Cert, &self.cert).map_err(|error| errors.push(error)).ok();
        let key = read(PemFile::Key, &self.key).map_err(|error| errors.push(error)).ok();
        match (cert, key) {
            (Some(cert), Some(key)) => self.identity(&cert, &key, errors),
            // The one that is there is still looked at.
            (Some(cert), None) => {
                errors.extend(self.certificate_error(certificates_of(&cert).err()));
                None
            }
            (None, Some(key)) => {
                let key = crate::key::PrivateKey::from_pem(&key);
                errors.extend(
                    key.err().map(|source| FileError::Key { path: self.key.clone(), source }),
                );
                None
            }
            (None, None) => None,
        }
    }

    fn identity(&self, cert: &[u8], key: &[u8], errors: &mut Vec<FileError>) -> Option<Identity> {
        let key = match crate::key::PrivateKey::from_pem(key) {
            Ok(key) => key,
            Err(source) => {
                errors.push(FileError::Key { path: self.key.clone(), source });
                errors.extend(self.certificate_error(certificates_of(cert).err()));
                return None;
            }
        };
        let made = certificates_of(cert).and_then(|chain| Identity::new(key, chain));
        made.map_err(|error| errors.extend(self.certificate_error(Some(error)))).ok()
    }

    fn certificate_error(&self, error: Option<IdentityError>) -> Option<FileError> {
        Some(match error? {
            IdentityError::Key(source) => FileError::Key { path: self.key.clone(), source },
            IdentityError::Mismatch { subject } => {
                FileError::Mismatch { key: self.key.clone(), cert: self.cert.clone(), subject }
            }
            other => broken(PemFile::Cert, &self.cert, other),
        })
    }
}

/// Reads the authorities' file.
///
/// # Errors
/// When it is missing, unreadable, without a certificate, or holds a broken one.
pub fn load_trust(path: &Path) -> Result<Trust, FileError> {
    let text = read(PemFile::Ca, path)?;
    let certificates = certificates_of(&text).map_err(|error| broken(PemFile::Ca, path, error))?;
    let facts = certificates
        .iter()
        .map(CertificateFacts::of)
        .collect::<Result<Vec<_>, CertificateError>>()
        .map_err(|error| broken(PemFile::Ca, path, IdentityError::Certificate(error)))?;
    Ok(Trust { certificates, facts })
}

/// Reads a certificate with those between it and its authority, and its key. Validity in time is
/// not looked at: ask [`Identity::facts`].
///
/// # Errors
/// Everything that is wrong with the two files; never an empty list.
pub fn load_identity(cert: &Path, key: &Path) -> Result<Identity, Vec<FileError>> {
    let (ca, cert, key) = (PathBuf::new(), cert.to_owned(), key.to_owned());
    let mut errors = Vec::new();
    OperatorFiles { ca, cert, key }.read_identity(&mut errors).ok_or(errors)
}

fn broken(file: PemFile, path: &Path, error: IdentityError) -> FileError {
    let path = path.to_owned();
    match error {
        IdentityError::NoCertificate => FileError::NoCertificate { file, path },
        other => FileError::BrokenCertificate { file, path, source: Box::new(other) },
    }
}

fn time_error(
    file: PemFile,
    path: &Path,
    facts: &CertificateFacts,
    now: SystemTime,
) -> Option<FileError> {
    let (path, subject) = (path.to_owned(), facts.subject.clone());
    match facts.validity(now) {
        Validity::Valid { .. } => None,
        Validity::Expired { since } => Some(FileError::Expired { file, path, subject, since }),
        Validity::NotYet { begins_in } => {
            Some(FileError::NotYetValid { file, path, subject, begins_in })
        }
    }
}

/// The text may be a key, so it is wiped when dropped.
fn read(file: PemFile, path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => FileError::Missing { file, path: path.to_owned() },
        _ => FileError::Unreadable { file, path: path.to_owned(), source },
    };
    if std::fs::metadata(path).map_err(failed)?.len() > MAX_FILE_BYTES {
        return Err(FileError::TooLarge { file, path: path.to_owned() });
    }
    Ok(Zeroizing::new(std::fs::read(path).map_err(failed)?))
}

/// The largest unit that says enough: days, hours, minutes or seconds.
pub(crate) fn rough(span: Duration) -> String {
    let seconds = span.as_secs();
    let (count, unit) = match seconds {
        172_800.. => (seconds / 86_400, "days"),
        7_200.. => (seconds / 3_600, "hours"),
        120.. => (seconds / 60, "minutes"),
        _ => (seconds, "seconds"),
    };
    format!("{count} {unit}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::lab::{Issued, LabCa, Lifetime};

    const NOW: u64 = 1_800_000_000;
    const DAY: Duration = Duration::from_secs(86_400);

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    struct Folder {
        dir: tempfile::TempDir,
        files: OperatorFiles,
        ca: LabCa,
    }

    impl Folder {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let here = |name: &str| dir.path().join(name);
            let files =
                OperatorFiles { ca: here("ca.pem"), cert: here("gw.pem"), key: here("gw.key") };
            let ca = LabCa::new("lab", Lifetime::from(at(NOW - 400 * 86_400)).lasting(DAY * 800))
                .unwrap();
            std::fs::write(&files.ca, ca.certificate_pem()).unwrap();
            let folder = Self { dir, files, ca };
            folder.put(&folder.issue(NOW - 10, DAY));
            folder
        }

        fn issue(&self, from: u64, lasts: Duration) -> Issued {
            self.ca.gateway("P/g", Lifetime::from(at(from)).lasting(lasts)).unwrap()
        }

        fn put(&self, issued: &Issued) {
            std::fs::write(&self.files.cert, &issued.certificate_pem).unwrap();
            std::fs::write(&self.files.key, issued.key_pem.as_bytes()).unwrap();
        }

        fn errors(&self) -> Vec<String> {
            let errors = self.files.check(at(NOW)).err().unwrap_or_default();
            errors.iter().map(ToString::to_string).collect()
        }
    }

    #[track_caller]
    fn says(errors: &[String], parts: &[&str]) {
        let found = errors.iter().any(|error| parts.iter().all(|part| error.contains(part)));
        assert!(found, "{parts:?} not in {errors:#?}");
    }

    #[test]
    fn good_files_give_trust_and_identity() {
        let folder = Folder::new();
        let (trust, identity) = folder.files.check(at(NOW)).unwrap();
        assert_eq!(trust.facts[0].subject, "CN=lab,O=Tidegate lab");
        assert_eq!(identity.facts().subject, "CN=P/g,O=Tidegate");
        assert!(identity.certified().is_ok());
        assert_eq!(identity.chain().len(), 1);
    }

    #[test]
    fn every_missing_file_is_named_in_one_run() {
        let folder = Folder::new();
        for file in [&folder.files.ca, &folder.files.cert, &folder.files.key] {
            std::fs::remove_file(file).unwrap();
        }
        let errors = folder.errors();
        assert_eq!(errors.len(), 3, "{errors:#?}");
        says(&errors, &["ca file", "ca.pem", "does not exist", "tls.ca"]);
        says(&errors, &["cert file", "gw.pem", "does not exist", "tls.cert"]);
        says(&errors, &["key file", "gw.key", "does not exist", "tls.key"]);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_told_from_a_missing_one() {
        let folder = Folder::new();
        std::fs::remove_file(&folder.files.key).unwrap();
        std::fs::create_dir(&folder.files.key).unwrap();
        says(&folder.errors(), &["key file", "gw.key", "cannot be read"]);
    }

    #[test]
    fn a_file_without_a_certificate_is_named() {
        let folder = Folder::new();
        std::fs::copy(&folder.files.key, &folder.files.cert).unwrap();
        std::fs::write(&folder.files.ca, "not PEM\n").unwrap();
        let errors = folder.errors();
        says(&errors, &["ca file", "ca.pem", "no certificate"]);
        says(&errors, &["cert file", "gw.pem", "no certificate"]);
    }

    #[test]
    fn a_broken_certificate_and_a_broken_key_are_both_named() {
        let folder = Folder::new();
        let junk = |kind: &str| format!("-----BEGIN {kind}-----\nAAAA\n-----END {kind}-----\n");
        std::fs::write(&folder.files.cert, junk("CERTIFICATE")).unwrap();
        says(&folder.errors(), &["cert file", "broken certificate"]);
        std::fs::write(&folder.files.cert, "-----BEGIN CERTIFICATE-----\nAAAA\n").unwrap();
        std::fs::write(&folder.files.key, junk("PRIVATE KEY")).unwrap();
        let errors = folder.errors();
        says(&errors, &["cert file", "broken certificate"]);
        says(&errors, &["key file", "no usable private key"]);
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let folder = Folder::new();
        let other = folder.issue(NOW - 10, DAY);
        std::fs::write(&folder.files.key, other.key_pem.as_bytes()).unwrap();
        says(&folder.errors(), &["gw.key", "does not belong", "CN=P/g,O=Tidegate", "gw.pem"]);
    }

    #[test]
    fn certificates_outside_their_time_are_named_and_known_to_be_about_time() {
        let folder = Folder::new();
        folder.put(&folder.issue(NOW - 4 * 86_400, DAY));
        says(&folder.errors(), &["gw.pem", "expired 3 days ago", "renew"]);
        folder.put(&folder.issue(NOW + 7_300, DAY));
        says(&folder.errors(), &["gw.pem", "valid only in 2 hours", "clock"]);
        let errors = folder.files.check(at(NOW)).unwrap_err();
        assert!(errors.iter().all(FileError::is_about_time), "{errors:?}");
    }

    #[test]
    fn one_authority_in_its_time_is_enough() {
        let folder = Folder::new();
        let retired =
            LabCa::new("old", Lifetime::from(at(NOW - 10 * 86_400)).lasting(DAY)).unwrap();
        std::fs::write(&folder.files.ca, retired.certificate_pem()).unwrap();
        says(&folder.errors(), &["ca.pem", "CN=old", "expired 9 days ago"]);
        let both = retired.certificate_pem() + &folder.ca.certificate_pem();
        std::fs::write(&folder.files.ca, both).unwrap();
        assert_eq!(folder.errors(), Vec::<String>::new());
    }

    #[test]
    fn an_identity_alone_is_read_without_looking_at_the_time() {
        let folder = Folder::new();
        folder.put(&folder.issue(NOW - 4 * 86_400, DAY));
        let (cert, key) = (&folder.files.cert, &folder.files.key);
        let identity = load_identity(cert, key).unwrap();
        assert_eq!(identity.facts().subject, "CN=P/g,O=Tidegate");
        std::fs::write(cert, "not PEM").unwrap();
        std::fs::remove_file(key).unwrap();
        let errors = load_identity(cert, key).unwrap_err();
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        says(&errors, &["key file", "does not exist"]);
        says(&errors, &["cert file", "no certificate"]);
    }

    #[test]
    fn a_huge_file_is_not_read() {
        let folder = Folder::new();
        let huge = folder.dir.path().join("huge");
        std::fs::File::create(&huge).unwrap().set_len(MAX_FILE_BYTES + 1).unwrap();
        std::fs::rename(huge, &folder.files.ca).unwrap();
        says(&folder.errors(), &["ca.pem", "larger than"]);
    }
}
