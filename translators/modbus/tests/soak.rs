//! Hours of random misbehaviour in seconds: whatever happens, values are right, slots add up, and
//! the device comes back.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::{Fault, Run, holding, spec, standing, tag};
use proptest::prelude::*;
use tidegate_modbus::{DataType, DeviceSpec, Table};
use tidegate_translator::DeviceState;
use tokio::time::sleep;

fn any_fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        3 => Just(Fault::None),
        1 => Just(Fault::RefuseConnect),
        1 => Just(Fault::HangConnect),
        1 => Just(Fault::Silent),
        1 => (1u64..3_000).prop_map(|ms| Fault::Late(Duration::from_millis(ms))),
        1 => (1u64..3_000).prop_map(|ms| Fault::Slow(Duration::from_millis(ms))),
        1 => (0usize..300).prop_map(Fault::CloseAfter),
        1 => any::<u8>().prop_map(Fault::Exception),
        1 => (0u16..320).prop_map(Fault::Hole),
        1 => (0u16..320).prop_map(Fault::Poison),
        1 => (1u64..3_000).prop_map(|ms| Fault::IdleClose(Duration::from_millis(ms))),
        1 => (1u16..20).prop_map(Fault::AtMost),
        1 => (1u32..6).prop_map(Fault::Busy),
        2 => prop::sample::select(vec![
            Fault::WrongTransaction, Fault::WrongUnit, Fault::WrongFunction, Fault::OtherTable,
            Fault::FewerRegisters, Fault::MoreRegisters, Fault::CountBeyondLength,
            Fault::CountBelowLength, Fault::OddCount, Fault::NoRegisters, Fault::Oversize,
            Fault::LengthZero, Fault::LengthTwo, Fault::WrongProtocol, Fault::Garbage,
            Fault::ByteASecond, Fault::Twice, Fault::PreviousFirst, Fault::Unasked,
            Fault::ExceptionOfOtherFunction,
        ]),
    ]
}

fn device(period_ms: u64, timeout_ms: u64) -> DeviceSpec {
    let mut tags: Vec<_> = [0, 1, 2, 8, 9, 100, 104, 105, 300, 301, 302].map(holding).to_vec();
    tags.push(tag(Table::HoldingRegister, 200, DataType::Uint32));
    tags.extend((0..20).map(|at| tag(Table::InputRegister, at, DataType::Uint16)));
    tags.extend([3, 4, 17].map(|at| tag(Table::Coil, at, DataType::Bool)));
    tags.push(tag(Table::DiscreteInput, 3, DataType::Bool));
    DeviceSpec {
        poll_every: Duration::from_millis(period_ms),
        timeout: Duration::from_millis(timeout_ms),
        max_gap: 6,
        ..spec(tags)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_faults_never_give_a_wrong_value_nor_lose_count(
        faults in prop::collection::vec((any_fault(), 1u64..20), 1..25),
        period_ms in prop_oneof![Just(10u64), Just(100), Just(1_000), Just(7_300)],
        timeout_ms in prop_oneof![Just(50u64), Just(400), Just(5_000)],
        grouped in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut spec = device(period_ms, timeout_ms);
            if grouped {
                // Three groups that share tables and blocks.
                let every = |at: usize| Duration::from_millis(period_ms * [1, 3, 4][at % 3]);
                let tags = spec.tags.iter().cloned().enumerate();
                let tags: Vec<_> =
                    tags.map(|(at, tag)| common::every_so_often(tag, every(at))).collect();
                spec.tags = tags.into();
            }
            let run = Run::start(spec, Fault::None);
            for (fault, periods) in faults {
                run.plc.set(fault);
                sleep(Duration::from_millis(periods * period_ms)).await;
            }
            run.plc.set(Fault::None);
            // At most the longest rest of anything refused, and some polls.
            for _ in 0..70 {
                sleep(Duration::from_secs(10)).await;
                let told = run.recorder.told.lock().unwrap();
                if told.states.last().unwrap().1 == DeviceState::Live {
                    break;
                }
            }
            sleep(Duration::from_millis(9 * period_ms)).await;
            let spec = run.spec.clone();
            let ended = run.elapsed();
            let told = run.stop().await;
            let standing = standing(&told, ended);
            assert_eq!(standing.len(), spec.tags.len());
            assert!(standing.values().all(|quality| quality.is_good()), "{standing:?}");
            assert_eq!(told.states.last().unwrap().1, DeviceState::Live);
        });
    }
}
