//! Late answers to other addresses over RTU, whose frames do not say what they answer: every
//! register holds its own address, so one that is taken for another shows.

use std::time::Duration;

use tidegate_hil_tests::field::{Devices, Field, Site};
use tidegate_hil_tests::outage;
use tidegate_hil_tests::peers::{FaultPlc, Speaks, TIMEOUT};

use super::BACK;
use crate::CATCH_UP;

/// Blocks that look alike in threes and fours, of one unit and of a second one.
const TAGS: [&str; 9] =
    ["h100", "h200", "h300", "h400", "h500-uint32", "h600-uint32", "h700-uint32", "c800", "c816"];

/// Lateness in time-outs, in tenths.
const LATE: [u32; 4] = [12, 20, 30, 50];

async fn never_taken_for_another(speaks: Speaks, fault: &str, dropped: bool) {
    let site = Site::new().unwrap();
    let plc = FaultPlc::start(&site, "plc", speaks, &["--units", "1,2"]).await.unwrap();
    let devices = Devices::none()
        .with("press", &plc.way(), "unit = 1", &TAGS)
        .unwrap()
        .with("oven", &plc.way(), "unit = 2", &TAGS)
        .unwrap();
    let mut field = Field::running(site, &devices).await.unwrap();
    field.all_good(BACK).await.unwrap();
    for tenths in LATE {
        let late = TIMEOUT * tenths / 10;
        plc.turn(&format!("{fault} {}", late.as_secs_f64())).unwrap();
        // Long enough for several late answers, whatever their lateness.
        for _ in 0..4 {
            tokio::time::sleep(outage(Duration::from_millis(700))).await;
            if dropped {
                plc.tell("drop").unwrap();
            }
        }
        plc.turn("none").unwrap();
        field.all_good(BACK).await.unwrap_or_else(|error| panic!("after {late:?}: {error:#}"));
    }
    field.judge(CATCH_UP).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_answer_on_a_serial_line_is_never_taken_for_the_answer_to_another_request() {
    never_taken_for_another(Speaks::Rtu, "late", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_answer_among_timely_ones_is_never_taken_for_the_answer_to_another_request() {
    never_taken_for_another(Speaks::Rtu, "late-some", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_answer_through_a_serial_server_is_never_taken_for_another() {
    never_taken_for_another(Speaks::RtuOverTcp, "late-some", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_answer_that_comes_into_the_next_connection_is_never_taken_for_another() {
    never_taken_for_another(Speaks::RtuOverTcp, "late", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_answer_into_the_next_connection_is_nothing_over_tcp_either() {
    never_taken_for_another(Speaks::Tcp, "late-some", true).await;
}
