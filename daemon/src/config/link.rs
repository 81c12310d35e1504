//! The way to a device: what stands in its keys, and what all devices of one endpoint say together.
//!
//! # Invariants
//! - Devices of one endpoint share one link: what one of them says counts for all, and two that say
//!   different things are a mistake with both places.
//! - Endpoints are compared as they are written: that two names lead to one machine, or two paths
//!   to one serial port, is not known here.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tidegate_modbus::{
    Endpoint, LinkSpec, Parity, Rs485, SerialSpec, StopBits, TlsSpec, Transport,
};

use super::fields::{Checker, Fields};
use super::mistake::{Mistake, Place};
use super::value::{self, Value};

/// Keys of the serial line alone.
const SERIAL: [&str; 6] =
    ["baud-rate", "parity", "stop-bits", "rs485", "rs485-delay-before-ms", "rs485-delay-after-ms"];
/// Keys of any link.
const ANY: [&str; 4] =
    ["turnaround-ms", "pause-after-connect-ms", "close-after-poll", "max-connections"];

/// What a device speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Tcp,
    Tls,
    RtuOverTcp,
    Rtu,
}

impl Protocol {
    pub(super) fn of(fields: &Fields) -> Option<Self> {
        Some(match fields.text("protocol")? {
            "modbus-tcp" => Self::Tcp,
            "modbus-tls" => Self::Tls,
            "modbus-rtu-over-tcp" => Self::RtuOverTcp,
            "modbus-rtu" => Self::Rtu,
            _ => return None,
        })
    }

    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Tcp => "modbus-tcp",
            Self::Tls => "modbus-tls",
            Self::RtuOverTcp => "modbus-rtu-over-tcp",
            Self::Rtu => "modbus-rtu",
        }
    }

    /// Whether requests travel as RTU frames.
    pub(super) const fn frames_rtu(self) -> bool {
        matches!(self, Self::RtuOverTcp | Self::Rtu)
    }

    const fn port(self) -> u16 {
        match self {
            // Registered for Modbus and for Modbus/TCP Security.
            Self::Tls => 802,
            _ => 502,
        }
    }
}

/// Where a device is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Where {
    Network(Endpoint),
    Port(PathBuf),
}

impl Where {
    /// What two devices of one endpoint have in common.
    fn common(&self) -> String {
        match self {
            Self::Network(endpoint) => {
                format!("{}:{}", endpoint.host.to_lowercase(), endpoint.port)
            }
            Self::Port(path) => path.display().to_string(),
        }
    }
}

/// A key that was written, with what a mistake about it needs.
struct Written {
    key: &'static str,
    value: Value,
    mistake: Mistake,
}

/// What one device says about its link.
pub(super) struct Way {
    protocol: Protocol,
    to: Where,
    said: Vec<Written>,
    tls: Option<(TlsSpec, Mistake)>,
    /// Whether there is a `tls`, legal or not.
    has_tls: bool,
}

impl Checker<'_> {
    /// What a device says about its link; `None` when it is not known which one it is.
    pub(super) fn way(&mut self, fields: &Fields, tls: Option<&Fields>) -> Option<Way> {
        let protocol = Protocol::of(fields);
        let to = self.destination(fields, protocol);
        let protocol = protocol?;
        let mut said = Vec::new();
        let word = protocol.word();
        for key in SERIAL.into_iter().chain(ANY) {
            let Some((value, ..)) = fields.as_written(key) else { continue };
            if protocol != Protocol::Rtu && SERIAL.contains(&key) {
                let message = format!("{word} has no serial line of its own");
                self.refuse(fields, key, message, "nothing, or protocol = \"modbus-rtu\"");
                continue;
            }
            if protocol == Protocol::Rtu && key == "max-connections" && *value != Value::Integer(1)
            {
                let message = "a serial port has one connection".to_owned();
                self.refuse(fields, key, message, "1, or nothing");
                continue;
            }
            said.push(Written { key, value: value.clone(), mistake: fields.mistake(key, "") });
        }
        if let Some(tls) = tls.filter(|_| protocol != Protocol::Tls) {
            let message = format!("{word} has no certificates");
            let mistake = Mistake::new(tls.path.clone(), tls.header.clone(), message);
            let legal = "nothing, or protocol = \"modbus-tls\"";
            self.mistakes.push(mistake.legal(legal).context(fields.context.clone()));
        }
        let spec = tls.filter(|_| protocol == Protocol::Tls).and_then(|tls| {
            let spec = self.tls(tls)?;
            let mistake = Mistake::new(tls.path.clone(), tls.header.clone(), "");
            Some((spec, mistake.context(fields.context.clone())))
        });
        said.push(Written {
            key: "protocol",
            value: Value::Word(word),
            mistake: fields.mistake("protocol", ""),
        });
        Some(Way { protocol, to: to?, said, tls: spec, has_tls: tls.is_some() })
    }

    fn tls(&mut self, fields: &Fields) -> Option<TlsSpec> {
        let file = |key| self.file_of(fields, key);
        let (ca, cert, key) = (file("ca"), file("cert"), file("key"));
        for (there, missing) in [("cert", "key"), ("key", "cert")] {
            if fields.written(there) && !fields.attempted(missing) {
                let message = format!("there is a {there} and no {missing}");
                self.refuse(fields, there, message, "cert and key together, or neither");
            }
        }
        let server_name = fields.text("server-name").map(str::to_owned);
        Some(TlsSpec { ca: ca?, identity: cert.zip(key), server_name })
    }

    /// The address, by the rules of the protocol.
    fn destination(&mut self, fields: &Fields, protocol: Option<Protocol>) -> Option<Where> {
        let text = fields.text("address")?;
        let is_path = text.starts_with('/');
        let (message, legal, suggestion) = match protocol {
            Some(Protocol::Rtu) if is_path => return Some(Where::Port(PathBuf::from(text))),
            Some(Protocol::Rtu) => {
                let near = text.starts_with("tty").then(|| format!("/dev/{text}"));
                let legal = "the path of the port, such as \"/dev/ttyUSB0\"; for a serial server \
                             protocol = \"modbus-rtu-over-tcp\"";
                (format!("{text:?} is no serial port"), legal.to_owned(), near)
            }
            Some(other) if is_path => {
                let message = format!(
                    "{text:?} is a serial port, and {} is spoken over the network",
                    other.word()
                );
                let legal = "\"host\" or \"host:port\", or protocol = \"modbus-rtu\"";
                (message, legal.to_owned(), None)
            }
            // What it would have to be is not known.
            None if is_path => return None,
            Some(_) | None => {
                let port = protocol.map_or(502, Protocol::port);
                match value::host_and_port(text, port) {
                    Ok((host, port)) => return Some(Where::Network(Endpoint { host, port })),
                    Err(why) => {
                        let legal = format!(
                            "\"host\", \"host:port\" or \"[IPv6 address]:port\"; the port is \
                             {port} when left out"
                        );
                        (format!("{text:?} {why}"), legal, None)
                    }
                }
            }
        };
        let mistake = fields.mistake("address", message).legal(legal).suggest(suggestion);
        self.mistakes.push(mistake);
        None
    }

    /// The link of each device. What a mistake keeps from being known stands as a default.
    pub(super) fn links(&mut self, ways: &[Option<Way>]) -> Vec<Option<Arc<LinkSpec>>> {
        let mut of_endpoint: HashMap<String, Vec<&Way>> = HashMap::new();
        let mut order = Vec::new();
        for way in ways.iter().flatten() {
            let common = way.to.common();
            let same = of_endpoint.entry(common.clone()).or_default();
            if same.is_empty() {
                order.push(common);
            }
            same.push(way);
        }
        let mut links = HashMap::new();
        for common in order {
            if let Some(ways) = of_endpoint.get(&common) {
                let link = self.link(ways).map(Arc::new);
                links.insert(common, link);
            }
        }
        let link_of = |way: &Option<Way>| links.get(&way.as_ref()?.to.common()).cloned().flatten();
        ways.iter().map(link_of).collect()
    }

    fn link(&mut self, ways: &[&Way]) -> Option<LinkSpec> {
        let first = ways.first()?;
        let mut said: HashMap<&str, &Written> = HashMap::new();
        for written in ways.iter().flat_map(|way| &way.said) {
            match said.get(written.key) {
                None => drop(said.insert(written.key, written)),
                Some(known) if known.value == written.value => {}
                Some(known) => {
                    let message = format!(
                        "another device at {} has another {}",
                        first.to.common(),
                        written.key
                    );
                    self.differ(&written.mistake, message, known.mistake.place.clone());
                }
            }
        }
        let mut tls: Option<&(TlsSpec, Mistake)> = None;
        for other in ways.iter().filter_map(|way| way.tls.as_ref()) {
            match tls {
                None => tls = Some(other),
                Some(known) if known.0 == other.0 => {}
                Some(known) => {
                    let message =
                        format!("another device at {} has another tls", first.to.common());
                    self.differ(&other.1, message, known.1.place.clone());
                }
            }
        }
        if first.protocol == Protocol::Tls && !ways.iter().any(|way| way.has_tls) {
            let protocol = said.get("protocol").map(|written| written.mistake.clone());
            if let Some(mut mistake) = protocol {
                "modbus-tls needs to know whom to trust, and there is no tls"
                    .clone_into(&mut mistake.message);
                let legal = "tls = { ca = \"plc-ca.pem\" } in this [[device]]";
                self.mistakes.push(mistake.legal(legal));
            }
        }
        let number = |key: &str| match said.get(key).map(|written| &written.value) {
            Some(Value::Integer(n)) => u32::try_from(*n).ok(),
            _ => None,
        };
        let wait = |key: &str| match said.get(key).map(|written| &written.value) {
            Some(Value::Duration(wait)) => *wait,
            _ => Duration::ZERO,
        };
        let word = |key: &str| match said.get(key).map(|written| &written.value) {
            Some(Value::Word(word)) => *word,
            _ => "",
        };
        let rs485 = match word("rs485") {
            direction @ ("rts-high" | "rts-low") => Some(Rs485 {
                rts_high_on_send: direction == "rts-high",
                delay_before_send: wait("rs485-delay-before-ms"),
                delay_after_send: wait("rs485-delay-after-ms"),
            }),
            _ => {
                for key in ["rs485-delay-before-ms", "rs485-delay-after-ms"] {
                    if let Some(written) = said.get(key) {
                        let mut mistake = written.mistake.clone();
                        "nothing turns RTS: rs485 is off".clone_into(&mut mistake.message);
                        let legal = "rs485 = \"rts-high\" or \"rts-low\" beside it";
                        self.mistakes.push(mistake.legal(legal));
                    }
                }
                None
            }
        };
        let transport = match (&first.to, first.protocol) {
            (Where::Port(port), _) => Transport::Rtu(SerialSpec {
                port: port.clone(),
                baud: number("baud-rate").unwrap_or(19_200),
                parity: match word("parity") {
                    "odd" => Parity::Odd,
                    "none" => Parity::None,
                    _ => Parity::Even,
                },
                stop_bits: match number("stop-bits") {
                    Some(2) => StopBits::Two,
                    _ => StopBits::One,
                },
                rs485,
            }),
            (Where::Network(endpoint), Protocol::Tls) => {
                Transport::Tls(endpoint.clone(), tls?.0.clone())
            }
            (Where::Network(endpoint), Protocol::RtuOverTcp) => {
                Transport::RtuOverTcp(endpoint.clone())
            }
            (Where::Network(endpoint), _) => Transport::Tcp(endpoint.clone()),
        };
        Some(LinkSpec {
            transport,
            max_connections: number("max-connections").and_then(|n| n.try_into().ok()).unwrap_or(1),
            pause_after_connect: wait("pause-after-connect-ms"),
            turnaround: wait("turnaround-ms"),
            close_after_poll: said
                .get("close-after-poll")
                .is_some_and(|written| written.value == Value::Flag(true)),
        })
    }

    fn differ(&mut self, template: &Mistake, message: String, first: Place) {
        let mistake = Mistake { message, ..template.clone() };
        self.mistakes.push(
            mistake
                .legal("one value for all devices with this address; it counts for all of them")
                .other(first, "the other one"),
        );
    }
}

/// The files that a link needs, each with its key.
pub(crate) fn tls_files(link: &LinkSpec) -> Vec<(&'static str, &Path)> {
    let Transport::Tls(_, tls) = &link.transport else { return Vec::new() };
    let mut out = vec![("ca", tls.ca.as_path())];
    if let Some((cert, key)) = &tls.identity {
        out.extend([("cert", cert.as_path()), ("key", key.as_path())]);
    }
    out
}
