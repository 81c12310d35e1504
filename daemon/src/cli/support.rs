//! `tidegate support-bundle`: everything that helps to help, and nothing that must stay.
//!
//! # Invariants
//! - Nothing has to work: a daemon that is down or a configuration with mistakes is what a bundle is
//!   for. Each part comes in by itself or is listed as missing, within its own time.
//! - What is secret is learned from its files before the first text is read.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value as Json, json};
use tidegate_identity::CertificateFacts;

use super::check::SetArgs;
use super::exit::{DISK, OK, PERMISSION};
use super::identity::{Surroundings, facts_json, gateway_json};
use super::status;
use super::terminal::{count, tame};
use crate::causes::chain;
use crate::config::{self, Config, LoadError};
use crate::observe::control::Client;
use crate::upkeep::belongings::{self, Belonging, Kind};
use crate::upkeep::bundle::Bundle;
use crate::upkeep::places;

/// How long one part may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// The most that is read of one file or answer: a status with thousands of devices.
const MOST: u64 = 32 << 20;
/// The most that is learned from one file of secrets.
const LARGEST_SECRET: u64 = 256 << 10;
/// How deep folders are followed.
const DEEPEST: usize = 6;
/// The most files of a folder that are listed.
const MOST_FILES: usize = 2_000;

/// Collect what helps to find a fault, without secrets, in one file
#[derive(Debug, Clone, clap::Args)]
pub struct SupportArgs {
    /// The file to make; tidegate-support-GATEWAY-TIME.tar in this folder when left out
    #[arg(long, value_name = "FILE", conflicts_with = "folder")]
    pub to: Option<PathBuf>,
    /// A folder to make instead of a file
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_FILE)]
    pub config: PathBuf,
    /// A log to take along instead of the journal of systemd
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// How many lines of the journal of systemd are taken
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    pub lines: u32,
    /// Settings that go before the file.
    #[command(flatten)]
    pub set: SetArgs,
}

/// Collects one part.
type Collect = fn(&Sources, &mut Bundle);

/// What the parts are collected from.
struct Sources {
    args: SupportArgs,
    config: Result<(Config, Vec<PathBuf>), LoadError>,
    file: PathBuf,
    environment: Vec<OsString>,
    now: SystemTime,
}

/// Collects and writes. Exit code 0 written, 73 or 77 a file that cannot be.
///
/// # Errors
/// When `out` or `err` cannot be written.
pub fn support_bundle(args: &SupportArgs, mut with: Surroundings<'_>) -> io::Result<u8> {
    let environment = std::mem::take(&mut with.environment);
    let is_ours = |name: &OsString| name.to_string_lossy().starts_with("TIDEGATE");
    let names = environment.iter().map(|(name, _)| name.clone()).filter(is_ours).collect();
    let file = std::path::absolute(&args.config).unwrap_or_else(|_| args.config.clone());
    let config = config::load_with_lists(&file, environment, &args.set.set);
    let sources = Sources { args: args.clone(), config, file, environment: names, now: with.now };
    let mut bundle = Bundle::default();
    sources.learn(&mut bundle);
    let parts: [(&str, Collect); 9] = [
        ("versions", Sources::about),
        ("configuration", Sources::configuration),
        ("identity", Sources::identity),
        ("status of the daemon", Sources::status),
        ("metrics", Sources::metrics),
        ("journal", Sources::journal),
        ("local server", Sources::leaf),
        ("log", Sources::log),
        ("machine", Sources::machine),
    ];
    let all = parts.len();
    for (at, (name, collect)) in parts.into_iter().enumerate() {
        writeln!(with.err, "[{}/{all}] {name}", at + 1)?;
        collect(&sources, &mut bundle);
    }
    for (name, why) in bundle.lacking() {
        writeln!(with.err, "without {name}: {}", tame(why))?;
    }
    write(&sources, bundle, &mut with)
}

fn write(sources: &Sources, bundle: Bundle, with: &mut Surroundings<'_>) -> io::Result<u8> {
    let texts = count(u64::try_from(bundle.len()).unwrap_or(u64::MAX), "text");
    let name = sources.name();
    let (to, written) = if let Some(folder) = &sources.args.folder {
        (folder.clone(), write_folder(folder, bundle))
    } else {
        let to = sources.args.to.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.tar")));
        let archive = bundle.into_archive(&name, seconds(sources.now)).map_err(io::Error::other);
        let written = archive.and_then(|archive| places::write_new(&to, &archive));
        (to, written)
    };
    if let Err(error) = written {
        let to = tame(&to.display().to_string());
        writeln!(with.err, "error: {to} cannot be written: {error}")?;
        let denied = error.kind() == io::ErrorKind::PermissionDenied;
        return Ok(if denied { PERMISSION } else { DISK });
    }
    writeln!(with.out, "wrote {}: {texts}", tame(&to.display().to_string()))?;
    writeln!(
        with.out,
        "keys, passwords and tokens were cut; names of devices and addresses are in it, values are \
         not. Look through it before you send it"
    )?;
    Ok(OK)
}

fn write_folder(folder: &Path, bundle: Bundle) -> io::Result<()> {
    fs::create_dir(folder)?;
    for (name, text) in bundle.into_texts() {
        places::place(&folder.join(name), text.as_bytes())?;
    }
    Ok(())
}

impl Sources {
    fn ready(&self) -> Option<&Config> {
        self.config.as_ref().ok().map(|(config, _)| config)
    }

    /// What the bundle is called.
    fn name(&self) -> String {
        let gateway = self.ready().map_or_else(
            || "unknown".to_owned(),
            |config| config.gateway.to_string().replace('/', "-"),
        );
        let time: String = time(self.now).chars().filter(|c| !matches!(c, '-' | ':')).collect();
        format!("tidegate-support-{gateway}-{time}")
    }

    fn belongings(&self) -> Vec<Belonging> {
        self.config.as_ref().map_or_else(
            |_| Vec::new(),
            |(config, lists)| belongings::of(config, &self.file, lists),
        )
    }

    /// Learns every secret that the gateway has.
    fn learn(&self, bundle: &mut Bundle) {
        let mut learn = |path: &Path| match read_to(path, LARGEST_SECRET) {
            Ok(content) => bundle.redaction().learn(&content),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // A secret that this user cannot read may still stand in a log.
            Err(error) => bundle.lacks(
                "secrets",
                &format!(
                    "{} could not be learned, and is cut by its looks alone: {error}",
                    path.display()
                ),
            ),
        };
        for belonging in self.belongings() {
            match belonging.kind {
                Kind::Secret => learn(&belonging.path),
                Kind::Folder => {
                    for path in files_below(&belonging.path, DEEPEST) {
                        if is_secret_file(&path) {
                            learn(&path);
                        }
                    }
                }
                Kind::Text | Kind::Certificate => {}
            }
        }
        if let Some(config) = self.ready() {
            learn(&config.leaf.dir.join("local-passwords"));
            let conf = read_to(&config.leaf.dir.join(LEAF_CONFIG), LARGEST_SECRET);
            let text = String::from_utf8_lossy(&conf.unwrap_or_default()).into_owned();
            for line in text.lines() {
                if let Some((_, value)) = line.split_once("password:") {
                    bundle.redaction().learn(value.trim().trim_matches('"').as_bytes());
                }
            }
        }
    }

    fn about(&self, bundle: &mut Bundle) {
        let about = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "target": std::env::consts::ARCH,
            "collected": time(self.now),
            "configuration": self.file.display().to_string(),
            "gateway": self.ready().map(|config| config.gateway.to_string()),
            // Their values may be secret, and those that matter show in the status.
            "environment": self.environment.iter().map(|name| name.to_string_lossy()).collect::<Vec<_>>(),
            "arguments": self.args.set.set.len(),
        });
        bundle.add("about.json", &pretty(&about));
    }

    fn configuration(&self, bundle: &mut Bundle) {
        let mut files = vec![self.file.clone()];
        match &self.config {
            Ok((config, lists)) => {
                files.extend(lists.iter().cloned());
                bundle.add("check.txt", &format!("ok: {} devices\n", config.devices.len()));
            }
            Err(LoadError::Mistakes(mistakes)) => bundle.add("check.txt", &mistakes.to_string()),
            Err(error) => bundle.add("check.txt", &chain(error)),
        }
        for (number, file) in files.iter().enumerate() {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let name = format!("config/{number}-{}", plain(&name));
            take_file(bundle, &name, file);
        }
    }

    fn identity(&self, bundle: &mut Bundle) {
        let Some(config) = self.ready() else {
            return bundle.lacks("identity.json", "the configuration cannot be read");
        };
        bundle.add("opcua-files.txt", &listing(&config.opcua.dir));
        let certificates: Vec<Json> = self.belongings().iter().filter_map(facts_of).collect();
        bundle.add("certificates.json", &pretty(&json!(certificates)));
        match &config.identity {
            None => bundle.lacks("identity.json", "no [identity] is configured"),
            Some(identity) => {
                let tree = gateway_json(config, identity, self.now);
                bundle.add("identity.json", &pretty(&tree));
                bundle.add("identity-files.txt", &listing(&identity.dir));
            }
        }
    }

    fn status(&self, bundle: &mut Bundle) {
        let socket = self.ready().map_or_else(
            || PathBuf::from("/run/tidegate/control.sock"),
            |config| config.control_socket.clone(),
        );
        match Client::connect(&socket).and_then(|mut client| client.status()) {
            Ok(report) => {
                bundle.add("status.json", &pretty(&json!(report)));
                let mut text = Vec::new();
                // Memory takes everything.
                let _ = status::human(&mut text, &report, false);
                bundle.add("status.txt", &String::from_utf8_lossy(&text));
            }
            Err(error) => bundle.lacks("status.json", &chain(&error)),
        }
    }

    fn metrics(&self, bundle: &mut Bundle) {
        match self.ready().and_then(|config| config.metrics.as_ref()) {
            None => bundle.lacks("metrics.txt", "no [metrics] is configured"),
            Some(metrics) => match fetch(metrics.listen) {
                Ok(text) => bundle.add("metrics.txt", &text),
                Err(error) => bundle.lacks("metrics.txt", &format!("{}: {error}", metrics.listen)),
            },
        }
    }

    fn journal(&self, bundle: &mut Bundle) {
        let Some(config) = self.ready() else {
            return bundle.lacks("journal-files.txt", "the configuration cannot be read");
        };
        let dir = &config.journal.dir;
        let mut text = listing(dir);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", room(dir));
        bundle.add("journal-files.txt", &text);
    }

    fn leaf(&self, bundle: &mut Bundle) {
        let Some(config) = self.ready() else {
            return bundle.lacks(LEAF_CONFIG, "the configuration cannot be read");
        };
        take_file(bundle, LEAF_CONFIG, &config.leaf.dir.join(LEAF_CONFIG));
        let program = config.leaf.nats_server.as_deref().unwrap_or(Path::new("nats-server"));
        take_output(bundle, "nats-server-version.txt", Command::new(program).arg("--version"));
    }

    fn log(&self, bundle: &mut Bundle) {
        if let Some(file) = &self.args.log {
            return take_file(bundle, "log.txt", file);
        }
        let lines = self.args.lines.to_string();
        let mut command = Command::new("journalctl");
        command.args(["--unit", "tidegate*", "--output", "short-iso-precise", "--no-pager"]);
        take_output(bundle, "log.txt", command.args(["--lines", &lines]));
    }

    fn machine(&self, bundle: &mut Bundle) {
        for (name, file) in [
            ("machine/kernel.txt", "/proc/version"),
            ("machine/system.txt", "/etc/os-release"),
            ("machine/memory.txt", "/proc/meminfo"),
            ("machine/load.txt", "/proc/loadavg"),
            ("machine/uptime.txt", "/proc/uptime"),
            ("machine/mounts.txt", "/proc/mounts"),
            ("machine/disks.txt", "/proc/diskstats"),
            ("machine/network.txt", "/proc/net/dev"),
            ("machine/pressure-io.txt", "/proc/pressure/io"),
            ("machine/pressure-memory.txt", "/proc/pressure/memory"),
        ] {
            take_file(bundle, name, Path::new(file));
        }
        let mut text = format!("wall clock {}\n", time(self.now));
        if let Some(config) = self.ready() {
            for dir in [&config.journal.dir, &config.leaf.dir, &config.opcua.dir] {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{}", room(dir));
            }
        }
        bundle.add("machine/clock-and-room.txt", &text);
        take_output(bundle, "machine/clock-sync.txt", Command::new("timedatectl").arg("show"));
    }
}

const LEAF_CONFIG: &str = "nats-server.conf";

/// Whether a file of an identity or of a trust folder is secret, by the names that we give.
fn is_secret_file(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let ending = path.extension().unwrap_or_default();
    name.starts_with("key") || name.starts_with("token") || ending == "key"
}

/// What a certificate file says, where it is one that anybody may see.
fn facts_of(belonging: &Belonging) -> Option<Json> {
    let wanted = belonging.kind == Kind::Certificate;
    let text = wanted.then(|| read_to(&belonging.path, MOST).ok()).flatten()?;
    let path = belonging.path.display().to_string();
    let certificates = CertificateDer::pem_slice_iter(&text).map(|one| match one {
        Ok(one) => CertificateFacts::of(&one)
            .map_or_else(|error| json!(error.to_string()), |facts| facts_json(&facts)),
        Err(error) => json!(error.to_string()),
    });
    Some(json!({ "file": path, "certificates": certificates.collect::<Vec<_>>() }))
}

fn take_file(bundle: &mut Bundle, name: &str, path: &Path) {
    match read_to(path, MOST) {
        Ok(content) => bundle.add(name, &String::from_utf8_lossy(&content)),
        Err(error) => bundle.lacks(name, &format!("{}: {error}", path.display())),
    }
}

/// Runs a program that tells something, and takes what it says.
fn take_output(bundle: &mut Bundle, name: &str, command: &mut Command) {
    match output(command) {
        Ok(text) => bundle.add(name, &text),
        Err(error) => {
            let program = command.get_program().to_string_lossy().into_owned();
            bundle.lacks(name, &format!("{program}: {error}"));
        }
    }
}

fn output(command: &mut Command) -> io::Result<String> {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let Some(stdout) = child.stdout.take() else { return Err(io::Error::other("no output")) };
    // Read beside waiting: a full pipe would keep the program from ending.
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        stdout.take(MOST).read_to_end(&mut text).map(|_| text)
    });
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begun.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it takes too long"));
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let text = reader.join().map_err(|_| io::Error::other("its output was lost"))??;
    if !status.success() {
        return Err(io::Error::other(format!("it ended with {status}")));
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn fetch(listen: SocketAddr) -> io::Result<String> {
    let mut address = listen;
    if address.ip().is_unspecified() {
        let loopback = match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        };
        address.set_ip(loopback);
    }
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MOST).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if !head.starts_with("HTTP/1.1 200") {
        let line = head.lines().next().unwrap_or_default();
        return Err(io::Error::other(format!("it answered {line:?}")));
    }
    Ok(body.to_owned())
}

fn read_to(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    if path.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut content = Vec::new();
    fs::File::open(path)?.take(most).read_to_end(&mut content)?;
    Ok(content)
}

fn files_below(dir: &Path, deep: usize) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut paths = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() && deep > 0 {
            paths.extend(files_below(&path, deep - 1));
        } else if path.is_file() {
            paths.push(path);
        }
        if paths.len() >= MOST_FILES {
            break;
        }
    }
    paths.sort();
    paths
}

/// Names, sizes and ages of the files of a folder.
fn listing(dir: &Path) -> String {
    let mut text = format!("{}\n", dir.display());
    for path in files_below(dir, DEEPEST) {
        let shown = path.strip_prefix(dir).unwrap_or(&path).display();
        // Writing to a String cannot fail.
        let _ = match fs::metadata(&path) {
            Ok(data) => {
                let changed = data.modified().map(time).unwrap_or_default();
                writeln!(text, "{:>12}  {changed}  {}  {shown}", data.len(), rights(&data))
            }
            Err(error) => writeln!(text, "{shown}: {error}"),
        };
    }
    text
}

fn rights(data: &fs::Metadata) -> String {
    use std::os::unix::fs::MetadataExt as _;
    format!("{:04o} {}:{}", data.mode() & 0o7777, data.uid(), data.gid())
}

/// What is left on the disk of a folder.
fn room(dir: &Path) -> String {
    match rustix::fs::statvfs(dir) {
        Ok(disk) => {
            let megabytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize) >> 20;
            format!(
                "{}: {} of {} MiB free, {} of {} inodes free",
                dir.display(),
                megabytes(disk.f_bavail),
                megabytes(disk.f_blocks),
                disk.f_favail,
                disk.f_files
            )
        }
        Err(error) => format!("{}: {error}", dir.display()),
    }
}

/// A file's name without what a path could make of it.
fn plain(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    name.chars().map(|c| if is_plain(c) { c } else { '_' }).take(80).collect()
}

fn pretty(tree: &Json) -> String {
    serde_json::to_string_pretty(tree).unwrap_or_default()
}

fn seconds(now: SystemTime) -> u64 {
    now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn time(at: SystemTime) -> String {
    format!("{:.0}", jiff::Timestamp::try_from(at).unwrap_or_default())
}

#[cfg(test)]
mod tests;
