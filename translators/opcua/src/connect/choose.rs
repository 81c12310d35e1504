//! Which of a server's endpoints is used, and which of its user tokens. No I/O.
//!
//! # Invariants
//! - Nothing weaker than what is configured is ever chosen.
//! - A password is sent unencrypted only where the configuration asks for no protection and the
//!   server offers no other way.

use std::fmt;

use opcua::crypto::SecurityPolicy;
use opcua::types::{EndpointDescription, MessageSecurityMode, UserTokenPolicy, UserTokenType};

use crate::connect::{ConnectError, Stage};
use crate::spec::{DeviceSpec, Mode, Policy, Security, UserSpec};

/// An endpoint that fits.
#[derive(Debug, Clone)]
pub(crate) struct Chosen {
    /// As the server describes it, its certificate without the chain.
    pub(crate) endpoint: EndpointDescription,
    /// The certificate and its chain as the server sent them.
    pub(crate) chain: Vec<u8>,
    pub(crate) policy: SecurityPolicy,
    pub(crate) token: UserTokenPolicy,
    /// What protects the user's secret.
    pub(crate) token_policy: SecurityPolicy,
}

const fn policy_of(policy: Policy) -> SecurityPolicy {
    match policy {
        Policy::Basic256Sha256 => SecurityPolicy::Basic256Sha256,
        Policy::Aes128Sha256RsaOaep => SecurityPolicy::Aes128Sha256RsaOaep,
        Policy::Aes256Sha256RsaPss => SecurityPolicy::Aes256Sha256RsaPss,
    }
}

/// How strong a policy is; `None` for those that are not used.
fn strength(policy: SecurityPolicy) -> Option<u8> {
    Some(match policy {
        SecurityPolicy::None => 0,
        SecurityPolicy::Basic256Sha256 => 1,
        SecurityPolicy::Aes128Sha256RsaOaep => 2,
        SecurityPolicy::Aes256Sha256RsaPss => 3,
        SecurityPolicy::Basic128Rsa15 | SecurityPolicy::Basic256 | SecurityPolicy::Unknown => {
            return None;
        }
    })
}

fn wanted_mode(security: Security) -> MessageSecurityMode {
    match security {
        Security::None => MessageSecurityMode::None,
        Security::Protected { mode: Mode::Sign, .. } => MessageSecurityMode::Sign,
        Security::Protected { mode: Mode::SignAndEncrypt, .. } => {
            MessageSecurityMode::SignAndEncrypt
        }
    }
}

fn fits(security: Security, endpoint: &EndpointDescription) -> Option<(u8, SecurityPolicy)> {
    let policy = policy_by_uri(endpoint.security_policy_uri.as_ref());
    let strength = strength(policy)?;
    let is_binary = endpoint.endpoint_url.as_ref().to_ascii_lowercase().starts_with("opc.tcp://");
    let fits = match security {
        Security::None => policy == SecurityPolicy::None,
        Security::Protected { policy: Some(wanted), .. } => policy == policy_of(wanted),
        Security::Protected { policy: None, .. } => policy != SecurityPolicy::None,
    };
    let fits = fits && endpoint.security_mode == wanted_mode(security) && is_binary;
    fits.then_some((strength, policy))
}

/// The policy with this URI, without the error that the crate logs of unknown ones.
fn policy_by_uri(uri: &str) -> SecurityPolicy {
    let short = uri.strip_prefix("http://opcfoundation.org/UA/SecurityPolicy#");
    match short {
        Some("None") => SecurityPolicy::None,
        Some("Basic256Sha256") => SecurityPolicy::Basic256Sha256,
        Some("Aes128_Sha256_RsaOaep") => SecurityPolicy::Aes128Sha256RsaOaep,
        Some("Aes256_Sha256_RsaPss") => SecurityPolicy::Aes256Sha256RsaPss,
        _ => SecurityPolicy::Unknown,
    }
}

/// The endpoint to use.
pub(crate) fn choose(
    spec: &DeviceSpec,
    endpoints: &[EndpointDescription],
) -> Result<Chosen, ConnectError> {
    let fitting = endpoints.iter().filter_map(|e| Some((fits(spec.security, e)?, e)));
    let mut fitting: Vec<_> = fitting.collect();
    // The strongest first; among equals the one that the server prefers.
    fitting.sort_by_key(|((strength, _), e)| (*strength, e.security_level));
    let Some(((_, strongest), _)) = fitting.last() else {
        let offers = Offers(endpoints);
        let text = format!("the server has no endpoint with {}; it offers {offers}", Wanted(spec));
        return Err(ConnectError::new(Stage::Choose, None, text));
    };
    let strongest = *strongest;
    for ((_, policy), endpoint) in fitting.iter().rev() {
        let Some((token, token_policy)) = token(&spec.user, endpoint, *policy) else { continue };
        let chain = endpoint.server_certificate.as_ref().to_vec();
        let mut endpoint = (*endpoint).clone();
        endpoint.server_certificate = leaf(&chain).into();
        if *policy != SecurityPolicy::None && endpoint.server_certificate.is_null_or_empty() {
            continue;
        }
        return Ok(Chosen { endpoint, chain, policy: *policy, token, token_policy });
    }
    let accepted = Tokens(fitting.last().map(|(_, e)| *e));
    let text = format!(
        "the server's endpoint with {strongest} does not let {} log on; it accepts {accepted}",
        who(&spec.user)
    );
    Err(ConnectError::new(Stage::Choose, None, text))
}

/// The best way to log on as this user at this endpoint.
fn token(
    user: &UserSpec,
    endpoint: &EndpointDescription,
    channel: SecurityPolicy,
) -> Option<(UserTokenPolicy, SecurityPolicy)> {
    let kind = match user {
        UserSpec::Anonymous => UserTokenType::Anonymous,
        UserSpec::Password { .. } => UserTokenType::UserName,
        UserSpec::Certificate { .. } => UserTokenType::Certificate,
    };
    let Some(tokens) = endpoint.user_identity_tokens.as_ref().filter(|t| !t.is_empty()) else {
        // Some small servers name none, which means that nobody has to log on.
        let anonymous = UserTokenPolicy { policy_id: "".into(), ..UserTokenPolicy::default() };
        return (kind == UserTokenType::Anonymous).then_some((anonymous, SecurityPolicy::None));
    };
    let has_certificate = !endpoint.server_certificate.is_null_or_empty();
    let usable = tokens.iter().filter(|token| token.token_type == kind).filter_map(|token| {
        let uri = token.security_policy_uri.as_ref();
        let policy = if uri.is_empty() { channel } else { policy_by_uri(uri) };
        let strength = strength(policy)?;
        let is_plain = policy == SecurityPolicy::None;
        let usable = match kind {
            UserTokenType::Anonymous => true,
            UserTokenType::UserName if is_plain => matches!(
                endpoint.security_mode,
                MessageSecurityMode::None | MessageSecurityMode::SignAndEncrypt
            ),
            UserTokenType::Certificate => !is_plain && has_certificate,
            _ => has_certificate,
        };
        usable.then_some((strength, token, policy))
    });
    let (_, token, policy) = usable.max_by_key(|(strength, ..)| *strength)?;
    Some((token.clone(), policy))
}

/// The first certificate of a chain: DER says how long it is.
pub(crate) fn leaf(chain: &[u8]) -> &[u8] {
    let length = match chain {
        [0x30, short @ 0..=0x7F, ..] => Some(2 + usize::from(*short)),
        [0x30, 0x81, a, ..] => Some(3 + usize::from(*a)),
        [0x30, 0x82, a, b, ..] => Some(4 + usize::from(u16::from_be_bytes([*a, *b]))),
        _ => None,
    };
    length.and_then(|length| chain.get(..length)).unwrap_or(chain)
}

const fn who(user: &UserSpec) -> &'static str {
    match user {
        UserSpec::Anonymous => "an anonymous user",
        UserSpec::Password { .. } => "a user with a password",
        UserSpec::Certificate { .. } => "a user with a certificate",
    }
}

struct Wanted<'a>(&'a DeviceSpec);

impl fmt::Display for Wanted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.security {
            Security::None => write!(f, "no security"),
            Security::Protected { policy, .. } => {
                match policy {
                    Some(policy) => write!(f, "{}", policy_of(policy))?,
                    None => write!(f, "a current security policy")?,
                }
                write!(f, " and {:?}", wanted_mode(self.0.security))
            }
        }
    }
}

struct Offers<'a>(&'a [EndpointDescription]);

impl fmt::Display for Offers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = Vec::new();
        for endpoint in self.0 {
            let uri = endpoint.security_policy_uri.as_ref();
            let policy = uri.rsplit('#').next().unwrap_or(uri);
            let policy: String = policy.chars().filter(|c| c.is_ascii_graphic()).take(40).collect();
            let offer = match endpoint.security_mode {
                MessageSecurityMode::None => policy,
                mode => format!("{policy} ({mode:?})"),
            };
            if said.len() < 12 && !said.contains(&offer) {
                said.push(offer);
            }
        }
        if said.is_empty() { write!(f, "none") } else { write!(f, "{}", said.join(", ")) }
    }
}

struct Tokens<'a>(Option<&'a EndpointDescription>);

impl fmt::Display for Tokens<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tokens = self.0.and_then(|e| e.user_identity_tokens.as_deref()).unwrap_or_default();
        let mut kinds: Vec<&str> = Vec::new();
        for token in tokens {
            let kind = match token.token_type {
                UserTokenType::Anonymous => "anonymous",
                UserTokenType::UserName => "user and password",
                UserTokenType::Certificate => "user certificate",
                UserTokenType::IssuedToken => "issued token",
            };
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        if kinds.is_empty() { write!(f, "nobody") } else { write!(f, "{}", kinds.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::spec::{Collect, EndpointUrl, TrustSpec};

    fn spec(security: Security, user: UserSpec) -> DeviceSpec {
        DeviceSpec {
            name: "press".into(),
            url: EndpointUrl::parse("opc.tcp://plc").unwrap(),
            follow_advertised: false,
            security,
            user,
            trust: TrustSpec::default(),
            collect: Collect::Subscribe,
            sample_every: Duration::from_secs(1),
            publish_every: None,
            timeout: Duration::from_secs(4),
            backoff: (Duration::from_millis(500), Duration::from_secs(30)),
            backfill: true,
            max_items: 1000,
            tags: Arc::new([]),
            subtrees: Arc::new([]),
        }
    }

    fn endpoint(
        policy: &str,
        mode: MessageSecurityMode,
        tokens: &[(UserTokenType, &str)],
    ) -> EndpointDescription {
        let uri = |policy: &str| format!("http://opcfoundation.org/UA/SecurityPolicy#{policy}");
        let token = |(kind, policy): &(UserTokenType, &str)| UserTokenPolicy {
            policy_id: (*policy).into(),
            token_type: *kind,
            security_policy_uri: if policy.is_empty() { "".into() } else { uri(policy).into() },
            ..UserTokenPolicy::default()
        };
        EndpointDescription {
            endpoint_url: "opc.tcp://other:1".into(),
            security_policy_uri: uri(policy).into(),
            security_mode: mode,
            user_identity_tokens: Some(tokens.iter().map(token).collect()),
            server_certificate: [0x30, 1, 0, 0x30, 0].as_slice().into(),
            ..EndpointDescription::default()
        }
    }

    const ANYBODY: &[(UserTokenType, &str)] = &[(UserTokenType::Anonymous, "")];

    fn best(mode: Mode) -> Security {
        Security::Protected { policy: None, mode }
    }

    #[test]
    fn the_strongest_policy_with_the_wanted_mode_is_chosen() {
        use MessageSecurityMode::{None, Sign, SignAndEncrypt};
        let offered = [
            endpoint("None", None, ANYBODY),
            endpoint("Aes256_Sha256_RsaPss", Sign, ANYBODY),
            endpoint("Basic256Sha256", SignAndEncrypt, ANYBODY),
            endpoint("Aes128_Sha256_RsaOaep", SignAndEncrypt, ANYBODY),
            endpoint("Basic128Rsa15", SignAndEncrypt, ANYBODY),
        ];
        let policy = |security| {
            choose(&spec(security, UserSpec::Anonymous), &offered).map(|chosen| chosen.policy)
        };
        assert_eq!(policy(best(Mode::SignAndEncrypt)), Ok(SecurityPolicy::Aes128Sha256RsaOaep));
        assert_eq!(policy(best(Mode::Sign)), Ok(SecurityPolicy::Aes256Sha256RsaPss));
        assert_eq!(policy(Security::None), Ok(SecurityPolicy::None));
    }

    #[test]
    fn protection_never_falls_back_to_none() {
        let offered = [
            endpoint("None", MessageSecurityMode::None, ANYBODY),
            endpoint("Basic128Rsa15", MessageSecurityMode::SignAndEncrypt, ANYBODY),
        ];
        let error =
            choose(&spec(best(Mode::SignAndEncrypt), UserSpec::Anonymous), &offered).unwrap_err();
        assert!(error.is_for_a_person());
        assert_eq!(
            error.to_string(),
            "the server has no endpoint with a current security policy and SignAndEncrypt; it \
             offers None, Basic128Rsa15 (SignAndEncrypt)"
        );
    }

    #[test]
    fn a_password_takes_the_strongest_way_and_none_under_sign_alone() {
        use UserTokenType::{Anonymous, UserName};
        let user = UserSpec::Password { name: "u".into(), file: "f".into() };
        let both = [(Anonymous, ""), (UserName, "None"), (UserName, "Basic256Sha256")];
        let offered = [endpoint("None", MessageSecurityMode::None, &both)];
        let chosen = choose(&spec(Security::None, user.clone()), &offered).unwrap();
        assert_eq!(chosen.token_policy, SecurityPolicy::Basic256Sha256);
        assert_eq!(chosen.endpoint.server_certificate.as_ref(), [0x30, 1, 0]);

        let offered =
            [endpoint("Basic256Sha256", MessageSecurityMode::Sign, &[(UserName, "None")])];
        let error = choose(&spec(best(Mode::Sign), user), &offered).unwrap_err();
        assert!(error.to_string().contains("does not let a user with a password log on"));
    }

    #[test]
    fn the_leaf_of_a_chain_is_its_first_certificate() {
        let long = [&[0x30, 0x82, 0x01, 0x00][..], &[7; 256], &[0x30, 0]].concat();
        assert_eq!(leaf(&long).len(), 260);
        for odd in [&[][..], &[0x30], &[0x30, 0x82, 0xFF, 0xFF, 1], b"junk"] {
            assert_eq!(leaf(odd), odd);
        }
    }
}
