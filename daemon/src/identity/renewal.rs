//! When an authority is asked, and with what.

use std::time::{Duration, SystemTime};

use tidegate_identity::{
    Authority, AuthorityError, CertificateRequest, Enrolled, Token, Validity, Warrant,
};
use tokio::time::Instant;

use super::keeper::Keeper;
use super::words;
use crate::causes::chain;

/// The longest token that is read, in bytes.
const MAX_TOKEN: u64 = 4 << 10;

impl Keeper {
    /// Asks the authority, when it is time and there is something to ask with.
    pub(super) async fn renew_if_due(&mut self, now: SystemTime) {
        let Some(authority) = self.settings.authority.clone() else { return };
        // Signed already, and waiting for the hub or its own time.
        if matches!(self.folder.pending(), Ok(Some(pending)) if pending.certificate.is_some()) {
            return;
        }
        let token = self.token();
        if token.is_some() && !self.had_token {
            self.next_attempt = None;
        }
        self.had_token = token.is_some();
        if !self.is_due(now) {
            // Whatever was in the way is in nobody's way now.
            self.rejected = None;
            self.authority_said = None;
            return;
        }
        if self.next_attempt.is_some_and(|at| Instant::now() < at) {
            return;
        }
        self.ask(&*authority, token, now).await;
    }

    /// Whether a certificate is wanted.
    fn is_due(&self, now: SystemTime) -> bool {
        let Some(held) = &self.held else { return true };
        let facts = held.identity.facts();
        match facts.validity(now) {
            Validity::Expired { .. } => true,
            // Another one would begin later still, by the authority's clock or by ours.
            Validity::NotYet { .. } => false,
            Validity::Valid { .. } => {
                now >= self.policy().due(facts)
                    || self.held.as_ref().is_some_and(|held| held.fallen_back.is_some())
                    || !self.findings().is_empty()
            }
        }
    }

    async fn ask(&mut self, authority: &dyn Authority, token: Option<Token>, now: SystemTime) {
        let usable = self.held.is_some() && self.findings().is_empty();
        let bootstrap = self.folder.bootstrap().ok().flatten();
        let refused =
            self.authority_said.as_ref().is_some_and(|said| said.0 == "authority-refuses");
        let nothing = token.is_none() && bootstrap.is_none() && self.held.is_none();
        if nothing {
            return;
        }
        self.state.last_attempt =
            Some(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs());
        let request = match self.request() {
            Ok(request) => request,
            Err(why) => return self.failed(Some(why), None),
        };
        if let Err(error) = self.take_roots(authority).await {
            return self.refused_by(&error);
        }
        let by_token = token.as_ref().filter(|_| !usable || refused);
        let warrant = match (by_token, &bootstrap, &self.held) {
            (Some(token), ..) => Warrant::Token(token),
            (None, _, Some(held)) if usable => Warrant::Renewal(&held.identity),
            (None, Some(bootstrap), _) => Warrant::Bootstrap(bootstrap),
            // Some authorities renew what has expired.
            (None, None, Some(held)) => Warrant::Renewal(&held.identity),
            (None, None, None) => return,
        };
        let is_token = matches!(warrant, Warrant::Token(_));
        let is_bootstrap = matches!(warrant, Warrant::Bootstrap(_));
        match authority.enrol(&request, warrant).await {
            Ok(signed) => self.signed(&request, &signed, is_token, is_bootstrap).await,
            Err(error) => self.refused_by(&error),
        }
    }

    /// Something was signed: it is on disk before the token that it cost is gone.
    async fn signed(
        &mut self,
        request: &CertificateRequest,
        signed: &Enrolled,
        is_token: bool,
        is_bootstrap: bool,
    ) {
        self.authority_said = None;
        if let Err(error) = self.folder.store_pending_certificate(signed) {
            tracing::warn!("{}", chain(&error));
        }
        let now = self.now();
        if is_token {
            self.spend_token();
        }
        self.try_signed(request, signed, now).await;
        if is_bootstrap
            && self.rejected.is_none()
            && self.held.is_some()
            && let Err(error) = self.folder.remove_bootstrap()
        {
            tracing::warn!("{}", chain(&error));
        }
    }

    /// The key that waits, or a new one.
    fn request(&self) -> Result<CertificateRequest, String> {
        let gateway = self.settings.gateway.to_string();
        if let Ok(Some(pending)) = self.folder.pending()
            && let Ok(request) = pending.request(&gateway, &[])
        {
            return Ok(request);
        }
        let _lock = self.folder.lock().map_err(|error| chain(&error))?;
        let request = CertificateRequest::new(&gateway, &[]).map_err(|error| chain(&error))?;
        self.folder.store_pending(&request).map_err(|error| chain(&error))?;
        Ok(request)
    }

    /// Takes over the roots of an authority that a pin or the roots of before vouch for.
    async fn take_roots(&mut self, authority: &dyn Authority) -> Result<(), AuthorityError> {
        let roots = authority.roots().await?;
        if roots.is_empty() || roots == self.trust.roots {
            return Ok(());
        }
        match self.folder.store_roots(&roots) {
            Ok(()) => {
                tracing::info!(
                    roots = roots.len(),
                    "the roots of hub and authority were taken over"
                );
                self.trust.roots = roots;
                // The leaf reads them when it makes its links with the next certificate.
            }
            Err(error) => tracing::warn!("{}", chain(&error)),
        }
        Ok(())
    }

    fn refused_by(&mut self, error: &AuthorityError) {
        let later = match error {
            AuthorityError::Later { after, .. } => Some(*after),
            _ => None,
        };
        self.authority_said = words::of_authority(error);
        tracing::debug!("{}", chain(error));
        self.failed(Some(chain(error)), later);
    }

    /// Notes a failure and when to try again.
    pub(super) fn failed(&mut self, why: Option<String>, later: Option<Duration>) {
        self.state.failures = self.state.failures.saturating_add(1);
        self.state.last_error = why;
        let policy = self.policy();
        let facts = self.held.as_ref().map(|held| held.identity.facts());
        let wait = match later {
            Some(after) => policy.later(after),
            None => policy.retry(self.state.failures, facts, self.now()),
        };
        self.next_attempt = Some(Instant::now() + wait);
        self.store_state();
    }

    /// The token, from the folder or from the file that the configuration names.
    fn token(&self) -> Option<Token> {
        if let Ok(Some(token)) = self.folder.token() {
            return Some(token);
        }
        use std::io::Read as _;
        let path = self.settings.config.token_file.as_ref()?;
        let mut text = zeroize::Zeroizing::new(String::new());
        std::fs::File::open(path).ok()?.take(MAX_TOKEN).read_to_string(&mut text).ok()?;
        Token::new(&text)
    }

    /// A token works once: it is of no use to anybody but a thief.
    fn spend_token(&mut self) {
        if let Err(error) = self.folder.remove_token() {
            tracing::warn!("the token was used and cannot be removed: {}", chain(&error));
        }
        if let Some(path) = &self.settings.config.token_file
            && path.exists()
            && let Err(error) = std::fs::remove_file(path)
        {
            // A credential of systemd cannot be; it is gone with the service.
            tracing::info!(path = %path.display(), "the used token's file stays: {error}");
        }
        self.had_token = false;
    }
}
