//! Everything that is postcard: small bodies, cursors, what the catalog's file holds.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_journal::{
    Bridge, BridgeCause, EpochReason, FrameHash, Header, LossRecord, Predecessor,
};
use tidegate_record::{Catalog, ClockEvent};
use tidegate_translator::Sample;
use tidegate_uplink::{Cursor, MessageEnd};

use crate::chain::{base, clock_event, loss, readings, tags};
use crate::{KIB, MIB, Target, at_most, seed};

pub(crate) const TARGET: Target = Target {
    name: "headers",
    run,
    seeds,
    words: &[],
    // serde takes at most 1 MiB for a length that is merely claimed.
    memory: |length| at_most(2 * MIB + 64 * KIB + 40 * length),
    mutations: 20000,
};

fn run(bytes: &[u8]) {
    let Some((which, body)) = bytes.split_first() else { return };
    match which % 7 {
        0 => comes_back::<Header>(body),
        1 => comes_back::<LossRecord>(body),
        2 => {
            comes_back::<ClockEvent>(body);
            if let Ok(event) = ClockEvent::decode(body) {
                assert_eq!(ClockEvent::decode(&event.encode().unwrap()), Ok(event));
                let _ = event.step();
            }
        }
        3 => {
            comes_back::<Vec<Cursor>>(body);
            comes_back::<(Vec<Cursor>, Vec<MessageEnd>)>(body);
        }
        4 => comes_back::<Catalog>(body),
        5 => comes_back::<Vec<Sample>>(body),
        _ => comes_back::<Vec<LossRecord>>(body),
    }
}

/// What was read can be written, and is the same then, byte for byte: compared as bytes, because
/// a NaN does not equal itself.
fn comes_back<T: Serialize + DeserializeOwned + Debug>(body: &[u8]) {
    let Ok((read, _)) = postcard::take_from_bytes::<T>(body) else { return };
    let written = postcard::to_stdvec(&read).expect("what was read can be written");
    let again: T = postcard::from_bytes(&written).expect("what was written can be read");
    assert_eq!(postcard::to_stdvec(&again).unwrap(), written, "{read:?}");
}

fn seeds() -> Vec<(String, Vec<u8>)> {
    fn of(which: u8, name: &str, it: &impl Serialize) -> (String, Vec<u8>) {
        seed(name, [vec![which], postcard::to_stdvec(it).unwrap()].concat())
    }
    let first = tidegate_journal::frame::decode(&base().frames[0].bytes).unwrap();
    let last = first.header.next_seq();
    let position =
        tidegate_journal::Position { frame: 0, next_seq: last, hash: FrameHash::of(first.bytes) };
    let end = MessageEnd { epoch: base().epoch, last: position };
    let bridge = Bridge {
        cause: BridgeCause::DroppedOldest,
        first_frame: 3,
        last_frame: 9,
        first_seq: 40,
        end_seq: 90,
        hash_before: FrameHash([1; 32]),
        hash_after: FrameHash([2; 32]),
        wall: (5, 6),
        folded: match loss(2) {
            LossRecord::Unsequenced(it) => vec![it],
            _ => Vec::new(),
        },
    };
    let predecessor = Predecessor {
        reason: EpochReason::Fork,
        epoch: Some(base().epoch),
        last: Some(position),
        carried_frames: 4,
    };
    vec![
        of(0, "header", &first.header),
        of(1, "bridge", &LossRecord::Bridge(bridge)),
        of(1, "unsequenced", &loss(1)),
        of(1, "predecessor", &LossRecord::Predecessor(predecessor)),
        of(2, "clock", &clock_event()),
        of(3, "cursors", &Vec::<Cursor>::new()),
        of(3, "ends", &(Vec::<Cursor>::new(), vec![end])),
        of(4, "catalog", &tags()),
        of(5, "samples", &readings(0, 2)),
        of(6, "losses", &vec![loss(1), loss(2)]),
    ]
}
