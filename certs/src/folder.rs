//! The folder of a gateway's identity.
//!
//! ```text
//! identity/                              0700, everything in it 0600
//!   gen-N/ key.pem cert.pem chain.pem full.pem     see `generations`
//!   current -> gen-N
//!   pending/ key.pem request.pem         a key that waits for its certificate
//!            cert.pem                    put there by an operator, or until it was tried; the
//!                                        chain after the certificate
//!   bootstrap/ cert.pem key.pem          a certificate for the first enrolment
//!   roots.pem                            who may be the hub and the authority
//!   token                                opens the authority's door once
//!   crl.pem                              what the authority has withdrawn
//!   last-time                            seconds since 1970: the time was never less
//!   state.json                           what became of the last renewal; nothing secret
//! ```
//!
//! # Invariants
//! - `roots.pem` is never written here on the word of a peer: callers do it once a pin matched.
//! - Every file is replaced whole: a power cut leaves the former content or the new one, and
//!   whatever is read is bounded.
//! - Whatever is written belongs to the owner of the folder: root may enrol for the daemon.
//! - Whoever writes holds [`IdentityFolder::lock`]; whoever reads needs no lock.

mod state;

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

pub use self::state::IdentityState;
use crate::authority::{Enrolled, Token};
use crate::crl::MAX_CRL_BYTES;
use crate::disk::{
    Before, clear_drafts, io_at, read_file, remove_file, shred, steps, write_file, write_folder,
};
use crate::generations::{Generation, GenerationStore, StoreError, Wiped};
use crate::identity::{Identity, certificates_of};
use crate::lock;
use crate::owner::make_folder;
use crate::pem::{CERTIFICATE, REQUEST, pem_of, pem_of_all};
use crate::request::{CertificateRequest, NotAccepted, RequestError};

const PENDING: &str = "pending";
const BOOTSTRAP: &str = "bootstrap";
const ROOTS: &str = "roots.pem";
const TOKEN: &str = "token";
const CRL: &str = "crl.pem";
const LAST_TIME: &str = "last-time";
const STATE: &str = "state.json";

/// Ten certificates with RSA-4096 keys are 25 kB.
const MAX_CERTIFICATES: u64 = 1 << 20;
/// An RSA key of 8192 bits is 6.4 kB.
const MAX_KEY: u64 = 16 << 10;
/// HTTP servers take headers of 8 KiB.
const MAX_TOKEN: u64 = 4 << 10;
const MAX_STATE: u64 = 64 << 10;
const MAX_TIME: u64 = 64;

/// The folder.
#[derive(Debug, Clone)]
pub struct IdentityFolder {
    dir: PathBuf,
}

/// Keeps other processes from writing while it lives.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

/// A key that waits for its certificate.
#[derive(Debug)]
pub struct Pending {
    key_pem: Zeroizing<String>,
    /// What lies beside it as the certificate, if anything does.
    pub certificate: Option<Result<Enrolled, StoreError>>,
}

/// Why what was signed did not become a generation.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// It is not what was asked for.
    #[error(transparent)]
    NotAccepted(#[from] NotAccepted),
    /// The file system refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Pending {
    /// The request for this key, made anew.
    ///
    /// # Errors
    /// When the key is none, or a name cannot stand in a certificate.
    pub fn request(
        &self,
        gateway: &str,
        hosts: &[String],
    ) -> Result<CertificateRequest, RequestError> {
        CertificateRequest::from_key(&self.key_pem, gateway, hosts)
    }
}

impl IdentityFolder {
    /// Opens the folder, making it if need be.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let dir = dir.into();
        make_folder(&dir).map_err(io_at("make", &dir))?;
        Ok(Self { dir })
    }

    /// Looks at the folder, whether it is there or not.
    #[must_use]
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Where it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The lock for writing, and what an interrupted writer left is cleared. Does not wait.
    ///
    /// # Errors
    /// [`StoreError::Busy`] while another process holds it.
    pub fn lock(&self) -> Result<FolderLock, StoreError> {
        let path = self.dir.join(lock::NAME);
        let file = lock::open(&path, &self.dir).map_err(io_at("open", &path))?;
        if !lock::take(&file, Duration::ZERO).map_err(io_at("lock", &path))? {
            return Err(StoreError::Busy { dir: self.dir.clone() });
        }
        clear_drafts(&self.dir)?;
        Ok(FolderLock { _file: file })
    }

    /// The generations of key and certificate.
    #[must_use]
    pub fn generations(&self) -> GenerationStore {
        GenerationStore::at(&self.dir)
    }

    /// Makes what was signed for `request` the current generation, and lets go of the pending key.
    ///
    /// # Errors
    /// When it is not what was asked for, or the file system refuses; the current generation is
    /// then what it was.
    pub fn install(
        &self,
        request: &CertificateRequest,
        signed: &Enrolled,
    ) -> Result<Generation, InstallError> {
        request.accept(signed)?;
        let cert = pem_of(CERTIFICATE, &signed.certificate);
        let chain = pem_of_all(&signed.chain);
        let key = request.key_pem().as_bytes();
        let generation = self.generations().install(key, cert.as_bytes(), chain.as_bytes())?;
        self.remove_pending()?;
        Ok(generation)
    }

    /// The file of whom we trust as hub and authority.
    #[must_use]
    pub fn roots_path(&self) -> PathBuf {
        self.dir.join(ROOTS)
    }

    /// Whom we trust as hub and authority; none before the first enrolment.
    ///
    /// # Errors
    /// When the file cannot be read, or holds no certificate.
    pub fn roots(&self) -> Result<Vec<CertificateDer<'static>>, StoreError> {
        let path = self.roots_path();
        match read_file(&path, MAX_CERTIFICATES)? {
            None => Ok(Vec::new()),
            Some(text) => certificates_of(&text).map_err(|error| StoreError::Broken {
                path,
                why: error.to_string(),
                remedy: "put the authority's root certificates there as PEM, or enrol again",
            }),
        }
    }

    /// Replaces whom we trust. Only for roots whose pin matched, or that a person handed over.
    ///
    /// # Errors
    /// When the file system refuses; the former ones then stay.
    pub fn store_roots(&self, roots: &[CertificateDer<'_>]) -> Result<(), StoreError> {
        self.replace(ROOTS, pem_of_all(roots).as_bytes())
    }

    /// The folder of the key that waits for its certificate.
    #[must_use]
    pub fn pending_path(&self) -> PathBuf {
        self.dir.join(PENDING)
    }

    /// The key that waits for its certificate, if one does.
    ///
    /// # Errors
    /// When it cannot be read. A certificate beside it that is none is told in [`Pending`].
    pub fn pending(&self) -> Result<Option<Pending>, StoreError> {
        let home = self.pending_path();
        let path = home.join("key.pem");
        let Some(bytes) = read_file(&path, MAX_KEY)? else { return Ok(None) };
        let text = std::str::from_utf8(&bytes).map_err(|_| StoreError::Broken {
            path,
            why: "it is not text".to_owned(),
            remedy: "remove the folder; a new key is then made",
        })?;
        let key_pem = Zeroizing::new(text.to_owned());
        let certificate = pending_certificate(&home.join("cert.pem")).transpose();
        Ok(Some(Pending { key_pem, certificate }))
    }

    /// Keeps a request's key until its certificate comes, in place of any that waited.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn store_pending(&self, request: &CertificateRequest) -> Result<(), StoreError> {
        self.store_pending_with(request, &mut |_| Ok(()))
    }

    fn store_pending_with(
        &self,
        request: &CertificateRequest,
        before: &mut Before<'_>,
    ) -> Result<(), StoreError> {
        self.remove_pending_with(before)?;
        let text = pem_of(REQUEST, request.der());
        let files = [("key.pem", request.key_pem().as_bytes()), ("request.pem", text.as_bytes())];
        write_folder(&self.pending_path(), &files, &mut steps(before))
    }

    /// Keeps what was signed beside its key, until it was tried and installed.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn store_pending_certificate(&self, signed: &Enrolled) -> Result<(), StoreError> {
        let text = pem_of(CERTIFICATE, &signed.certificate) + &pem_of_all(&signed.chain);
        self.replace("pending/cert.pem", text.as_bytes())
    }

    /// Removes only the certificate beside the pending key: it was not taken.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn remove_pending_certificate(&self) -> Result<bool, StoreError> {
        remove_file(&self.pending_path().join("cert.pem"), &mut steps(&mut |_| Ok(())))
    }

    /// Lets go of the pending key, overwritten, with all that lies beside it.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn remove_pending(&self) -> Result<(), StoreError> {
        self.remove_pending_with(&mut |_| Ok(()))
    }

    fn remove_pending_with(&self, before: &mut Before<'_>) -> Result<(), StoreError> {
        let home = self.pending_path();
        let mut step = steps(before);
        shred(&home.join("key.pem"), &mut step)?;
        if home.symlink_metadata().is_ok() {
            step("remove", &home, &mut || fs::remove_dir_all(&home))?;
            step("sync", &self.dir, &mut || crate::disk::sync(&self.dir))?;
        }
        Ok(())
    }

    /// The token for an enrolment, if there is one.
    ///
    /// # Errors
    /// When the file cannot be read, or holds something else.
    pub fn token(&self) -> Result<Option<Token>, StoreError> {
        let path = self.dir.join(TOKEN);
        let Some(bytes) = read_file(&path, MAX_TOKEN)? else { return Ok(None) };
        let token = std::str::from_utf8(&bytes).ok().and_then(Token::new);
        token.map(Some).ok_or(StoreError::Broken {
            path,
            why: "it holds no token, which is one line of printable characters".to_owned(),
            remedy: "write the token alone into it",
        })
    }

    /// Keeps a token until it was used.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn store_token(&self, token: &Token) -> Result<(), StoreError> {
        self.replace(TOKEN, token.secret().as_bytes())
    }

    /// Destroys the token, overwritten; whether there was one.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn remove_token(&self) -> Result<bool, StoreError> {
        shred(&self.dir.join(TOKEN), &mut steps(&mut |_| Ok(())))
    }

    /// The certificate for the first enrolment, if one was put there.
    ///
    /// # Errors
    /// When the files cannot be read, or are no identity.
    pub fn bootstrap(&self) -> Result<Option<Identity>, StoreError> {
        let home = self.dir.join(BOOTSTRAP);
        let key = read_file(&home.join("key.pem"), MAX_KEY)?;
        let cert = read_file(&home.join("cert.pem"), MAX_CERTIFICATES)?;
        let (Some(key), Some(cert)) = (key, cert) else { return Ok(None) };
        Identity::from_pem(&key, &cert).map(Some).map_err(|error| StoreError::Broken {
            path: home,
            why: error.to_string(),
            remedy: "put key.pem and cert.pem of one pair there",
        })
    }

    /// Keeps a certificate for the first enrolment.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn store_bootstrap(&self, key: &[u8], cert: &[u8]) -> Result<(), StoreError> {
        self.remove_bootstrap()?;
        let files = [("key.pem", key), ("cert.pem", cert)];
        write_folder(&self.dir.join(BOOTSTRAP), &files, &mut steps(&mut |_| Ok(())))
    }

    /// Destroys the certificate for the first enrolment, its key overwritten.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn remove_bootstrap(&self) -> Result<(), StoreError> {
        let home = self.dir.join(BOOTSTRAP);
        let before: &mut Before<'_> = &mut |_| Ok(());
        let mut step = steps(before);
        shred(&home.join("key.pem"), &mut step)?;
        if home.symlink_metadata().is_ok() {
            step("remove", &home, &mut || fs::remove_dir_all(&home))?;
        }
        Ok(())
    }

    /// The file of what the authority has withdrawn.
    #[must_use]
    pub fn crl_path(&self) -> PathBuf {
        self.dir.join(CRL)
    }

    /// What the authority has withdrawn, PEM or DER as it was stored; nothing where it never said.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn crl(&self) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(read_file(&self.crl_path(), MAX_CRL_BYTES)?.map(|bytes| bytes.to_vec()))
    }

    /// Replaces what the authority has withdrawn. Only for a list whose signature was verified.
    ///
    /// # Errors
    /// When the file system refuses; the former list then stays.
    pub fn store_crl(&self, text: &[u8]) -> Result<(), StoreError> {
        self.replace(CRL, text)
    }

    /// The latest time that was ever kept.
    ///
    /// # Errors
    /// When the file cannot be read, or holds something else.
    pub fn last_time(&self) -> Result<Option<SystemTime>, StoreError> {
        let path = self.dir.join(LAST_TIME);
        let Some(bytes) = read_file(&path, MAX_TIME)? else { return Ok(None) };
        let seconds = std::str::from_utf8(&bytes).ok().and_then(|text| text.trim().parse().ok());
        let time = seconds
            .and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
        time.map(Some).ok_or(StoreError::Broken {
            path,
            why: "it does not hold seconds since 1970".to_owned(),
            remedy: "remove it",
        })
    }

    /// Keeps a time. Whether it may be less than the one before is for [`crate::floor`] to say.
    ///
    /// # Errors
    /// When the file system refuses; the former one then stays.
    pub fn store_last_time(&self, time: SystemTime) -> Result<(), StoreError> {
        let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        self.replace(LAST_TIME, format!("{seconds}\n").as_bytes())
    }

    /// What became of the last renewal; nothing where nothing was ever tried.
    ///
    /// # Errors
    /// When the file cannot be read, or holds something else.
    pub fn state(&self) -> Result<IdentityState, StoreError> {
        let path = self.dir.join(STATE);
        match read_file(&path, MAX_STATE)? {
            None => Ok(IdentityState::default()),
            Some(bytes) => IdentityState::read(&bytes).map_err(|why| StoreError::Broken {
                path,
                why,
                remedy: "remove it; nothing but history is lost",
            }),
        }
    }

    /// Keeps what became of the last renewal.
    ///
    /// # Errors
    /// When the file system refuses; the former state then stays.
    pub fn store_state(&self, state: &IdentityState) -> Result<(), StoreError> {
        self.replace(STATE, state.text().as_bytes())
    }

    /// What of the folder others than its owner can read: a warning. Empty where there is nothing.
    #[must_use]
    pub fn exposed(&self) -> Vec<PathBuf> {
        let mut secret = vec![
            self.dir.clone(),
            self.dir.join(TOKEN),
            self.pending_path().join("key.pem"),
            self.dir.join(BOOTSTRAP).join("key.pem"),
        ];
        let generations = self.generations();
        for generation in generations.all().unwrap_or_default() {
            secret.push(generations.path_of(generation).join("key.pem"));
        }
        let open = |path: &PathBuf| {
            fs::metadata(path).is_ok_and(|data| data.permissions().mode() & 0o077 != 0)
        };
        secret.retain(open);
        secret
    }

    /// Decommissions the gateway: removes every key, certificate and token for ever, the keys first
    /// and overwritten, and whom it trusts. Goes on past what cannot be removed, and says so.
    /// Nothing here tells the authority: revoke the certificate there too.
    #[must_use]
    pub fn wipe(&self) -> Wiped {
        self.wipe_with(&mut |_| Ok(()))
    }

    fn wipe_with(&self, before: &mut Before<'_>) -> Wiped {
        let mut wiped = Wiped::default();
        if !self.dir.exists() {
            return wiped;
        }
        let mut step = steps(before);
        for name in ["pending/key.pem", "bootstrap/key.pem", TOKEN] {
            let path = self.dir.join(name);
            wiped.note(&path, shred(&path, &mut step));
        }
        self.generations().wipe(&mut wiped, &mut step);
        for name in [PENDING, BOOTSTRAP] {
            let path = self.dir.join(name);
            if path.symlink_metadata().is_ok() {
                let gone = step("remove", &path, &mut || fs::remove_dir_all(&path));
                wiped.note(&path, gone.map(|()| true));
            }
        }
        for name in [ROOTS, CRL, LAST_TIME, STATE, lock::NAME] {
            let path = self.dir.join(name);
            wiped.note(&path, remove_file(&path, &mut step));
        }
        if let Err(error) = clear_drafts(&self.dir) {
            wiped.left.push(error);
        }
        wiped
    }

    fn replace(&self, name: &str, content: &[u8]) -> Result<(), StoreError> {
        self.replace_with(name, content, &mut |_| Ok(()))
    }

    fn replace_with(
        &self,
        name: &str,
        content: &[u8],
        before: &mut Before<'_>,
    ) -> Result<(), StoreError> {
        write_file(&self.dir.join(name), content, &mut steps(before))
    }
}

fn pending_certificate(path: &Path) -> Result<Option<Enrolled>, StoreError> {
    let Some(text) = read_file(path, MAX_CERTIFICATES)? else { return Ok(None) };
    let broken = |why: String| StoreError::Broken {
        path: path.to_owned(),
        why,
        remedy: "put the signed certificate there as PEM, those of its chain after it",
    };
    let mut all = certificates_of(&text).map_err(|error| broken(error.to_string()))?.into_iter();
    let certificate = all.next().ok_or_else(|| broken("it is empty".to_owned()))?;
    Ok(Some(Enrolled { certificate, chain: all.collect() }))
}

#[cfg(test)]
mod tests;
