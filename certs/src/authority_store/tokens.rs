//! Tokens that were given out and not used.
//!
//! # Invariants
//! - A token is 192 random bits and only its SHA-256 is kept: whoever reads the file, or a backup of
//!   it, opens no door. So many bits need no salt and no slow hash.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::book::seconds;
use crate::authority::Token;
use crate::opcua::Thumbprint;

/// A fleet is not enrolled at once.
pub(super) const MAX: usize = 10_000;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Tokens {
    tokens: Vec<Given>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Given {
    /// SHA-256, hexadecimal.
    hash: String,
    gateway: String,
    /// In seconds since 1970.
    until: u64,
}

/// A new one.
pub(super) fn random() -> Option<Token> {
    let mut bytes = Zeroizing::new([0; 24]);
    SystemRandom::new().fill(&mut bytes[..]).ok()?;
    let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(&bytes[..]));
    Token::new(&text)
}

impl Tokens {
    pub(super) fn drop_old(&mut self, now: SystemTime) {
        let now = seconds(now);
        self.tokens.retain(|one| one.until > now);
    }

    /// Whether there was room.
    pub(super) fn add(
        &mut self,
        token: &Token,
        gateway: &str,
        now: SystemTime,
        lasts: Duration,
    ) -> bool {
        let has_room = self.tokens.len() < MAX;
        if has_room {
            let until = seconds(now).saturating_add(lasts.as_secs());
            let (hash, gateway) = (hash(token.secret()), gateway.to_owned());
            self.tokens.push(Given { hash, gateway, until });
        }
        has_room
    }

    /// Takes a token out, and says whose it was.
    pub(super) fn take(&mut self, secret: &str) -> Option<String> {
        let hash = hash(secret);
        let at = self.tokens.iter().position(|one| one.hash == hash)?;
        Some(self.tokens.swap_remove(at).gateway)
    }

    /// Whether there were any.
    pub(super) fn drop_of(&mut self, gateway: &str) -> bool {
        let before = self.tokens.len();
        self.tokens.retain(|one| one.gateway != gateway);
        self.tokens.len() < before
    }
}

fn hash(secret: &str) -> String {
    Thumbprint::of(secret.as_bytes()).to_string()
}
