use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tidegate_hil_tests::Rig;

use crate::CATCH_UP;

/// The longest that a reading may wait for its fdatasync, however little there is to write.
const LONGEST_COMMIT: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_killed_during_an_outage_loses_nothing_durable_and_names_the_rest() {
    let mut rig = Rig::running().await.unwrap();
    let delivered = rig.polls(10).await.unwrap();
    rig.hub_holds(delivered, CATCH_UP).await.unwrap();
    rig.wan.cut_closed().await.unwrap();
    let mut kills = Vec::new();
    for _ in 0..2 {
        rig.sit_out(LONGEST_COMMIT + Duration::from_secs(1)).await.unwrap();
        rig.gateway.kill9().unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        kills.push(i64::try_from(now.as_nanos()).unwrap());
        rig.gateway.start().await.unwrap();
        rig.polls(5).await.unwrap();
    }
    rig.wan.restore().await.unwrap();
    let (findings, claim) = rig.verify(CATCH_UP).await.unwrap();

    let history = rig.plc.history().unwrap();
    let bound = i64::try_from((LONGEST_COMMIT + Duration::from_secs(1)).as_nanos()).unwrap();
    for (n, cause) in &findings.named_holes {
        assert_eq!(cause, "not-running", "{findings:?}");
        let served = history.iter().find(|served| served.n == *n).unwrap();
        let near = kills.iter().any(|kill| (kill - bound..=*kill).contains(&served.at_ns));
        assert!(near, "{n} was read {:?} before the kills {kills:?}", served.at_ns);
    }
    for kill in kills {
        let names = |loss: &&tidegate_hil_tests::oracle::NamedLoss| {
            loss.cause == "not-running" && (loss.from_ns..=loss.to_ns).contains(&kill)
        };
        assert!(claim.losses.iter().any(|loss| names(&loss)), "{kill} is in no loss: {claim:?}");
    }
}
