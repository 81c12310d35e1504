//! A lab authority that goes on: its key, what it issued and revoked, and its tokens, in a folder.
//!
//! ```text
//! ca/                    0700, everything in it 0600
//!   ca.pem ca.key        the root and its key
//!   issued.jsonl         what was issued, one line each, oldest first
//!   tokens.json          the hashes of tokens that were not used yet
//!   revoked.json         what was revoked, and the number of the last list
//!   crl.pem              the last list
//! ```
//!
//! # Invariants
//! - A token opens the door once, for one gateway, for a time. Only its hash is kept, and it is gone
//!   from the disk before the certificate that it bought leaves this module.
//! - A certificate is written down before it leaves this module, so it can be revoked.
//! - A gateway's subject and names are written here, from the token's owner or the certificate that
//!   is renewed; a request gives its key and nothing else. Only a gateway's certificate, of this
//!   authority, written down and not revoked, is renewed.
//! - Several processes share the folder: each change reads what is there, under a lock.
//! - Whoever calls says what time it is.

mod book;
mod tokens;

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use x509_parser::prelude::{FromDer as _, X509Certificate, X509CertificationRequest};

pub use book::{Entry, Holder, How};

use crate::authority::Token;
use crate::certificate::{CertificateFacts, rfc2253};
use crate::disk::{io_at, read_file, steps, write_file};
use crate::generations::StoreError;
use crate::lab::{self, IssueError, Issued, LabCa, Lifetime, SignError, gateway_subject};
use crate::owner::{adopt, make_folder};
use book::Revoked;
use tokens::Tokens;

const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca.key";
const ISSUED: &str = "issued.jsonl";
const TOKENS: &str = "tokens.json";
const REVOKED: &str = "revoked.json";
const CRL: &str = "crl.pem";
const LOCK: &str = ".lock";

/// A quarter of a kilobyte each: a hundred thousand certificates.
const MAX_ISSUED: u64 = 64 << 20;
const MAX_STATE: u64 = 16 << 20;
const MAX_PEM: u64 = 64 << 10;

/// A change takes some fsyncs; a disk that needs longer is broken.
const LOCK_WITHIN: Duration = Duration::from_secs(10);

/// A clock that differs a little between two machines must not refuse a fresh certificate.
const BACKDATED: Duration = Duration::from_secs(300);

/// How long a list of revoked certificates is good; half of it, and another one is made.
const CRL_LASTS: Duration = Duration::from_secs(7 * 86_400);

/// The folder and the authority in it.
pub struct AuthorityStore {
    dir: PathBuf,
    ca: LabCa,
}

/// Why the folder cannot be used, or nothing was issued.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityStoreError {
    /// The file system refused, or a file is not what belongs there.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no authority in the folder.
    #[error("{dir} holds no authority; make one with tidegate hub init", dir = dir.display())]
    Missing {
        /// The folder.
        dir: PathBuf,
    },
    /// There is one already.
    #[error("{dir} holds an authority already, and another one would cut off everybody who trusts it", dir = dir.display())]
    Exists {
        /// The folder.
        dir: PathBuf,
    },
    /// Its files are damaged.
    #[error("the authority in {dir} cannot be used; restore its files from a backup", dir = dir.display())]
    Broken {
        /// The folder.
        dir: PathBuf,
        /// What is wrong.
        #[source]
        source: lab::ReadError,
    },
    /// It could not be issued.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// No random numbers.
    #[error("the system gives no random numbers")]
    Random,
    /// More tokens than an authority has reason to hold.
    #[error("{most} tokens wait to be used; revoke some, or wait until they end")]
    TooManyTokens {
        /// How many there may be.
        most: usize,
    },
}

/// Why somebody gets no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The token is unknown, used or too old: which of them, an attacker need not know.
    #[error("the token is unknown, used, or too old; ask for a new one")]
    Token,
    /// The certificate was not issued here, or not to a gateway.
    #[error("the certificate of {subject} is not one that is renewed here")]
    NotOurs {
        /// Whose it is.
        subject: String,
    },
    /// It was revoked.
    #[error("the certificate of {subject} is revoked")]
    Revoked {
        /// Whose it is.
        subject: String,
    },
    /// The request bears another name than whoever asks.
    #[error("{asks} asks for a certificate of {asked}; only its own is given")]
    OtherName {
        /// Who asks.
        asks: String,
        /// Whose it wants.
        asked: String,
    },
    /// The request cannot be signed.
    #[error(transparent)]
    Request(#[from] SignError),
    /// The authority is out of order.
    #[error(transparent)]
    Store(#[from] AuthorityStoreError),
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error.into())
    }
}

impl AuthorityStore {
    /// Makes an authority.
    ///
    /// # Errors
    /// When there is one in the folder, or the folder cannot be written.
    pub fn create(
        dir: impl Into<PathBuf>,
        name: &str,
        lasts: Duration,
        now: SystemTime,
    ) -> Result<Self, AuthorityStoreError> {
        let dir = dir.into();
        make_folder(&dir).map_err(io_at("make", &dir))?;
        let _lock = lock(&dir)?;
        if dir.join(CERTIFICATE).exists() || dir.join(KEY).exists() {
            return Err(AuthorityStoreError::Exists { dir });
        }
        let ca = LabCa::new(name, lifetime(now, lasts))?;
        // The certificate is what says that there is an authority, so it comes last.
        write(&dir.join(KEY), ca.key_pem().as_bytes())?;
        write(&dir.join(CERTIFICATE), ca.certificate_pem().as_bytes())?;
        let store = Self { dir, ca };
        store.publish(&mut Revoked::default(), now)?;
        Ok(store)
    }

    /// Opens one that was made before.
    ///
    /// # Errors
    /// When there is none, or its files are damaged.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, AuthorityStoreError> {
        let dir = dir.into();
        let read = |name| read_file(&dir.join(name), MAX_PEM);
        let (Some(certificate), Some(key)) = (read(CERTIFICATE)?, read(KEY)?) else {
            return Err(AuthorityStoreError::Missing { dir });
        };
        let text = |bytes| std::str::from_utf8(bytes);
        let ca = match (text(&certificate), text(&key)) {
            (Ok(certificate), Ok(key)) => LabCa::from_pem(certificate, key),
            _ => Err(lab::ReadError::Key),
        };
        match ca {
            Ok(ca) => Ok(Self { dir, ca }),
            Err(source) => Err(AuthorityStoreError::Broken { dir, source }),
        }
    }

    /// The authority's certificate.
    #[must_use]
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.ca.certificate()
    }

    /// The authority's certificate, PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        self.ca.certificate_pem()
    }

    /// The file of the last list of revoked certificates.
    #[must_use]
    pub fn crl_path(&self) -> PathBuf {
        self.dir.join(CRL)
    }

    /// The certificate of a server with a key made here; `hosts` are the names and addresses that
    /// others dial.
    ///
    /// # Errors
    /// When a host is neither a name nor an address, or the folder cannot be written.
    pub fn server(
        &self,
        name: &str,
        hosts: &[impl AsRef<str>],
        lasts: Duration,
        now: SystemTime,
    ) -> Result<Issued, AuthorityStoreError> {
        let issued = self.ca.hub(name, hosts, lifetime(now, lasts))?;
        self.noted(issued, Holder::Server, now)
    }

    /// The certificate of somebody who works at the hub, with a key made here.
    ///
    /// # Errors
    /// When the name cannot stand in a certificate, or the folder cannot be written.
    pub fn person(
        &self,
        name: &str,
        lasts: Duration,
        now: SystemTime,
    ) -> Result<Issued, AuthorityStoreError> {
        let issued = self.ca.reader(name, lifetime(now, lasts))?;
        self.noted(issued, Holder::Person, now)
    }

    /// The certificate of a gateway with a key made here: for a bench, where keys may travel.
    ///
    /// # Errors
    /// When the name cannot stand in a certificate, or the folder cannot be written.
    pub fn gateway(
        &self,
        gateway: &str,
        lasts: Duration,
        now: SystemTime,
    ) -> Result<Issued, AuthorityStoreError> {
        let issued = self.ca.gateway(gateway, lifetime(now, lasts))?;
        self.noted(issued, Holder::Gateway, now)
    }

    fn noted(
        &self,
        issued: Issued,
        holder: Holder,
        now: SystemTime,
    ) -> Result<Issued, AuthorityStoreError> {
        let der = first_certificate(&issued.certificate_pem)?;
        let _lock = lock(&self.dir)?;
        self.note(&der, holder, How::WithKey, now)?;
        Ok(issued)
    }

    /// A new token for `gateway`, which is `PLANT/NAME`: good once, for `lasts`. Tokens that it was
    /// given before stay good.
    ///
    /// # Errors
    /// When there is no randomness, too many tokens wait, or the folder cannot be written.
    pub fn token(
        &self,
        gateway: &str,
        lasts: Duration,
        now: SystemTime,
    ) -> Result<Token, AuthorityStoreError> {
        let token = tokens::random().ok_or(AuthorityStoreError::Random)?;
        let _lock = lock(&self.dir)?;
        let mut tokens = self.tokens()?;
        tokens.drop_old(now);
        if !tokens.add(&token, gateway, now, lasts) {
            return Err(AuthorityStoreError::TooManyTokens { most: tokens::MAX });
        }
        self.keep_json(TOKENS, &tokens)?;
        Ok(token)
    }

    /// Signs the key of a request for the owner of a token, and spends the token.
    ///
    /// # Errors
    /// When the token is not good, the request is for another name or cannot be signed; the token is
    /// then as good as before.
    pub fn enrol(
        &self,
        secret: &str,
        request: &CertificateSigningRequestDer<'_>,
        lasts: Duration,
        now: SystemTime,
    ) -> Result<CertificateDer<'static>, Refusal> {
        let _lock = lock(&self.dir)?;
        let mut tokens = self.tokens()?;
        tokens.drop_old(now);
        let gateway = tokens.take(secret).ok_or(Refusal::Token)?;
        let certificate = self.sign(&gateway, request, lasts, now)?;
        self.keep_json(TOKENS, &tokens).map_err(AuthorityStoreError::Store)?;
        self.note(&certificate, Holder::Gateway, How::Token, now)?;
        Ok(certificate)
    }

    /// Signs the key of a request for whoever showed `shown`. That whoever shows it has its key, and
    /// that it is valid by now, is for TLS to find out.
    ///
    /// # Errors
    /// When it is no gateway's certificate of this authority, it is revoked, or the request is for
    /// another name or cannot be signed.
    pub fn renew(
        &self,
        shown: &CertificateDer<'_>,
        request: &CertificateSigningRequestDer<'_>,
        lasts: Duration,
        now: SystemTime,
    ) -> Result<CertificateDer<'static>, Refusal> {
        let not_ours = |subject: &str| Refusal::NotOurs { subject: subject.to_owned() };
        let facts = CertificateFacts::of(shown).map_err(|_| not_ours("somebody"))?;
        let (serial, subject) = (book::bare(&facts.serial), facts.subject);
        let _lock = lock(&self.dir)?;
        if self.revoked()?.holds(serial) {
            return Err(Refusal::Revoked { subject });
        }
        let book = self.issued()?;
        let entry = book.iter().find(|entry| entry.serial == serial && entry.subject == subject);
        let gateway = entry.and_then(Entry::gateway).ok_or_else(|| not_ours(&subject))?;
        // The book names a serial number; that it is this certificate's, its signature says.
        if !is_signed_by(shown, &self.ca.certificate()) {
            return Err(not_ours(&subject));
        }
        let certificate = self.sign(gateway, request, lasts, now)?;
        self.note(&certificate, Holder::Gateway, How::Renewal, now)?;
        Ok(certificate)
    }

    fn sign(
        &self,
        gateway: &str,
        request: &CertificateSigningRequestDer<'_>,
        lasts: Duration,
        now: SystemTime,
    ) -> Result<CertificateDer<'static>, Refusal> {
        let asks = gateway_subject(gateway);
        let (_, parsed) =
            X509CertificationRequest::from_der(request).map_err(|_| SignError::Malformed)?;
        let asked = rfc2253(&parsed.certification_request_info.subject);
        // A client may leave its name to the authority, but not give another one.
        if !asked.is_empty() && asked != asks {
            // For a log line: a stranger chose it.
            let asked = asked.chars().filter(|c| !c.is_control()).take(100).collect();
            return Err(Refusal::OtherName { asks, asked });
        }
        Ok(self.ca.sign(request, gateway, lifetime(now, lasts))?)
    }

    /// Revokes every certificate of a gateway that has not ended, takes its tokens away, and
    /// publishes a new list. Returns the serial numbers, without those that were revoked before.
    ///
    /// # Errors
    /// When the folder cannot be read or written.
    pub fn revoke_gateway(
        &self,
        gateway: &str,
        now: SystemTime,
    ) -> Result<Vec<String>, AuthorityStoreError> {
        let _lock = lock(&self.dir)?;
        let mut tokens = self.tokens()?;
        if tokens.drop_of(gateway) {
            self.keep_json(TOKENS, &tokens)?;
        }
        let book = self.issued()?;
        let its = book.iter().filter(|entry| entry.gateway() == Some(gateway) && !entry.ended(now));
        let serials: Vec<String> = its.map(|entry| entry.serial.clone()).collect();
        self.revoke(serials, now)
    }

    /// Revokes one certificate and publishes a new list. Whether it was issued here and not revoked
    /// before.
    ///
    /// # Errors
    /// When the folder cannot be read or written.
    pub fn revoke_serial(
        &self,
        serial: &str,
        now: SystemTime,
    ) -> Result<bool, AuthorityStoreError> {
        let serial = serial.replace([':', ' '], "").to_ascii_lowercase();
        let serial = book::bare(&serial);
        let _lock = lock(&self.dir)?;
        let is_ours = self.issued()?.iter().any(|entry| entry.serial == serial);
        let serials = if is_ours { vec![serial.to_owned()] } else { Vec::new() };
        Ok(!self.revoke(serials, now)?.is_empty())
    }

    fn revoke(
        &self,
        serials: Vec<String>,
        now: SystemTime,
    ) -> Result<Vec<String>, AuthorityStoreError> {
        let mut revoked = self.revoked()?;
        let new: Vec<String> =
            serials.into_iter().filter(|serial| revoked.add(serial, now)).collect();
        self.publish(&mut revoked, now)?;
        Ok(new)
    }

    /// The list of revoked certificates, PEM, made anew when half of its time is over.
    ///
    /// # Errors
    /// When the folder cannot be read or written.
    pub fn crl(&self, now: SystemTime) -> Result<String, AuthorityStoreError> {
        let _lock = lock(&self.dir)?;
        let mut revoked = self.revoked()?;
        if revoked.is_recent(now, CRL_LASTS / 2)
            && let Some(text) = read_file(&self.crl_path(), MAX_ISSUED)?
        {
            return Ok(String::from_utf8_lossy(&text).into_owned());
        }
        self.publish(&mut revoked, now)
    }

    /// Makes the list of revoked certificates anew, whatever its age, and returns its number and how
    /// many stand in it.
    ///
    /// # Errors
    /// When the folder cannot be read or written.
    pub fn publish_crl(&self, now: SystemTime) -> Result<(u64, usize), AuthorityStoreError> {
        let _lock = lock(&self.dir)?;
        let mut revoked = self.revoked()?;
        self.publish(&mut revoked, now)?;
        Ok(revoked.counts())
    }

    /// What was revoked is written down before the list is signed: a power cut between the two
    /// leaves an old list, and the next one has it.
    fn publish(
        &self,
        revoked: &mut Revoked,
        now: SystemTime,
    ) -> Result<String, AuthorityStoreError> {
        let number = revoked.next(now);
        self.keep_json(REVOKED, revoked)?;
        let text = self.ca.crl(number, &revoked.serials(), lifetime(now, CRL_LASTS))?;
        write(&self.crl_path(), text.as_bytes())?;
        Ok(text)
    }

    /// The serial numbers of all that was revoked.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn revoked_serials(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.revoked()?.names())
    }

    /// What was issued, oldest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn issued(&self) -> Result<Vec<Entry>, StoreError> {
        let text = read_file(&self.dir.join(ISSUED), MAX_ISSUED)?;
        Ok(book::entries(text.as_deref().map_or(&[], Vec::as_slice)))
    }

    fn note(
        &self,
        certificate: &CertificateDer<'_>,
        holder: Holder,
        how: How,
        now: SystemTime,
    ) -> Result<(), AuthorityStoreError> {
        let path = self.dir.join(ISSUED);
        let facts = CertificateFacts::of(certificate).map_err(|_| unreadable(&path))?;
        book::append(&path, &Entry::of(certificate, &facts, holder, how, now))
            .map_err(io_at("write", &path))?;
        adopt(&path, &self.dir);
        Ok(())
    }

    fn tokens(&self) -> Result<Tokens, StoreError> {
        self.json(TOKENS)
    }

    fn revoked(&self) -> Result<Revoked, StoreError> {
        self.json(REVOKED)
    }

    fn json<T: serde::de::DeserializeOwned + Default>(&self, name: &str) -> Result<T, StoreError> {
        let path = self.dir.join(name);
        match read_file(&path, MAX_STATE)? {
            None => Ok(T::default()),
            Some(text) => serde_json::from_slice(&text).map_err(|error| StoreError::Broken {
                path,
                why: error.to_string(),
                remedy: "restore it from a backup",
            }),
        }
    }

    fn keep_json<T: serde::Serialize>(&self, name: &str, content: &T) -> Result<(), StoreError> {
        let path = self.dir.join(name);
        let text = serde_json::to_vec_pretty(content)
            .map_err(|error| io_at("write", &path)(error.into()))?;
        write(&path, &text)
    }
}

impl fmt::Debug for AuthorityStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorityStore").field("dir", &self.dir).finish_non_exhaustive()
    }
}

fn lifetime(now: SystemTime, lasts: Duration) -> Lifetime {
    let from = now.checked_sub(BACKDATED).unwrap_or(now);
    Lifetime::from(from).lasting(BACKDATED + lasts)
}

fn is_signed_by(one: &CertificateDer<'_>, ca: &CertificateDer<'_>) -> bool {
    let (Ok((_, one)), Ok((_, ca))) =
        (X509Certificate::from_der(one), X509Certificate::from_der(ca))
    else {
        return false;
    };
    one.verify_signature(Some(ca.public_key())).is_ok()
}

fn first_certificate(pem: &str) -> Result<CertificateDer<'static>, AuthorityStoreError> {
    use rustls_pki_types::pem::PemObject as _;

    let path = PathBuf::from(ISSUED);
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| unreadable(&path).into())
}

fn unreadable(path: &Path) -> StoreError {
    StoreError::Broken {
        path: path.to_owned(),
        why: "what was just issued cannot be read".to_owned(),
        remedy: "report this as a bug",
    }
}

fn write(path: &Path, content: &[u8]) -> Result<(), StoreError> {
    let mut before = |_| Ok(());
    write_file(path, content, &mut steps(&mut before))
}

/// Waits for other processes that change the folder, but not for ever.
fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join(LOCK);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&path).map_err(io_at("open", &path))?;
    adopt(&path, dir);
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_WITHIN => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Busy { dir: dir.to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(io_at("lock", &path)(error)),
        }
    }
}

#[cfg(test)]
mod tests;
