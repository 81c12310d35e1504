//! What is not as it should be at a hub.
//!
//! # Invariants
//! - Each finding names its object, what was seen and what to do. Nothing is guessed: what could
//!   not be looked at is a finding as well.

use std::collections::HashMap;

use jiff::Timestamp;

use super::roll::{Presence, Roll};
use super::servers::Server;
use crate::config::size;
use crate::hub::HubFile;
use crate::names::GatewayId;

/// Days before its end at which a certificate of a server is named. A person has to renew it, and
/// may be on holiday.
const SERVER_DAYS: f64 = 30.0;

/// Days before its end at which a gateway's certificate is named: by then it has tried to renew it
/// many times.
const GATEWAY_DAYS: f64 = 7.0;

/// One thing to look at.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// Its kind, a word.
    pub kind: &'static str,
    /// What it is about.
    pub object: String,
    /// What was seen, and what to do.
    pub text: String,
}

impl Finding {
    /// A finding.
    #[must_use]
    pub fn new(kind: &'static str, object: impl Into<String>, text: impl Into<String>) -> Self {
        Self { kind, object: object.into(), text: text.into() }
    }
}

/// What the servers themselves show.
#[must_use]
pub fn of_servers(
    servers: &[Server],
    silent: &[String],
    wanted: &[(String, String)],
    now: Timestamp,
) -> Vec<Finding> {
    let mut found: Vec<_> = silent
        .iter()
        .map(|name| {
            let text = "does not answer; whom it holds is not known. Start it, or see its log";
            Finding::new("server-silent", name, text)
        })
        .collect();
    for server in servers {
        match wanted.iter().find(|(name, _)| *name == server.name) {
            None => found.push(Finding::new(
                "server-unknown",
                &server.name,
                "answers and is not in hub.toml; add it there or take it out of the cluster",
            )),
            Some((_, digest)) if *digest != server.config_digest => {
                let text = format!(
                    "runs another configuration since {}; copy its nats-server.conf to its machine and reload it",
                    server.config_loaded
                );
                found.push(Finding::new("configuration-differs", &server.name, text));
            }
            Some(_) => {}
        }
        for served in &server.served {
            let days = days_until(served.until, now);
            if days < SERVER_DAYS {
                let text = format!(
                    "the certificate of its {} port {}; run tidegate hub rotate",
                    served.listener,
                    ends(days, served.until)
                );
                found.push(Finding::new("server-certificate", &server.name, text));
            }
        }
    }
    found
}

/// What the gateways show.
#[must_use]
pub fn of_roll(roll: &Roll) -> Vec<Finding> {
    let mut found = Vec::new();
    for row in &roll.rows {
        let id = row.gateway.to_string();
        match row.presence {
            Presence::NeverSeen => found.push(Finding::new(
                "never-seen",
                &id,
                "is admitted and was never here; enrol it, or revoke it",
            )),
            Presence::Absent => found.push(Finding::new(
                "absent",
                &id,
                "is not connected; its record waits at the gateway",
            )),
            Presence::Partly => found.push(Finding::new(
                "one-link",
                &id,
                "has one link of two; it dials the other one anew by itself",
            )),
            Presence::Connected => {}
        }
        if row.is_revoked {
            let text = format!(
                "is connected by certificate {}, which is revoked; servers look at that only with ocsp in hub.toml. Keep the old device away, or revoke the gateway",
                row.serial.as_deref().unwrap_or_default()
            );
            found.push(Finding::new("revoked-certificate", &id, text));
        }
        if row.certificates.len() > 1 {
            found.push(Finding::new(
                "two-certificates",
                &id,
                "is connected by two certificates at once; unless it is renewing, two devices have its name",
            ));
        }
        if row.from.len() > 1 {
            let text = format!(
                "is connected from {}; unless its network has several ways out, two devices have its name",
                row.from.join(" and ")
            );
            found.push(Finding::new("two-addresses", &id, text));
        }
        if let Some(days) = row.days_left.filter(|days| *days < GATEWAY_DAYS) {
            let text = format!(
                "its certificate has {days:.1} days left; see tidegate identity show at the gateway"
            );
            found.push(Finding::new("gateway-certificate", &id, text));
        }
    }
    for link in &roll.strangers {
        let text = format!(
            "is connected from {} to {} and not in hub.toml; its server runs an older configuration, or was not told to cut it: run tidegate hub revoke",
            link.from, link.server
        );
        found.push(Finding::new("stranger", &link.user, text));
    }
    found
}

/// What a stream holds of each gateway, by message count and the stream's mean message.
#[must_use]
pub fn of_shares(
    file: &HubFile,
    messages: &HashMap<GatewayId, u64>,
    mean_bytes: &HashMap<GatewayId, f64>,
) -> Vec<Finding> {
    let over = file.gateways.iter().filter_map(|gateway| {
        let budget = gateway.bytes?;
        let bytes = estimate(*messages.get(&gateway.id)?, *mean_bytes.get(&gateway.id)?);
        (bytes > budget).then(|| {
            let text = format!(
                "has about {} in the stream and a budget of {}; raise bytes in hub.toml, or have it record less",
                size::format(bytes),
                size::format(budget)
            );
            Finding::new("over-budget", gateway.id.to_string(), text)
        })
    });
    let strange = messages.keys().filter(|id| file.gateway(id).is_none());
    let mut strange: Vec<_> = strange.collect();
    strange.sort();
    let left = strange.into_iter().map(|id| {
        let text = "has records in the stream and is not admitted; they stay until they expire";
        Finding::new("record-of-nobody", id.to_string(), text)
    });
    over.chain(left).collect()
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate"
)]
fn estimate(messages: u64, mean: f64) -> u64 {
    (messages as f64 * mean) as u64
}

/// Days from `now` to `until`; negative when it is over.
#[must_use]
pub fn days_until(until: Timestamp, now: Timestamp) -> f64 {
    until.duration_since(now).as_secs_f64() / 86_400.0
}

/// When a certificate ends, in words.
#[must_use]
pub fn ends(days: f64, until: Timestamp) -> String {
    if days < 0.0 {
        format!("ended {until}, {:.1} days ago", -days)
    } else {
        format!("ends {until}, in {days:.1} days")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::operate::servers::Served;

    fn kinds(found: &[Finding]) -> Vec<&'static str> {
        found.iter().map(|one| one.kind).collect()
    }

    fn server(name: &str, digest: &str, days: i64) -> Server {
        let until = Timestamp::from_second(days * 86_400).unwrap();
        Server {
            name: name.to_owned(),
            id: name.to_owned(),
            version: String::new(),
            config_loaded: Timestamp::UNIX_EPOCH,
            config_digest: digest.to_owned(),
            served: vec![Served { listener: "leaf", until }],
        }
    }

    #[test]
    fn a_server_that_is_silent_unknown_different_or_about_to_expire_is_named() {
        let wanted = ["h-1", "h-2", "h-3"].map(|name| (name.to_owned(), "right".to_owned()));
        let servers =
            [server("h-1", "right", 31), server("h-2", "wrong", 29), server("other", "right", 31)];
        let found = of_servers(&servers, &["h-3".to_owned()], &wanted, Timestamp::UNIX_EPOCH);
        assert_eq!(
            kinds(&found),
            ["server-silent", "configuration-differs", "server-certificate", "server-unknown"]
        );
        assert!(found[2].text.contains("in 29.0 days"), "{}", found[2].text);
        assert!(ends(-2.0, Timestamp::UNIX_EPOCH).contains("2.0 days ago"));
    }
}
