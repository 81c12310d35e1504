//! Who should be at a hub, who is, and who is there that should not be.
//!
//! # Invariants
//! - Every admitted gateway has a row, also one that never came.
//! - Every leaf link is a gateway's, of another user whom the configurations let in, or a stranger's.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use tidegate_journal::frame;

use super::connections::Connection;
use super::findings::days_until;
use crate::hub::HubFile;
use crate::hubread::Stored;
use crate::names::GatewayId;
use crate::subjects;

/// Links that a gateway has when all is well: one for live values, one for the record.
const LINKS: usize = 2;

/// The end of what the hub holds of a gateway's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Its place in the stream.
    pub seq: u64,
    /// When the hub stored it.
    pub stored: Option<Timestamp>,
    /// Until when it reaches by the gateway's clock; `None` when the message is no frame.
    pub watermark: Option<Timestamp>,
    /// The journal that it belongs to.
    pub epoch: String,
    /// How many journals of the gateway the hub has messages of.
    pub epochs: usize,
}

/// Whether a gateway is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Presence {
    /// All links stand.
    Connected,
    /// One of two links stands.
    Partly,
    /// It was there before.
    Absent,
    /// The hub knows nothing of it.
    NeverSeen,
}

impl Presence {
    /// For people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Partly => "one link",
            Self::Absent => "absent",
            Self::NeverSeen => "never seen",
        }
    }
}

/// One admitted gateway.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Row {
    /// Which one.
    pub gateway: GatewayId,
    /// Whether it is there.
    pub presence: Presence,
    /// Since when its oldest link stands.
    pub since: Option<Timestamp>,
    /// From where, each address once.
    pub from: Vec<String>,
    /// At which servers, each once.
    pub servers: Vec<String>,
    /// SHA-256 of the certificates that it shows, each once.
    pub certificates: Vec<String>,
    /// Serial of the certificate that it shows, else of its newest one, where the hub's own authority
    /// signed it.
    pub serial: Option<String>,
    /// Whether it is connected by a certificate that the hub's own authority has revoked.
    pub is_revoked: bool,
    /// Days until its certificate ends, as the hub's authority or the gateway says.
    pub days_left: Option<f64>,
    /// Frames that wait at the gateway, as it last said.
    pub backlog_frames: Option<u64>,
    /// Until when the hub's copy of its record reaches.
    pub watermark: Option<Timestamp>,
    /// How long ago that is, in seconds.
    pub watermark_age_s: Option<f64>,
    /// The journal that it delivers.
    pub epoch: Option<String>,
    /// How many journals the hub has of it.
    pub journals: usize,
}

/// A certificate that the hub's own authority signed for a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// `PLANT/NAME`.
    pub gateway: String,
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
    /// When it ends.
    pub until: Timestamp,
    /// Whether it was revoked.
    pub is_revoked: bool,
}

/// What [`roll_call`] found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Roll {
    /// The admitted gateways, in the order of `hub.toml`.
    pub rows: Vec<Row>,
    /// Links of users who are in no configuration.
    pub strangers: Vec<Connection>,
}

/// What a gateway says of itself, by the last part of the subject.
pub type Values = HashMap<String, serde_json::Value>;

/// Puts together what servers and streams say. `users` are those whom the servers' configurations
/// let in: more than the gateways, where there are leaf links of other kinds.
#[must_use]
pub fn roll_call(
    file: &HubFile,
    users: &HashSet<String>,
    links: &[Connection],
    heads: &HashMap<GatewayId, Head>,
    values: &Values,
    now: Timestamp,
) -> Roll {
    let mut by_user: HashMap<&str, Vec<&Connection>> = HashMap::new();
    for link in links.iter().filter(|link| link.is_leaf) {
        by_user.entry(link.user.as_str()).or_default().push(link);
    }
    let mut roll = Roll::default();
    for gateway in &file.gateways {
        let own = by_user.remove(gateway.subject().as_str()).unwrap_or_default();
        let head = heads.get(&gateway.id);
        let presence = match (own.len(), head) {
            (LINKS.., _) => Presence::Connected,
            (1.., _) => Presence::Partly,
            (0, Some(_)) => Presence::Absent,
            (0, None) => Presence::NeverSeen,
        };
        let value = |tag| values.get(&health_subject(&gateway.id, tag));
        let watermark = head.and_then(|head| head.watermark);
        roll.rows.push(Row {
            gateway: gateway.id.clone(),
            presence,
            since: own.iter().map(|link| link.since).min(),
            from: once(own.iter().map(|link| host_of(&link.from))),
            servers: once(own.iter().map(|link| link.server.as_str())),
            certificates: once(own.iter().map(|link| link.certificate.as_str())),
            serial: None,
            is_revoked: false,
            days_left: value(DAYS_LEFT).and_then(serde_json::Value::as_f64),
            backlog_frames: value(BACKLOG).and_then(serde_json::Value::as_u64),
            watermark,
            watermark_age_s: watermark.map(|at| now.duration_since(at).as_secs_f64().max(0.0)),
            epoch: head.map(|head| head.epoch.clone()),
            journals: head.map_or(0, |head| head.epochs),
        });
    }
    let strange = |link: &&Connection| {
        link.is_leaf && by_user.contains_key(link.user.as_str()) && !users.contains(&link.user)
    };
    roll.strangers = links.iter().filter(strange).cloned().collect();
    roll
}

impl Roll {
    /// Adds what the hub's own authority knows of the certificates. It knows better than a gateway's
    /// last word, which may be old.
    pub fn add_certificates(&mut self, signed: &[Signed], now: Timestamp) {
        let mut by_gateway: HashMap<&str, Vec<&Signed>> = HashMap::new();
        for one in signed {
            by_gateway.entry(one.gateway.as_str()).or_default().push(one);
        }
        for row in &mut self.rows {
            let Some(own) = by_gateway.get(row.gateway.to_string().as_str()) else { continue };
            let is_shown = |one: &&&Signed| row.certificates.contains(&one.sha256);
            row.is_revoked = own.iter().filter(is_shown).any(|one| one.is_revoked);
            let shown = own.iter().filter(is_shown).max_by_key(|one| one.until);
            let newest = || own.iter().filter(|one| !one.is_revoked).max_by_key(|one| one.until);
            if let Some(one) = shown.or_else(newest) {
                row.serial = Some(one.serial.clone());
                row.days_left = Some(days_until(one.until, now));
            }
        }
    }
}

/// The tag with the days that a gateway's certificate has left.
const DAYS_LEFT: &str = "certificate.days-left";

/// The tag with the frames that wait.
const BACKLOG: &str = "backlog.frames";

/// The subjects of what is asked of a gateway's own health.
#[must_use]
pub fn health_subjects(gateway: &GatewayId) -> [String; 2] {
    [health_subject(gateway, DAYS_LEFT), health_subject(gateway, BACKLOG)]
}

fn health_subject(gateway: &GatewayId, tag: &str) -> String {
    format!("uns.{}._gateways.{}.{tag}", gateway.plant, gateway.name)
}

/// The value in a live message; `None` when it is bad or no live message.
#[must_use]
pub fn value_of(payload: &[u8]) -> Option<serde_json::Value> {
    let message: serde_json::Value = serde_json::from_slice(payload).ok()?;
    (message.get("q")? == "good").then(|| message.get("v").cloned()).flatten()
}

/// The heads of gateways, from the last message of each of their subjects.
#[must_use]
pub fn heads_of(messages: &[Stored]) -> HashMap<GatewayId, Head> {
    let mut heads: HashMap<GatewayId, Head> = HashMap::new();
    for message in messages {
        let mut tokens = message.subject.split('.').skip(1);
        let (Some(plant), Some(name), Some(epoch)) = (tokens.next(), tokens.next(), tokens.next())
        else {
            continue;
        };
        let Ok(gateway) = format!("{plant}/{name}").parse::<GatewayId>() else { continue };
        let found = Head {
            seq: message.seq,
            stored: message.stored_at.parse().ok(),
            watermark: watermark(&message.payload),
            epoch: epoch.to_owned(),
            epochs: 1,
        };
        heads
            .entry(gateway)
            .and_modify(|head| {
                let epochs = head.epochs + 1;
                if found.seq > head.seq {
                    *head = found.clone();
                }
                head.epochs = epochs;
            })
            .or_insert(found);
    }
    heads
}

/// Until when the frames of a message reach.
fn watermark(mut rest: &[u8]) -> Option<Timestamp> {
    let mut newest = None;
    while !rest.is_empty() {
        let Ok(found) = frame::decode(rest) else { break };
        newest = newest.max(Some(found.header.wall.1));
        rest = rest.get(found.bytes.len()..).unwrap_or_default();
    }
    Timestamp::from_nanosecond(i128::from(newest?)).ok()
}

/// The filters of all journals of a gateway.
#[must_use]
pub fn head_filter(gateway: &GatewayId) -> String {
    subjects::all_frames(gateway)
}

fn host_of(from: &str) -> &str {
    from.rsplit_once(':').map_or(from, |(host, _)| host)
}

fn once<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut texts: Vec<_> = texts.filter(|text| !text.is_empty()).map(str::to_owned).collect();
    texts.sort();
    texts.dedup();
    texts
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn file() -> HubFile {
        let text = "[hub]\nname = \"h\"\nmax-store = \"1 GiB\"\n[[node]]\nname = \"h-1\"\n\
             hosts = [\"127.0.0.1\"]\nclient = \"127.0.0.1:4222\"\nleaf = \"127.0.0.1:7422\"\n\
             [[stream]]\nname = \"TIDE\"\n[[user]]\nname = \"admin\"\nrole = \"admin\"\n[[user]]\n\
             name = \"operator\"\nrole = \"operator\"\n[[gateway]]\nid = \"P/a\"\n\
             [[gateway]]\nid = \"P/b\"\n[[gateway]]\nid = \"P/c\"\n[[gateway]]\nid = \"P/d\"\n";
        HubFile::read(Path::new("hub.toml"), text).unwrap()
    }

    fn link(user: &str, cid: u64, since: &str) -> Connection {
        Connection {
            server: "h-1".to_owned(),
            server_id: "N".to_owned(),
            cid,
            is_leaf: true,
            account: "GATEWAYS".to_owned(),
            user: format!("CN={user},O=Tidegate"),
            name: "P/whoever".to_owned(),
            from: format!("10.0.0.7:{cid}"),
            since: since.parse().unwrap(),
            certificate: "aa".to_owned(),
            rtt: String::new(),
            sent: 0,
            version: String::new(),
            end: None,
        }
    }

    fn stored(subject: &str, seq: u64) -> Stored {
        let stored_at = "2026-01-01T00:00:00Z".to_owned();
        Stored { subject: subject.to_owned(), seq, stored_at, payload: bytes::Bytes::new() }
    }

    #[test]
    fn everybody_who_is_admitted_has_a_row_and_everybody_else_who_is_there_is_a_stranger() {
        let mut person = link("operator", 5, "2026-01-01T00:00:00Z");
        person.is_leaf = false;
        let links = [
            link("P/a", 1, "2026-01-01T00:00:09Z"),
            link("P/a", 2, "2026-01-01T00:00:03Z"),
            link("P/b", 3, "2026-01-01T00:00:00Z"),
            link("P/gone", 4, "2026-01-01T00:00:00Z"),
            link("P/site", 6, "2026-01-01T00:00:00Z"),
            person,
        ];
        let heads = heads_of(&[stored("tide.P.c.e1.frames", 7)]);
        let mut values = Values::new();
        values.insert("uns.P._gateways.a.certificate.days-left".to_owned(), 12.5.into());
        values.insert("uns.P._gateways.a.backlog.frames".to_owned(), 3.into());
        let users = HashSet::from(["CN=P/site,O=Tidegate".to_owned()]);
        let roll = roll_call(&file(), &users, &links, &heads, &values, Timestamp::UNIX_EPOCH);
        let presence: Vec<_> = roll.rows.iter().map(|row| row.presence).collect();
        let expected =
            [Presence::Connected, Presence::Partly, Presence::Absent, Presence::NeverSeen];
        assert_eq!(presence, expected);
        let a = &roll.rows[0];
        assert_eq!(a.since, Some("2026-01-01T00:00:03Z".parse().unwrap()));
        assert_eq!((a.from.as_slice(), a.servers.len()), (&["10.0.0.7".to_owned()][..], 1));
        assert_eq!((a.days_left, a.backlog_frames), (Some(12.5), Some(3)));
        assert_eq!(roll.strangers.iter().map(|link| link.cid).collect::<Vec<_>>(), [4]);
    }

    #[test]
    fn the_authority_knows_which_certificate_is_shown_and_whether_it_is_revoked() {
        let links =
            [link("P/a", 1, "2026-01-01T00:00:00Z"), link("P/b", 2, "2026-01-01T00:00:00Z")];
        let now = Timestamp::UNIX_EPOCH;
        let signed = |gateway: &str, serial: &str, sha256: &str, days: i64, is_revoked| Signed {
            gateway: gateway.to_owned(),
            serial: serial.to_owned(),
            sha256: sha256.to_owned(),
            until: Timestamp::from_second(days * 86_400).unwrap(),
            is_revoked,
        };
        let mut roll =
            roll_call(&file(), &HashSet::new(), &links, &HashMap::new(), &Values::new(), now);
        roll.add_certificates(
            &[
                signed("P/a", "01", "aa", 3, true),
                signed("P/a", "02", "bb", 9, false),
                signed("P/c", "03", "cc", 5, false),
                signed("P/c", "04", "dd", 7, true),
                signed("P/gone", "05", "ee", 5, false),
            ],
            now,
        );
        let told: Vec<_> = roll
            .rows
            .iter()
            .map(|row| (row.serial.as_deref(), row.days_left, row.is_revoked))
            .collect();
        let expected = [
            (Some("01"), Some(3.0), true),
            (None, None, false),
            (Some("03"), Some(5.0), false),
            (None, None, false),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn the_newest_journal_of_a_gateway_is_its_head() {
        let heads = heads_of(&[
            stored("tide.P.a.e1.frames", 9),
            stored("tide.P.a.e0.frames", 4),
            stored("else", 10),
        ]);
        let head = &heads[&"P/a".parse::<GatewayId>().unwrap()];
        assert_eq!((head.seq, head.epoch.as_str(), head.epochs), (9, "e1", 2));
        assert_eq!(head.watermark, None);
    }

    #[test]
    fn a_bad_value_is_not_shown_as_if_it_were_known() {
        assert_eq!(value_of(br#"{"v":7,"ts":1,"q":"good"}"#), Some(7.into()));
        for none in [&br#"{"v":null,"ts":1,"q":"bad"}"#[..], b"", b"{}", b"[]"] {
            assert_eq!(value_of(none), None);
        }
    }
}
