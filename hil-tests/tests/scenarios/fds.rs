//! The daemon has no file descriptor left, and peers take every one that it gives them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tidegate_hil_tests::{Rig, Wishes, outage, vitals, wait};
use tokio::net::{TcpStream, UnixStream};

use crate::CATCH_UP;

/// How long it has none at least.
const EXHAUSTED: Duration = Duration::from_secs(8);

/// How long the journal may take to come to its next segment on a machine that has other work.
const NEXT_SEGMENT: Duration = Duration::from_secs(60);

/// The smallest journal, with noise that fills a segment of it in some seconds.
fn busy() -> Wishes {
    let wishes = Wishes { max_bytes: "32 MiB", noise: 6, ..Wishes::default() };
    wishes.with("metrics", "listen", "127.0.0.1:0")
}

fn segments(rig: &Rig) -> BTreeSet<String> {
    let names = std::fs::read_dir(rig.gateway.journal()).unwrap();
    let names = names.filter_map(|name| name.unwrap().file_name().into_string().ok());
    names.filter(|name| !name.starts_with("spare")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_free_descriptor_the_record_goes_on_nothing_spins_and_all_recovers() {
    let mut rig = Rig::running_with(busy()).await.unwrap();
    let delivered = rig.polls(10).await.unwrap();
    rig.hub_holds(delivered, CATCH_UP).await.unwrap();
    let metrics = rig.gateway.metrics().await.unwrap();
    let pid = rig.gateway.pid().unwrap();
    let logged = rig.gateway.log().unwrap().lines().count();
    rig.limit_open_files(vitals::open_files(pid).unwrap()).unwrap();

    // What the system accepts for the daemon waits; what the daemon closes is taken at once.
    let mut askers = Vec::new();
    for _ in 0..100 {
        askers.push(UnixStream::connect(rig.gateway.control_socket()).await.ok());
    }
    let mut scrapers = Vec::new();
    for _ in 0..20 {
        scrapers.push(TcpStream::connect(metrics).await.ok());
    }
    let (used, begun) = (vitals::cpu_time(pid).unwrap(), Instant::now());
    let before = segments(&rig);
    tokio::time::sleep(outage(EXHAUSTED)).await;
    wait::until(NEXT_SEGMENT, "the journal comes to another segment", || {
        let new = segments(&rig).difference(&before).count();
        async move { Ok((new > 0).then_some(())) }
    })
    .await
    .unwrap();
    rig.polls(5).await.unwrap();
    let (took, used) = (begun.elapsed(), vitals::cpu_time(pid).unwrap() - used);
    let log = rig.gateway.log().unwrap();
    let said: Vec<_> = log.lines().skip(logged).collect();
    assert!(used < took / 2, "{used:?} of {took:?}");
    assert!(!said.iter().any(|line| line.contains("journal")), "{said:#?}");
    // Told when it begins, and again at most when a peer that was sent away left one for a moment.
    let told = said.iter().filter(|line| line.contains("cannot accept")).count();
    let most = 4 + usize::try_from(took.as_secs()).unwrap() / 5;
    assert!(told > 0 && told <= most, "{told} lines in {took:?}: {said:#?}");
    // A device that is lost now may be out of reach until there is a descriptor for it.
    rig.switch_plc_off().await.unwrap();
    rig.switch_plc_on().await.unwrap();
    rig.gateway.must_be_running().unwrap();

    rig.limit_open_files(1024).unwrap();
    drop((askers, scrapers));
    rig.polls(10).await.unwrap();
    wait::until(CATCH_UP, "the status answers again", || {
        let status = rig.gateway.status();
        async move { Ok(status.ok()) }
    })
    .await
    .unwrap();
    let account = rig.account(CATCH_UP).await.unwrap();
    assert!(account.findings.is_clean() && account.claim.is_balanced(), "{}", account.short());
    // The answer that was under way when the PLC went off.
    assert!(account.findings.named_holes.len() <= 1, "{}", account.short());
}

/// A small limit from the start on.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_is_too_small_is_an_alarm_with_its_remedy_and_no_reason_to_stop() {
    let wishes = Wishes::default().started_by(&["prlimit", "--nofile=100:100"]);
    let mut rig = Rig::running_with(wishes).await.unwrap();
    let alarm = rig.gateway.alarm("too-few-descriptors").await.unwrap();
    assert!(alarm.contains("100") && alarm.contains("LimitNOFILE"), "{alarm}");
    let mut askers = Vec::new();
    for _ in 0..200 {
        askers.push(UnixStream::connect(rig.gateway.control_socket()).await.ok());
    }
    rig.polls(10).await.unwrap();
    drop(askers);
    rig.verify_nothing_lost(CATCH_UP).await.unwrap();
}
