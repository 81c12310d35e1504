//! Starting a child that cannot outlive the daemon.
//!
//! Linux can send a process a signal when its parent ends, also when that one was killed with
//! SIGKILL and can do nothing itself. The child has to ask for it before it becomes nats-server,
//! so nats-server is started through a hidden subcommand of our own binary:
//! `tidegate internal-exec-leaf --parent PID -- nats-server …`.
//!
//! # Invariants
//! - "Parent" means the **thread** that started the child: were it a runtime's worker that ends
//!   when it is idle, the child would be killed in the middle of the day. Every child is started
//!   from the one thread of a [`Spawner`], which lives as long as the `Spawner`.
//! - A parent that ended before the child asked is noticed: its id is no longer the parent's.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};

use crate::discretion::forgo_core_files;

/// The name of the hidden subcommand.
pub const EXEC_LEAF: &str = "internal-exec-leaf";

/// Which binary has the hidden subcommand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launcher {
    binary: PathBuf,
}

impl Launcher {
    /// The binary that is running.
    ///
    /// # Errors
    /// When the system does not say which one that is.
    pub fn this_binary() -> io::Result<Self> {
        Ok(Self { binary: std::env::current_exe()? })
    }

    /// A given binary: tests are binaries without the subcommand.
    #[must_use]
    pub fn at(binary: impl Into<PathBuf>) -> Self {
        Self { binary: binary.into() }
    }

    /// The command that becomes `program` and ends with the thread that starts it.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(&self.binary);
        let parent = std::process::id().to_string();
        command.args([EXEC_LEAF, "--parent", &parent, "--"]).arg(program);
        command
    }
}

/// Why a process could not become nats-server.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The arguments are not the subcommand's.
    #[error("{EXEC_LEAF} needs --parent PID -- PROGRAM [ARGUMENTS]; it is not for people")]
    Usage,
    /// The system refused the signal.
    #[error("cannot ask to be ended together with the daemon")]
    Signal(#[source] rustix::io::Errno),
    /// The daemon is gone already.
    #[error("the daemon, process {parent}, ended before nats-server was started")]
    Orphan {
        /// Its process id.
        parent: i32,
    },
    /// The program cannot be run.
    #[error("cannot run {program}", program = program.display())]
    Exec {
        /// The program.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// The hidden subcommand: `arguments` are what follows its name. Becomes the program and returns
/// only when it cannot.
///
/// # Errors
/// Always: when it succeeds, this program is another one.
pub fn exec_leaf(arguments: impl IntoIterator<Item = OsString>) -> Result<Infallible, ExecError> {
    let mut arguments = arguments.into_iter();
    let mut next = || arguments.next().ok_or(ExecError::Usage);
    let (flag, parent, separator, program) = (next()?, next()?, next()?, next()?);
    if flag != OsStr::new("--parent") || separator != OsStr::new("--") {
        return Err(ExecError::Usage);
    }
    let parent: i32 = parent.to_str().and_then(|id| id.parse().ok()).ok_or(ExecError::Usage)?;
    let program = PathBuf::from(program);
    // SIGKILL: a leaf keeps nothing that an orderly end would save.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(ExecError::Signal)?;
    if getppid().is_none_or(|now| now.as_raw_nonzero().get() != parent) {
        return Err(ExecError::Orphan { parent });
    }
    // It holds the gateway's key.
    forgo_core_files();
    let source = std::process::Command::new(&program).args(arguments).exec();
    Err(ExecError::Exec { program, source })
}

/// The one thread that starts children. Dropping it ends them.
#[derive(Debug)]
pub struct Spawner {
    orders: mpsc::Sender<Order>,
}

struct Order {
    command: Box<Command>,
    reply: oneshot::Sender<io::Result<Child>>,
}

impl Spawner {
    /// Starts the thread. Children report to the runtime that this is called in.
    ///
    /// # Errors
    /// When the system has no thread left.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Handle::current();
        let (orders, mut inbox) = mpsc::channel::<Order>(1);
        std::thread::Builder::new().name("leaf-parent".to_owned()).spawn(move || {
            // Ends when the last sender is gone, and with it every child.
            while let Some(mut order) = inbox.blocking_recv() {
                let _inside = runtime.enter();
                // Whoever does not wait any more has no use for the child.
                let _ = order.reply.send(order.command.kill_on_drop(true).spawn());
            }
        })?;
        Ok(Self { orders })
    }

    /// Starts a child. Dropping the future ends a child that it might have started.
    ///
    /// # Errors
    /// When the system refuses, or the thread is gone.
    pub async fn spawn(&self, command: Command) -> io::Result<Child> {
        let (reply, answer) = oneshot::channel();
        let gone = || io::Error::other("the thread that starts children is gone");
        let order = Order { command: Box::new(command), reply };
        self.orders.send(order).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(arguments: &[&str]) -> ExecError {
        exec_leaf(arguments.iter().map(OsString::from)).unwrap_err()
    }

    #[test]
    fn arguments_of_another_shape_are_refused() {
        let all: [&[&str]; 6] = [
            &[],
            &["--parent"],
            &["--parent", "x", "--", "true"],
            &["--parent", "1", "true"],
            &["--parent", "1", "--"],
            &["true"],
        ];
        for arguments in all {
            assert!(matches!(refused(arguments), ExecError::Usage), "{arguments:?}");
        }
    }
}
