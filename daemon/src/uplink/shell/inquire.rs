//! What the shell asks the hub over connections of its own: what this gateway may do, and whether
//! the first URL is good again.
//!
//! # Invariants
//! - At most one such question is under way, and it has a deadline.
//! - The alarm stands as long as the machine finds that frames are not taken, or the hub says that
//!   something is not permitted; what the hub says is the better text.

use std::sync::Arc;
use std::time::Duration;

use tidegate_uplink::AlarmKind;
use tokio::time::{Instant, timeout};

use super::super::rights;
use super::{Remedy, Shell};
use crate::config::HubUrl;
use crate::leaf::preferred;
use crate::wan::{WayError, Welcome};

/// How long one question may take: TCP, a proxy, TLS and the greeting over a satellite.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long going back waits for a moment in which nothing of the record is under way.
const QUIET_WITHIN: Duration = Duration::from_secs(5);

/// What was found.
pub(super) enum Seen {
    /// What the hub permits.
    Rights(Result<Welcome, String>),
    /// Whether the first URL admits this gateway.
    First(bool),
}

/// Both sources of one alarm.
#[derive(Debug, Default)]
pub(super) struct Permission {
    /// The machine's text, while it finds that frames are not taken.
    pub(super) machine: Option<String>,
    /// What the hub said is missing.
    missing: Option<String>,
}

impl Shell {
    /// Asks what is due.
    pub(super) fn inquire_if_due(&mut self) {
        let now = Instant::now();
        let first = preferred(&self.hub.gateway, &self.hub.urls).cloned();
        let linked = (self.hub.url)();
        let known = |url: &&HubUrl| Some(url.to_string()) == linked;
        let current = self.hub.urls.iter().find(known).cloned();
        let at_first = current.as_ref().map(|url| Some(url) == first.as_ref());
        if let Some(fail_back) = &mut self.fail_back {
            fail_back.linked(self.hub_is_up, at_first, now);
        }
        self.go_back_if_quiet(now);
        if !self.inquiries.is_empty() {
            return;
        }
        if self.asking.is_due(now) {
            let Some(url) = current.or(first) else { return };
            let asked = self.welcome(url);
            self.inquiries.push(Box::pin(async move { Seen::Rights(asked.await) }));
        } else if self.fail_back.as_mut().is_some_and(|it| it.look_is_due(now)) {
            let Some(url) = first else { return };
            let asked = self.welcome(url);
            self.inquiries.push(Box::pin(async move { Seen::First(asked.await.is_ok()) }));
        }
    }

    fn welcome(&self, url: HubUrl) -> impl Future<Output = Result<Welcome, String>> + Send + use<> {
        let access = Arc::clone(&self.hub.access);
        let name = self.hub.gateway.to_string();
        async move {
            match timeout(PATIENCE, access.welcome(&url, &name)).await {
                Ok(welcome) => welcome.map_err(|error: WayError| crate::causes::chain(&error)),
                Err(_) => Err(format!("{url} says nothing within {} s", PATIENCE.as_secs())),
            }
        }
    }

    /// Takes in what was found.
    pub(super) fn inquired(&mut self, seen: Seen) {
        let now = Instant::now();
        match seen {
            Seen::First(good) => {
                if self.fail_back.as_mut().is_some_and(|it| it.looked(good, now)) {
                    self.go_back_by = Some(now + QUIET_WITHIN);
                }
            }
            // Whoever watches the identity says why; what was known of rights stays.
            Seen::Rights(Err(why)) => {
                tracing::debug!("the hub does not say what is permitted: {why}")
            }
            Seen::Rights(Ok(welcome)) => {
                let missing = rights::text(&welcome.rights.missing(&self.hub.needs));
                let was_missing = self.permission.missing.is_some();
                let is_missing = missing.is_some();
                self.permission.missing = missing;
                let frames_refused = self.permission.machine.is_some();
                if !is_missing && (was_missing || frames_refused) {
                    // A leaf learns what is permitted when its links are made.
                    let why = "the hub permits what it did not when the links were made";
                    (self.hub.remedy)(Remedy::Dial { live: was_missing, record: true, why });
                }
                if !is_missing && !frames_refused && self.hub_is_up {
                    self.asking.settled();
                }
                self.tell_permission();
            }
        }
    }

    /// Raises the alarm, changes its text, or takes it back.
    pub(super) fn tell_permission(&mut self) {
        let word = AlarmKind::NoPermission.word();
        let text = self.permission.missing.as_ref().or(self.permission.machine.as_ref());
        if let Some(text) = text {
            if self.board.raise(word, text.clone()) {
                tracing::warn!(alarm = word, "{text}");
            }
        } else if self.board.clear(word) {
            tracing::info!(alarm = word, "alarm is over");
        }
    }

    fn go_back_if_quiet(&mut self, now: Instant) {
        let Some(by) = self.go_back_by else { return };
        if self.flights.is_empty() || now >= by {
            self.go_back_by = None;
            (self.hub.remedy)(Remedy::FailBack { why: "it has been good for long enough" });
        }
    }
}
