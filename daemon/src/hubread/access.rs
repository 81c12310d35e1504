//! How a command reaches a hub: the options that `prove`, `tap` and later ones share.

use std::path::PathBuf;
use std::time::Duration;

use async_nats::{Client, ConnectOptions};

use crate::names::Name;

/// A hub on the same continent answers in well under this.
const CONNECT: Duration = Duration::from_secs(5);

/// The stream that collects frames, where nobody names another.
pub(crate) const READER_STREAM: &str = "TIDE";

/// Options to reach a hub.
#[derive(Debug, Clone, clap::Args)]
pub struct Access {
    /// The hub's client address, such as nats://hub-1.example.com:4222
    #[arg(long, value_name = "URL", env = "TIDEGATE_SERVER", required_unless_present = "context")]
    pub server: Option<String>,
    /// As whom.
    #[command(flatten)]
    pub login: Login,
    /// The stream that collects frames
    #[arg(long, value_name = "NAME", default_value = READER_STREAM, value_parser = |name: &str| Name::new(name))]
    pub stream: Name,
}

/// As whom a command logs in, at a hub or at a leaf.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Login {
    /// Credentials file of the reading user
    #[arg(long, value_name = "FILE")]
    pub creds: Option<PathBuf>,
    /// User name; the password comes from --password-file
    #[arg(long, value_name = "NAME", requires = "password_file")]
    pub user: Option<String>,
    /// File that holds the password alone
    #[arg(long, value_name = "FILE", requires = "user")]
    pub password_file: Option<PathBuf>,
    /// Certificate authority to trust (PEM)
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Client certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// Private key of the client certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// A context of the nats command line, by name
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
}

impl Login {
    /// By a certificate, to a server that this authority vouches for.
    #[must_use]
    pub fn by_certificate(ca: PathBuf, cert: PathBuf, key: PathBuf) -> Self {
        Self { ca: Some(ca), cert: Some(cert), key: Some(key), ..Self::default() }
    }
}

/// Why a hub cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A file that an option names.
    #[error("{option} {path} cannot be read")]
    File {
        /// Which option.
        option: &'static str,
        /// What it named.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A context file that is not what the nats command line writes.
    #[error("context {name:?} at {path} is not readable as JSON with a \"url\"")]
    Context {
        /// Its name.
        name: String,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// No connection.
    #[error("no connection to {server}")]
    Connect {
        /// Where to.
        server: String,
        /// Why.
        #[source]
        source: async_nats::ConnectError,
    },
}

/// The keys of a context file that matter here.
#[derive(Debug, Default, serde::Deserialize)]
struct Context {
    #[serde(default)]
    url: String,
    #[serde(default)]
    user: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    creds: String,
    #[serde(default)]
    cert: String,
    #[serde(default)]
    key: String,
    #[serde(default)]
    ca: String,
}

impl Access {
    /// Connects once; a command does not wait for a hub that is not there.
    ///
    /// # Errors
    /// When a file cannot be read or no connection comes about.
    pub async fn connect(&self) -> Result<Client, AccessError> {
        self.connect_as(Some(3), None).await
    }

    /// [`Access::connect`] with inboxes below a prefix of one's own, where only those are heard.
    ///
    /// # Errors
    /// As there.
    pub async fn connect_hearing(&self, inbox: String) -> Result<Client, AccessError> {
        self.connect_as(Some(3), Some(inbox)).await
    }

    /// [`Access::connect`], and connects as often again when the connection is lost; without a
    /// number for ever.
    ///
    /// # Errors
    /// As there.
    pub async fn connect_again(&self, times: Option<usize>) -> Result<Client, AccessError> {
        self.connect_as(times, None).await
    }

    async fn connect_as(
        &self,
        times: Option<usize>,
        inbox: Option<String>,
    ) -> Result<Client, AccessError> {
        let context = self.context()?;
        let filled = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
        let server = match &self.server {
            Some(server) => server.clone(),
            None => context.url.clone(),
        };
        let (server, login) = login_of(&server);
        let mut options = ConnectOptions::new()
            .name("tidegate")
            .connection_timeout(CONNECT)
            .request_timeout(Some(CONNECT))
            .max_reconnects(times);
        if let Some(inbox) = inbox {
            options = options.custom_inbox_prefix(inbox);
        }
        if let Some(creds) = self.login.creds.clone().or_else(|| filled(&context.creds)) {
            let file =
                |source| AccessError::File { option: "--creds", path: creds.clone(), source };
            options = options.credentials_file(&creds).await.map_err(file)?;
        }
        if let (Some(user), Some(path)) = (&self.login.user, &self.login.password_file) {
            let password = std::fs::read_to_string(path).map_err(|source| AccessError::File {
                option: "--password-file",
                path: path.clone(),
                source,
            })?;
            options = options.user_and_password(user.clone(), password.trim_end().to_owned());
        } else if let Some((user, password)) = login {
            options = options.user_and_password(user, password);
        } else if !context.user.is_empty() {
            options = options.user_and_password(context.user.clone(), context.password.clone());
        }
        if let Some(ca) = self.login.ca.clone().or_else(|| filled(&context.ca)) {
            readable("--ca", &ca)?;
            options = options.add_root_certificates(ca).require_tls(true);
        }
        let cert = self.login.cert.clone().or_else(|| filled(&context.cert));
        let key = self.login.key.clone().or_else(|| filled(&context.key));
        if let (Some(cert), Some(key)) = (cert, key) {
            readable("--cert", &cert)?;
            readable("--key", &key)?;
            options = options.add_client_certificate(cert, key);
        }
        let connected = options.connect(server.as_str()).await;
        connected.map_err(|source| AccessError::Connect { server, source })
    }

    fn context(&self) -> Result<Context, AccessError> {
        let Some(name) = &self.login.context else { return Ok(Context::default()) };
        let base = std::env::var_os("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")))
            .unwrap_or_default();
        let path = base.join("nats/context").join(format!("{name}.json"));
        let text = std::fs::read_to_string(&path).map_err(|source| AccessError::File {
            option: "--context",
            path: path.clone(),
            source,
        })?;
        serde_json::from_str::<Context>(&text)
            .ok()
            .filter(|context| !context.url.is_empty() || self.server.is_some())
            .ok_or_else(|| AccessError::Context { name: name.clone(), path })
    }
}

fn readable(option: &'static str, path: &std::path::Path) -> Result<(), AccessError> {
    std::fs::File::open(path).map(drop).map_err(|source| AccessError::File {
        option,
        path: path.to_owned(),
        source,
    })
}

/// A server URL without its user part, and that part: the client library ignores it.
fn login_of(server: &str) -> (String, Option<(String, String)>) {
    let (scheme, rest) = server.find("://").map_or(("", server), |at| server.split_at(at + 3));
    let Some((login, host)) = rest.rsplit_once('@') else { return (server.to_owned(), None) };
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    (format!("{scheme}{host}"), Some((user.to_owned(), password.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_in_a_url_is_used_and_never_shown() {
        let login = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(
            login_of("nats://u:p@ss@hub:4222"),
            ("nats://hub:4222".into(), login("u", "p@ss"))
        );
        assert_eq!(login_of("u:p@hub"), ("hub".into(), login("u", "p")));
        assert_eq!(login_of("nats://hub:4222"), ("nats://hub:4222".into(), None));
    }
}
