//! Where an EST server is.
//!
//! # Invariants
//! - `https` alone, without a name, a password, a query or a fragment in it: what is shown of it in
//!   errors and logs holds no secret.

use std::fmt;
use std::str::FromStr;

use hyper::Uri;
use rustls_pki_types::ServerName;

/// RFC 7030, 3.2.2.
const WELL_KNOWN: &str = "/.well-known/est";

/// The address of an EST server, for example `https://ca.example.com:8443`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EstUrl {
    host: String,
    port: u16,
    path: String,
}

/// Why a text is no address of an EST server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EstUrlError {
    /// It is no URL.
    #[error("{text:?} is no URL; write https://HOST[:PORT][/PATH]")]
    Malformed {
        /// What was written.
        text: String,
    },
    /// Another scheme.
    #[error("{text:?} does not begin with https://; an authority is asked over TLS alone")]
    NotHttps {
        /// What was written.
        text: String,
    },
    /// A name or password in it would be shown in errors.
    #[error(
        "a user name or password stands in the URL of the authority; put it into the token file"
    )]
    Credentials,
    /// A query or fragment.
    #[error("{text:?} has a query or fragment, which an EST server's address has not")]
    Query {
        /// What was written.
        text: String,
    },
}

impl FromStr for EstUrl {
    type Err = EstUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains('@') {
            return Err(EstUrlError::Credentials);
        }
        let text_of = || text.to_owned();
        let uri: Uri = text.parse().map_err(|_| EstUrlError::Malformed { text: text_of() })?;
        if uri.scheme_str() != Some("https") {
            return Err(EstUrlError::NotHttps { text: text_of() });
        }
        if uri.query().is_some() || text.contains('#') {
            return Err(EstUrlError::Query { text: text_of() });
        }
        let host = uri.host().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        // Without a port the authority ends with the host; a colon promises a number that fits.
        let authority = uri.authority().map_or("", |all| all.as_str());
        let is_promised = !authority.ends_with(uri.host().unwrap_or_default());
        let has_port = uri.port_u16().is_some_and(|port| port != 0);
        if ServerName::try_from(host).is_err() || is_promised != has_port {
            return Err(EstUrlError::Malformed { text: text_of() });
        }
        let path = uri.path().trim_end_matches('/');
        Ok(Self {
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(443),
            path: if path.is_empty() { WELL_KNOWN } else { path }.to_owned(),
        })
    }
}

impl EstUrl {
    /// The host, an address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, 443 when none is written.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The path of one of the server's operations.
    pub(super) fn operation(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }

    /// Host and port as a request's `Host` has it.
    pub(super) fn authority(&self) -> String {
        let host = &self.host;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        if self.port == 443 { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for EstUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path == WELL_KNOWN { "" } else { &self.path };
        write!(f, "https://{}{path}", self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_no_port_and_no_path() {
        let url: EstUrl = "https://ca.example.com".parse().unwrap();
        assert_eq!((url.host(), url.port()), ("ca.example.com", 443));
        assert_eq!(url.operation("cacerts"), "/.well-known/est/cacerts");
        assert_eq!(url.to_string(), "https://ca.example.com");
        let url: EstUrl = "https://[::1]:8443/.well-known/est/plants/".parse().unwrap();
        assert_eq!((url.host(), url.port()), ("::1", 8443));
        assert_eq!(url.operation("cacerts"), "/.well-known/est/plants/cacerts");
        assert_eq!(url.to_string(), "https://[::1]:8443/.well-known/est/plants");
        let same: EstUrl = url.to_string().parse().unwrap();
        assert_eq!(same, url);
    }

    #[test]
    fn whatever_is_no_address_of_a_server_is_refused_and_no_password_is_shown() {
        for text in [
            "",
            "ca.example.com",
            "http://ca",
            "ftp://ca",
            "https://",
            "https://ca:0",
            "https://ca:",
            "https://a b",
            "https://ca?x",
            "https://ca#x",
            "https://ca_:99999",
        ] {
            assert!(text.parse::<EstUrl>().is_err(), "{text:?}");
        }
        let error = "https://me:secret@ca".parse::<EstUrl>().unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
