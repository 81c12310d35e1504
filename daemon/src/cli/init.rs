//! `tidegate init`: writes a commented configuration to start from.
//!
//! # Invariants
//! - What it writes passes `tidegate check`; a test holds it to that.
//! - A file that exists is replaced only with `--force`.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::exit::{DISK, OK, USAGE};
use crate::config;
use crate::names::{Name, NameError};

/// Write a commented configuration to start from.
#[derive(Debug, Clone, clap::Args)]
pub struct InitArgs {
    /// The first device: a Modbus TCP server, whose port is 502 when left out, or a serial port such
    /// as /dev/ttyUSB0.
    #[arg(long, value_name = "HOST[:PORT]|PORT")]
    pub modbus: String,
    /// Where to write; "-" is the terminal.
    #[arg(long, value_name = "FILE", default_value = "tidegate.toml")]
    pub output: PathBuf,
    /// The plant's name.
    #[arg(long, default_value = "PlantA")]
    pub plant: String,
    /// The gateway's name, unique in the fleet; this machine's name when left out.
    #[arg(long)]
    pub name: Option<String>,
    /// Replace a file that exists.
    #[arg(long)]
    pub force: bool,
}

/// Runs it and returns the exit code: 0 written, 2 usage, 73 not writable. `hostname` is this
/// machine's name, where it is known.
///
/// # Errors
/// When `out` or `err` cannot be written.
pub fn run(
    args: &InitArgs,
    hostname: Option<&str>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let text = match file_text(args, hostname) {
        Ok(text) => text,
        Err(message) => {
            writeln!(err, "error: {message}")?;
            return Ok(USAGE);
        }
    };
    if args.output == Path::new("-") {
        out.write_all(text.as_bytes())?;
        return Ok(OK);
    }
    let shown = args.output.display();
    let opened = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(args.force)
        .create_new(!args.force)
        .open(&args.output);
    match opened.and_then(|mut file| file.write_all(text.as_bytes())) {
        Ok(()) => {
            writeln!(out, "wrote {shown}")?;
            writeln!(out, "next: edit the tags, then")?;
            writeln!(out, "  tidegate check --connect {shown}")?;
            writeln!(out, "  tidegate run --config {shown}")?;
            Ok(OK)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            writeln!(
                err,
                "error: {shown} exists; choose another --output, or --force to replace it"
            )?;
            Ok(USAGE)
        }
        Err(error) => {
            writeln!(err, "error: {shown} cannot be written: {error}")?;
            Ok(DISK)
        }
    }
}

/// The text, or what is wrong with the arguments.
fn file_text(args: &InitArgs, hostname: Option<&str>) -> Result<String, String> {
    let device = if args.modbus.starts_with('/') {
        if args.modbus.contains(['"', '\\']) || args.modbus.chars().any(char::is_control) {
            return Err(format!("--modbus {:?} is no path of a serial port", args.modbus));
        }
        SERIAL.replace("{address}", &args.modbus)
    } else {
        let (host, port) = config::host_and_port(&args.modbus, 502).map_err(|why| {
            let legal = "write HOST:PORT, [IPV6]:PORT, or a serial port such as /dev/ttyUSB0";
            format!("--modbus {:?} {why}; {legal}", args.modbus)
        })?;
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        NETWORK.replace("{address}", &format!("{host}:{port}"))
    };
    let plant = Name::new(&*args.plant).map_err(|error| format!("--plant: {error}"))?;
    let name = match &args.name {
        Some(name) => Name::new(&**name),
        None => named_after(hostname),
    };
    let name = name.map_err(|error| format!("--name: {error}"))?;
    // The package's directories belong to its own user; anywhere else the data stays beside the
    // file, so that no rights are needed.
    let packaged = args.output.starts_with("/etc");
    let places = if packaged { "" } else { LOCAL_PLACES };
    Ok(TEMPLATE
        .replace("{plant}", plant.as_str())
        .replace("{name}", name.as_str())
        .replace("{device}", &device)
        .replace("{places}", places))
}

/// The machine's first name label, as far as it is a legal name.
fn named_after(hostname: Option<&str>) -> Result<Name, NameError> {
    let first = hostname.unwrap_or_default().trim().split('.').next().unwrap_or_default();
    let legal = |c: &char| c.is_ascii_alphanumeric() || *c == '-' || *c == '_';
    let text: String = first
        .chars()
        .skip_while(|c| !c.is_ascii_alphanumeric())
        .filter(legal)
        .take(crate::names::MAX_BYTES)
        .collect();
    Name::new(text).or_else(|_| Name::new("gateway-1"))
}

const LOCAL_PLACES: &str = r#"
# Everything below one directory beside this file: no rights are needed. A packaged gateway leaves
# these three out and uses /var/lib/tidegate and /run/tidegate.
[leaf]
dir = "tidegate-data/leaf"

[journal]
dir = "tidegate-data/journal"
max-bytes = "1 GiB"

[control]
socket = "tidegate-data/control.sock"
"#;

const NETWORK: &str = r#"protocol = "modbus-tcp"          # or modbus-rtu-over-tcp, modbus-tls
address = "{address}"
unit = 1                          # 255 for devices that ask for it
"#;

const SERIAL: &str = r#"protocol = "modbus-rtu"
address = "{address}"
unit = 1                          # 1 to 247; a [[device]] with the same address for each unit
baud-rate = 19200                 # all units of a line use the same settings
parity = "even"
stop-bits = 1
"#;

const TEMPLATE: &str = r#"# Tidegate configuration. docs/configuration.md lists every key; after an edit run
#   tidegate check --connect THIS-FILE

[gateway]
plant = "{plant}"
name = "{name}"                   # unique in the fleet, for ever

# Without a hub everything is recorded and nothing is delivered.
# [hub]
# urls = ["tls://hub.example.com:7422"]
# tls = { ca = "ca.pem", cert = "gw.pem", key = "gw.key" }
{places}
# [metrics]
# listen = "127.0.0.1:9464"       # OpenMetrics and /healthz

[[device]]
name = "plc-1"
{device}poll-every-ms = 1000
base-path = "{plant}/Line1/Plc1"  # each tag's path begins with this
# address-base = 1                # where the manual counts registers from 1

# holding:0 is what most manuals call 40001. Other tables: input, coil, discrete.
[[device.tag]]
path = "first-register"
address = "holding:0"

# [[device.tag]]
# path = "temperature"
# address = "holding:100"
# type = "float32"                # int16, uint16, int32, uint32, int64, uint64, float64, bcd16, text
# order = "cdab"                  # when the value looks absurd, try this, badc or dcba
# unit = "degC"
# scale = 1
# deadband = 0.1                  # live values only; the record keeps every reading

# [[device.tag]]
# path = "running"
# address = "holding:10.3"        # bit 3 of a register
"#;

#[cfg(test)]
mod tests {
    use tidegate_modbus::LinkSpec;

    use super::*;

    fn args(output: PathBuf) -> InitArgs {
        InitArgs {
            modbus: "192.0.2.10".into(),
            output,
            plant: "PlantA".into(),
            name: None,
            force: false,
        }
    }

    fn outcome(args: &InitArgs) -> (u8, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = run(args, Some("gw-line3.example.com\n"), &mut out, &mut err).unwrap();
        (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn what_is_written_passes_the_check() {
        let dir = tempfile::tempdir().unwrap();
        for (modbus, address) in [
            ("plc:1502", ("plc", 1502)),
            ("192.0.2.10", ("192.0.2.10", 502)),
            ("[::1]", ("::1", 502)),
        ] {
            let output =
                dir.path().join(format!("{}.toml", address.1 + u16::from(modbus == "[::1]")));
            let args = InitArgs { modbus: modbus.into(), ..args(output.clone()) };
            assert_eq!(outcome(&args).0, OK);
            let config = config::load(&output, Vec::new(), &[]).unwrap();
            assert_eq!(config.gateway.to_string(), "PlantA/gw-line3");
            let spec = config.devices[0].modbus().unwrap();
            assert_eq!(*spec.link, LinkSpec::tcp(address.0.into(), address.1));
            assert!(config.journal.dir.starts_with(dir.path()));
        }
    }

    #[test]
    fn a_serial_port_can_be_the_first_device() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("x.toml");
        let args = InitArgs { modbus: "/dev/ttyUSB0".into(), ..args(output.clone()) };
        assert_eq!(outcome(&args).0, OK);
        let config = config::load(&output, Vec::new(), &[]).unwrap();
        let link = &config.devices[0].modbus().unwrap().link;
        let tidegate_modbus::Transport::Rtu(serial) = &link.transport else { panic!("{link:?}") };
        assert_eq!((serial.port.to_str(), serial.baud), (Some("/dev/ttyUSB0"), 19_200));
        let wrong = InitArgs { modbus: "/dev/\"".into(), ..args };
        assert_eq!(outcome(&wrong).0, USAGE);
    }

    #[test]
    fn the_commented_lines_are_legal_too() {
        let mut args = args("/etc/tidegate/tidegate.toml".into());
        args.name = Some("gw-1".into());
        let text = file_text(&args, None).unwrap();
        let opened: String = text
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                // With that base the sample address 0 would not exist.
                Some(rest) if rest.starts_with("address-base") => String::new(),
                Some(rest) if rest.starts_with('[') || rest.contains(" = ") => format!("{rest}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let config = config::parse(&args.output, &opened, Vec::new(), &[])
            .unwrap_or_else(|mistakes| panic!("{mistakes}"));
        assert!(config.hub.is_some() && config.metrics.is_some());
        assert_eq!(config.devices[0].tags.len(), 3);
        assert_eq!(config.journal.dir, Path::new("/var/lib/tidegate/journal"));
    }

    #[test]
    fn a_file_that_exists_is_kept_unless_forced() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("x.toml");
        std::fs::write(&output, "precious, and longer than nothing").unwrap();
        let mut args = args(output.clone());
        let (code, _, err) = outcome(&args);
        assert_eq!(code, USAGE);
        assert!(err.contains("--force"), "{err}");
        assert!(std::fs::read_to_string(&output).unwrap().starts_with("precious"));
        args.force = true;
        assert_eq!(outcome(&args).0, OK);
        assert!(!std::fs::read_to_string(&output).unwrap().contains("precious"));
    }

    #[test]
    fn wrong_arguments_are_named() {
        let right = args("-".into());
        assert!(outcome(&right).1.contains("192.0.2.10:502"));
        let (code, _, err) = outcome(&InitArgs { modbus: "plc:port".into(), ..right.clone() });
        assert!(code == USAGE && err.contains("--modbus"), "{err}");
        let (code, _, err) = outcome(&InitArgs { plant: "Plant A".into(), ..right });
        assert!(code == USAGE && err.contains("--plant"), "{err}");
    }

    #[test]
    fn a_folder_that_is_not_there_is_a_disk_error() {
        let (code, _, err) = outcome(&args("/nowhere/x.toml".into()));
        assert_eq!(code, DISK);
        assert!(err.contains("/nowhere/x.toml"), "{err}");
    }

    #[test]
    fn any_host_name_gives_a_legal_name() {
        for (host, name) in [
            (Some("gw-1.local"), "gw-1"),
            (Some("-ünü-x"), "n-x"),
            (Some(""), "gateway-1"),
            (None, "gateway-1"),
            (Some("..."), "gateway-1"),
        ] {
            assert_eq!(named_after(host).unwrap().as_str(), name, "{host:?}");
        }
        assert_eq!(
            named_after(Some(&"x".repeat(80))).unwrap().as_str().len(),
            crate::names::MAX_BYTES
        );
    }
}
