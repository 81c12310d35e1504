use tidegate_journal::{
    Bridge, BridgeCause, ClockState, Codec, EpochReason, FrameHash, Header, Kind, LossRecord,
    Predecessor, Unsequenced,
};
use tidegate_translator::{Sample, TagId, Timestamp, Value};

use super::*;
use crate::Checkpoint;
use crate::samples::Packer;

const SECOND: i64 = 1_000_000_000;
const START: i64 = 1_790_000_000 * SECOND;
pub(super) const A: Epoch = Epoch([0xaa; 16]);
pub(super) const B: Epoch = Epoch([0xbb; 16]);

pub(super) fn at(number: u64) -> usize {
    usize::try_from(number).unwrap()
}

/// A gateway that writes a chain; what reaches the hub is the test's affair.
pub(super) struct Writer {
    pub(super) epoch: Epoch,
    pub(super) written: Vec<(Header, Vec<u8>)>,
}

impl Writer {
    pub(super) fn new(epoch: Epoch) -> Self {
        Self { epoch, written: Vec::new() }
    }

    pub(super) fn header(&self, count: u32, codec: Codec) -> Header {
        let number = self.written.len() as u64;
        let at = START + i64::try_from(number).unwrap() * SECOND;
        Header {
            plant: "P".into(),
            gateway: "g".into(),
            epoch: self.epoch,
            number,
            first_seq: self.written.last().map_or(0, |(h, _)| h.next_seq()),
            count,
            wall: (at, at + SECOND / 2),
            mono: (0, 0),
            boot: [0; 16],
            clock: ClockState::Unknown,
            previous: self.hash_before(number),
            codec,
        }
    }

    fn put(&mut self, kind: Kind, header: Header, body: &[u8]) -> Vec<u8> {
        let bytes = frame::encode(kind, &header, body).unwrap();
        self.written.push((header, bytes.clone()));
        bytes
    }

    pub(super) fn samples(&mut self, count: u32) -> Vec<u8> {
        let number = i64::try_from(self.written.len()).unwrap();
        let samples: Vec<_> = (0..count)
            .map(|n| Sample::good(TagId(n), Timestamp(START), Value::I64(number)))
            .collect();
        let body = Packer::new().pack(&samples).bodies.remove(0);
        self.put(Kind::Samples, self.header(body.count, body.codec), &body.bytes)
    }

    pub(super) fn loss(&mut self, record: &LossRecord) -> Vec<u8> {
        let body = postcard::to_stdvec(record).unwrap();
        self.put(Kind::Loss, self.header(0, Codec::Plain), &body)
    }

    /// Signed by a scheme that [`Clerk`] knows: the signature is the message.
    fn checkpoint(&mut self, change: impl FnOnce(&mut Checkpoint)) -> Vec<u8> {
        let header = self.header(0, Codec::Plain);
        let frame = header.number.saturating_sub(1);
        let up_to = Position { frame, next_seq: header.first_seq, hash: header.previous };
        let signature = Checkpoint::message("P", "g", self.epoch, &up_to, START).unwrap();
        let certificate = b"of P/g".to_vec();
        let mut checkpoint =
            Checkpoint { up_to, at: START, certificate, chain: Vec::new(), scheme: 1, signature };
        change(&mut checkpoint);
        self.put(Kind::Checkpoint, header, &checkpoint.encode().unwrap())
    }

    pub(super) fn hash_before(&self, number: u64) -> FrameHash {
        match number.checked_sub(1) {
            None => FrameHash::ZERO,
            Some(before) => FrameHash::of(&self.written[at(before)].1),
        }
    }

    pub(super) fn bridge_over(&self, first: u64, last: u64) -> Bridge {
        Bridge {
            cause: BridgeCause::DroppedOldest,
            first_frame: first,
            last_frame: last,
            first_seq: self.written[at(first)].0.first_seq,
            end_seq: self.written[at(last)].0.next_seq(),
            hash_before: self.hash_before(first),
            hash_after: self.hash_before(last + 1),
            wall: (self.written[at(first)].0.wall.0, self.written[at(last)].0.wall.1),
            folded: Vec::new(),
        }
    }

    fn bridge(&mut self, first: u64, last: u64) -> Vec<u8> {
        self.loss(&LossRecord::Bridge(self.bridge_over(first, last)))
    }

    fn end(&self) -> Position {
        let (header, bytes) = self.written.last().unwrap();
        Position { frame: header.number, next_seq: header.next_seq(), hash: FrameHash::of(bytes) }
    }
}

pub(super) fn ledger() -> Ledger {
    Ledger::new("P", "g", Filter::default())
}

pub(super) fn feed(ledger: &mut Ledger, epoch: Epoch, messages: &[Vec<u8>]) {
    for bytes in messages {
        let stream_seq = ledger.messages + 1;
        ledger.observe(HubMessage { stream_seq, epoch, bytes });
    }
}

fn prove(messages: &[Vec<u8>]) -> Report {
    let mut ledger = ledger();
    feed(&mut ledger, A, messages);
    ledger.report(START + 60 * SECOND, None)
}

fn predecessor(reason: EpochReason, epoch: Option<Epoch>, last: Option<Position>) -> LossRecord {
    LossRecord::Predecessor(Predecessor { reason, epoch, last, carried_frames: 0 })
}

/// A first start and five frames of two samples.
fn six() -> (Writer, Vec<Vec<u8>>) {
    let mut writer = Writer::new(A);
    let mut sent = vec![writer.loss(&predecessor(EpochReason::FirstStart, None, None))];
    sent.extend((0..5).map(|_| writer.samples(2)));
    (writer, sent)
}

#[test]
fn a_whole_chain_is_balanced_up_to_its_watermark() {
    let (_, sent) = six();
    let report = prove(&sent);
    assert_eq!(report.verdict, Verdict::BalancedToWatermark);
    assert!(report.is_balanced() && report.because.is_empty());
    let epoch = &report.epochs[0];
    let from = epoch.complete_from.unwrap();
    assert_eq!((from.frame, from.seq, from.is_beginning), (0, 0, true));
    let to = epoch.watermark.unwrap();
    assert_eq!((to.frame, to.next_seq), (5, 10));
    assert_eq!(to.age, crate::Span(54 * SECOND + SECOND / 2));
    assert_eq!((epoch.frames, epoch.samples), (6, 10));
    assert_eq!(epoch.seam.as_ref().unwrap().state, SeamState::First);
}

#[test]
fn several_frames_in_one_message_count_like_several_messages() {
    let (_, sent) = six();
    let report = prove(&[sent[..3].concat(), sent[3..].concat()]);
    assert_eq!(report.verdict, Verdict::BalancedToWatermark);
    assert_eq!((report.messages, report.epochs[0].frames), (2, 6));
}

#[test]
fn nothing_at_the_hub_proves_nothing() {
    let report = prove(&[]);
    assert_eq!(report.verdict, Verdict::Unverifiable);
    assert!(report.to_string().contains("no frame of this gateway is at the hub"));
}

#[test]
fn a_journal_that_ends_at_the_watermark_makes_it_balanced_to_the_end() {
    let (writer, sent) = six();
    let mut ledger = ledger();
    feed(&mut ledger, A, &sent);
    let tail = LocalTail { epoch: A, last: Some(writer.end()), at_watermark: None };
    let report = ledger.report(START, Some(tail));
    assert_eq!(report.verdict, Verdict::Balanced);
    assert_eq!(report.epochs[0].tail, Some(Tail::Agrees));
}

#[test]
fn a_journal_that_goes_on_says_how_much_is_on_its_way() {
    let (writer, sent) = six();
    let mut ledger = ledger();
    feed(&mut ledger, A, &sent[..4]);
    let tail = LocalTail { epoch: A, last: Some(writer.end()), at_watermark: None };
    let report = ledger.report(START, Some(tail));
    assert_eq!(report.verdict, Verdict::BalancedToWatermark);
    assert_eq!(report.epochs[0].tail, Some(Tail::Ahead { frames: 2, samples: 4 }));
    // A clone that also went on has another frame at the watermark.
    let watermark = ledger.watermark(A).unwrap();
    for (hash, verdict) in [
        (watermark.hash, Verdict::BalancedToWatermark),
        (FrameHash([1; 32]), Verdict::Unverifiable),
    ] {
        let tail = LocalTail { at_watermark: Some(hash), ..tail };
        assert_eq!(ledger.report(START, Some(tail)).verdict, verdict);
    }
}

#[test]
fn a_journal_that_ends_before_the_hub_or_differently_is_another_one() {
    let (writer, sent) = six();
    let mut ledger = ledger();
    feed(&mut ledger, A, &sent);
    let end = writer.end();
    for last in [
        None,
        Some(Position { frame: 4, next_seq: 8, ..end }),
        Some(Position { hash: FrameHash::ZERO, ..end }),
    ] {
        let report = ledger.report(START, Some(LocalTail { epoch: A, last, at_watermark: None }));
        assert_eq!(report.verdict, Verdict::Unverifiable, "{last:?}");
        assert_eq!(report.epochs[0].tail, Some(Tail::Conflicts));
    }
}

#[test]
fn a_missing_frame_is_a_gap_with_its_frames_and_samples() {
    let (_, mut sent) = six();
    sent.drain(2..4);
    let report = prove(&sent);
    assert_eq!(report.verdict, Verdict::Unbalanced);
    let gaps = &report.epochs[0].gaps;
    assert_eq!(gaps.count, 1);
    let gap = &gaps.list[0];
    assert_eq!((gap.first_frame, gap.last_frame), (2, 3));
    assert_eq!((gap.first_seq, gap.end_seq, gap.samples), (2, 6, 4));
}

#[test]
fn a_bridge_that_comes_later_names_the_hole() {
    let (mut writer, mut sent) = six();
    sent.push(writer.bridge(2, 3));
    sent.drain(2..4);
    let report = prove(&sent);
    assert_eq!(report.verdict, Verdict::BalancedToWatermark, "{report}");
    let lost = &report.epochs[0].sequenced;
    assert_eq!((lost.frames, lost.samples, lost.losses.count), (2, 4, 1));
    let loss = &lost.losses.list[0];
    assert_eq!((loss.first_seq, loss.end_seq, loss.named_in_frame), (2, 6, Some(6)));
    assert_eq!(loss.cause, BridgeCause::DroppedOldest);
}

#[test]
fn neighbouring_bridges_name_one_hole_together() {
    let (mut writer, mut sent) = six();
    sent.push(writer.bridge(1, 1));
    sent.push(writer.bridge(2, 3));
    sent.drain(1..4);
    let report = prove(&sent);
    assert_eq!(report.verdict, Verdict::BalancedToWatermark, "{report}");
    assert_eq!(report.epochs[0].sequenced.samples, 6);
    assert_eq!(report.epochs[0].sequenced.losses.count, 2);
}

#[test]
fn neighbouring_bridges_must_join_by_hash_and_by_number() {
    let wrongs: [fn(&mut Bridge); 3] =
        [|b| b.hash_before = FrameHash::ZERO, |b| b.first_seq += 1, |b| b.first_frame += 1];
    for (index, wrong) in wrongs.into_iter().enumerate() {
        let (mut writer, mut sent) = six();
        sent.push(writer.bridge(1, 2));
        let mut second = writer.bridge_over(3, 4);
        wrong(&mut second);
        sent.push(writer.loss(&LossRecord::Bridge(second)));
        sent.drain(1..5);
        assert_eq!(prove(&sent).verdict, Verdict::Unbalanced, "case {index}");
    }
}

#[test]
fn a_late_frame_leaves_what_is_missing_on_both_sides_of_it() {
    let (mut writer, mut sent) = six();
    let late = sent.remove(3);
    sent.drain(2..4);
    sent.push(late);
    let report = prove(&sent);
    let ranges = |report: &Report| {
        let gaps = report.epochs[0].gaps.list.iter();
        gaps.map(|g| (g.first_frame, g.last_frame, g.first_seq, g.end_seq)).collect::<Vec<_>>()
    };
    // Frames 2 and 4 are missing.
    assert_eq!(ranges(&report), [(2, 2, 2, 4), (4, 4, 6, 8)], "{report}");
    sent.push(writer.bridge(2, 2));
    sent.push(writer.bridge(4, 4));
    assert_eq!(prove(&sent).epochs[0].gaps.count, 0);
}

#[test]
fn a_late_frame_that_fits_neither_side_breaks_the_chain_twice() {
    let (mut writer, mut sent) = six();
    sent.remove(2);
    let (mut header, _) = writer.written[2].clone();
    header.previous = FrameHash([3; 32]);
    header.first_seq = 3;
    let samples = [Sample::good(TagId(0), Timestamp(0), Value::None)];
    let body = Packer::new().pack(&samples).bodies.remove(0);
    (header.codec, header.count) = (body.codec, 1);
    sent.push(writer.put(Kind::Samples, header, &body.bytes));
    let breaks = prove(&sent).epochs[0].chain_breaks.list.clone();
    assert_eq!(
        breaks,
        [
            Disorder::ChainBreak { frame: 2 },
            Disorder::SeqGap { frame: 2, expected: 2, found: 3 },
            Disorder::ChainBreak { frame: 3 },
        ]
    );
}

#[test]
fn a_list_is_capped_and_its_count_is_not() {
    let (_, sent) = six();
    let mut ledger = ledger();
    feed(&mut ledger, A, &sent);
    let again = vec![sent[1].clone(); MAX_LISTED + 5];
    feed(&mut ledger, A, &again);
    let report = ledger.report(START, None);
    let duplicates = &report.epochs[0].duplicates;
    assert_eq!((duplicates.count, duplicates.list.len()), (MAX_LISTED as u64 + 5, MAX_LISTED));
    assert!(report.to_string().contains("and 985 more"), "{report}");
}

#[test]
fn a_bridge_must_fit_by_hash_on_both_sides() {
    let wrongs: [fn(&mut Bridge); 6] = [
        |b| b.hash_before = FrameHash::ZERO,
        |b| b.hash_after = FrameHash::ZERO,
        |b| b.first_seq += 1,
        |b| b.end_seq -= 1,
        |b| b.last_frame -= 1,
        |b| b.first_frame += 1,
    ];
    for (index, wrong) in wrongs.into_iter().enumerate() {
        let (mut writer, mut sent) = six();
        let mut bridge = writer.bridge_over(2, 3);
        wrong(&mut bridge);
        sent.push(writer.loss(&LossRecord::Bridge(bridge)));
        sent.drain(2..4);
        let report = prove(&sent);
        assert_eq!(report.verdict, Verdict::Unbalanced, "case {index}: {report}");
        assert_eq!(report.epochs[0].gaps.count, 1, "case {index}");
        assert_eq!(report.epochs[0].misfits.count, 1, "case {index}");
    }
}

#[test]
fn a_bridge_over_frames_that_come_after_it_is_a_misfit() {
    let (mut writer, mut sent) = six();
    let mut bridge = writer.bridge_over(2, 3);
    bridge.last_frame = 6;
    sent.push(writer.loss(&LossRecord::Bridge(bridge)));
    let report = prove(&sent);
    assert_eq!(report.verdict, Verdict::Unbalanced);
    assert_eq!(report.epochs[0].misfits.list[0].why, "it names frames that come after it");
}

#[test]
fn presence_at_the_hub_overrides_a_claim_of_loss() {
    // All of it arrived, only the acknowledgement did not.
    let (mut writer, mut sent) = six();
    sent.push(writer.bridge(1, 3));
    let report = prove(&sent);
    assert_eq!(report.verdict, Verdict::BalancedToWatermark, "{report}");
    assert_eq!(report.epochs[0].sequenced.losses.count, 0);
    assert_eq!(report.epochs[0].overridden_claims, 1);
    // The first of it arrived.
    sent.drain(2..4);
    let report = prove(&sent);
    assert_eq!(report.verdict, Verdict::BalancedToWatermark, "{report}");
    assert_eq!(report.epochs[0].sequenced.samples, 4);
    assert_eq!(report.epochs[0].overridden_claims, 1);
}

/// What a second writer puts into a range that the gateway dropped looks like the gateway's own: a
/// limit of the format, for which the uplink takes nothing there for its own without its hash.
#[test]
fn another_writer_inside_a_bridge_is_not_seen_from_the_hub_alone() {
    let (mut writer, mut sent) = six();
    let bridge = writer.bridge_over(2, 4);
    sent.drain(2..5);
    let mut other = Writer { epoch: A, written: writer.written[..2].to_vec() };
    sent.insert(2, other.samples(2));
    sent.push(writer.loss(&LossRecord::Bridge(bridge)));
    let report = prove(&sent);
    assert_eq!(report.verdict, Verdict::BalancedToWatermark, "{report}");
    assert_eq!(report.epochs[0].sequenced.samples, 4, "of the six that are gone");
}

#[test]
fn a_bridge_whose_ends_are_at_the_hub_with_other_hashes_is_a_misfit() {
    for side in 0..2 {
        let (mut writer, mut sent) = six();
        let mut bridge = writer.bridge_over(2, 4);
        if side == 0 {
            bridge.hash_before = FrameHash::ZERO;
        } else {
            bridge.hash_after = FrameHash::ZERO;
        }
        sent.push(writer.loss(&LossRecord::Bridge(bridge)));
        sent.remove(3);
        let report = prove(&sent);
        assert_eq!(report.verdict, Verdict::Unbalanced, "{side}");
        assert_eq!(report.epochs[0].misfits.count, 1);
    }
}

#[test]
fn frames_that_aged_out_are_where_the_proof_begins() {
    let (_, sent) = six();
    let report = prove(&sent[3..]);
    assert_eq!(report.verdict, Verdict::BalancedToWatermark);
    let from = report.epochs[0].complete_from.unwrap();
    assert_eq!((from.frame, from.seq, from.is_beginning), (3, 4, false));
    assert_eq!(report.epochs[0].gaps.count, 0);
    assert_eq!(report.epochs[0].seam.as_ref().unwrap().state, SeamState::AgedOut);
}

#[test]
fn a_bridge_over_what_was_never_delivered_reaches_back_to_the_beginning() {
    let (mut writer, mut sent) = six();
    sent.push(writer.bridge(0, 2));
    let report = prove(&sent[3..]);
    assert_eq!(report.verdict, Verdict::BalancedToWatermark);
    let from = report.epochs[0].complete_from.unwrap();
    assert_eq!((from.frame, from.is_beginning), (0, true));
    assert_eq!(report.epochs[0].sequenced.samples, 4);
}

#[test]
fn a_repeated_frame_is_a_duplicate_and_says_whether_it_is_the_same() {
    let (writer, mut sent) = six();
    sent.push(sent[2].clone());
    let (mut header, _) = writer.written[4].clone();
    header.mono = (1, 1);
    let body = Packer::new().pack(&[
        Sample::good(TagId(0), Timestamp(0), Value::None),
        Sample::good(TagId(1), Timestamp(0), Value::None),
    ]);
    header.codec = body.bodies[0].codec;
    sent.push(frame::encode(Kind::Samples, &header, &body.bodies[0].bytes).unwrap());
    let report = prove(&sent);
    assert_eq!(report.verdict, Verdict::Unbalanced);
    let duplicates = &report.epochs[0].duplicates;
    assert_eq!(duplicates.count, 2);
    assert_eq!(duplicates.list[0], Duplicate { frame: 2, is_same: Some(true) });
    assert_eq!(duplicates.list[1], Duplicate { frame: 4, is_same: Some(false) });
    assert_eq!((report.epochs[0].frames, report.epochs[0].samples), (6, 10));
}

#[test]
fn a_frame_behind_a_later_one_is_out_of_order_and_no_gap() {
    let (_, mut sent) = six();
    sent.swap(2, 3);
    let report = prove(&sent);
    assert_eq!(report.verdict, Verdict::Unbalanced);
    let epoch = &report.epochs[0];
    assert_eq!(epoch.inversions.list, [Disorder::Inversion { frame: 2, after: 3 }]);
    assert_eq!((epoch.gaps.count, epoch.chain_breaks.count), (0, 0));
}

#[test]
fn a_frame_below_the_first_one_seen_is_out_of_order_too() {
    let (_, mut sent) = six();
    let early = sent.remove(1);
    sent.remove(0);
    sent.push(early);
    let report = prove(&sent);
    assert_eq!(report.epochs[0].inversions.count, 1);
    assert_eq!(report.epochs[0].complete_from.unwrap().frame, 1);
    assert_eq!(report.epochs[0].gaps.count, 0);
}

#[test]
fn a_frame_that_does_not_carry_the_hash_before_it_breaks_the_chain() {
    let (mut writer, mut sent) = six();
    let mut header = writer.header(0, Codec::Plain);
    header.previous = FrameHash([9; 32]);
    let body = postcard::to_stdvec(&predecessor(EpochReason::Fork, None, None)).unwrap();
    sent.push(writer.put(Kind::Loss, header, &body));
    let report = prove(&sent);
    assert_eq!(report.verdict, Verdict::Unbalanced);
    assert_eq!(report.epochs[0].chain_breaks.list, [Disorder::ChainBreak { frame: 6 }]);
}

#[test]
fn samples_missing_between_two_neighbours_are_found_by_their_numbers() {
    for (first_seq, expected) in [
        (13, Disorder::SeqGap { frame: 6, expected: 10, found: 13 }),
        (9, Disorder::SeqOverlap { frame: 6, expected: 10, found: 9 }),
    ] {
        let (mut writer, mut sent) = six();
        let mut header = writer.header(0, Codec::Plain);
        header.first_seq = first_seq;
        let body = postcard::to_stdvec(&predecessor(EpochReason::Fork, None, None)).unwrap();
        sent.push(writer.put(Kind::Loss, header, &body));
        let report = prove(&sent);
        assert_eq!(report.verdict, Verdict::Unbalanced);
        assert_eq!(report.epochs[0].chain_breaks.list, [expected]);
    }
}

#[test]
fn a_header_that_counts_other_samples_than_the_body_holds_is_found() {
    let (mut writer, mut sent) = six();
    let body = Packer::new().pack(&[Sample::good(TagId(1), Timestamp(0), Value::None)]);
    let body = &body.bodies[0];
    let header = writer.header(2, body.codec);
    sent.push(writer.put(Kind::Samples, header, &body.bytes));
    let header = writer.header(1, Codec::Plain);
    sent.push(writer.put(Kind::Clock, header, &[]));
    let report = prove(&sent);
    assert_eq!(report.verdict, Verdict::Unbalanced);
    assert_eq!(report.epochs[0].bodies.count, 2);
    let said = report.to_string();
    assert!(said.contains("header counts 2 samples, the body holds 1"), "{said}");
}

#[test]
fn foreign_frames_are_reported_and_do_not_touch_the_verdict() {
    let (_, sent) = six();
    let mut ledger = ledger();
    let mut other = Writer::new(B);
    let stranger = other.samples(1);
    feed(&mut ledger, A, &sent[..3]);
    // Another epoch inside than in the subject; text; half a frame of someone else's.
    feed(&mut ledger, A, &[stranger.clone(), b"hello".to_vec()]);
    let mut renamed = Ledger::new("P", "other", Filter::default());
    feed(&mut ledger, A, &sent[3..]);
    let report = ledger.report(START, None);
    assert_eq!(report.verdict, Verdict::BalancedToWatermark, "{report}");
    assert_eq!(report.foreign.count, 2);
    assert_eq!(report.foreign.list[0].stream_seq, 4);
    assert!(report.foreign.list[1].what.contains("no frame begins here"));
    // Another gateway inside than was asked for.
    feed(&mut renamed, A, &sent);
    let report = renamed.report(START, None);
    assert_eq!((report.foreign.count, report.verdict), (6, Verdict::Unverifiable));
}

#[test]
fn a_frame_damaged_at_the_hub_is_a_gap_and_at_the_end_unverifiable() {
    let (_, mut sent) = six();
    let last = sent[5].len() - 1;
    sent[5][last] ^= 1;
    assert_eq!(prove(&sent).verdict, Verdict::Unverifiable);
    let (_, mut sent) = six();
    let last = sent[2].len() - 1;
    sent[2][last] ^= 1;
    let report = prove(&sent);
    assert_eq!(report.verdict, Verdict::Unbalanced);
    assert_eq!((report.epochs[0].gaps.count, report.foreign.count), (1, 1));
}

/// The same frame as a later version would write it: readable by version 2 only.
fn newer(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    (bytes[8], bytes[9]) = (2, 2);
    bytes[12..16].fill(0);
    let mut crc = !0_u32;
    for &byte in &bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    bytes[12..16].copy_from_slice(&(!crc).to_le_bytes());
    bytes
}

#[test]
fn frames_of_a_newer_version_are_unverifiable_and_say_which_reader_they_need() {
    let mut writer = Writer::new(A);
    let mut sent = vec![writer.samples(1), writer.samples(1)];
    let unreadable = newer(&writer.samples(1));
    writer.written[2].1.clone_from(&unreadable);
    sent.push(unreadable);
    // At the end, then with a frame behind it that carries its hash.
    for _ in 0..2 {
        let report = prove(&sent);
        assert_eq!(report.verdict, Verdict::Unverifiable, "{report}");
        assert_eq!(report.epochs[0].newer, Newer { frames: 1, needs_version: 2 });
        assert_eq!(report.epochs[0].gaps.count, 0);
        sent.push(writer.samples(1));
    }
    // A newer frame does not excuse the loss of another one.
    sent.remove(1);
    assert_eq!(prove(&sent).verdict, Verdict::Unbalanced);
}

#[test]
fn unsequenced_losses_keep_their_latest_word_and_never_enter_the_sequenced_sum() {
    let (mut writer, mut sent) = six();
    let loss = |id, to, count, open| Unsequenced {
        id,
        subject: "press-1".into(),
        cause: "device-silent".into(),
        from: START,
        to,
        count,
        open,
    };
    sent.push(writer.loss(&LossRecord::Unsequenced(loss(1, START + 5, Some(5), true))));
    sent.push(writer.loss(&LossRecord::Unsequenced(loss(1, START + 9, Some(9), false))));
    // A bridge brings the word that stood in the hole: an older one of the first, and another.
    let mut bridge = writer.bridge_over(2, 2);
    bridge.folded = vec![loss(1, START + 2, Some(2), true), loss(7, START + SECOND, None, true)];
    sent.push(writer.loss(&LossRecord::Bridge(bridge)));
    sent.remove(2);
    let report = prove(&sent);
    assert_eq!(report.verdict, Verdict::BalancedToWatermark, "{report}");
    let epoch = &report.epochs[0];
    assert_eq!(epoch.sequenced.samples, 2);
    let missed = &epoch.unsequenced;
    assert_eq!((missed.samples, missed.uncounted, missed.open), (9, 1, 1));
    assert_eq!(missed.losses.count, 2);
}

fn two_epochs(record: &LossRecord) -> Report {
    let (_, sent) = six();
    let mut ledger = ledger();
    feed(&mut ledger, A, &sent);
    let mut next = Writer::new(B);
    let sent = [next.loss(record), next.samples(1)];
    feed(&mut ledger, B, &sent);
    ledger.report(START, None)
}

#[test]
fn an_epoch_that_begins_where_the_one_before_ends_is_joined_and_closes_it() {
    let (writer, _) = six();
    let joined = predecessor(EpochReason::FirstStart, Some(A), Some(writer.end()));
    let report = two_epochs(&joined);
    assert_eq!(report.epochs[0].verdict, Verdict::Balanced, "{report}");
    assert_eq!(report.epochs[1].verdict, Verdict::BalancedToWatermark);
    assert_eq!(report.epochs[1].seam.as_ref().unwrap().state, SeamState::Joined);
    let elsewhere = Position { frame: 4, ..writer.end() };
    let apart = predecessor(EpochReason::FirstStart, Some(A), Some(elsewhere));
    assert_eq!(two_epochs(&apart).verdict, Verdict::Unverifiable);
}

/// What a gateway says in a later epoch of a hole in one that is closed.
fn told_later(hole: &Bridge) -> Unsequenced {
    let [a, b, c, d, e, f, g, h, ..] = hole.hash_after.0;
    Unsequenced {
        id: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
        subject: "gateway".into(),
        cause: "damaged".into(),
        from: START,
        to: START + SECOND,
        count: Some(hole.end_seq - hole.first_seq),
        open: false,
    }
}

#[test]
fn a_hole_in_a_closed_epoch_is_named_by_a_later_one_that_fits_it_by_hash_and_count() {
    let told = |change: fn(&mut Unsequenced)| {
        let (writer, mut sent) = six();
        let mut record = told_later(&writer.bridge_over(2, 3));
        change(&mut record);
        sent.drain(2..4);
        let mut ledger = ledger();
        feed(&mut ledger, A, &sent);
        let mut next = Writer::new(B);
        let joined = predecessor(EpochReason::CatalogLost, Some(A), Some(writer.end()));
        let record =
            next.loss(&joined).into_iter().chain(next.loss(&LossRecord::Unsequenced(record)));
        feed(&mut ledger, B, &[record.collect(), next.samples(1)]);
        ledger.report(START, None)
    };
    let report = told(|_| {});
    assert_eq!(report.verdict, Verdict::BalancedToWatermark, "{report}");
    let loss = &report.epochs[0].sequenced.losses.list[0];
    assert_eq!((loss.first_frame, loss.last_frame, loss.cause), (2, 3, BridgeCause::Damaged));
    assert_eq!((loss.named_in_frame, loss.named_in_epoch.clone()), (None, Some(B.to_string())));
    assert_eq!(report.epochs[1].unsequenced.losses.count, 0, "one ledger or the other, not both");
    let misfits: [fn(&mut Unsequenced); 4] = [
        |record| record.id ^= 1,
        |record| record.count = Some(1),
        |record| record.count = None,
        |record| record.cause = "device-silent".into(),
    ];
    for change in misfits {
        let report = told(change);
        assert_eq!(report.verdict, Verdict::Unbalanced, "{report}");
        assert_eq!(report.epochs[1].unsequenced.losses.count, 1);
    }
}

#[test]
fn a_fork_a_lost_journal_and_a_second_first_start_are_unverifiable_in_words() {
    let (writer, _) = six();
    for (reason, words) in [
        (EpochReason::Fork, "cloned card"),
        (EpochReason::JournalLost, "could not be read"),
        (EpochReason::FirstStart, "does not name the end of"),
    ] {
        let last = (reason == EpochReason::Fork).then(|| writer.end());
        let report = two_epochs(&predecessor(reason, last.map(|_| A), last));
        assert_eq!(report.verdict, Verdict::Unverifiable, "{reason:?}");
        assert!(report.to_string().contains(words), "{report}");
    }
}

#[test]
fn an_epoch_without_its_beginning_cannot_be_joined_to_an_earlier_one() {
    let (_, sent) = six();
    let mut ledger = ledger();
    feed(&mut ledger, A, &sent);
    let mut next = Writer::new(B);
    next.loss(&predecessor(EpochReason::FirstStart, None, None));
    let sent = [next.samples(1)];
    feed(&mut ledger, B, &sent);
    assert_eq!(ledger.report(START, None).verdict, Verdict::Unverifiable);
}

#[test]
fn two_epochs_that_take_turns_are_two_gateways_with_one_name() {
    let (writer, sent) = six();
    let mut ledger = ledger();
    feed(&mut ledger, A, &sent[..4]);
    let mut next = Writer::new(B);
    let joined = predecessor(EpochReason::FirstStart, Some(A), Some(writer.end()));
    let clone = [next.loss(&joined)];
    feed(&mut ledger, B, &clone);
    feed(&mut ledger, A, &sent[4..]);
    let report = ledger.report(START, None);
    assert_eq!(report.verdict, Verdict::Unverifiable);
    assert!(report.epochs.iter().all(|e| e.verdict == Verdict::Unverifiable), "{report}");
    assert!(report.to_string().contains("two gateways with one name"), "{report}");
}

#[test]
fn a_filter_narrows_what_is_listed_and_not_what_is_verified() {
    let (mut writer, mut sent) = six();
    sent.push(writer.bridge(2, 2));
    sent.remove(2);
    let filter = Filter { from: Some(START + 100 * SECOND), to: None };
    let mut ledger = Ledger::new("P", "g", filter);
    feed(&mut ledger, A, &sent);
    let report = ledger.report(START, None);
    let lost = &report.epochs[0].sequenced;
    assert_eq!((lost.samples, lost.losses.count, lost.losses.list.len()), (2, 1, 0));
    sent.remove(2);
    let mut ledger = Ledger::new("P", "g", filter);
    feed(&mut ledger, A, &sent);
    assert_eq!(ledger.report(START, None).verdict, Verdict::Unbalanced);
}

#[test]
fn the_json_of_a_report_is_kebab_case_with_its_format() {
    let (mut writer, mut sent) = six();
    sent.push(writer.bridge(2, 3));
    sent.drain(2..4);
    sent.push(sent[0].clone());
    let json = serde_json::to_value(prove(&sent)).unwrap();
    assert_eq!(json["format"], 1);
    assert_eq!(json["verdict"], "unbalanced");
    assert_eq!(json["now"], "2026-09-21T14:14:20Z");
    let epoch = &json["epochs"][0];
    assert_eq!(epoch["complete-from"]["is-beginning"], true);
    assert_eq!(epoch["watermark"]["next-seq"], 10);
    assert_eq!(epoch["watermark"]["age-s"], 53.5);
    assert_eq!(epoch["sequenced"]["samples"], 4);
    assert_eq!(epoch["sequenced"]["list"][0]["cause"], "dropped-oldest");
    assert_eq!(epoch["duplicates"]["list"][0]["is-same"], true);
    assert_eq!(epoch["seam"]["state"], "first");
}

#[test]
fn a_person_reads_verdict_range_losses_and_findings() {
    let (mut writer, mut sent) = six();
    sent.push(writer.bridge(2, 3));
    sent.drain(2..4);
    let said = prove(&sent).to_string();
    for line in [
        "P/g: balanced-to-watermark",
        "  complete from  frame 0, sample 0, 2026-09-21T14:13:20Z",
        "  watermark      frame 6, sample 10, 2026-09-21T14:13:26Z (53.5 s ago)",
        "  lost           4 samples in 2 frames, each named:",
        "  not captured   none",
    ] {
        assert!(said.lines().any(|l| l == line), "{line:?} is not in\n{said}");
    }
}

#[test]
fn arbitrary_messages_never_make_the_ledger_panic() {
    use proptest::prelude::*;
    let (mut writer, mut sent) = six();
    sent.push(writer.bridge(2, 3));
    let whole = sent.concat();
    proptest!(|(
        cuts in prop::collection::vec((0..whole.len(), 0..whole.len()), 1..6),
        flips in prop::collection::vec((0..whole.len(), any::<u8>()), 0..3),
        noise in prop::collection::vec(any::<u8>(), 0..60),
    )| {
        let mut bytes = whole.clone();
        for (at, byte) in flips {
            bytes[at] = byte;
        }
        let mut ledger = ledger();
        for (from, to) in cuts {
            let piece = bytes.get(from..to).unwrap_or(&noise).to_vec();
            feed(&mut ledger, A, &[piece]);
        }
        let _ = ledger.report(i64::MIN, None).to_string();
    });
}

#[test]
fn extreme_headers_never_make_the_ledger_panic() {
    use proptest::prelude::*;
    let number = || prop_oneof![0..6_u64, u64::MAX - 3..=u64::MAX, any::<u64>()];
    let one = (number(), number(), any::<u32>(), any::<(i64, i64)>(), any::<bool>());
    let bridge = (number(), number(), number(), number());
    proptest!(|(headers in prop::collection::vec((one, bridge), 1..12))| {
        let mut ledger = ledger();
        for ((number, first_seq, count, wall, is_bridge), (a, b, c, d)) in headers {
            let mut header = Writer::new(A).header(if is_bridge { 0 } else { count }, Codec::Plain);
            (header.number, header.first_seq, header.wall) = (number, first_seq, wall);
            let record = LossRecord::Bridge(Bridge {
                cause: BridgeCause::Damaged,
                first_frame: a,
                last_frame: b,
                first_seq: c,
                end_seq: d,
                hash_before: FrameHash::ZERO,
                hash_after: FrameHash::ZERO,
                wall,
                folded: Vec::new(),
            });
            let body = postcard::to_stdvec(&record).unwrap();
            let bytes = frame::encode(Kind::Loss, &header, &body).unwrap();
            feed(&mut ledger, A, &[bytes]);
        }
        let report = ledger.report(i64::MAX, Some(LocalTail { epoch: A, last: None, at_watermark: None }));
        let _ = report.to_string();
        let _ = serde_json::to_string(&report).unwrap();
    });
}

/// Takes a message for its own signature; vouches for everything that is not signed by scheme 2.
#[derive(Debug)]
struct Clerk;

impl Notary for Clerk {
    fn judge(&self, of: &str, it: &Checkpoint, message: &[u8]) -> Result<Signatory, String> {
        if it.signature != message || it.certificate != format!("of {of}").into_bytes() {
            return Err("forged".to_owned());
        }
        let not_vouched_for = (it.scheme == 2).then(|| "nobody knows it".to_owned());
        Ok(Signatory { subject: of.to_owned(), serial: "01".to_owned(), not_vouched_for })
    }
}

fn signatures(messages: &[Vec<u8>]) -> (Verdict, Signatures) {
    let mut ledger = Ledger::new("P", "g", Filter::default()).with_notary(Box::new(Clerk));
    for (number, bytes) in (1..).zip(messages) {
        ledger.observe(HubMessage { stream_seq: number, epoch: A, bytes });
    }
    let mut report = ledger.report(START, None);
    (report.epochs[0].verdict, report.epochs.remove(0).signatures)
}

#[test]
fn a_signature_covers_what_was_before_it_and_no_more() {
    let mut writer = Writer::new(A);
    let mut messages =
        vec![writer.loss(&predecessor(EpochReason::FirstStart, None, None)), writer.samples(3)];
    assert_eq!(signatures(&messages).1.up_to, None);
    messages.push(writer.checkpoint(|_| {}));
    messages.push(writer.samples(4));
    let (verdict, said) = signatures(&messages);
    assert_eq!(verdict, Verdict::BalancedToWatermark);
    let up_to = said.up_to.unwrap();
    assert_eq!((up_to.frame, up_to.next_seq, up_to.by.not_vouched_for), (1, 3, None));
    // One that nobody vouches for does not hide one that somebody does.
    messages.push(writer.checkpoint(|it| it.scheme = 2));
    assert_eq!(signatures(&messages).1.up_to.unwrap().frame, 1);
    messages.push(writer.checkpoint(|_| {}));
    assert_eq!(signatures(&messages).1.up_to.unwrap().frame, 4);
}

#[test]
fn a_signature_that_does_not_fit_the_chain_at_the_hub_unbalances_it() {
    type Forgery = fn(&mut Checkpoint);
    let forgeries: [Forgery; 6] = [
        |it| it.signature.push(0),
        |it| it.certificate.push(0),
        |it| it.at += 1,
        |it| it.up_to.hash = FrameHash([9; 32]),
        |it| it.up_to.next_seq += 1,
        |it| it.up_to.frame += 1,
    ];
    for forgery in forgeries {
        let mut writer = Writer::new(A);
        let begun = writer.loss(&predecessor(EpochReason::FirstStart, None, None));
        let messages = [begun, writer.samples(3), writer.checkpoint(forgery)];
        let (verdict, said) = signatures(&messages);
        assert_eq!((verdict, said.refused.count, said.up_to), (Verdict::Unbalanced, 1, None));
    }
}

/// Whoever changes what the hub holds can make hashes and numbers fit again, and the signature not.
#[test]
fn a_record_that_was_written_anew_at_the_hub_does_not_fit_its_old_signature() {
    let mut real = Writer::new(A);
    let begun = real.loss(&predecessor(EpochReason::FirstStart, None, None));
    real.samples(3);
    let signed = real.checkpoint(|_| {});
    let body = frame::decode(&signed).unwrap().body.to_vec();
    let mut forger = Writer::new(A);
    forger.loss(&predecessor(EpochReason::FirstStart, None, None));
    let changed = forger.samples(2);
    let header = forger.header(0, Codec::Plain);
    let again = forger.put(Kind::Checkpoint, header, &body);
    let (verdict, said) = signatures(&[begun, changed, again]);
    assert_eq!((verdict, said.refused.count), (Verdict::Unbalanced, 1));
}
