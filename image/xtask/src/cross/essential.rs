//! What a finished program must be able to do, shown by running it: on this machine, or under
//! qemu's emulation of one program.
//!
//! # Invariants
//! - The program itself runs; what it talks to (the PLC, the NATS server) is of this machine.
//! - Nothing is waited for without an end, and every process ends with the test.
//! - Ports are chosen by the operating system.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::plc::Plc;
use super::targets::Target;
use crate::workspace::Workspace;
use crate::{debian, nats, shell};

/// An emulated start reads and translates the whole program: two seconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(90);
/// With these the daemon does not start itself again with them (`daemon/src/run/heap.rs`), which
/// this machine's kernel refuses for a foreign program.
const ALLOCATOR: [(&str, &str); 3] = [
    ("MALLOC_ARENA_MAX", "1"),
    ("MALLOC_MMAP_THRESHOLD_", "65536"),
    ("MALLOC_TRIM_THRESHOLD_", "65536"),
];
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// A program, and what runs it.
pub(crate) struct Program {
    words: Vec<PathBuf>,
}

impl Program {
    /// `path`, which may be for another machine; installs the emulator when it is missing.
    pub(crate) fn new(path: &Path, target: &Target) -> anyhow::Result<Self> {
        let mut words = Vec::new();
        if let Some(emulator) = &target.emulator {
            if shell::ask(Command::new(emulator).arg("--version")).is_none() {
                debian::install(emulator, "qemu-user-static")?;
            }
            words.extend([emulator.into(), "-L".into()]);
            words.push(Path::new("/usr").join(&target.gnu));
        }
        words.push(path.to_owned());
        Ok(Self { words })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]);
        command.stdin(Stdio::null()).env_remove("TIDEGATE_SERVER").env_remove("TIDEGATE_SOCKET");
        command.envs(ALLOCATOR);
        command
    }

    /// Standard output of a run that must succeed.
    fn said(&self, arguments: &[&str], folder: &Path) -> anyhow::Result<String> {
        let output = self.command().args(arguments).current_dir(folder).output()?;
        let line = arguments.join(" ");
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "tidegate {line}: {}: {}", output.status, errors.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Runs all of it; returns how many samples were read back from the record.
pub(crate) fn test(workspace: &Workspace, program: &Program) -> anyhow::Result<u64> {
    let folder = workspace.target.join(format!("essential.{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    let tested = commands(workspace, program, &folder)
        .and_then(|()| session(workspace, program, &folder))
        .with_context(|| format!("of {}", program.words[program.words.len() - 1].display()));
    let log = std::fs::read_to_string(folder.join("run.log")).unwrap_or_default();
    let _ = std::fs::remove_dir_all(&folder);
    tested.inspect_err(|_| shell::say(&format!("the daemon's log:\n{log}")))
}

/// What needs neither device nor server.
fn commands(workspace: &Workspace, program: &Program, folder: &Path) -> anyhow::Result<()> {
    let version = program.said(&["--version"], folder)?;
    let wanted = format!("tidegate {}", env!("CARGO_PKG_VERSION"));
    ensure!(version.trim() == wanted, "it calls itself {version:?}, not {wanted:?}");
    let examples = std::fs::read_dir(workspace.root.join("examples"))?;
    let mut checked = 0_u32;
    for example in examples.filter_map(Result::ok).map(|entry| entry.path()) {
        if example.extension().is_some_and(|ending| ending == "toml") {
            program.said(&["check", &example.to_string_lossy()], folder)?;
            checked += 1;
        }
    }
    ensure!(checked > 0, "{} holds no examples", workspace.root.display());
    program.said(&["init", "--modbus", "192.0.2.1"], folder)?;
    program.said(&["check", "tidegate.toml"], folder)?;
    let wrong = program.command().args(["check", "/nonexistent.toml"]).output()?;
    ensure!(!wrong.status.success(), "a configuration that is not there was found to be right");
    Ok(())
}

/// A daemon's life: it reads a device, writes its record, ends when asked to, starts again and
/// answers out of what it wrote before.
fn session(workspace: &Workspace, program: &Program, folder: &Path) -> anyhow::Result<u64> {
    let nats_server = nats::provide(workspace)?;
    let plc = Plc::start()?;
    let server = free_address()?;
    std::fs::write(folder.join("t.toml"), configuration(&server, &plc.address()))?;
    let first = {
        let mut daemon = Daemon::start(program, folder)?;
        let _leaf = leaf(&nats_server, folder, &mut daemon)?;
        let recorded = daemon.until_recorded(program, folder, 5)?;
        daemon.stop()?;
        recorded
    };
    let mut daemon = Daemon::start(program, folder)?;
    let _leaf = leaf(&nats_server, folder, &mut daemon)?;
    daemon.until_recorded(program, folder, first + 5)?;
    let address = format!("nats://{server}");
    let ask = ["query", "--server", &address, "--from", "-10m", "--json", "Essential/count"];
    let answer = program.said(&ask, folder)?;
    let answer: Value = serde_json::from_str(&answer).context("the answer of query")?;
    let rows = answer["summary"]["rows"].as_u64().unwrap_or_default();
    ensure!(rows > 5, "the record answers with {rows} samples, of 10 and more written");
    daemon.stop()?;
    Ok(rows)
}

fn configuration(server: &str, device: &str) -> String {
    format!(
        "[gateway]\nplant = 'Essential'\nname = 'gw'\n\
         [leaf]\nmode = 'external'\nlisten = '{server}'\ndir = 'leaf'\n\
         [journal]\ndir = 'journal'\nmax-bytes = '32 MiB'\ncommit-every-ms = 100\n\
         [control]\nsocket = 'control.sock'\n\
         [[device]]\nname = 'plc'\nprotocol = 'modbus-tcp'\naddress = '{device}'\n\
         poll-every-ms = 100\nbase-path = 'Essential'\n\
         [[device.tag]]\npath = 'count'\naddress = 'holding:0'\ntype = 'uint16'\n"
    )
}

fn free_address() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// A process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Where it ended already there is nothing left to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Daemon(Process);

impl Daemon {
    fn start(program: &Program, folder: &Path) -> anyhow::Result<Self> {
        let log =
            std::fs::File::options().create(true).append(true).open(folder.join("run.log"))?;
        let mut command = program.command();
        command.args(["run", "--config", "t.toml"]).current_dir(folder);
        command.stdout(log.try_clone()?).stderr(log);
        Ok(Self(Process(command.spawn()?)))
    }

    /// The number of the newest frame on disk, once that is `wanted` or later.
    fn until_recorded(
        &mut self,
        program: &Program,
        folder: &Path,
        wanted: u64,
    ) -> anyhow::Result<u64> {
        self.until(&format!("{wanted} frames in the record"), || {
            let status = program.said(&["status", "--json", "--socket", "control.sock"], folder);
            let status: Value = serde_json::from_str(&status.ok()?).ok()?;
            status["journal"]["durable_seq"].as_u64().filter(|durable| *durable >= wanted)
        })
    }

    fn until<T>(&mut self, what: &str, mut look: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
        let begun = Instant::now();
        loop {
            if let Some(found) = look() {
                return Ok(found);
            }
            if let Some(status) = self.0.0.try_wait()? {
                bail!("the daemon ended ({status}) before there were {what}");
            }
            ensure!(begun.elapsed() < PATIENCE, "no {what} within {PATIENCE:?}");
            std::thread::sleep(PAUSE);
        }
    }

    /// Asks it to end, as systemd does.
    fn stop(mut self) -> anyhow::Result<()> {
        shell::run(
            "ask the daemon to end",
            Command::new("kill").args(["-TERM", &self.0.0.id().to_string()]),
        )?;
        let begun = Instant::now();
        loop {
            match self.0.0.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("asked to end, the daemon ended with {status}"),
                None => ensure!(begun.elapsed() < PATIENCE, "it goes on after being asked to end"),
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// This machine's NATS server, with the configuration that the daemon writes.
fn leaf(nats_server: &Path, folder: &Path, daemon: &mut Daemon) -> anyhow::Result<Process> {
    let configuration = folder.join("leaf").join("nats-server.conf");
    daemon.until("a configuration for the leaf", || configuration.exists().then_some(()))?;
    let mut command = Command::new(nats_server);
    command.arg("--config").arg(&configuration).current_dir(folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(Process(command.spawn()?))
}
