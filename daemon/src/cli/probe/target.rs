//! What is probed, as the arguments name it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tidegate_modbus::probe::Run;
use tidegate_modbus::{
    Endpoint, LinkSpec, Parity, SerialSpec, StopBits, Table, TlsSpec, Transport, UnitId,
};

use crate::config;

/// The way to the device.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct TargetArgs {
    /// HOST, HOST:PORT or [IPV6]:PORT (port 502, with TLS 802), or a serial port such as
    /// /dev/ttyUSB0
    #[arg(value_name = "HOST[:PORT]|SERIAL-PORT")]
    pub(super) target: String,
    /// RTU frames over TCP, for a serial server that passes bytes on
    #[arg(long)]
    pub(super) rtu_over_tcp: bool,
    /// Modbus/TCP Security: the certificates that may have signed the device's
    #[arg(long, value_name = "FILE", conflicts_with = "rtu_over_tcp")]
    pub(super) tls_ca: Option<PathBuf>,
    /// Our certificate, where the device asks for one
    #[arg(long, value_name = "FILE", requires_all = ["tls_ca", "tls_key"])]
    pub(super) tls_cert: Option<PathBuf>,
    /// The key to it
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(super) tls_key: Option<PathBuf>,
    /// The name in the device's certificate, where it is not the host
    #[arg(long, value_name = "NAME", requires = "tls_ca")]
    pub(super) tls_name: Option<String>,
    /// Bits per second of a serial port; several are tried in turn
    #[arg(
        long,
        value_name = "BAUD[,BAUD]",
        value_delimiter = ',',
        default_value = "19200",
        value_parser = clap::value_parser!(u32).range(50..=4_000_000)
    )]
    pub(super) baud: Vec<u32>,
    /// Parity of a serial port; several are tried in turn
    #[arg(long, value_enum, value_delimiter = ',', default_value = "even")]
    pub(super) parity: Vec<ParityWord>,
    /// Stop bits of a serial port; several are tried in turn
    #[arg(
        long,
        value_name = "1|2",
        value_delimiter = ',',
        default_value = "1",
        value_parser = clap::value_parser!(u8).range(1..=2)
    )]
    pub(super) stop_bits: Vec<u8>,
}

/// A parity, as the configuration writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ParityWord {
    /// Modbus' own default
    Even,
    /// The other one
    Odd,
    /// None
    None,
}

impl TargetArgs {
    /// The ways to try, in turn: several only for a serial port whose settings are not known.
    pub(super) fn ways(&self) -> Result<Vec<Arc<LinkSpec>>, String> {
        if self.is_serial() {
            if self.rtu_over_tcp || self.tls_ca.is_some() {
                return Err(format!("{} is a serial port: it has no TCP", self.target));
            }
            return Ok(self.serial_ways());
        }
        let port = if self.tls_ca.is_some() { 802 } else { 502 };
        let (host, port) = config::host_and_port(&self.target, port).map_err(|why| {
            let target = &self.target;
            format!("{target:?} {why}; write HOST:PORT, [IPV6]:PORT or a port such as /dev/ttyUSB0")
        })?;
        let endpoint = Endpoint { host, port };
        let transport = match &self.tls_ca {
            Some(ca) => {
                let identity = self.tls_cert.clone().zip(self.tls_key.clone());
                let server_name = self.tls_name.clone();
                Transport::Tls(endpoint, TlsSpec { ca: ca.clone(), identity, server_name })
            }
            None if self.rtu_over_tcp => Transport::RtuOverTcp(endpoint),
            None => Transport::Tcp(endpoint),
        };
        Ok(vec![link(transport)])
    }

    /// No host has a slash in its name, and every port of a Unix has.
    pub(super) fn is_serial(&self) -> bool {
        self.target.contains('/')
    }

    fn serial_ways(&self) -> Vec<Arc<LinkSpec>> {
        let mut ways = Vec::new();
        for baud in &self.baud {
            for parity in &self.parity {
                for stop_bits in &self.stop_bits {
                    ways.push(link(Transport::Rtu(SerialSpec {
                        port: PathBuf::from(&self.target),
                        baud: *baud,
                        parity: match parity {
                            ParityWord::Even => Parity::Even,
                            ParityWord::Odd => Parity::Odd,
                            ParityWord::None => Parity::None,
                        },
                        stop_bits: if *stop_bits == 2 { StopBits::Two } else { StopBits::One },
                        rs485: None,
                    })));
                }
            }
        }
        ways
    }
}

fn link(transport: Transport) -> Arc<LinkSpec> {
    Arc::new(LinkSpec {
        transport,
        max_connections: 1,
        pause_after_connect: Duration::ZERO,
        turnaround: Duration::ZERO,
        close_after_poll: false,
    })
}

/// The protocol's word in a configuration.
pub(super) const fn protocol(transport: &Transport) -> &'static str {
    match transport {
        Transport::Tcp(_) => "modbus-tcp",
        Transport::Tls(..) => "modbus-tls",
        Transport::RtuOverTcp(_) => "modbus-rtu-over-tcp",
        Transport::Rtu(_) => "modbus-rtu",
    }
}

/// The way in words: the endpoint, or the port with its settings.
pub(super) fn way(transport: &Transport) -> String {
    match transport {
        Transport::Rtu(serial) => {
            let parity = match serial.parity {
                Parity::Even => "E",
                Parity::Odd => "O",
                Parity::None => "N",
            };
            let stop = if serial.stop_bits == StopBits::Two { 2 } else { 1 };
            format!("{} at {} baud, 8{parity}{stop}", serial.port.display(), serial.baud)
        }
        other => other.to_string(),
    }
}

/// A list of units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnitList(pub(super) Vec<UnitId>);

/// Units as a person writes them: `1-32`, `1,5,7-9`.
pub(super) fn units(text: &str) -> Result<UnitList, String> {
    let mut units = Vec::new();
    for part in text.split(',') {
        let (first, last) = span(part, 255)?;
        for unit in first..=last {
            let unit = u8::try_from(unit).ok().filter(|unit| *unit <= 247 || *unit == 255);
            let unit = unit.ok_or("units are 0 to 247, and 255".to_owned())?;
            if !units.contains(&UnitId(unit)) {
                units.push(UnitId(unit));
            }
        }
    }
    Ok(UnitList(units))
}

/// A range of addresses, `0-999`, or one address.
pub(super) fn range(text: &str) -> Result<Run, String> {
    let (first, last) = span(text, 65_535)?;
    Ok(Run { first, last })
}

fn span(text: &str, most: u16) -> Result<(u16, u16), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| {
        let number = text.trim().parse::<u16>().ok().filter(|number| *number <= most);
        number.ok_or_else(|| format!("{text:?} is no number from 0 to {most}"))
    };
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(format!("{first} is behind {last}; write {last}-{first}"));
    }
    Ok((first, last))
}

/// A table by its word.
pub(super) fn table(text: &str) -> Result<Table, String> {
    let tables = [Table::HoldingRegister, Table::InputRegister, Table::Coil, Table::DiscreteInput];
    let found = tables.into_iter().find(|table| table.word() == text);
    found.ok_or_else(|| "tables are holding, input, coil and discrete".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        target: TargetArgs,
    }

    fn ways(line: &[&str]) -> Result<Vec<String>, String> {
        let line = Line::parse_from([&["probe"], line].concat());
        let ways = line.target.ways()?;
        Ok(ways
            .iter()
            .map(|link| format!("{} {}", protocol(&link.transport), way(&link.transport)))
            .collect())
    }

    #[test]
    fn a_target_is_a_host_or_a_serial_port() {
        for (line, expected) in [
            (&["plc"][..], "modbus-tcp plc:502"),
            (&["192.0.2.1:1502"], "modbus-tcp 192.0.2.1:1502"),
            (&["plc", "--rtu-over-tcp"], "modbus-rtu-over-tcp plc:502"),
            (&["plc", "--tls-ca", "ca.pem"], "modbus-tls plc:802"),
            (&["/dev/ttyUSB0"], "modbus-rtu /dev/ttyUSB0 at 19200 baud, 8E1"),
        ] {
            assert_eq!(ways(line), Ok(vec![expected.to_owned()]), "{line:?}");
        }
        assert!(ways(&["plc:x"]).is_err() && ways(&["/dev/ttyS0", "--rtu-over-tcp"]).is_err());
    }

    #[test]
    fn every_combination_of_serial_settings_is_tried() {
        let line = ["/dev/ttyS0", "--baud", "9600,19200", "--parity", "even,none", "--stop-bits"];
        let found = ways(&[&line[..], &["1"]].concat()).unwrap();
        assert_eq!(found.len(), 4);
        assert_eq!(found[1], "modbus-rtu /dev/ttyS0 at 9600 baud, 8N1");
    }

    #[test]
    fn lists_of_units_and_ranges_are_read() {
        let numbers =
            |text| units(text).map(|units| units.0.iter().map(|u| u.0).collect::<Vec<_>>());
        assert_eq!(numbers("1,5,7-9,5"), Ok(vec![1, 5, 7, 8, 9]));
        assert_eq!(numbers("255"), Ok(vec![255]));
        for wrong in ["", "248", "9-7", "a", "1-255", "-1"] {
            assert!(numbers(wrong).is_err(), "{wrong}");
        }
        assert_eq!(range("0-999"), Ok(Run { first: 0, last: 999 }));
        assert_eq!(range("7"), Ok(Run { first: 7, last: 7 }));
        assert!(range("0-65536").is_err());
    }
}
