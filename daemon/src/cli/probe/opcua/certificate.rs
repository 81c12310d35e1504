//! A server's certificate, as a person compares it with the one on the server's screen.

use std::time::SystemTime;

use jiff::Timestamp;
use serde::Serialize;
use tidegate_identity::Validity;
use tidegate_identity::opcua::Described;
use tidegate_opcua::probe::{Findings, OfferedPolicy};

use crate::cli::terminal::{Tone, age};

/// A certificate that ends sooner than this is worth a word: its successor must be approved.
const SOON: u64 = 60;

/// What is shown of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Shown {
    /// Its SHA-256, all digits.
    pub(super) thumbprint: String,
    pub(super) subject: String,
    /// Who signed it; `None` when it did so itself.
    pub(super) issuer: Option<String>,
    pub(super) uris: Vec<String>,
    pub(super) names: Vec<String>,
    pub(super) not_before: String,
    pub(super) not_after: String,
    /// What the time says.
    #[serde(skip)]
    pub(super) validity: Validity,
    pub(super) key: String,
    pub(super) signature: String,
    /// Certificates of authorities that came with it.
    pub(super) authorities: usize,
}

/// The certificate of the endpoint that is used, or else of the strongest one that has any.
pub(super) fn of(findings: &Findings) -> Option<Shown> {
    let shows = |offer: &&tidegate_opcua::probe::Offer| !offer.certificate.is_empty();
    let chosen = findings.chosen.and_then(|chosen| findings.offers.get(chosen));
    let chosen = chosen.filter(|offer| offer.policy != OfferedPolicy::None).filter(shows);
    let offer = chosen.or_else(|| findings.offers.iter().find(shows))?;
    Shown::read(&offer.certificate, SystemTime::now())
}

impl Shown {
    /// Reads it; what cannot be read is judged, and so told, elsewhere.
    fn read(chain: &[u8], now: SystemTime) -> Option<Self> {
        let described = Described::of(chain).ok()?;
        let facts = &described.facts;
        Some(Self {
            thumbprint: described.thumbprint.to_string(),
            subject: facts.subject.clone(),
            issuer: Some(facts.issuer.clone()).filter(|issuer| *issuer != facts.subject),
            uris: described.uris.clone(),
            names: facts.names.clone(),
            not_before: date(facts.not_before),
            not_after: date(facts.not_after),
            validity: facts.validity(now),
            key: described.key.clone(),
            signature: described.signature.clone(),
            authorities: described.authorities,
        })
    }

    /// Both ends of its validity, and what they mean today.
    pub(super) fn dates(&self) -> (String, Tone) {
        let both = format!("{} to {}", self.not_before, self.not_after);
        match self.validity {
            Validity::Valid { left } if left.as_secs() >= SOON * 86_400 => (both, Tone::Plain),
            Validity::Valid { left } => (format!("{both}: ends in {}", age(left)), Tone::Caution),
            Validity::NotYet { begins_in } => {
                (format!("{both}: begins only in {}", age(begins_in)), Tone::Wrong)
            }
            Validity::Expired { since } => {
                (format!("{both}: ended {} ago", age(since)), Tone::Wrong)
            }
        }
    }
}

/// The day; certificates are not compared by the minute.
fn date(time: SystemTime) -> String {
    let shown = Timestamp::try_from(time).map(|time| time.to_string());
    shown.map_or_else(|_| "?".to_owned(), |text| text.chars().take(10).collect())
}
