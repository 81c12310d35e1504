//! Every known fault, on either framing: no wrong value anywhere, and all is well when it ends.

use std::time::Duration;

use tidegate_hil_tests::field::{Field, Site};
use tidegate_hil_tests::peers::{FaultPlc, Speaks};
use tidegate_hil_tests::{outage, wait};

use super::{BACK, one};
use crate::CATCH_UP;

/// How long each fault lasts: some time-outs and back-offs.
const LASTS: Duration = Duration::from_millis(1500);

/// Goes through these faults, one after the other.
async fn survives(speaks: Speaks, faults: &[&str]) {
    let site = Site::new().unwrap();
    let plc = FaultPlc::start(&site, "plc", speaks, &[]).await.unwrap();
    let mut field = Field::running(site, &one(&plc, "").unwrap()).await.unwrap();
    field.all_good(BACK).await.unwrap();
    for fault in faults {
        let before = plc.requests().unwrap().len();
        plc.turn(fault).unwrap();
        tokio::time::sleep(outage(LASTS)).await;
        wait::until(wait::SOON, &format!("the fault is met: {fault}"), || async {
            let met = plc.requests()?.len() > before || plc.peer().connects()? > 0;
            Ok(met.then_some(()))
        })
        .await
        .unwrap();
        plc.turn("none").unwrap();
        field.all_good(BACK).await.unwrap_or_else(|error| panic!("after {fault}: {error:#}"));
    }
    field.judge(CATCH_UP).await.unwrap();
}

/// The positive control: a wrong value that no client can tell is found by the judge, wherever it
/// shows.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_lies_is_found_out_by_the_judge() {
    let site = Site::new().unwrap();
    let plc = FaultPlc::start(&site, "plc", Speaks::Tcp, &[]).await.unwrap();
    let mut field = Field::running(site, &one(&plc, "").unwrap()).await.unwrap();
    field.all_good(BACK).await.unwrap();
    plc.turn("lie").unwrap();
    plc.peer().hears(20).await.unwrap();
    plc.turn("none").unwrap();
    let error = format!("{:#}", field.judge(CATCH_UP).await.unwrap_err());
    assert!(error.contains("wrong values") && error.contains("Number(102)"), "{error}");
}

/// Not for this request, or for nobody.
const ASTRAY: [&str; 7] = [
    "wrong-unit",
    "wrong-function",
    "other-table",
    "exception-of-other",
    "unasked",
    "one-behind",
    "other-unit-first",
];

/// Of the wrong length, or of one that does not fit what is said of it.
const MISSHAPEN: [&str; 7] =
    ["short", "long", "shifted", "count-beyond", "count-below", "count-odd", "empty"];

/// No answer at all, or none in time.
const UNTIMELY: [&str; 7] = [
    "silent",
    "late 0.35",
    "late 0.9",
    "late-some 0.45",
    "slow 0.15",
    "byte-a-second",
    "truncated",
];

/// Something else than an answer.
const NOISY: [&str; 7] = [
    "garbage",
    "noise-before",
    "noise-after",
    "noise-inside",
    "oversize",
    "split 0.02",
    "split 0.1",
];

/// Hung up on.
const CUT: [&str; 7] = [
    "close-after 0",
    "close-after 1",
    "close-after 7",
    "close-after 9",
    "close-after 12",
    "close-after 13",
    "reset",
];

/// Refused, in every way.
const REFUSED: [&str; 8] = [
    "exception 1",
    "exception 2",
    "exception 4",
    "exception 6",
    "exception 0x0A",
    "exception 0x0B",
    "exception 0x42",
    "exception-storm",
];

/// What a line does to a frame, and what stands beside it there.
///
/// Not among them is what no client can tell over RTU: a whole answer of the same unit, function and
/// length that comes before the right one (`unasked`, `previous-first`). Over TCP both are.
const LINE: [&str; 9] = [
    "chatter",
    "echo",
    "wrong-crc",
    "flipped",
    "truncated",
    "noise-before",
    "noise-inside",
    "other-unit-first",
    "twice",
];

/// What is for nobody here, as far as a frame of RTU tells.
const ASTRAY_RTU: [&str; 5] =
    ["wrong-unit", "wrong-function", "other-table", "exception-of-other", "one-behind"];

/// What the length and the numbers in MBAP's head can say.
const MBAP: [&str; 8] = [
    "wrong-transaction",
    "wrong-protocol",
    "length-zero",
    "length-two",
    "length-huge",
    "twice",
    "previous-first",
    "close-at-once",
];

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_for_nobody_here_are_no_values_over_tcp() {
    survives(Speaks::Tcp, &ASTRAY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_the_wrong_length_are_no_values_over_tcp() {
    survives(Speaks::Tcp, &MISSHAPEN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_come_late_or_never_are_no_values_over_tcp() {
    survives(Speaks::Tcp, &UNTIMELY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_is_no_value_over_tcp() {
    survives(Speaks::Tcp, &NOISY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_give_no_value_over_tcp() {
    survives(Speaks::Tcp, &CUT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_no_values_over_tcp() {
    survives(Speaks::Tcp, &REFUSED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_fit_its_frame_gives_no_value_over_tcp() {
    survives(Speaks::Tcp, &MBAP).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_for_nobody_here_are_no_values_over_rtu() {
    survives(Speaks::Rtu, &ASTRAY_RTU).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_the_wrong_length_are_no_values_over_rtu() {
    survives(Speaks::Rtu, &MISSHAPEN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_come_late_or_never_are_no_values_over_rtu() {
    survives(Speaks::Rtu, &UNTIMELY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_is_no_value_over_rtu() {
    survives(Speaks::Rtu, &NOISY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_line_does_to_a_frame_gives_no_value() {
    survives(Speaks::Rtu, &LINE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_no_values_over_rtu() {
    survives(Speaks::Rtu, &REFUSED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_give_no_value_over_rtu_over_tcp() {
    survives(Speaks::RtuOverTcp, &CUT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_line_does_to_a_frame_gives_no_value_over_rtu_over_tcp() {
    survives(Speaks::RtuOverTcp, &LINE).await;
}
