use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tidegate_hil_tests::oracle::NamedLoss;
use tidegate_hil_tests::{Rig, is_long};

use crate::{CATCH_UP, Dice};

/// The commit interval of the rig, five times, because there is little to write; and a poll's time.
const LONGEST_COMMIT: Duration = Duration::from_millis(5 * 200 + 500);

/// A read that was under way may be served when whoever asked is gone already.
const UNDER_WAY: Duration = Duration::from_secs(1);

/// How often, in the ordinary and in the long run.
const KILLS: (usize, usize) = (12, 200);

/// Kills at any moment, while the link comes and goes: in the middle of commits, of deliveries, of
/// the recovery from the kill before, and while a backlog drains.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_killed_again_and_again_loses_only_what_was_not_durable_and_names_it() {
    let mut dice = Dice::of("a_gateway_killed_again_and_again");
    let mut rig = Rig::running().await.unwrap();
    rig.polls(5).await.unwrap();
    let mut kills: Vec<i64> = Vec::new();
    // Random moments are the point here; nothing is expected to have happened by then.
    let mut a_while = async |least, more| {
        tokio::time::sleep(Duration::from_millis(least + dice.below(more))).await;
        dice.below(6)
    };
    let mut what = 0;
    while kills.len() < if is_long() { KILLS.1 } else { KILLS.0 } {
        match what {
            // While it starts and recovers from the kill before: these runs often end before
            // their first commit, and must not hide what was lost before them.
            0 | 1 => {
                kill(&mut rig, &mut kills);
                rig.gateway.launch().unwrap();
                what = a_while(0, 300).await;
            }
            // While a backlog drains.
            2 => {
                rig.wan.cut_closed().await.unwrap();
                a_while(500, 1000).await;
                rig.wan.restore().await.unwrap();
                what = a_while(0, 1500).await;
            }
            3 => {
                rig.wan.cut_black_hole().await.unwrap();
                what = a_while(200, 2300).await;
            }
            4 => {
                rig.wan.cut_closed().await.unwrap();
                what = a_while(200, 2300).await;
            }
            _ => {
                rig.wan.restore().await.unwrap();
                what = a_while(200, 2300).await;
            }
        }
        kill(&mut rig, &mut kills);
        rig.gateway.start().await.unwrap();
    }
    rig.wan.restore().await.unwrap();
    let (findings, claim) = rig.verify(CATCH_UP).await.unwrap();

    let history = rig.plc.history().unwrap();
    let bound = i64::try_from(LONGEST_COMMIT.as_nanos()).unwrap();
    let under_way = i64::try_from(UNDER_WAY.as_nanos()).unwrap();
    for (n, cause) in &findings.named_holes {
        assert_eq!(cause, "not-running", "{findings:?}");
        let served = history.iter().find(|served| served.n == *n).unwrap();
        let near = |kill: &i64| (kill - bound..=kill + under_way).contains(&served.at_ns);
        let near = kills.iter().any(near);
        assert!(near, "{n} was read at {} and is in no commit before {kills:?}", served.at_ns);
    }
    for kill in kills {
        let names = |loss: &NamedLoss| {
            loss.cause == "not-running" && (loss.from_ns..=loss.to_ns).contains(&kill)
        };
        assert!(claim.losses.iter().any(names), "{kill} is in no loss: {claim:?}");
    }
}

fn kill(rig: &mut Rig, kills: &mut Vec<i64>) {
    rig.gateway.kill9().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    kills.push(i64::try_from(now.as_nanos()).unwrap());
}
