//! Random schedules of faults, appends and drops. In the end the faults stop, and what is at the
//! hub must be every frame once and in order, apart from what has a name.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::hub::{DOMAIN, Hub};
use super::journal::{epoch, hash};
use super::world::{Fate, World};
use tidegate_journal::Position;

#[derive(Debug, Clone)]
enum Op {
    Append(usize, usize),
    Drop(usize),
    Run(u32),
    Fates(Vec<Fate>),
    LinkDown,
    LinkUp,
    RollBack(usize),
    Expire(usize),
    Purge,
    DeleteLast,
    Recreate,
    OtherDomain(bool),
    Lag(usize),
    Full(bool),
    NoPermission(bool),
    NoStream(bool),
    Size(Option<usize>),
    Payload(usize),
    HubPayload(usize, bool),
    Overheard,
    Forbid(bool),
    OthersWrite(usize),
    Foreign,
    Restart,
    Crash,
    CloneWrites,
    NewEpoch,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        3 => Just(Fate::AckLost),
        2 => Just(Fate::RequestLost),
        2 => (0_u32..20_000).prop_map(Fate::Late),
        1 => Just(Fate::Twice),
        2 => any::<bool>().prop_map(|stored| Fate::Cut { stored }),
        1 => Just(Fate::ForeignAck),
        1 => Just(Fate::NoResponders),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => (1_usize..20, 200_usize..9_000).prop_map(|(n, bytes)| Op::Append(n, bytes)),
        2 => (1_usize..30).prop_map(Op::Drop),
        10 => (1_u32..15_000).prop_map(Op::Run),
        6 => proptest::collection::vec(fate(), 1..5).prop_map(Op::Fates),
        1 => Just(Op::LinkDown),
        3 => Just(Op::LinkUp),
        2 => (1_usize..12).prop_map(Op::RollBack),
        1 => (1_usize..8).prop_map(Op::Expire),
        1 => Just(Op::Purge),
        1 => Just(Op::DeleteLast),
        1 => Just(Op::Recreate),
        1 => any::<bool>().prop_map(Op::OtherDomain),
        2 => (0_usize..6).prop_map(Op::Lag),
        1 => any::<bool>().prop_map(Op::Full),
        1 => any::<bool>().prop_map(Op::NoPermission),
        1 => any::<bool>().prop_map(Op::NoStream),
        1 => proptest::option::of(3_000_usize..40_000).prop_map(Op::Size),
        1 => (3_000_usize..40_000).prop_map(Op::Payload),
        1 => (3_000_usize..40_000, any::<bool>()).prop_map(|(most, told)| Op::HubPayload(most, told)),
        1 => Just(Op::Overheard),
        1 => any::<bool>().prop_map(Op::Forbid),
        2 => (1_usize..5).prop_map(Op::OthersWrite),
        1 => Just(Op::Foreign),
        2 => Just(Op::Restart),
        1 => Just(Op::Crash),
        1 => Just(Op::CloneWrites),
        1 => Just(Op::NewEpoch),
    ]
}

#[derive(Default)]
struct Happened {
    cloned: bool,
    /// A killed run had not kept yet what it had sent.
    forgot: bool,
    dropped: bool,
    foreign: bool,
    /// Sequences were given out twice.
    went_back: bool,
    deleted: bool,
}

fn apply(world: &mut World, op: Op, happened: &mut Happened) {
    match op {
        Op::Append(frames, bytes) => world.append(frames, bytes),
        Op::Drop(frames) => {
            happened.dropped = true;
            world.journal.drop_oldest(frames);
        }
        Op::Run(ms) => world.run(Duration::from_millis(ms.into())),
        Op::Fates(fates) => world.fates = fates,
        Op::LinkDown => world.link_down(),
        Op::LinkUp => world.link_up(),
        Op::RollBack(stores) => {
            happened.went_back = true;
            world.link_down();
            world.hub.roll_back(stores);
        }
        Op::Expire(messages) => world.hub.expire(messages),
        Op::Purge => world.hub.purge(),
        Op::DeleteLast => {
            // Without copies on the way: an administrator's deletion and a copy delayed across it
            // would meet under the same expectation.
            world.link_down();
            happened.deleted = true;
            let epoch = world.epoch();
            world.hub.delete_last(epoch);
        }
        Op::Recreate => {
            happened.went_back = true;
            world.link_down();
            world.hub.recreate();
        }
        Op::OtherDomain(other) => {
            world.hub.domain = if other { "elsewhere".into() } else { DOMAIN.into() };
        }
        Op::Lag(by) => {
            world.hub.lagging = by > 0;
            world.stale_by = by;
        }
        Op::Full(full) => world.hub.full = full,
        Op::NoPermission(no) => world.hub.no_permission = no,
        Op::NoStream(no) => world.hub.no_stream = no,
        Op::Size(size) => world.hub.max_msg_size = size,
        Op::Payload(payload) => {
            world.link_down();
            world.max_payload = payload;
        }
        Op::HubPayload(most, told) => (world.hub.max_payload, world.hub.greets) = (most, told),
        Op::Forbid(forbids) => world.hub.forbids = forbids,
        Op::Overheard => world.tell(tidegate_uplink::Event::Overheard),
        Op::OthersWrite(messages) => world.hub.others_write(messages, epoch(0xff)),
        // What lies below somebody else's message cannot be seen: a message of ours that the hub
        // lost, or one of a clone's, is hidden by it.
        Op::Foreign if happened.cloned || happened.went_back || happened.deleted => {}
        Op::Foreign => {
            happened.foreign = true;
            let epoch = world.epoch();
            world.hub.foreign(epoch);
        }
        Op::Restart => world.restart(),
        Op::Crash => happened.forgot |= world.crash(),
        // A clone that writes exactly where the hub lost a message of ours, under the sequence of
        // that message, is told apart only by readers, from the chain of hashes.
        Op::CloneWrites if happened.went_back || happened.foreign => {}
        Op::CloneWrites => {
            happened.cloned = true;
            let epoch = world.epoch();
            // A clone has what we had when it was made, and goes on from there.
            let taken = world.hub.ledger.iter().filter(|(_, of, _)| *of == epoch);
            let frame = taken.map(|(_, _, last)| last + 1).max().unwrap_or(0);
            let hash = hash(epoch, frame, 2);
            let last = Position { frame, next_seq: (frame + 1) * 10, hash };
            world.hub.clone_writes(epoch, last);
        }
        Op::NewEpoch => {
            if world.journal.logs.len() < 6 {
                world.journal.begin_epoch();
                world.append(1, 300);
            }
        }
    }
}

fn settle(world: &mut World) {
    world.fates.clear();
    world.hub.domain = DOMAIN.into();
    world.hub.lagging = false;
    world.hub.full = false;
    world.hub.no_permission = false;
    world.hub.no_stream = false;
    world.hub.max_msg_size = None;
    world.hub.max_payload = 1 << 20;
    world.hub.forbids = false;
    world.max_payload = 1 << 20;
    world.link_down();
    world.link_up();
    world.append(1, 300);
    world.run_secs(900);
    // A rollback is noticed at the next message.
    world.append(1, 300);
    world.run_secs(900);
}

fn check(world: &World, happened: &Happened) {
    assert_eq!(world.backlog(), 0, "backlog is left: {:?}", world.uplink);
    assert!(
        world.forks.is_empty() || happened.cloned || (happened.forgot && happened.dropped),
        "a fork without a second writer"
    );
    for log in &world.journal.logs {
        let found = world.hub.frames(log.epoch);
        if log.closed {
            continue;
        }
        // A former epoch that the journal has let go of is no longer watched.
        let is_current = log.epoch == world.journal.logs.last().unwrap().epoch;
        let is_watched = is_current || !log.kept.is_empty();
        if !is_watched && (happened.went_back || happened.deleted) {
            continue;
        }
        // A clone that goes on with a former epoch is noticed when the link next opens.
        if happened.cloned && !is_current {
            continue;
        }
        let mut found = found;
        if happened.foreign && world.uplink_repeated_past_foreign() {
            // The one place where frames may stand twice; it is counted.
            found.sort_by_key(|frame| frame.frame);
            found.dedup();
        }
        for pair in found.windows(2) {
            assert!(
                pair[0].frame < pair[1].frame,
                "epoch {}: frame {} stands before {}",
                log.epoch,
                pair[0].frame,
                pair[1].frame
            );
        }
        let at_hub: BTreeSet<_> = found.iter().map(|frame| frame.frame).collect();
        for frame in &found {
            let kept = log.written[usize::try_from(frame.frame).unwrap()];
            assert_eq!(*frame, kept.at, "the hub has another frame than was written");
        }
        for number in 0..log.written.len() as u64 {
            let is_named = log.dropped.contains(&number)
                || log.lost_at_hub.contains(&number)
                || world.hub.expired.contains(&(log.epoch, number));
            assert!(
                at_hub.contains(&number) || is_named,
                "epoch {}: frame {number} of {} is neither at the hub nor named; there: {at_hub:?}",
                log.epoch,
                log.written.len()
            );
        }
    }
}

impl World {
    fn uplink_repeated_past_foreign(&self) -> bool {
        self.repeated_past_foreign + self.uplink.counters().repeated_past_foreign > 0
    }
}

fn run(replicated: bool, ops: Vec<Op>) {
    let mut world = World::with(Hub::new(replicated));
    let mut happened = Happened::default();
    world.link_up();
    for op in ops {
        apply(&mut world, op, &mut happened);
    }
    settle(&mut world);
    check(&world, &happened);
}

/// More for a long run: `PROPTEST_CASES=1000000`.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(4_000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_hub_ends_with_every_frame_once_in_order_or_named(
        replicated in any::<bool>(),
        ops in proptest::collection::vec(op(), 1..60),
    ) {
        run(replicated, ops);
    }
}

/// Schedules that once ended wrongly, each for the reason in its name.
#[test]
fn a_resend_under_the_lost_messages_sequence_is_not_taken_for_it_after_a_start() {
    run(
        false,
        vec![
            Op::Append(14, 200),
            Op::Run(2_040),
            Op::RollBack(1),
            Op::LinkUp,
            Op::Append(5, 200),
            Op::Drop(1),
            Op::Run(2_000),
            Op::Fates(vec![Fate::Cut { stored: true }]),
            Op::Run(2_080),
            Op::Restart,
        ],
    );
}

#[test]
fn a_rewound_message_under_its_old_sequence_still_names_what_is_gone() {
    run(
        false,
        vec![
            Op::Append(14, 200),
            Op::Drop(1),
            Op::Run(2_040),
            Op::RollBack(1),
            Op::Drop(1),
            Op::NewEpoch,
            Op::Fates(vec![Fate::Cut { stored: true }]),
            Op::LinkUp,
            Op::Run(80),
        ],
    );
}

#[test]
fn frames_over_a_foreign_message_that_the_hub_lost_are_sent_again() {
    run(
        false,
        vec![
            Op::Fates(vec![Fate::AckLost; 3]),
            Op::Append(9, 6_554),
            Op::Run(40),
            Op::NewEpoch,
            Op::Foreign,
            Op::Restart,
            Op::Run(9_456),
            Op::RollBack(1),
        ],
    );
}

#[test]
fn the_same_frames_over_a_foreign_message_get_another_id() {
    run(
        false,
        vec![
            Op::Size(Some(8_606)),
            Op::Append(1, 7_893),
            Op::Fates(vec![Fate::AckLost, Fate::Cut { stored: false }]),
            Op::LinkUp,
            Op::Run(4_423),
            Op::Foreign,
        ],
    );
}
