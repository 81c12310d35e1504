//! Whoever signs certificates, as the gateway sees it.
//!
//! # Invariants
//! - An authority is asked by what was pinned: nothing that it says is believed before its own
//!   certificate led to a root whose hash a person wrote down. There is no trust on first use.
//! - What it sends is not believed either: a certificate counts once it fits the key, the name and
//!   the purpose that were asked for, which is [`CertificateRequest`]'s part.
//! - Each failure says which of a few things went wrong, because each is another alarm.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::identity::Identity;
use crate::request::CertificateRequest;

/// An answer that takes time.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, AuthorityError>> + Send + 'a>>;

/// Signs certificates. Every answer comes within a time of the authority's own choice, or as
/// [`AuthorityError::Unreachable`].
pub trait Authority: fmt::Debug + Send + Sync {
    /// The roots that certificates of this authority lead to.
    fn roots(&self) -> Answer<'_, Vec<CertificateDer<'static>>>;

    /// Has a request signed.
    fn enrol<'a>(
        &'a self,
        request: &'a CertificateRequest,
        by: Warrant<'a>,
    ) -> Answer<'a, Enrolled>;
}

/// What shows that a gateway may have a certificate.
#[derive(Debug, Clone, Copy)]
pub enum Warrant<'a> {
    /// A token of a single use: the first time, or after the certificate has expired.
    Token(&'a Token),
    /// A certificate that was put into the device for its first enrolment.
    Bootstrap(&'a Identity),
    /// The certificate that is to be replaced.
    Renewal(&'a Identity),
}

/// A secret that opens the door once. Not printed, not cloned, wiped on drop.
pub struct Token(Zeroizing<String>);

impl Token {
    /// Takes a token as a person wrote it, without the white space around it; `None` when nothing is
    /// left, or a character cannot stand in a header.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        let legal = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        legal.then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// The secret, for the one header that carries it.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// What an authority signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// Those between it and the root, the nearest first; the root is not in it.
    pub chain: Vec<CertificateDer<'static>>,
}

/// Why an authority gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// It was not reached, or fell silent.
    #[error("the authority {authority} does not answer: {why}")]
    Unreachable {
        /// Which one, as a URL without secrets.
        authority: String,
        /// What happened.
        why: String,
    },
    /// What answers is not the pinned authority.
    #[error("{authority} is not the pinned authority: {why}")]
    Untrusted {
        /// Which one.
        authority: String,
        /// What its certificate lacks.
        why: String,
    },
    /// It refuses.
    #[error("the authority {authority} refuses ({status}): {said}")]
    Refused {
        /// Which one.
        authority: String,
        /// The HTTP status.
        status: u16,
        /// Its words, cut and without control characters.
        said: String,
    },
    /// A person there must agree first.
    #[error("the authority {authority} has not decided yet")]
    Later {
        /// Which one.
        authority: String,
        /// When it wants to be asked again.
        after: Duration,
    },
    /// What it sent is no answer, or not to what was asked.
    #[error("the authority {authority} sent what cannot be used: {why}")]
    Unusable {
        /// Which one.
        authority: String,
        /// What is wrong with it.
        why: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_trimmed_and_not_printed() {
        let token = Token::new(" abc-123\n").unwrap();
        assert_eq!(token.secret(), "abc-123");
        assert_eq!(format!("{token:?}"), "Token(..)");
        for none in ["", " \n", "a b", "a\u{7f}", "ä"] {
            assert!(Token::new(none).is_none(), "{none:?}");
        }
    }
}
