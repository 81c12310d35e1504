//! The one table of everything that can be configured.
//!
//! # Invariants
//! - A key exists when it stands in [`KEYS`], and nowhere else: the check refuses other keys, and
//!   the reference, the man page and the JSON Schema are printed from the same rows.
//! - A profile takes the rows of a device, and a column of a tag list is a row of a tag.
//! - Every default in a row is legal by that row's own kind.
//! - A row says for which devices it is, and the check refuses it at any other by name.

mod table;

pub use table::KEYS;

/// Devices that are spoken to in one way, and have their keys in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Every protocol of Modbus.
    Modbus,
    /// OPC UA.
    OpcUa,
    /// Messages of local applications.
    Nats,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 3] = [Self::Modbus, Self::OpcUa, Self::Nats];
    /// Those whose devices are asked, and listen somewhere.
    pub const ASKED: [Self; 2] = [Self::Modbus, Self::OpcUa];

    /// Its name, as a person would say it.
    #[must_use]
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Modbus => "Modbus",
            Self::OpcUa => "OPC UA",
            Self::Nats => "NATS",
        }
    }

    /// The family of a protocol that this version speaks.
    #[must_use]
    pub fn of(protocol: &str) -> Option<Self> {
        match protocol {
            "opcua" => Some(Self::OpcUa),
            "nats" => Some(Self::Nats),
            "modbus-tcp" | "modbus-tls" | "modbus-rtu" | "modbus-rtu-over-tcp" => {
                Some(Self::Modbus)
            }
            _ => None,
        }
    }

    /// What stands in the place of a key that this family does not have; generic words for most.
    #[must_use]
    pub fn instead_of(self, key: &str) -> &'static str {
        match (self, key) {
            (Self::OpcUa, "type" | "length" | "order") => {
                "nothing: an OPC UA server tells the type of each value"
            }
            (Self::OpcUa, "tls") => {
                "nothing: `security`, `trust` and the [opcua] section do this for OPC UA"
            }
            (Self::OpcUa, "max-registers" | "max-bits") => "nothing, or max-items",
            (Self::OpcUa, "address-base" | "forbidden" | "unit") => {
                "nothing: an OPC UA server has nodes, and neither units nor registers"
            }
            (Self::Modbus, "security" | "message-mode" | "trust") => {
                "nothing, or protocol = \"modbus-tls\" with tls"
            }
            (Self::Modbus, "server-deadband") => "nothing, or deadband",
            (Self::Modbus, "server-deadband-percent") => "nothing, or deadband-percent",
            (Self::Modbus, "publish-every-ms") => "nothing, or poll-every-ms",
            (Self::Modbus, "max-items") => "nothing, or max-registers and max-bits",
            (Self::Modbus | Self::OpcUa, "subjects") => "nothing, or protocol = \"nats\"",
            (Self::Nats, "address") => "nothing, or subjects: applications publish at the leaf",
            (Self::Nats, "profile" | "tag-list") => {
                "nothing: the tags of messages are found while they come"
            }
            (Self::Nats, _) => "nothing for messages of local applications",
            (Self::Modbus, _) => "nothing, or protocol = \"opcua\"",
            (Self::OpcUa, _) => "nothing for an OPC UA device",
        }
    }
}

/// A table of the file that can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    /// `[gateway]`
    Gateway,
    /// `[hub]`
    Hub,
    /// `[hub.tls]`
    HubTls,
    /// `[leaf]`
    Leaf,
    /// `[journal]`
    Journal,
    /// `[uplink]`
    Uplink,
    /// `[query]`
    Query,
    /// `[metrics]`
    Metrics,
    /// `[control]`
    Control,
    /// `[opcua]`
    OpcUa,
    /// `[identity]`
    Identity,
    /// `[[device]]`
    Device,
    /// `[device.tls]`
    DeviceTls,
    /// `[[device.tag]]`
    Tag,
    /// `[[profile]]`
    Profile,
    /// `[profile.tls]`
    ProfileTls,
    /// `[[profile.tag]]`
    ProfileTag,
}

impl Section {
    /// Every section, in the order of the reference.
    pub const ALL: [Self; 17] = [
        Self::Gateway,
        Self::Hub,
        Self::HubTls,
        Self::Leaf,
        Self::Journal,
        Self::Uplink,
        Self::Query,
        Self::Metrics,
        Self::Control,
        Self::OpcUa,
        Self::Identity,
        Self::Device,
        Self::DeviceTls,
        Self::Tag,
        Self::Profile,
        Self::ProfileTls,
        Self::ProfileTag,
    ];

    /// Its dotted name in the file, such as `hub.tls`.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Hub => "hub",
            Self::HubTls => "hub.tls",
            Self::Leaf => "leaf",
            Self::Journal => "journal",
            Self::Uplink => "uplink",
            Self::Query => "query",
            Self::Metrics => "metrics",
            Self::Control => "control",
            Self::OpcUa => "opcua",
            Self::Identity => "identity",
            Self::Device => "device",
            Self::DeviceTls => "device.tls",
            Self::Tag => "device.tag",
            Self::Profile => "profile",
            Self::ProfileTls => "profile.tls",
            Self::ProfileTag => "profile.tag",
        }
    }

    /// Whether there may be many of it.
    #[must_use]
    pub const fn repeats(self) -> bool {
        matches!(self, Self::Device | Self::Tag | Self::Profile | Self::ProfileTag)
    }

    /// Whether it is, or stands in, something of which there may be many: a device or a profile.
    #[must_use]
    pub const fn is_of_many(self) -> bool {
        self.repeats() || matches!(self, Self::DeviceTls | Self::ProfileTls)
    }

    /// The section whose rows it takes over; itself for most.
    #[must_use]
    pub const fn rows_of(self) -> Self {
        match self {
            Self::ProfileTls => Self::DeviceTls,
            Self::ProfileTag => Self::Tag,
            other => other,
        }
    }

    /// How its header is written, such as `[hub.tls]` or `[[device]]`.
    #[must_use]
    pub fn header(self) -> String {
        if self.repeats() { format!("[[{}]]", self.path()) } else { format!("[{}]", self.path()) }
    }

    /// What it is about.
    #[must_use]
    pub const fn doc(self) -> &'static str {
        match self {
            Self::Gateway => "Who this gateway is. Required.",
            Self::Hub => {
                "Where the record goes. Without this section everything is recorded and nothing is \
                 delivered."
            }
            Self::HubTls => {
                "The certificate files for the hub, in PEM; also written as \
                 `tls = { ca = \"ca.pem\", cert = \"gw.pem\", key = \"gw.key\" }` in `[hub]`. Required \
                 for `tls://` URLs."
            }
            Self::Leaf => "The NATS server on this gateway.",
            Self::Journal => "The crash-proof record on disk.",
            Self::Uplink => "How the record is delivered to the hub.",
            Self::Query => {
                "Which questions this gateway answers over NATS, and how much they may take; see \
                 docs/questions.md. Collection goes before every question."
            }
            Self::Metrics => {
                "OpenMetrics and `/healthz` over HTTP. Without this section nothing is served."
            }
            Self::Control => "The Unix socket that `tidegate status` and `tidegate tags` ask.",
            Self::OpcUa => {
                "What this gateway is to OPC UA servers, and whom it trusts; see `tidegate identity \
                 opcua` and `tidegate identity trust`. Nothing of it is used without a device that \
                 speaks `opcua`."
            }
            Self::Identity => {
                "The key and the certificate of this gateway, made, renewed and watched by the gateway \
                 itself; see `tidegate identity`. An empty section is enough where certificates are \
                 dropped as files. `[hub.tls]` names other files instead, and wins."
            }
            Self::Device => "One device that is polled; written once for each.",
            Self::DeviceTls => {
                "The certificate files for a `modbus-tls` device, in PEM; also written as \
                 `tls = { ca = \"ca.pem\" }` in `[[device]]`. Required for `modbus-tls`, and for \
                 nothing else."
            }
            Self::Tag => {
                "One value of the device above it. A device has at least one, written here, in its \
                 `tag-list` or in its `profile`. At an OPC UA device a row with `subtree = true` \
                 stands for every value below an object."
            }
            Self::Profile => {
                "What several devices have in common: any key of `[[device]]` but `address`, `unit`, \
                 `base-path` and `profile`, and tags. A device takes it over with `profile = \
                 \"NAME\"`; its own keys win, and its own tags come beside those of the profile."
            }
            Self::ProfileTls => "`[device.tls]` for every device with the profile.",
            Self::ProfileTag => "One value of every device with the profile above it.",
        }
    }
}

/// What a change of the key needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// SIGHUP applies it to the devices that it concerns; all others go on untouched.
    Device,
    /// It is named on SIGHUP and applies after a restart.
    Restart,
}

/// What happens when the key is not written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Default {
    /// It must be written.
    Required,
    /// It is not set; the words say what that means.
    Unset(&'static str),
    /// The value follows from other keys; the words say how.
    Derived(&'static str),
    /// A whole number, or milliseconds.
    Integer(i64),
    /// A number.
    Number(f64),
    /// A text, a word, a path, an address or a size.
    Text(&'static str),
    /// True or false.
    Flag(bool),
}

/// One word of a closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// As it is written.
    pub name: &'static str,
    /// What it means.
    pub doc: &'static str,
    /// Whether this version can do it; a word that is only planned gets an error of its own.
    pub built: bool,
}

/// Which numbers are legal. Infinity and NaN never are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberRule {
    /// Any.
    Finite,
    /// Anything but 0.
    NotZero,
    /// 0 and above.
    NotNegative,
    /// 0 to 100.
    Percent,
}

/// What can stand behind a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Letters, digits, `-` and `_`, beginning with a letter or digit, at most this many.
    Name {
        /// Characters at most.
        max: usize,
    },
    /// Any text without control characters, 1 to this many characters.
    Text {
        /// Characters at most.
        max: usize,
    },
    /// One of these.
    Word(&'static [Word]),
    /// True or false.
    Flag,
    /// A whole number.
    Integer {
        /// The smallest.
        min: i64,
        /// The largest.
        max: i64,
    },
    /// One of a few whole numbers, given as inclusive ranges.
    IntegerIn(&'static [(i64, i64)]),
    /// Milliseconds.
    Millis {
        /// The shortest.
        min: i64,
        /// The longest.
        max: i64,
    },
    /// Bytes, written with a unit.
    Size {
        /// The fewest bytes.
        min: u64,
        /// The most bytes.
        max: u64,
    },
    /// A number, with or without a decimal point.
    Number(NumberRule),
    /// A file or directory; a relative one starts at the configuration file's directory.
    Path,
    /// A file with something that may be secret: as before, or a credential of the service.
    File,
    /// An IP address with a port to listen on.
    Listen,
    /// A host with an optional port to connect to, or a serial port: the protocol decides.
    DeviceAddress,
    /// A host name or an IP address.
    Host,
    /// A list of leaf-node URLs.
    Urls,
    /// The URL of an HTTP proxy.
    Proxy,
    /// A list of subjects of local applications.
    Subjects,
    /// Segments joined by `/`.
    TagPath,
    /// Table and number, such as `holding:100`, or an OPC UA node: the protocol decides.
    Address,
    /// A list of addresses and ranges of them, such as `holding:100-199`.
    Ranges,
    /// Numbers and their names, such as `0=stopped, 1=running`.
    States,
    /// A URI, such as `urn:plant:press-1`.
    Uri,
    /// The URL of a server that is reached over HTTPS.
    HttpsUrl,
    /// A list of SHA-256 thumbprints of certificates.
    Thumbprints,
    /// A list of patterns over browse names.
    Patterns,
    /// A part of an array, such as `0:9`.
    IndexRange,
}

/// One row.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Where it stands.
    pub section: Section,
    /// Its name.
    pub name: &'static str,
    /// For which devices it is; all of them for what stands outside of devices.
    pub families: &'static [Family],
    /// What can stand behind it.
    pub kind: Kind,
    /// What happens when it is not written.
    pub default: Default,
    /// What a change of it needs.
    pub reload: Reload,
    /// What it is for, in a sentence or two.
    pub doc: &'static str,
    /// A value as it stands in the file.
    pub example: &'static str,
}

impl Key {
    /// The dotted name, such as `journal.max-bytes`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}.{}", self.section.path(), self.name)
    }

    /// The families that it is for, as a person would say it.
    #[must_use]
    pub fn nouns(&self) -> String {
        let nouns: Vec<&str> = self.families.iter().map(|family| family.noun()).collect();
        nouns.join(" and ")
    }

    /// The only family that it is for; `None` when it is for several.
    #[must_use]
    pub const fn only(&self) -> Option<Family> {
        match self.families {
            [family] => Some(*family),
            _ => None,
        }
    }

    /// What is legal for devices of a family, where that is known.
    #[must_use]
    pub fn legal(&self, family: Option<Family>) -> String {
        match (self.kind, family) {
            (Kind::DeviceAddress, Some(Family::Modbus)) => HOSTS.to_owned(),
            (Kind::DeviceAddress, Some(Family::OpcUa)) => URLS.to_owned(),
            (Kind::Address, Some(Family::Modbus)) => REGISTERS.to_owned(),
            (Kind::Address, Some(Family::OpcUa)) => NODES.to_owned(),
            _ => self.kind.legal(),
        }
    }

    /// A value as it stands in the file of such a device.
    #[must_use]
    pub const fn example_of(&self, family: Option<Family>) -> &'static str {
        match (self.kind, family) {
            (Kind::DeviceAddress, Some(Family::OpcUa)) => r#""opc.tcp://192.0.2.10:4840""#,
            (Kind::Address, Some(Family::OpcUa)) => r#""nsu=urn:press;s=Axis1.Position""#,
            _ => self.example,
        }
    }

    /// The environment variable that sets it; `None` for lists, devices and tags.
    #[must_use]
    pub fn variable(&self) -> Option<String> {
        if self.section.is_of_many() || self.kind.is_list() {
            return None;
        }
        let section = self.section.path().replace('.', "__");
        Some(format!("{VARIABLE_PREFIX}{section}__{}", self.name).replace('-', "_").to_uppercase())
    }
}

const HOSTS: &str = "\"host\", \"host:port\" or \"[IPv6 address]:port\"; for modbus-rtu a serial \
                     port, such as \"/dev/ttyUSB0\"";
/// How the URL of an OPC UA server is written.
pub(super) const URLS: &str = "\"opc.tcp://host:port/path\"; the port is 4840 when left out";
const REGISTERS: &str = "\"holding:100\", \"input:7\", \"coil:5\", \"discrete:3\", a bit of a register \
                         as \"holding:10.3\", or \"40001\" style";
/// How a node is written.
pub(super) const NODES: &str = "\"nsu=URI;s=NAME\", also with i=, g= or b=, or a browse path from \
                                the root, such as \"/Objects/Press 1/Axis\"";

/// What the name of every environment variable that sets a key begins with.
pub const VARIABLE_PREFIX: &str = "TIDEGATE_CFG_";

/// What a profile does not say: each of these is a device's own.
const NOT_IN_A_PROFILE: [&str; 6] = ["name", "address", "unit", "base-path", "profile", "subjects"];

/// The rows of one section, in the order of the reference.
pub fn of(section: Section) -> impl Iterator<Item = &'static Key> {
    let of_a_device = move |key: &Key| {
        section == Section::Profile
            && key.section == Section::Device
            && !NOT_IN_A_PROFILE.contains(&key.name)
    };
    KEYS.iter().filter(move |key| key.section == section.rows_of() || of_a_device(key))
}

impl Kind {
    /// Whether it is a list, which only a file can hold.
    #[must_use]
    pub const fn is_list(&self) -> bool {
        matches!(
            self,
            Self::Urls | Self::Subjects | Self::Ranges | Self::Thumbprints | Self::Patterns
        )
    }

    /// What is legal, in words that end an error message: `10 to 60000 (milliseconds)`.
    #[must_use]
    pub fn legal(&self) -> String {
        match *self {
            Self::Name { max } => {
                format!("1 to {max} letters, digits, '-' or '_', beginning with a letter or digit")
            }
            Self::Text { max } => format!("text of 1 to {max} characters"),
            Self::Word(words) => alternatives(
                words.iter().filter(|word| word.built).map(|word| format!("{:?}", word.name)),
            ),
            Self::Flag => "true or false".to_owned(),
            Self::Integer { min, max } => format!("{min} to {max}"),
            Self::IntegerIn(ranges) => alternatives(ranges.iter().map(|&(first, last)| {
                if first == last { first.to_string() } else { format!("{first} to {last}") }
            })),
            Self::Millis { min, max } => format!("{min} to {max} milliseconds"),
            Self::Size { min, max } => format!(
                "{} to {}, written like \"8 GiB\" or \"500 MB\"",
                super::size::format(min),
                super::size::format(max)
            ),
            Self::Number(NumberRule::Finite) => "a number".to_owned(),
            Self::Number(NumberRule::NotZero) => "a number other than 0".to_owned(),
            Self::Number(NumberRule::NotNegative) => "a number from 0 up".to_owned(),
            Self::Number(NumberRule::Percent) => "a number from 0 to 100".to_owned(),
            Self::Path => {
                "a path; a relative one starts at the configuration file's directory".to_owned()
            }
            Self::File => {
                "a path; a relative one starts at the configuration file's directory; or \
                           \"credential:NAME\" for a systemd credential of the service"
                    .to_owned()
            }
            Self::Listen => {
                "an IP address with a port, such as \"127.0.0.1:9464\" or \"[::1]:9464\"".to_owned()
            }
            Self::DeviceAddress => format!("{HOSTS}; for opcua {URLS}"),
            Self::Host => "a host name or an IP address, without a port".to_owned(),
            Self::Urls => "a list of 1 to 16 of \"tls://host:port\", the port is 7422 when left \
                           out; or of \"wss://host\", or \"nats://host:port\" for plaintext"
                .to_owned(),
            Self::Proxy => "\"http://host:port\"".to_owned(),
            Self::Subjects => "a list of 1 to 64 subjects such as \"site.work.>\", none of which \
                               begins with tide, uns, ask, $ or _"
                .to_owned(),
            Self::TagPath => {
                "segments joined by '/', such as \"Line3/Press1/temperature\"".to_owned()
            }
            Self::Address => format!("{REGISTERS}; for opcua {NODES}"),
            Self::Ranges => "a list of 1 to 256 of \"holding:100-199\" or \"coil:5\"; also \
                             \"40101-40200\""
                .to_owned(),
            Self::States => "\"0=stopped, 1=running\": 1 to 256 whole numbers, each with a name \
                             of 1 to 64 characters"
                .to_owned(),
            Self::Uri => "a URI of 3 to 512 characters, such as \"urn:plant:press-1\"".to_owned(),
            Self::HttpsUrl => "\"https://host:port/path\"; the port is 443 and the path \
                               /.well-known/est when left out"
                .to_owned(),
            Self::Thumbprints => "a list of 1 to 64 SHA-256 thumbprints, each of 64 hexadecimal \
                                  digits"
                .to_owned(),
            Self::Patterns => {
                "a list of 1 to 256 patterns over the browse names below the object, \
                               such as \"Axis?/*\" or \"**/Temperature\"; in a tag list separated \
                               by ';'"
                    .to_owned()
            }
            Self::IndexRange => {
                "\"3\", \"0:9\", or one of these for each dimension: \"1,0:3\"".to_owned()
            }
        }
    }

    /// The kind of value, in a word or two for the reference.
    #[must_use]
    pub const fn noun(&self) -> &'static str {
        match self {
            Self::Name { .. } => "name",
            Self::Text { .. } => "text",
            Self::Word(_) => "word",
            Self::Flag => "true or false",
            Self::Integer { .. } | Self::IntegerIn(_) => "whole number",
            Self::Millis { .. } => "milliseconds",
            Self::Size { .. } => "size",
            Self::Number(_) => "number",
            Self::Path => "path",
            Self::File => "file",
            Self::Listen => "IP address and port",
            Self::DeviceAddress => "host and port, serial port, or URL",
            Self::Host => "host",
            Self::Urls => "list of URLs",
            Self::Proxy => "URL",
            Self::Subjects => "list of subjects",
            Self::TagPath => "tag path",
            Self::Address => "register or node address",
            Self::Ranges => "list of register ranges",
            Self::States => "numbers and names",
            Self::Uri => "URI",
            Self::HttpsUrl => "URL",
            Self::Thumbprints => "list of thumbprints",
            Self::Patterns => "list of patterns",
            Self::IndexRange => "index range",
        }
    }
}

/// Joins the way a person does: `a, b or c`.
fn alternatives(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    match items.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some((only, _)) => only.clone(),
        None => String::new(),
    }
}
