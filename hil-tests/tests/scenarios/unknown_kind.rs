use tidegate_hil_tests::forge::{self, Parts};
use tidegate_hil_tests::{Rig, stream};

use crate::CATCH_UP;

/// A later version writes a kind of frame that this one does not know, and says that it may be
/// stepped over: the chain goes through it, so the proof holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_frame_of_an_unknown_kind_is_a_part_of_the_record_and_no_damage() {
    let mut rig = Rig::running().await.unwrap();
    rig.polls(20).await.unwrap();
    rig.verify_nothing_lost(CATCH_UP).await.unwrap();
    rig.gateway.stop().await.unwrap();
    let original = rig.messages().await.unwrap();
    let hub = rig.another_hub().await.unwrap();
    let (url, name) = (hub.admin_url().unwrap(), hub.stream().unwrap());

    let taken_apart_and_put_together = rewritten(&original, |_| {});
    assert_eq!(taken_apart_and_put_together, original, "the forge changes what it should not");
    stream::put(&url, name, &original).await.unwrap();
    let (before, _) = rig.prove_at(&hub).await.unwrap();

    let with_unknown = rewritten(&original, |frames| {
        let mut unknown = frames[frames.len() / 2].clone();
        unknown.envelope[10] = 200;
        unknown.first_seq += unknown.count;
        unknown.count = 0;
        unknown.body = b"what a later version has to say".to_vec();
        frames.insert(frames.len() / 2 + 1, unknown);
    });
    stream::put(&url, name, &with_unknown).await.unwrap();
    let (report, exit_ok) = rig.prove_at(&hub).await.unwrap();
    assert!(exit_ok, "{report:#}");
    assert_eq!(report["verdict"], "balanced-to-watermark", "{report:#}");
    let (was, is) = (&before["epochs"][0], &report["epochs"][0]);
    assert_eq!(is["frames"].as_u64().unwrap(), was["frames"].as_u64().unwrap() + 1, "{report:#}");
    assert_eq!(is["samples"], was["samples"], "{report:#}");
    assert_eq!(report["foreign"]["count"], 0, "{report:#}");

    // A version that cannot be stepped over is not damage either, and nothing is claimed about it.
    let with_newer = rewritten(&original, |frames| {
        let last = frames.len() - 1;
        frames[last].envelope[8] = 9;
        frames[last].envelope[9] = 9;
    });
    stream::put(&url, name, &with_newer).await.unwrap();
    let (report, exit_ok) = rig.prove_at(&hub).await.unwrap();
    assert!(!exit_ok, "{report:#}");
    assert_eq!(report["verdict"], "unverifiable", "{report:#}");
    assert_eq!(report["epochs"][0]["newer"]["needs-version"], 9, "{report:#}");
}

/// The messages with their frames changed, and the chain made to fit: numbers, hashes, checksums.
/// One frame more than there was goes with the message of the frame before it.
fn rewritten(
    original: &[(String, Vec<u8>)],
    change: impl FnOnce(&mut Vec<Parts>),
) -> Vec<(String, Vec<u8>)> {
    let counts: Vec<_> = original.iter().map(|(_, m)| stream::frames(m).unwrap().len()).collect();
    let all = original.iter().flat_map(|(_, message)| stream::frames(message).unwrap());
    let mut frames: Vec<_> = all.map(|frame| Parts::of(frame).unwrap()).collect();
    change(&mut frames);
    let (mut number, mut previous) = (frames[0].number, frames[0].previous);
    let mut chain = frames.into_iter().map(|mut parts| {
        (parts.number, parts.previous) = (number, previous);
        let bytes = parts.bytes().unwrap();
        (number, previous) = (number + 1, forge::hash(&bytes));
        bytes
    });
    let last = counts.len() - 1;
    let mut copy = Vec::new();
    for (at, ((subject, _), count)) in original.iter().zip(counts).enumerate() {
        let count = if at == last { usize::MAX } else { count };
        copy.push((subject.clone(), chain.by_ref().take(count).collect::<Vec<_>>().concat()));
    }
    copy
}
