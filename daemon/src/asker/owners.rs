//! Who owns what is asked for.
//!
//! # Invariants
//! - Owners are what the hub admitted and what is in its record: a gateway that is gone is still
//!   asked, and then named as absent.
//! - Where the directory cannot be read, that is said; nobody is left out silently.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use tidegate_query::{Op, Part, Pattern};

use super::conversation::MAX_OWNERS;
use super::directory::Directory;
use super::reach::{Asker, AskerError, Place};
use crate::hubread::RecordReader;
use crate::names::GatewayId;
use crate::observe::state::LinkStatus;
use crate::subjects;

/// How long the hub has for its directory: a satellite's round trip several times over.
const DIRECTORY_WITHIN: Duration = Duration::from_secs(3);

/// What is asked for, as far as it decides whom to ask.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Patterns over tag paths; all without any.
    pub tags: Vec<String>,
    /// Patterns over `PLANT/NAME`; all without any. With one, a gateway is asked wherever its tags
    /// are said to stand.
    pub gateways: Vec<String>,
}

/// Whom to ask.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Owners {
    /// These.
    pub asked: Vec<GatewayId>,
    /// Not these, though they may own some of it.
    pub left_out: Vec<(GatewayId, LeftOut)>,
    /// What a person should know of it.
    pub notes: Vec<String>,
    /// Whether there may be owners that nobody told of.
    pub incomplete: bool,
}

/// Why an owner is not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftOut {
    /// The gateway at whose leaf the question is asked may not ask it.
    NotShared,
}

impl LeftOut {
    /// For people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::NotShared => "does not share with this gateway; name it in `shares` at the hub",
        }
    }
}

/// What is known of a gateway.
type Known = BTreeMap<GatewayId, Vec<String>>;

impl Asker {
    /// Finds whom to ask.
    ///
    /// # Errors
    /// When more are meant than can be asked at once.
    pub async fn owners(&self, wanted: &Wanted) -> Result<Owners, AskerError> {
        let mut owners = Owners::default();
        let mut known = Known::new();
        let directory = self.directory().await;
        match &directory {
            Some(directory) => {
                let listed = directory.gateways.iter();
                known.extend(listed.filter_map(|it| Some((it.gateway()?, it.prefixes.clone()))));
            }
            None => {
                let note = match &self.place {
                    Place::Leaf(own) => self.without_directory(own).await,
                    Place::Hub(_) => Some("the hub has no directory of gateways; write it with tidegate hub apply --streams".to_owned()),
                };
                owners.incomplete = note.is_some();
                owners.notes.extend(note);
            }
        }
        if wanted.names_all() {
            // Nobody else is meant.
            (owners.incomplete, owners.notes) = (false, Vec::new());
        }
        if let Place::Hub(_) = &self.place {
            match self.recorded().await {
                Some(recorded) => {
                    owners.incomplete = false;
                    for id in recorded {
                        known.entry(id).or_default();
                    }
                }
                None => owners.notes.push(format!(
                    "stream {} cannot be read: gateways that are no longer admitted are not known",
                    self.stream
                )),
            }
        }
        let own = match &self.place {
            Place::Leaf(own) => {
                known.entry(own.clone()).or_default();
                Some(own)
            }
            Place::Hub(_) => None,
        };
        let may_ask = |id: &GatewayId| match own {
            None => true,
            Some(own) if own == id => true,
            Some(own) => directory
                .iter()
                .flat_map(|it| &it.gateways)
                .any(|it| it.gateway().is_some_and(|it| it == *own) && it.may_ask(id)),
        };
        for id in select(&known, wanted) {
            // One that is named outright is asked whatever the directory says.
            if may_ask(&id) || (directory.is_none() && wanted.names(&id)) {
                owners.asked.push(id);
            } else {
                owners.left_out.push((id, LeftOut::NotShared));
            }
        }
        if owners.asked.len() > MAX_OWNERS {
            return Err(AskerError::TooMany { count: owners.asked.len(), most: MAX_OWNERS });
        }
        Ok(owners)
    }

    async fn directory(&self) -> Option<Directory> {
        let asked = self.client.request(subjects::DIRECTORY, Bytes::new());
        let answer = tokio::time::timeout(DIRECTORY_WITHIN, asked).await.ok()?.ok()?;
        // A direct get of what is not there has a status.
        answer.status.is_none().then(|| Directory::read(&answer.payload)).flatten()
    }

    /// What is to be said of a leaf that hears of no directory; nothing where there is no hub, because
    /// then there is nobody else.
    async fn without_directory(&self, own: &GatewayId) -> Option<String> {
        #[derive(serde::Deserialize)]
        struct Status {
            link: LinkStatus,
        }
        let asked = self.client.request(self.subject(own, Op::Status), Bytes::new());
        let answer = tokio::time::timeout(DIRECTORY_WITHIN, asked).await;
        let part: Option<Part> = answer
            .ok()
            .and_then(Result::ok)
            .and_then(|it| serde_json::from_slice(&it.payload).ok());
        let status: Option<Status> =
            part.and_then(|it| serde_json::from_str(it.rows.first()?.get()).ok());
        let why = match status.map(|status| status.link) {
            Some(link) if !link.configured => return None,
            Some(link) if link.hub_up => {
                "the hub lets it ask no other gateway, or has no directory"
            }
            Some(_) => "the hub is away",
            None => "the hub is away, or it may ask nobody",
        };
        Some(format!("only {own} is known at its leaf: {why}"))
    }

    /// Whose frames the hub has.
    async fn recorded(&self) -> Option<BTreeSet<GatewayId>> {
        let opened =
            RecordReader::open(self.client.clone(), self.stream.clone(), DIRECTORY_WITHIN).await;
        let counts = opened.ok()?.counts(subjects::EVERY_FRAMES).await.ok()?;
        Some(counts.keys().filter_map(|subject| subjects::gateway_of(subject)).collect())
    }
}

impl Wanted {
    /// Whether all gateways are named without a pattern.
    fn names_all(&self) -> bool {
        !self.gateways.is_empty() && self.gateways.iter().all(|it| it.parse::<GatewayId>().is_ok())
    }

    /// Whether this gateway is named without a pattern.
    fn names(&self, id: &GatewayId) -> bool {
        let id = id.to_string();
        self.gateways.contains(&id)
    }
}

/// Those among the known that are meant, and those that are named outright.
fn select(known: &Known, wanted: &Wanted) -> BTreeSet<GatewayId> {
    let patterns =
        |texts: &[String]| texts.iter().map(|text| Pattern::new(text)).collect::<Vec<_>>();
    let (tags, gateways) = (patterns(&wanted.tags), patterns(&wanted.gateways));
    let named = wanted.gateways.iter().filter_map(|text| text.parse().ok());
    let meant = known.iter().filter(|(id, prefixes)| {
        if !gateways.is_empty() {
            let id = id.to_string();
            return gateways.iter().any(|pattern| pattern.matches(&id));
        }
        let health = format!("{}/_gateways/{}", id.plant, id.name);
        let could = |pattern: &Pattern| {
            pattern.reaches(&health) || prefixes.iter().any(|prefix| pattern.reaches(prefix))
        };
        tags.is_empty() || prefixes.is_empty() || tags.iter().any(could)
    });
    meant.map(|(id, _)| id.clone()).chain(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(tags: &[&str], gateways: &[&str]) -> Vec<String> {
        let known = [
            ("A/g1", vec!["A/Line1".to_owned()]),
            ("A/g2", vec!["A/Line2".to_owned(), "Shared/x".to_owned()]),
            ("B/g3", Vec::new()),
        ];
        let known = known.into_iter().map(|(id, prefixes)| (id.parse().unwrap(), prefixes));
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let wanted = Wanted { tags: texts(tags), gateways: texts(gateways) };
        select(&known.collect(), &wanted).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn who_could_own_a_pattern_is_asked_and_who_cannot_is_not() {
        assert_eq!(selected(&[], &[]), ["A/g1", "A/g2", "B/g3"]);
        // Of B/g3 nobody knows where its tags stand.
        assert_eq!(selected(&["A/Line1/**"], &[]), ["A/g1", "B/g3"]);
        assert_eq!(selected(&["**/temp"], &[]), ["A/g1", "A/g2", "B/g3"]);
        assert_eq!(selected(&["Shared"], &[]), ["A/g2", "B/g3"]);
        assert_eq!(selected(&["A/_gateways/g1/backlog"], &[]), ["A/g1", "B/g3"]);
    }

    #[test]
    fn named_gateways_are_asked_even_when_nobody_knows_them() {
        assert_eq!(selected(&["x"], &["A/*"]), ["A/g1", "A/g2"]);
        assert_eq!(selected(&["x"], &["C/gone"]), ["C/gone"]);
    }
}
