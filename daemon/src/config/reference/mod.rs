//! The reference, the man page and the JSON Schema, printed from the table of keys.
//!
//! # Invariants
//! - The same table gives the same bytes: the files are kept in the repository and compared.

mod man;
mod markdown;
mod schema;

use super::keys::{Default, Family, Key, Kind, Section};

/// A file that is printed from the code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// Its path in the repository.
    pub path: String,
    /// Its whole content.
    pub content: String,
}

/// All of them.
#[must_use]
pub fn files() -> [Generated; 3] {
    [
        ("docs/configuration.md", markdown::print()),
        ("docs/man/tidegate.toml.5", man::print()),
        ("docs/tidegate.schema.json", schema::print()),
    ]
    .map(|(path, content)| Generated { path: path.to_owned(), content })
}

/// The default as a reader sees it; texts in quotes, as they stand in the file.
fn default_words(key: &Key) -> String {
    match key.default {
        Default::Required => "required".to_owned(),
        Default::Unset(words) | Default::Derived(words) => words.to_owned(),
        Default::Integer(_) | Default::Number(_) | Default::Text(_) | Default::Flag(_) => {
            literal(&key.default).unwrap_or_default()
        }
    }
}

/// The default as TOML, where there is one.
fn literal(default: &Default) -> Option<String> {
    match default {
        Default::Required | Default::Unset(_) | Default::Derived(_) => None,
        Default::Integer(n) => Some(n.to_string()),
        Default::Number(n) => Some(n.to_string()),
        Default::Text(text) => Some(format!("{text:?}")),
        Default::Flag(flag) => Some(flag.to_string()),
    }
}

/// What can stand behind the key; words are listed by themselves.
fn value_words(key: &Key) -> String {
    match key.kind {
        Kind::Word(_) => "one word".to_owned(),
        Kind::Flag => "true or false".to_owned(),
        Kind::Integer { .. } | Kind::IntegerIn(_) => format!("whole number, {}", key.kind.legal()),
        _ => key.kind.legal(),
    }
}

/// What it is for, and for which devices, where that is not all of them.
fn doc_words(key: &Key) -> String {
    match key.only() {
        Some(Family::Modbus) if key.section != Section::DeviceTls => {
            format!("{} For Modbus only.", key.doc)
        }
        Some(Family::OpcUa) => format!("{} For `opcua` only.", key.doc),
        Some(Family::Nats) => format!("{} For `nats` only.", key.doc),
        None if key.families == Family::ASKED => format!("{} Not for `nats`.", key.doc),
        Some(Family::Modbus) | None => key.doc.to_owned(),
    }
}

/// A section with every key, each with its example. Keys that exclude each other stand in examples
/// of their own.
fn sample(section: Section) -> String {
    let apart = match section {
        Section::Device => SERIAL_DEVICE,
        Section::DeviceTls => TLS_DEVICE,
        Section::Profile => "[[profile]]\nname = \"drive\"\npoll-every-ms = 500\nmax-gap = 4\n",
        Section::ProfileTag => PROFILE_TAG,
        _ => "",
    };
    if matches!(section, Section::Profile | Section::ProfileTag | Section::ProfileTls) {
        return apart.to_owned();
    }
    let mut out = format!("{}\n", section.header());
    if section == Section::DeviceTls {
        out = format!("{apart}\n{out}");
    }
    for key in super::keys::of(section).filter(|key| !excluded_from_sample(key)) {
        out.push_str(&format!("{} = {}\n", key.name, key.example));
    }
    if section == Section::Hub {
        out.push_str(BEHIND_A_PROXY);
    }
    if section == Section::Device {
        out = format!("{out}\n{apart}\n{OPCUA_DEVICE}\n{NATS_DEVICE}");
    }
    if section == Section::Tag {
        out.push_str(OTHER_TAGS);
        out.push_str(OPCUA_TAGS);
    }
    out
}

const BEHIND_A_PROXY: &str = r#"
# Where only HTTPS through a proxy gets out:
# urls = ["wss://hub-1.example.com", "wss://hub-2.example.com"]
# proxy = "http://proxy.example.com:3128"
# proxy-user = "gateways"
# proxy-password-file = "proxy.password"
"#;

const SERIAL_DEVICE: &str = r#"[[device]]
name = "drive-3"
protocol = "modbus-rtu"
address = "/dev/ttyUSB0"
unit = 3
profile = "drive"
baud-rate = 9600
parity = "none"
stop-bits = 2
rs485 = "rts-high"
rs485-delay-before-ms = 1
rs485-delay-after-ms = 1
"#;

const OPCUA_DEVICE: &str = r#"[[device]]
name = "press-5"
protocol = "opcua"
address = "opc.tcp://192.0.2.15:4840/UA/Press"
security = "basic256sha256"
message-mode = "sign"
user = "tidegate"
password-file = "press-5.password"
trust = ["2f4a1c0d9be2734f6a1d88e05b3c97a6e1f0427d5c6b8a93d2e4f71805a9c3be"]
server-uri = "urn:plant:press-5"
check-host = false
advertised-url = "follow"
publish-every-ms = 500
backfill = false
max-items = 100

[[device.tag]]
path = "axis-1/position"
address = "nsu=urn:press;s=Axis1.Position"
"#;

const NATS_DEVICE: &str = r#"[[device]]
name = "vehicle"
protocol = "nats"
subjects = ["fleet.prod.veh.VID-001.state.>"]
base-path = "Fleet/VID-001"
skip-parts = 4
id-field = "id"
time-field = "ts"
value-field = "data"
split = true
max-payload = "4 KiB"
max-subjects = 200
max-waiting = 512
when-full = "refuse"
remember-ids = 10000
answer-within-ms = 100
"#;

const OPCUA_TAGS: &str = r#"
[[device]]
name = "press-6"
protocol = "opcua"
address = "opc.tcp://press-6.example.com"
user-cert = "operator.pem"
user-key = "operator.key"

[[device.tag]]
path = "axis-1/position"
address = "/Objects/Press 6/Axis 1/Position"
unit = "mm"
queue-size = 10
discard = "newest"
trigger = "status-value-timestamp"
server-deadband = 0.5

[[device.tag]]
path = "first-ten"
address = "nsu=urn:press;i=1017"
index-range = "0:9"

[[device.tag]]
path = "hydraulics"
address = "/Objects/Press 6/Hydraulics"
subtree = true
include = ["Pump?/*", "**/Temperature"]
exclude = ["**/_*"]
max-tags = 200
max-depth = 4
"#;

const TLS_DEVICE: &str = r#"[[device]]
name = "plc-4"
protocol = "modbus-tls"
address = "plc-4.example.com"
"#;

const OTHER_TAGS: &str = r#"
[[device.tag]]
path = "order-number"
address = "holding:600"
type = "text"
length = 16

[[device.tag]]
path = "state"
address = "holding:610"
states = "0=stopped, 1=running"
"#;

const PROFILE_TAG: &str = r#"[[profile.tag]]
path = "speed"
address = "holding:200"
unit = "rpm"
"#;

/// What stands in an example of its own, and what weakens.
fn excluded_from_sample(key: &Key) -> bool {
    const APART: [&str; 13] = [
        "proxy",
        "proxy-user",
        "proxy-password-file",
        "deadband-percent",
        "length",
        "states",
        "baud-rate",
        "parity",
        "stop-bits",
        "rs485",
        "rs485-delay-before-ms",
        "rs485-delay-after-ms",
        "tag-list",
    ];
    let is_apart = matches!(key.only(), Some(Family::OpcUa | Family::Nats));
    is_apart || key.name.starts_with("allow-") || APART.contains(&key.name)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_key_stands_in_each_of_the_three() {
        let [markdown, man, schema] = files();
        let schema: serde_json::Value = serde_json::from_str(&schema.content).unwrap();
        for key in super::super::keys::KEYS {
            assert!(markdown.content.contains(&format!("| `{}` |", key.name)), "{}", key.path());
            assert!(man.content.contains(&man::escape(key.name)), "{}", key.path());
            let pointer = key
                .section
                .path()
                .split('.')
                .map(|s| match s {
                    "device" | "tag" | "profile" => format!("/properties/{s}/items"),
                    s => format!("/properties/{s}"),
                })
                .collect::<String>();
            let found = schema.pointer(&format!("{pointer}/properties/{}", key.name));
            assert!(found.is_some_and(|v| v.get("description").is_some()), "{}", key.path());
        }
    }

    #[test]
    fn the_man_page_is_plain_ascii_for_every_formatter() {
        let [_, man, _] = files();
        assert!(man.content.is_ascii());
    }

    #[test]
    fn the_samples_together_are_a_legal_configuration() {
        let all: String = Section::ALL.into_iter().map(sample).collect();
        let result = crate::config::parse(Path::new("x.toml"), &all, Vec::new(), &[]);
        assert!(result.is_ok(), "{}", result.unwrap_err());
    }
}
