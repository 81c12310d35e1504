//! Who asks: the proxy, and the certificates that are shown to a hub.

use std::path::PathBuf;
use std::sync::Arc;
use std::{fmt, io};

use rustls::client::{ClientConfig, Resumption};
use rustls::sign::SingleCertAndKey;
use rustls::{RootCertStore, version};
use tidegate_identity::{load_identity, load_trust};
use zeroize::Zeroizing;

use crate::causes::chain;
use crate::config::{Hub, Proxy, TlsFiles};

/// The longest password of a proxy, in bytes.
const LONGEST_PASSWORD: u64 = 1024;

/// The proxy, with its password.
#[derive(PartialEq, Eq)]
pub struct ProxyAccess {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    user: Option<(String, Zeroizing<String>)>,
}

impl fmt::Debug for ProxyAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyAccess")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("user", &self.user.as_ref().map(|(name, _)| name))
            .finish()
    }
}

/// Why nobody can be asked.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The password of the proxy is not there.
    #[error("[hub] proxy-password-file {path} cannot be read; put the password of {user:?} there, readable by the daemon alone", path = path.display())]
    Password {
        /// The file.
        path: PathBuf,
        /// Whose.
        user: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is no password.
    #[error("[hub] proxy-password-file {path} holds no password: {why}; write it alone, in one line", path = path.display())]
    NoPassword {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The certificates will not do.
    #[error("the certificate files for the hub cannot be used: {0}")]
    Certificates(String),
}

impl ProxyAccess {
    /// With the password from its file, where there is a user.
    ///
    /// # Errors
    /// When the file cannot be read or holds no password.
    pub fn of(proxy: &Proxy) -> Result<Self, AccessError> {
        let user = proxy.user.as_ref().map(|user| -> Result<_, AccessError> {
            let password = password_in(&user.password_file, &user.name)?;
            Ok((user.name.clone(), password))
        });
        let user = user.transpose()?;
        Ok(Self { host: proxy.host.clone(), port: proxy.port, user })
    }

    /// Without the user: the proxy is asked all the same.
    #[must_use]
    pub fn of_nobody(proxy: &Proxy) -> Self {
        Self { host: proxy.host.clone(), port: proxy.port, user: None }
    }

    #[cfg(test)]
    pub(crate) fn known(host: &str, port: u16, name: &str, password: &str) -> Self {
        let user = Some((name.to_owned(), Zeroizing::new(password.to_owned())));
        Self { host: host.to_owned(), port, user }
    }

    /// Stars for the password in a line of a log.
    pub(crate) fn scrub(&self, line: String) -> String {
        match self.user() {
            Some((_, password)) if line.contains(password) => line.replace(password, "***"),
            _ => line,
        }
    }

    /// Name and password, where somebody is known.
    pub(crate) fn user(&self) -> Option<(&str, &str)> {
        self.user.as_ref().map(|(name, password)| (name.as_str(), password.as_str()))
    }
}

fn password_in(path: &std::path::Path, user: &str) -> Result<Zeroizing<String>, AccessError> {
    use std::io::Read as _;
    let mut text = Zeroizing::new(String::new());
    std::fs::File::open(path)
        .and_then(|file| file.take(LONGEST_PASSWORD + 1).read_to_string(&mut text))
        .map_err(|source| AccessError::Password {
            path: path.to_owned(),
            user: user.to_owned(),
            source,
        })?;
    let no_password = |why| AccessError::NoPassword { path: path.to_owned(), why };
    let password = text.trim_end_matches(['\r', '\n']);
    match password {
        "" => Err(no_password("it is empty")),
        long if u64::try_from(long.len()).is_ok_and(|length| length > LONGEST_PASSWORD) => {
            Err(no_password("it is longer than 1024 bytes"))
        }
        odd if odd.contains(char::is_control) => Err(no_password("it has several lines")),
        password => Ok(Zeroizing::new(password.to_owned())),
    }
}

/// What a hub is asked with.
pub struct Access {
    /// The proxy, where there is one.
    pub proxy: Option<Arc<ProxyAccess>>,
    /// How TLS is spoken now; nothing while there are no certificates.
    tls: Box<dyn Fn() -> Result<Option<Arc<ClientConfig>>, AccessError> + Send + Sync>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("proxy", &self.proxy).finish_non_exhaustive()
    }
}

impl Access {
    /// Through a proxy, where there is one. `files` are those that the leaf shows at that time.
    pub fn new(
        proxy: Option<Arc<ProxyAccess>>,
        files: impl Fn() -> Option<TlsFiles> + Send + Sync + 'static,
    ) -> Self {
        let tls = move || files().map(|files| client(&files)).transpose();
        Self { proxy, tls: Box::new(tls) }
    }

    /// The same with TLS as the caller has set it up: for an identity that nobody shows yet.
    ///
    /// # Errors
    /// When the password of the proxy is not there.
    pub fn showing(hub: &Hub, tls: Arc<ClientConfig>) -> Result<Self, AccessError> {
        let proxy = hub.proxy.as_ref().map(ProxyAccess::of).transpose()?.map(Arc::new);
        Ok(Self { proxy, tls: Box::new(move || Ok(Some(Arc::clone(&tls)))) })
    }

    /// TLS as the leaf speaks it, with the files as they are now; `None` while there are none.
    ///
    /// # Errors
    /// When a file is not what it should be.
    pub fn tls(&self) -> Result<Option<Arc<ClientConfig>>, AccessError> {
        (self.tls)()
    }
}

fn client(files: &TlsFiles) -> Result<Arc<ClientConfig>, AccessError> {
    fn unusable(error: impl std::error::Error) -> AccessError {
        AccessError::Certificates(chain(&error))
    }
    let mut roots = RootCertStore::empty();
    for certificate in load_trust(&files.ca).map_err(unusable)?.certificates {
        roots.add(certificate).map_err(unusable)?;
    }
    let identity = load_identity(&files.cert, &files.key).map_err(|errors| {
        let errors: Vec<_> = errors.iter().map(|error| chain(error)).collect();
        AccessError::Certificates(errors.join("; "))
    })?;
    let shown = SingleCertAndKey::from(identity.certified().map_err(unusable)?);
    let mut config =
        ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_protocol_versions(&[&version::TLS13])
            .map_err(unusable)?
            .with_root_certificates(roots)
            .with_client_cert_resolver(Arc::new(shown));
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ProxyUser;

    fn read(text: &[u8]) -> Result<ProxyAccess, AccessError> {
        let dir = tempfile::tempdir().unwrap();
        let password_file = dir.path().join("password");
        std::fs::write(&password_file, text).unwrap();
        let user = Some(ProxyUser { name: "me".into(), password_file });
        ProxyAccess::of(&Proxy { host: "proxy".into(), port: 3128, user })
    }

    #[test]
    fn the_password_is_the_line_of_its_file_and_is_not_printed() {
        let access = read(b"s e\"cret\r\n").unwrap();
        assert_eq!(access.user(), Some(("me", "s e\"cret")));
        assert!(!format!("{access:?}").contains("cret"));
    }

    #[test]
    fn what_is_no_password_is_refused_with_the_file_and_without_the_text() {
        for text in [&b""[..], b"\n", b"secret\nsecret\n", &[b'x'; 1025], b"\xff"] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains("proxy-password-file") && !error.contains("secret"), "{error}");
        }
    }
}
