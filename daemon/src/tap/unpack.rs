//! Messages of one gateway in, samples that are meant out, each with the name of its tag.
//!
//! # Invariants
//! - The order within an epoch is that of the messages: what stands behind a frame with a tag that
//!   nobody has named yet waits with it, up to [`MAX_WAITING`].
//! - Beyond that, and at the end, such samples are given with their tags' numbers.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use tidegate_journal::{Epoch, Frame, FrameError, Kind, Stamp, frame};
use tidegate_record::samples::{Run, Scanner, TagSet};
use tidegate_record::{Catalog, CatalogEntry, CatalogPart};
use tidegate_translator::{Sample, TagId};

use super::Choice;
use crate::names::GatewayId;

/// Bytes of frames that may wait for the catalog frame that names their tags.
const MAX_WAITING: usize = 16 * 1024 * 1024;

/// The first few tell what is wrong; a damaged record could tell it for ever.
const MAX_SAID: usize = 20;

/// Samples of one frame, in the order of their sequence numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// The journal that they are of.
    pub epoch: Epoch,
    /// All sequence numbers of the frame, chosen or not.
    pub seqs: std::ops::Range<u64>,
    /// When the frame was made.
    pub stamp: Stamp,
    /// Where its message stands in the stream.
    pub place: u64,
    /// Those that are meant, each with its sequence number.
    pub samples: Vec<(u64, Sample)>,
}

/// What a person should know of the reading.
#[derive(Debug, Clone, Default)]
pub struct Said {
    lines: Vec<String>,
    left_off: u64,
}

impl Said {
    /// Takes a line in, unless there are many.
    pub fn say(&mut self, line: String) {
        if self.lines.len() >= MAX_SAID {
            self.left_off += 1;
        } else if !self.lines.contains(&line) {
            self.lines.push(line);
        }
    }

    /// Every line, and how many more there would be.
    #[must_use]
    pub fn take(&mut self) -> Vec<String> {
        let mut lines = std::mem::take(&mut self.lines);
        if self.left_off > 0 {
            lines.push(format!("{} more of this kind", std::mem::take(&mut self.left_off)));
        }
        lines
    }
}

/// What is known of one gateway's record.
#[derive(Debug)]
pub struct Unpacker {
    gateway: GatewayId,
    choice: Arc<Choice>,
    epochs: HashMap<Epoch, Known>,
    scanner: Scanner,
    /// Frames of which a tag is not known yet, and everything behind them.
    waiting: VecDeque<(u64, Bytes)>,
    waiting_bytes: usize,
    /// Whether the record has come past the end of the range.
    past: bool,
    said: Said,
}

#[derive(Debug, Default)]
struct Known {
    catalog: Catalog,
    chosen: HashMap<TagId, bool>,
}

impl Known {
    /// Whether a tag is meant; `None` while it has no name.
    fn chosen(&mut self, tag: TagId, choice: &Choice) -> Option<bool> {
        if let Some(known) = self.chosen.get(&tag) {
            return Some(*known);
        }
        let path = &self.catalog.resolve(tag)?.path;
        let chosen = choice.has_tag(path.as_str());
        self.chosen.insert(tag, chosen);
        Some(chosen)
    }
}

impl Unpacker {
    /// Knows nothing of the gateway yet.
    #[must_use]
    pub fn new(gateway: GatewayId, choice: Arc<Choice>) -> Self {
        Self {
            gateway,
            choice,
            epochs: HashMap::new(),
            scanner: Scanner::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            past: false,
            said: Said::default(),
        }
    }

    /// What a number stands for.
    #[must_use]
    pub fn entry(&self, epoch: Epoch, tag: TagId) -> Option<&CatalogEntry> {
        self.epochs.get(&epoch)?.catalog.resolve(tag)
    }

    /// Whether frames wait for the names of their tags.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether nothing that comes behind can be within the range.
    #[must_use]
    pub const fn is_past(&self) -> bool {
        self.past
    }

    /// What there is to say.
    pub const fn said(&mut self) -> &mut Said {
        &mut self.said
    }

    /// Takes a message in, and appends what is in it, or came to have a name with it.
    pub fn message(&mut self, place: u64, payload: &Bytes, out: &mut Vec<Block>) {
        self.each_frame(payload, |unpacker, found, bytes| {
            if found.kind == Kind::Catalog {
                unpacker.catalog(found);
                unpacker.pour(false, out);
                return;
            }
            if found.kind != Kind::Samples {
                return;
            }
            unpacker.past |= unpacker.choice.is_past(&found.header);
            if !unpacker.waiting.is_empty() || !unpacker.samples(place, found, false, out) {
                unpacker.waiting_bytes += bytes.len();
                unpacker.waiting.push_back((place, bytes));
                unpacker.pour(false, out);
            }
        });
    }

    /// Takes in the names of tags alone: the message stands before what is read.
    pub fn learn(&mut self, payload: &Bytes) {
        self.each_frame(payload, |unpacker, found, _| {
            if found.kind == Kind::Catalog {
                unpacker.catalog(found);
            }
        });
    }

    /// Gives what waited and has names now; with `all`, or when too much waits, the rest under the
    /// numbers of its tags.
    pub fn pour(&mut self, all: bool, out: &mut Vec<Block>) {
        while let Some((place, bytes)) = self.waiting.front().cloned() {
            let nameless = all || self.waiting_bytes > MAX_WAITING;
            if let Ok(found) = frame::decode(&bytes)
                && !self.samples(place, &found, nameless, out)
            {
                return;
            }
            self.waiting.pop_front();
            self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes.len());
        }
    }

    fn each_frame(&mut self, payload: &Bytes, mut visit: impl FnMut(&mut Self, &Frame<'_>, Bytes)) {
        let mut at = 0;
        while let Some(rest) = payload.get(at..).filter(|rest| !rest.is_empty()) {
            let length = match frame::decode(rest) {
                Ok(found) => {
                    let length = found.bytes.len();
                    if self.is_ours(&found) {
                        visit(self, &found, payload.slice(at..at + length));
                    }
                    length
                }
                Err(error @ FrameError::NeedsNewer { length, .. }) => {
                    self.said.say(format!("{}: {error}", self.gateway));
                    length
                }
                Err(error) => {
                    let text = "bytes that are no frame were left out";
                    self.said.say(format!("{}: {text}: {error}", self.gateway));
                    return;
                }
            };
            at += length;
        }
    }

    fn is_ours(&mut self, found: &Frame<'_>) -> bool {
        let (plant, gateway) = (&found.header.plant, &found.header.gateway);
        let ours = *plant == self.gateway.plant.as_str() && *gateway == self.gateway.name.as_str();
        if !ours {
            let text = format!("frames of {plant}/{gateway} under its subject were left out");
            self.said.say(format!("{}: {text}", self.gateway));
        }
        ours
    }

    fn catalog(&mut self, found: &Frame<'_>) {
        let known = self.epochs.entry(found.header.epoch).or_default();
        let part = CatalogPart::decode(found.body).map_err(|error| error.to_string());
        let applied =
            part.and_then(|part| known.catalog.apply(&part).map_err(|error| error.to_string()));
        if let Err(why) = applied {
            let number = found.header.number;
            self.said.say(format!("{}: catalog frame {number}: {why}", self.gateway));
        }
    }

    /// Appends a frame's samples; `false` when a tag has no name and `nameless` is not allowed.
    fn samples(
        &mut self,
        place: u64,
        found: &Frame<'_>,
        nameless: bool,
        out: &mut Vec<Block>,
    ) -> bool {
        let header = &found.header;
        let known = self.epochs.entry(header.epoch).or_default();
        let choice = &self.choice;
        let (mut samples, mut unnamed) = (Vec::new(), false);
        let scanned = self.scanner.scan(found, &TagSet::all(), |run: &Run<'_>| {
            match known.chosen(run.tag, choice) {
                Some(true) => {}
                Some(false) => return,
                None => {
                    unnamed = true;
                    // No pattern can mean a tag without a name.
                    if !nameless || !choice.tags.is_empty() {
                        return;
                    }
                }
            }
            for index in 0..run.len() {
                let meant = run.acquired.get(index).is_some_and(|at| choice.has_time(*at));
                if meant && let Some(sample) = run.sample(index) {
                    samples.push((run.seq(index), sample));
                }
            }
        });
        if let Err(error) = scanned {
            self.said.say(format!("{}: samples of frame {}: {error}", self.gateway, header.number));
            return true;
        }
        if unnamed && !nameless {
            return false;
        }
        if unnamed && !choice.tags.is_empty() {
            let text = "samples of tags whose names are no longer kept were left out";
            self.said.say(format!("{}: {text}", self.gateway));
        }
        out.push(Block {
            epoch: header.epoch,
            seqs: header.first_seq..header.next_seq(),
            stamp: header.stamp(),
            place,
            samples,
        });
        true
    }
}
