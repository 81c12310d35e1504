//! What the OPC UA translator shows to servers and whom it trusts: the certificate and the folders
//! of `[opcua] dir`, and passwords from files of their own.
//!
//! # Invariants
//! - Everything is read anew for each connection: what a person approves, withdraws or replaces
//!   counts at once.
//! - A server that does not take our newest certificate is shown the former one as long as that is
//!   valid, and the newest again after a while: somebody may have approved it.
//! - A password is never copied into memory that is not wiped.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tidegate_identity::crl::CrlRule;
use tidegate_identity::opcua::{
    DistrustKind as Kind, Expectation, Own, OwnCertificate, OwnSpec, Thumbprint as Seen, TrustStore,
};
use tidegate_opcua::{
    Application, Credentials, Distrust, DistrustKind, Presented, Thumbprint, UserSpec,
};
use tidegate_translator::{Clock, Timestamp};
use tokio::runtime::{Handle, RuntimeFlavor};
use zeroize::Zeroizing;

use crate::causes::chain;
use crate::config::credential;
use crate::observe::state::{Board, CertificateStatus};

/// The longest password, in bytes. The policies that encrypt one take less.
const MAX_PASSWORD: usize = 1024;

/// How long a server that did not take a certificate is not shown it again while there is another.
const SHOWN_AGAIN: Duration = Duration::from_secs(3_600);

/// Remarks that are told once; of more the log says nothing.
const MAX_REMARKS: usize = 256;

/// Why a password cannot be had.
#[derive(Debug, thiserror::Error)]
enum PasswordError {
    #[error("password file {} cannot be read; let the user that runs tidegate read it", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("password file {} holds no password; write the password alone into it", path.display())]
    Empty { path: PathBuf },
    #[error(
        "password file {} is longer than {MAX_PASSWORD} bytes; write the password alone into it",
        path.display()
    )]
    TooLong { path: PathBuf },
    #[error("password file {} is not UTF-8 text", path.display())]
    NotText { path: PathBuf },
    #[error("password file {} is no file", path.display())]
    NotAFile { path: PathBuf },
}

/// The gateway's certificate, trust folders and passwords.
pub struct OpcUaCredentials {
    own: Own,
    spec: OwnSpec,
    trust: TrustStore,
    clock: Arc<dyn Clock>,
    credentials_directory: Option<PathBuf>,
    board: Option<Arc<Board>>,
    told: Mutex<BTreeSet<String>>,
    /// Which of our certificates the servers of which devices did not take, and when.
    refused: Mutex<BTreeMap<(String, PathBuf), Instant>>,
}

impl std::fmt::Debug for OpcUaCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpcUaCredentials").field("own", &self.own).finish_non_exhaustive()
    }
}

impl OpcUaCredentials {
    /// What lies in `dir`, whether it is there or not. `spec` says what a certificate that must be
    /// made says.
    #[must_use]
    pub fn new(dir: &Path, spec: OwnSpec, clock: Arc<dyn Clock>) -> Self {
        Self {
            own: Own::below(dir),
            spec,
            trust: TrustStore::below(dir),
            clock,
            credentials_directory: std::env::var_os(credential::VARIABLE)
                .filter(|dir: &OsString| !dir.is_empty())
                .map(PathBuf::from),
            board: None,
            told: Mutex::default(),
            refused: Mutex::default(),
        }
    }

    /// How old a revocation list may be, and what an older one means.
    #[must_use]
    pub fn revoking(self, rule: CrlRule) -> Self {
        Self { trust: self.trust.revoking(rule), ..self }
    }

    /// Shows in the status until when the own certificate is valid.
    #[must_use]
    pub fn telling(self, board: Arc<Board>) -> Self {
        Self { board: Some(board), ..self }
    }

    fn note(&self, own: &OwnCertificate) {
        let Some(board) = &self.board else { return };
        let since = own.facts.not_after.duration_since(SystemTime::UNIX_EPOCH);
        let millis = since.map_or(0, |since| since.as_millis());
        board.note_certificate(CertificateStatus {
            role: "opcua".to_owned(),
            subject: own.facts.subject.clone(),
            not_after: Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX)),
        });
    }

    /// Makes the next certificate when the present one comes near its end. Blocks, as making a key
    /// takes seconds.
    pub(crate) fn tend(&self) {
        match self.own.tend(&self.spec, self.now()) {
            Ok(None) => {}
            Ok(Some(new)) => {
                self.note(&new);
                let text = format!(
                    "OPC UA certificate {} was made because the former one comes near its end; \
                     approve it at the servers (tidegate identity opcua export), which are shown \
                     the former one until then",
                    new.thumbprint.short()
                );
                self.remark(None, text);
            }
            Err(error) => self.remark(None, chain(&error)),
        }
    }

    /// The certificate for a device: the first that its server has not lately refused.
    fn choose(&self, device: &str, usable: &[OwnCertificate]) -> Option<OwnCertificate> {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.retain(|_, at| at.elapsed() < SHOWN_AGAIN);
        let is_new = |own: &&OwnCertificate| {
            !refused.contains_key(&(device.to_owned(), own.certificate.clone()))
        };
        usable.iter().find(is_new).or_else(|| usable.first()).cloned()
    }

    /// Warns once of what does not hinder.
    fn remark(&self, device: Option<&str>, text: String) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.contains(&text) || told.len() >= MAX_REMARKS {
            return;
        }
        match device {
            Some(device) => tracing::warn!(device, "{text}"),
            None => tracing::warn!("{text}"),
        }
        told.insert(text);
    }

    /// The file, or the credential of the unit that has its name where there is no such file.
    fn password_file(&self, file: &Path) -> PathBuf {
        let name = file.file_name().and_then(|name| name.to_str());
        let known = self.credentials_directory.as_deref().zip(name);
        let known = known.map(|(dir, name)| credential::find(Some(dir), name, &Path::exists));
        match known {
            Some(credential) if !file.exists() && credential.exists() => credential,
            _ => file.to_owned(),
        }
    }

    fn read_password(&self, file: &Path) -> Result<Zeroizing<String>, PasswordError> {
        let path = self.password_file(file);
        let failed = |source| PasswordError::Read { path: path.clone(), source };
        // A pipe that nobody writes would be waited for without end.
        let metadata = std::fs::metadata(&path).map_err(failed)?;
        if !metadata.is_file() {
            return Err(PasswordError::NotAFile { path });
        }
        if is_open_to_all(&metadata) {
            let text = format!(
                "every user of this machine can read the password file {}; chmod o-r it",
                path.display()
            );
            self.remark(None, text);
        }
        // One allocation, so that no part of it stays behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(2 * MAX_PASSWORD));
        let most = u64::try_from(MAX_PASSWORD + 3).unwrap_or(u64::MAX);
        File::open(&path)
            .and_then(|file| file.take(most).read_to_end(&mut bytes))
            .map_err(failed)?;
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > MAX_PASSWORD {
            return Err(PasswordError::TooLong { path });
        }
        match std::str::from_utf8(line) {
            Ok("") => Err(PasswordError::Empty { path }),
            Ok(text) => Ok(Zeroizing::new(text.to_owned())),
            Err(_) => Err(PasswordError::NotText { path }),
        }
    }

    fn now(&self) -> SystemTime {
        let since = |nanos: i64| Duration::from_nanos(nanos.unsigned_abs());
        match self.clock.now().0 {
            before @ ..0 => SystemTime::UNIX_EPOCH - since(before),
            nanos => SystemTime::UNIX_EPOCH + since(nanos),
        }
    }
}

fn is_open_to_all(metadata: &Metadata) -> bool {
    metadata.mode() & 0o004 != 0
}

/// Waits for disk and arithmetic without keeping other tasks of this thread waiting.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

impl Credentials for OpcUaCredentials {
    fn application(&self, device: &str) -> Result<Application, Box<dyn Error + Send + Sync>> {
        // The first one takes a new RSA key, which a small machine seeks for seconds.
        let newest = blocking(|| self.own.ensure(&self.spec, self.now()))?;
        self.note(&newest);
        for remark in newest.remarks(&self.spec.application_uri, self.now()) {
            self.remark(None, remark);
        }
        let usable = blocking(|| self.own.usable(self.now()))?;
        let own = self.choose(device, &usable).unwrap_or(newest);
        Ok(Application { uri: own.application_uri, certificate: own.certificate, key: own.key })
    }

    fn shown(&self, device: &str, application: &Application, taken: bool) {
        let key = (device.to_owned(), application.certificate.clone());
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if !taken {
            refused.insert(key, Instant::now());
            return;
        }
        refused.remove(&key);
        let is_former = refused.keys().any(|(other, _)| other == device);
        drop(refused);
        if is_former {
            let text = format!(
                "the server does not take the gateway's newest OPC UA certificate and is shown the \
                 former one, {}; approve the newest there (tidegate identity opcua export)",
                application.certificate.display()
            );
            self.remark(Some(device), text);
        }
    }

    fn judge(&self, presented: &Presented<'_>) -> Result<(), Distrust> {
        let thumbprints: Vec<Seen> =
            presented.trust.thumbprints.iter().map(|thumbprint| Seen(thumbprint.0)).collect();
        let expected = Expectation {
            application_uri: presented
                .trust
                .application_uri
                .as_deref()
                .unwrap_or(presented.application_uri),
            host: presented.host,
            any_host: presented.trust.any_host,
            thumbprints: &thumbprints,
            now: self.now(),
        };
        let accepted = blocking(|| self.trust.judge(presented.chain, &expected));
        let accepted = accepted.map_err(|distrust| Distrust {
            kind: kind(distrust.kind),
            text: distrust.text,
            thumbprint: distrust.thumbprint.map(|seen| Thumbprint(seen.0)),
        })?;
        for remark in accepted.remarks {
            self.remark(Some(presented.device), remark);
        }
        Ok(())
    }

    fn password(
        &self,
        user: &UserSpec,
    ) -> Result<Option<Zeroizing<String>>, Box<dyn Error + Send + Sync>> {
        match user {
            UserSpec::Password { file, .. } => Ok(Some(blocking(|| self.read_password(file))?)),
            UserSpec::Anonymous | UserSpec::Certificate { .. } => Ok(None),
        }
    }
}

const fn kind(kind: Kind) -> DistrustKind {
    match kind {
        Kind::Unknown => DistrustKind::Unknown,
        Kind::Rejected => DistrustKind::Rejected,
        Kind::Expired => DistrustKind::Expired,
        Kind::NotYetValid => DistrustKind::NotYetValid,
        Kind::Revoked => DistrustKind::Revoked,
        Kind::RevocationUnknown => DistrustKind::RevocationUnknown,
        Kind::WrongUri => DistrustKind::WrongUri,
        Kind::WrongHost => DistrustKind::WrongHost,
        Kind::TooWeak => DistrustKind::TooWeak,
        Kind::Unusable => DistrustKind::Unusable,
        Kind::Store => DistrustKind::Store,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use tidegate_identity::opcua::KeyBits;
    use tidegate_opcua::TrustSpec;

    use super::*;
    use crate::observe::state::HealthLimits;
    use crate::recorder::SystemClock;

    struct Folder {
        dir: tempfile::TempDir,
        credentials: OpcUaCredentials,
    }

    impl Folder {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let credentials = Self::of(dir.path(), "urn:tidegate:P:g");
            Self { dir, credentials }
        }

        fn of(dir: &Path, uri: &str) -> OpcUaCredentials {
            let spec = OwnSpec {
                application_uri: uri.to_owned(),
                host: Some("gw".to_owned()),
                common_name: "tidegate P g".to_owned(),
                key: KeyBits::Rsa2048,
            };
            let mut credentials =
                OpcUaCredentials::new(&dir.join("opcua"), spec, Arc::new(SystemClock));
            credentials.credentials_directory = Some(dir.join("credentials"));
            credentials
        }

        fn write(&self, name: &str, text: &[u8]) -> UserSpec {
            let file = self.dir.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
            UserSpec::Password { name: "operator".into(), file }
        }

        fn password(&self, user: &UserSpec) -> Result<String, String> {
            let password = self.credentials.password(user).map_err(|e| e.to_string())?;
            Ok(password.unwrap().to_string())
        }
    }

    #[test]
    fn a_password_is_the_file_without_the_end_of_its_line() {
        let folder = Folder::new();
        for (text, password) in
            [("geheim", "geheim"), ("geheim\n", "geheim"), ("a b\r\n", "a b"), (" ä\n\n", " ä\n")]
        {
            assert_eq!(folder.password(&folder.write("p", text.as_bytes())), Ok(password.into()));
        }
        assert_eq!(folder.credentials.password(&UserSpec::Anonymous).unwrap(), None);
        assert!(folder.credentials.told.lock().unwrap().is_empty());
    }

    #[test]
    fn a_password_that_cannot_be_one_is_refused_with_its_file_and_never_shown() {
        let folder = Folder::new();
        let secret = "s".repeat(MAX_PASSWORD + 1);
        for (text, why) in [
            (&b"\n"[..], "holds no password"),
            (b"", "holds no password"),
            (secret.as_bytes(), "is longer than 1024 bytes"),
            (b"\xff\xfegeheim", "is not UTF-8 text"),
        ] {
            let error = folder.password(&folder.write("press.password", text)).unwrap_err();
            assert!(error.contains("press.password") && error.contains(why), "{error}");
            assert!(!error.contains("geheim") && !error.contains("sss"), "{error}");
        }
        let missing = UserSpec::Password { name: "x".into(), file: folder.dir.path().join("no") };
        assert!(folder.password(&missing).unwrap_err().contains("cannot be read"));
        let dir = UserSpec::Password { name: "x".into(), file: folder.dir.path().into() };
        assert!(folder.password(&dir).unwrap_err().contains("is no file"));
    }

    #[test]
    fn a_credential_of_the_unit_stands_in_for_a_file_that_is_not_there() {
        let folder = Folder::new();
        folder.write("credentials/press.password", b"from systemd\n");
        let file = folder.dir.path().join("press.password");
        let user = UserSpec::Password { name: "operator".into(), file };
        assert_eq!(folder.password(&user), Ok("from systemd".into()));
        folder.write("press.password", b"from the file\n");
        assert_eq!(folder.password(&user), Ok("from the file".into()));
        folder.write("credentials/sealed_drive.password", b"from a folder\n");
        let file = folder.dir.path().join("drive.password");
        let user = UserSpec::Password { name: "operator".into(), file };
        assert_eq!(folder.password(&user), Ok("from a folder".into()));
    }

    #[test]
    fn a_password_that_every_user_can_read_is_taken_with_one_warning() {
        let folder = Folder::new();
        let user = folder.write("open", b"geheim\n");
        let UserSpec::Password { file, .. } = &user else { unreachable!() };
        std::fs::set_permissions(file, Permissions::from_mode(0o644)).unwrap();
        for _ in 0..2 {
            assert_eq!(folder.password(&user), Ok("geheim".into()));
        }
        let told = folder.credentials.told.lock().unwrap();
        let told: Vec<_> = told.iter().collect();
        assert!(told.len() == 1 && told[0].contains("chmod o-r"), "{told:?}");
    }

    #[test]
    fn a_server_that_does_not_take_the_newest_certificate_is_shown_the_former_one() {
        let folder = Folder::new();
        let credentials = &folder.credentials;
        let shown_to = |device: &str| credentials.application(device).unwrap();
        let former = shown_to("press");
        credentials.shown("press", &former, false);
        assert_eq!(shown_to("press"), former, "there is no other");
        credentials.own.renew(&credentials.spec, SystemTime::now()).unwrap();
        let newest = shown_to("oven");
        assert_ne!(newest, former);
        assert_eq!(shown_to("press"), newest);
        credentials.shown("press", &former, true);
        credentials.shown("press", &newest, false);
        assert_eq!(shown_to("press"), former);
        assert_eq!(shown_to("oven"), newest, "each server for itself");
        assert!(credentials.told.lock().unwrap().is_empty());
        credentials.shown("press", &former, true);
        let told = credentials.told.lock().unwrap();
        assert!(told.iter().any(|told| told.contains("gen-1/cert.pem; approve the newest")));
        drop(told);
        // Neither is taken: the newest, so that a person finds it at the server.
        credentials.shown("press", &former, false);
        assert_eq!(shown_to("press"), newest);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_own_certificate_is_made_once_and_a_server_is_judged_by_folder_and_thumbprint() {
        let mut folder = Folder::new();
        let board = Arc::new(crate::observe::state::tests::board());
        folder.credentials.board = Some(Arc::clone(&board));
        let own = folder.credentials.application("press").unwrap();
        let shown = board.report(&HealthLimits::default()).certificates;
        assert_eq!((shown.len(), shown[0].role.as_str()), (1, "opcua"));
        assert!(shown[0].days_left(SystemClock.now()) > 300.0, "{shown:?}");
        assert_eq!(own.uri, "urn:tidegate:P:g");
        assert!(own.certificate.exists() && own.key.exists());
        assert_eq!(folder.credentials.application("press").unwrap(), own);

        // Another gateway's certificate stands for a server's.
        let server = Folder::of(&folder.dir.path().join("server"), "urn:server");
        server.application("press").unwrap();
        let shown = server.own.load().unwrap().unwrap();
        let judge = |trust: &TrustSpec| {
            folder.credentials.judge(&Presented {
                device: "press",
                chain: &shown.der,
                application_uri: "urn:server",
                host: "gw",
                trust,
            })
        };
        let unknown = judge(&TrustSpec::default()).unwrap_err();
        assert_eq!(unknown.kind, DistrustKind::Unknown);
        assert_eq!(unknown.thumbprint, Some(Thumbprint(shown.thumbprint.0)));
        let by_thumbprint = TrustSpec {
            thumbprints: [Thumbprint(shown.thumbprint.0)].into(),
            ..TrustSpec::default()
        };
        assert_eq!(judge(&by_thumbprint), Ok(()));
        let other_uri = TrustSpec { application_uri: Some("urn:other".into()), ..by_thumbprint };
        assert_eq!(judge(&other_uri).unwrap_err().kind, DistrustKind::WrongUri);
    }
}
