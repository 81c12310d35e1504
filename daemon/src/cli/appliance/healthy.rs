//! `tidegate appliance healthy`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use super::super::exit::{DISK, NO, OK, PERMISSION};
use super::super::identity::Surroundings;
use super::super::span::span;
use super::super::terminal::tame;
use super::PlaceArgs;
use crate::appliance::health::{Expected, Look, Watch, blames_the_system, complaints};
use crate::appliance::offer;
use crate::appliance::record::{BeforeUpdate, LastHealthy, Record, System};
use crate::causes::chain;
use crate::config::{self, LoadError};
use crate::observe::control::Client;
use crate::observe::state::StatusReport;

/// How often the daemon is asked.
const EVERY: Duration = Duration::from_secs(1);

/// Wait until this boot is healthy, which decides whether an update is kept
///
/// It is healthy when the daemon of this system answers, all its critical loops come round, the
/// journal takes frames and the leaf serves, in one run for a while. Devices that do not answer and
/// a hub that is away do not count. After an update the hub counts when --remember saw it reached.
#[derive(Debug, Clone, clap::Args)]
pub struct HealthyArgs {
    /// How long the daemon may take, from now: a number and s, m or h
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = span)]
    pub within: Duration,
    /// How long all must be well in one run of the daemon
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = span)]
    pub steady: Duration,
    /// Do not judge: note before an update whether the hub is reached, for the updated system to be
    /// measured by
    #[arg(long)]
    pub remember: bool,
    /// The daemon's control socket, instead of the configured one
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Where the configuration is.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// What a boot came to.
struct Judgement {
    healthy: bool,
    line: String,
    why: Vec<String>,
}

impl Judgement {
    fn well(line: impl Into<String>) -> Self {
        Self { healthy: true, line: line.into(), why: Vec::new() }
    }

    fn ill(why: Vec<String>) -> Self {
        Self { healthy: false, line: "not healthy".to_owned(), why }
    }
}

/// Exit code 0 healthy, or nothing is configured that could be ill; 1 not healthy; 73 or 77 what is
/// remembered cannot be written.
pub(super) fn healthy(args: &HealthyArgs, with: &mut Surroundings<'_>) -> io::Result<u8> {
    let record = Record::beside(&args.place.config);
    let command_line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let system =
        System { slot: slot(&command_line), version: env!("CARGO_PKG_VERSION").to_owned() };
    if args.remember {
        return remember(args, &record, system, with);
    }
    let judgement = judge(args, &record, &system, with);
    if args.json {
        let report = json!({
            "healthy": judgement.healthy, "line": judgement.line, "why": judgement.why,
            "slot": system.slot, "version": system.version,
        });
        writeln!(with.out, "{report:#}")?;
    } else if judgement.healthy {
        writeln!(with.out, "{}", tame(&judgement.line))?;
    }
    for why in judgement.why.iter().filter(|_| !args.json) {
        writeln!(with.err, "not healthy: {}", tame(why))?;
    }
    Ok(if judgement.healthy { OK } else { NO })
}

fn judge(
    args: &HealthyArgs,
    record: &Record,
    system: &System,
    with: &mut Surroundings<'_>,
) -> Judgement {
    let file = &args.place.config;
    let text = match std::fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let line = format!("not configured: there is no {}", file.display());
            return Judgement::well(line);
        }
        other => other.unwrap_or_default(),
    };
    let digest = offer::digest(None, &text, &[]);
    let environment = with.environment.clone();
    let socket = match config::load(file, environment, &[]) {
        Ok(config) => args.socket.clone().unwrap_or(config.control_socket),
        Err(LoadError::Mistakes(mistakes)) => {
            let count = mistakes.count();
            let shown = file.display();
            if blames_the_system(&digest, record.last_healthy().as_ref()) {
                return Judgement::ill(vec![format!(
                    "{shown} does not check on this system ({count} mistakes), and did before"
                )]);
            }
            return Judgement::well(format!(
                "the system is well, and {shown} has {count} mistakes: tidegate check {shown}"
            ));
        }
        Err(error) => return Judgement::ill(vec![chain(&error)]),
    };
    let expected = Expected::of(system, record.before_update().as_ref());
    match watch(args, &socket, &expected) {
        Look::Ill(why) => Judgement::ill(why),
        Look::Healthy | Look::Again => {
            let healthy = LastHealthy { system: system.clone(), configuration: digest };
            let kept =
                record.keep_last_healthy(&healthy).and_then(|()| record.forget_before_update());
            let mut judgement = Judgement::well("healthy");
            if let Err(error) = kept {
                let dir = record.dir().display();
                judgement.line = format!("healthy; not remembered in {dir}: {error}");
            }
            judgement
        }
    }
}

/// Looks at the daemon until it is decided.
fn watch(args: &HealthyArgs, socket: &Path, expected: &Expected) -> Look {
    let begun = Instant::now();
    let mut watch = Watch::new(args.within, args.steady);
    loop {
        let found = ask(socket);
        let found = match &found {
            Ok(report) => Ok((report, complaints(report, expected))),
            Err(why) => Err(why.clone()),
        };
        match watch.look(begun.elapsed(), found) {
            Look::Again => std::thread::sleep(EVERY),
            decided => return decided,
        }
    }
}

fn ask(socket: &Path) -> Result<StatusReport, String> {
    Client::connect(socket).and_then(|mut client| client.status()).map_err(|error| chain(&error))
}

/// Notes how things are.
fn remember(
    args: &HealthyArgs,
    record: &Record,
    system: System,
    with: &mut Surroundings<'_>,
) -> io::Result<u8> {
    let configured = config::load(&args.place.config, with.environment.clone(), &[]);
    let socket = args.socket.clone().or(configured.ok().map(|config| config.control_socket));
    let report = socket.and_then(|socket| ask(&socket).ok());
    let hub_was_reached = report.is_some_and(|report| report.link.hub_up);
    let before = BeforeUpdate { system, hub_was_reached };
    if let Err(error) = record.keep_before_update(&before) {
        writeln!(with.err, "error: {} cannot be written: {error}", record.dir().display())?;
        let denied = error.kind() == io::ErrorKind::PermissionDenied;
        return Ok(if denied { PERMISSION } else { DISK });
    }
    let state = if hub_was_reached { "the hub is reached" } else { "the hub is not reached" };
    writeln!(with.out, "remembered: {state}")?;
    Ok(OK)
}

/// The slot of RAUC in the kernel's command line.
pub(super) fn slot(command_line: &str) -> Option<String> {
    let mut words = command_line.split_ascii_whitespace();
    words.find_map(|word| word.strip_prefix("rauc.slot=")).map(str::to_owned)
}
