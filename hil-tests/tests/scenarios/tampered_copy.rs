use serde_json::Value;
use tidegate_hil_tests::hub::Hub;
use tidegate_hil_tests::{Rig, Wishes, stream};

use crate::{CATCH_UP, Dice};

type Messages = Vec<(String, Vec<u8>)>;

/// What is done to the copy, and whether the proof may still hold for a part of it: a copy that
/// ends early or begins late is whole between its ends.
struct Deed {
    what: String,
    copy: Messages,
    is_at_end: bool,
}

/// A hub whose store was changed behind everybody's back: whatever is done to the copy, the proof
/// says so and names where.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_done_to_a_copy_of_the_record_the_proof_does_not_call_it_balanced() {
    let wishes = Wishes { commit_every_ms: 20, ..Wishes::default() };
    let mut rig = Rig::running_with(wishes).await.unwrap();
    while rig.messages_at_hub().await.unwrap() < 8 {
        rig.polls(1).await.unwrap();
    }
    // A backlog goes in messages of many frames.
    rig.wan.cut_closed().await.unwrap();
    rig.polls(15).await.unwrap();
    rig.wan.restore().await.unwrap();
    rig.verify_nothing_lost(CATCH_UP).await.unwrap();
    rig.gateway.stop().await.unwrap();
    let original = rig.messages().await.unwrap();
    assert!(original.len() >= 8, "{} messages are too few to tamper with", original.len());

    let hub = rig.another_hub().await.unwrap();
    let whole = proof_of(&rig, &hub, &original).await;
    assert_eq!(whole["verdict"], "balanced-to-watermark", "an untouched copy: {whole:#}");
    let end = watermark(&whole);
    let beginning = whole["epochs"][0]["complete-from"]["frame"].as_u64().unwrap();

    for Deed { what, copy, is_at_end } in deeds(&original) {
        let report = proof_of(&rig, &hub, &copy).await;
        let verdict = report["verdict"].as_str().unwrap();
        if is_at_end {
            let epoch = &report["epochs"][0];
            let from = epoch["complete-from"]["frame"].as_u64().unwrap_or(u64::MAX);
            let is_honest = verdict == "unbalanced"
                || verdict == "unverifiable"
                || watermark(&report) < end
                || from > beginning;
            assert!(is_honest, "{what}: {report:#}");
            continue;
        }
        assert!(matches!(verdict, "unbalanced" | "unverifiable"), "{what}: {report:#}");
        assert_eq!(report["exit-ok"], false, "{what}");
        assert!(!report["because"].as_array().unwrap().is_empty(), "{what}: {report:#}");
        let epoch = &report["epochs"][0];
        let named: u64 = ["gaps", "duplicates", "inversions", "chain-breaks", "bodies"]
            .iter()
            .map(|list| epoch[list]["list"].as_array().map_or(0, |list| list.len() as u64))
            .sum();
        assert!(named > 0, "{what} is not named: {report:#}");
    }
}

/// The proof of a hub that holds exactly these messages.
async fn proof_of(rig: &Rig, hub: &Hub, messages: &Messages) -> Value {
    let (url, name) = (hub.admin_url().unwrap(), hub.stream().unwrap());
    stream::put(&url, name, messages).await.unwrap();
    let (mut report, exit_ok) = rig.prove_at(hub).await.unwrap();
    report["exit-ok"] = exit_ok.into();
    report
}

fn watermark(report: &Value) -> u64 {
    report["epochs"][0]["watermark"]["frame"].as_u64().unwrap_or(0)
}

fn deeds(original: &Messages) -> Vec<Deed> {
    let mut dice = Dice::of("tampered_copy");
    let mut deeds = Vec::new();
    let mut add = |what: String, is_at_end, change: &mut dyn FnMut(&mut Messages)| {
        let mut copy = original.clone();
        change(&mut copy);
        assert_ne!(&copy, original, "{what} changes nothing");
        deeds.push(Deed { what, copy, is_at_end });
    };
    let last = original.len() - 1;
    let inner = |dice: &mut Dice| 1 + usize::try_from(dice.below(last as u64 - 1)).unwrap();

    for _ in 0..3 {
        let at = inner(&mut dice);
        add(format!("message {at} left out"), false, &mut |copy| {
            copy.remove(at);
        });
        let at = inner(&mut dice);
        add(format!("message {at} doubled"), false, &mut |copy| copy.insert(at, copy[at].clone()));
        let at = inner(&mut dice);
        add(format!("message {at} again at the end"), false, &mut |copy| {
            copy.push(copy[at].clone());
        });
        let at = inner(&mut dice);
        add(format!("message {at} swapped with the next"), false, &mut |copy| {
            copy.swap(at, at + 1);
        });
        let at = inner(&mut dice);
        let cut = usize::try_from(1 + dice.below(original[at].1.len() as u64 - 1)).unwrap();
        add(format!("message {at} cut off by {cut} bytes"), false, &mut |copy| {
            let length = copy[at].1.len() - cut;
            copy[at].1.truncate(length);
        });
    }
    for _ in 0..12 {
        let at = inner(&mut dice);
        let byte = usize::try_from(dice.below(original[at].1.len() as u64)).unwrap();
        let bit = 1 << dice.below(8);
        add(format!("bit {bit:#x} of byte {byte} of message {at} flipped"), false, &mut |copy| {
            copy[at].1[byte] ^= bit;
        });
    }
    add("everything backwards".into(), false, &mut |copy| copy.reverse());
    add("everything twice".into(), false, &mut |copy| copy.extend(original.iter().cloned()));
    let has_many = |at: &usize| stream::frames(&original[*at].1).unwrap().len() > 1;
    let many: Vec<_> = (1..last).filter(has_many).collect();
    assert!(!many.is_empty(), "no message holds several frames");
    for at in many {
        add(format!("a frame of message {at} left out"), false, &mut |copy| {
            let first = stream::frames(&original[at].1).unwrap()[0].len();
            copy[at].1.drain(..first);
        });
        add(format!("frames of message {at} swapped"), false, &mut |copy| {
            let frames = stream::frames(&original[at].1).unwrap();
            let (first, others) = frames.split_first().unwrap();
            copy[at].1 = [others.concat(), first.to_vec()].concat();
        });
    }
    add("the last message left out".into(), true, &mut |copy| {
        copy.pop();
    });
    add("the first message left out".into(), true, &mut |copy| {
        copy.remove(0);
    });
    for byte in [0, 5, 12, 40] {
        add(format!("byte {byte} of the last message changed"), true, &mut |copy| {
            copy[last].1[byte] ^= 0xff;
        });
        add(format!("byte {byte} of the first message changed"), true, &mut |copy| {
            copy[0].1[byte] ^= 0xff;
        });
    }
    add("the last message cut in half".into(), true, &mut |copy| {
        let half = copy[last].1.len() / 2;
        copy[last].1.truncate(half);
    });
    deeds
}
