use tidegate_hil_tests::wait::{SOON, until};
use tidegate_hil_tests::{Account, Rig};

use crate::CATCH_UP;

/// The old copy's journal ends before what the hub has. Both lives must be there in full; what the
/// old copy had not seen acknowledged is carried over and may be there twice, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_put_back_to_an_old_image_begins_an_epoch_and_loses_nothing_of_either_life() {
    let mut rig = Rig::running().await.unwrap();
    let early = rig.polls(10).await.unwrap();
    rig.hub_holds(early, CATCH_UP).await.unwrap();
    rig.gateway.stop().await.unwrap();
    let copied = rig.served().unwrap();
    rig.gateway.back_up().unwrap();

    rig.gateway.start().await.unwrap();
    let late = rig.polls(15).await.unwrap();
    rig.hub_holds(late, CATCH_UP).await.unwrap();
    rig.gateway.stop().await.unwrap();
    let stopped = rig.served().unwrap();
    rig.gateway.roll_back().unwrap();

    rig.gateway.start().await.unwrap();
    let text = rig.gateway.alarm("fork").await.unwrap();
    assert!(text.contains("restored disk image"), "{text}");
    rig.polls(10).await.unwrap();
    let account = rig.account(CATCH_UP).await.unwrap();
    is_a_named_seam(&account);
    let Account { findings, .. } = &account;
    assert!(findings.invented.is_empty() && findings.torn.is_empty(), "{}", account.short());
    assert!(findings.sequence_breaks.is_empty(), "{}", account.short());
    // Carried over: the last of the first life, which the copy had not seen acknowledged.
    let carried = early..=copied;
    assert!(findings.twice.iter().all(|n| carried.contains(n)), "{}", account.short());
    assert!(findings.out_of_order.iter().all(|n| carried.contains(n)), "{}", account.short());
    // The second life ended in good order, but its last commit may never have left the old image.
    let undelivered = late..=stopped;
    assert!(findings.unnamed_holes.iter().all(|n| undelivered.contains(n)), "{}", account.short());
}

/// The epoch that began names the other one, and the proof says so in words and never says balanced.
fn is_a_named_seam(account: &Account) {
    let why = account.short();
    assert_eq!((account.claim.verdict.as_str(), account.claim.exit_ok), ("unverifiable", false));
    let epochs = account.report["epochs"].as_array().unwrap();
    let [old, new] = &epochs[..] else { panic!("not two epochs: {why}") };
    assert_eq!(new["seam"]["state"], "unverifiable", "{why}");
    assert_eq!(new["seam"]["predecessor"], old["epoch"], "{why}");
    let words = new["seam"]["words"].as_str().unwrap();
    assert!(words.contains("restored image"), "{why}");
    let because = account.report["because"].as_array().unwrap();
    assert!(because.iter().any(|line| line.as_str().unwrap().contains(words)), "{why}");
}

/// Two devices set up under one name: each is told, and both go on being recorded.
#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_with_one_name_are_noticed_and_the_proof_is_not_balanced() {
    let rig = Rig::running().await.unwrap();
    let early = rig.polls(10).await.unwrap();
    rig.hub_holds(early, CATCH_UP).await.unwrap();
    let mut twin = rig.twin().unwrap();
    twin.start().await.unwrap();
    until(SOON, "both gateways are at the hub", || async {
        let (report, _) = rig.prove_at(&rig.hub).await?;
        Ok((report["epochs"].as_array().map_or(0, Vec::len) == 2).then_some(()))
    })
    .await
    .unwrap();
    // Who else writes is looked at when the link opens, and every few minutes.
    for gateway in [&rig.gateway, &twin] {
        for leaf in gateway.leaves().unwrap() {
            tidegate_hil_tests::family::kill9(leaf).unwrap();
        }
    }
    rig.polls(20).await.unwrap();
    for gateway in [&rig.gateway, &twin] {
        let text = gateway.alarm("two-epochs").await.unwrap();
        assert!(text.contains("PlantA/gw-line3"), "{text}");
    }
    let (report, exit_ok) = rig.prove_at(&rig.hub).await.unwrap();
    assert!(!exit_ok, "{report:#}");
    assert_eq!(report["verdict"], "unverifiable", "{report:#}");
    assert!(report["because"].to_string().contains("two gateways with one name"), "{report:#}");
    twin.stop().await.unwrap();
}

/// Two cards cloned from one image, both running: both begin in one epoch, and only one may go on in
/// it. What either captured reaches the hub.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_gateways_cloned_from_one_image_one_leaves_the_epoch_and_neither_loses_anything() {
    let mut rig = Rig::running().await.unwrap();
    let early = rig.polls(10).await.unwrap();
    rig.hub_holds(early, CATCH_UP).await.unwrap();
    rig.gateway.stop().await.unwrap();
    rig.gateway.back_up().unwrap();
    let mut twin = rig.twin().unwrap();
    twin.take_image_of(&rig.gateway).unwrap();
    rig.gateway.start().await.unwrap();
    twin.start().await.unwrap();
    let is_told = |status: &serde_json::Value| {
        status["alarms"].as_array().is_some_and(|all| all.iter().any(|it| it["kind"] == "fork"))
    };
    until(SOON, "one of them is told of a fork", || async {
        let told = is_told(&rig.gateway.status()?) || is_told(&twin.status()?);
        Ok(told.then_some(()))
    })
    .await
    .unwrap();
    let settled = rig.served().unwrap();
    // Long enough for what both had captured by then to be committed and delivered.
    rig.polls(80).await.unwrap();
    let account = rig.account(CATCH_UP).await.unwrap();
    let why = account.short();
    assert_eq!((account.claim.verdict.as_str(), account.claim.exit_ok), ("unverifiable", false));
    assert!(account.findings.invented.is_empty(), "{why}");
    assert!(account.findings.unnamed_holes.iter().all(|n| *n > settled), "{why}");
    twin.stop().await.unwrap();
}
