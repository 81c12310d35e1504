//! Every way in which a peer or the way to it misbehaves: never a wrong value, bad in time, and
//! back when the fault ends.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::{Fault, PERIOD, Run, standing, three_blocks};
use tidegate_translator::{DeviceState, Quality, Reason};
use tokio::time::sleep;

const FAULT_SECS: u64 = 9;
/// The largest back-off, one poll, one request.
const RECOVERY: Duration = Duration::from_millis(4_000 + 1_000 + 400);

/// Ten healthy seconds, nine with the fault, then health again. `reason` is what the tags must say
/// within two periods, `None` when the fault must not be felt at all.
async fn survives(fault: Fault, reasons: Option<&[Reason]>) {
    let run = Run::start(three_blocks(), Fault::None);
    run.for_secs(10).await;
    run.plc.set(fault);
    let began = run.elapsed();
    run.for_secs(FAULT_SECS).await;
    run.plc.set(Fault::None);
    let ended = run.elapsed();
    sleep(RECOVERY).await;
    let recovered = run.elapsed();
    run.for_secs(5).await;
    let spec = run.spec.clone();
    let told = run.stop().await;

    let all = spec.tags.len();
    let before = standing(&told, began);
    assert_eq!(before.len(), all);
    assert!(before.values().all(|q| q.is_good()), "{fault:?}: healthy before: {before:?}");

    if let Some(reasons) = reasons {
        let bad_by = began + 2 * PERIOD;
        for (tag, quality) in standing(&told, bad_by) {
            let fits = quality.reason().is_some_and(|reason| reasons.contains(&reason));
            assert!(fits, "{fault:?}: tag {tag} is {quality:?} after two periods");
        }
        let changes: Vec<_> =
            told.samples.iter().filter(|(at, _)| *at > began && *at <= ended).collect();
        assert_eq!(
            changes.iter().filter(|(_, sample)| !sample.quality.is_good()).count(),
            all,
            "{fault:?}: one bad sample for each tag: {changes:?}"
        );
    } else {
        let felt = told.samples.iter().find(|(_, sample)| sample.quality != Quality::Good);
        assert_eq!(felt, None, "{fault:?} is felt");
        assert_eq!(told.missed, [], "{fault:?} costs readings");
    }

    let after = standing(&told, recovered);
    assert!(after.values().all(|q| q.is_good()), "{fault:?}: not back: {after:?}");
    assert_eq!(told.states.last().map(|s| s.1), Some(DeviceState::Live), "{fault:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_connection_is_survived() {
    // The open connection lives on; the fault shows when it breaks.
    survives(Fault::CloseAfter(0), Some(&[Reason::NotConnected])).await;
}

#[tokio::test(start_paused = true)]
async fn silence_is_survived() {
    survives(Fault::Silent, Some(&[Reason::Timeout])).await;
}

#[tokio::test(start_paused = true)]
async fn a_late_reply_is_never_taken_for_the_next_one() {
    survives(Fault::Late(Duration::from_millis(450)), Some(&[Reason::Timeout])).await;
    survives(Fault::Late(Duration::from_millis(1_300)), Some(&[Reason::Timeout])).await;
}

#[tokio::test(start_paused = true)]
async fn a_byte_a_second_is_silence() {
    survives(Fault::ByteASecond, Some(&[Reason::Timeout])).await;
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_is_not_to_this_request_is_thrown_away() {
    for fault in [
        Fault::WrongTransaction,
        Fault::WrongUnit,
        Fault::WrongFunction,
        Fault::OtherTable,
        Fault::ExceptionOfOtherFunction,
        Fault::Unasked,
    ] {
        survives(fault, Some(&[Reason::Malformed])).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_of_the_wrong_length_is_thrown_away() {
    for fault in [
        Fault::FewerRegisters,
        Fault::MoreRegisters,
        Fault::CountBeyondLength,
        Fault::CountBelowLength,
        Fault::OddCount,
        Fault::NoRegisters,
        Fault::Oversize,
        Fault::LengthZero,
        Fault::LengthTwo,
    ] {
        survives(fault, Some(&[Reason::Malformed])).await;
    }
}

#[tokio::test(start_paused = true)]
async fn garbage_is_thrown_away() {
    survives(Fault::Garbage, Some(&[Reason::Malformed])).await;
    survives(Fault::WrongProtocol, Some(&[Reason::Malformed])).await;
}

#[tokio::test(start_paused = true)]
async fn a_close_after_any_byte_of_a_reply_is_survived() {
    // 7 bytes of header, 2 of function and count, 4 of registers; the last byte completes it.
    for bytes in 0..13 {
        survives(Fault::CloseAfter(bytes), Some(&[Reason::NotConnected])).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_closes_after_each_answer_costs_no_reading() {
    survives(Fault::CloseAfter(13), None).await;
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_exceptions_turns_tags_bad_once_and_keeps_the_connection() {
    for code in [1, 2, 3, 4, 5, 6, 8, 0x42] {
        let run = Run::start(three_blocks(), Fault::None);
        run.for_secs(5).await;
        run.plc.set(Fault::Exception(code));
        run.for_secs(60).await;
        assert_eq!(run.plc.dials(), 1, "exception {code} costs the connection");
        run.plc.set(Fault::None);
        // The longest rest that a refused part can have reached by then, and one poll.
        run.for_secs(90).await;
        let told = run.stop().await;
        let bad: Vec<_> = told
            .samples
            .iter()
            .filter(|(_, s)| s.quality == Quality::Bad(Reason::Refused))
            .collect();
        assert_eq!(bad.len(), 6, "exception {code}");
        assert!(bad.iter().all(|(_, sample)| sample.status == u32::from(code)));
        assert_eq!(told.states.last().map(|s| s.1), Some(DeviceState::Live), "exception {code}");
        assert!(told.states.len() < 10, "{:?}", told.states);
        if code > 3 {
            let of_device = told.missed.iter().all(|(_, missed)| missed.tag.is_none());
            assert!(of_device, "exception {code}: everything was refused, so the device misses");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_cannot_reach_the_unit_keeps_its_connection() {
    for (code, reason) in [(0x0A, Reason::NotConnected), (0x0B, Reason::Timeout)] {
        survives(Fault::Exception(code), Some(&[reason])).await;
        let run = Run::start(three_blocks(), Fault::Exception(code));
        run.for_secs(60).await;
        assert_eq!(run.plc.dials(), 1);
        let requests = run.plc.requests();
        assert!(requests <= 30, "one probe per back-off, not {requests} in a minute");
        let told = run.stop().await;
        assert_eq!(told.states.last().map(|s| s.1), Some(DeviceState::Down));
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_twice_is_not_felt() {
    survives(Fault::Twice, None).await;
    survives(Fault::PreviousFirst, None).await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_closes_idle_connections_costs_no_reading() {
    survives(Fault::IdleClose(Duration::from_millis(300)), None).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_hangs_or_is_refused_at_the_start_is_normal() {
    for fault in [Fault::RefuseConnect, Fault::HangConnect, Fault::Silent] {
        let run = Run::start(three_blocks(), fault);
        run.for_secs(20).await;
        let attempts = run.plc.dials();
        assert!((5..=14).contains(&attempts), "{fault:?}: {attempts} attempts in 20 s");
        run.plc.set(Fault::None);
        sleep(RECOVERY).await;
        let recovered = run.elapsed();
        let told = run.stop().await;
        assert_eq!(told.states[0].1, DeviceState::Connecting);
        assert_eq!(told.states[1].1, DeviceState::Down, "{fault:?}");
        assert!(standing(&told, recovered).values().all(|q| q.is_good()), "{fault:?}");
        let bad = told.samples.iter().filter(|(_, s)| !s.quality.is_good()).count();
        assert_eq!(bad, 6, "{fault:?}: one bad sample for each tag");
    }
}
