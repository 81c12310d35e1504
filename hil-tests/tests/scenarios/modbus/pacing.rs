//! How fast and how often a device is asked, as it saw it itself.

use std::time::Duration;

use tidegate_hil_tests::field::{Devices, Field, Site};
use tidegate_hil_tests::peers::heard::{Silence, Since, silences};
use tidegate_hil_tests::peers::{FaultPlc, Speaks};
use tidegate_hil_tests::{clock, outage};

use super::{BACK, TAGS};
use crate::CATCH_UP;

/// Runs one device with these keys for a while, and returns what it logged.
async fn heard(speaks: Speaks, keys: &str, requests: usize) -> (Field, FaultPlc, Vec<Silence>) {
    let site = Site::new().unwrap();
    let plc = FaultPlc::start(&site, "plc", speaks, &["--units", "1,2"]).await.unwrap();
    let devices = Devices::none()
        .with("press", &plc.way(), &format!("unit = 1\n{keys}"), &TAGS)
        .unwrap()
        .with("oven", &plc.way(), &format!("unit = 2\n{keys}"), &TAGS)
        .unwrap();
    let mut field = Field::running(site, &devices).await.unwrap();
    field.all_good(BACK).await.unwrap();
    plc.peer().hears(requests).await.unwrap();
    field.judge(CATCH_UP).await.unwrap();
    let silences = silences(&plc.peer().journal().unwrap()).unwrap();
    (field, plc, silences)
}

fn shortest(silences: &[Silence], which: impl Fn(&Silence) -> bool) -> Duration {
    silences.iter().filter(|one| which(one)).map(|one| one.lasted).min().unwrap()
}

/// 3.5 characters of eleven bits at 19,200 and 1,200 baud; without parity a character has ten.
#[tokio::test(flavor = "multi_thread")]
async fn a_serial_line_is_silent_for_three_and_a_half_characters_before_each_request() {
    for (baud, micros) in [(19_200, 1_823), (1_200, 29_166)] {
        let keys = format!("baud-rate = {baud}\npoll-every-ms = 500");
        let (_field, _plc, silences) = heard(Speaks::Rtu, &keys, 40).await;
        let shortest = shortest(&silences, |one| one.from == Since::Answer);
        assert!(shortest >= Duration::from_micros(micros), "{shortest:?} at {baud} baud");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn turnaround_and_pauses_are_kept() {
    let keys = "turnaround-ms = 15\npause-between-ms = 40\npause-after-connect-ms = 200\n\
                poll-every-ms = 1000\ntimeout-ms = 500";
    let (_field, _plc, silences) = heard(Speaks::RtuOverTcp, keys, 40).await;
    let any = shortest(&silences, |one| one.from == Since::Answer);
    assert!(any >= Duration::from_millis(15), "turnaround: {any:?}");
    let same = shortest(&silences, |one| one.from == Since::Answer && one.same_unit);
    assert!(same >= Duration::from_millis(40), "pause between requests to one unit: {same:?}");
    let first = shortest(&silences, |one| one.from == Since::Connect);
    assert!(first >= Duration::from_millis(200), "pause after connecting: {first:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_closed_after_each_poll_where_that_is_wished_for() {
    let keys = "close-after-poll = true\npoll-every-ms = 300";
    let (_field, plc, _) = heard(Speaks::Tcp, keys, 100).await;
    let requests = plc.requests().unwrap().len();
    let connects = plc.peer().connects().unwrap();
    // Six requests a poll, of two devices that may share a connection.
    assert!(connects >= requests / 14 && connects <= requests / 5, "{connects} for {requests}");
}

/// Busy is asked again before the next poll is due: nobody notices.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_busy_every_other_time_loses_no_reading() {
    let site = Site::new().unwrap();
    let plc = FaultPlc::start(&site, "plc", Speaks::Tcp, &[]).await.unwrap();
    let keys = "poll-every-ms = 1000";
    let devices = Devices::none().with("press", &plc.way(), keys, &TAGS).unwrap();
    let mut field = Field::running(site, &devices).await.unwrap();
    field.all_good(BACK).await.unwrap();
    plc.turn("busy-some").unwrap();
    plc.peer().hears(60).await.unwrap();
    plc.turn("none").unwrap();
    field.all_good(BACK).await.unwrap();
    let judgement = field.judge(CATCH_UP).await.unwrap();
    let reasons = judgement.reasons("press");
    assert!(reasons.is_empty(), "busy is no reason: {reasons:?}");
    let shown = field.device("press").unwrap();
    assert_eq!(shown["missed"].as_object().map(serde_json::Map::len), Some(0), "{shown:#}");
}

/// A tag that is polled every 20 ms beside eight that are polled every second.
#[tokio::test(flavor = "multi_thread")]
async fn tags_of_one_device_are_polled_each_at_its_own_interval() {
    let site = Site::new().unwrap();
    let plc = FaultPlc::start(&site, "plc", Speaks::Tcp, &[]).await.unwrap();
    let text = |tag: &str, every| {
        format!(
            "\n[[device.tag]]\npath = \"{tag}\"\naddress = \"holding:{}\"\npoll-every-ms = {every}\n",
            &tag[1..]
        )
    };
    let tags = text("h100", 20) + &text("h200", 100) + &text("h300", 1000);
    let names = ["h100", "h200", "h300"];
    let devices = Devices::none().with_text("press", &plc.way(), "", &names, &tags);
    let mut field = Field::running(site, &devices).await.unwrap();
    field.all_good(BACK).await.unwrap();
    let since = clock::now_ms().unwrap() * 1_000_000;
    let window = outage(Duration::from_secs(8));
    tokio::time::sleep(window).await;
    let requests = plc.requests().unwrap();
    for (start, every) in [(100, 20), (200, 100), (300, 1000)] {
        let of_tag = requests.iter().filter(|one| one.start == start && one.at_ns > since);
        let (asked, due) = (of_tag.count() as u128, window.as_millis() / every);
        assert!(asked * 10 >= due * 9 && asked <= due + 2, "{start}: {asked} times of {due}");
    }
    field.judge(CATCH_UP).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forbidden_register_is_never_touched_whatever_goes_wrong() {
    let site = Site::new().unwrap();
    let plc = FaultPlc::start(&site, "plc", Speaks::Rtu, &[]).await.unwrap();
    let keys = "max-gap = 50\nforbidden = [\"holding:105-109\", \"coil:3\"]";
    let tags = ["h100", "h101", "h104", "h110", "h111", "h120", "c1", "c2", "c4", "i105"];
    let devices = Devices::none().with("press", &plc.way(), keys, &tags).unwrap();
    let mut field = Field::running(site, &devices).await.unwrap();
    for fault in ["none", "exception 2", "at-most 1", "late-some 0.4", "hole 110", "none"] {
        plc.turn(fault).unwrap();
        tokio::time::sleep(outage(Duration::from_millis(1200))).await;
    }
    // What was refused is asked for again, but seldom.
    field.good(BACK * 6, |path| !path.ends_with("h110")).await.unwrap();
    field.judge(CATCH_UP).await.unwrap();
    for one in plc.requests().unwrap() {
        let end = one.start + one.count;
        let touches = match one.function {
            3 => one.start < 110 && end > 105,
            1 => one.start < 4 && end > 3,
            _ => false,
        };
        assert!(!touches, "{one:?}");
    }
}

/// 125 registers take 2.5 s at 1,200 baud: longer than the time that the device has for its answer,
/// which begins when the line has carried the request and ends when it begins to carry the answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_takes_a_slow_line_longer_than_the_time_out_is_read_nevertheless() {
    let site = Site::new().unwrap();
    let plc = FaultPlc::start(&site, "plc", Speaks::Rtu, &["--baud", "1200"]).await.unwrap();
    let keys = "baud-rate = 1200\npoll-every-ms = 4000\ntimeout-ms = 1000\nmax-gap = 125";
    let devices = Devices::none().with("press", &plc.way(), keys, &["h0", "h124"]).unwrap();
    let mut field = Field::running(site, &devices).await.unwrap();
    field.all_good(BACK * 2).await.unwrap();
    field.judge(CATCH_UP).await.unwrap();
}
