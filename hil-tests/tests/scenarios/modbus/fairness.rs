//! A unit that is dead costs the others next to nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_hil_tests::field::{Devices, Field, Site};
use tidegate_hil_tests::peers::{FaultPlc, Speaks, TIMEOUT};
use tidegate_hil_tests::{clock, outage};

use super::BACK;
use crate::CATCH_UP;

/// How many units, and which of them dies.
const UNITS: u8 = 32;
const DEAD: u8 = 17;

/// The longest rest between two questions to a dead unit.
const REST: Duration = Duration::from_secs(1);

/// How long requests are counted.
const WINDOW: Duration = Duration::from_secs(12);

/// How often each unit was asked from now on, for a while.
async fn counted(plc: &FaultPlc) -> BTreeMap<u8, u32> {
    let since = clock::now_ms().unwrap() * 1_000_000;
    tokio::time::sleep(outage(WINDOW)).await;
    let mut asked = BTreeMap::new();
    for request in plc.requests().unwrap().iter().filter(|one| one.at_ns >= since) {
        *asked.entry(request.unit).or_default() += 1;
    }
    asked
}

async fn costs_the_others_next_to_nothing(speaks: Speaks, poll_ms: u32, options: &[&str]) {
    let site = Site::new().unwrap();
    let plc = FaultPlc::start(&site, "plc", speaks, options).await.unwrap();
    let keys = |unit| {
        let rest = REST.as_millis();
        format!("unit = {unit}\npoll-every-ms = {poll_ms}\nretry-at-most-ms = {rest}")
    };
    let devices = (1..=UNITS).fold(Devices::none(), |devices, unit| {
        let tags = ["h100", "h101", "h102", "h103"];
        devices.with(&format!("unit-{unit}"), &plc.way(), &keys(unit), &tags).unwrap()
    });
    let mut field = Field::running(site, &devices).await.unwrap();
    field.all_good(BACK).await.unwrap();
    let before = counted(&plc).await;
    plc.tell(&format!("fault@{DEAD} silent")).unwrap();
    // Its back-off has reached its end by then.
    field.none_good(&format!("unit-{DEAD}"), BACK).await.unwrap();
    tokio::time::sleep(REST * 3).await;
    let after = counted(&plc).await;
    for unit in (1..=UNITS).filter(|unit| *unit != DEAD) {
        let (before, after) = (before[&unit], after[&unit]);
        assert!(after * 10 >= before * 9, "unit {unit}: {after} requests instead of {before}");
    }
    let probes = after.get(&DEAD).copied().unwrap_or_default();
    let window = outage(WINDOW);
    let most = u32::try_from(window.as_millis() / REST.as_millis()).unwrap();
    assert!((1..=most + 1).contains(&probes), "{probes} requests to the dead unit in {window:?}");
    // And never more than 8 % of the time on the line.
    let share = (TIMEOUT * probes).as_secs_f64() / window.as_secs_f64();
    assert!(share < 0.08 + TIMEOUT.as_secs_f64() / window.as_secs_f64(), "{share} of the time");
    plc.turn("none").unwrap();
    field.all_good(BACK).await.unwrap();
    field.judge(CATCH_UP).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_dead_unit_of_32_behind_a_tcp_gateway_costs_the_others_less_than_a_tenth() {
    costs_the_others_next_to_nothing(Speaks::Tcp, 250, &["--response-ms", "2"]).await;
}

/// Four registers take 12 ms at 19,200 baud, silences included: 32 units are polled in 0.4 s.
#[tokio::test(flavor = "multi_thread")]
async fn one_dead_unit_of_32_on_a_serial_line_costs_the_others_less_than_a_tenth() {
    costs_the_others_next_to_nothing(Speaks::Rtu, 1000, &["--baud", "19200"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_units_dead_but_one_leave_that_one_its_rate() {
    let site = Site::new().unwrap();
    let plc = FaultPlc::start(&site, "plc", Speaks::RtuOverTcp, &["--units", "1"]).await.unwrap();
    let devices = (1..=4_u8).fold(Devices::none(), |devices, unit| {
        let keys = format!("unit = {unit}\nretry-at-most-ms = 1000");
        devices.with(&format!("unit-{unit}"), &plc.way(), &keys, &["h100", "h101"]).unwrap()
    });
    let mut field = Field::running(site, &devices).await.unwrap();
    field.devices_good(&["unit-1"], BACK).await.unwrap();
    // All back-offs have reached their end by then.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut asked = counted(&plc).await;
    let window = outage(WINDOW);
    let due = window.as_millis() / 100;
    assert!(u128::from(asked[&1]) * 10 >= due * 9, "{} of {due}: {asked:?}", asked[&1]);
    // A time-out is 8 % of 3.75 s, and each has its turn.
    for (unit, probes) in counted(&plc).await {
        *asked.entry(unit).or_default() += probes;
    }
    for unit in 2..=4 {
        assert!(asked.contains_key(&unit), "unit {unit} is never asked again: {asked:?}");
    }
    field.judge(CATCH_UP).await.unwrap();
}
