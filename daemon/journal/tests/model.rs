//! Random actions against a model that keeps everything in two lists.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use common::{frames_of, settings, stamp, try_append};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use tidegate_journal::storage::sim::SimStorage;
use tidegate_journal::{
    Codec, Draft, Epoch, EpochReason, Journal, Kind, LossRecord, SegmentSpan, Settings,
    SidecarError, Unsequenced, WhenFull, WriteError,
};

#[derive(Debug, Clone)]
enum Action {
    Append {
        bytes: usize,
    },
    /// A loss record of one of few identities, lasting longer each time.
    Missed {
        id: u64,
    },
    Commit,
    /// The hub has this share of the backlog, in percent.
    Acknowledge {
        percent: u64,
    },
    /// The hub lost this share of what it had.
    Rewind {
        percent: u64,
    },
    Close,
    Crash,
    PowerCut {
        seed: u64,
    },
    Fork,
    /// Every sealed segment gets a sidecar, as far as there is room.
    Sidecars,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        20 => (0_usize..24_000).prop_map(|bytes| Action::Append { bytes }),
        3 => (0_u64..6).prop_map(|id| Action::Missed { id }),
        12 => Just(Action::Commit),
        4 => (0_u64..=100).prop_map(|percent| Action::Acknowledge { percent }),
        1 => (0_u64..=100).prop_map(|percent| Action::Rewind { percent }),
        1 => Just(Action::Close),
        1 => Just(Action::Crash),
        1 => any::<u64>().prop_map(|seed| Action::PowerCut { seed }),
        1 => Just(Action::Fork),
        3 => Just(Action::Sidecars),
    ];
    prop::collection::vec(action, 1..160)
}

/// What must be true of the journal.
#[derive(Default)]
struct Model {
    /// Tag by frame number, durable, of the epoch being written.
    durable: BTreeMap<u64, u64>,
    /// Appended and not committed.
    pending: BTreeMap<u64, u64>,
    /// Longest duration of each loss by identity when durable, by frame number when pending.
    missed: BTreeMap<u64, i64>,
    missed_pending: BTreeMap<u64, (u64, i64)>,
    /// Frames of the current epoch that the hub has.
    delivered: BTreeSet<u64>,
    /// Identities whose record the hub may have, so that it need not be kept here.
    reported: BTreeSet<u64>,
    tag: u64,
    clock: i64,
}

struct Run {
    storage: SimStorage,
    settings: Settings,
    journal: Option<Journal>,
    model: Model,
}

impl Run {
    fn new(when_full: WhenFull) -> Self {
        let settings = Settings {
            max_bytes: 5 * settings().segment_bytes,
            when_full,
            sidecar_bytes: 16 << 10,
            ..settings()
        };
        let storage = SimStorage::new();
        let mut run = Self { storage, settings, journal: None, model: Model::default() };
        run.open();
        run
    }

    fn open(&mut self) {
        self.journal = None;
        self.model.pending.clear();
        self.model.missed_pending.clear();
        let storage = Arc::new(self.storage.clone());
        let (journal, recovery) =
            Journal::open(storage, self.settings.clone(), stamp(self.model.clock)).unwrap();
        assert!(recovery.damaged.is_empty(), "{recovery:?}");
        assert_ne!(recovery.began, Some(EpochReason::JournalLost));
        self.journal = Some(journal);
    }

    fn journal(&mut self) -> &mut Journal {
        self.journal.as_mut().unwrap()
    }

    fn epoch(&self) -> Epoch {
        self.journal.as_ref().unwrap().epoch()
    }

    /// What an append or a commit made durable by the way.
    fn settle(&mut self) {
        let end = self.journal().reader().durable().unwrap().1.frame;
        let later = self.model.pending.split_off(&(end + 1));
        let done = std::mem::replace(&mut self.model.pending, later);
        self.model.durable.extend(done);
        self.settle_missed(end);
    }

    /// A loss that lasts on must be told again, whatever the hub was told before.
    fn settle_missed(&mut self, end: u64) {
        let later = self.model.missed_pending.split_off(&end.saturating_add(1));
        for (id, to) in std::mem::replace(&mut self.model.missed_pending, later).into_values() {
            self.model.missed.insert(id, to);
            self.model.reported.remove(&id);
        }
    }

    fn act(&mut self, action: &Action) {
        self.model.clock += 1;
        match action {
            Action::Append { bytes } => {
                self.model.tag += 1;
                let tag = self.model.tag;
                match try_append(self.journal(), tag, *bytes) {
                    Ok(placed) => {
                        self.model.pending.insert(placed.number, tag);
                    }
                    Err(WriteError::Full { .. }) => self.expect_full(),
                    Err(error) => panic!("{error:?}"),
                }
                self.settle();
            }
            Action::Missed { id } => {
                let to = self.model.clock;
                let body = postcard::to_stdvec(&LossRecord::Unsequenced(Unsequenced {
                    id: *id,
                    subject: format!("device-{id}"),
                    cause: "device-silent".into(),
                    from: 0,
                    to,
                    count: Some(u64::try_from(to).unwrap()),
                    open: true,
                }))
                .unwrap();
                let draft = Draft {
                    kind: Kind::Loss,
                    codec: Codec::Plain,
                    body: &body,
                    count: 0,
                    stamp: stamp(to),
                };
                match self.journal().append(&draft) {
                    Ok(placed) => {
                        self.model.missed_pending.insert(placed.number, (*id, to));
                    }
                    Err(WriteError::Full { .. }) => self.expect_full(),
                    Err(error) => panic!("{error:?}"),
                }
                self.settle();
            }
            Action::Commit => {
                self.journal().commit().unwrap();
                self.settle();
                assert!(self.model.pending.is_empty());
            }
            Action::Acknowledge { percent } => self.acknowledge(*percent),
            Action::Rewind { percent } => self.rewind(*percent),
            Action::Close => {
                self.journal.take().unwrap().close().unwrap();
                let pending = std::mem::take(&mut self.model.pending);
                self.model.durable.extend(pending);
                self.settle_missed(u64::MAX);
                self.open();
            }
            Action::Crash => self.open(),
            Action::PowerCut { seed } => {
                self.journal = None;
                self.storage = self.storage.after_power_cut(*seed, true);
                self.open();
            }
            Action::Fork => self.fork(),
            Action::Sidecars => self.keep_sidecars(),
        }
    }

    /// Refusing is right only while the policy says so and the limit is reached.
    fn expect_full(&mut self) {
        assert_eq!(self.settings.when_full, WhenFull::StopRecording);
        let stats = self.journal().stats();
        assert!(stats.bytes + self.settings.segment_bytes > stats.max_bytes, "{stats:?}");
    }

    fn acknowledge(&mut self, percent: u64) {
        let epoch = self.epoch();
        let reader = self.journal().reader();
        let delivered = self.journal().delivered();
        let end = reader.durable().unwrap().1.frame;
        let from = delivered.position.map_or(0, |last| last.frame + 1);
        if from > end {
            return;
        }
        let to = from + (end - from) * percent / 100;
        let Some(position) = reader.position_of(epoch, to).unwrap() else { return };
        // The hub gets what is kept up to there.
        for frame in frames_of(&reader, epoch, from) {
            if frame.header.number > to {
                break;
            }
            self.model.delivered.insert(frame.header.number);
            match frame.loss {
                Some(LossRecord::Unsequenced(record)) => {
                    self.model.reported.insert(record.id);
                }
                Some(LossRecord::Bridge(bridge)) => {
                    self.model.reported.extend(bridge.folded.iter().map(|it| it.id));
                    self.model.delivered.extend(bridge.first_frame..=bridge.last_frame);
                }
                _ => {}
            }
        }
        self.journal().acknowledge(epoch, position, b"hub").unwrap();
    }

    fn rewind(&mut self, percent: u64) {
        let epoch = self.epoch();
        let Some(last) = self.journal().delivered().position else { return };
        let to = last.frame * percent / 100;
        let hub = self.journal().reader().position_of(epoch, to).unwrap();
        if hub.is_none() && to != 0 {
            // The hub would hold a frame that is no longer kept; its position is known there.
            return;
        }
        let rewound = self.journal().rewind(epoch, hub).unwrap();
        let gone: Vec<u64> =
            self.model.delivered.iter().copied().filter(|it| *it > to || hub.is_none()).collect();
        for frame in gone {
            self.model.delivered.remove(&frame);
        }
        let bridge = self.journal().lost_at_hub(epoch, hub);
        match bridge {
            Ok(bridge) => assert_eq!(bridge.is_some(), rewound.incomplete),
            Err(WriteError::Full { .. }) => {
                self.expect_full();
                // Not named: the hub is taken to have them after all.
                self.model.delivered.extend(0..rewound.resume);
            }
            Err(error) => panic!("{error:?}"),
        }
        // Loss records that the hub had and lost may be gone for good with delivered segments:
        // the bridge that names those frames says so.
        if rewound.incomplete {
            self.model.reported.extend(self.model.missed.keys());
        }
        self.settle();
    }

    fn keep_sidecars(&mut self) {
        let reader = self.journal().reader();
        for span in reader.segments().iter().filter(|span| span.sealed && !span.sidecar) {
            match reader.keep_sidecar(span, &sidecar_of(span)) {
                Ok(()) | Err(SidecarError::NoRoom { .. }) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    fn fork(&mut self) {
        if self.settings.when_full == WhenFull::StopRecording {
            return;
        }
        self.journal().commit().unwrap();
        self.settle();
        let old = self.epoch();
        let from = self.journal().delivered().position.map_or(0, |last| last.frame + 1);
        let before: Vec<u64> = frames_of(&self.journal().reader(), old, from)
            .iter()
            .filter_map(common::Got::tag)
            .collect();
        let dropped = self.journal().stats().dropped_samples;
        let new = self.journal().start_epoch(EpochReason::Fork, Some(from), &[]).unwrap();
        assert_ne!(old, new);
        let after: BTreeMap<u64, u64> = frames_of(&self.journal().reader(), new, 0)
            .iter()
            .filter_map(|it| Some((it.header.number, it.tag()?)))
            .collect();
        // A full journal may pack a little worse than before; what then goes has its bridge.
        let carried: Vec<u64> = after.values().copied().collect();
        assert!(before.ends_with(&carried), "carried, in order: {before:?} {carried:?}");
        let dropped = self.journal().stats().dropped_samples - dropped;
        let missing = u64::try_from(before.len() - carried.len()).unwrap();
        assert_eq!(dropped, 2 * missing, "{before:?} {carried:?}");
        self.model.durable = after;
        self.model.delivered.clear();
    }

    fn check(&mut self) {
        let epoch = self.epoch();
        let reader = self.journal().reader();
        let frames = frames_of(&reader, epoch, 0);
        let mut named = BTreeSet::new();
        let mut kept = BTreeMap::new();
        let mut missed: BTreeMap<u64, i64> = BTreeMap::new();
        for frame in &frames {
            kept.insert(frame.header.number, frame.tag());
            let records = match &frame.loss {
                Some(LossRecord::Bridge(bridge)) => {
                    named.extend(bridge.first_frame..=bridge.last_frame);
                    bridge.folded.clone()
                }
                Some(LossRecord::Unsequenced(record)) => vec![record.clone()],
                _ => Vec::new(),
            };
            for record in records {
                let longest = missed.entry(record.id).or_insert(record.to);
                *longest = record.to.max(*longest);
            }
        }
        for (number, tag) in &self.model.durable {
            match kept.get(number) {
                Some(found) => assert_eq!(*found, Some(*tag), "frame {number}"),
                None => assert!(
                    named.contains(number) || self.model.delivered.contains(number),
                    "frame {number} is gone and nothing names it"
                ),
            }
        }
        for (number, tag) in &kept {
            if let Some(tag) = tag {
                assert_eq!(self.model.durable.get(number), Some(tag), "frame {number} is invented");
            }
        }
        for (id, to) in &self.model.missed {
            let found = missed.get(id);
            assert!(
                found.is_some_and(|found| found >= to) || self.model.reported.contains(id),
                "loss {id} until {to} is forgotten: {found:?}"
            );
        }
        let stats = self.journal().stats();
        assert!(stats.bytes <= stats.max_bytes, "{stats:?}");
        for span in reader.segments() {
            if let Some(sidecar) = reader.sidecar(&span) {
                let length = usize::try_from(sidecar.length()).unwrap();
                // Torn by a power cut it is none, and never another segment's.
                if let Some(content) = sidecar.read(0, length) {
                    assert_eq!(content, sidecar_of(&span), "sidecar of segment {}", span.number);
                }
            }
        }
        let stats = self.journal().stats();
        let on_disk: usize = self
            .storage
            .files()
            .iter()
            .filter(|(name, _)| name.ends_with(".tgj") || name.ends_with(".tgx"))
            .map(|(_, size)| size)
            .sum();
        assert_eq!(u64::try_from(on_disk).unwrap(), stats.bytes);
    }
}

/// Some blocks that only this segment has.
fn sidecar_of(span: &SegmentSpan) -> Vec<u8> {
    let seed = (span.epoch, span.number, span.first_seq, span.end_frame);
    format!("{seed:?}").into_bytes().into_iter().cycle().take(9_000).collect()
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 192,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(
            "proptest-regressions/model.txt",
        ))),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn nothing_is_lost_unnamed_or_invented_whatever_happens(actions in actions()) {
        let mut run = Run::new(WhenFull::DropOldest);
        for action in &actions {
            run.act(action);
        }
        run.check();
    }

    #[test]
    fn a_journal_that_must_not_drop_refuses_and_keeps_everything(actions in actions()) {
        let mut run = Run::new(WhenFull::StopRecording);
        for action in &actions {
            run.act(action);
        }
        prop_assert_eq!(run.journal().stats().dropped_frames, 0);
        run.check();
    }
}
