//! Links with a long way: a round trip of 200 ms, and one of 2 s as over two satellites.

use std::time::Duration;

use tidegate_hil_tests::{Rig, Wishes, stream};
use tokio::time::Instant;

use crate::CATCH_UP;

/// Cuts the link until this much waits, then lets it drain over the long way, and returns how many
/// bytes a second came through. Polling goes on meanwhile.
async fn drain(rig: &mut Rig, round_trip: Duration, backlog: u64, most: Duration) -> f64 {
    let delivered = rig.polls(5).await.unwrap();
    rig.hub_holds(delivered, CATCH_UP).await.unwrap();
    rig.wan.cut_closed().await.unwrap();
    tidegate_hil_tests::wait::until(CATCH_UP, "a backlog", || {
        let status = rig.gateway.status();
        async move { Ok((status?["uplink"]["backlog_bytes"].as_u64() >= Some(backlog)).then_some(())) }
    })
    .await
    .unwrap();
    rig.wan.shape(round_trip / 2, None).await.unwrap();
    rig.wan.restore().await.unwrap();
    let (admin, name) = (rig.hub.admin_url().unwrap(), rig.hub.stream().unwrap().to_owned());
    let before = stream::bytes(&admin, &name).await.unwrap();
    let half = before + backlog / 2;
    // From when a tenth is there: making the link takes several round trips of its own.
    let mut begun = None;
    let deadline = Instant::now() + most;
    loop {
        let now = stream::bytes(&admin, &name).await.unwrap();
        if begun.is_none() && now > before + backlog / 10 {
            begun = Some((Instant::now(), now));
        }
        if let Some((since, from)) = begun.filter(|_| now >= half) {
            return (now - from) as f64 / since.elapsed().as_secs_f64();
        }
        assert!(Instant::now() < deadline, "{} of {backlog} bytes within {most:?}", now - before);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_drains_over_200_ms_at_about_a_message_for_each_round_trip() {
    let wishes = Wishes { noise: 4, max_bytes: "256 MiB", ..Wishes::default() };
    let mut rig = Rig::running_with(wishes).await.unwrap();
    let round_trip = Duration::from_millis(200);
    let rate = drain(&mut rig, round_trip, 1_500_000, Duration::from_secs(40)).await;
    // Messages grow from 16 KiB to 256 KiB. Half of the largest one each round trip, because the
    // hub writes to a disk that others use.
    let floor = 128.0 * 1024.0 / round_trip.as_secs_f64() / 2.0;
    assert!(rate > floor, "{rate:.0} bytes a second, at least {floor:.0} expected");
    rig.wan.shape(Duration::ZERO, None).await.unwrap();
    rig.verify_nothing_lost(CATCH_UP).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_arrives_once_over_a_round_trip_of_2_s() {
    let mut rig = Rig::running().await.unwrap();
    let delivered = rig.polls(5).await.unwrap();
    rig.hub_holds(delivered, CATCH_UP).await.unwrap();
    rig.wan.shape(Duration::from_secs(1), None).await.unwrap();
    let upto = rig.polls(100).await.unwrap();
    rig.hub_holds(upto, CATCH_UP).await.unwrap();
    // Deadlines follow the way: what was on it when it became long may be repeated, not more.
    let counters = rig.gateway.status().unwrap()["counters"].clone();
    let timeouts = counters["uplink_timeouts"].as_u64().unwrap();
    assert!(timeouts <= 3, "{timeouts} time-outs");
    // A link that has to be made anew is made over a long way as well, though not over this one:
    // nats-server gives a leaf's CONNECT 2 s, and nothing sets that (decision 11).
    rig.wan.shape(Duration::from_millis(750), None).await.unwrap();
    rig.wan.cut_closed().await.unwrap();
    rig.sit_out(Duration::from_secs(1)).await.unwrap();
    rig.wan.restore().await.unwrap();
    rig.verify_nothing_lost(CATCH_UP).await.unwrap();
}
