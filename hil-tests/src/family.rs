//! Processes that end together with the test that started them.
//!
//! # Invariants
//! - Every process, and whatever it starts in turn, carries the family's mark in its environment.
//! - A guardian outside the family kills whoever carries the mark once its pipe closes; the pipe
//!   closes when the family is dropped, when the test panics, and when the test is killed.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

const MARK: &str = "TIDEGATE_RIG";

/// Waits for its standard input to close, then kills until nobody carries the mark. The mark is an
/// argument, so neither the guardian nor its `grep` carries it. Only root can read the environment of
/// a process that keeps its memory to itself, so each that was started is told as well, by its
/// number and the time of its start.
const GUARDIAN: &str = r#"
started=$(cat)
for one in $started; do
    id=${one%:*}
    [ "$(sed 's/.*) //' /proc/$id/stat 2> /dev/null | cut -d' ' -f20)" = "${one#*:}" ] && kill -KILL $id
done
for round in $(seq 100); do
    marked=$(grep -lzx "$1" /proc/[0-9]*/environ 2> /dev/null | cut -d/ -f3)
    [ -z "$marked" ] && exit 0
    kill -KILL $marked 2> /dev/null
    sleep 0.02
done
"#;

/// A family of processes.
#[derive(Debug)]
pub struct Family {
    mark: String,
    guardian: Mutex<Child>,
}

impl Family {
    /// Starts the guardian.
    ///
    /// # Errors
    /// When there is no `sh`.
    pub fn new() -> anyhow::Result<Arc<Self>> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}-{number}", std::process::id());
        let guardian = Command::new("sh")
            .args(["-c", GUARDIAN, "guardian", &format!("{MARK}={mark}")])
            .stdin(Stdio::piped())
            // Whoever ends the test's whole process group must not end the guardian first.
            .process_group(0)
            .spawn()
            .context("sh did not start")?;
        Ok(Arc::new(Self { mark, guardian: Mutex::new(guardian) }))
    }

    /// A program that will belong to the family, without terminal input.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.env(MARK, &self.mark).stdin(Stdio::null());
        command
    }

    /// Tells the guardian of a process by more than its environment.
    fn adopt(&self, id: u32) -> anyhow::Result<()> {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
        let (_, after) = stat.rsplit_once(") ").context("stat without a name")?;
        let started = after.split_whitespace().nth(19).context("stat without a start")?;
        let mut guardian = self.guardian.lock().unwrap_or_else(PoisonError::into_inner);
        let pipe = guardian.stdin.as_mut().context("the guardian hears nothing")?;
        Ok(writeln!(pipe, "{id}:{started}")?)
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        let guardian = self.guardian.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop(guardian.stdin.take());
        // Nothing more can be done when even the guardian is lost.
        let _ = guardian.wait();
    }
}

/// One process of a family, its output in a file.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    /// Kept so that the guardian outlives the process.
    _family: Arc<Family>,
}

impl Process {
    /// Starts a command of the family; what it prints is appended to `log`.
    ///
    /// # Errors
    /// When the program does not start or the log cannot be written.
    pub fn start(
        family: &Arc<Family>,
        name: &str,
        mut command: Command,
        log: &Path,
    ) -> anyhow::Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        command.stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("{name} did not start"))?;
        family.adopt(child.id())?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_path_buf(),
            _family: Arc::clone(family),
        })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended; `None` while it runs.
    ///
    /// # Errors
    /// When the system cannot say.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Everything that it has printed from byte `from` of its log on.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn printed_since(&self, from: u64) -> anyhow::Result<String> {
        let mut file = File::open(&self.log)?;
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut file, &mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// SIGKILL, and waits until it is gone. What it started itself lives on, as in reality.
    ///
    /// # Errors
    /// When it had ended by itself before: a scenario that kills a corpse proves nothing.
    pub fn kill9(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.ended()? {
            bail!("{} had already ended ({status})", self.name);
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// How long its log is by now: where [`Process::printed_since`] begins.
    ///
    /// # Errors
    /// When the log cannot be looked at.
    pub fn log_length(&self) -> anyhow::Result<u64> {
        Ok(std::fs::metadata(&self.log)?.len())
    }

    /// Sends a signal to it alone.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(id.context("process has no id")?, signal)?;
        Ok(())
    }

    /// SIGTERM, and waits until it has ended by itself.
    ///
    /// # Errors
    /// When it does not end within `patience`.
    pub async fn stop(&mut self, patience: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        let what = format!("{} ends after SIGTERM", self.name);
        let child = &mut self.child;
        wait::until(patience, &what, || {
            let ended = child.try_wait();
            async move { Ok(ended?) }
        })
        .await
    }
}

/// Puts a copy of a directory in place of another one.
///
/// # Errors
/// When there is nothing to copy, or it cannot be copied.
pub fn copy_tree(family: &Arc<Family>, from: &Path, to: &Path) -> anyhow::Result<()> {
    if to.exists() {
        std::fs::remove_dir_all(to)?;
    }
    let output = family.command("cp").arg("--archive").arg(from).arg(to).output()?;
    if !output.status.success() {
        bail!("{} was not copied: {}", from.display(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// The children of a process that run a program of the given name.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn children_of(parent: u32, program: &str) -> anyhow::Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // Processes come and go while we look.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{id}/stat")) else { continue };
        if child_in_stat(&stat, parent, program) {
            found.push(id);
        }
    }
    Ok(found)
}

/// `/proc/PID/stat` begins `PID (program) state parent …`; the program may hold spaces, and is cut
/// to 15 bytes.
fn child_in_stat(stat: &str, parent: u32, program: &str) -> bool {
    let Some((before, after)) = stat.rsplit_once(") ") else { return false };
    let named = before.split_once('(').is_some_and(|(_, name)| name == program);
    let mut fields = after.split(' ');
    let zombie = fields.next() == Some("Z");
    let of_parent = fields.next().is_some_and(|found| found == parent.to_string());
    named && of_parent && !zombie
}

/// SIGKILL to a process that a process of ours started.
///
/// # Errors
/// When it is gone already.
pub fn kill9(id: u32) -> anyhow::Result<()> {
    signal(id, Signal::KILL)
}

/// SIGSTOP to a process that a process of ours started.
///
/// # Errors
/// When it is gone already.
pub fn freeze(id: u32) -> anyhow::Result<()> {
    signal(id, Signal::STOP)
}

fn signal(id: u32, signal: Signal) -> anyhow::Result<()> {
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw).context("no process id")?;
    kill_process(pid, signal).with_context(|| format!("process {id}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alive(id: u32) -> bool {
        std::fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    }

    #[tokio::test]
    async fn a_dropped_family_takes_grandchildren_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let family = Family::new().unwrap();
        let mut command = family.command("sh");
        // The child ends at once and leaves an orphan in a session of its own.
        command.args(["-c", "setsid sleep 600 > /dev/null & echo $!"]);
        let log = directory.path().join("log");
        let mut process = Process::start(&family, "parent", command, &log).unwrap();
        wait::until(wait::SOON, "the parent ends", || {
            let ended = process.ended();
            async move { ended }
        })
        .await
        .unwrap();
        let orphan = wait::until(wait::SOON, "the orphan runs", || {
            let id = process.printed_since(0).ok().and_then(|text| text.trim().parse().ok());
            async move { Ok(id) }
        })
        .await
        .unwrap();
        assert!(alive(orphan));
        drop(process);
        drop(family);
        assert!(!alive(orphan));
    }

    #[test]
    fn killing_what_has_ended_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let family = Family::new().unwrap();
        let log = directory.path().join("log");
        let mut process = Process::start(&family, "short", family.command("true"), &log).unwrap();
        process.child.wait().unwrap();
        assert!(process.kill9().is_err());
    }

    #[test]
    fn a_child_is_known_by_parent_and_program() {
        assert!(child_in_stat("7 (nats-server) S 42 1 1", 42, "nats-server"));
        assert!(!child_in_stat("7 (nats-server) Z 42 1 1", 42, "nats-server"));
        assert!(!child_in_stat("7 (nats-server) S 41 1 1", 42, "nats-server"));
        assert!(child_in_stat("7 (a) b) S 42 1 1", 42, "a) b"));
    }
}
