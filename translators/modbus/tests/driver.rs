//! The driver's own rules: slots, holes in the register map, slow and overloaded devices, reading
//! once.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::{Fault, PERIOD, Plc, Run, bad, holding, missed, qualities, spec, tag, three_blocks};
use tidegate_modbus::{DataType, DeviceSpec, Table};
use tidegate_translator::{Device, DeviceState, LossCause, Quality, Reason};

/// 20 registers without a gap: one block.
fn one_block() -> DeviceSpec {
    spec((100..120).map(holding).collect())
}

#[tokio::test(start_paused = true)]
async fn every_slot_of_a_healthy_device_is_one_sample_per_tag_on_the_grid() {
    let run = Run::start(three_blocks(), Fault::None);
    run.for_secs(60).await;
    let told = run.stop().await;
    assert_eq!(told.missed, []);
    let times: Vec<_> = qualities(&told, 0).into_iter().map(|(at, _)| at).collect();
    assert_eq!(times[0], Duration::ZERO, "the first poll is at once");
    for pair in times[1..].windows(2) {
        assert_eq!(pair[1] - pair[0], PERIOD, "{pair:?}");
    }
    let states: Vec<_> = told.states.iter().map(|s| s.1).collect();
    assert_eq!(states, [DeviceState::Connecting, DeviceState::Live]);
}

#[tokio::test(start_paused = true)]
async fn all_tables_and_shapes_are_read_together() {
    let mut bit = tag(Table::InputRegister, 300, DataType::Bool);
    bit.address.bit = Some(2);
    let mut tags = vec![
        tag(Table::Coil, 3, DataType::Bool),
        tag(Table::Coil, 1999, DataType::Bool),
        tag(Table::DiscreteInput, 65_535, DataType::Bool),
        tag(Table::InputRegister, 10, DataType::Uint32),
        tag(Table::HoldingRegister, 65_534, DataType::Uint32),
        tag(Table::HoldingRegister, 7, DataType::Uint16),
    ];
    let run = Run::start(spec(tags.clone()), Fault::None);
    run.for_secs(3).await;
    assert_eq!(run.stop().await.samples.iter().filter(|(_, s)| s.quality.is_good()).count(), 24);

    // Register 300 holds 300 = 0b1_0010_1100: bit 2 is set, bit 0 is not.
    tags = vec![bit];
    let plc = Plc::new(Fault::None);
    let readings = common::device(&spec(tags), &plc).read_once().await;
    assert_eq!(readings[0].value, tidegate_translator::Value::Bool(true));
}

#[tokio::test(start_paused = true)]
async fn a_hole_in_a_block_is_isolated_and_the_other_tags_stay_good() {
    let run = Run::start(one_block(), Fault::Hole(107));
    run.for_secs(5).await;
    let told_early = standing_now(&run);
    assert_eq!(told_early.iter().filter(|q| **q == bad(Reason::Refused)).count(), 1);
    let before = run.plc.requests();
    run.for_secs(100).await;
    let per_slot = (run.plc.requests() - before) / 100;
    assert!(per_slot <= 8, "{per_slot} requests a second for one bad register of 20");
    let told = run.stop().await;

    for tag in 0..20 {
        let seen = qualities(&told, tag);
        if tag == 7 {
            assert_eq!(seen, [(Duration::ZERO, bad(Reason::Refused))], "told once");
        } else {
            assert!(seen.iter().all(|(_, q)| q.is_good()), "tag {tag}: {seen:?}");
            assert!(seen.len() >= 104, "tag {tag} was read {} times", seen.len());
        }
    }
    assert!(told.samples.iter().any(|(_, s)| s.status == 2));
    assert_eq!(missed(&told, LossCause::DeviceRefused), told.missed.len() as u64);
    assert!(told.missed.iter().all(|(_, m)| m.tag.as_deref() == Some("P/holding/107")));
    let (_, state, why) = told.states.last().unwrap();
    assert_eq!(*state, DeviceState::Degraded);
    assert_eq!(
        why.as_deref(),
        Some("1 of 20 tags not read: holding:107 refused with exception 2 (illegal data address)")
    );
}

fn standing_now(run: &Run) -> Vec<Quality> {
    let told = run.recorder.told.lock().unwrap();
    common::standing(&told, run.elapsed()).into_values().collect()
}

#[tokio::test(start_paused = true)]
async fn a_bridged_hole_costs_no_reading() {
    let mut spec = spec([100, 101, 106, 107].map(holding).to_vec());
    spec.max_gap = 10;
    let run = Run::start(spec, Fault::Hole(103));
    run.for_secs(600).await;
    let requests = run.plc.requests();
    assert!(requests < 2 * 601 + 20, "{requests} requests: the whole is tried too often");
    let told = run.stop().await;
    assert!(told.samples.iter().all(|(_, s)| s.quality.is_good()));
    assert_eq!(told.missed, []);
    assert_eq!(told.states.last().unwrap().1, DeviceState::Live);
}

#[tokio::test(start_paused = true)]
async fn a_map_that_is_repaired_is_read_whole_again() {
    let run = Run::start(one_block(), Fault::Hole(107));
    run.for_secs(30).await;
    run.plc.set(Fault::None);
    run.for_secs(60).await;
    let before = run.plc.requests();
    run.for_secs(10).await;
    assert_eq!(run.plc.requests() - before, 10, "one request a slot");
    assert!(standing_now(&run).iter().all(|q| q.is_good()));
    assert_eq!(run.stop().await.states.last().unwrap().1, DeviceState::Live);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_reads_fewer_registers_at_once_is_read_in_smaller_blocks() {
    let run = Run::start(one_block(), Fault::AtMost(6));
    run.for_secs(30).await;
    let told = run.stop().await;
    assert!(told.samples.iter().all(|(_, s)| s.quality.is_good()));
    assert_eq!(told.missed, []);
}

#[tokio::test(start_paused = true)]
async fn a_register_that_costs_the_connection_does_not_take_the_others_along() {
    for poison in [0, 100, 200] {
        let run = Run::start(three_blocks(), Fault::Poison(poison));
        run.for_secs(120).await;
        let told = run.stop().await;
        let poisoned = u32::from(poison / 100) * 2;
        for tag in 0..6 {
            let good = qualities(&told, tag).iter().filter(|(_, q)| q.is_good()).count();
            if tag == poisoned || tag == poisoned + 1 {
                assert_eq!(good, 0, "poison at {poison}: tag {tag}");
            } else {
                assert!(good >= 105, "poison at {poison}: tag {tag} was read {good} times of 120");
            }
        }
        assert_eq!(told.states.last().unwrap().1, DeviceState::Degraded);
    }
}

#[tokio::test(start_paused = true)]
async fn polls_that_take_too_long_are_counted_slot_by_slot() {
    // 3 blocks of 390 ms: 1.17 s for each slot of 1 s.
    let run = Run::start(three_blocks(), Fault::Slow(Duration::from_millis(390)));
    run.for_secs(117).await;
    let told = run.stop().await;
    assert!(told.samples.iter().all(|(_, s)| s.quality.is_good()));
    let overrun = missed(&told, LossCause::PollOverrun);
    assert!((90..=110).contains(&overrun), "{overrun} of 700 readings were not due to be taken");
    assert_eq!(missed(&told, LossCause::DeviceSilent), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stop_between_two_polls_takes_no_time() {
    for fault in [Fault::None, Fault::RefuseConnect] {
        let run = Run::start(three_blocks(), fault);
        tokio::time::sleep(PERIOD * 5 + PERIOD / 2).await;
        let asked = tokio::time::Instant::now();
        run.stop().await;
        assert!(asked.elapsed() <= Duration::from_millis(1), "{:?}", asked.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_is_under_way_at_a_stop_is_handed_over_whole() {
    let run = Run::start(three_blocks(), Fault::Slow(Duration::from_millis(100)));
    run.for_secs(5).await;
    let (asked, begun) = (run.plc.requests(), run.elapsed());
    while run.plc.requests() == asked {
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(run.elapsed() < begun + 2 * PERIOD, "it polls no more");
    }
    let plc = run.plc.clone();
    let told = run.stop().await;
    assert_eq!(plc.requests(), asked + 3, "the rest of the poll is asked for, and no more");
    assert_eq!(told.missed, []);
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_is_silent_holds_a_stop_up_for_a_second() {
    let spec = DeviceSpec { timeout: Duration::from_secs(10), ..three_blocks() };
    let run = Run::start(spec, Fault::None);
    run.for_secs(5).await;
    run.plc.set(Fault::Silent);
    tokio::time::sleep(PERIOD + PERIOD / 2).await;
    let told = run.stop().await;
    assert!(missed(&told, LossCause::NotRunning) >= 6, "{:?}", told.missed);
}

#[tokio::test(start_paused = true)]
async fn a_device_with_a_long_time_out_is_told_lost_before_it_ends() {
    let spec = DeviceSpec { timeout: Duration::from_secs(10), ..three_blocks() };
    let run = Run::start(spec, Fault::None);
    run.for_secs(10).await;
    run.plc.set(Fault::Silent);
    let began = run.elapsed();
    run.for_secs(3).await;
    let told = std::mem::take(&mut *run.recorder.told.lock().unwrap());
    for tag in 0..6 {
        let (at, quality) = *qualities(&told, tag).last().unwrap();
        assert_eq!(quality, bad(Reason::Timeout));
        assert!(at <= began + 2 * PERIOD, "tag {tag} was told lost {:?} late", at - began);
    }
    *run.recorder.told.lock().unwrap() = told;
    run.for_secs(30).await;
    run.plc.set(Fault::None);
    run.for_secs(20).await;
    let told = std::mem::take(&mut *run.recorder.told.lock().unwrap());
    assert_eq!(told.samples.iter().filter(|(_, s)| !s.quality.is_good()).count(), 6);
    assert_eq!(told.states.last().unwrap().1, DeviceState::Live);
    *run.recorder.told.lock().unwrap() = told;

    // The second time as the first.
    run.plc.set(Fault::Silent);
    run.for_secs(3).await;
    let told = run.stop().await;
    for tag in 0..6 {
        assert_eq!(qualities(&told, tag).last().unwrap().1, bad(Reason::Timeout));
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_that_comes_back_with_a_mended_map_is_read_at_once() {
    let run = Run::start(one_block(), Fault::Hole(107));
    run.for_secs(600).await;
    run.plc.set(Fault::Silent);
    run.for_secs(5).await;
    run.plc.set(Fault::None);
    run.for_secs(7).await;
    assert!(standing_now(&run).iter().all(|q| q.is_good()), "{:?}", standing_now(&run));
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn after_it_was_read_again_a_device_is_tried_soon_when_it_is_lost_anew() {
    let backoff = (Duration::from_secs(1), Duration::from_secs(64));
    let run = Run::start(DeviceSpec { backoff, ..three_blocks() }, Fault::None);
    run.for_secs(5).await;
    run.plc.set(Fault::Silent);
    run.for_secs(300).await;
    run.plc.set(Fault::None);
    run.for_secs(70).await;
    run.plc.set(Fault::Silent);
    let before = run.plc.dials();
    run.for_secs(10).await;
    let attempts = run.plc.dials() - before;
    assert!((3..=6).contains(&attempts), "{attempts} attempts in the first 10 s");
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_outlasts_its_slot_is_not_asked_again_in_it() {
    let timeout = Duration::from_millis(1_500);
    let run = Run::start(DeviceSpec { timeout, ..three_blocks() }, Fault::None);
    run.for_secs(10).await;
    run.plc.set(Fault::Silent);
    let (began, before) = (run.elapsed(), run.plc.requests());
    tokio::time::sleep(PERIOD + timeout + Duration::from_millis(1)).await;
    assert_eq!(run.plc.requests() - before, 1);
    let told = run.stop().await;
    let (at, state, _) = told.states.last().unwrap();
    assert_eq!(*state, DeviceState::Down);
    assert!(*at <= began + PERIOD + timeout);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_ignores_all_but_one_table_is_soon_read_where_it_answers() {
    let mut tags: Vec<_> = (0..8).map(|at| holding(at * 50)).collect();
    tags.push(tag(Table::Coil, 5, DataType::Bool));
    let run = Run::start(spec(tags), Fault::OnlyBits);
    run.for_secs(40).await;
    let before = run.plc.requests();
    run.for_secs(60).await;
    assert!(run.plc.requests() - before < 60 + 8 * 4, "the rest is asked now and then");
    let told = run.stop().await;
    let (early, late): (Vec<_>, Vec<_>) = qualities(&told, 8)
        .into_iter()
        .filter(|(_, quality)| quality.is_good())
        .partition(|(at, _)| *at < Duration::from_secs(40));
    assert!(early.len() > 25, "read {} times in 40 s", early.len());
    assert_eq!(late.len(), 60, "trying the others again costs this one nothing");
    assert_eq!(told.states.last().unwrap().1, DeviceState::Degraded);
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_after_the_silence_was_told_counts_and_no_slot_counts_twice() {
    let spec = DeviceSpec { timeout: Duration::from_secs(10), ..three_blocks() };
    let run = Run::start(spec, Fault::None);
    run.for_secs(10).await;
    run.plc.set(Fault::Slow(Duration::from_millis(3_300)));
    run.for_secs(60).await;
    run.plc.set(Fault::None);
    run.for_secs(20).await;
    let told = run.stop().await;
    assert_eq!(told.samples.last().unwrap().1.quality, Quality::Good);
    let silent = missed(&told, LossCause::DeviceSilent);
    let overrun = missed(&told, LossCause::PollOverrun);
    assert!(silent > 2 * overrun, "{silent} in silence, {overrun} for slow polls");
}

#[tokio::test(start_paused = true)]
async fn slots_of_a_device_that_is_down_are_missed_as_they_pass() {
    let run = Run::start(three_blocks(), Fault::RefuseConnect);
    run.for_secs(30).await;
    let told = std::mem::take(&mut *run.recorder.told.lock().unwrap());
    let last = told.missed.last().unwrap();
    assert!(run.elapsed() - last.0 <= PERIOD, "reported up to the present");
    assert!(told.missed.iter().all(|(_, m)| m.cause == LossCause::DeviceSilent && m.tag.is_none()));
    let slots = missed(&told, LossCause::DeviceSilent) / 6;
    assert!((28..=31).contains(&slots), "{slots}");
    *run.recorder.told.lock().unwrap() = told;
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_is_stopped_in_the_middle_of_anything_ends_and_accounts_for_it() {
    for fault in [Fault::HangConnect, Fault::Silent, Fault::ByteASecond, Fault::RefuseConnect] {
        for millis in [0, 1, 150, 399, 400, 401, 999, 2_500] {
            let run = Run::start(three_blocks(), fault);
            tokio::time::sleep(Duration::from_millis(millis)).await;
            run.stop().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_without_tags_is_idle_and_stops() {
    let run = Run::start(spec(vec![]), Fault::None);
    run.for_secs(10).await;
    assert_eq!(run.plc.dials(), 0);
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn reading_once_tells_for_each_tag_what_a_person_can_do() {
    let plc = Plc::new(Fault::Hole(107));
    let readings = common::device(&one_block(), &plc).read_once().await;
    let wrong: Vec<_> = readings.iter().filter(|r| r.error.is_some()).collect();
    assert_eq!(wrong.len(), 1);
    assert_eq!(wrong[0].tag.0, 7);
    let error = wrong[0].error.as_deref().unwrap();
    assert!(error.contains("exception 2 (illegal data address)"), "{error}");
    assert!(readings.iter().filter(|r| r.quality.is_good()).count() == 19);

    for (fault, reason, words) in [
        (Fault::RefuseConnect, Reason::NotConnected, "check address plc:502"),
        (Fault::HangConnect, Reason::NotConnected, "no connection within 400ms"),
        (Fault::Silent, Reason::Timeout, "check the unit number"),
        (Fault::Garbage, Reason::Malformed, "may not speak Modbus TCP"),
        (Fault::CloseAfter(0), Reason::NotConnected, "connection lost"),
    ] {
        let plc = Plc::new(fault);
        let readings = common::device(&three_blocks(), &plc).read_once().await;
        for reading in &readings {
            assert_eq!(reading.quality, bad(reason), "{fault:?}");
            let error = reading.error.as_deref().unwrap();
            assert!(error.contains(words), "{fault:?}: {error}");
        }
        assert!(plc.dials() <= 3, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn reading_once_reads_round_a_register_that_costs_the_connection() {
    let plc = Plc::new(Fault::Poison(100));
    let readings = common::device(&three_blocks(), &plc).read_once().await;
    let good: Vec<_> = readings.iter().map(|r| r.quality.is_good()).collect();
    assert_eq!(good, [true, true, false, false, true, true]);
}

#[tokio::test(start_paused = true)]
async fn a_busy_device_is_asked_again_inside_the_slot_and_no_reading_is_lost() {
    let run = Run::start(three_blocks(), Fault::Busy(2));
    run.for_secs(60).await;
    let requests = run.plc.requests();
    let told = run.stop().await;
    assert_eq!(told.missed, []);
    assert!(told.samples.iter().all(|(_, s)| s.quality.is_good()));
    assert!((3 * 3 * 60..3 * 3 * 62).contains(&requests), "{requests}: three times each block");
}

#[tokio::test(start_paused = true)]
async fn a_device_that_stays_busy_is_refused_before_the_next_slot() {
    let period = Duration::from_millis(200);
    let run = Run::start(DeviceSpec { poll_every: period, ..three_blocks() }, Fault::None);
    run.for_secs(5).await;
    run.plc.set(Fault::Busy(u32::MAX));
    let before = run.plc.requests();
    run.for_secs(10).await;
    let per_slot = (run.plc.requests() - before) / 50;
    assert!((4..=10).contains(&per_slot), "{per_slot} requests in a slot");
    let told = run.stop().await;
    assert_eq!(missed(&told, LossCause::PollOverrun), 0, "waiting costs no slot");
    let bad: Vec<_> = told.samples.iter().filter(|(_, s)| !s.quality.is_good()).collect();
    assert_eq!(bad.len(), 6, "told once: {bad:?}");
    assert!(bad.iter().all(|(_, s)| s.quality == bad_refused() && s.status == 6));
}

fn bad_refused() -> Quality {
    bad(Reason::Refused)
}

#[tokio::test(start_paused = true)]
async fn tags_of_different_intervals_are_read_side_by_side_each_on_its_own_grid() {
    let (fast, slow) = (Duration::from_millis(10), Duration::from_secs(1));
    let mut tags: Vec<_> = [0, 1, 50].map(|at| common::every_so_often(holding(at), fast)).to_vec();
    tags.extend([2, 100, 200].map(holding));
    let run = Run::start(DeviceSpec { poll_every: slow, ..spec(tags) }, Fault::None);
    run.for_secs(30).await;
    assert_eq!(run.plc.dials(), 1, "one connection for all");
    let told = run.stop().await;
    assert_eq!(told.missed, []);
    for tag in 0..6 {
        let times: Vec<_> = qualities(&told, tag).into_iter().map(|(at, _)| at).collect();
        let period = if tag < 3 { fast } else { slow };
        assert_eq!(times[0], Duration::ZERO);
        for pair in times[1..].windows(2) {
            // Another group's request may be on its way for the clock's millisecond.
            assert!((pair[1] - pair[0]).abs_diff(period) <= Duration::from_millis(1), "{pair:?}");
        }
    }
    let states: Vec<_> = told.states.iter().map(|s| s.1).collect();
    assert_eq!(states, [DeviceState::Connecting, DeviceState::Live]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_device_costs_its_fast_tags_slots_and_its_slow_ones_none() {
    let fast = Duration::from_millis(10);
    let mut tags: Vec<_> = [0, 1].map(|at| common::every_so_often(holding(at), fast)).to_vec();
    tags.extend([100, 200].map(holding));
    let run = Run::start(spec(tags), Fault::Slow(Duration::from_millis(15)));
    run.for_secs(60).await;
    let told = run.stop().await;
    let good = |tag| qualities(&told, tag).iter().filter(|(_, q)| q.is_good()).count();
    assert!(good(0) > 60 * 40, "{} readings in 60 s of a device that gives 66 a second", good(0));
    assert!(good(2) >= 60 && good(3) >= 60, "{} and {}", good(2), good(3));
    let overrun = missed(&told, LossCause::PollOverrun);
    assert!(overrun > 2 * 60 * 20, "{overrun} counted");
}

#[tokio::test(start_paused = true)]
async fn a_dead_device_is_asked_once_for_each_back_off_whichever_of_its_groups_asks() {
    let mut tags: Vec<_> = (0..5)
        .map(|at| {
            common::every_so_often(holding(at), Duration::from_millis(10 * u64::from(at + 1)))
        })
        .collect();
    tags.extend([100, 200].map(holding));
    let backoff = (Duration::from_secs(2), Duration::from_secs(2));
    let run = Run::start(DeviceSpec { backoff, ..spec(tags) }, Fault::None);
    run.for_secs(10).await;
    run.plc.set(Fault::Silent);
    run.for_secs(2).await;
    let before = run.plc.requests();
    run.for_secs(140).await;
    let probes = run.plc.requests() - before;
    // One to two seconds of back-off and a time-out of 400 ms.
    assert!((140 * 10 / 24 - 1..=100).contains(&probes), "{probes} probes in 140 s");
    run.plc.set(Fault::None);
    run.for_secs(5).await;
    let told = run.stop().await;
    let mut states: Vec<_> = told.states.iter().map(|s| s.1).collect();
    // Each probe may be for another block, and the reason names it.
    states.dedup();
    use DeviceState::{Connecting, Degraded, Down, Live};
    assert_eq!(states, [Connecting, Live, Degraded, Down, Degraded, Live]);
    for tag in 0..7 {
        let bad = qualities(&told, tag).iter().filter(|(_, q)| !q.is_good()).count();
        assert_eq!(bad, 1, "tag {tag} is told lost once");
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_that_costs_the_connection_does_not_take_the_other_groups_along() {
    for fault in [Fault::Poison(0), Fault::OnlyBits] {
        let coil = tag(Table::Coil, 5, DataType::Bool);
        let mut tags = vec![common::every_so_often(coil, Duration::from_millis(500))];
        tags.extend([0, 1].map(holding));
        let run = Run::start(spec(tags), fault);
        run.for_secs(120).await;
        let told = run.stop().await;
        let good = qualities(&told, 0).iter().filter(|(_, q)| q.is_good()).count();
        assert!(good >= 216, "{fault:?}: read {good} times of 240");
        assert_eq!(qualities(&told, 1).iter().filter(|(_, q)| q.is_good()).count(), 0);
        assert_eq!(told.states.last().unwrap().1, DeviceState::Degraded, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_fault_is_told_with_the_bytes_before_and_after_it() {
    let run = Run::start(one_block(), Fault::None);
    run.for_secs(10).await;
    run.plc.set(Fault::Silent);
    run.for_secs(5).await;
    run.plc.set(Fault::None);
    run.for_secs(10).await;
    let told = run.stop().await;
    // At once, and again after each of the two exchanges that followed.
    let numbers: Vec<_> = told.faults.iter().map(|fault| fault.number).collect();
    assert_eq!(numbers, [0, 0, 0]);
    let outcomes = |at: usize| -> Vec<_> {
        told.faults[at].exchanges.iter().map(|exchange| exchange.outcome.as_str()).collect()
    };
    let silent = "unit 7 silent for 400ms";
    assert_eq!(outcomes(0)[4..], ["answered", "answered", silent, silent]);
    assert_eq!(outcomes(0).len(), 8);
    assert_eq!(outcomes(2)[..8], outcomes(0)[..], "it is replaced by more of the same");
    assert_eq!(outcomes(2).len(), 10);
    assert_eq!(told.faults[0].what, "unit 7 silent for 400ms, asked for holding:100 to 119");
    let first = &told.faults[0].exchanges[0];
    assert_eq!(first.sent[2..], [0, 0, 0, 6, 7, 3, 0, 100, 0, 20], "after the transaction");
    assert_eq!(first.received[4..13], [0, 43, 7, 3, 40, 0, 100, 0, 101]);
    assert_eq!(first.received[..2], first.sent[..2]);
    assert!(told.faults[0].exchanges[7].received.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_refused_register_is_one_fault_and_idle_closes_are_none() {
    let run = Run::start(one_block(), Fault::Hole(107));
    run.for_secs(300).await;
    let told = run.stop().await;
    let numbers: std::collections::BTreeSet<_> =
        told.faults.iter().map(|fault| fault.number).collect();
    assert_eq!(numbers.len(), 1);
    let what = "holding:107 refused with exception 2 (illegal data address)";
    assert_eq!(told.faults[0].what, what);
    let last = told.faults[0].exchanges.last().unwrap();
    assert_eq!(last.outcome, "exception 2 (illegal data address)");

    let run = Run::start(three_blocks(), Fault::CloseAfter(13));
    run.for_secs(60).await;
    assert_eq!(run.stop().await.faults, []);
}
