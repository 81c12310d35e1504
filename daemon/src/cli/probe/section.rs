//! A device section ready to paste, from what was found.
//!
//! # Invariants
//! - What is written is legal: `tidegate check` accepts it behind a `[gateway]` section.
//! - Limits are what was measured, never more.

use std::fmt::Write as _;
use std::time::Duration;

use tidegate_modbus::probe::{
    Bound, Findings, Identity, Largest, Merged, TableFindings, UnitFindings,
};
use tidegate_modbus::{Parity, StopBits, Table, Transport};

use super::target::protocol;
use crate::toml_text::quoted;

/// Tags written for one table; more would bury the section.
const MAX_TAGS: u32 = 100;

/// The sections of every unit with something to read; empty when there is none.
pub(super) fn sections(transport: &Transport, findings: &Findings) -> String {
    let several = findings.units.len() > 1 && !findings.any_unit;
    let texts = findings.units.iter().filter_map(|unit| section(transport, unit, several));
    texts.collect::<Vec<_>>().join("\n")
}

fn section(transport: &Transport, unit: &UnitFindings, several: bool) -> Option<String> {
    let readable = |table: &TableFindings| !table.readable.is_empty();
    if !unit.tables.iter().any(readable) {
        return None;
    }
    let mut text = String::new();
    if let Some(line) = identity(unit) {
        let _ = writeln!(text, "# {line}");
    }
    let mut key = |key: &str, value: String, why: &str| {
        let line = format!("{key} = {value}");
        let _ = match why {
            "" => writeln!(text, "{line}"),
            why => writeln!(text, "{line:<30} # {why}"),
        };
    };
    let name = if several { format!("device-{}", unit.unit.0) } else { "device-1".to_owned() };
    key("[[device]]\nname", quoted(&name), "");
    key("protocol", quoted(protocol(transport)), "");
    way(transport, &mut key);
    key("unit", unit.unit.0.to_string(), "");
    key("poll-every-ms", "1000".to_owned(), "");
    let slowest = unit.tables.iter().flat_map(|table| [table.one, table.block]).flatten();
    if let Some(slowest) = slowest.map(|times| times.max).max() {
        let why = format!("the slowest answer took {}", super::screen::millis(slowest));
        key("timeout-ms", timeout(slowest).to_string(), &why);
    }
    for (name, bits) in [("max-registers", false), ("max-bits", true)] {
        let of_kind = |table: &&TableFindings| table.table.holds_bits() == bits;
        let limits = unit.tables.iter().filter(of_kind).filter_map(|table| table.largest);
        // Where only no longer run was found, larger blocks may work as well.
        let limits =
            limits.filter(|largest| !matches!(largest.bound, Bound::Run | Bound::Protocol));
        if let Some(largest) = limits.min_by_key(|largest| largest.cells) {
            key(name, largest.cells.to_string(), &limit(largest));
        }
    }
    let refuses =
        |table: &&TableFindings| matches!(table.merged, Merged::Refused(_) | Merged::Silent);
    if let Some(table) = unit.tables.iter().find(refuses) {
        let how = match table.merged {
            Merged::Refused(code) => format!("blocks over a hole are refused (exception {code})"),
            _ => "a block over a hole was not answered".to_owned(),
        };
        key("max-gap", "0".to_owned(), &how);
    }
    for table in &unit.tables {
        tags(&mut text, table);
    }
    Some(text)
}

fn way(transport: &Transport, key: &mut impl FnMut(&str, String, &str)) {
    let address = transport.to_string();
    key("address", quoted(&address), "");
    match transport {
        Transport::Tls(_, tls) => {
            let mut parts = vec![format!("ca = {}", quoted(&tls.ca.to_string_lossy()))];
            if let Some((cert, own_key)) = &tls.identity {
                parts.push(format!("cert = {}", quoted(&cert.to_string_lossy())));
                parts.push(format!("key = {}", quoted(&own_key.to_string_lossy())));
            }
            if let Some(name) = &tls.server_name {
                parts.push(format!("server-name = {}", quoted(name)));
            }
            key("tls", format!("{{ {} }}", parts.join(", ")), "");
        }
        Transport::Rtu(serial) => {
            key("baud-rate", serial.baud.to_string(), "");
            let parity = match serial.parity {
                Parity::Even => "even",
                Parity::Odd => "odd",
                Parity::None => "none",
            };
            key("parity", quoted(parity), "");
            let stop = if serial.stop_bits == StopBits::Two { "2" } else { "1" };
            key("stop-bits", stop.to_owned(), "");
        }
        Transport::Tcp(_) | Transport::RtuOverTcp(_) => {}
    }
}

/// Four times the slowest answer, in steps of 50 ms: not so little that a busy device is lost, and
/// not so much that a lost one shows late.
fn timeout(slowest: Duration) -> u128 {
    (slowest.as_millis() * 4).next_multiple_of(50).clamp(100, 1000)
}

fn limit(largest: Largest) -> String {
    let more = if largest.exact { "more get" } else { "many more get" };
    match largest.bound {
        Bound::Refused(code) => format!("{more} exception {code}"),
        Bound::Silence => format!("{more} no answer"),
        Bound::Protocol | Bound::Run => String::new(),
    }
}

fn tags(text: &mut String, table: &TableFindings) {
    let word = table.table.word();
    let kind = if table.table.holds_bits() { "bool" } else { "uint16" };
    let mut left = MAX_TAGS;
    let mut more = 0;
    for run in &table.readable {
        let take = run.len().min(left);
        left -= take;
        more += run.len() - take;
        for address in (run.first..=run.last).take(usize::try_from(take).unwrap_or(usize::MAX)) {
            let _ = write!(
                text,
                "\n[[device.tag]]\npath = \"{word}-{address}\"\naddress = \"{word}:{address}\"\n\
                 type = \"{kind}\"\n"
            );
        }
    }
    if more > 0 {
        let what = match table.table {
            Table::Coil => "coils",
            Table::DiscreteInput => "discrete inputs",
            Table::InputRegister => "input registers",
            Table::HoldingRegister => "holding registers",
        };
        let _ = writeln!(text, "\n# {more} more {what} can be read.");
    }
}

/// Who the unit says that it is, in one line.
pub(super) fn identity(unit: &UnitFindings) -> Option<String> {
    let Some(Identity::Objects(objects)) = &unit.identity else { return None };
    let line = objects.iter().map(|(number, text)| {
        let text = String::from_utf8_lossy(text);
        let text: String = text.trim_matches(['\0', ' ']).chars().take(64).collect();
        let text = crate::cli::terminal::tame(&text);
        match object(*number) {
            Some(name) => format!("{name} {text}"),
            None => format!("object {number} {text}"),
        }
    });
    Some(line.collect::<Vec<_>>().join(", "))
}

/// The specification's name of an object.
pub(super) const fn object(number: u8) -> Option<&'static str> {
    Some(match number {
        0 => "vendor",
        1 => "product code",
        2 => "revision",
        3 => "URL",
        4 => "product",
        5 => "model",
        6 => "application",
        _ => return None,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use tidegate_modbus::probe::{End, Evidence, Run, Times};
    use tidegate_modbus::{Endpoint, SerialSpec, TlsSpec, UnitId};

    use super::*;

    pub(in super::super) fn findings() -> Findings {
        let times = |ms| Times {
            min: Duration::from_millis(ms),
            median: Duration::from_millis(ms + 1),
            max: Duration::from_millis(ms + 2),
            count: 9,
        };
        let table = |table, readable: &[(u16, u16)], cells| TableFindings {
            table,
            searched: Run { first: 0, last: 999 },
            readable: readable.iter().map(|&(first, last)| Run { first, last }).collect(),
            unknown: Vec::new(),
            end: Some(End::Complete),
            requests: 120,
            largest: Some(Largest { cells, bound: Bound::Refused(3), exact: true }),
            one: Some(times(4)),
            block: Some(times(11)),
            merged: Merged::Refused(2),
        };
        let unit = UnitFindings {
            unit: UnitId(3),
            evidence: Evidence::Value,
            identity: Some(Identity::Objects(vec![
                (0, b"Lab \"x\"\n[[device]]".to_vec()),
                (1, b"PM-1\0".to_vec()),
            ])),
            tables: vec![
                table(Table::HoldingRegister, &[(10, 39), (50, 199)], 64),
                table(Table::Coil, &[(0, 2)], 256),
            ],
        };
        Findings {
            requests: 260,
            doing: String::new(),
            silent: vec![UnitId(1)],
            units: vec![unit],
            any_unit: false,
        }
    }

    fn tcp() -> Transport {
        Transport::Tcp(Endpoint { host: "192.0.2.7".into(), port: 1502 })
    }

    fn checked(section: &str) -> crate::config::Config {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tidegate.toml");
        let head = "[gateway]\nplant = \"P\"\nname = \"g\"\n\n";
        std::fs::write(&file, format!("{head}{section}")).unwrap();
        match crate::config::load(&file, [], &[]) {
            Ok(config) => config,
            Err(error) => panic!("{error}\n{section}"),
        }
    }

    #[test]
    fn a_section_is_legal_and_says_what_was_measured() {
        let text = sections(&tcp(), &findings());
        let config = checked(&text);
        let [device] = &config.devices[..] else { panic!("one device:\n{text}") };
        let spec = device.modbus().unwrap();
        assert_eq!((spec.unit, spec.max_registers, spec.max_bits), (UnitId(3), 64, 256));
        assert_eq!((spec.max_gap, spec.timeout), (0, Duration::from_millis(100)));
        assert_eq!(spec.link.transport, tcp());
        assert_eq!(spec.tags.len(), 103);
        assert!(text.contains("# 80 more holding registers can be read."), "{text}");
    }

    #[test]
    fn every_way_to_a_device_is_written_as_the_configuration_wants_it() {
        let endpoint = Endpoint { host: "fd00::7".into(), port: 802 };
        let serial = SerialSpec {
            port: "/dev/ttyUSB0".into(),
            baud: 9600,
            parity: Parity::None,
            stop_bits: StopBits::Two,
            rs485: None,
        };
        let tls = TlsSpec {
            ca: "/etc/tidegate/plc-ca.pem".into(),
            identity: Some(("/etc/tidegate/gw.pem".into(), "/etc/tidegate/gw.key".into())),
            server_name: Some("plc-7".into()),
        };
        for transport in [
            Transport::RtuOverTcp(endpoint.clone()),
            Transport::Tls(endpoint, tls),
            Transport::Rtu(serial),
        ] {
            let config = checked(&sections(&transport, &findings()));
            assert_eq!(config.devices[0].modbus().unwrap().link.transport, transport);
        }
    }

    #[test]
    fn the_section_in_the_documentation_is_legal() {
        let text = include_str!("../../../../docs/commissioning.md");
        let section = text.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
        let config = checked(section.unwrap());
        assert_eq!(config.devices[0].modbus().unwrap().tags.len(), 3);
    }

    #[test]
    fn several_units_have_a_section_each() {
        let mut findings = findings();
        let mut other = findings.units[0].clone();
        other.unit = UnitId(9);
        findings.units.push(other);
        let config = checked(&sections(&tcp(), &findings));
        let names: Vec<_> = config.devices.iter().map(|device| device.name()).collect();
        assert_eq!(names, ["device-3", "device-9"]);
    }

    #[test]
    fn where_nothing_can_be_read_there_is_no_section() {
        let mut findings = findings();
        findings.units[0].tables.clear();
        assert_eq!(sections(&tcp(), &findings), "");
    }

    #[test]
    fn a_time_out_is_four_times_the_slowest_answer_within_reason() {
        let timeouts = [1, 40, 60, 5000].map(|ms| timeout(Duration::from_millis(ms)));
        assert_eq!(timeouts, [100, 200, 250, 1000]);
    }
}
