//! The gateway's own application instance certificate, as OPC UA Part 6, 6.2.2, describes it.
//!
//! # Invariants
//! - The application URI is the first alternative name: some servers look no further.
//! - Making is guarded by a lock on `.lock` in the folder, so that the daemon and the command line
//!   never make two; reading takes no lock, because a generation is complete before it is current.
//! - A new certificate is made months before the end of the old one ([`Own::tend`]), and the old
//!   one stays and is shown to servers that have not approved the new one yet ([`Own::usable`]).
//! - A certificate that begins later than now is no reason to make another one: the clock is wrong,
//!   now or when it was made. A clock that is never right makes no key after key.
//! - A file that may not be read is no reason to make another key.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber,
};
use ring::rand::{SecureRandom as _, SystemRandom};
use rsa::pkcs8::{EncodePrivateKey as _, LineEnding};
use rustls_pki_types::PrivatePkcs8KeyDer;
use zeroize::Zeroizing;

use super::certificate::{Certificate, Key, tame};
use super::thumbprint::{Thumbprint, sha1};
use crate::certificate::{CertificateFacts, Validity};
use crate::disk::{Before, steps};
use crate::files::rough;
use crate::generations::{Generation, GenerationStore, StoreError, Wiped};
use crate::identity::Identity;
use crate::lab::ORGANISATION;
use crate::lock;
use crate::owner::make_folder;

const DAY: Duration = Duration::from_secs(86_400);

/// Five years, as the OPC Foundation's own stack writes it: each renewal has to be approved at
/// every server.
const LASTS: Duration = Duration::from_secs(5 * 365 * 86_400 + 86_400);

/// The certificate begins before it is made: clocks of PLCs are often hours behind.
const BEGINS_BEFORE: Duration = DAY;

/// 2026-01-01. A gateway whose clock was never set must not make a certificate of 1970.
const CLOCK_FLOOR: Duration = Duration::from_secs(1_767_225_600);

/// How long before its end the next certificate is made: a person has to approve it at each server,
/// and the old one is good until then.
const DUE: Duration = Duration::from_secs(90 * 86_400);

/// How many certificates stay beside the newest: of those that a wrong clock had made, none must
/// push out the one that servers know.
const KEPT: usize = 3;

/// Making a 3072-bit key takes some seconds on a small ARM; a process that holds the lock longer
/// than this hangs.
const LOCK_WAIT: Duration = Duration::from_secs(60);

/// RFC 5280, Appendix A: ub-common-name.
const MAX_COMMON_NAME: usize = 64;

/// How long the RSA key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyBits {
    /// What every server takes.
    #[default]
    Rsa2048,
    /// Longer, and slower.
    Rsa3072,
}

impl KeyBits {
    /// The number.
    #[must_use]
    pub const fn bits(self) -> usize {
        match self {
            Self::Rsa2048 => 2048,
            Self::Rsa3072 => 3072,
        }
    }

    /// The kind with this number of bits.
    #[must_use]
    pub const fn of(bits: u64) -> Option<Self> {
        match bits {
            2048 => Some(Self::Rsa2048),
            3072 => Some(Self::Rsa3072),
            _ => None,
        }
    }
}

/// What a new certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnSpec {
    /// The application URI.
    pub application_uri: String,
    /// The gateway's host name, as far as it has one.
    pub host: Option<String>,
    /// The common name; what cannot stand in a file name at a server becomes `-`.
    pub common_name: String,
    /// How long the key is.
    pub key: KeyBits,
}

/// The folder of our own certificates.
#[derive(Debug, Clone)]
pub struct Own {
    dir: PathBuf,
}

/// Our certificate and where it lies.
#[derive(Debug, Clone)]
pub struct OwnCertificate {
    /// Which generation.
    pub generation: Generation,
    /// The certificate, PEM.
    pub certificate: PathBuf,
    /// Its key, PKCS #8 in PEM.
    pub key: PathBuf,
    /// The application URI that it names.
    pub application_uri: String,
    /// The size of its key in bits.
    pub key_bits: usize,
    /// The certificate, DER.
    pub der: Vec<u8>,
    /// What people compare at a server.
    pub thumbprint: Thumbprint,
    /// The SHA-1 of the certificate, hexadecimal: what OPC UA, and so many a server's screen, calls
    /// its thumbprint. For people only; nothing is decided by it.
    pub sha1: String,
    /// What else it says.
    pub facts: CertificateFacts,
    /// Why this is not the generation that it should be.
    pub fallen_back: Option<String>,
}

/// Why there is no own certificate.
#[derive(Debug, thiserror::Error)]
pub enum OwnError {
    /// The folder cannot be used.
    #[error("cannot {doing} {path}; let the user that runs tidegate do so", path = path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The generations cannot be read or written.
    #[error("the OPC UA certificate in {dir} can be neither read nor made", dir = dir.display())]
    Store {
        /// The folder.
        dir: PathBuf,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// Somebody put a certificate there that OPC UA cannot use.
    #[error("{path} is no OPC UA application certificate: {why}; make another one with: tidegate identity opcua renew", path = path.display())]
    Unfit {
        /// The certificate.
        path: PathBuf,
        /// What it lacks.
        why: &'static str,
    },
    /// Another process has been making one for too long.
    #[error("another process has been making the OPC UA certificate in {dir} for {waited} s; end it, or try again", dir = dir.display(), waited = LOCK_WAIT.as_secs())]
    Busy {
        /// The folder.
        dir: PathBuf,
    },
    /// The application URI cannot stand in a certificate.
    #[error(
        "application URI {uri:?} cannot stand in a certificate; write it in ASCII, without blanks, like \"urn:plant:gateway\""
    )]
    Uri {
        /// The URI.
        uri: String,
    },
    /// No key or certificate could be made.
    #[error("cannot make an RSA key of {bits} bits and its certificate")]
    Make {
        /// How long the key should be.
        bits: usize,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Own {
    /// The certificates below the folder of OPC UA, whether it is there or not.
    #[must_use]
    pub fn below(opcua: &Path) -> Self {
        Self { dir: opcua.join("own") }
    }

    /// The current certificate; `None` where there is none that could be used.
    ///
    /// # Errors
    /// When the folder may not be read, or what is in it is not fit for OPC UA.
    pub fn load(&self) -> Result<Option<OwnCertificate>, OwnError> {
        let store = GenerationStore::at(&self.dir);
        let loaded = match store.load() {
            Ok(loaded) => loaded,
            Err(error) if is_absence(&error) => return Ok(None),
            Err(source) => return Err(OwnError::Store { dir: self.dir.clone(), source }),
        };
        let fallen_back = loaded.fallen_back.map(|error| told(&error));
        self.read(&store, loaded.generation, &loaded.identity, fallen_back).map(Some)
    }

    fn read(
        &self,
        store: &GenerationStore,
        generation: Generation,
        identity: &Identity,
        fallen_back: Option<String>,
    ) -> Result<OwnCertificate, OwnError> {
        let home = store.path_of(generation);
        let certificate = home.join("cert.pem");
        let unfit = |why| OwnError::Unfit { path: certificate.clone(), why };
        let der = identity.chain().first().ok_or_else(|| unfit("it is empty"))?;
        let read = Certificate::read(der).map_err(|_| unfit("it cannot be read"))?;
        let Key::Rsa(key_bits) = read.key else { return Err(unfit("its key is not RSA")) };
        let uri = read.uris.first().ok_or_else(|| unfit("it names no application URI"))?;
        Ok(OwnCertificate {
            generation,
            application_uri: uri.clone(),
            key_bits,
            der: der.to_vec(),
            thumbprint: read.thumbprint,
            sha1: sha1(der),
            facts: read.facts,
            key: home.join("key.pem"),
            certificate,
            fallen_back,
        })
    }

    /// The certificates that may be shown to a server at `now`, the one to try first in front: those
    /// that are valid and name the application as the current one does, the newest first. The
    /// current one alone where none is valid. Nothing where there is none at all.
    ///
    /// # Errors
    /// As [`Own::load`].
    pub fn usable(&self, now: SystemTime) -> Result<Vec<OwnCertificate>, OwnError> {
        let Some(current) = self.load()? else { return Ok(Vec::new()) };
        let mut all = self.all()?;
        all.retain(|own| {
            own.application_uri == current.application_uri
                && matches!(own.facts.validity(now), Validity::Valid { .. })
        });
        all.reverse();
        // What a person put in front stays in front.
        if let Some(at) = all.iter().position(|own| own.generation == current.generation) {
            let front = all.remove(at);
            all.insert(0, front);
        }
        Ok(if all.is_empty() { vec![current] } else { all })
    }

    /// Every generation that can be used at all, oldest first.
    fn all(&self) -> Result<Vec<OwnCertificate>, OwnError> {
        let store = GenerationStore::at(&self.dir);
        let failed = |source| OwnError::Store { dir: self.dir.clone(), source };
        let read = |generation| {
            let identity = store.load_generation(generation).ok()?;
            self.read(&store, generation, &identity, None).ok()
        };
        Ok(store.all().map_err(failed)?.into_iter().filter_map(read).collect())
    }

    /// Makes the next certificate when the end of the newest comes near; the former one stays and
    /// stays usable. Nothing when nothing is due, nor where there never was one. Blocks as
    /// [`Self::ensure`] does.
    ///
    /// # Errors
    /// When it can neither be read nor made.
    pub fn tend(
        &self,
        spec: &OwnSpec,
        now: SystemTime,
    ) -> Result<Option<OwnCertificate>, OwnError> {
        if !self.is_due(now)? {
            return Ok(None);
        }
        let _lock = self.lock()?;
        // Somebody may have made one while we waited.
        if self.is_due(now)? { self.make(spec, now).map(Some) } else { Ok(None) }
    }

    fn is_due(&self, now: SystemTime) -> Result<bool, OwnError> {
        if self.load()?.is_none() {
            return Ok(false);
        }
        let validity = |own: &OwnCertificate| own.facts.validity(now);
        let begun = |validity: &Validity| !matches!(validity, Validity::NotYet { .. });
        let lasts =
            |validity: Validity| matches!(validity, Validity::Valid { left } if left >= DUE);
        let begun: Vec<Validity> = self.all()?.iter().map(validity).filter(begun).collect();
        Ok(!begun.is_empty() && !begun.into_iter().any(lasts))
    }

    /// The current certificate, made when there is none. Making one takes seconds, and waits for
    /// whoever is making one; it blocks the thread.
    ///
    /// # Errors
    /// When it can neither be read nor made.
    pub fn ensure(&self, spec: &OwnSpec, now: SystemTime) -> Result<OwnCertificate, OwnError> {
        if let Some(own) = self.load()? {
            return Ok(own);
        }
        let _lock = self.lock()?;
        // Somebody may have made one while we waited.
        match self.load()? {
            Some(own) => Ok(own),
            None => self.make(spec, now),
        }
    }

    /// Makes a new key and certificate and makes them current; the former ones stay. Blocks as
    /// [`Self::ensure`] does.
    ///
    /// # Errors
    /// When it cannot be made; the current one is then what it was.
    pub fn renew(&self, spec: &OwnSpec, now: SystemTime) -> Result<OwnCertificate, OwnError> {
        let _lock = self.lock()?;
        self.make(spec, now)
    }

    /// Removes every key and certificate for ever, the keys first and overwritten: a decommissioning.
    #[must_use]
    pub fn wipe(&self) -> Wiped {
        let mut wiped = Wiped::default();
        if self.dir.exists() {
            let before: &mut Before<'_> = &mut |_| Ok(());
            GenerationStore::at(&self.dir).wipe(&mut wiped, &mut steps(before));
        }
        wiped
    }

    fn make(&self, spec: &OwnSpec, now: SystemTime) -> Result<OwnCertificate, OwnError> {
        let (key, certificate) = issue(spec, now)?;
        let failed = |source| OwnError::Store { dir: self.dir.clone(), source };
        let store = GenerationStore::open(&self.dir).map_err(failed)?.keeping(KEPT);
        store.install(key.as_bytes(), certificate.as_bytes(), b"").map_err(failed)?;
        self.load()?.ok_or_else(|| failed(StoreError::NoCurrent { path: self.dir.join("current") }))
    }

    fn lock(&self) -> Result<File, OwnError> {
        let io_at = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| OwnError::Io { doing, path, source }
        };
        make_folder(&self.dir).map_err(io_at("make", &self.dir))?;
        let path = self.dir.join(lock::NAME);
        let file = lock::open(&path, &self.dir).map_err(io_at("open", &path))?;
        match lock::take(&file, LOCK_WAIT).map_err(io_at("lock", &path))? {
            true => Ok(file),
            false => Err(OwnError::Busy { dir: self.dir.clone() }),
        }
    }
}

impl OwnCertificate {
    /// What a person should know about it: an end that comes near, another URI than the configured
    /// one, a generation that could not be used. One sentence each.
    #[must_use]
    pub fn remarks(&self, application_uri: &str, now: SystemTime) -> Vec<String> {
        const RENEW: &str =
            "renew it with: tidegate identity opcua renew, and approve it at the servers";
        let mut remarks = Vec::new();
        if let Some(why) = &self.fallen_back {
            remarks.push(format!(
                "the newest OPC UA certificate cannot be used and {} serves instead: {why}",
                self.generation
            ));
        }
        if self.application_uri != application_uri {
            remarks.push(format!(
                "the OPC UA certificate names the application URI \"{}\" and not \"{}\"; {RENEW}",
                tame(&self.application_uri),
                tame(application_uri)
            ));
        }
        match self.facts.validity(now) {
            Validity::Valid { left } if left >= DUE => {}
            Validity::Valid { left } => {
                remarks.push(format!("the OPC UA certificate ends in {}; {RENEW}", rough(left)));
            }
            Validity::Expired { since } => remarks.push(format!(
                "the OPC UA certificate ended {} ago and servers may refuse it; {RENEW}",
                rough(since)
            )),
            Validity::NotYet { begins_in } => remarks.push(format!(
                "the OPC UA certificate begins only in {}; correct the clock",
                rough(begins_in)
            )),
        }
        remarks
    }
}

/// Whether there simply is no usable generation, so that one may be made.
fn is_absence(error: &StoreError) -> bool {
    match error {
        StoreError::NoCurrent { .. } | StoreError::Unusable { .. } => true,
        StoreError::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
        StoreError::NotAFile { .. }
        | StoreError::TooLarge { .. }
        | StoreError::Broken { .. }
        | StoreError::Busy { .. } => false,
    }
}

fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// A key and its certificate, both PEM.
fn issue(spec: &OwnSpec, now: SystemTime) -> Result<(Zeroizing<String>, String), OwnError> {
    let bits = spec.key.bits();
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| OwnError::Make { bits, source };
    let uri = &spec.application_uri;
    let is_uri = uri.contains(':') && uri.chars().all(|c| c.is_ascii_graphic());
    let san = uri.as_str().try_into().ok().filter(|_| is_uri).map(SanType::URI);
    let san = san.ok_or_else(|| OwnError::Uri { uri: uri.clone() })?;

    let key = new_key(bits).map_err(|error| failed(error.into()))?;
    let der = key.to_pkcs8_der().map_err(|error| failed(error.into()))?;
    let pem = key.to_pkcs8_pem(LineEnding::LF).map_err(|error| failed(error.into()))?;
    let pair = KeyPair::from_pkcs8_der_and_sign_algo(
        &PrivatePkcs8KeyDer::from(der.as_bytes()),
        &rcgen::PKCS_RSA_SHA256,
    )
    .map_err(|error| failed(error.into()))?;

    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, ORGANISATION);
    params.distinguished_name.push(DnType::CommonName, common_name(&spec.common_name));
    params.subject_alt_names = vec![san];
    // A host name that cannot stand in a certificate is left out: the URI is what servers ask for.
    let host = spec.host.as_deref().filter(|host| !host.is_empty());
    params
        .subject_alt_names
        .extend(host.and_then(|host| host.try_into().ok()).map(SanType::DnsName));
    let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let since_epoch = since_epoch.max(CLOCK_FLOOR);
    let begins = rcgen::date_time_ymd(1970, 1, 1) + (since_epoch - BEGINS_BEFORE);
    params.not_before = begins;
    params.not_after = begins + BEGINS_BEFORE + LASTS;
    params.serial_number = Some(serial().map_err(|_| failed("no randomness".into()))?);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::ContentCommitment,
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::DataEncipherment,
        // Part 6, 6.2.2: a certificate that signs itself says so.
        KeyUsagePurpose::KeyCertSign,
    ];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.self_signed(&pair).map_err(|error| failed(error.into()))?;
    Ok((pem, certificate.pem()))
}

fn new_key(bits: usize) -> rsa::Result<rsa::RsaPrivateKey> {
    #[cfg(test)]
    if let Some(key) = tests::made_before(bits) {
        return Ok(key);
    }
    let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, bits)?;
    #[cfg(test)]
    tests::keep(bits, &key);
    Ok(key)
}

/// 127 random bits: positive, and of the sixteen octets that every stack takes.
fn serial() -> Result<SerialNumber, ring::error::Unspecified> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes)?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn common_name(text: &str) -> String {
    let legal = |c: char| c.is_ascii_alphanumeric() || " ._@-".contains(c);
    text.chars().map(|c| if legal(c) { c } else { '-' }).take(MAX_COMMON_NAME).collect()
}

#[cfg(test)]
mod tests;
