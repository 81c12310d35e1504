//! What is in the way of a connection, before it is put into words.

use std::net::SocketAddr;
use std::time::Duration;

use opcua::types::StatusCode;

use super::greeting::Greeting;
use super::offer::{OfferedMode, OfferedPolicy, TokenKind};
use crate::connect::Stage;
use crate::credentials::Distrust;
use crate::spec::EndpointUrl;

/// What is in the way.
#[derive(Debug, Clone, PartialEq)]
pub enum Cause {
    /// The host name means nothing.
    NoSuchName {
        /// The name.
        host: String,
        /// What the resolver said.
        said: String,
    },
    /// Nobody listens.
    Refused {
        /// Where.
        at: SocketAddr,
    },
    /// Nothing comes back.
    NoAnswer {
        /// From where.
        at: SocketAddr,
        /// How long it was waited for.
        waited: Duration,
    },
    /// No route.
    NoWay {
        /// To where.
        at: SocketAddr,
        /// What the system said.
        said: String,
    },
    /// Another fault of the network.
    NoConnection {
        /// To where.
        at: SocketAddr,
        /// What the system said.
        said: String,
    },
    /// Somebody answers, but not with OPC UA.
    NotOpcua {
        /// With what.
        met: Greeting,
        /// How long it was waited for.
        waited: Duration,
    },
    /// A server answers the first message with an error.
    HelloRefused {
        /// Its status code.
        status: u32,
        /// Its own words.
        reason: String,
    },
    /// The server offers nothing that is wanted.
    NoEndpoint {
        /// What it offers.
        offered: Vec<(OfferedPolicy, OfferedMode)>,
    },
    /// What the endpoint takes does not include what we have.
    NoToken {
        /// What it takes.
        taken: Vec<TokenKind>,
    },
    /// The server's certificate is not accepted by us.
    Distrust(Distrust),
    /// A certificate, a key or a password of ours cannot be read.
    Ours {
        /// Why.
        said: String,
    },
    /// The URL that the server advertises leads nowhere, and it is to be followed.
    Advertised {
        /// That URL.
        url: EndpointUrl,
        /// What is in the way there.
        why: Box<Cause>,
    },
    /// What was to be looked at is not there, or not told.
    Unbrowsable {
        /// Why.
        said: String,
    },
    /// The server, or the library on its behalf, answered with a status code.
    Status {
        /// While this was done.
        stage: Stage,
        /// The code.
        status: StatusCode,
        /// What else was said.
        said: String,
    },
    /// No answer in time, though the server spoke before.
    Silent {
        /// While this was done.
        stage: Stage,
        /// How long it was waited for.
        waited: Duration,
    },
}

impl Cause {
    /// One word for programs.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::NoSuchName { .. } => "no-such-name",
            Self::Refused { .. } => "refused",
            Self::NoAnswer { .. } => "no-answer",
            Self::NoWay { .. } => "no-route",
            Self::NoConnection { .. } => "no-connection",
            Self::NotOpcua { .. } => "not-opcua",
            Self::HelloRefused { .. } => "hello-refused",
            Self::NoEndpoint { .. } => "no-endpoint",
            Self::NoToken { .. } => "user-token-not-offered",
            Self::Distrust(_) => "server-not-trusted",
            Self::Ours { .. } => "own-files",
            Self::Advertised { .. } => "advertised-url",
            Self::Unbrowsable { .. } => "not-browsable",
            Self::Status { .. } => "refused-by-server",
            Self::Silent { .. } => "silent",
        }
    }

    /// The status code that came with it.
    #[must_use]
    pub fn status(&self) -> Option<u32> {
        match self {
            Self::HelloRefused { status, .. } => Some(*status),
            Self::Status { status, .. } => Some(status.bits()),
            Self::Advertised { why, .. } => why.status(),
            _ => None,
        }
    }
}
