//! `tidegate tap`: turns frames at hubs back into samples.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use tidegate_query::{Pattern, Wish};
use tidegate_record::Reading;
use tidegate_translator::{Clock as _, Timestamp};

use super::exit::{self, Failure};
use super::prove::Meter;
use super::terminal;
use crate::causes::chain;
use crate::hubread::{Access, DEADLINE, Login, Progress, RecordReader};
use crate::names::{GatewayId, Name};
use crate::recorder::SystemClock;
use crate::sheet::{self, Layout, Output, Shape, Sheet, SheetError};
use crate::tap::{
    Choice, Fleet, FleetError, Republished, Sink, Source, SubjectTemplate, Target, Told, republish,
};

/// Print the record at a hub as samples, or publish them again.
#[derive(Debug, Clone, clap::Args)]
pub struct TapArgs {
    /// Paths, each for it and all below, or patterns: `*` within a segment, `**` across segments;
    /// every tag without one
    #[arg(value_name = "PATTERN")]
    pub tags: Vec<String>,
    /// How the hub is reached.
    #[command(flatten)]
    pub access: Access,
    /// A further copy of the record, for what the first one does not hold: its address and, where
    /// it is not the same, its stream; the login is the same
    #[arg(long, value_name = "URL[,STREAM]")]
    pub mirror: Vec<String>,
    /// A gateway, PLANT/NAME, or a pattern over such names; every gateway without it
    #[arg(long, value_name = "PLANT/NAME")]
    pub gateway: Vec<String>,
    /// Only samples acquired at this time or later, such as -12h or 2026-01-31T06:00:00Z
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub from: Option<Wish>,
    /// Only samples acquired before this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, conflicts_with = "follow")]
    pub to: Option<Wish>,
    /// How a sample is written
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    pub format: Format,
    /// The file to write to, instead of the standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Go on with what arrives
    #[arg(long)]
    pub follow: bool,
    /// Add `corrected`: what `ts` would be had the gateway's clock been right all the time, as far
    /// as the record tells when it was set. Reads the record twice
    #[arg(long)]
    pub correct_times: bool,
    /// Where `--format nats` publishes to.
    #[command(flatten)]
    pub target: TargetArgs,
}

/// Where samples are published again.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Options of --format nats")]
pub struct TargetArgs {
    /// The server to publish to, such as nats://127.0.0.1:4222
    #[arg(long, value_name = "URL")]
    pub to_server: Option<String>,
    /// The subject of a sample, such as plc.{path}; {plant} and {gateway} may be tokens of it
    #[arg(long, value_name = "SUBJECT")]
    pub subject: Option<SubjectTemplate>,
    /// The stream there; the one that takes the subjects without it. Nothing else may be
    /// published into it
    #[arg(long, value_name = "NAME")]
    pub to_stream: Option<String>,
    /// A context of the nats command line for it, by name
    #[arg(long, value_name = "NAME")]
    pub to_context: Option<String>,
    /// Credentials file for it
    #[arg(long, value_name = "FILE")]
    pub to_creds: Option<PathBuf>,
    /// Certificate authority to trust for it (PEM)
    #[arg(long, value_name = "FILE")]
    pub to_ca: Option<PathBuf>,
    /// Client certificate for it (PEM)
    #[arg(long, value_name = "FILE", requires = "to_key")]
    pub to_cert: Option<PathBuf>,
    /// Private key of that certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "to_cert")]
    pub to_key: Option<PathBuf>,
}

/// How a sample is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Aligned columns for people
    Table,
    /// One JSON object per line: path, epoch, seq, ts, acquired, v, q, and more where there is
    /// more
    Jsonl,
    /// A line of column names, then one line per sample (RFC 4180)
    Csv,
    /// Typed columns in compressed row groups, for pandas, DuckDB and the like
    Parquet,
    /// One message of JSON per sample, published into a stream that takes up exactly where it
    /// stopped
    Nats,
}

impl Format {
    const fn sheet(self) -> Option<sheet::Format> {
        match self {
            Self::Table => Some(sheet::Format::Table),
            Self::Jsonl => Some(sheet::Format::Jsonl),
            Self::Csv => Some(sheet::Format::Csv),
            Self::Parquet => Some(sheet::Format::Parquet),
            Self::Nats => None,
        }
    }
}

/// Runs it: 0 done, 1 stopped before the end or no gateway fits, 2 options that do not go together,
/// 69 a hub cannot be reached or read, 73 the output cannot be written.
#[must_use]
pub fn tap(args: &TapArgs) -> ExitCode {
    let ended = match args.format.sheet() {
        Some(format) => exit::block_on(pour(args, format)),
        None => exit::block_on(publish(args)),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.told(),
    }
}

/// How often a connection that is lost is made again.
const AGAIN: Option<usize> = Some(3);

fn usage(text: &str) -> Failure {
    Failure::new(exit::USAGE, text.to_owned())
}

/// What is meant, seen from the present.
fn choice(args: &TapArgs) -> Result<Choice, Failure> {
    let now = SystemClock.now().0;
    let at = |wish: Option<Wish>| wish.map(|wish| wish.seen_from(now));
    let mut choice = Choice {
        tags: args.tags.iter().map(|text| Pattern::new(text)).collect(),
        from: at(args.from),
        to: at(args.to),
        ..Choice::default()
    };
    if let (Some(from), Some(to)) = (choice.from, choice.to)
        && from >= to
    {
        return Err(usage("--from is not before --to; exchange them"));
    }
    args.gateway.iter().for_each(|text| choice.add_gateway(text));
    Ok(choice)
}

async fn source(access: &Access, again: Option<usize>) -> Result<Source, Failure> {
    let client = access.connect_again(again).await?;
    let reader = RecordReader::open(client, access.stream.clone(), DEADLINE).await?;
    let last = reader.state().await?.state.last_seq;
    Ok(Source { reader, last })
}

/// The copies of the record.
async fn sources(args: &TapArgs) -> Result<Vec<Source>, Failure> {
    let mut sources = vec![source(&args.access, AGAIN).await?];
    for mirror in &args.mirror {
        let (url, stream) = mirror.split_once(',').unwrap_or((mirror, ""));
        let mut access = args.access.clone();
        if !url.is_empty() {
            access.server = Some(url.to_owned());
        }
        if !stream.is_empty() {
            let wrong = |error| usage(&format!("--mirror {mirror}: {error}"));
            access.stream = Name::new(stream).map_err(wrong)?;
        }
        sources.push(source(&access, AGAIN).await?);
    }
    Ok(sources)
}

fn written(error: &SheetError) -> Failure {
    let code = if matches!(error, SheetError::NoParquet) { exit::USAGE } else { exit::DISK };
    Failure::new(code, chain(error))
}

async fn pour(args: &TapArgs, format: sheet::Format) -> Result<(), Failure> {
    let target = &args.target;
    if target.to_server.is_some() || target.subject.is_some() || target.to_context.is_some() {
        return Err(usage("--to-server, --to-context and --subject go with --format nats"));
    }
    let stdout = io::stdout();
    if format == sheet::Format::Parquet && args.output.is_none() && stdout.is_terminal() {
        return Err(usage("a terminal shows no Parquet; name a file with --output"));
    }
    let choice = choice(args)?;
    let layout = Layout {
        shape: Shape::Samples,
        gateway: choice.only().is_none(),
        corrected: args.correct_times,
        colour: args.output.is_none() && terminal::colour(stdout.is_terminal()),
    };
    let sources = sources(args).await?;
    let patterns = !choice.gateways.is_empty();
    let mut fleet = Fleet::open(choice, sources).await?;
    if patterns && fleet.gateways().next().is_none() {
        let text = "no gateway at the hub fits --gateway".to_owned();
        return Err(Failure::new(exit::NO, text));
    }
    if args.correct_times {
        fleet.learn_clocks().await?;
    }
    let opened = Output::open(args.output.as_deref(), format);
    let (output, out) = opened.map_err(|error| written(&error.into()))?;
    let sheet = Sheet::open(format, layout, out).map_err(|error| written(&error))?;
    let quiet = args.output.is_none() && stdout.is_terminal();
    let mut sink = Rows { sheet, meter: (!quiet).then(Meter::new) };
    let reading = async {
        fleet.pour(&mut sink).await?;
        if args.follow { fleet.follow(&mut sink).await } else { Ok(()) }
    };
    let ended = tokio::select! {
        ended = reading => Some(ended),
        _ = stopped() => None,
    };
    if let Some(meter) = &sink.meter {
        meter.done();
    }
    for said in fleet.said() {
        let _ = writeln!(io::stderr(), "warning: {said}");
    }
    let failed = match ended {
        Some(Err(FleetError::Sheet(error))) if error.is_broken_pipe() => return Ok(()),
        Some(Err(FleetError::Sheet(error))) => return Err(written(&error)),
        Some(Err(FleetError::Read(error))) => Some(Failure::from(error)),
        None if !args.follow => {
            let text = "stopped before the end; what was written is whole up to there".to_owned();
            Some(Failure::new(exit::NO, text))
        }
        Some(Ok(())) | None => None,
    };
    // What was read is worth something also when the rest cannot be.
    match sink.sheet.finish() {
        Err(error) if error.is_broken_pipe() => {}
        Err(error) => return Err(written(&error)),
        Ok(_) => output.finish().map_err(|error| written(&error.into()))?,
    }
    failed.map_or(Ok(()), Err)
}

/// Samples into a sheet.
struct Rows {
    sheet: Sheet,
    meter: Option<Meter>,
}

impl Sink for Rows {
    fn sample(
        &mut self,
        gateway: &GatewayId,
        reading: &Reading<'_>,
        corrected: Option<Timestamp>,
    ) -> Result<(), SheetError> {
        self.sheet.sample(gateway, reading, corrected)
    }

    fn caught_up(&mut self) -> Result<(), SheetError> {
        if let Some(meter) = self.meter.take() {
            meter.done();
        }
        self.sheet.flush()
    }

    fn progress(&mut self, progress: Progress) {
        if let Some(meter) = &mut self.meter {
            meter.show(progress);
        }
    }
}

async fn publish(args: &TapArgs) -> Result<(), Failure> {
    if args.output.is_some() || args.correct_times || !args.mirror.is_empty() {
        let text = "--output, --correct-times and --mirror do not go with --format nats";
        return Err(usage(text));
    }
    let target = &args.target;
    let Some(template) = &target.subject else {
        return Err(usage("--format nats needs --subject, such as plc.{path}"));
    };
    if target.to_server.is_none() && target.to_context.is_none() {
        return Err(usage("--format nats needs --to-server or --to-context"));
    }
    let choice = choice(args)?;
    // Whoever follows sits out every outage.
    let again = if args.follow { None } else { AGAIN };
    let source = source(&args.access, again).await?;
    let access = Access {
        server: target.to_server.clone(),
        login: Login {
            creds: target.to_creds.clone(),
            ca: target.to_ca.clone(),
            cert: target.to_cert.clone(),
            key: target.to_key.clone(),
            context: target.to_context.clone(),
            ..Login::default()
        },
        stream: args.access.stream.clone(),
    };
    let failed = |error: &dyn std::error::Error| Failure::new(exit::PEER, chain(error));
    let client = access.connect_again(again).await?;
    let target = Target::open(client, target.to_stream.as_deref(), template).await;
    let target = target.map_err(|error| failed(&error))?;
    let mut meter = Meter::new();
    let tell = |told: Told| match told {
        Told::Progress(progress) => meter.show(progress),
        Told::Trouble(text) => {
            meter.done();
            let _ = writeln!(io::stderr(), "warning: {text}");
        }
    };
    let publishing = republish(&source, choice, template, &target, args.follow, tell);
    let ended = tokio::select! {
        ended = publishing => Some(ended),
        _ = stopped() => None,
    };
    meter.done();
    match ended {
        Some(Ok(Republished { published, known })) => {
            let known = if known > 0 { format!("; {known} were there") } else { String::new() };
            let count = terminal::count(published, "sample");
            let _ = writeln!(io::stderr(), "{count} published{known}");
            Ok(())
        }
        Some(Err(error)) => Err(failed(&error)),
        None if args.follow => Ok(()),
        None => {
            let text = "stopped before the end; the same command goes on from there".to_owned();
            Err(Failure::new(exit::NO, text))
        }
    }
}

/// When somebody asks to stop.
async fn stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
