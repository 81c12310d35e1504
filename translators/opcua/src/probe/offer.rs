//! What a server offers, as it tells anybody who asks.
//!
//! # Invariants
//! - Whatever a server writes becomes an offer; what is unknown is kept as it was written.
//! - The order is that of strength: what would be chosen stands first.

use opcua::types::{EndpointDescription, MessageSecurityMode, UserTokenType};

use crate::spec::{Mode, Policy, Security};

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The URL that the server advertises for it.
    pub url: String,
    /// Its algorithms.
    pub policy: OfferedPolicy,
    /// What is done with each message.
    pub mode: OfferedMode,
    /// Who may log on.
    pub tokens: Vec<Token>,
    /// How good the server thinks it is, among its own.
    pub level: u8,
    /// The server's certificate and, as far as sent, its chain: DER, one behind the other.
    pub certificate: Vec<u8>,
    /// Whether it is of the binary protocol over TCP, the one that is spoken here.
    pub binary: bool,
}

/// Algorithms on offer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum OfferedPolicy {
    /// None: messages can be read and changed on the way.
    None,
    /// One that is spoken here.
    Known(Policy),
    /// Withdrawn because it was broken: never used.
    Withdrawn(&'static str),
    /// One that is not spoken here, by its name or URI.
    Other(String),
}

/// What is done with each message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OfferedMode {
    /// Nothing.
    None,
    /// It is signed.
    Sign,
    /// It is signed and encrypted.
    SignAndEncrypt,
    /// The server does not say.
    Invalid,
}

/// A way to log on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Which.
    pub kind: TokenKind,
    /// The policy that protects the secret, where it is not the endpoint's.
    pub policy: Option<OfferedPolicy>,
}

/// The ways to log on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TokenKind {
    /// As nobody.
    Anonymous,
    /// With name and password.
    UserName,
    /// With a certificate.
    Certificate,
    /// With a token that somebody else issues.
    Issued,
}

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Application {
    /// Its name.
    pub name: String,
    /// Its application URI.
    pub uri: String,
    /// Its product's URI.
    pub product: String,
}

const POLICIES: &str = "http://opcfoundation.org/UA/SecurityPolicy#";

impl OfferedPolicy {
    /// By its URI.
    #[must_use]
    pub fn of(uri: &str) -> Self {
        match uri.strip_prefix(POLICIES) {
            Some("None") => Self::None,
            Some("Basic128Rsa15") => Self::Withdrawn("Basic128Rsa15"),
            Some("Basic256") => Self::Withdrawn("Basic256"),
            Some("Basic256Sha256") => Self::Known(Policy::Basic256Sha256),
            Some("Aes128_Sha256_RsaOaep") => Self::Known(Policy::Aes128Sha256RsaOaep),
            Some("Aes256_Sha256_RsaPss") => Self::Known(Policy::Aes256Sha256RsaPss),
            Some(other) => Self::Other(other.to_owned()),
            None => Self::Other(uri.to_owned()),
        }
    }

    /// Its name, as the specification writes it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::None => "None",
            Self::Known(policy) => policy_name(*policy),
            Self::Withdrawn(name) => name,
            Self::Other(name) => name,
        }
    }

    const fn strength(&self) -> u8 {
        match self {
            Self::Known(Policy::Aes256Sha256RsaPss) => 5,
            Self::Known(Policy::Aes128Sha256RsaOaep) => 4,
            Self::Known(Policy::Basic256Sha256) => 3,
            Self::Other(_) => 2,
            Self::Withdrawn(_) => 1,
            Self::None => 0,
        }
    }
}

/// The name of a policy, as the specification writes it.
#[must_use]
pub const fn policy_name(policy: Policy) -> &'static str {
    match policy {
        Policy::Basic256Sha256 => "Basic256Sha256",
        Policy::Aes128Sha256RsaOaep => "Aes128_Sha256_RsaOaep",
        Policy::Aes256Sha256RsaPss => "Aes256_Sha256_RsaPss",
    }
}

impl OfferedMode {
    /// Its name, as the specification writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Sign => "Sign",
            Self::SignAndEncrypt => "SignAndEncrypt",
            Self::Invalid => "Invalid",
        }
    }

    const fn strength(self) -> u8 {
        match self {
            Self::SignAndEncrypt => 2,
            Self::Sign => 1,
            Self::None | Self::Invalid => 0,
        }
    }
}

impl TokenKind {
    /// In a list for people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::UserName => "user",
            Self::Certificate => "certificate",
            Self::Issued => "issued",
        }
    }
}

impl Offer {
    /// The server's own certificate, without its chain: DER.
    #[must_use]
    pub fn leaf(&self) -> &[u8] {
        crate::connect::leaf(&self.certificate)
    }

    /// Whether it can be used with these settings.
    #[must_use]
    pub fn fits(&self, security: Security) -> bool {
        self.binary
            && match security {
                Security::None => self.policy == OfferedPolicy::None,
                Security::Protected { policy, mode } => {
                    let policy_fits = match (&self.policy, policy) {
                        (OfferedPolicy::Known(offered), Some(wanted)) => *offered == wanted,
                        (OfferedPolicy::Known(_), None) => true,
                        _ => false,
                    };
                    let mode = match mode {
                        Mode::Sign => OfferedMode::Sign,
                        Mode::SignAndEncrypt => OfferedMode::SignAndEncrypt,
                    };
                    policy_fits && self.mode == mode
                }
            }
    }

    /// Whether somebody may log on in this way.
    #[must_use]
    pub fn takes(&self, kind: TokenKind) -> bool {
        // A server that lists none takes anybody (OPC 10000-4, 7.14: older servers).
        self.tokens.iter().any(|token| token.kind == kind)
            || (self.tokens.is_empty() && kind == TokenKind::Anonymous)
    }
}

/// The offers of a server, the strongest first.
#[must_use]
pub(super) fn offers(endpoints: &[EndpointDescription]) -> Vec<Offer> {
    let mut offers: Vec<Offer> = endpoints.iter().map(offer).collect();
    offers.sort_by_key(|offer| {
        std::cmp::Reverse((offer.binary, offer.policy.strength(), offer.mode.strength()))
    });
    offers
}

/// What the server says of itself.
#[must_use]
pub(super) fn application(endpoints: &[EndpointDescription]) -> Option<Application> {
    let server = &endpoints.first()?.server;
    Some(Application {
        name: server.application_name.text.as_ref().to_owned(),
        uri: server.application_uri.as_ref().to_owned(),
        product: server.product_uri.as_ref().to_owned(),
    })
}

fn offer(endpoint: &EndpointDescription) -> Offer {
    let tokens = endpoint.user_identity_tokens.iter().flatten();
    Offer {
        url: endpoint.endpoint_url.as_ref().to_owned(),
        policy: OfferedPolicy::of(endpoint.security_policy_uri.as_ref()),
        mode: match endpoint.security_mode {
            MessageSecurityMode::None => OfferedMode::None,
            MessageSecurityMode::Sign => OfferedMode::Sign,
            MessageSecurityMode::SignAndEncrypt => OfferedMode::SignAndEncrypt,
            MessageSecurityMode::Invalid => OfferedMode::Invalid,
        },
        tokens: tokens
            .map(|token| Token {
                kind: match token.token_type {
                    UserTokenType::Anonymous => TokenKind::Anonymous,
                    UserTokenType::UserName => TokenKind::UserName,
                    UserTokenType::Certificate => TokenKind::Certificate,
                    UserTokenType::IssuedToken => TokenKind::Issued,
                },
                policy: Some(token.security_policy_uri.as_ref())
                    .filter(|uri| !uri.is_empty())
                    .map(OfferedPolicy::of),
            })
            .collect(),
        level: endpoint.security_level,
        certificate: endpoint.server_certificate.as_ref().to_vec(),
        // Old servers leave the profile out.
        binary: {
            let profile = endpoint.transport_profile_uri.as_ref();
            profile.is_empty() || profile.ends_with("uatcp-uasc-uabinary")
        },
    }
}
