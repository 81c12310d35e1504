use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidegate_hil_tests::oracle::NamedLoss;
use tidegate_hil_tests::{Rig, outage};

use crate::{CATCH_UP, Dice};

/// The commit interval of the rig, five times, because there is little to write; and a poll's time.
const LONGEST_COMMIT: Duration = Duration::from_millis(5 * 200 + 500);

const KILLS: usize = 10;

/// Kills at any moment, while the link comes and goes: in the middle of commits, of deliveries, of
/// reconciliation after the kill before.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_killed_again_and_again_loses_only_what_was_not_durable_and_names_it() {
    let mut dice = Dice::of("a_gateway_killed_again_and_again");
    let mut rig = Rig::running().await.unwrap();
    rig.polls(5).await.unwrap();
    let mut kills: Vec<i64> = Vec::new();
    let begun = Instant::now();
    let span = outage(Duration::from_secs(30));
    while kills.len() < KILLS || begun.elapsed() < span {
        match dice.below(4) {
            0 => rig.wan.cut_closed().await.unwrap(),
            1 => rig.wan.cut_black_hole().await.unwrap(),
            _ => rig.wan.restore().await.unwrap(),
        }
        // Random moments are the point here; nothing is expected to have happened by then.
        tokio::time::sleep(Duration::from_millis(200 + dice.below(2300))).await;
        if kills.len() < KILLS {
            rig.gateway.kill9().unwrap();
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            kills.push(i64::try_from(now.as_nanos()).unwrap());
            rig.gateway.start().await.unwrap();
        }
    }
    rig.wan.restore().await.unwrap();
    let (findings, claim) = rig.verify(CATCH_UP).await.unwrap();

    let history = rig.plc.history().unwrap();
    let bound = i64::try_from(LONGEST_COMMIT.as_nanos()).unwrap();
    for (n, cause) in &findings.named_holes {
        assert_eq!(cause, "not-running", "{findings:?}");
        let served = history.iter().find(|served| served.n == *n).unwrap();
        let near = kills.iter().any(|kill| (kill - bound..=*kill).contains(&served.at_ns));
        assert!(near, "{n} was read at {} and is in no commit before {kills:?}", served.at_ns);
    }
    for kill in kills {
        let names = |loss: &NamedLoss| {
            loss.cause == "not-running" && (loss.from_ns..=loss.to_ns).contains(&kill)
        };
        assert!(claim.losses.iter().any(names), "{kill} is in no loss: {claim:?}");
    }
}
