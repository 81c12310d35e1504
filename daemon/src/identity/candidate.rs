//! What was signed and is not in use yet: tried at the hub, installed, shown, or taken back.

use std::time::{Duration, SystemTime};

use tidegate_identity::examine::{Finding, examine_signed};
use tidegate_identity::{CertificateRequest, Enrolled, Validity};

use super::keeper::Keeper;
use super::seams::Verdict;
use super::words::{self, Said};
use crate::causes::chain;
use crate::leaf::ShowError;

/// How long a certificate that is not valid yet is waited for.
const EARLY: Duration = Duration::from_secs(3_600);
/// What must be left of the identity in use for an untried one to wait for the hub: a hundredth of
/// its lifetime for each look that could be missed.
const RESERVE: u32 = 10;

impl Keeper {
    /// Takes what lies beside the pending key: signed before a power cut, or put there by a person.
    pub(super) async fn take_pending(&mut self, now: SystemTime) {
        let pending = match self.folder.pending() {
            Ok(Some(pending)) => pending,
            Ok(None) => return,
            Err(error) => {
                self.rejected = Some(("identity-unreadable", chain(&error)));
                return;
            }
        };
        let gateway = self.settings.gateway.to_string();
        let signed = match &pending.certificate {
            None => return,
            Some(Ok(signed)) => signed.clone(),
            Some(Err(error)) => {
                self.rejected = Some(("authority-junk", chain(error)));
                return;
            }
        };
        match pending.request(&gateway, &[]) {
            Ok(request) => self.try_signed(&request, &signed, now).await,
            Err(error) => self.rejected = Some(("identity-unreadable", chain(&error))),
        }
    }

    /// Everything between what was signed and its use.
    pub(super) async fn try_signed(
        &mut self,
        request: &CertificateRequest,
        signed: &Enrolled,
        now: SystemTime,
    ) {
        let (identity, findings) = examine_signed(request, signed, &self.expected(now));
        let said = findings.first().map(|finding| -> Said {
            let text = format!("what was signed is not taken: {finding}; {}", finding.remedy());
            (finding.alarm(), text)
        });
        let forbidden = findings.iter().any(Finding::forbids_installing);
        let Some(identity) = identity.filter(|_| !forbidden) else {
            return self
                .reject(said.unwrap_or(("authority-junk", "nothing was signed".to_owned())));
        };
        let facts = identity.facts().clone();
        if let Validity::NotYet { begins_in } = facts.validity(now) {
            if begins_in > EARLY {
                return self.reject(said.unwrap_or_default());
            }
            self.rejected = said;
            return;
        }
        if let Some(hub) = self.hub.clone().filter(|_| !self.trust.roots.is_empty()) {
            match hub.admits(&identity, &self.trust).await {
                Verdict::Admitted => {}
                Verdict::Refused(why) => {
                    let text = format!(
                        "the hub does not take the certificate that was signed last: {why}; admit this \
                         gateway there, or look at the authority"
                    );
                    return self.reject(("hub-refuses-identity", text));
                }
                verdict => {
                    self.hub_said = words::of_hub(&verdict);
                    // It is tried again at the next look, for as long as there is something better.
                    if self.can_wait(now) {
                        return;
                    }
                }
            }
        }
        self.install(request, signed).await;
    }

    /// Whether the identity in use is good for a while.
    fn can_wait(&self, now: SystemTime) -> bool {
        let Some(held) = &self.held else { return false };
        if !self.findings().is_empty() {
            return false;
        }
        let facts = held.identity.facts();
        let life = facts.not_after.duration_since(facts.not_before).unwrap_or_default();
        facts.not_after.duration_since(now).is_ok_and(|left| left > life / RESERVE)
    }

    async fn install(&mut self, request: &CertificateRequest, signed: &Enrolled) {
        let former = self.held.as_ref().map(|held| held.generation);
        let installed =
            self.folder.lock().map_err(|error| chain(&error)).and_then(|_lock| {
                self.folder.install(request, signed).map_err(|error| chain(&error))
            });
        let generation = match installed {
            Ok(generation) => generation,
            Err(why) => {
                // What was signed stays beside its key, and is taken at the next look.
                self.state.last_error = Some(why.clone());
                self.rejected = Some(("identity-unreadable", why));
                return self.store_state();
            }
        };
        self.read();
        let files = self.files();
        self.shown.clone_from(&files);
        let hub = self.hub.clone().filter(|_| files.is_some());
        let shown = match &hub {
            Some(hub) => hub.show(files).await,
            None => Ok(()),
        };
        if let Err(error @ (ShowError::Refused { .. } | ShowError::NotLinked { .. })) = &shown
            && let Some(former) = former.filter(|_| self.hub_was_there())
        {
            let text = format!(
                "{generation} brought no link and was taken back ({}); look at the hub's log",
                chain(error)
            );
            tracing::warn!("{text}");
            if let Err(error) = self.folder.generations().switch_to(former) {
                tracing::error!("{}", chain(&error));
            }
            self.read();
            let files = self.files();
            self.shown.clone_from(&files);
            if let Some(hub) = hub {
                // A leaf that took nothing has nothing to let go of.
                let _ = hub.show(files).await;
            }
            return self.reject(("hub-refuses-identity", text));
        }
        let Some(facts) = self.held.as_ref().map(|held| held.identity.facts().clone()) else {
            return;
        };
        tracing::info!(%generation, serial = facts.serial, "the certificate was renewed");
        self.floor.took_certificate(facts.not_before);
        self.state.failures = 0;
        self.state.last_error = None;
        self.state.last_success = self.state.last_attempt;
        if shown.is_ok() {
            self.state.confirmed_serial = Some(facts.serial);
        }
        self.next_attempt = None;
        self.rejected = None;
        self.authority_said = None;
        self.hub_said = None;
        self.store_state();
    }

    /// A link that never stood proves nothing against a certificate.
    fn hub_was_there(&self) -> bool {
        self.state.offline_since.is_none()
    }

    /// Lets go of what was signed, and of its key: the next attempt makes another.
    pub(super) fn reject(&mut self, said: Said) {
        if let Err(error) = self.folder.remove_pending() {
            tracing::warn!("{}", chain(&error));
        }
        self.failed(Some(said.1.clone()), None);
        self.rejected = Some(said);
    }
}
