//! Every NATS subject of the product, and the escaping between tag paths and subjects.
//!
//! # Invariants
//! - Subjects are migration to change: `vectors/subjects.json` holds each of them, and a change
//!   needs a decision record.
//! - Escaping is reversible and injective, so two paths never meet on one subject.

use std::fmt::Write as _;

use tidegate_journal::Epoch;
use tidegate_translator::{PathError, TagPath};

use crate::names::{GatewayId, Name};

/// Where live values of a tag are published: `uns.` and the escaped path.
#[must_use]
pub fn live(path: &TagPath) -> String {
    let mut out = String::with_capacity(path.as_str().len() + 8);
    out.push_str("uns");
    for segment in path.segments() {
        out.push('.');
        escape_into(&mut out, segment);
    }
    out
}

/// The tag path of a live subject.
///
/// # Errors
/// When it does not begin with `uns.`, or what follows is not the escape of a tag path.
pub fn path_of_live(subject: &str) -> Result<TagPath, SubjectError> {
    let not_live = || SubjectError::NotLive { subject: subject.to_owned() };
    let rest = subject.strip_prefix("uns.").ok_or_else(not_live)?;
    let mut segments = Vec::new();
    for token in rest.split('.') {
        segments.push(unescape(token).ok_or_else(not_live)?);
    }
    Ok(TagPath::new(segments.join("/"))?)
}

/// Why a subject stands for no tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// Not `uns.` and escaped tokens.
    #[error("subject {subject:?} is not a live value's")]
    NotLive {
        /// The subject that was given.
        subject: String,
    },
    /// The tokens unescape to something that is no path.
    #[error("subject names no tag")]
    Path(#[from] PathError),
}

/// The record of one epoch of a gateway, at the hub.
#[must_use]
pub fn frames(gateway: &GatewayId, epoch: Epoch) -> String {
    format!("tide.{}.{}.{epoch}.frames", gateway.plant, gateway.name)
}

/// The records of all epochs of a gateway: a filter for readers.
#[must_use]
pub fn all_frames(gateway: &GatewayId) -> String {
    format!("tide.{}.{}.*.frames", gateway.plant, gateway.name)
}

/// The epoch in a subject `tide.<plant>.<gateway>.<epoch>.frames`.
#[must_use]
pub fn epoch_of(frames: &str) -> Option<Epoch> {
    let mut tokens = frames.split('.');
    let epoch = tokens.nth(3)?;
    (tokens.next() == Some("frames")).then(|| epoch.parse().ok()).flatten()
}

/// The gateway in a subject `tide.<plant>.<gateway>.<epoch>.frames`.
#[must_use]
pub fn gateway_of(frames: &str) -> Option<GatewayId> {
    let mut tokens = frames.split('.');
    if tokens.next() != Some("tide") {
        return None;
    }
    let plant = Name::new(tokens.next()?).ok()?;
    let name = Name::new(tokens.next()?).ok()?;
    (tokens.nth(1) == Some("frames") && tokens.next().is_none())
        .then_some(GatewayId { plant, name })
}

/// Where a tag is published again for consumers of their own: the escaped tokens of its path.
#[must_use]
pub fn tokens_of(path: &TagPath) -> String {
    let mut out = String::with_capacity(path.as_str().len() + 8);
    for (at, segment) in path.segments().enumerate() {
        if at > 0 {
            out.push('.');
        }
        escape_into(&mut out, segment);
    }
    out
}

/// The records of every gateway: what the hub's stream collects and its export names.
pub const EVERY_FRAMES: &str = "tide.*.*.*.frames";

/// The questions to every gateway.
pub const EVERY_QUESTION: &str = "tide.*.*.q.>";

/// Every live value.
pub const EVERY_LIVE: &str = "uns.>";

/// Where every gateway is asked from outside, renamed at the hub to its [`questions`].
pub const EVERY_ASK: &str = "ask.*.*.q.>";

/// Where questions that came through the hub are answered: subjects of the server's own making.
pub const ANSWERS: &str = "_R_.>";

/// The inboxes of whoever asks on one server.
pub const EVERY_INBOX: &str = "_INBOX.>";

/// Where micro-services are looked for (the protocol of NATS's own clients).
pub const EVERY_SERVICE: &str = "$SRV.>";

/// The inboxes of applications at the hub.
pub const HUB_APPS_INBOXES: &str = "_INBOX.apps.>";

/// The inboxes of applications beside any gateway.
pub const EVERY_APPS_INBOX: &str = "_INBOX.*.*.apps.>";

/// Where the last value of any tag is asked for, by its live subject appended (imported from direct
/// gets of the stream of last values).
pub const LAST_OF_ALL: &str = "tidelast.>";

/// Where a gateway is asked from outside.
#[must_use]
pub fn ask(gateway: &GatewayId) -> String {
    format!("ask.{}.{}.q.>", gateway.plant, gateway.name)
}

/// Where one operation of a gateway is asked for at its own leaf.
#[must_use]
pub fn question(gateway: &GatewayId, op: &str) -> String {
    format!("tide.{}.{}.q.{op}", gateway.plant, gateway.name)
}

/// Where one operation of a gateway is asked for from outside.
#[must_use]
pub fn ask_for(gateway: &GatewayId, op: &str) -> String {
    format!("ask.{}.{}.q.{op}", gateway.plant, gateway.name)
}

/// Where the hub is asked for its directory of owners (imported from the direct get of
/// [`OWNERS`]).
pub const DIRECTORY: &str = "tidedirectory";

/// Where the hub's admin writes the directory of owners, in the stream's account.
pub const OWNERS: &str = "tideowners";

/// Where a gateway asks for the last message of a record subject (imported from the stream's
/// direct get).
#[must_use]
pub fn head(stream: &str, frames: &str) -> String {
    format!("tidehead.{stream}.{frames}")
}

/// Where a gateway asks for the stream's INFO (imported).
#[must_use]
pub fn info(stream: &str) -> String {
    format!("tideinfo.{stream}")
}

/// Where a reader at the hub asks for ranges of the record (imported from the stream's direct
/// get in batches).
#[must_use]
pub fn read(stream: &str) -> String {
    format!("tideread.{stream}")
}

/// Where a hub that mirrors a stream asks for its consumer (imported from the stream's account).
#[must_use]
pub fn mirror_api(stream: &str) -> String {
    format!("tidemirror.{stream}.api")
}

/// Where the consumer of the hub that mirrors a stream delivers; `>` stands for every such hub.
#[must_use]
pub fn mirror_deliver(stream: &str, hub: &str) -> String {
    format!("tidemirror.{stream}.deliver.{hub}")
}

/// The inbox prefix of a gateway's connections; its permissions are narrowed to it.
#[must_use]
pub fn inbox(gateway: &GatewayId) -> String {
    format!("_INBOX.{}.{}", gateway.plant, gateway.name)
}

/// Where the answers to the record's questions and frames come for every process that has this
/// gateway's name: each has an inbox of its own below.
#[must_use]
pub fn record_inbox(gateway: &GatewayId) -> String {
    format!("{}.record", inbox(gateway))
}

/// The inbox prefix of local applications whose questions are answered at the hub.
#[must_use]
pub fn apps_inbox(gateway: &GatewayId) -> String {
    format!("{}.apps", inbox(gateway))
}

/// The questions that a gateway answers.
#[must_use]
pub fn questions(gateway: &GatewayId) -> String {
    format!("tide.{}.{}.q.>", gateway.plant, gateway.name)
}

/// Characters that cannot stand in a subject token, or that carry the escape.
fn must_escape(byte: u8) -> bool {
    byte <= b' ' || byte == 0x7f || matches!(byte, b'.' | b'*' | b'>' | b'%' | b'$')
}

fn escape_into(out: &mut String, segment: &str) {
    for c in segment.chars() {
        match u8::try_from(c) {
            Ok(byte) if must_escape(byte) => {
                // Writing to a String cannot fail.
                let _ = write!(out, "%{byte:02X}");
            }
            _ => out.push(c),
        }
    }
}

/// Only what [`escape_into`] writes is accepted, so each path has one subject.
fn unescape(token: &str) -> Option<String> {
    let mut out = String::with_capacity(token.len());
    let mut rest = token;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c != '%' {
            if u8::try_from(c).is_ok_and(must_escape) {
                return None;
            }
            out.push(c);
            continue;
        }
        let digits = rest.get(..2)?;
        let upper = digits.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b));
        let byte = u8::from_str_radix(digits, 16).ok().filter(|b| upper && must_escape(*b))?;
        out.push(char::from(byte));
        rest = &rest[2..];
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(serde::Deserialize)]
    struct Vectors {
        gateway: String,
        epoch: String,
        stream: String,
        live: Vec<(String, String)>,
        frames: String,
        all_frames: String,
        head: String,
        info: String,
        read: String,
        mirror_api: String,
        mirror_deliver: String,
        inbox: String,
        questions: String,
        ask: String,
        question_latest: String,
        ask_latest: String,
        directory: String,
        owners: String,
        every_question: String,
        every_ask: String,
        answers: String,
        last_of_all: String,
        every_inbox: String,
        every_service: String,
        hub_apps_inboxes: String,
        every_apps_inbox: String,
        not_live: Vec<String>,
    }

    fn vectors() -> Vectors {
        serde_json::from_str(include_str!("../vectors/subjects.json")).unwrap()
    }

    #[test]
    fn every_subject_matches_its_vector() {
        let v = vectors();
        let gateway: GatewayId = v.gateway.parse().unwrap();
        let epoch: Epoch = v.epoch.parse().unwrap();
        let own = frames(&gateway, epoch);
        assert_eq!(own, v.frames);
        assert_eq!(gateway_of(&own), Some(gateway.clone()));
        assert_eq!(all_frames(&gateway), v.all_frames);
        assert_eq!(head(&v.stream, &own), v.head);
        assert_eq!(info(&v.stream), v.info);
        assert_eq!(read(&v.stream), v.read);
        assert_eq!(mirror_api(&v.stream), v.mirror_api);
        assert_eq!(mirror_deliver(&v.stream, "global"), v.mirror_deliver);
        assert_eq!(gateway_of(&own), Some(gateway.clone()));
        assert_eq!(inbox(&gateway), v.inbox);
        assert_eq!(questions(&gateway), v.questions);
        assert_eq!(ask(&gateway), v.ask);
        assert_eq!(question(&gateway, "latest"), v.question_latest);
        assert_eq!(ask_for(&gateway, "latest"), v.ask_latest);
        assert_eq!(DIRECTORY, v.directory);
        assert_eq!(OWNERS, v.owners);
        assert_eq!(EVERY_QUESTION, v.every_question);
        assert_eq!(EVERY_ASK, v.every_ask);
        assert_eq!(ANSWERS, v.answers);
        assert_eq!(LAST_OF_ALL, v.last_of_all);
        assert_eq!(EVERY_INBOX, v.every_inbox);
        assert_eq!(EVERY_SERVICE, v.every_service);
        assert_eq!(HUB_APPS_INBOXES, v.hub_apps_inboxes);
        assert_eq!(EVERY_APPS_INBOX, v.every_apps_inbox);
    }

    #[test]
    fn live_subjects_and_paths_are_one_to_one() {
        for (path, subject) in vectors().live {
            let path = TagPath::new(path).unwrap();
            assert_eq!(live(&path), subject);
            assert_eq!(format!("uns.{}", tokens_of(&path)), subject);
            assert_eq!(path_of_live(&subject), Ok(path));
        }
    }

    #[test]
    fn a_subject_that_no_path_escapes_to_is_refused() {
        for subject in vectors().not_live {
            assert!(path_of_live(&subject).is_err(), "{subject}");
        }
    }

    proptest! {
        #[test]
        fn escaping_any_path_is_reversible(text in "[^\\p{Cc}/]{1,20}(/[^\\p{Cc}/]{1,20}){0,4}") {
            let path = TagPath::new(text).unwrap();
            let subject = live(&path);
            prop_assert!(!subject.contains([' ', '*', '>']));
            prop_assert_eq!(path_of_live(&subject), Ok(path));
        }
    }
}
