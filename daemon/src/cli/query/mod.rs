//! `tidegate query` and `tidegate read`: questions to gateways from wherever one is.
//!
//! # Invariants
//! - What is missing is said at the end, by name: owners that are away, answers that broke off, gaps
//!   of the record. The exit code says whether there is any.
//! - Rows are written as they come; memory does not grow with their number.
//! - Whoever reads slowly slows the owners down and loses nothing: the connection lives on a thread
//!   of its own while the output waits.

mod told;
mod when;

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tidegate_query::{
    Aggregate, History, LossesQuestion, Op, Page, PartialCause, ProveQuestion, ReadQuestion, Wish,
    parse_span,
};
use tokio::time::MissedTickBehavior;

use super::exit::{self, Failure};
use super::terminal;
use crate::asker::{Asked, Asker, AskerError, Merged, Order, Owners, ReachArgs, Report, Wanted};
use crate::causes::chain;
use crate::sheet::{Format, Layout, Output, Shape, Sheet, SheetError};

/// How often progress is shown.
const SHOW_EVERY: Duration = Duration::from_millis(500);
/// How long devices have for a fresh value, where nobody says.
const FRESH_WITHIN: &str = "5s";

/// Ask gateways for history, latest values and losses, from any site
#[derive(Debug, Clone, clap::Args)]
pub struct QueryArgs {
    /// How a leaf or a hub is reached.
    #[command(flatten)]
    pub reach: ReachArgs,
    /// Whom to ask, and how the answer is written.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Tags: a path and everything below it, or a pattern with * and **, such as 'PlantA/Line3/**'
    #[arg(value_name = "PATTERN")]
    pub tags: Vec<String>,
    /// What to ask for; history with --from or --at, latest values otherwise
    #[arg(long, value_enum, value_name = "WHAT")]
    pub what: Option<What>,
    /// Where the range begins: -12h, 2026-09-21T14:00Z, 2026-09-21T14:00[Europe/Berlin]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub from: Option<String>,
    /// Where it ends; the present otherwise
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, requires = "from")]
    pub to: Option<String>,
    /// Instead of a range: the last sample of each tag at or before this moment
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, conflicts_with_all = ["from", "every"])]
    pub at: Option<String>,
    /// The step of buckets, such as 5m; single samples otherwise
    #[arg(long, value_name = "SPAN", requires = "from", value_parser = span)]
    pub every: Option<String>,
    /// What a bucket tells, with commas; min, max, avg and last otherwise
    #[arg(long, value_name = "WHAT", value_delimiter = ',', requires = "every", value_parser = aggregate)]
    pub agg: Vec<Aggregate>,
    /// At most this many rows
    #[arg(long, value_name = "ROWS")]
    pub limit: Option<u64>,
}

/// Read values from devices now, past every cache, from any site
#[derive(Debug, Clone, clap::Args)]
pub struct ReadArgs {
    /// How a leaf or a hub is reached.
    #[command(flatten)]
    pub reach: ReachArgs,
    /// Whom to ask, and how the answer is written.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Tags: a path and everything below it, or a pattern with * and **
    #[arg(value_name = "PATTERN", required = true)]
    pub tags: Vec<String>,
    /// How long devices may take
    #[arg(long, value_name = "SPAN", default_value = FRESH_WITHIN, value_parser = span)]
    pub within: String,
}

/// Whom to ask, and how the answer is written.
#[derive(Debug, Clone, clap::Args)]
pub struct CommonArgs {
    /// Only these gateways, PLANT/NAME or a pattern such as 'PlantA/*'; can be repeated
    #[arg(long, value_name = "PLANT/NAME")]
    pub gateway: Vec<String>,
    /// How rows are written
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Write rows to a file
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Print one JSON object: rows, summary, owners
    #[arg(long, conflicts_with_all = ["format", "output"])]
    pub json: bool,
    /// Say nothing but what is missing
    #[arg(long)]
    pub quiet: bool,
}

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum What {
    /// What the record holds
    History,
    /// Latest values, from memory
    Latest,
    /// Which tags there are
    Tags,
    /// What is not in the record, and why
    Losses,
    /// How devices are doing
    Devices,
    /// How gateways are doing
    Status,
    /// The gateways' own side of the proof
    Prove,
}

fn span(text: &str) -> Result<String, String> {
    match parse_span(text) {
        Some(nanos) if nanos > 0 => Ok(text.to_owned()),
        _ => Err("write a span such as 30s, 5m or 1h30m".to_owned()),
    }
}

fn aggregate(text: &str) -> Result<Aggregate, String> {
    let quoted = serde_json::Value::String(text.to_owned());
    serde_json::from_value(quoted).map_err(|_| "min, max, avg, last or count".to_owned())
}

/// A question that was made of arguments.
struct Made {
    asked: Asked,
    order: Order,
    shape: Shape,
    limit: Option<u64>,
    tags: Vec<String>,
}

/// Runs `tidegate query`: 0 all is there, 1 something is missing or nothing is meant, 2 the question
/// cannot be answered as it is, 69 no server can be reached, 73 the output cannot be written.
#[must_use]
pub fn query(args: &QueryArgs) -> ExitCode {
    let made = when::now(SystemTime::now()).and_then(|now| question(args, now));
    ended(made.and_then(|made| run(made, &args.reach, &args.common)))
}

/// Runs `tidegate read`; the exit codes are those of [`query`].
#[must_use]
pub fn read(args: &ReadArgs) -> ExitCode {
    let question = ReadQuestion { tags: args.tags.clone() };
    let mut asked = Asked::new(Op::Read, &question, asker());
    let nanos = parse_span(&args.within).and_then(|nanos| u64::try_from(nanos).ok());
    asked.within = nanos.map(Duration::from_nanos);
    let made = Made {
        asked,
        order: Order::Path,
        shape: Shape::Read,
        limit: None,
        tags: args.tags.clone(),
    };
    ended(run(made, &args.reach, &args.common))
}

fn ended(code: Result<u8, Failure>) -> ExitCode {
    match code {
        Ok(code) => ExitCode::from(code),
        Err(failure) => failure.told(),
    }
}

/// The question that the arguments ask, seen from `now`. All owners are asked for one range, whatever
/// their clocks say.
fn question(args: &QueryArgs, now: i64) -> Result<Made, Failure> {
    let at = |option: &str, text: &Option<String>| -> Result<Option<Wish>, Failure> {
        let read = text.as_deref().map(|text| when::read(text, now));
        read.transpose().map_err(|error| Failure::new(exit::USAGE, format!("{option}: {error}")))
    };
    let (from, to, moment) =
        (at("--from", &args.from)?, at("--to", &args.to)?, at("--at", &args.at)?);
    let ranged = from.is_some() || moment.is_some();
    let what = args.what.unwrap_or(if ranged { What::History } else { What::Latest });
    let usage = |text: &str| Err(Failure::new(exit::USAGE, text.to_owned()));
    match what {
        What::History if !ranged => {
            return usage("history needs --from, such as --from -12h, or --at");
        }
        What::History | What::Losses => {}
        _ if ranged => return usage("--from and --at are for history and losses"),
        _ => {}
    }
    if what == What::Losses && (moment.is_some() || args.every.is_some()) {
        return usage("--at and --every are for history");
    }
    let limit = args.limit;
    let tags = if args.tags.is_empty() { vec!["**".to_owned()] } else { args.tags.clone() };
    let page = || Page { tags: args.tags.clone(), limit, ..Page::default() };
    let (asked, order, shape) = match what {
        What::History => {
            let (every, agg) = (args.every.clone(), args.agg.clone());
            let (order, shape) = match (&moment, &every) {
                (Some(_), _) => (Order::Path, Shape::At),
                (None, Some(_)) => (Order::From, Shape::Buckets),
                (None, None) => (Order::Acquired, Shape::Samples),
            };
            let at = moment;
            let history = History { tags, from, to, at, every, agg, limit, after: None };
            (asked(Op::History, &history), order, shape)
        }
        What::Latest => (asked(Op::Latest, &page()), Order::Path, Shape::Latest),
        What::Tags => (asked(Op::Tags, &page()), Order::Path, Shape::Tags),
        What::Losses => {
            let tags = args.tags.clone();
            let losses = LossesQuestion { tags, from, to, limit, after: None };
            (asked(Op::Losses, &losses), Order::From, Shape::Losses)
        }
        What::Devices => (asked(Op::Devices, &()), Order::Owner, Shape::Any),
        What::Status => (asked(Op::Status, &()), Order::Owner, Shape::Any),
        What::Prove => {
            let prove = ProveQuestion { verify: false };
            (asked(Op::Prove, &prove), Order::Owner, Shape::Any)
        }
    };
    Ok(Made { asked, order, shape, limit, tags: args.tags.clone() })
}

fn asked(op: Op, question: &impl Serialize) -> Asked {
    Asked::new(op, question, asker())
}

/// Who asks, for the owners' audits.
fn asker() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_default();
    let user: String = user.chars().filter(|c| c.is_ascii_graphic()).take(32).collect();
    if user.is_empty() { "tidegate query".to_owned() } else { format!("{user}, tidegate query") }
}

fn run(made: Made, reach: &ReachArgs, common: &CommonArgs) -> Result<u8, Failure> {
    // While the output waits, the connection goes on.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(exit::NO, format!("no runtime: {error}")))?;
    runtime.block_on(converse(made, reach, common))
}

async fn converse(made: Made, reach: &ReachArgs, common: &CommonArgs) -> Result<u8, Failure> {
    let asker = Asker::connect(reach).await?;
    let wanted = Wanted { tags: made.tags.clone(), gateways: common.gateway.clone() };
    let owners = asker.owners(&wanted).await?;
    let mut err = std::io::stderr();
    if owners.asked.is_empty() {
        told::owners(&owners, &mut err);
        return Err(Failure::new(exit::NO, "no gateway is meant; tidegate query --what tags lists what there is, --gateway names one".to_owned()));
    }
    let several = owners.asked.len() > 1;
    let answers = asker.ask(made.asked.clone(), &owners.asked);
    let mut merged = answers.merged(made.order);
    if let Some(limit) = made.limit {
        merged = merged.at_most(limit);
    }
    let mut sink = Sink::open(common, made.shape, several)?;
    let poured = pour(&mut merged, &mut sink, &owners, several, common.quiet).await;
    let report = merged.finish();
    // Owners that still work are told to stop.
    asker.finish().await;
    let enough = match poured {
        Err(error) if error.is_broken_pipe() => return Ok(exit::OK),
        Err(error) => return Err(Failure::new(exit::DISK, chain(&error))),
        Ok(end) => end,
    };
    if let Err(error) = sink.finish(&report, &owners) {
        return match error.is_broken_pipe() {
            true => Ok(exit::OK),
            false => Err(Failure::new(exit::DISK, chain(&error))),
        };
    }
    told::owners(&owners, &mut err);
    told::report(&report, common.quiet, &mut err);
    Ok(code(&report, &owners, made.limit, enough))
}

/// Why no more rows come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// There are no more.
    All,
    /// The person has had enough.
    Interrupted,
}

fn code(report: &Report, owners: &Owners, limit: Option<u64>, end: End) -> u8 {
    if let Some(refusal) = report.refusal() {
        // What was asked cannot be answered, or there is nothing of that name.
        return if matches!(refusal.code.number(), 400 | 413 | 422) {
            exit::USAGE
        } else {
            exit::NO
        };
    }
    let as_asked = matches!(report.summary.partial, None | Some(PartialCause::Rows))
        && (report.is_whole() || limit.is_some());
    let all_asked = owners.left_out.is_empty() && !owners.incomplete;
    if as_asked && all_asked && end == End::All { exit::OK } else { exit::NO }
}

async fn pour(
    merged: &mut Merged,
    sink: &mut Sink,
    owners: &Owners,
    several: bool,
    quiet: bool,
) -> Result<End, SheetError> {
    let mut progress = told::Progress::new(!quiet && std::io::stderr().is_terminal());
    let mut tick = tokio::time::interval(SHOW_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let names: Vec<String> = owners.asked.iter().map(ToString::to_string).collect();
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    let end = loop {
        tokio::select! {
            biased;
            _ = &mut interrupted => break End::Interrupted,
            _ = tick.tick() => {
                progress.show(merged);
                sink.flush()?;
            }
            row = merged.next() => {
                let Some(row) = row else { break End::All };
                let gateway = names.get(row.owner).filter(|_| several);
                sink.row(gateway.map(String::as_str), row.json.get())?;
            }
        }
    };
    progress.clear();
    Ok(end)
}

/// Where rows go.
enum Sink {
    Sheet(Box<Sheet>, Output),
    /// One JSON object, and how many rows it has.
    Object(std::io::BufWriter<std::io::Stdout>, u64),
}

impl Sink {
    fn open(common: &CommonArgs, shape: Shape, gateway: bool) -> Result<Self, Failure> {
        let failed = |error: &SheetError| Failure::new(exit::DISK, chain(error));
        if common.json {
            let mut out = std::io::BufWriter::new(std::io::stdout());
            out.write_all(b"{\"rows\":[").map_err(|error| failed(&error.into()))?;
            return Ok(Self::Object(out, 0));
        }
        let place = common.output.as_deref();
        let (output, out) = Output::open(place, common.format).map_err(|error| {
            let place = place.map(|path| path.display().to_string()).unwrap_or_default();
            Failure::new(exit::DISK, format!("{place} cannot be written: {error}"))
        })?;
        let colour = place.is_none() && terminal::colour(std::io::stdout().is_terminal());
        let layout = Layout { gateway, colour, ..Layout::of(shape) };
        let sheet = Sheet::open(common.format, layout, out).map_err(|error| failed(&error))?;
        Ok(Self::Sheet(Box::new(sheet), output))
    }

    fn row(&mut self, gateway: Option<&str>, json: &str) -> Result<(), SheetError> {
        match self {
            Self::Sheet(sheet, _) => sheet.row(gateway, json),
            Self::Object(out, rows) => {
                out.write_all(if *rows > 0 { b",\n" } else { b"\n" })?;
                *rows += 1;
                match gateway {
                    Some(gateway) => {
                        out.write_all(crate::asker::named(gateway, json).as_bytes())?
                    }
                    None => out.write_all(json.as_bytes())?,
                }
                Ok(())
            }
        }
    }

    fn flush(&mut self) -> Result<(), SheetError> {
        match self {
            Self::Sheet(sheet, _) => sheet.flush(),
            Self::Object(out, _) => Ok(out.flush()?),
        }
    }

    fn finish(self, report: &Report, owners: &Owners) -> Result<(), SheetError> {
        match self {
            Self::Sheet(sheet, output) => {
                sheet.finish()?;
                Ok(output.finish()?)
            }
            Self::Object(mut out, _) => {
                let rest = serde_json::to_string(&told::Rest::of(report, owners))
                    .map_err(std::io::Error::from)?;
                let rest = rest.strip_prefix('{').unwrap_or(&rest);
                writeln!(out, "\n],{rest}")?;
                Ok(out.flush()?)
            }
        }
    }
}

impl From<AskerError> for Failure {
    fn from(error: AskerError) -> Self {
        match error {
            AskerError::Access(error) => error.into(),
            AskerError::Ended { .. } => Self::new(exit::PEER, chain(&error)),
            AskerError::TooMany { .. } => Self::new(exit::USAGE, chain(&error)),
        }
    }
}

#[cfg(test)]
mod tests;
