//! `tidegate status`: how the running daemon is doing.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use tidegate_translator::{DeviceState, Timestamp};

use super::device::{self, DeviceTree};
use super::exit::{self, Failure};
use super::terminal::{self, Align, Table, Tone, age, count, tame};
use crate::causes::chain;
use crate::config::{self, LoadError, size};
use crate::observe::control::{AskError, Client, ErrorKind, Refusal};
use crate::observe::state::{
    DeviceReport, IdentityStatus, JournalStatus, LinkStatus, PartState, QuestionsStatus,
    StatusReport, UplinkState, UplinkStatus,
};

/// Which daemon is asked.
#[derive(Debug, Clone, clap::Args)]
pub struct SocketArgs {
    /// The daemon's control socket
    #[arg(
        long,
        env = "TIDEGATE_SOCKET",
        value_name = "PATH",
        default_value = "/run/tidegate/control.sock"
    )]
    pub socket: PathBuf,
    /// The daemon's configuration, to find the socket that it names
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl SocketArgs {
    /// The socket to ask.
    ///
    /// # Errors
    /// When the configuration that should name it has mistakes.
    pub fn path(&self) -> Result<PathBuf, Box<LoadError>> {
        let Some(file) = &self.config else { return Ok(self.socket.clone()) };
        let config = config::load(file, std::env::vars_os(), &[]).map_err(Box::new)?;
        Ok(config.control_socket)
    }
}

/// Tells on stderr why the socket is not known.
pub(super) fn misconfigured(error: &LoadError) -> ExitCode {
    match error {
        // The report of all mistakes is whole as it is.
        LoadError::Mistakes(mistakes) => {
            let _ = writeln!(io::stderr(), "{mistakes}");
            ExitCode::from(exit::CONFIG)
        }
        error => Failure::new(exit::CONFIG, chain(error)).told(),
    }
}

/// Show how the running daemon is doing.
#[derive(Debug, Clone, clap::Args)]
pub struct StatusArgs {
    /// Which daemon is asked.
    #[command(flatten)]
    pub socket: SocketArgs,
    /// Show one device in detail
    #[arg(long, value_name = "NAME")]
    pub device: Option<String>,
    /// Show what went over the wire around its last faults
    #[arg(long, requires = "device")]
    pub trace: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Asks and prints. Exit code 0 when the daemon answered, 1 when it has no such device, 69 when none does, 77 when it may not be
/// asked.
#[must_use]
pub fn status(args: &StatusArgs) -> ExitCode {
    let stdout = io::stdout();
    let colour = terminal::colour(stdout.is_terminal());
    let socket = match args.socket.path() {
        Ok(socket) => socket,
        Err(error) => return misconfigured(&error),
    };
    if let Some(name) = &args.device {
        return match one_device(&socket, name) {
            Ok((now, tree)) => {
                let mut out = stdout.lock();
                let DeviceTree { status, faults } = tree;
                if args.json {
                    let faults =
                        if args.trace { faults } else { device::without_exchanges(faults) };
                    return printed(json(&mut out, &DeviceTree { status, faults }));
                }
                printed(device::show(&mut out, now, &status, &faults, args.trace, colour))
            }
            Err(error) => failed(&error),
        };
    }
    let asked = Client::connect(&socket).and_then(|mut client| client.status());
    match asked {
        Ok(status) if args.json => printed(json(&mut stdout.lock(), &status)),
        Ok(status) => printed(human(&mut stdout.lock(), &status, colour)),
        Err(error) => failed(&error),
    }
}

/// A device's line of the status, and its black box.
fn one_device(socket: &Path, name: &str) -> Result<(Timestamp, DeviceTree), AskError> {
    let mut client = Client::connect(socket)?;
    // The black box first: the daemon says in words that there is no such device.
    let faults = client.faults(name)?;
    let status = client.status()?;
    let now = status.now;
    match status.devices.into_iter().find(|device| device.name == name) {
        Some(status) => Ok((now, DeviceTree { status, faults })),
        // It was taken out of the configuration between the two questions.
        None => {
            let text = format!("no device {name:?} is configured any more");
            Err(AskError::Refused(Refusal { kind: ErrorKind::UnknownDevice, text }))
        }
    }
}

/// The exit code after printing: a reader that closed the pipe has seen enough.
pub(super) fn printed(result: io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(exit::DISK),
    }
}

/// Tells on stderr why there is no answer.
pub(super) fn failed(error: &AskError) -> ExitCode {
    Failure::new(error.exit_code(), tame(&chain(error))).told()
}

pub(super) fn json(out: &mut impl Write, value: &impl serde::Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    writeln!(out)
}

pub(super) fn human(out: &mut impl Write, s: &StatusReport, colour: bool) -> io::Result<()> {
    let strong = |text: &str| Tone::Strong.paint(text, colour);
    let up = age(Duration::from_secs(s.uptime_seconds));
    writeln!(out, "{}  tidegate {}, up {up}", strong(&tame(&s.gateway)), tame(&s.version))?;
    let state = tone_of(s.health.state).paint(s.health.state.word(), colour);
    let down: Vec<&str> = s.health.down().map(|part| part.part.as_str()).collect();
    let down = if down.is_empty() { String::new() } else { format!(": {}", down.join(", ")) };
    writeln!(out, "health   {state}{}", tame(&down))?;
    for alarm in &s.alarms {
        let since = age(since(s.now.as_millis(), alarm.since.as_millis()));
        let kind = Tone::Wrong.paint(&tame(&alarm.kind), colour);
        writeln!(out, "alarm    {kind}: {} (for {since})", tame(&alarm.text))?;
    }
    let tags = s.tags;
    let total = tags.good + tags.uncertain + tags.bad;
    writeln!(
        out,
        "tags     {total}: {} good, {} uncertain, {} bad",
        tags.good, tags.uncertain, tags.bad
    )?;
    writeln!(out, "journal  {}", journal(&s.journal, s.now.as_millis(), colour))?;
    writeln!(out, "link     {}", link(&s.link, colour))?;
    writeln!(out, "uplink   {}", uplink(&s.uplink, colour))?;
    for certificate in &s.certificates {
        let days = certificate.days_left(s.now);
        let tone = if days < 14.0 { Tone::Wrong } else { Tone::Plain };
        let left = tone.paint(&format!("{days:.0} days left"), colour);
        let (role, subject) = (tame(&certificate.role), tame(&certificate.subject));
        writeln!(out, "cert     {role} {subject}, {left}")?;
    }
    if let Some(identity) = &s.identity {
        writeln!(out, "identity {}", self::identity(identity, s.now.as_millis(), colour))?;
    }
    if let Some(questions) = &s.questions {
        writeln!(out, "asked    {}", self::questions(questions, &s.counters, s.now.as_millis()))?;
    }
    if !s.devices.is_empty() {
        writeln!(out)?;
        devices(&s.devices).write(out, 0, colour)?;
    }
    let lost: Vec<_> =
        s.counters.iter().filter(|(name, n)| **n > 0 && tells_a_loss(name)).collect();
    if !lost.is_empty() {
        writeln!(out)?;
        let mut table = Table::new(&[("DROPPED OR REFUSED", Align::Left), ("COUNT", Align::Right)]);
        for (name, n) in lost {
            table.row([(name.clone(), Tone::Plain), (n.to_string(), Tone::Caution)]);
        }
        table.write(out, 0, colour)?;
    }
    Ok(())
}

fn tells_a_loss(counter: &str) -> bool {
    ["_overflow", "_dropped", "_damaged", "_refused", "_late", "_disconnected", "_tags", "_errors"]
        .iter()
        .any(|end| counter.ends_with(end))
}

const fn tone_of(state: PartState) -> Tone {
    match state {
        PartState::Up => Tone::Good,
        PartState::Degraded => Tone::Caution,
        PartState::Down => Tone::Wrong,
    }
}

pub(super) fn since(now_ms: i64, then_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(now_ms.saturating_sub(then_ms)).unwrap_or(0))
}

fn devices(devices: &[DeviceReport]) -> Table {
    let mut table = Table::new(&[
        ("DEVICE", Align::Left),
        ("STATE", Align::Left),
        ("TAGS", Align::Right),
        ("DATA AGE", Align::Right),
        ("MISSED", Align::Right),
        ("WHY", Align::Left),
    ]);
    for device in devices {
        let (word, tone) = state_of(device.state);
        let data_age = device.data_age_ms.map(|ms| age(Duration::from_millis(ms)));
        let missed: u64 = device.missed.values().map(|m| m.slots).fold(0, u64::saturating_add);
        let open = device.missed.values().any(|m| m.uncounted > 0);
        let missed = if open { format!("{missed}+") } else { missed.to_string() };
        let why = device.why.clone().unwrap_or_default();
        table.row([
            (device.name.clone(), Tone::Plain),
            (word.to_owned(), tone),
            (device.tags.to_string(), Tone::Plain),
            (data_age.unwrap_or_else(|| "never".to_owned()), Tone::Plain),
            (missed, Tone::Plain),
            (why, Tone::Faint),
        ]);
    }
    table
}

pub(super) const fn state_of(state: DeviceState) -> (&'static str, Tone) {
    match state {
        DeviceState::Connecting => ("connecting", Tone::Caution),
        DeviceState::Live => ("live", Tone::Good),
        DeviceState::Degraded => ("degraded", Tone::Caution),
        DeviceState::Down => ("down", Tone::Wrong),
        DeviceState::ConfigurationError => ("configuration error", Tone::Wrong),
    }
}

fn journal(j: &JournalStatus, now_ms: i64, colour: bool) -> String {
    if !j.writable {
        let why = j.why.as_deref().unwrap_or("not open yet");
        return format!("{}: {}", Tone::Wrong.paint("not writable", colour), tame(why));
    }
    let mut text = Tone::Good.paint("writable", colour);
    text += &format!(", {} of {}", size::format(j.bytes), size::format(j.max_bytes));
    text += &format!(" in {}", count(j.segments, "segment"));
    if let Some(oldest) = j.oldest {
        text += &format!(", back {}", age(since(now_ms, oldest.as_millis())));
    }
    text += &format!(", durable up to {}", j.durable_seq);
    if let Some(commit) = j.commit_ms {
        text += &format!(", commit {commit:.0} ms");
    }
    text
}

fn link(l: &LinkStatus, colour: bool) -> String {
    let word = |up: bool| {
        if up { Tone::Good.paint("up", colour) } else { Tone::Wrong.paint("down", colour) }
    };
    let mut text = format!("local server {}", word(l.leaf_up));
    if l.configured {
        text += &format!(", hub {}", word(l.hub_up));
    }
    if let Some(url) = &l.hub_url {
        text += &format!(" ({})", tame(url));
    }
    if let Some(trip) = l.round_trip_ms {
        text += &format!(", round trip {trip:.0} ms");
    }
    if let Some(why) = &l.why {
        text += &format!(": {}", tame(why));
    }
    text
}

fn identity(i: &IdentityStatus, now_ms: i64, colour: bool) -> String {
    let mut text = match i.generation {
        0 => Tone::Wrong.paint("none yet", colour),
        number => {
            let taken = i.confirmed_serial.as_ref() == Some(&i.serial);
            let taken = if taken { ", taken by the hub" } else { "" };
            format!("gen-{number}, serial {}{taken}", tame(&i.serial))
        }
    };
    if let Some(due) = i.renewal_due.filter(|_| i.generation > 0) {
        let left = since(due.as_millis(), now_ms);
        let due = if left.is_zero() { "due".to_owned() } else { format!("in {}", age(left)) };
        text += &format!(", renewal {due}");
    }
    if let Some(error) = &i.last_error {
        let attempts = count(u64::from(i.failures), "failure");
        text += &format!(", {attempts}: {}", Tone::Caution.paint(&tame(error), colour));
    }
    text
}

fn questions(q: &QuestionsStatus, counters: &BTreeMap<String, u64>, now_ms: i64) -> String {
    let counted = |name: &str| counters.get(name).copied().unwrap_or_default();
    let answered = count(counted("questions_answered"), "question");
    let mut text = format!("{answered} answered");
    for (n, word) in [
        (counted("questions_declined"), "declined"),
        (counted("questions_busy"), "turned away"),
        (counted("questions_hostile"), "without an inbox"),
        (u64::try_from(q.at_work).unwrap_or(u64::MAX), "at work"),
        (u64::try_from(q.waiting).unwrap_or(u64::MAX), "waiting"),
    ] {
        if n > 0 {
            text += &format!(", {n} {word}");
        }
    }
    if let Some(last) = q.recent.back() {
        let who = last.by.as_deref().map(|by| format!(" by {}", tame(by))).unwrap_or_default();
        let ago = age(since(now_ms, last.at.as_millis()));
        let (op, outcome) = (tame(&last.op), tame(&last.outcome));
        let rows = count(last.rows, "row");
        text += &format!("; last {op}{who} {ago} ago: {outcome}, {rows}, {:.0} ms", last.took_ms);
    }
    text
}

fn uplink(u: &UplinkStatus, colour: bool) -> String {
    let tone = match u.state {
        UplinkState::CaughtUp | UplinkState::Draining => Tone::Good,
        UplinkState::NotConfigured => Tone::Faint,
        UplinkState::Halted => Tone::Wrong,
        _ => Tone::Caution,
    };
    let mut text = tone.paint(u.state.word(), colour);
    if u.state == UplinkState::NotConfigured {
        return text;
    }
    let backlog = count(u.backlog_frames, "frame");
    text += &format!(", backlog {backlog} ({})", size::format(u.backlog_bytes));
    if u.backlog_frames > 0 {
        let drain = u.drain_seconds.and_then(|s| Duration::try_from_secs_f64(s).ok()).map(age);
        text += &format!(", drained in {}", drain.unwrap_or_else(|| "unknown time".to_owned()));
    }
    match u.ack_age_ms {
        Some(ms) => text += &format!(", last ack {} ago", age(Duration::from_millis(ms))),
        None => text += ", no ack yet",
    }
    if let Some(why) = &u.why {
        text += &format!(": {}", tame(why));
    }
    text
}

#[cfg(test)]
mod tests {
    use tidegate_translator::{Sample, TagId, Timestamp, Value};

    use super::*;
    use crate::observe::state::HealthLimits;
    use crate::observe::state::tests::board;

    fn shown(board: &crate::observe::state::Board) -> String {
        let mut out = Vec::new();
        human(&mut out, &board.report(&HealthLimits::default()), false).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_screen_says_what_is_down_since_when_and_why() {
        let board = board();
        board.note_samples(&[Sample::good(TagId(1), Timestamp(0), Value::I64(1))]);
        board.note_device("press-1", DeviceState::Live, None);
        board.note_device("press-2", DeviceState::Down, Some("192.0.2.7:502 refused".into()));
        board.raise("journal-slow", "the disk takes 3 s for a commit");
        board.counters.live_overflow.add(12);
        board.update_journal(|j| {
            *j = JournalStatus {
                writable: true,
                bytes: 1 << 20,
                max_bytes: 8 << 30,
                segments: 1,
                commit_ms: Some(12.3),
                ..JournalStatus::default()
            };
        });
        board.update_uplink(|u| {
            u.state = UplinkState::Draining;
            u.backlog_frames = 3;
            u.backlog_bytes = 2048;
            u.drain_seconds = Some(75.0);
        });
        board.set_identity(IdentityStatus {
            generation: 2,
            serial: "0a".into(),
            confirmed_serial: Some("0a".into()),
            renewal_due: Some(Timestamp::from_millis(90_000)),
            last_error: Some("the authority https://ca does not answer".into()),
            failures: 3,
            ..IdentityStatus::default()
        });
        let screen = shown(&board);
        for line in [
            "identity gen-2, serial 0a, taken by the hub, renewal in 1 min 30 s, 3 failures: the \
             authority https://ca does not answer",
            "health   down: device press-2",
            "alarm    journal-slow: the disk takes 3 s for a commit (for 0.0 s)",
            "tags     3: 1 good, 0 uncertain, 2 bad",
            "journal  writable, 1 MiB of 8 GiB in 1 segment, durable up to 0, commit 12 ms",
            "uplink   draining, backlog 3 frames (2 KiB), drained in 1 min 15 s, no ack yet",
            "press-2  down      1     never       0  192.0.2.7:502 refused",
            "live_overflow          12",
        ] {
            assert!(screen.lines().any(|l| l == line), "no {line:?} in\n{screen}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn text_from_outside_cannot_steer_the_terminal() {
        let board = board();
        board.note_device("press-1", DeviceState::Down, Some("\x1b]0;owned\x07".into()));
        board.raise("k\x1b", "\x1b[2J");
        board.update_link(|link| link.why = Some("\x1b[2J".into()));
        assert!(!shown(&board).contains(['\x1b', '\x07']));
    }
}
