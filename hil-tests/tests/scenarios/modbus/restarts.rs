//! The gateway is started again, or told to poll something else, while a line is in use.

use std::time::Duration;

use tidegate_hil_tests::field::{Devices, Field, Site};
use tidegate_hil_tests::outage;
use tidegate_hil_tests::peers::{FaultPlc, Speaks};

use super::{BACK, one};
use crate::CATCH_UP;

/// What the daemon before had asked for is answered to the one that comes after it, which asks for
/// something of the same shape: whoever believes the first answer is wrong.
async fn a_late_answer_to_the_one_before_is_none(speaks: Speaks) {
    let site = Site::new().unwrap();
    let plc = FaultPlc::start(&site, "plc", speaks, &[]).await.unwrap();
    let tags = ["h100", "h200", "h300", "h400", "h500", "h600"];
    let devices = Devices::none().with("press", &plc.way(), "", &tags).unwrap();
    let mut field = Field::running(site, &devices).await.unwrap();
    field.all_good(BACK).await.unwrap();
    for late in ["0.25", "0.6", "0.9", "1.2"] {
        plc.turn(&format!("late {late}")).unwrap();
        plc.peer().hears(1).await.unwrap();
        field.kill_and_start().await.unwrap();
        plc.peer().hears(1).await.unwrap();
        tokio::time::sleep(outage(Duration::from_millis(500))).await;
        plc.turn("none").unwrap();
        field.all_good(BACK).await.unwrap_or_else(|error| panic!("{late}: {error:#}"));
    }
    field.judge(CATCH_UP).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_answer_to_a_daemon_that_was_killed_is_no_value_on_a_serial_line() {
    a_late_answer_to_the_one_before_is_none(Speaks::Rtu).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_answer_to_a_daemon_that_was_killed_is_no_value_through_a_serial_server() {
    a_late_answer_to_the_one_before_is_none(Speaks::RtuOverTcp).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_answer_to_a_daemon_that_was_killed_is_no_value_over_tcp() {
    a_late_answer_to_the_one_before_is_none(Speaks::Tcp).await;
}

/// A line with other settings is another one to whoever opens it, and still the same slave.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_answer_to_a_line_that_had_other_settings_is_no_value() {
    let site = Site::new().unwrap();
    let plc = FaultPlc::start(&site, "plc", Speaks::Rtu, &[]).await.unwrap();
    let devices = |baud| {
        let keys = format!("baud-rate = {baud}");
        let tags = ["h100", "h200", "h300", "h400", "h500", "h600"];
        Devices::none().with("press", &plc.way(), &keys, &tags).unwrap()
    };
    let mut field = Field::running(site, &devices(19200)).await.unwrap();
    field.all_good(BACK).await.unwrap();
    for (late, baud) in [("0.25", 9600), ("0.6", 19200), ("0.9", 9600), ("1.2", 19200)] {
        plc.turn(&format!("late {late}")).unwrap();
        plc.peer().hears(1).await.unwrap();
        field.reload(&devices(baud)).unwrap();
        tokio::time::sleep(outage(Duration::from_millis(1500))).await;
        plc.turn("none").unwrap();
        field.all_good(BACK).await.unwrap_or_else(|error| panic!("{late}: {error:#}"));
    }
    field.judge(CATCH_UP).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn other_settings_of_a_serial_port_in_use_are_taken_over_without_a_restart() {
    let site = Site::new().unwrap();
    let plc = FaultPlc::start(&site, "plc", Speaks::Rtu, &[]).await.unwrap();
    let mut field = Field::running(site, &one(&plc, "").unwrap()).await.unwrap();
    field.all_good(BACK).await.unwrap();
    for baud in [9600, 38400, 9600] {
        field.reload(&one(&plc, &format!("baud-rate = {baud}")).unwrap()).unwrap();
        tokio::time::sleep(outage(Duration::from_millis(500))).await;
        field.all_good(BACK).await.unwrap_or_else(|error| panic!("{baud} baud: {error:#}"));
    }
    field.judge(CATCH_UP).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn units_come_and_go_on_a_serial_port_in_use() {
    let site = Site::new().unwrap();
    let plc = FaultPlc::start(&site, "plc", Speaks::Rtu, &[]).await.unwrap();
    let units = |units: &[u8]| {
        units.iter().fold(Devices::none(), |devices, unit| {
            let (name, keys) = (format!("unit-{unit}"), format!("unit = {unit}"));
            devices.with(&name, &plc.way(), &keys, &["h100", "h200", "c7"]).unwrap()
        })
    };
    let mut field = Field::running(site, &units(&[1, 2])).await.unwrap();
    field.all_good(BACK).await.unwrap();
    for now in [&[1, 2, 3][..], &[3], &[3, 4, 5, 6], &[1]] {
        field.reload(&units(now)).unwrap();
        tokio::time::sleep(outage(Duration::from_millis(300))).await;
        field.all_good(BACK).await.unwrap_or_else(|error| panic!("units {now:?}: {error:#}"));
    }
    let in_flight = plc.requests().unwrap().iter().map(|one| one.outstanding).max();
    assert_eq!(in_flight, Some(1), "one at a time on the line");
    field.judge(CATCH_UP).await.unwrap();
}
