//! The ledger against an oracle that knows the truth: it wrote the chain, it knows what reached
//! the hub, and it looks at every single frame.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tidegate_journal::{Bridge, FrameHash, LossRecord};

use super::tests::{A, Writer, at, feed, ledger};
use super::*;

/// What happens to one frame on its way to the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Arrives,
    Dropped,
    Twice,
    BehindTheNext,
    BitFlipped,
    Rewritten,
}

fn any_fate(trouble: u32) -> impl Strategy<Value = Fate> {
    prop_oneof![
        12 => Just(Fate::Arrives),
        3 => Just(Fate::Dropped),
        trouble => Just(Fate::Twice),
        trouble => Just(Fate::BehindTheNext),
        trouble => Just(Fate::BitFlipped),
        trouble => Just(Fate::Rewritten),
    ]
}

/// How well a bridge over a run of dropped frames does its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    Not,
    Right,
    /// As two bridges, where there are two frames.
    InTwo,
    /// Reaches over frames that did arrive.
    Wider,
    WrongBefore,
    WrongAfter,
    TooShort,
    WrongSeq,
}

impl Named {
    const fn is_true(self) -> bool {
        matches!(self, Self::Right | Self::InTwo | Self::Wider)
    }
}

fn any_named(trouble: u32) -> impl Strategy<Value = Named> {
    prop_oneof![
        10 => Just(Named::Right),
        5 => Just(Named::InTwo),
        5 => Just(Named::Wider),
        trouble => Just(Named::Not),
        trouble => Just(Named::WrongBefore),
        trouble => Just(Named::WrongAfter),
        trouble => Just(Named::TooShort),
        trouble => Just(Named::WrongSeq),
    ]
}

#[derive(Debug, Clone)]
struct Story {
    fates: Vec<Fate>,
    named: Vec<Named>,
    /// Frames between the last one and the bridges.
    later: usize,
    /// Messages from the front that have aged out.
    aged: usize,
    frames_per_message: usize,
}

prop_compose! {
    fn any_story(trouble: u32)(
        fates in prop::collection::vec(any_fate(trouble), 1..40),
        named in prop::collection::vec(any_named(trouble), 40),
        later in 0..3_usize,
        aged in prop_oneof![2 => Just(0_usize), 1 => 0..12_usize],
        frames_per_message in 1..4_usize,
    ) -> Story {
        Story { fates, named, later, aged, frames_per_message }
    }
}

/// What the hub holds, and the truth about it.
struct Told {
    messages: Vec<Vec<u8>>,
    /// Number and bytes, in stream order, without what is no frame.
    held: Vec<(u64, Vec<u8>)>,
    truth: Vec<Vec<u8>>,
    /// Frames that a true bridge at the hub names.
    named: BTreeSet<u64>,
}

fn runs_of_dropped(fates: &[Fate]) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for (number, fate) in (0..).zip(fates) {
        if *fate == Fate::Dropped {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == number => *last = number,
                _ => runs.push((number, number)),
            }
        }
    }
    runs
}

fn tell(story: &Story) -> Told {
    let mut writer = Writer::new(A);
    for number in 0..story.fates.len() {
        writer.samples(u32::try_from(number % 3 + 1).unwrap());
    }
    for _ in 0..story.later {
        writer.samples(1);
    }
    let mut bridges: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for ((first, last), named) in runs_of_dropped(&story.fates).into_iter().zip(&story.named) {
        for bridge in claims(&writer, story, first, last, *named) {
            let range = (bridge.first_frame, bridge.last_frame);
            if named.is_true() {
                bridges.insert(writer.written.len() as u64, range);
            }
            writer.loss(&LossRecord::Bridge(bridge));
        }
    }
    let truth: Vec<Vec<u8>> = writer.written.iter().map(|(_, bytes)| bytes.clone()).collect();

    let mut stream: Vec<(u64, Vec<u8>)> = Vec::new();
    let mut late = None;
    for (number, bytes) in (0_u64..).zip(&truth) {
        let fate = story.fates.get(at(number)).copied().unwrap_or(Fate::Arrives);
        let mut bytes = bytes.clone();
        match fate {
            Fate::Dropped => continue,
            Fate::BehindTheNext if late.is_none() => {
                late = Some((number, bytes));
                continue;
            }
            Fate::BitFlipped => {
                let last = bytes.len() - 1;
                bytes[last] ^= 0x10;
            }
            Fate::Rewritten => bytes = rewritten(&bytes),
            _ => {}
        }
        stream.push((number, bytes.clone()));
        if fate == Fate::Twice {
            stream.push((number, bytes));
        }
        stream.extend(late.take());
    }
    stream.extend(late);

    let messages: Vec<Vec<(u64, Vec<u8>)>> =
        stream.chunks(story.frames_per_message).map(<[_]>::to_vec).collect();
    let kept = messages.get(story.aged.min(messages.len().saturating_sub(1))..).unwrap_or_default();
    let mut held = Vec::new();
    for message in kept {
        // A reader cannot find the frames behind a damaged one in the same message.
        let whole = message.iter().take_while(|(_, bytes)| frame::decode(bytes).is_ok());
        held.extend(whole.cloned());
    }
    let named = held
        .iter()
        .filter_map(|(number, _)| bridges.get(number))
        .flat_map(|(first, last)| *first..=*last)
        .collect();
    let messages = kept
        .iter()
        .map(|message| message.iter().flat_map(|(_, bytes)| bytes.clone()).collect())
        .collect();
    Told { messages, held, truth, named }
}

fn claims(writer: &Writer, story: &Story, first: u64, last: u64, named: Named) -> Vec<Bridge> {
    let mut bridge = writer.bridge_over(first, last);
    match named {
        Named::Not => return Vec::new(),
        Named::Right => {}
        Named::InTwo if first < last => {
            return vec![writer.bridge_over(first, first), writer.bridge_over(first + 1, last)];
        }
        Named::InTwo => {}
        Named::Wider => {
            let arrives = |n: u64| story.fates.get(at(n)) == Some(&Fate::Arrives);
            let wide_first = first.checked_sub(1).filter(|n| arrives(*n)).unwrap_or(first);
            let wide_last = Some(last + 1).filter(|n| arrives(*n)).unwrap_or(last);
            bridge = writer.bridge_over(wide_first, wide_last);
        }
        Named::WrongBefore => bridge.hash_before = FrameHash([1; 32]),
        Named::WrongAfter => bridge.hash_after = FrameHash([1; 32]),
        Named::TooShort if first < last => bridge = writer.bridge_over(first, last - 1),
        Named::TooShort | Named::WrongSeq => bridge.end_seq += 1,
    }
    vec![bridge]
}

/// The same frame with another time in its header: whole, and another hash.
fn rewritten(bytes: &[u8]) -> Vec<u8> {
    let frame = frame::decode(bytes).unwrap();
    let mut header = frame.header.clone();
    header.mono = (5, 6);
    frame::encode(frame.kind, &header, frame.body).unwrap()
}

/// Whether everything from the first frame held to the last is there once, in order, untouched,
/// or truly named.
fn is_complete(told: &Told) -> bool {
    let Some((first, _)) = told.held.first() else { return false };
    let last = told.held.iter().map(|(number, _)| *number).max().unwrap_or(0);
    let is_in_order = told.held.windows(2).all(|pair| pair[0].0 < pair[1].0);
    let is_untouched = told.held.iter().all(|(number, bytes)| {
        // Nothing that is held carries the hash of the last frame.
        *number == last || *bytes == told.truth[at(*number)]
    });
    let all_there = (*first..=last)
        .all(|number| told.held.iter().any(|(n, _)| *n == number) || told.named.contains(&number));
    is_in_order && is_untouched && all_there
}

fn verdict(told: &Told) -> Report {
    let mut ledger = ledger();
    feed(&mut ledger, A, &told.messages);
    ledger.report(0, None)
}

/// A rewritten frame next to a hole that a wider bridge also names lies outside of what hashes
/// can show: nothing at the hub carries its hash.
fn is_undecidable(story: &Story, told: &Told) -> bool {
    (0_u64..)
        .zip(&story.fates)
        .any(|(n, fate)| *fate == Fate::Rewritten && told.named.contains(&(n + 1)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_proof_never_says_balanced_where_the_oracle_sees_a_hole(story in any_story(1)) {
        let told = tell(&story);
        let report = verdict(&told);
        if report.is_balanced() && !is_undecidable(&story, &told) {
            prop_assert!(is_complete(&told), "{report}");
        }
    }

    #[test]
    fn the_proof_says_balanced_wherever_the_oracle_sees_everything(story in any_story(0)) {
        let told = tell(&story);
        let report = verdict(&told);
        prop_assert_eq!(report.is_balanced(), is_complete(&told), "{}", report);
    }

    #[test]
    fn the_sums_are_those_of_the_oracle(story in any_story(0)) {
        let told = tell(&story);
        let report = verdict(&told);
        if !report.is_balanced() || told.held[0].0 != 0 {
            return Ok(());
        }
        let epoch = &report.epochs[0];
        let count = |n: u64| u64::from(frame::decode(&told.truth[at(n)]).unwrap().header.count);
        let held: BTreeSet<u64> = told.held.iter().map(|(number, _)| *number).collect();
        let last = *held.last().unwrap();
        let lost: Vec<u64> = (0..=last).filter(|number| !held.contains(number)).collect();
        prop_assert_eq!(epoch.samples, held.iter().map(|n| count(*n)).sum::<u64>());
        prop_assert_eq!(epoch.sequenced.samples, lost.iter().map(|n| count(*n)).sum::<u64>());
        prop_assert_eq!(epoch.sequenced.frames, lost.len() as u64);
        // Nothing between both ends is in neither sum.
        let watermark = epoch.watermark.unwrap();
        prop_assert_eq!(epoch.samples + epoch.sequenced.samples, watermark.next_seq);
    }
}
