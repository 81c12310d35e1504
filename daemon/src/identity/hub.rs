//! The hub as it is: reached like the leaf reaches it, shown an identity through the leaf.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tidegate_identity::Identity;
use tidegate_identity::tls::{HotTls, Oldest, PeerFault, fault_of_io};
use tokio::time::{Instant, sleep, timeout};

use super::seams::{Trust, Verdict};
use crate::causes::chain;
use crate::config::{self, TlsFiles};
use crate::leaf::{LeafHandle, LocalAccess, LocalRole, ShowError};
use crate::names::GatewayId;
use crate::observe::state::Board;
use crate::subjects;
use crate::wan::{Access, WayError};

/// How long one try may take: four round trips over a satellite, and a proxy.
const TRY: Duration = Duration::from_secs(20);
/// How long new links may take: two pauses between a leaf's attempts (4 s), and a slow handshake.
const LINKS: Duration = Duration::from_secs(30);
/// How long the hub may take to answer over them.
const ANSWER: Duration = Duration::from_secs(15);
/// How long a message in flight is waited for; it would be sent again, and refused by its sequence.
const QUIET: Duration = Duration::from_secs(5);

/// The hub of the configuration.
#[derive(Debug)]
pub struct LeafHub {
    hub: config::Hub,
    gateway: GatewayId,
    leaf: LeafHandle,
    board: Arc<Board>,
}

impl LeafHub {
    /// Behind a leaf, whoever runs it.
    #[must_use]
    pub fn new(hub: config::Hub, gateway: GatewayId, leaf: LeafHandle, board: Arc<Board>) -> Self {
        Self { hub, gateway, leaf, board }
    }

    async fn try_all(&self, identity: &Identity, trust: &Trust) -> Verdict {
        let (roots, revocation) = (trust.roots.clone(), trust.revocation.clone());
        let time = Arc::clone(&trust.time);
        let tls = match HotTls::new(roots, Some(identity), revocation, Oldest::Tls13, time) {
            Ok(tls) => tls,
            Err(error) => return Verdict::Untrusted(chain(&error)),
        };
        let access = match Access::showing(&self.hub, tls.config()) {
            Ok(access) => access,
            Err(error) => return Verdict::Away(chain(&error)),
        };
        let mut worst = None;
        for url in self.hub.urls.iter().filter(|url| url.scheme.is_tls()) {
            let verdict = match timeout(TRY, access.welcome(url, &self.gateway.to_string())).await {
                Ok(Ok(_)) => return Verdict::Admitted,
                Ok(Err(error)) => verdict_of(&error),
                Err(_) => {
                    Verdict::Away(format!("{url} does not answer within {} s", TRY.as_secs()))
                }
            };
            if worst.is_none() || matches!(worst, Some(Verdict::Away(_))) {
                worst = Some(verdict);
            }
        }
        // A hub without TLS is one on this machine, and asks for no certificate.
        worst.unwrap_or(Verdict::Admitted)
    }

    async fn show_all(&self, files: Option<TlsFiles>) -> Result<(), ShowError> {
        let leaf = &self.leaf;
        let linked = files.is_some();
        let until = Instant::now() + QUIET;
        while self.board.is_in_flight() && Instant::now() < until {
            sleep(Duration::from_millis(5)).await;
        }
        leaf.show(files, LINKS).await?;
        if !linked {
            return Ok(());
        }
        let address = timeout(ANSWER, leaf.listening()).await.ok().flatten();
        let Some(address) = address else { return Err(ShowError::Away) };
        let (gateway, credentials) = (self.gateway.clone(), leaf.credentials());
        let access = LocalAccess { address, gateway, credentials };
        let both = async {
            self.answers_to(&access, LocalRole::Record).await
                && self.answers_to(&access, LocalRole::Live).await
        };
        match timeout(ANSWER, both).await {
            Ok(true) => Ok(()),
            _ => Err(ShowError::NotLinked { waited: ANSWER }),
        }
    }

    /// Asks until the hub answers.
    async fn answers_to(&self, access: &LocalAccess, role: LocalRole) -> bool {
        let Ok(client) = access.connect(role, |_| std::future::ready(())).await else {
            return false;
        };
        loop {
            let wait = Some(Duration::from_secs(2));
            let question = async_nats::Request::new().timeout(wait);
            match client.send_request(subjects::info(&self.hub.stream), question).await {
                Ok(message) if message.status.is_none() => return true,
                _ => sleep(Duration::from_millis(200)).await,
            }
        }
    }
}

impl super::Hub for LeafHub {
    fn admits<'a>(&'a self, identity: &'a Identity, trust: &'a Trust) -> BoxFuture<'a, Verdict> {
        Box::pin(self.try_all(identity, trust))
    }

    fn show(&self, files: Option<TlsFiles>) -> BoxFuture<'_, Result<(), ShowError>> {
        Box::pin(self.show_all(files))
    }

    fn answers(&self) -> bool {
        self.board.hub_answers()
    }
}

fn verdict_of(error: &WayError) -> Verdict {
    let said = chain(error);
    match error {
        WayError::Refused { .. } => Verdict::Refused(said),
        WayError::Tls { source, .. } | WayError::Closed { source: Some(source), .. } => {
            match fault_of_io(source) {
                Some(PeerFault::RefusesUs) => Verdict::Refused(said),
                Some(PeerFault::Revoked) => Verdict::Revoked(said),
                Some(fault) if fault.is_the_peers() => {
                    Verdict::Untrusted(format!("{said}: {fault}"))
                }
                _ => Verdict::Away(said),
            }
        }
        WayError::HostName { .. } => Verdict::Untrusted(said),
        _ => Verdict::Away(said),
    }
}
