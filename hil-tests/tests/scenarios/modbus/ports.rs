//! Serial ports that are missing, taken, forbidden, no serial ports at all, or pulled out.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use tidegate_hil_tests::field::{Devices, Field, Site};
use tidegate_hil_tests::peers::{FaultPlc, Place, Speaks};
use tidegate_hil_tests::{Wishes, outage, tools, vitals, wait};

use super::{BACK, TAGS, one};
use crate::CATCH_UP;

/// Waits until the status says of the device that it is down, in these words.
async fn is_down(field: &Field, words: &[&str]) -> String {
    let mut why = String::new();
    let waited = wait::until(BACK, "the device is down", || {
        let shown = field.device("press");
        let why = &mut why;
        let is_down = shown.map(|shown| {
            *why = shown["why"].as_str().unwrap_or_default().to_owned();
            shown["state"] == "down" && words.iter().all(|word| why.contains(word))
        });
        async move { is_down.map(|is_down| is_down.then_some(())) }
    })
    .await;
    assert!(waited.is_ok(), "{words:?} are not in: {why}");
    why
}

async fn plc(site: &Site) -> FaultPlc {
    FaultPlc::start(site, "plc", Speaks::Rtu, &[]).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_serial_port_that_is_missing_at_the_start_is_named_and_used_once_it_appears() {
    let site = Site::new().unwrap();
    let plc = plc(&site).await;
    plc.tell("unplug").unwrap();
    let mut field = Field::running(site, &one(&plc, "").unwrap()).await.unwrap();
    let port = plc.serial().to_str().unwrap().to_owned();
    is_down(&field, &[&port]).await;
    plc.tell("plug").unwrap();
    field.all_good(BACK).await.unwrap();
    field.judge(CATCH_UP).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_that_is_pulled_out_and_plugged_in_again_is_used_again() {
    let site = Site::new().unwrap();
    let plc = plc(&site).await;
    let mut field = Field::running(site, &one(&plc, "").unwrap()).await.unwrap();
    field.all_good(BACK).await.unwrap();
    let port = plc.serial().to_str().unwrap().to_owned();
    for _ in 0..3 {
        plc.tell("unplug").unwrap();
        is_down(&field, &[&port]).await;
        field.none_good("press", BACK).await.unwrap();
        plc.tell("plug").unwrap();
        field.all_good(BACK).await.unwrap();
    }
    let pid = field.gateway.pid().unwrap();
    let open = vitals::open_files(pid).unwrap();
    // As fast as a bad contact.
    for _ in 0..20 {
        plc.tell("unplug").unwrap();
        plc.tell("plug").unwrap();
        tokio::time::sleep(outage(Duration::from_millis(50))).await;
    }
    field.all_good(BACK).await.unwrap();
    let now = vitals::open_files(pid).unwrap();
    // A port takes two, and one may be on its way out; twenty that stayed would be forty.
    assert!(now <= open + 4, "{now} open files, and {open} before");
    field.judge(CATCH_UP).await.unwrap();
}

/// As somebody to whom the port does not belong: root may do everything.
#[tokio::test(flavor = "multi_thread")]
async fn a_serial_port_that_is_forbidden_is_named_with_what_helps() {
    let site = Site::new().unwrap();
    let plc = plc(&site).await;
    let (devices, wishes) = (one(&plc, "").unwrap(), as_nobody());
    let mut field = Field::idle(site, &devices, wishes).await.unwrap();
    give_to_nobody(field.site().unwrap());
    allow(plc.serial(), 0o600);
    field.start().await.unwrap();
    let port = plc.serial().to_str().unwrap().to_owned();
    let why = is_down(&field, &[&port]).await;
    assert!(why.to_lowercase().contains("permission denied"), "{why}");
    assert!(field.gateway.log().unwrap().contains("dialout"), "what helps: {why}");
    allow(plc.serial(), 0o666);
    field.all_good(BACK).await.unwrap();
    field.judge(CATCH_UP).await.unwrap();
}

/// By whoever locks it as terminal programs do.
#[tokio::test(flavor = "multi_thread")]
async fn a_serial_port_that_is_taken_is_left_alone_and_used_once_it_is_free() {
    let site = Site::new().unwrap();
    let plc = plc(&site).await;
    let mut command = site.family.command(tools::python().unwrap());
    let taker = "import serial, sys, time; \
        port = serial.Serial(sys.argv[1], exclusive=True); print('taken', flush=True); time.sleep(600)";
    command.args(["-c", taker]).arg(plc.serial());
    let log = site.path("taker.log");
    let family = site.family.clone();
    let mut taker =
        tidegate_hil_tests::family::Process::start(&family, "taker", command, &log).unwrap();
    wait::until(wait::SOON, "the port is taken", || async {
        Ok(taker.printed_since(0)?.contains("taken").then_some(()))
    })
    .await
    .unwrap();
    let mut field = Field::running(site, &one(&plc, "").unwrap()).await.unwrap();
    let port = plc.serial().to_str().unwrap().to_owned();
    is_down(&field, &[&port]).await;
    let asked = plc.requests().unwrap();
    assert_eq!(asked, [], "nothing is sent on a port that is somebody else's");
    taker.kill9().unwrap();
    field.all_good(BACK).await.unwrap();
    field.judge(CATCH_UP).await.unwrap();
}

/// Two daemons, or a daemon and a person with a terminal: whoever comes second must be told.
#[tokio::test(flavor = "multi_thread")]
async fn a_serial_port_in_use_is_locked_against_others() {
    let site = Site::new().unwrap();
    let plc = plc(&site).await;
    let port = plc.serial().clone();
    let field = Field::running(site, &one(&plc, "").unwrap()).await.unwrap();
    field.all_good(BACK).await.unwrap();
    let mut command = std::process::Command::new(tools::python().unwrap());
    let second = "import serial, sys; serial.Serial(sys.argv[1], exclusive=True)";
    let output = command.args(["-c", second]).arg(&port).output().unwrap();
    assert!(!output.status.success(), "a second program has the port as well");
    field.all_good(BACK).await.unwrap();
}

/// Nobody knows that it is one port until it is opened: never twice, and whoever comes second is
/// told.
#[tokio::test(flavor = "multi_thread")]
async fn a_port_under_two_names_is_used_once_and_named() {
    let site = Site::new().unwrap();
    let plc = plc(&site).await;
    let real = std::fs::canonicalize(plc.serial()).unwrap();
    let second = Place::Serial(real).way("modbus-rtu");
    let devices = Devices::none()
        .with("press", &plc.way(), "unit = 1", &TAGS)
        .unwrap()
        .with("oven", &second, "unit = 2", &TAGS)
        .unwrap();
    let mut field = Field::running(site, &devices).await.unwrap();
    wait::until(BACK, "one of them is live and the other down", || async {
        let states = [field.device("press")?, field.device("oven")?];
        let in_state = |state: &str| states.iter().any(|shown| shown["state"] == state);
        Ok((in_state("live") && in_state("down")).then_some(()))
    })
    .await
    .unwrap();
    plc.peer().hears(100).await.unwrap();
    let in_flight = plc.requests().unwrap().iter().map(|one| one.outstanding).max();
    assert_eq!(in_flight, Some(1), "one at a time on the line");
    field.judge(CATCH_UP).await.unwrap();
}

/// What is no serial port is named, and costs nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_serial_port_is_named_and_costs_nothing() {
    for path in ["/dev/null", "/dev/zero", "/", "/etc/hostname"] {
        let site = Site::new().unwrap();
        let way = Place::Serial(path.into()).way("modbus-rtu");
        let devices = Devices::none().with("press", &way, "", &TAGS).unwrap();
        let mut field = Field::running(site, &devices).await.unwrap();
        is_down(&field, &[path]).await;
        let pid = field.gateway.pid().unwrap();
        let used = vitals::cpu_time(pid).unwrap();
        let lasts = outage(Duration::from_secs(2));
        tokio::time::sleep(lasts).await;
        let used = vitals::cpu_time(pid).unwrap() - used;
        assert!(used < lasts / 4, "{path}: {used:?} of {lasts:?}");
        field.gateway.must_be_running().unwrap();
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The daemon as a user without rights, where this is root.
fn as_nobody() -> Wishes {
    if !is_root() {
        return Wishes::default();
    }
    let nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    Wishes::default().started_by(&nobody)
}

/// Everything of the site to that user, so that only the port is forbidden.
fn give_to_nobody(site: &Site) {
    if is_root() {
        let mut command = site.family.command("chown");
        command.args(["--recursive", "--no-dereference", "65534:65534"]).arg(site.path(""));
        assert!(command.status().unwrap().success());
    }
}

/// Sets what others may do with the port: nobody anything, where this is not root.
fn allow(port: &Path, mode: u32) {
    let mode = if is_root() || mode == 0o666 { mode } else { 0 };
    std::fs::set_permissions(port, std::fs::Permissions::from_mode(mode)).unwrap();
}
