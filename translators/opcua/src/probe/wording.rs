//! Why there is no connection: one sentence that says what is in the way and what helps.
//!
//! # Invariants
//! - Each sentence names the server, the value that matters and a remedy that can be carried out.
//! - Words of servers stand in it as they came: whoever prints it makes them harmless.

use std::fmt::Write as _;
use std::time::Duration;

use opcua::types::StatusCode as S;

use super::cause::Cause;
use super::greeting::Greeting;
use super::offer::{OfferedMode, OfferedPolicy, TokenKind, policy_name};
use crate::connect::Stage;
use crate::credentials::{Distrust, DistrustKind};
use crate::spec::{EndpointUrl, Mode, Security, UserSpec};

/// Beyond this, servers begin to refuse (OPC 10000-4, 7.33: the client's time is to be near).
pub const CLOCKS_APART: Duration = Duration::from_secs(300);

/// What was asked for, and by whom.
#[derive(Debug, Clone)]
pub struct Context<'a> {
    /// The URL that a person gave.
    pub url: &'a EndpointUrl,
    /// The protection that is wanted.
    pub security: Security,
    /// Who logs on.
    pub user: &'a UserSpec,
    /// Our certificate, where one is shown.
    pub ours: Option<&'a Ours>,
    /// How far the server's clock is from ours.
    pub clock: Option<Clock>,
    /// The configuration, for commands that take `--config`.
    pub config: Option<&'a str>,
}

/// Our certificate, for remedies at the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ours {
    /// Its application URI.
    pub uri: String,
    /// Where it lies, and how it comes to the server.
    pub whence: Whence,
}

/// Where our certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whence {
    /// It is the gateway's, of the configuration.
    Gateway,
    /// It is that of a folder; this is the file.
    Folder(String),
    /// It was made for this command and is gone after it.
    ThrowAway,
}

/// The server's clock against ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// By how much they differ.
    pub apart: Duration,
    /// Whether the server's is ahead.
    pub server_ahead: bool,
}

impl Clock {
    /// Whether servers may refuse because of it.
    #[must_use]
    pub fn is_too_far_off(self) -> bool {
        self.apart > CLOCKS_APART
    }
}

/// The sentence.
#[must_use]
pub fn sentence(cause: &Cause, context: &Context<'_>) -> String {
    let url = context.url;
    match cause {
        Cause::NoSuchName { host, said } => format!(
            "the name {host} has no address ({said}): check the spelling and this machine's name \
             servers, or write the IP address"
        ),
        Cause::Refused { at } => format!(
            "{at} refuses connections: nothing listens on this port; does the OPC UA server run, \
             and is it this port?"
        ),
        Cause::NoAnswer { at, waited } => format!(
            "{at} does not answer within {waited:.1?}: check cable, address, routes, and firewalls \
             in between"
        ),
        Cause::NoWay { at, said } => format!(
            "there is no way to {at} ({said}): check the address and netmask of this machine, and \
             that the server is switched on"
        ),
        Cause::NoConnection { at, said } => format!("no connection to {at}: {said}"),
        Cause::NotOpcua { met, waited } => not_opcua(url, met, *waited),
        Cause::HelloRefused { status, reason } => hello_refused(url, *status, reason),
        Cause::NoEndpoint { offered } => no_endpoint(context, offered),
        Cause::NoToken { taken } => no_token(context, taken),
        Cause::Distrust(distrust) => distrusted(context, distrust),
        Cause::Ours { said } | Cause::Unbrowsable { said } => said.clone(),
        Cause::Advertised { url: advertised, why } => format!(
            "the server advertises {advertised}, which is to be followed, but {}; leave out \
             advertised-url = \"follow\" and {url} is used, or correct the name in the server",
            sentence(why, &Context { url: advertised, ..context.clone() })
                .split([':', ';'])
                .next()
                .unwrap_or_default()
        ),
        Cause::Silent { stage: Stage::Channel, waited } if context.is_secure() => format!(
            "{url} says nothing for {waited:.1?} {}, as some servers do that do not know our \
             certificate: {}",
            doing(Stage::Channel),
            make_known(context)
        ),
        Cause::Silent { stage, waited } => format!(
            "{url} says nothing for {waited:.1?} {}, though it answered before: the server hangs \
             or is overloaded; give it more time with --timeout-ms, or restart it",
            doing(*stage)
        ),
        Cause::Status { stage, status, said } => told(context, *stage, *status, said),
    }
}

impl Context<'_> {
    fn is_secure(&self) -> bool {
        self.security != Security::None
    }

    /// A command of ours with what it needs to find the configuration.
    fn command(&self, words: &str) -> String {
        match self.config {
            Some(file) => format!("\"tidegate {words} --config {file}\""),
            None => format!("\"tidegate {words}\""),
        }
    }
}

/// A step, as the second half of a sentence.
const fn doing(stage: Stage) -> &'static str {
    match stage {
        Stage::Resolve | Stage::Tcp | Stage::Hello => "when connected to",
        Stage::Endpoints => "when asked for its endpoints",
        Stage::Choose | Stage::Own | Stage::Trust | Stage::Channel => {
            "while the secure channel was opened"
        }
        Stage::CreateSession => "when a session was created",
        Stage::Activate => "when the user logged on",
    }
}

fn not_opcua(url: &EndpointUrl, met: &Greeting, waited: Duration) -> String {
    match met {
        Greeting::Http => format!(
            "{url} is a web server, not an OPC UA server: use the port of opc.tcp, which is 4840 \
             unless the server says otherwise"
        ),
        Greeting::Tls => format!(
            "{url} speaks TLS (https, opc.https or opc.wss), not opc.tcp: use the server's port of \
             opc.tcp, which is 4840 unless it says otherwise"
        ),
        Greeting::Closed => format!(
            "{url} accepts connections and closes them at the first message: something else than \
             OPC UA listens there, or all connections that the server allows are in use, or it \
             only talks to listed addresses"
        ),
        Greeting::Silent => format!(
            "{url} accepts connections and says nothing within {waited:.1?}: something else than \
             OPC UA listens there, or the server hangs and must be restarted"
        ),
        Greeting::Foreign(bytes) => {
            let hex: Vec<String> = bytes.iter().take(8).map(|b| format!("{b:02x}")).collect();
            format!(
                "{url} answers something that is no OPC UA (its first bytes are {}): is it the \
                 right port, and the right machine?",
                hex.join(" ")
            )
        }
        Greeting::Server(_) | Greeting::Error { .. } => format!("{url} is an OPC UA server"),
    }
}

fn hello_refused(url: &EndpointUrl, status: u32, reason: &str) -> String {
    let status = S::from(status);
    let said = spoken(status, reason);
    match status {
        S::BadTcpEndpointUrlInvalid => format!(
            "the server knows no endpoint {url} ({said}): try it without the path, or with the URL \
             that its own documentation or another client shows"
        ),
        S::BadTcpServerTooBusy | S::BadTcpNotEnoughResources | S::BadMaxConnectionsReached => {
            too_many(url, "connections", &said)
        }
        S::BadProtocolVersionUnsupported => format!(
            "{url} speaks another version of the protocol ({said}): it is too old or too new for \
             this gateway"
        ),
        _ => format!("{url} refuses the connection at once ({said}): look into the server's log"),
    }
}

fn too_many(url: &EndpointUrl, what: &str, said: &str) -> String {
    format!(
        "{url} has no more {what} to give ({said}): close another client, raise the limit in the \
         server, or wait until the {what} of vanished clients have timed out there"
    )
}

fn no_endpoint(context: &Context<'_>, offered: &[(OfferedPolicy, OfferedMode)]) -> String {
    let url = context.url;
    if offered.is_empty() {
        return format!(
            "{url} offers no endpoint at all: it is not set up yet; switch on a security policy in \
             the server"
        );
    }
    let wanted = match context.security {
        Security::None => "without protection (None)".to_owned(),
        Security::Protected { policy, mode } => {
            let policy = policy.map_or("any current policy", policy_name);
            let mode = match mode {
                Mode::Sign => "Sign",
                Mode::SignAndEncrypt => "SignAndEncrypt",
            };
            format!("with {policy} and {mode}")
        }
    };
    let mut list: Vec<String> = Vec::new();
    for (policy, mode) in offered {
        let item = match policy {
            OfferedPolicy::None => "None".to_owned(),
            OfferedPolicy::Withdrawn(name) => format!("{name} (broken, never used)"),
            policy => format!("{} with {}", policy.name(), mode.name()),
        };
        if !list.contains(&item) {
            list.push(item);
        }
    }
    let usable = |policy: &OfferedPolicy| matches!(policy, OfferedPolicy::Known(_));
    let remedy = if let Some((policy, mode)) = offered.iter().find(|(p, _)| usable(p)) {
        format!(
            "take one of these, such as --security {}{}, or switch the wanted one on in the server",
            security_word(policy),
            if *mode == OfferedMode::Sign { " --message-mode sign" } else { "" }
        )
    } else if offered.iter().any(|(policy, _)| *policy == OfferedPolicy::None) {
        "switch on Basic256Sha256 or a newer policy in the server; where nobody can listen in or \
         interfere, --security none will do"
            .to_owned()
    } else {
        "switch on Basic256Sha256 or a newer policy in the server".to_owned()
    };
    format!("{url} has no endpoint {wanted}, only {}: {remedy}", list.join(", "))
}

/// The word of a policy in arguments and configurations.
#[must_use]
pub fn security_word(policy: &OfferedPolicy) -> &'static str {
    use crate::spec::Policy;
    match policy {
        OfferedPolicy::Known(Policy::Basic256Sha256) => "basic256sha256",
        OfferedPolicy::Known(Policy::Aes128Sha256RsaOaep) => "aes128-sha256-rsaoaep",
        OfferedPolicy::Known(Policy::Aes256Sha256RsaPss) => "aes256-sha256-rsapss",
        _ => "none",
    }
}

fn no_token(context: &Context<'_>, taken: &[TokenKind]) -> String {
    let url = context.url;
    let who = match context.user {
        UserSpec::Anonymous => "anonymous users",
        UserSpec::Password { .. } => "users with a password",
        UserSpec::Certificate { .. } => "users with a certificate",
    };
    let mut taken = taken.to_vec();
    taken.sort_unstable();
    taken.dedup();
    let words: Vec<&str> = taken
        .iter()
        .map(|kind| match kind {
            TokenKind::Anonymous => "anonymous ones",
            TokenKind::UserName => "a name and a password (--user, --password-file)",
            TokenKind::Certificate => "a user certificate (--user-cert, --user-key)",
            TokenKind::Issued => "tokens of an authorisation service, which this gateway has not",
        })
        .collect();
    let words = if words.is_empty() { "nobody".to_owned() } else { words.join(" or ") };
    format!(
        "this endpoint of {url} takes no {who}, only {words}: give that, or allow {who} in the \
         server"
    )
}

/// What is wrong with the certificate was said by whoever judged it. Only the remedy for one that
/// nobody knows yet depends on where trust is kept.
fn distrusted(context: &Context<'_>, distrust: &Distrust) -> String {
    let (DistrustKind::Unknown, Some(thumbprint)) = (distrust.kind, distrust.thumbprint) else {
        return match context.config {
            Some(_) => distrust.text.clone(),
            // Nobody has set a key of a configuration that there is not.
            None => distrust.text.replace("set check-host = false", "give --any-host"),
        };
    };
    let what = distrust.text.split(';').next().unwrap_or_default();
    let approve = if context.config.is_some() {
        let short: String = thumbprint.to_string().chars().take(16).collect();
        format!("approve it with {}", context.command(&format!("identity trust approve {short}")))
    } else {
        format!("try again with --trust {thumbprint}")
    };
    format!(
        "the {what}; compare its SHA-256 thumbprint with the one that the server's own screen \
         shows, then {approve}"
    )
}

/// How our certificate becomes known to the server.
fn make_known(context: &Context<'_>) -> String {
    let place = "the server's trusted certificates (many servers keep it under rejected ones after \
                 this attempt: move it from there), then try again";
    match context.ours.map(|ours| &ours.whence) {
        None | Some(Whence::Gateway) => format!(
            "export ours with {} and put it into {place}",
            context.command("identity opcua export --der")
        ),
        Some(Whence::Folder(file)) => format!("put {file} into {place}"),
        Some(Whence::ThrowAway) => {
            "this command showed a certificate that it made for itself; use \
             the gateway's with --config FILE --device NAME, or keep one with --identity DIR, and \
             put that into the server's trusted certificates"
                .to_owned()
        }
    }
}

fn spoken(status: S, said: &str) -> String {
    let mut words = status.to_string();
    let said = said.trim();
    if !said.is_empty() && !said.contains(words.as_str()) {
        let _ = write!(words, ", {said:?}");
    }
    words
}

#[allow(clippy::too_many_lines, reason = "one table: a status code, a sentence")]
fn told(context: &Context<'_>, stage: Stage, status: S, words: &str) -> String {
    let url = context.url;
    let said = spoken(status, words);
    let opening = matches!(stage, Stage::Channel | Stage::CreateSession);
    match status {
        S::BadInvalidTimestamp | S::BadCertificateTimeInvalid | S::BadSecurityChecksFailed
            if let Some(clock) = context.clock.filter(|clock| clock.is_too_far_off()) =>
        {
            let (ahead, age) =
                (if clock.server_ahead { "ahead of" } else { "behind" }, clock.apart);
            format!(
                "the clock of {url} is {} {ahead} ours, and it refuses us ({said}): set the \
                 clock that is wrong, best by NTP on both",
                span(age)
            )
        }
        S::BadInvalidTimestamp => format!(
            "{url} finds our time wrong ({said}): compare the clocks of both machines and set the \
             one that is off"
        ),
        S::BadCertificateTimeInvalid | S::BadCertificateIssuerTimeInvalid if opening => format!(
            "{url} says that our certificate is not valid now ({said}): look at its dates with {} \
             and at the server's clock; renew it with {}",
            context.command("identity opcua show"),
            context.command("identity opcua renew")
        ),
        S::BadCertificateUriInvalid if opening => {
            let uri = context.ours.map_or("ours", |ours| ours.uri.as_str());
            format!(
                "{url} does not accept our application URI ({said}): it is {uri}; what the server \
                 has registered for this client must be the same"
            )
        }
        S::BadCertificateHostNameInvalid if opening => format!(
            "{url} does not find this machine's host name in our certificate ({said}): switch that \
             check off for clients in the server"
        ),
        S::BadCertificateUseNotAllowed
        | S::BadCertificatePolicyCheckFailed
        | S::BadCertificateIssuerUseNotAllowed
            if opening =>
        {
            format!(
                "{url} finds our certificate unfit ({said}): look at the server's demands on key \
                 length and signature, and set key-bits = 3072 in [opcua] where it wants more"
            )
        }
        S::BadCertificateChainIncomplete
        | S::BadCertificateIssuerRevocationUnknown
        | S::BadCertificateRevocationUnknown
            if opening =>
        {
            format!(
                "{url} cannot check who signed our certificate ({said}): put the certificates of \
                 its authorities and their revocation lists into the server's issuers folder"
            )
        }
        S::BadCertificateRevoked | S::BadCertificateIssuerRevoked if opening => format!(
            "{url} says that our certificate was withdrawn ({said}): make a new one with {} and \
             have the server trust it",
            context.command("identity opcua renew")
        ),
        S::BadSecurityChecksFailed
        | S::BadCertificateUntrusted
        | S::BadCertificateInvalid
        | S::BadApplicationSignatureInvalid
            if opening =>
        {
            format!("{url} does not accept our certificate ({said}): {}", make_known(context))
        }
        S::BadConnectionClosed | S::BadSecureChannelClosed | S::BadCommunicationError
            if stage == Stage::Channel && context.is_secure() =>
        {
            format!(
                "{url} closes the connection {} ({said}), as some servers do that do not know our \
                 certificate: {}",
                doing(stage),
                make_known(context)
            )
        }
        S::BadIdentityTokenRejected | S::BadUserAccessDenied | S::BadIdentityTokenInvalid
            if matches!(stage, Stage::Activate | Stage::CreateSession) =>
        {
            refused_user(context, &said)
        }
        S::BadUserSignatureInvalid => format!(
            "{url} does not accept the signature of the user's key ({said}): do --user-cert and \
             --user-key belong together? node-opcua servers refuse it in any case: use a password \
             there"
        ),
        S::BadTooManySessions => too_many(url, "sessions", &said),
        S::BadMaxConnectionsReached
        | S::BadTcpServerTooBusy
        | S::BadTcpNotEnoughResources
        | S::BadResourceUnavailable => too_many(url, "connections", &said),
        S::BadSecurityPolicyRejected
        | S::BadSecurityModeRejected
        | S::BadSecurityModeInsufficient => format!(
            "{url} does not allow this protection any more ({said}), though it lists it: give \
             another one with --security and --message-mode"
        ),
        S::BadTcpEndpointUrlInvalid => hello_refused(url, status.bits(), words),
        S::BadServerHalted | S::BadShutdown => {
            format!("{url} is shutting down or stopped ({said}): start it, and try again")
        }
        S::BadLicenseExpired | S::BadLicenseLimitsExceeded | S::BadLicenseNotAvailable => format!(
            "the licence of the server at {url} does not allow it ({said}): renew or extend it \
             there"
        ),
        S::BadEncodingLimitsExceeded
        | S::BadTcpMessageTooLarge
        | S::BadRequestTooLarge
        | S::BadResponseTooLarge => format!(
            "{url} and this gateway do not agree on the size of messages ({said}) {}: lower \
             max-items",
            doing(stage)
        ),
        S::BadTimeout | S::BadRequestTimeout => format!(
            "{url} does not answer in time {} ({said}): give it more with --timeout-ms, or look \
             into the server's log",
            doing(stage)
        ),
        S::BadConnectionClosed | S::BadSecureChannelClosed | S::BadCommunicationError => format!(
            "{url} closes the connection {} ({said}): look into the server's log",
            doing(stage)
        ),
        _ => format!("{url} says {said} {}: look into the server's log", doing(stage)),
    }
}

fn refused_user(context: &Context<'_>, said: &str) -> String {
    let url = context.url;
    match context.user {
        UserSpec::Anonymous => format!(
            "{url} refuses anonymous users ({said}), though it lists them: give --user and \
             --password-file, or allow them in the server"
        ),
        UserSpec::Password { name, file } => format!(
            "{url} refuses the user {name:?} ({said}): the name or the password in {} is wrong, or \
             the account is locked or has no right to log on; check it in the server before trying \
             again, as many servers lock an account after a few attempts",
            file.display()
        ),
        UserSpec::Certificate { cert, .. } => format!(
            "{url} refuses the user certificate {} ({said}): put it into the server's trusted user \
             certificates and give the user its rights",
            cert.display()
        ),
    }
}

/// A difference of clocks, as a person would say it.
#[must_use]
pub fn span(span: Duration) -> String {
    let s = span.as_secs();
    match s {
        0..10 => format!("{:.1} s", span.as_secs_f64()),
        10..120 => format!("{s} s"),
        120..7200 => format!("{} min", s / 60),
        7200..172_800 => format!("{} h", s / 3600),
        _ => format!("{} days", s / 86_400),
    }
}

#[cfg(test)]
#[path = "wording_tests.rs"]
mod tests;
