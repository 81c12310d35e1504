//! Devices that want to harm, all at once, beside a healthy one.

use std::time::Duration;

use tidegate_hil_tests::field::{Devices, Field, Site, lines_with};
use tidegate_hil_tests::peers::{FaultPlc, Speaks};
use tidegate_hil_tests::{clock, outage, vitals};

use super::{BACK, PATIENT, TAGS};
use crate::CATCH_UP;

/// Rows 1 to 4 of what a gateway must bear.
const HOSTILE: [&str; 12] = [
    "garbage",
    "wrong-transaction",
    "wrong-unit",
    "length-huge",
    "length-zero",
    "oversize",
    "close-at-once",
    "silent",
    "byte-a-second",
    "reset",
    "exception-storm",
    "flood",
];

/// How long they may do as they like.
const LASTS: Duration = Duration::from_secs(10);

/// How much memory all of them together may cost, reconnecting and logging included.
const MEMORY: u64 = 16 << 20;

/// How often a device is asked from now on, for a while.
async fn asked_within(plc: &FaultPlc, window: Duration) -> usize {
    let since = clock::now_ms().unwrap() * 1_000_000;
    tokio::time::sleep(window).await;
    let now = clock::now_ms().unwrap() * 1_000_000;
    let requests = plc.requests().unwrap();
    requests.iter().filter(|one| (since..now).contains(&one.at_ns)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_devices_cost_a_healthy_one_nothing_and_the_gateway_little() {
    let site = Site::new().unwrap();
    let healthy = FaultPlc::start(&site, "healthy", Speaks::Tcp, &[]).await.unwrap();
    let mut devices = Devices::none().with("healthy", &healthy.way(), PATIENT, &TAGS).unwrap();
    let mut hostile = Vec::new();
    for fault in HOSTILE {
        let plc = FaultPlc::start(&site, fault, Speaks::Tcp, &[]).await.unwrap();
        devices = devices.with(fault, &plc.way(), "", &TAGS).unwrap();
        hostile.push((fault, plc));
    }
    let mut field = Field::running(site, &devices).await.unwrap();
    field.all_good(BACK).await.unwrap();

    let lasts = outage(LASTS);
    let usual = asked_within(&healthy, lasts).await;
    let pid = field.gateway.pid().unwrap();
    let (before, _) = vitals::memory(pid).unwrap();
    let logged = field.gateway.log().unwrap().lines().count();
    let used = vitals::cpu_time(pid).unwrap();
    for (fault, plc) in &hostile {
        plc.turn(fault).unwrap();
        // An open connection is not closed at once any more, nor flooded.
        plc.tell("drop").unwrap();
    }
    let asked = asked_within(&healthy, lasts).await;
    let used = vitals::cpu_time(pid).unwrap() - used;
    let (_, most) = vitals::memory(pid).unwrap();
    let log = field.gateway.log().unwrap();
    let said = log.lines().count() - logged;
    eprintln!("{said} lines, {used:?} of {lasts:?}, {} KiB more", (most - before) / 1024);

    assert!(asked * 100 >= usual * 95, "the healthy device was asked {asked} times, not {usual}");
    assert!(most - before < MEMORY, "{} KiB more", (most - before) / 1024);
    assert!(used < lasts / 2, "{used:?} of {lasts:?}");
    // Some for each change of each device, and then a summary at most each second.
    let bound = HOSTILE.len() * (20 + usize::try_from(lasts.as_secs()).unwrap());
    assert!(said <= bound, "{said} lines");
    for fault in HOSTILE {
        let shown = field.device(fault).unwrap();
        assert_ne!(shown["state"], "live", "{fault}: {shown:#}");
        assert!(shown["why"].is_string(), "{fault}: {shown:#}");
        assert!(lines_with(&log, &[fault]) > 0, "{fault} is not in the log");
    }
    for (_, plc) in &hostile {
        plc.turn("none").unwrap();
        plc.tell("drop").unwrap();
    }
    field.all_good(BACK).await.unwrap();
    let judgement = field.judge(CATCH_UP).await.unwrap();
    let reasons = judgement.reasons("healthy");
    assert!(reasons.is_empty(), "the healthy device: {reasons:?}");
}

/// A line on which everything goes wrong, one thing after the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_on_which_everything_goes_wrong_floods_no_log_and_burns_no_processor() {
    let site = Site::new().unwrap();
    let plc = FaultPlc::start(&site, "plc", Speaks::Rtu, &[]).await.unwrap();
    let healthy = FaultPlc::start(&site, "healthy", Speaks::Rtu, &[]).await.unwrap();
    let devices = Devices::none()
        .with("press", &plc.way(), "", &TAGS)
        .unwrap()
        .with("healthy", &healthy.way(), PATIENT, &TAGS)
        .unwrap();
    let mut field = Field::running(site, &devices).await.unwrap();
    field.all_good(BACK).await.unwrap();
    let pid = field.gateway.pid().unwrap();
    for fault in ["chatter", "garbage", "wrong-crc", "late-some 0.4", "exception-storm", "reset"] {
        let logged = field.gateway.log().unwrap().lines().count();
        let used = vitals::cpu_time(pid).unwrap();
        plc.turn(fault).unwrap();
        let lasts = outage(Duration::from_secs(3));
        tokio::time::sleep(lasts).await;
        let used = vitals::cpu_time(pid).unwrap() - used;
        let log = field.gateway.log().unwrap();
        let said: Vec<_> = log.lines().skip(logged).collect();
        eprintln!("{fault}: {} lines, {used:?} of {lasts:?}", said.len());
        let most = 20 + usize::try_from(lasts.as_secs()).unwrap() * 2;
        assert!(said.len() <= most, "{fault}: {} lines: {said:#?}", said.len());
        assert!(used < lasts / 2, "{fault}: {used:?} of {lasts:?}");
        plc.turn("none").unwrap();
        field.all_good(BACK).await.unwrap_or_else(|error| panic!("after {fault}: {error:#}"));
    }
    let judgement = field.judge(CATCH_UP).await.unwrap();
    // While the line is listened to before the first request, each of its tags says so once.
    let record = judgement.record.iter();
    let of_healthy = record.filter(|one| one.path.starts_with("PlantA/healthy/"));
    let bad: Vec<_> = of_healthy.filter(|one| !one.is_good()).collect();
    assert!(bad.len() <= TAGS.len(), "the line beside it: {bad:?}");
}
