//! RTU on a serial line, and over TCP, against servers of two other makes.

use std::time::Duration;

use tidegate_hil_tests::field::{Devices, Field, Site};
use tidegate_hil_tests::peers::{FaultPlc, Line, Peer, Speaks};
use tidegate_hil_tests::{Wishes, outage};

use super::{BACK, TAGS};
use crate::CATCH_UP;

/// Units 7 and 9 on one line, of which 9 is not there: nobody answers for it.
fn two_units(way: &str) -> Devices {
    two_units_with(way, "")
}

/// The same with further lines for both.
fn two_units_with(way: &str, more: &str) -> Devices {
    let limits = ["h1000", "h1124", "i6", "c0", "c1999", "d3000", "i20-uint64"];
    Devices::none()
        .with("there", way, &format!("unit = 7\nmax-gap = 2000\n{more}"), &limits)
        .unwrap()
        .with("away", way, &format!("unit = 9\n{more}"), &["h1", "h2"])
        .unwrap()
}

async fn a_silent_unit_is_bad_and_the_other_good(site: Site, devices: &Devices, peer: &Peer) {
    let mut field = Field::running(site, devices).await.unwrap();
    field.devices_good(&["there"], BACK).await.unwrap();
    field.none_good("away", BACK).await.unwrap();
    peer.hears(50).await.unwrap();
    field.devices_good(&["there"], BACK).await.unwrap();
    let judgement = field.judge(CATCH_UP).await.unwrap();
    assert_eq!(judgement.good("PlantA/away/h1"), 0);
    assert_eq!(judgement.reasons("away"), ["timeout"]);
    let requests = peer.requests().unwrap();
    let most = |function| {
        let counts = requests.iter().filter(|one| one.function == function).map(|one| one.count);
        counts.max()
    };
    assert_eq!((most(3), most(1)), (Some(125), Some(2000)), "the limits over RTU");
}

#[tokio::test(flavor = "multi_thread")]
async fn pymodbus_on_a_serial_line_is_read_and_a_unit_that_is_not_there_is_silent() {
    let site = Site::new().unwrap();
    let line = Line::laid(&site, "line").await.unwrap();
    let port = line.theirs.to_str().unwrap();
    let options = ["--transport", "rtu", "--serial", port, "--units", "7"];
    let peer = Peer::pymodbus(&site, "pymodbus", &options).await.unwrap();
    a_silent_unit_is_bad_and_the_other_good(site, &two_units(&line.way()), &peer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn libmodbus_on_a_serial_line_is_read_and_a_unit_that_is_not_there_is_silent() {
    let site = Site::new().unwrap();
    let line = Line::laid(&site, "line").await.unwrap();
    let peer = Peer::libmodbus_rtu(&site, "libmodbus", &line.theirs, 7).await.unwrap();
    a_silent_unit_is_bad_and_the_other_good(site, &two_units(&line.way()), &peer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pymodbus_is_read_by_rtu_over_tcp() {
    let site = Site::new().unwrap();
    let options = ["--transport", "rtu-over-tcp", "--units", "7"];
    let peer = Peer::pymodbus(&site, "pymodbus", &options).await.unwrap();
    let devices = two_units(&peer.place().way("modbus-rtu-over-tcp"));
    a_silent_unit_is_bad_and_the_other_good(site, &devices, &peer).await;
}

/// Whatever goes wrong: nobody is ever asked under the address that means everybody, and nothing is
/// ever written.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_ever_broadcast_or_written_on_a_serial_line() {
    let site = Site::new().unwrap();
    let plc = FaultPlc::start(&site, "plc", Speaks::Rtu, &["--units", "7"]).await.unwrap();
    // Long enough for a simulated device on a busy machine, which would be late without a fault.
    let devices = two_units_with(&plc.way(), "timeout-ms = 500");
    let mut field = Field::running(site, &devices).await.unwrap();
    field.devices_good(&["there"], BACK).await.unwrap();
    // None that answers late: what is asked meanwhile is not asked at the same time.
    for fault in ["silent", "exception 1", "garbage", "truncated", "none"] {
        plc.turn(fault).unwrap();
        tokio::time::sleep(outage(Duration::from_millis(1200))).await;
    }
    field.devices_good(&["there"], BACK).await.unwrap();
    field.judge(CATCH_UP).await.unwrap();
    let requests = plc.requests().unwrap();
    for one in &requests {
        assert!([7, 9].contains(&one.unit) && (1..=4).contains(&one.function), "{one:?}");
    }
    assert_eq!(requests.iter().map(|one| one.outstanding).max(), Some(1), "one at a time");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_that_means_everybody_is_refused_before_anything_runs() {
    let site = Site::new().unwrap();
    let plc = FaultPlc::start(&site, "plc", Speaks::Rtu, &[]).await.unwrap();
    let devices = Devices::none().with("press", &plc.way(), "unit = 0", &["h1"]).unwrap();
    let mut field = Field::idle(site, &devices, Wishes::default()).await.unwrap();
    let error = format!("{:#}", field.start().await.unwrap_err());
    assert!(error.contains("unit 0 is the broadcast"), "{error}");
    assert_eq!(plc.requests().unwrap(), []);
}

/// An adapter that hears itself is a fault that lasts as long as the adapter does.
#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_that_hears_itself_is_as_good_as_any_other() {
    let site = Site::new().unwrap();
    let options = ["--units", "1", "--fault", "echo"];
    let plc = FaultPlc::start(&site, "plc", Speaks::Rtu, &options).await.unwrap();
    let devices = Devices::none().with("press", &plc.way(), "", &TAGS).unwrap();
    let mut field = Field::running(site, &devices).await.unwrap();
    field.all_good(BACK).await.unwrap();
    plc.peer().hears(100).await.unwrap();
    field.all_good(BACK).await.unwrap();
    let judgement = field.judge(CATCH_UP).await.unwrap();
    let bad = judgement.record.iter().filter(|one| !one.is_good()).count();
    // Before anything is asked the line is listened to, and then its echo is not yet known for one.
    assert!(bad <= 2 * TAGS.len(), "{bad} readings that are not good");
}
