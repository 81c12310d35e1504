//! The way to a hub's leaf-node port, for whoever has to look at it beside nats-server: straight,
//! inside TLS, as a WebSocket, and through an HTTP proxy.
//!
//! # Invariants
//! - Nothing is stored at the hub by what is asked here: a connection says who it is, hears what it
//!   may do, and ends.
//! - What is read is bounded, in bytes here and in time by callers, who drop the future.
//! - The password of a proxy is in no error and in no log.

mod access;
mod conversation;
mod dial;
mod proxy;
mod rights;
mod welcome;

use std::io;

pub use access::{Access, AccessError, ProxyAccess};
pub use rights::{Missing, Need, Rights};
pub use welcome::{Greeting, PROBE, Welcome};

/// Why a hub was not reached, or did not say who it is.
#[derive(Debug, thiserror::Error)]
pub enum WayError {
    /// Nobody listens there, or the name is not known.
    #[error("{to} cannot be reached")]
    Unreachable {
        /// Where to.
        to: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The proxy does not connect.
    #[error("the proxy {proxy} does not connect to {to}: it answered {status}{remedy}")]
    Proxy {
        /// Which one.
        proxy: String,
        /// Where to.
        to: String,
        /// The first line of its answer.
        status: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// There are no certificates to show yet.
    #[error("{to} needs certificates, and there are none yet")]
    NoCertificates {
        /// Where to.
        to: String,
    },
    /// The host name stands in no certificate.
    #[error("{host:?} is no name that a certificate can have")]
    HostName {
        /// The name.
        host: String,
    },
    /// TLS was not agreed on.
    #[error("no TLS with {to}")]
    Tls {
        /// Where to.
        to: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is no WebSocket.
    #[error("{to} takes no WebSocket: it answered {status}")]
    NoWebSocket {
        /// Where to.
        to: String,
        /// The first line of its answer.
        status: String,
    },
    /// It refuses who we are.
    #[error("the hub refuses this gateway: {said}")]
    Refused {
        /// In its own words.
        said: String,
    },
    /// It closed the connection, or it broke.
    #[error("{to} closed the connection")]
    Closed {
        /// Where to.
        to: String,
        /// How, where that is known.
        #[source]
        source: Option<io::Error>,
    },
    /// What it says is not what a hub says.
    #[error("{to} speaks no leaf-node protocol: {what}")]
    Foreign {
        /// Where to.
        to: String,
        /// What is wrong with it.
        what: &'static str,
    },
}
