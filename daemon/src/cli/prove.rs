//! `tidegate prove`: from the hub's copy alone, is everything there or named as lost?

use std::io::{IsTerminal as _, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_identity::load_trust;
use tidegate_journal::{DirStorage, Reader, Storage, inspect};
use tidegate_record::proof::{Filter, HubMessage, Ledger, LocalTail, Report};
use tidegate_translator::Clock as _;

use super::exit;
use crate::hubread::{Access, HubStream, Progress};
use crate::names::GatewayId;
use crate::notary::Certificates;
use crate::recorder::SystemClock;
use crate::subjects;

/// Prove from the hub's copy that nothing was lost, or name exactly what was.
#[derive(Debug, Clone, clap::Args)]
pub struct ProveArgs {
    /// How the hub is reached.
    #[command(flatten)]
    pub access: Access,
    /// The gateway, PLANT/NAME
    #[arg(long, value_name = "PLANT/NAME")]
    pub gateway: GatewayId,
    /// List only losses that lasted until here or longer, such as 2026-01-31T06:00:00Z
    #[arg(long, value_name = "TIME")]
    pub from: Option<jiff::Timestamp>,
    /// List only losses that began here or earlier
    #[arg(long, value_name = "TIME")]
    pub to: Option<jiff::Timestamp>,
    /// The gateway's journal, where it is at hand: then nothing beyond the watermark is unknown
    #[arg(long, value_name = "DIR")]
    pub journal: Option<PathBuf>,
    /// Certificates of the authority that vouches for gateways' signatures (PEM)
    #[arg(long, value_name = "FILE")]
    pub authority: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Runs it: 0 balanced, 1 not, 2 an authority that is none, 69 the hub cannot be reached or read, 73 the journal cannot be read.
#[must_use]
pub fn prove(args: &ProveArgs) -> ExitCode {
    let report = exit::block_on(look(args));
    let report = match report {
        Ok(report) => report,
        Err(failure) => return failure.told(),
    };
    let mut out = std::io::stdout().lock();
    let written = if args.json {
        serde_json::to_writer(&mut out, &report).map_err(Into::into).and_then(|()| writeln!(out))
    } else {
        write!(out, "{report}")
    };
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => ExitCode::from(exit::DISK),
        _ if report.verdict.is_balanced() => ExitCode::SUCCESS,
        _ => ExitCode::from(exit::NO),
    }
}

/// Reads the hub's copy and judges it.
///
/// # Errors
/// When hub or journal cannot be read.
pub(crate) async fn look(args: &ProveArgs) -> Result<Report, exit::Failure> {
    let nanos = |time: jiff::Timestamp| i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX);
    let filter = Filter { from: args.from.map(nanos), to: args.to.map(nanos) };
    let (plant, name) = (args.gateway.plant.as_str(), args.gateway.name.as_str());
    let notary = notary(args.authority.as_deref())?;
    let mut ledger = Ledger::new(plant, name, filter).with_notary(Box::new(notary));
    // Looked at before the hub is: what the journal has then, the hub may have by now.
    let journal = args.journal.as_deref().map(open_journal).transpose()?;
    let client = args.access.connect().await?;
    let stream = HubStream::open(client, args.access.stream.clone()).await?;
    let mut meter = Meter::new();
    let mut strangers = 0_u64;
    stream
        .read(&subjects::all_frames(&args.gateway), false, |stored, progress| {
            match subjects::epoch_of(&stored.subject) {
                Some(epoch) => ledger.observe(HubMessage {
                    stream_seq: stored.seq,
                    epoch,
                    bytes: &stored.payload,
                }),
                None => strangers += 1,
            }
            meter.show(progress);
            ControlFlow::Continue(())
        })
        .await?;
    meter.done();
    if strangers > 0 {
        let _ = writeln!(
            std::io::stderr(),
            "warning: {strangers} messages under subjects that name no epoch were left out"
        );
    }
    let tail = match (journal, args.journal.as_deref()) {
        // A gateway that runs goes on meanwhile, and the hub has what came since.
        (Some(reader), Some(dir)) if falls_short(&reader, &ledger) => {
            local_tail(&open_journal(dir)?, &ledger)
        }
        (reader, _) => reader.and_then(|reader| local_tail(&reader, &ledger)),
    };
    Ok(ledger.report(SystemClock.now().0, tail))
}

/// Who vouches for signatures.
fn notary(authority: Option<&Path>) -> Result<Certificates, exit::Failure> {
    let Some(path) = authority else { return Ok(Certificates::default()) };
    let failed = |error: &dyn std::error::Error| {
        let why = crate::causes::chain(error);
        exit::Failure::new(exit::USAGE, format!("--authority {}: {why}", path.display()))
    };
    let trust = load_trust(path).map_err(|error| failed(&error))?;
    Certificates::vouched_for_by(trust.certificates).map_err(|error| failed(&error))
}

fn open_journal(dir: &Path) -> Result<Reader, exit::Failure> {
    let failed = |error: &dyn std::error::Error| {
        exit::Failure::new(
            exit::DISK,
            format!("journal {} cannot be read: {}", dir.display(), crate::causes::chain(error)),
        )
    };
    if !dir.is_dir() {
        let text = format!("journal {} is not a directory", dir.display());
        return Err(exit::Failure::new(exit::DISK, text));
    }
    let storage = DirStorage::new(dir).map_err(|error| failed(&error))?;
    let storage: Arc<dyn Storage> = Arc::new(storage);
    let (reader, _) = inspect(&storage).map_err(|error| failed(&error))?;
    Ok(reader)
}

/// Whether the hub's copy ends behind what the journal had.
fn falls_short(reader: &Reader, ledger: &Ledger) -> bool {
    let Some((epoch, last)) = reader.durable() else { return true };
    ledger.watermark(epoch).is_some_and(|mark| mark.frame > last.frame)
}

/// Where the journal ends, and what it has where the hub's copy ends.
fn local_tail(reader: &Reader, ledger: &Ledger) -> Option<LocalTail> {
    let (epoch, last) = reader.durable()?;
    let at_watermark = ledger
        .watermark(epoch)
        .and_then(|mark| reader.position_of(epoch, mark.frame).ok().flatten())
        .map(|position| position.hash);
    Some(LocalTail { epoch, last: Some(last), at_watermark })
}

/// A line of progress for what takes longer than two seconds, on a terminal.
#[derive(Debug)]
pub(super) struct Meter {
    begun: Instant,
    shown: Option<Instant>,
    terminal: bool,
}

impl Meter {
    pub(super) fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { begun: Instant::now(), shown: None, terminal }
    }

    pub(super) fn show(&mut self, progress: Progress) {
        let quiet = self.shown.unwrap_or(self.begun + Duration::from_secs(2));
        if !self.terminal || Instant::now() < quiet {
            return;
        }
        self.shown = Some(Instant::now() + Duration::from_millis(200));
        let Progress { messages, bytes, share, .. } = progress;
        let (percent, read) = (share * 100.0, crate::config::size::format(bytes));
        let _ = write!(
            std::io::stderr(),
            "\r\x1b[Kreading: {percent:.0} %, {messages} messages, {read}"
        );
    }

    pub(super) fn done(&self) {
        if self.shown.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_journal::{ClockState, Codec, Draft, Journal, Kind, Read, Settings, Stamp};
    use tidegate_record::proof::Tail;

    use super::*;

    const STAMP: Stamp =
        Stamp { wall: (1, 1), mono: (1, 1), boot: [7; 16], clock: ClockState::Synchronised };

    fn append(journal: &mut Journal) {
        let draft =
            Draft { kind: Kind::Samples, codec: Codec::Plain, body: b"x", count: 1, stamp: STAMP };
        journal.append(&draft).unwrap();
        journal.commit().unwrap();
    }

    #[test]
    fn a_journal_that_goes_on_while_the_hub_is_read_is_still_the_one_of_the_hubs_copy() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Arc::new(DirStorage::new(dir.path()).unwrap());
        let settings = Settings::new("PlantA", "gw-1", 1 << 26);
        let (mut journal, _) = Journal::open(storage, settings, STAMP).unwrap();
        append(&mut journal);
        let before = open_journal(dir.path()).unwrap();
        append(&mut journal);
        let epoch = journal.epoch();
        let Read::Frames(batch) = journal.reader().read_from(epoch, 0, 1 << 20).unwrap() else {
            panic!("no frames");
        };
        let mut ledger = Ledger::new("PlantA", "gw-1", Filter::default());
        assert!(!falls_short(&before, &ledger), "the hub has nothing");
        ledger.observe(HubMessage { stream_seq: 1, epoch, bytes: &batch.bytes });
        assert!(falls_short(&before, &ledger));
        let again = open_journal(dir.path()).unwrap();
        assert!(!falls_short(&again, &ledger));
        let tail = |reader| ledger.report(0, local_tail(reader, &ledger)).epochs[0].tail;
        assert_eq!(tail(&before), Some(Tail::Conflicts), "what it must not be judged by");
        assert_eq!(tail(&again), Some(Tail::Agrees));
    }
}
