//! The alarms of identity, hub and authority: each its own word, each with what helps.

use std::collections::BTreeMap;

use tidegate_identity::AuthorityError;

use super::seams::Verdict;
use crate::observe::state::Board;

/// Every word that the keeper raises, and that it alone clears.
pub const WORDS: &[&str] = &[
    "authority-away",
    "authority-junk",
    "authority-refuses",
    "authority-untrusted",
    "clock-behind",
    "crl-stale",
    "hub-refuses-identity",
    "hub-revoked",
    "hub-untrusted",
    "identity-expired",
    "identity-expiring",
    "identity-fallback",
    "identity-missing",
    "identity-not-yet-valid",
    "identity-revoked",
    "identity-unreadable",
    "identity-wrong-ca",
    "identity-wrong-name",
    "identity-wrong-usage",
];

/// A word with its text.
pub(super) type Said = (&'static str, String);

/// What is the matter now, by word.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Alarms(BTreeMap<&'static str, String>);

impl Alarms {
    /// Adds a sentence to what is said under a word.
    pub(super) fn add(&mut self, (word, text): Said) {
        self.0
            .entry(word)
            .and_modify(|said| {
                said.push_str(". ");
                said.push_str(&text);
            })
            .or_insert(text);
    }

    /// Puts them on the board in place of those of the last look.
    pub(super) fn show(&self, board: &Board) {
        for word in WORDS {
            match self.0.get(word) {
                Some(text) => {
                    if board.raise(word, text.clone()) {
                        tracing::warn!(alarm = word, "{text}; recording goes on");
                    }
                }
                None => {
                    if board.clear(word) {
                        tracing::info!(alarm = word, "alarm is over");
                    }
                }
            }
        }
    }
}

/// What an authority's failure is; nothing where it only takes its time.
pub(super) fn of_authority(error: &AuthorityError) -> Option<Said> {
    let (word, remedy) = match error {
        AuthorityError::Later { .. } => return None,
        AuthorityError::Unreachable { .. } => {
            ("authority-away", "look at the authority and the way to it")
        }
        AuthorityError::Untrusted { .. } => {
            ("authority-untrusted", "compare its root with ca-pins, and the clock with a watch")
        }
        AuthorityError::Refused { .. } => (
            "authority-refuses",
            "ask whoever runs it for a token, and put it into the identity's folder as token",
        ),
        AuthorityError::Unusable { .. } => ("authority-junk", "look at what the authority sends"),
    };
    Some((word, format!("{error}; {remedy}")))
}

/// What a hub's verdict about the identity in use is; nothing where it says nothing about that.
pub(super) fn of_hub(verdict: &Verdict) -> Option<Said> {
    Some(match verdict {
        Verdict::Admitted | Verdict::Away(_) => return None,
        Verdict::Untrusted(why) => (
            "hub-untrusted",
            format!(
                "whoever answers for the hub is not trusted: {why}; correct roots.pem, the hub's \
                 certificate or the clock"
            ),
        ),
        Verdict::Revoked(why) => (
            "hub-revoked",
            format!("{why}; there is no link to it until it has another certificate"),
        ),
        Verdict::Refused(why) => (
            "hub-refuses-identity",
            format!("{why}; admit this gateway at the hub, or give it another certificate"),
        ),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_failure_has_a_word_of_the_list_and_a_remedy() {
        let authority = || "https://ca".to_owned();
        let why = || "x".to_owned();
        let errors = [
            AuthorityError::Unreachable { authority: authority(), why: why() },
            AuthorityError::Untrusted { authority: authority(), why: why() },
            AuthorityError::Refused { authority: authority(), status: 403, said: why() },
            AuthorityError::Unusable { authority: authority(), why: why() },
        ];
        let verdicts =
            [Verdict::Untrusted(why()), Verdict::Revoked(why()), Verdict::Refused(why())];
        let said = errors.iter().filter_map(of_authority).chain(verdicts.iter().filter_map(of_hub));
        let mut words: Vec<_> = said
            .map(|(word, text)| {
                assert!(WORDS.contains(&word) && text.contains("; "), "{word}: {text}");
                word
            })
            .collect();
        words.dedup();
        assert_eq!(words.len(), 7);
        let later = AuthorityError::Later { authority: authority(), after: Duration::ZERO };
        assert_eq!(of_authority(&later), None);
    }
}
