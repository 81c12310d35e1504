//! `tidegate tap`: turns a gateway's frames at the hub back into samples.

use std::collections::{HashMap, VecDeque};
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;

use tidegate_journal::{Epoch, Frame, FrameError, Kind, frame};
use tidegate_record::{Catalog, CatalogPart, ClockBook, readings};

use super::exit;
use crate::hubread::{Access, HubStream};
use crate::names::GatewayId;
use crate::subjects;

/// Bytes of frames that may wait for the catalog frame that names their tags.
const MAX_WAITING: usize = 16 * 1024 * 1024;

/// Print a gateway's record from the hub, one sample per line, in the hub's order.
#[derive(Debug, Clone, clap::Args)]
pub struct TapArgs {
    /// How the hub is reached.
    #[command(flatten)]
    pub access: Access,
    /// The gateway, PLANT/NAME
    #[arg(long, value_name = "PLANT/NAME")]
    pub gateway: GatewayId,
    /// How a sample is written
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    pub format: Format,
    /// Go on with what arrives
    #[arg(long)]
    pub follow: bool,
    /// Add `corrected`: what `ts` would be had the gateway's clock been right all the time, as far
    /// as the record tells when it was set. Reads the record twice
    #[arg(long)]
    pub correct_times: bool,
}

/// How a sample is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One JSON object per line: path, epoch, seq, ts, acquired, v, q, and more where there is more
    Jsonl,
}

/// Runs it: 0 done, 69 the hub cannot be reached or read, 73 the output cannot be written.
#[must_use]
pub fn tap(args: &TapArgs) -> ExitCode {
    match exit::block_on(pour(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.told(),
    }
}

async fn pour(args: &TapArgs) -> Result<(), exit::Failure> {
    let client = args.access.connect().await?;
    let stream = HubStream::open(client, args.access.stream.clone()).await?;
    let frames = subjects::all_frames(&args.gateway);
    let mut tap = Tap::new(BufWriter::new(io::stdout().lock()), args.follow);
    if args.correct_times {
        // A clock that is set later says what the time was before.
        let mut clocks = ClockBook::new();
        stream
            .read(&frames, false, |stored, _| {
                observe(&mut clocks, &stored.payload);
                ControlFlow::Continue(())
            })
            .await?;
        tap.clocks = Some(clocks);
    }
    let mut failed = None;
    stream
        .read(&frames, args.follow, |stored, progress| {
            match tap.message(&stored.payload).and_then(|()| tap.flush_if(progress.at_end)) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        })
        .await?;
    let ended = failed.map_or_else(|| tap.finish(), Err);
    for said in &tap.said {
        let _ = writeln!(io::stderr(), "warning: {said}");
    }
    match ended {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(exit::Failure::new(exit::DISK, format!("output cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}

/// Takes in what the frames of a message say of the clock.
fn observe(clocks: &mut ClockBook, mut rest: &[u8]) {
    while !rest.is_empty() {
        let length = match frame::decode(rest) {
            Ok(found) => {
                clocks.observe(&found);
                found.bytes.len()
            }
            Err(FrameError::NeedsNewer { length, .. }) => length,
            Err(_) => return,
        };
        rest = rest.get(length..).unwrap_or_default();
    }
}

/// Frames in, lines out.
struct Tap<W> {
    out: W,
    follow: bool,
    /// What corrects times, where that is asked for.
    clocks: Option<ClockBook>,
    catalogs: HashMap<Epoch, Catalog>,
    /// Frames of which a tag is not known yet, and everything behind them.
    waiting: VecDeque<Vec<u8>>,
    waiting_bytes: usize,
    said: Vec<String>,
}

impl<W: Write> Tap<W> {
    fn new(out: W, follow: bool) -> Self {
        Self {
            out,
            follow,
            clocks: None,
            catalogs: HashMap::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            said: Vec::new(),
        }
    }

    fn message(&mut self, mut rest: &[u8]) -> io::Result<()> {
        while !rest.is_empty() {
            let length = match frame::decode(rest) {
                Ok(found) => {
                    self.frame(&found)?;
                    found.bytes.len()
                }
                Err(error @ FrameError::NeedsNewer { length, .. }) => {
                    self.say(error.to_string());
                    length
                }
                Err(error) => {
                    self.say(format!("bytes that are no frame were left out: {error}"));
                    return Ok(());
                }
            };
            rest = rest.get(length..).unwrap_or_default();
        }
        Ok(())
    }

    fn frame(&mut self, found: &Frame<'_>) -> io::Result<()> {
        if let Some(clocks) = &mut self.clocks {
            clocks.observe(found);
        }
        match found.kind {
            Kind::Catalog => {
                let catalog = self.catalogs.entry(found.header.epoch).or_default();
                let part = CatalogPart::decode(found.body).map_err(|error| error.to_string());
                let applied =
                    part.and_then(|part| catalog.apply(&part).map_err(|error| error.to_string()));
                if let Err(why) = applied {
                    self.say(format!("catalog frame {}: {why}", found.header.number));
                }
                self.pour_waiting(false)
            }
            Kind::Samples if self.waiting.is_empty() && self.print(found, false)? => Ok(()),
            Kind::Samples => {
                self.waiting_bytes += found.bytes.len();
                self.waiting.push_back(found.bytes.to_vec());
                self.pour_waiting(false)
            }
            _ => Ok(()),
        }
    }

    /// Prints what waited and can be named now; with `all`, or when too much waits, the rest under
    /// its tags' numbers.
    fn pour_waiting(&mut self, all: bool) -> io::Result<()> {
        while let Some(bytes) = self.waiting.front() {
            let length = bytes.len();
            let nameless = all || self.waiting_bytes > MAX_WAITING;
            let bytes = bytes.clone();
            if let Ok(found) = frame::decode(&bytes)
                && !self.print(&found, nameless)?
            {
                return Ok(());
            }
            self.waiting.pop_front();
            self.waiting_bytes = self.waiting_bytes.saturating_sub(length);
        }
        Ok(())
    }

    /// Prints a frame's samples; `false` when a tag is unknown and `nameless` is not allowed.
    fn print(&mut self, found: &Frame<'_>, nameless: bool) -> io::Result<bool> {
        let catalog = self.catalogs.entry(found.header.epoch).or_default();
        let samples = match readings(found, catalog) {
            Ok(samples) => samples,
            Err(error) => {
                let text = format!("samples of frame {}: {error}", found.header.number);
                self.say(text);
                return Ok(true);
            }
        };
        if !nameless && samples.iter().any(|reading| reading.entry.is_none()) {
            return Ok(false);
        }
        for reading in samples {
            let line = match &self.clocks {
                Some(clocks) => reading.corrected_json_line(clocks, &found.header),
                None => reading.json_line(),
            };
            writeln!(self.out, "{line}")?;
        }
        Ok(true)
    }

    /// Whoever follows wants each line when it is there.
    fn flush_if(&mut self, caught_up: bool) -> io::Result<()> {
        if self.follow && caught_up { self.out.flush() } else { Ok(()) }
    }

    fn finish(&mut self) -> io::Result<()> {
        self.pour_waiting(true)?;
        self.out.flush()
    }

    fn say(&mut self, text: String) {
        // The first few tell what is wrong; a damaged record could tell it for ever.
        if self.said.len() < 20 {
            self.said.push(text);
        }
    }
}
