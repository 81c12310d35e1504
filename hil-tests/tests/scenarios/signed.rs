use std::time::Duration;

use tidegate_hil_tests::forge::{self, Parts};
use tidegate_hil_tests::wait::until;
use tidegate_hil_tests::{Rig, Wishes, stream};

use crate::CATCH_UP;

/// Samples and checkpoints, as the envelope numbers them.
const SAMPLES: u8 = 1;
const CHECKPOINT: u8 = 5;

fn kind(frame: &[u8]) -> u8 {
    frame[10]
}

/// Whoever may write at the hub can make numbers, hashes and checksums fit again. The gateway's
/// signature does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_was_changed_and_made_whole_again_at_the_hub_does_not_fit_its_signatures() {
    let wishes = Wishes::default().with("identity", "checkpoint-every-ms", "1000");
    let mut rig = Rig::running_with(wishes).await.unwrap();
    let signed = || async {
        if rig.messages_at_hub().await? == 0 {
            return Ok(None);
        }
        let messages = rig.messages().await?;
        let frames: Vec<_> =
            messages.iter().map(|(_, bytes)| stream::frames(bytes)).collect::<Result<_, _>>()?;
        let seals = frames.iter().flatten().filter(|frame| kind(frame) == CHECKPOINT).count();
        Ok((seals >= 2).then_some(()))
    };
    until(Duration::from_secs(30), "two checkpoints are at the hub", signed).await.unwrap();
    rig.verify_nothing_lost(CATCH_UP).await.unwrap();
    rig.gateway.stop().await.unwrap();

    let (report, exit_ok) = rig.prove_signed_at(&rig.hub).await.unwrap();
    let up_to = &report["epochs"][0]["signatures"]["up-to"];
    assert!(exit_ok && up_to["frame"].as_u64() > Some(0), "{report:#}");
    assert_eq!(up_to["subject"], format!("CN={},O=Tidegate", rig.gateway.id()), "{report:#}");
    assert!(up_to["not-vouched-for"].is_null(), "{report:#}");
    let (report, exit_ok) = rig.prove_at(&rig.hub).await.unwrap();
    let up_to = &report["epochs"][0]["signatures"]["up-to"];
    assert!(exit_ok && !up_to["not-vouched-for"].is_null(), "nobody was asked: {report:#}");

    let mut frames = Vec::new();
    for (subject, bytes) in rig.messages().await.unwrap() {
        for frame in stream::frames(&bytes).unwrap() {
            frames.push((subject.clone(), frame.to_vec()));
        }
    }
    let first = frames.iter().position(|(_, frame)| kind(frame) == SAMPLES).unwrap();
    let (mut previous, mut forged) = (None, Vec::new());
    for (at, (subject, frame)) in frames.iter().enumerate() {
        let mut parts = Parts::of(frame).unwrap();
        if at == first {
            // One bit of when it was read: the smallest lie.
            parts.times[0] ^= 2;
        }
        parts.previous = previous.unwrap_or(parts.previous);
        let bytes = parts.bytes().unwrap();
        previous = Some(forge::hash(&bytes));
        forged.push((subject.clone(), bytes));
    }
    assert_ne!(forged, frames);
    let hub = rig.another_hub().await.unwrap();
    stream::put(&hub.admin_url().unwrap(), hub.stream().unwrap(), &forged).await.unwrap();
    let (report, exit_ok) = rig.prove_signed_at(&hub).await.unwrap();
    let epoch = &report["epochs"][0];
    assert!(!exit_ok && report["verdict"] == "unbalanced", "{report:#}");
    assert_eq!(epoch["chain-breaks"]["count"], 0, "the forgery is whole: {report:#}");
    assert!(epoch["signatures"]["refused"]["count"].as_u64() >= Some(2), "{report:#}");
    assert!(epoch["signatures"]["up-to"].is_null(), "{report:#}");
}
