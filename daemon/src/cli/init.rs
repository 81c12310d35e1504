//! `tidegate init`: writes a commented configuration to start from.
//!
//! # Invariants
//! - What it writes passes `tidegate check`; a test holds it to that.
//! - A file that exists is replaced only with `--force`.
//! - An OPC UA server is asked before anything is written; when it cannot be, nothing is.

mod opcua;
mod places;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tidegate_opcua::NodeAddress;
use tidegate_opcua::probe::Below;

use super::browse::Looked;
use super::exit::{DISK, Failure, OK, USAGE};
use super::probe::opcua::access::{Access, WayArgs};
use super::terminal::tame;
use crate::config;
use crate::names::{Name, NameError};

/// Variables that are looked for; what a subtree may have by default.
const MAX_VARIABLES: usize = 5000;
/// Levels that are looked at, alike.
const MAX_DEPTH: u32 = 16;

/// Write a commented configuration to start from.
#[derive(Debug, Clone, clap::Args)]
#[command(group = clap::ArgGroup::new("first").required(true).args(["modbus", "opcua"]))]
pub struct InitArgs {
    /// The first device: a Modbus TCP server, whose port is 502 when left out, or a serial port such
    /// as /dev/ttyUSB0.
    #[arg(long, value_name = "HOST[:PORT]|PORT")]
    pub modbus: Option<String>,
    /// The first device: an OPC UA server, which is asked what it holds; port 4840 when left out.
    #[arg(long, value_name = "URL")]
    pub opcua: Option<String>,
    /// Take everything below this node as it is when the daemon connects, instead of a list of what
    /// is there now.
    #[arg(long, value_name = "ADDRESS", requires = "opcua", value_parser = NodeAddress::parse)]
    pub subtree: Option<NodeAddress>,
    /// How the OPC UA server is spoken to.
    #[command(flatten)]
    pub(super) way: WayArgs,
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

/// What is written.
struct Written {
    text: String,
    list: Option<(PathBuf, Vec<u8>)>,
    notes: Vec<String>,
    /// Whether the server has not let us in yet.
    waits: bool,
}

/// Looks at an OPC UA server.
pub(super) type Ask<'a> = &'a mut dyn FnMut(&Access, &Below) -> Looked;

/// Runs it and returns the exit code: 0 written, 2 usage, 73 not writable; of an OPC UA server also
/// 1 when it offers nothing that is wanted, and 69 when it cannot be reached. `hostname` is this
/// machine's name, where it is known.
///
/// # Errors
/// When `out` or `err` cannot be written.
pub(super) fn run(
    args: &InitArgs,
    hostname: Option<&str>,
    ask: Ask<'_>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let printed = args.output == Path::new("-");
    let shown = args.output.display();
    let exists = !printed && !args.force && args.output.exists();
    let written = if exists {
        let why = format!("{shown} exists; choose another --output, or --force to replace it");
        Err(Failure::new(USAGE, why))
    } else {
        file_text(args, hostname, ask)
    };
    let written = match written {
        Ok(written) => written,
        Err(failure) => return failure.tell(err),
    };
    if printed {
        out.write_all(written.text.as_bytes())?;
        return notes(&written, err);
    }
    // The list first: a configuration never names one that is not there.
    if let Some((name, content)) = &written.list {
        let file = args.output.with_file_name(name);
        if let Err(failure) = save(&file, content, args.force) {
            return failure.tell(err);
        }
        writeln!(out, "wrote {}", file.display())?;
    }
    if let Err(failure) = save(&args.output, written.text.as_bytes(), args.force) {
        return failure.tell(err);
    }
    writeln!(out, "wrote {shown}")?;
    let code = notes(&written, err)?;
    if written.waits {
        writeln!(out, "next: settle what the note says; then a list of the tags, if wanted, with")?;
        writeln!(out, "  tidegate browse --config {shown} --device plc-1 --csv plc-1.csv")?;
        writeln!(out, "and tag-list = \"plc-1.csv\" in the device; then")?;
    } else {
        writeln!(out, "next: edit the tags, then")?;
    }
    writeln!(out, "  tidegate check --connect {shown}")?;
    writeln!(out, "  tidegate run --config {shown}")?;
    Ok(code)
}

fn notes(written: &Written, err: &mut dyn Write) -> io::Result<u8> {
    written.notes.iter().try_for_each(|note| writeln!(err, "note: {}", tame(note)))?;
    Ok(OK)
}

fn save(file: &Path, content: &[u8], force: bool) -> Result<(), Failure> {
    let opened =
        OpenOptions::new().write(true).create(true).truncate(force).create_new(!force).open(file);
    opened.and_then(|mut file| file.write_all(content)).map_err(|error| {
        let shown = file.display();
        if error.kind() == io::ErrorKind::AlreadyExists {
            let why = format!("{shown} exists; choose another --output, or --force to replace it");
            return Failure::new(USAGE, why);
        }
        Failure::new(DISK, format!("{shown} cannot be written: {error}"))
    })
}

/// The text, or why there is none.
fn file_text(args: &InitArgs, hostname: Option<&str>, ask: Ask<'_>) -> Result<Written, Failure> {
    let usage = |why: String| Failure::new(USAGE, why);
    let plant = Name::new(&*args.plant).map_err(|error| usage(format!("--plant: {error}")))?;
    let name = match &args.name {
        Some(name) => Name::new(&**name),
        None => named_after(hostname),
    };
    let name = name.map_err(|error| usage(format!("--name: {error}")))?;
    let places = places::Places::of(&args.output);
    let mut waits = false;
    let (device, list, notes) = match (&args.opcua, &args.modbus) {
        (Some(url), _) => {
            let access = opcua::access(url, &args.way, &plant, &name, &places)?;
            let below = Below {
                node: args.subtree.clone(),
                include: Vec::new(),
                exclude: Vec::new(),
                max_depth: MAX_DEPTH,
                max_variables: MAX_VARIABLES,
                values: false,
            };
            let looked = ask(&access, &below);
            waits = looked.cause.is_some();
            let subtree = args.subtree.as_ref().map(ToString::to_string);
            let section = opcua::section(&access, &looked, subtree.as_deref(), &plant, &places)?;
            (section.text, section.list, section.notes)
        }
        (None, Some(address)) => (modbus(address).map_err(usage)?, None, Vec::new()),
        (None, None) => return Err(usage("--modbus or --opcua names the first device".into())),
    };
    // The package's directories belong to its own user; anywhere else the data stays beside the
    // file, so that no rights are needed.
    let mut local = if places.packaged { String::new() } else { LOCAL_PLACES.to_owned() };
    if args.opcua.is_some() && !places.packaged {
        local.push_str(LOCAL_OPCUA);
    }
    let text = TEMPLATE
        .replace("{device}", &device)
        .replace("{plant}", plant.as_str())
        .replace("{name}", name.as_str())
        .replace("{places}", &local);
    Ok(Written { text, list, notes, waits })
}

/// The section of a Modbus device, or what is wrong with its address.
fn modbus(address: &str) -> Result<String, String> {
    let way = if address.starts_with('/') {
        if address.contains(['"', '\\']) || address.chars().any(char::is_control) {
            return Err(format!("--modbus {address:?} is no path of a serial port"));
        }
        SERIAL.replace("{address}", address)
    } else {
        let (host, port) = config::host_and_port(address, 502).map_err(|why| {
            let legal = "write HOST:PORT, [IPV6]:PORT, or a serial port such as /dev/ttyUSB0";
            format!("--modbus {address:?} {why}; {legal}")
        })?;
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        NETWORK.replace("{address}", &format!("{host}:{port}"))
    };
    Ok(MODBUS.replace("{way}", &way))
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
# these out and uses /var/lib/tidegate and /run/tidegate.
[leaf]
dir = "tidegate-data/leaf"

[journal]
dir = "tidegate-data/journal"
max-bytes = "1 GiB"

[control]
socket = "tidegate-data/control.sock"
"#;

const LOCAL_OPCUA: &str = r#"
[opcua]
dir = "tidegate-data/opcua"       # our certificate, and the servers that are trusted
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

{device}"#;

const MODBUS: &str = r#"[[device]]
name = "plc-1"
{way}poll-every-ms = 1000
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
            modbus: Some("192.0.2.10".into()),
            opcua: None,
            subtree: None,
            way: WayArgs::default(),
            output,
            plant: "PlantA".into(),
            name: None,
            force: false,
        }
    }

    fn outcome(args: &InitArgs) -> (u8, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut ask = |_: &Access, _: &Below| Looked::default();
        let code = run(args, Some("gw-line3.example.com\n"), &mut ask, &mut out, &mut err).unwrap();
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
            let args = InitArgs { modbus: Some(modbus.into()), ..args(output.clone()) };
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
        let args = InitArgs { modbus: Some("/dev/ttyUSB0".into()), ..args(output.clone()) };
        assert_eq!(outcome(&args).0, OK);
        let config = config::load(&output, Vec::new(), &[]).unwrap();
        let link = &config.devices[0].modbus().unwrap().link;
        let tidegate_modbus::Transport::Rtu(serial) = &link.transport else { panic!("{link:?}") };
        assert_eq!((serial.port.to_str(), serial.baud), (Some("/dev/ttyUSB0"), 19_200));
        let wrong = InitArgs { modbus: Some("/dev/\"".into()), ..args };
        assert_eq!(outcome(&wrong).0, USAGE);
    }

    #[test]
    fn the_commented_lines_are_legal_too() {
        let mut args = args("/etc/tidegate/tidegate.toml".into());
        args.name = Some("gw-1".into());
        let text = file_text(&args, None, &mut |_, _| Looked::default()).unwrap().text;
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
        let (code, _, err) =
            outcome(&InitArgs { modbus: Some("plc:port".into()), ..right.clone() });
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
