//! Why there is no session: which step failed, what the server said, and whether trying again can
//! help.

use opcua::types::StatusCode;

use crate::credentials::Distrust;

/// The steps to a session, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The host's name becomes an address.
    Resolve,
    /// A TCP connection is opened.
    Tcp,
    /// The server is greeted.
    Hello,
    /// The server tells its endpoints.
    Endpoints,
    /// One of them fits the configuration.
    Choose,
    /// The gateway's own certificate and the user's secret are read.
    Own,
    /// The server's certificate is judged.
    Trust,
    /// The secure channel is opened.
    Channel,
    /// A session is created.
    CreateSession,
    /// The user logs on.
    Activate,
}

/// Why there is no session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{text}", .stage.prefix())]
pub struct ConnectError {
    /// Which step failed.
    pub stage: Stage,
    /// What the server answered, where it did.
    pub status: Option<StatusCode>,
    /// What went wrong, in words.
    pub text: String,
    /// Why its certificate is not accepted, where that is the reason.
    pub distrust: Option<Distrust>,
}

impl Stage {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Resolve | Self::Choose | Self::Own | Self::Trust => "",
            Self::Tcp => "no connection: ",
            Self::Hello => "no answer to the greeting: ",
            Self::Endpoints => "the endpoints cannot be read: ",
            Self::Channel => "no secure channel: ",
            Self::CreateSession => "no session: ",
            Self::Activate => "the log-on failed: ",
        }
    }
}

impl ConnectError {
    pub(crate) const fn new(stage: Stage, status: Option<StatusCode>, text: String) -> Self {
        Self { stage, status, text, distrust: None }
    }

    /// The server said no with a status code.
    pub(crate) fn refused(stage: Stage, status: StatusCode, detail: &str) -> Self {
        let remedy = remedy(stage, status);
        let mut text = words(status);
        if !detail.is_empty() && !detail.starts_with(&text) {
            text = format!("{text} ({detail})");
        }
        if let Some(remedy) = remedy {
            text = format!("{text}; {remedy}");
        }
        Self::new(stage, Some(status), text)
    }

    pub(crate) fn distrusted(distrust: Distrust) -> Self {
        let text = distrust.text.clone();
        Self { stage: Stage::Trust, status: None, text, distrust: Some(distrust) }
    }

    /// Whether only a person can help: the same attempt would fail again, and too many of them
    /// may lock an account.
    #[must_use]
    pub fn is_for_a_person(&self) -> bool {
        match self.stage {
            Stage::Choose | Stage::Own | Stage::Trust => true,
            Stage::Resolve | Stage::Tcp => false,
            Stage::Hello
            | Stage::Endpoints
            | Stage::Channel
            | Stage::CreateSession
            | Stage::Activate => self.status.is_some_and(is_of_identity),
        }
    }
}

impl ConnectError {
    /// Whether the server may not have taken the gateway's certificate. Many close the connection
    /// without a word then, as they do when they stop: so it is a suspicion.
    pub(crate) fn suspects_own_certificate(&self) -> bool {
        matches!(self.stage, Stage::Channel | Stage::CreateSession)
            && self.status.is_some_and(|status| {
                let closed = self.stage == Stage::Channel
                    && matches!(
                        status,
                        StatusCode::BadConnectionClosed | StatusCode::BadCommunicationError
                    );
                closed || is_of_certificate(status)
            })
    }
}

/// Whether it says that a certificate is not accepted.
fn is_of_certificate(status: StatusCode) -> bool {
    [
        StatusCode::BadSecurityChecksFailed,
        StatusCode::BadCertificateInvalid,
        StatusCode::BadCertificateTimeInvalid,
        StatusCode::BadCertificateIssuerTimeInvalid,
        StatusCode::BadCertificateHostNameInvalid,
        StatusCode::BadCertificateUriInvalid,
        StatusCode::BadCertificateUseNotAllowed,
        StatusCode::BadCertificateIssuerUseNotAllowed,
        StatusCode::BadCertificateUntrusted,
        StatusCode::BadCertificateRevocationUnknown,
        StatusCode::BadCertificateIssuerRevocationUnknown,
        StatusCode::BadCertificateRevoked,
        StatusCode::BadCertificateIssuerRevoked,
        StatusCode::BadCertificateChainIncomplete,
        StatusCode::BadCertificatePolicyCheckFailed,
    ]
    .contains(&status)
}

/// A status by its name; by its number where it has none here.
pub(crate) fn words(status: StatusCode) -> String {
    let name = status.sub_code().to_string();
    if name == "Invalid" { format!("status 0x{:08X}", status.bits()) } else { name }
}

/// Whether it says that the gateway, its user or its way of speaking is not accepted.
fn is_of_identity(status: StatusCode) -> bool {
    is_of_certificate(status)
        || [
            StatusCode::BadIdentityTokenRejected,
            StatusCode::BadIdentityTokenInvalid,
            StatusCode::BadIdentityChangeNotSupported,
            StatusCode::BadUserAccessDenied,
            StatusCode::BadUserSignatureInvalid,
            StatusCode::BadApplicationSignatureInvalid,
            StatusCode::BadSecurityPolicyRejected,
            StatusCode::BadSecurityModeRejected,
            StatusCode::BadSecurityModeInsufficient,
            StatusCode::BadTcpEndpointUrlInvalid,
            StatusCode::BadProtocolVersionUnsupported,
        ]
        .contains(&status)
}

/// What a person can do about it.
fn remedy(stage: Stage, status: StatusCode) -> Option<&'static str> {
    Some(match (stage, status) {
        (
            Stage::Activate,
            StatusCode::BadUserAccessDenied
            | StatusCode::BadIdentityTokenRejected
            | StatusCode::BadIdentityTokenInvalid,
        ) => "check user and password-file (or user-cert and user-key)",
        (
            Stage::Channel | Stage::CreateSession,
            StatusCode::BadSecurityChecksFailed
            | StatusCode::BadCertificateUntrusted
            | StatusCode::BadCertificateInvalid
            | StatusCode::BadCertificateChainIncomplete,
        ) => {
            "the server does not accept the gateway's certificate; let it trust what `tidegate \
             identity opcua export` writes"
        }
        (_, StatusCode::BadCertificateUriInvalid) => {
            "the application URI in the gateway's certificate is not the one it claims; renew it \
             with `tidegate identity opcua renew`"
        }
        (_, StatusCode::BadCertificateTimeInvalid) => {
            "the gateway's certificate has no validity by the server's clock; compare both clocks"
        }
        (_, StatusCode::BadTooManySessions) => "the server has no session left; close another",
        (_, StatusCode::BadTcpEndpointUrlInvalid) => "check the path in address",
        _ => return None,
    })
}
