//! The log: journald under systemd, readable lines on stderr elsewhere.
//!
//! Conventions: `device=` is a configured device, `tag=` a tag's path, `part=` a part of the
//! daemon. The supervisor opens a span with `device=` or `part=` around every task, so a line
//! need not repeat them. WARN means that nothing was lost, ERROR that data was lost or that an
//! operator is needed.
//!
//! # Invariants
//! - Every line carries its fields in its text, also in journald, so that a plain
//!   `journalctl -u tidegate` names device and tag; in journald each is a field as well
//!   (`TIDEGATE_DEVICE=press-1`).
//! - A line is one line: control characters from outside are escaped and long values cut.
//! - Logging never waits: what journald does not take at once is dropped and counted.
//! - No level shows a secret: what libraries print of keys and messages is cut out whatever the
//!   filter says.

mod journald;
mod line;
mod once;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal as _};
use std::os::unix::fs::MetadataExt as _;
use std::panic::PanicHookInfo;

use tracing::{Metadata, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer};

pub use once::OncePerChange;

use crate::cli::terminal;
use crate::observe::state::Counter;

/// What is logged unless told otherwise: the client library reports each attempt to connect.
const DEFAULT_FILTER: &str = "info,async_nats=warn";

/// Stands before every filter: the OPC UA library tells of each attempt and each service in its own
/// words, and the translator tells what matters. A filter that names it, such as
/// `opcua_client=debug`, goes before this.
const SILENT: &str = "opcua=off";

/// How much is logged.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct LogArgs {
    /// What to log: error, warn, info, debug or trace, or by module, such as
    /// `info,tidegate::live=debug`
    #[arg(long = "log", env = "TIDEGATE_LOG", value_name = "LEVEL", global = true)]
    pub filter: Option<String>,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level cannot be read.
    #[error("--log {filter:?} is no level; write error, warn, info, debug or trace")]
    Filter {
        /// What was written.
        filter: String,
    },
    /// This process logs already.
    #[error("the log was begun twice")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Begins the log of this process. Returns the counter of lines that could not be written, for
/// [`crate::observe::state::Board::with_log`].
///
/// # Errors
/// When the level cannot be read, or the log was begun before.
pub fn begin(args: &LogArgs) -> Result<Counter, LogError> {
    let filter = filter(args.filter.as_deref().unwrap_or(DEFAULT_FILTER))?;
    let lost = Counter::default();
    let journald = stderr_is_journald()
        .then(|| journald::Journald::connect(journald::SOCKET.as_ref()))
        .and_then(Result::ok);
    let out = match journald {
        Some(journald) => line::Out::Journald(journald),
        None => line::Out::Stderr { colour: terminal::colour(io::stderr().is_terminal()) },
    };
    let lines = line::Lines::new(out, lost.clone());
    tracing_subscriber::registry().with(filter).with(Discreet).with(lines).try_init()?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(lost)
}

fn filter(wanted: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(format!("{SILENT},{wanted}"))
        // The parser's own words name the same levels, and numbers that nobody should write.
        .map_err(|_| LogError::Filter { filter: wanted.to_owned() })
}

/// Cuts out what would show a secret. At trace `opcua_core` 0.19 prints the keys of each secure
/// channel, and under the target `hex` every message, passwords included (read in its
/// `comms/secure_channel.rs` and `lib.rs`); at debug it prints neither.
#[derive(Debug, Clone, Copy)]
struct Discreet;

impl<S: Subscriber> Layer<S> for Discreet {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let target = metadata.target();
        let is_secret = target == "hex"
            || target.starts_with("opcua") && *metadata.level() == tracing::Level::TRACE;
        !is_secret
    }
}

/// A panic is one line like any other, with the device or part whose task it was in.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let what = panic.payload_as_str().unwrap_or("no text");
    let at = panic.location().map(ToString::to_string).unwrap_or_default();
    // With RUST_BACKTRACE only, as for the standard hook.
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        tracing::error!(at, %backtrace, "panicked: {what}");
    } else {
        tracing::error!(at, "panicked: {what}");
    }
}

/// Whether stderr is the stream that systemd connected to journald: a variable that was inherited
/// by a process whose output was redirected must not count.
pub(crate) fn stderr_is_journald() -> bool {
    let Some(stream) = std::env::var("JOURNAL_STREAM").ok() else { return false };
    // Following the link gives device and inode of what descriptor 2 is.
    std::fs::metadata("/proc/self/fd/2")
        .is_ok_and(|meta| stream == format!("{}:{}", meta.dev(), meta.ino()))
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Runs as a child of the test below, because a log and its hook belong to the whole process.
    #[test]
    #[ignore = "the other half of a_redirected_stderr_gets_readable_lines_and_a_panic_is_one_of_them"]
    fn logs_and_panics() {
        begin(&LogArgs { filter: Some("warn".to_owned()) }).unwrap();
        tracing::info!("not worth a line");
        tracing::error_span!("driver", device = "press-1").in_scope(|| {
            tracing::warn!("silent");
            let caught = std::panic::catch_unwind(|| panic!("two\nlines"));
            assert!(caught.is_err());
        });
        assert!(matches!(begin(&LogArgs::default()), Err(LogError::Twice(_))));
    }

    #[test]
    fn a_redirected_stderr_gets_readable_lines_and_a_panic_is_one_of_them() {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "observe::log::tests::logs_and_panics", "--nocapture"])
            // Inherited from a service whose stderr was redirected: it must not count.
            .env("JOURNAL_STREAM", "1:1")
            .env_remove("RUST_BACKTRACE")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&child.stderr);
        assert!(child.status.success(), "{text}");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].ends_with(" WARN  silent device=press-1"), "{text}");
        assert!(lines[1].contains(r"ERROR panicked: two\nlines device=press-1 at="), "{text}");
        assert!(!text.contains('\x1b'), "{text}");
    }

    /// What of these events a filter lets through, as `target level`.
    fn let_through(wanted: &str) -> Vec<String> {
        #[derive(Clone, Default)]
        struct Kept(Arc<Mutex<Vec<String>>>);
        impl<S: Subscriber> Layer<S> for Kept {
            fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
                let (target, level) = (event.metadata().target(), event.metadata().level());
                self.0.lock().unwrap().push(format!("{target} {level}"));
            }
        }
        let kept = Kept::default();
        let subscriber = tracing_subscriber::registry()
            .with(filter(wanted).unwrap())
            .with(Discreet)
            .with(kept.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!(target: "opcua_client::session", "cannot connect");
            tracing::debug!(target: "opcua_core::comms", "chunk");
            tracing::trace!(target: "opcua_core::comms", "derived keys");
            tracing::trace!(target: "hex", "message");
            tracing::info!(target: "tidegate_opcua::line", "live");
            tracing::trace!(target: "tidegate_opcua::line", "poll");
        });
        kept.0.lock().unwrap().clone()
    }

    #[test]
    fn the_opcua_library_is_silent_unless_it_is_named() {
        for wanted in [DEFAULT_FILTER, "info", "debug"] {
            assert_eq!(let_through(wanted), ["tidegate_opcua::line INFO"], "{wanted}");
        }
        assert_eq!(let_through("warn,opcua_client=debug"), ["opcua_client::session ERROR"]);
        let both = ["opcua_client::session ERROR", "opcua_core::comms DEBUG"];
        assert_eq!(let_through("off,opcua=debug"), both);
    }

    #[test]
    fn no_filter_shows_the_keys_and_messages_of_a_secure_channel() {
        let all = let_through("trace,opcua=trace,hex=trace,opcua_core=trace");
        let expected = [
            "opcua_client::session ERROR",
            "opcua_core::comms DEBUG",
            "tidegate_opcua::line INFO",
            "tidegate_opcua::line TRACE",
        ];
        assert_eq!(all, expected);
    }

    #[test]
    fn a_level_that_is_none_is_named_with_the_legal_ones() {
        let error = begin(&LogArgs { filter: Some("tidegate=loud".to_owned()) }).unwrap_err();
        assert!(error.to_string().contains("--log \"tidegate=loud\""), "{error}");
    }
}
