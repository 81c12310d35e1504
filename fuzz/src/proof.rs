//! The proof over whatever a hub's stream may hold, and what `tap` makes of it.
//!
//! The input is what a stream got: true frames in any order, some left out or twice, damaged ones,
//! forged ones whose checksum fits, and rubbish. Where nothing is forged, the verdict can be known.

use std::collections::BTreeSet;

use tidegate_journal::{Bridge, BridgeCause, Epoch, Kind, LossRecord, frame};
use tidegate_record::proof::{Filter, HubMessage, Ledger, LocalTail, Report, Verdict};
use tidegate_record::{Catalog, CatalogPart, readings};

use crate::chain::{START, Stored, base, loss, put_right};
use crate::recipe::Recipe;
use crate::{KIB, MIB, Target, at_most, seed};

pub(crate) const TARGET: Target = Target {
    name: "proof",
    run,
    seeds,
    words: &[b"\x00\xff", b"\x02\x01", b"\x06", b"TGFR"],
    memory: |length| at_most(8 * MIB + 16 * length),
    mutations: 150,
};

/// More than this is not sent.
const MOST_MESSAGES: u64 = 80;
/// Larger messages take long to decode and are made of the same frames.
const LARGEST_TAPPED: usize = 6000;
/// Lists are capped, and so is what is said of them.
const LONGEST_TEXT: usize = 512 * KIB;

fn run(bytes: &[u8]) {
    let mut stream = Stream::default();
    stream.fill(&mut Recipe(bytes));
    let filter = match bytes.len() % 3 {
        0 => Filter { from: Some(START + 5_000_000_000), to: Some(START + 9_000_000_000) },
        _ => Filter::default(),
    };
    let mut ledger = Ledger::new("PlantA", "gw-1", filter);
    for (stream_seq, (epoch, message)) in (1..).zip(&stream.messages) {
        ledger.observe(HubMessage { stream_seq, epoch: *epoch, bytes: message });
        if message.len() < LARGEST_TAPPED {
            tap(message);
        }
    }
    let now = START + 1_000_000_000_000;
    let report = ledger.report(now, None);
    say(&report);
    stream.judge(&report);
    let end = base().frames.last().unwrap();
    let header = frame::decode(&end.bytes).unwrap().header;
    let tail = LocalTail {
        epoch: base().epoch,
        last: Some(tidegate_journal::Position {
            frame: end.number,
            next_seq: header.next_seq(),
            hash: end.hash,
        }),
        at_watermark: ledger
            .watermark(base().epoch)
            .and_then(|at| base().frames.get(usize::try_from(at.frame).ok()?))
            .map(|it| it.hash),
    };
    let with_tail = ledger.report(now, Some(tail));
    say(&with_tail);
    // The gateway's own word can make a proof better than "up to the watermark", never whole
    // where the copy is not.
    if report.verdict == Verdict::Unbalanced {
        assert_ne!(with_tail.verdict, Verdict::Balanced);
    }
}

/// The report can be said to people and to programs, at a bounded length.
fn say(report: &Report) {
    let text = report.to_string();
    assert!(text.len() <= LONGEST_TEXT, "{} bytes", text.len());
    let json = serde_json::to_vec(report).expect("a report is JSON");
    let _: serde_json::Value = serde_json::from_slice(&json).expect("a report is JSON");
}

/// Each frame as `tap` reads it.
fn tap(message: &[u8]) {
    let mut catalog = Catalog::new();
    let mut rest = message;
    while let Ok(found) = frame::decode(rest) {
        match found.kind {
            Kind::Catalog => {
                let _ = CatalogPart::decode(found.body).map(|part| catalog.apply(&part));
            }
            Kind::Samples => {
                let readings = readings(&found, &catalog).unwrap_or_default();
                for reading in readings.iter().take(20) {
                    let line = reading.json_line();
                    assert!(!line.contains('\n'));
                    let _: serde_json::Value = serde_json::from_str(&line).expect("a line is JSON");
                }
            }
            _ => {}
        }
        rest = &rest[found.bytes.len()..];
    }
}

#[derive(Debug, Default)]
struct Stream {
    messages: Vec<(Epoch, Vec<u8>)>,
    /// Frames of the base that are there whole and can be reached, in the order of the stream.
    there: Vec<u64>,
    /// Something was sent that the gateway never wrote and that reads as a frame.
    forged: bool,
    /// Something was sent that is no frame.
    rubbish: bool,
    next: usize,
}

impl Stream {
    fn fill(&mut self, recipe: &mut Recipe<'_>) {
        let frames = &base().frames;
        let mut sent = 0;
        while !recipe.is_empty() && sent < MOST_MESSAGES {
            sent += 1;
            match recipe.byte() % 9 {
                0 => {
                    let count = 1 + usize::from(recipe.byte() % 16);
                    let from = self.next.min(frames.len());
                    let to = (from + count).min(frames.len());
                    self.send(&frames[from..to]);
                    self.next = to;
                }
                1 => {
                    let at = recipe.choice(frames.len());
                    self.send(&frames[at..=at]);
                }
                2 => self.next += usize::from(recipe.byte() % 4),
                3 => {
                    // Damaged: no checksum fits any more, and what follows cannot be reached.
                    let mut bytes = small(recipe).bytes.clone();
                    let at = 16 + recipe.choice(bytes.len() - 16);
                    bytes[at] ^= 1 << (recipe.byte() % 8);
                    self.rubbish = true;
                    self.messages.push((base().epoch, bytes));
                }
                4 => {
                    let mut bytes = small(recipe).bytes.clone();
                    let at = 8 + recipe.choice(bytes.len() - 8);
                    for (to, from) in bytes[at..].iter_mut().zip(recipe.bytes(32)) {
                        *to = *from;
                    }
                    put_right(&mut bytes);
                    self.forge(bytes);
                }
                5 => {
                    self.rubbish = true;
                    let mut bytes = recipe.bytes(200).to_vec();
                    // The checksum of what is not at its place is never right by chance.
                    bytes.truncate(frame::MAX_FRAME_BYTES);
                    self.messages.push((base().epoch, bytes));
                }
                6 => {
                    let stored = small(recipe);
                    self.forged = true;
                    let epoch = Epoch([recipe.byte(); 16]);
                    self.messages.push((epoch, stored.bytes.clone()));
                }
                7 => {
                    let body = LossRecord::Bridge(bridge(recipe));
                    self.forge(rewritten(recipe, Kind::Loss, &postcard::to_stdvec(&body).unwrap()));
                }
                _ => {
                    let body = recipe.bytes(64).to_vec();
                    let kind = Kind::from_code(recipe.byte() % 7);
                    self.forge(rewritten(recipe, kind, &body));
                }
            }
        }
    }

    fn send(&mut self, frames: &[Stored]) {
        if frames.is_empty() {
            return;
        }
        self.there.extend(frames.iter().map(|it| it.number));
        let bytes = frames.iter().flat_map(|it| it.bytes.clone()).collect();
        self.messages.push((base().epoch, bytes));
    }

    fn forge(&mut self, bytes: Vec<u8>) {
        self.forged = true;
        self.messages.push((base().epoch, bytes));
    }

    fn judge(&self, report: &Report) {
        if self.forged {
            return;
        }
        let Some(epoch) = report.epochs.first() else {
            assert!(self.there.is_empty());
            assert!(!report.verdict.is_balanced(), "nothing proves nothing");
            return;
        };
        assert_eq!(report.epochs.len(), 1, "one epoch was sent");
        let distinct: BTreeSet<u64> = self.there.iter().copied().collect();
        let (Some(from), Some(to)) = (&epoch.complete_from, &epoch.watermark) else {
            assert!(!report.verdict.is_balanced());
            return;
        };
        if report.verdict.is_balanced() {
            let missing = (from.frame..=to.frame).find(|frame| !distinct.contains(frame));
            assert_eq!(missing, None, "balanced without it: {report}");
        }
        let in_order = self.there.iter().copied().eq(0..self.there.len() as u64);
        if in_order && !self.rubbish {
            assert_eq!(report.verdict, Verdict::BalancedToWatermark, "{report}");
        }
    }
}

/// A true frame that is quick to change.
fn small(recipe: &mut Recipe<'_>) -> &'static Stored {
    let small: Vec<_> = base().frames.iter().filter(|it| it.bytes.len() < 4000).collect();
    small[recipe.choice(small.len())]
}

/// A frame in the place of a true one with another kind and body.
fn rewritten(recipe: &mut Recipe<'_>, kind: Kind, body: &[u8]) -> Vec<u8> {
    let stored = &base().frames[recipe.choice(base().frames.len())];
    let mut header = frame::decode(&stored.bytes).unwrap().header;
    match recipe.byte() % 8 {
        0 => header.number = recipe.u64(),
        1 => header.first_seq = recipe.u64(),
        2 => header.count = recipe.u32(),
        3 => (header.number, header.first_seq) = (u64::MAX, u64::MAX),
        4 => header.wall = (i64::MIN, i64::MAX),
        _ => {}
    }
    frame::encode(kind, &header, body).unwrap()
}

fn bridge(recipe: &mut Recipe<'_>) -> Bridge {
    let frames = &base().frames;
    let (first, last) = (recipe.choice(frames.len()), recipe.choice(frames.len()));
    let seq = |at: usize| frame::decode(&frames[at].bytes).unwrap().header;
    let mut bridge = Bridge {
        cause: BridgeCause::DroppedOldest,
        first_frame: frames[first].number,
        last_frame: frames[last].number,
        first_seq: seq(first).first_seq,
        end_seq: seq(last).next_seq(),
        hash_before: seq(first).previous,
        hash_after: frames[last].hash,
        wall: (START, START + 1),
        folded: match loss(u64::from(recipe.byte())) {
            LossRecord::Unsequenced(it) => vec![it],
            _ => Vec::new(),
        },
    };
    match recipe.byte() % 8 {
        0 => bridge.first_frame = recipe.u64(),
        1 => bridge.last_frame = recipe.u64(),
        2 => bridge.end_seq = recipe.u64(),
        3 => (bridge.first_frame, bridge.last_frame) = (0, u64::MAX),
        4 => (bridge.first_seq, bridge.end_seq) = (u64::MAX, 0),
        _ => {}
    }
    bridge
}

fn seeds() -> Vec<(String, Vec<u8>)> {
    vec![
        seed("nothing", []),
        seed("whole", [0, 15].repeat(12)),
        seed("in-ones", [0, 0].repeat(60)),
        seed("left-out", [0, 3, 2, 1, 0, 15, 0, 15]),
        seed("twice", [0, 3, 1, 1, 0, 0, 15]),
        seed("damaged", [0, 3, 3, 5, 0, 40, 0, 1, 0, 15]),
        seed("rubbish", [0, 3, 5, 4, 1, 2, 3, 4, 0, 15]),
        seed("forged", [0, 3, 4, 5, 0, 10, 0, 3, 9, 9, 9, 0, 15]),
        seed("epochs", [0, 3, 6, 1, 0, 9, 6, 0, 0, 8, 0, 15]),
        seed("bridge", [0, 3, 2, 3, 7, 4, 0, 6, 0, 1, 7, 7, 0, 7, 0, 15]),
        seed("bridge-all", [0, 3, 7, 4, 0, 6, 0, 1, 3, 7, 0, 7, 0, 15]),
        seed("last-number", [0, 3, 8, 3, 1, 2, 3, 3, 9, 0, 3, 0, 15]),
    ]
}
