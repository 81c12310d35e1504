//! `tidegate tags`: the latest values, and tag lists in and out.

pub mod export;
pub mod import;

use std::collections::HashMap;
use std::io::{self, IsTerminal as _, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::exit::{self, Failure};
use super::status::{SocketArgs, failed, json, misconfigured, printed};
use super::terminal::{self, Align, Table, Tone, age};
use super::watch::{Canvas, View, Wait};
use crate::observe::control::{AskError, Client, TagQuery};
use crate::observe::state::TagReport;

/// The least that is shown of a value in a table, and what is shown where there is no terminal
/// whose width could tell; `--json` has all of it.
const MIN_VALUE: usize = 16;
const USUAL_VALUE: usize = 64;

/// How long a daemon that has only just started is waited for. It numbers its tags within
/// milliseconds, unless a disk keeps it waiting.
const STARTS_WITHIN: Duration = Duration::from_secs(5);

/// Show the latest values, or take tag lists in and out.
#[derive(Debug, Clone, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct TagsArgs {
    /// What to do with a tag list; without it the latest values are shown.
    #[command(subcommand)]
    pub command: Option<TagsCommand>,
    /// A path, for it and all below, or a pattern: `*` within a segment, `**` across segments
    #[arg(value_name = "PATTERN")]
    pub pattern: Option<String>,
    /// Keep showing; where the output is no terminal, print a line per change
    #[arg(long)]
    pub watch: bool,
    /// Seconds between two looks
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 1,
        value_parser = clap::value_parser!(u64).range(1..=3600)
    )]
    pub every: u64,
    /// Print one JSON object per tag and line
    #[arg(long)]
    pub json: bool,
    /// Which daemon is asked.
    #[command(flatten)]
    pub socket: SocketArgs,
}

/// What to do with a tag list.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum TagsCommand {
    /// Check a CSV tag list and make it the list of a device
    Import(import::ImportArgs),
    /// Print all tags of a device as a CSV tag list
    Export(export::ExportArgs),
}

/// Asks and prints. Exit code 0 when a tag matched, 1 when none did, 69 when no daemon answers, 77
/// when it may not be asked.
#[must_use]
pub fn tags(args: &TagsArgs) -> ExitCode {
    let socket = match args.socket.path() {
        Ok(socket) => socket,
        Err(error) => return misconfigured(&error),
    };
    let stdout = io::stdout();
    let terminal = stdout.is_terminal();
    if args.watch && terminal && !args.json {
        return watch(args, &socket);
    }
    let mut screen = Screen {
        json: args.json,
        colour: terminal::colour(terminal),
        changes: args.watch,
        columns: terminal.then(super::watch::columns),
        seen: HashMap::new(),
    };
    loop {
        let Found { tags, starting } = match all(args, &socket) {
            Ok(tags) => tags,
            Err(error) => return failed(&error),
        };
        if let Err(error) = screen.show(&mut stdout.lock(), &tags) {
            return printed(Err(error));
        }
        if !args.watch {
            if starting {
                let text = "the daemon is still starting and does not know its tags yet";
                return Failure::new(exit::NO, text.to_owned()).told();
            }
            if tags.is_empty() {
                let pattern = args.pattern.as_deref().unwrap_or("**");
                return Failure::new(exit::NO, format!("no tag matches {pattern:?}")).told();
            }
            return ExitCode::SUCCESS;
        }
        std::thread::sleep(Duration::from_secs(args.every));
    }
}

/// Draws the tags again and again, until the person has seen enough.
fn watch(args: &TagsArgs, socket: &Path) -> ExitCode {
    // Whoever mistyped the socket should not have to leave a screen first.
    let mut tags = match all(args, socket) {
        Ok(found) => found.tags,
        Err(error) => return failed(&error),
    };
    let title = args.pattern.as_deref().unwrap_or("all tags");
    let mut draw = || -> io::Result<()> {
        let canvas = Canvas::open(terminal::colour(true))?;
        let mut view = View::default();
        let mut trouble = None;
        loop {
            canvas.draw(&mut view, &tags, title, trouble.as_deref())?;
            match canvas.wait(&mut view, Duration::from_secs(args.every))? {
                Wait::Moved => {}
                Wait::Quit => return Ok(()),
                Wait::Over => match all(args, socket) {
                    Ok(now) => (tags, trouble) = (now.tags, None),
                    // It may be restarting; the old values are shown as such.
                    Err(error) => trouble = Some(crate::causes::chain(&error)),
                },
            }
        }
    };
    printed(draw())
}

/// What the daemon said.
struct Found {
    tags: Vec<TagReport>,
    starting: bool,
}

/// Every page, once the daemon knows its tags.
fn all(args: &TagsArgs, socket: &Path) -> Result<Found, AskError> {
    let mut client = Client::connect(socket)?;
    let begun = Instant::now();
    let (mut tags, mut after) = (Vec::new(), None);
    loop {
        let query = TagQuery { pattern: args.pattern.clone(), after: after.clone(), limit: None };
        let page = client.tags(query)?;
        if page.starting && begun.elapsed() < STARTS_WITHIN {
            std::thread::sleep(Duration::from_millis(50));
            continue;
        }
        tags.extend(page.tags);
        after = page.next;
        if after.is_none() {
            return Ok(Found { tags, starting: page.starting });
        }
    }
}

struct Screen {
    json: bool,
    colour: bool,
    /// Print only what differs from what was printed before.
    changes: bool,
    /// The width of the terminal, where it is one.
    columns: Option<usize>,
    seen: HashMap<String, Seen>,
}

/// What must differ for a tag to be printed again.
#[derive(PartialEq)]
struct Seen {
    v: serde_json::Value,
    q: String,
    why: Option<String>,
    ts: Option<i64>,
}

impl Screen {
    fn show(&mut self, out: &mut impl Write, tags: &[TagReport]) -> io::Result<()> {
        let tags: Vec<&TagReport> = tags.iter().filter(|tag| self.is_news(tag)).collect();
        if self.json {
            for tag in tags {
                json(out, tag)?;
            }
            return out.flush();
        }
        if self.changes {
            for tag in tags {
                let [path, value, unit, quality, _] = cells(tag).map(|(text, _)| text);
                let line = format!("{path} {value} {unit} {quality}");
                writeln!(out, "{}", terminal::tame(line.trim_end()))?;
            }
            return out.flush();
        }
        if !tags.is_empty() {
            self.table(&tags).write(out, 0, self.colour)?;
        }
        out.flush()
    }

    /// The tags as a table that fits the terminal, as far as cutting long values can make it fit.
    fn table(&self, tags: &[&TagReport]) -> Table {
        let build = |longest: usize| {
            let mut table = Table::new(&[
                ("TAG", Align::Left),
                ("VALUE", Align::Right),
                ("UNIT", Align::Left),
                ("QUALITY", Align::Left),
                ("AGE", Align::Right),
            ]);
            for tag in tags {
                let [path, (value, tone), rest @ ..] = cells(tag);
                let value = (terminal::cut(terminal::tame(&value), longest), tone);
                let [unit, quality, age] = rest;
                table.row([path, value, unit, quality, age]);
            }
            table
        };
        let Some(columns) = self.columns else { return build(USUAL_VALUE) };
        let width = |table: &Table| {
            table.lines(0, false).iter().map(|line| line.chars().count()).max().unwrap_or(0)
        };
        let table = build(columns);
        match width(&table).saturating_sub(columns) {
            0 => table,
            _ => {
                // Without values the rest takes this much.
                let others = width(&build(0)).max(1);
                build(columns.saturating_sub(others).max(MIN_VALUE))
            }
        }
    }

    fn is_news(&mut self, tag: &TagReport) -> bool {
        if !self.changes {
            return true;
        }
        let ts = tag.time.map(tidegate_translator::Timestamp::as_millis);
        let now = Seen { v: tag.v.clone(), q: tag.q.clone(), why: tag.why.clone(), ts };
        if self.seen.get(&tag.path) == Some(&now) {
            return false;
        }
        self.seen.insert(tag.path.clone(), now);
        true
    }
}

/// Path, value, unit, quality, age.
fn cells(tag: &TagReport) -> [(String, Tone); 5] {
    let age = tag.age_ms.map(|ms| age(Duration::from_millis(ms)));
    [
        (tag.path.clone(), Tone::Plain),
        (terminal::value(&tag.v), Tone::Strong),
        (tag.unit.clone().unwrap_or_default(), Tone::Plain),
        terminal::quality(&tag.q, tag.why.as_deref()),
        (age.unwrap_or_else(|| "never".to_owned()), Tone::Faint),
    ]
}

#[cfg(test)]
mod tests {
    use tidegate_translator::{Reason, Sample, TagId, Timestamp, Value};

    use super::*;
    use crate::observe::state::tests::board;
    use crate::observe::state::{Board, Pattern};

    fn rows(board: &Board) -> Vec<TagReport> {
        board.tags(&Pattern::all(), None, 100).tags
    }

    fn screen(json: bool, changes: bool) -> Screen {
        Screen { json, colour: false, changes, columns: None, seen: HashMap::new() }
    }

    fn shown(screen: &mut Screen, tags: &[TagReport]) -> String {
        let mut out = Vec::new();
        screen.show(&mut out, tags).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_shows_value_unit_quality_and_age() {
        let board = board();
        board.note_samples(&[
            Sample::good(TagId(1), Timestamp(0), Value::F32(72.3)),
            Sample::bad(TagId(2), Timestamp(0), Reason::Timeout, 0),
        ]);
        let table = shown(&mut screen(false, false), &rows(&board));
        assert_eq!(
            table,
            "TAG                        VALUE  UNIT  QUALITY                AGE\n\
             PlantA/Press1/running          –  degC  bad (timeout)        0.0 s\n\
             PlantA/Press1/temperature   72.3  degC  good                 0.0 s\n\
             PlantA/Press2/temperature      –  degC  bad (not-connected)  never\n"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_structure_does_not_make_the_table_wider_than_the_terminal() {
        let board = board();
        let json = format!("[{}7]", "7,".repeat(2000));
        board.note_samples(&[
            Sample::good(TagId(1), Timestamp(0), Value::Json(json.into())),
            Sample::good(TagId(2), Timestamp(0), Value::F32(72.3)),
        ]);
        let rows = rows(&board);
        let mut screen = screen(false, false);
        let widest = |screen: &mut Screen| {
            let table = shown(screen, &rows);
            assert!(
                table.contains("72.3") && table.contains("[7,7,") && table.contains("…"),
                "{table}"
            );
            table.lines().map(|line| line.chars().count()).max().unwrap()
        };
        assert!(widest(&mut screen) < 64 + 70);
        screen.columns = Some(80);
        assert!((70..=80).contains(&widest(&mut screen)));
        // Narrower than the paths: the beginning of each value is shown nevertheless.
        screen.columns = Some(20);
        widest(&mut screen);
    }

    #[tokio::test(start_paused = true)]
    async fn watching_without_a_terminal_prints_only_what_changed() {
        let board = board();
        let mut screen = screen(true, true);
        assert_eq!(shown(&mut screen, &rows(&board)).lines().count(), 3);
        assert_eq!(shown(&mut screen, &rows(&board)), "");
        board.note_samples(&[Sample::good(TagId(1), Timestamp(7_000_000), Value::I64(1))]);
        let line = shown(&mut screen, &rows(&board));
        let tag: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&tag["path"], &tag["ts"]), (&"PlantA/Press1/temperature".into(), &7.into()));
        assert_eq!(shown(&mut screen, &rows(&board)), "");
    }
}
