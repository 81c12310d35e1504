//! Checks what is OPC UA alone: the section, the keys of a server, of a node and of a subtree.
//!
//! # Invariants
//! - Nothing is sent unprotected unless somebody wrote `security = "none"`.
//! - No password stands in a configuration, and none reaches a message.
//! - A key that would do nothing beside another one is a misunderstanding, and refused.

use std::sync::Arc;
use std::time::Duration;

use tidegate_opcua::{
    Collect, DeviceSpec, Discard, EndpointUrl, ItemSpec, Mode, NodeAddress, Policy, Security,
    ServerDeadband, Trigger, TrustSpec, UrlError, UserSpec,
};
use toml_span::Value as Toml;

use super::fields::{Checker, Fields};
use super::keys::{NODES, Section, URLS};
use super::mistake::shorten;
use super::model::OpcUa;
use super::value;
use crate::names::GatewayId;

/// The time-out where none is written: what the slowest servers take for a session.
const TIMEOUT: Duration = Duration::from_secs(4);
/// Bytes of a node address. The specification allows identifiers of 4096 characters.
const LONGEST_NODE: usize = 4096;

/// What a subtree has beside its node.
pub(super) struct Below {
    pub(super) include: Arc<[Box<str>]>,
    pub(super) exclude: Arc<[Box<str>]>,
    pub(super) max_tags: u32,
    pub(super) max_depth: u32,
}

impl Checker<'_> {
    /// The section.
    pub(super) fn opcua(
        &mut self,
        table: Option<&Toml<'_>>,
        gateway: Option<&GatewayId>,
    ) -> Option<(OpcUa, Fields)> {
        let fields = self.once(Section::OpcUa, table);
        let application_uri = match fields.text("application-uri") {
            Some(uri) => uri.to_owned(),
            None => {
                let GatewayId { plant, name } = gateway?;
                format!("urn:tidegate:{plant}:{name}")
            }
        };
        let dir = self.directory.join(fields.file("dir")?);
        Some((OpcUa { dir, application_uri, key_bits: fields.integer("key-bits")? }, fields))
    }

    /// A server without its tags.
    pub(super) fn opcua_spec(&mut self, fields: &Fields) -> Option<DeviceSpec> {
        let backoff = self.backoff(fields);
        let url = self.url(fields);
        let security = self.security(fields);
        let user = self.user(fields);
        let collect = match fields.text("collect")? {
            "poll" => Collect::Poll,
            _ => Collect::Subscribe,
        };
        if collect == Collect::Poll && fields.written("publish-every-ms") {
            let message = "nothing is published: collect is \"poll\"".to_owned();
            self.refuse(fields, "publish-every-ms", message, "nothing, or collect = \"subscribe\"");
        }
        let timeout = fields.duration("timeout-ms");
        if timeout.is_none() && fields.attempted("timeout-ms") {
            return None;
        }
        Some(DeviceSpec {
            name: fields.text("name")?.to_owned(),
            url: url?,
            follow_advertised: fields.text("advertised-url")? == "follow",
            security: security?,
            user: user?,
            trust: TrustSpec {
                thumbprints: fields.thumbprints("trust").into(),
                application_uri: fields.text("server-uri").map(str::to_owned),
                any_host: !fields.flag("check-host"),
            },
            collect,
            sample_every: fields.duration("poll-every-ms")?,
            publish_every: fields.duration("publish-every-ms"),
            timeout: timeout.unwrap_or(TIMEOUT),
            backoff: backoff?,
            backfill: fields.flag("backfill"),
            max_items: fields.integer("max-items")?,
            tags: Arc::default(),
            subtrees: Arc::default(),
        })
    }

    fn url(&mut self, fields: &Fields) -> Option<EndpointUrl> {
        let text = fields.text("address")?;
        let authority = text.split_once("://").map_or(text, |(_, rest)| rest);
        if authority.split('/').next().is_some_and(|authority| authority.contains('@')) {
            // A password must not be repeated in a log.
            let message = "the URL carries credentials";
            let mut mistake = fields.mistake("address", message);
            mistake.value = None;
            let legal = format!("{URLS}; user and password-file stand beside it");
            self.mistakes.push(mistake.legal(legal));
            return None;
        }
        let shown = shorten(text);
        let (message, near) = match EndpointUrl::parse(text) {
            Ok(url) if value::is_host(&url.host) => return Some(url),
            Ok(url) => (format!("{:?} in {shown:?} names no host", shorten(&url.host)), None),
            Err(UrlError::Scheme { .. }) => {
                let near = match text.split_once("://") {
                    None if !text.starts_with('/') => Some(format!("opc.tcp://{text}")),
                    None | Some(_) => None,
                };
                (format!("{shown:?} is no opc.tcp URL"), near)
            }
            Err(UrlError::Host { .. }) => (format!("{shown:?} names no host and port"), None),
        };
        let near = near.filter(|near| EndpointUrl::parse(near).is_ok());
        let mistake = fields.mistake("address", message).legal(URLS).suggest(near);
        self.mistakes.push(mistake);
        None
    }

    fn security(&mut self, fields: &Fields) -> Option<Security> {
        let mode = match fields.text("message-mode")? {
            "sign" => Mode::Sign,
            _ => Mode::SignAndEncrypt,
        };
        let policy = match fields.text("security")? {
            "none" => {
                for (key, what) in [("message-mode", "message"), ("trust", "certificate")] {
                    if fields.written(key) {
                        let message =
                            format!("security is \"none\": no {what} is protected or checked");
                        let message = match key {
                            "trust" => message.replace("protected or checked", "looked at"),
                            _ => message.replace("protected or checked", "signed or encrypted"),
                        };
                        let legal = "nothing beside security = \"none\", or another security";
                        let mistake = fields
                            .mistake(key, message)
                            .legal(legal)
                            .other(fields.place("security"), "written here");
                        self.mistakes.push(mistake);
                    }
                }
                return Some(Security::None);
            }
            "basic256sha256" => Some(Policy::Basic256Sha256),
            "aes128-sha256-rsaoaep" => Some(Policy::Aes128Sha256RsaOaep),
            "aes256-sha256-rsapss" => Some(Policy::Aes256Sha256RsaPss),
            _ => None,
        };
        Some(Security::Protected { policy, mode })
    }

    fn user(&mut self, fields: &Fields) -> Option<UserSpec> {
        let mut whole = true;
        for (there, missing) in [
            ("user", "password-file"),
            ("password-file", "user"),
            ("user-cert", "user-key"),
            ("user-key", "user-cert"),
        ] {
            if fields.written(there) && !fields.attempted(missing) {
                let message = format!("there is a {there} and no {missing}");
                let legal = match there {
                    "user" | "password-file" => "user and password-file together, or neither",
                    _ => "user-cert and user-key together, or neither",
                };
                self.refuse(fields, there, message, legal);
                whole = false;
            }
        }
        let by_name = ["user", "password-file"].into_iter().find(|key| fields.written(key));
        let by_cert = ["user-cert", "user-key"].into_iter().find(|key| fields.written(key));
        if let (Some(name), Some(cert)) = (by_name, by_cert) {
            let mistake = fields
                .mistake(cert, "the gateway logs on by name and password already")
                .legal("user and password-file, or user-cert and user-key")
                .other(fields.place(name), "the other way to log on");
            self.mistakes.push(mistake);
            whole = false;
        }
        let file = |key| self.file_of(fields, key);
        if !whole {
            return None;
        }
        Some(match (by_name, by_cert) {
            (Some(_), _) => UserSpec::Password {
                name: fields.text("user")?.to_owned(),
                file: file("password-file")?,
            },
            (None, Some(_)) => {
                UserSpec::Certificate { cert: file("user-cert")?, key: file("user-key")? }
            }
            (None, None) => UserSpec::Anonymous,
        })
    }

    /// The node that a tag or a subtree stands for.
    pub(super) fn node_address(&mut self, fields: &Fields) -> Option<NodeAddress> {
        let text = fields.text("address")?.trim();
        if text.len() > LONGEST_NODE {
            let message = format!("the address has {} bytes", text.len());
            self.refuse(fields, "address", message, "at most 4096 bytes");
            return None;
        }
        match NodeAddress::parse(text) {
            Ok(node) => Some(node),
            Err(error) => {
                // Each of these messages ends with its remedy.
                let text = error.to_string();
                let (message, legal) = text.rsplit_once("; ").unwrap_or((&text, NODES));
                self.refuse(fields, "address", message.to_owned(), legal);
                None
            }
        }
    }

    /// How the values of a tag or a subtree are collected.
    pub(super) fn item(
        &mut self,
        fields: &Fields,
        device: &Fields,
        sample_every: Option<Duration>,
    ) -> Option<Arc<ItemSpec>> {
        let polled = device.text("collect") == Some("poll");
        let trigger = fields.text("trigger");
        for key in
            ["queue-size", "discard", "trigger", "server-deadband", "server-deadband-percent"]
        {
            if polled && fields.written(key) {
                let mistake = fields
                    .mistake(key, format!("there is no {key} where values are polled"))
                    .legal("nothing, or collect = \"subscribe\" at the device")
                    .other(device.place("collect"), "the device is polled");
                self.mistakes.push(mistake);
            }
        }
        let absolute = fields.number("server-deadband").filter(|by| *by > 0.0);
        let percent = fields.number("server-deadband-percent").filter(|by| *by > 0.0);
        if fields.written("server-deadband") && fields.written("server-deadband-percent") {
            let mistake = fields
                .mistake("server-deadband-percent", "there is a server-deadband already")
                .legal("server-deadband or server-deadband-percent")
                .other(fields.place("server-deadband"), "the other one");
            self.mistakes.push(mistake);
        } else if let (Some(key), Some("status")) = (
            absolute.map(|_| "server-deadband").or(percent.map(|_| "server-deadband-percent")),
            trigger,
        ) {
            let mistake = fields
                .mistake(key, "the trigger is \"status\": no value is compared")
                .legal("nothing, or trigger = \"status-value\"")
                .other(fields.place("trigger"), "written here");
            self.mistakes.push(mistake);
        }
        let item = ItemSpec {
            sample_every,
            queue: fields.integer("queue-size"),
            discard: match fields.text("discard")? {
                "newest" => Discard::Newest,
                _ => Discard::Oldest,
            },
            trigger: match trigger? {
                "status" => Trigger::Status,
                "status-value-timestamp" => Trigger::StatusValueTimestamp,
                _ => Trigger::StatusValue,
            },
            deadband: match (absolute, percent) {
                (Some(by), _) => ServerDeadband::Absolute(by),
                (None, Some(by)) => ServerDeadband::Percent(by),
                (None, None) => ServerDeadband::None,
            },
            index_range: fields.text("index-range").map(Box::from),
        };
        Some(self.items.one_of(item))
    }

    /// What is taken below the node; the inner `None` when the row is a single tag.
    #[expect(
        clippy::option_option,
        reason = "the outer one is about mistakes, the inner about absence"
    )]
    pub(super) fn below(&mut self, fields: &Fields) -> Option<Option<Below>> {
        if !fields.flag("subtree") {
            if fields.attempted("subtree") && !fields.written("subtree") {
                return None;
            }
            for key in ["include", "exclude", "max-tags", "max-depth"] {
                if fields.written(key) {
                    let message = format!("{key} is about a subtree, and this is a single tag");
                    self.refuse(fields, key, message, "nothing, or subtree = true beside it");
                }
            }
            return Some(None);
        }
        let alone = [
            ("unit", "the server tells the unit"),
            ("index-range", "no part of an array is taken"),
        ];
        for (key, why) in alone.into_iter().filter(|(key, _)| fields.written(key)) {
            let message = format!("{why} of each value of a subtree");
            self.refuse(fields, key, message, "nothing, or a row for the single tag");
        }
        Some(Some(Below {
            include: fields.patterns("include").into(),
            exclude: fields.patterns("exclude").into(),
            max_tags: fields.integer("max-tags")?,
            max_depth: fields.integer("max-depth")?,
        }))
    }
}

#[cfg(test)]
mod tests;
