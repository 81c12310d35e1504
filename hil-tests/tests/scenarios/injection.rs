//! A server's answers obey no permissions. Whoever may ask one could choose another gateway's
//! record as the place for the answer, and write there: an acknowledgement, or bytes of their
//! choice by way of a direct get.
//!
//! Tried at each server of a cluster, the stream's leader among them, with mutual TLS 1.3
//! everywhere; and again on the same cluster with stream and gateways in one account, where it has
//! to succeed, or the first proves nothing.

use std::path::Path;
use std::sync::Arc;

use tidegate_hil_tests::family::Family;
use tidegate_hil_tests::hub::Hub;
use tidegate_hil_tests::stream;
use tidegate_hil_tests::unruly::Unruly;
use tidegate_hil_tests::wait::{SOON, until};

const OURS: &str = "tide.PlantA.gw-a.000102030405060708090a0b0c0d0e0f.frames";
const THEIRS: &str = "tide.PlantA.gw-b.000102030405060708090a0b0c0d0e0f.frames";
const GATEWAYS: [&str; 2] = ["PlantA/gw-a", "PlantA/gw-b"];
const BYTES: &str = "bytes of my choice";

/// How often each answer is asked for: replicas answer direct gets in turn.
const OFTEN: usize = 12;

/// One leaf of the attacker at each server.
async fn at_each_server(family: &Arc<Family>, hub: &Hub, place: &Path) -> Vec<Unruly> {
    let credentials = hub.credentials(GATEWAYS[0]).unwrap();
    let mut all = Vec::new();
    for at in 0..hub.servers() {
        let leafs = hub.leafs_of(at).unwrap();
        let place = place.join(format!("unruly-{at}"));
        let inbox = "_INBOX.PlantA.gw-a";
        all.push(Unruly::start(family, &place, leafs, &credentials, inbox).await.unwrap());
    }
    all
}

/// What stands on a subject.
async fn stored(hub: &Hub, subject: &str) -> Vec<String> {
    let all = stream::messages(&hub.admin_url().unwrap(), hub.stream().unwrap()).await.unwrap();
    let on_it = all.into_iter().filter(|(on, _)| on == subject);
    on_it.map(|(_, payload)| String::from_utf8(payload).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_of_a_clusters_servers_lands_in_another_gateways_record() {
    let place = tempfile::tempdir().unwrap();
    let family = Family::new().unwrap();
    let hub = Hub::start_cluster(&family, &place.path().join("hub"), &GATEWAYS).await.unwrap();
    let head = format!("tidehead.TIDE.{OURS}");
    let all = at_each_server(&family, &hub, place.path()).await;
    let mut injected = 0;
    for unruly in &all {
        unruly.ask_until_answered(OURS, BYTES).await.unwrap();
        unruly.ask_until_answered(&head, "").await.unwrap();
        let before = stored(&hub, OURS).await.len();
        for _ in 0..OFTEN {
            unruly.have_answered(OURS, "an acknowledgement", THEIRS).await.unwrap();
            unruly.have_answered(&head, "", THEIRS).await.unwrap();
            unruly.have_answered("tideinfo.TIDE", "", THEIRS).await.unwrap();
        }
        // The acknowledged ones were stored, so their acknowledgements have been on their way.
        until(SOON, "what asked for the acknowledgements is stored", || async {
            Ok((stored(&hub, OURS).await.len() >= before + OFTEN).then_some(()))
        })
        .await
        .unwrap();
        // Questions after them on the same connection, to each replica: answered after them.
        for _ in 0..OFTEN {
            unruly.ask_until_answered(&head, "").await.unwrap();
            unruly.ask_until_answered("tideinfo.TIDE", "").await.unwrap();
        }
        injected += OFTEN * 3;
        // Nor by asking for it openly.
        assert!(unruly.ask(THEIRS, BYTES).await.is_none_or(|said| said.status.is_some()));
    }
    assert_eq!(stored(&hub, THEIRS).await, Vec::<String>::new(), "of {injected} attempts");
}

/// Everything after `accounts {` replaced: one account with the stream and both gateways, each
/// permitted no more than its own subjects.
fn in_one_account(text: &str, hub: (&str, &str)) -> String {
    let (before, after) = text.split_once("\naccounts {").unwrap();
    let cluster = after.split_once("\ncluster {").map(|(_, cluster)| cluster).unwrap();
    let before = before.replace("system_account: \"SYS\"", "");
    let (user, password) = hub;
    format!(
        r#"{before}
accounts {{ ALL {{ jetstream: enabled, users: [
  {{ user: "{user}", password: "{password}" }}
  {{ user: "CN=PlantA/gw-a,O=Tidegate", permissions {{
     publish: ["{OURS}", "$JS.hub.API.DIRECT.GET.TIDE.{OURS}"], subscribe: ["_INBOX.PlantA.gw-a.>"] }} }}
] }} }}
cluster {{{cluster}"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_same_cluster_with_one_account_for_all_the_same_answers_do_land_there() {
    let place = tempfile::tempdir().unwrap();
    let family = Family::new().unwrap();
    let directory = place.path().join("hub");
    let described = |text: &str| {
        let mut passwords = text.lines().filter_map(|line| line.trim().strip_prefix("password: "));
        passwords.next().unwrap().trim_matches('"').to_owned()
    };
    let hub = Hub::start_cluster_as(&family, &directory, &GATEWAYS, |text, _| {
        in_one_account(text, ("admin", &described(text)))
    })
    .await
    .unwrap();
    let head = format!("$JS.hub.API.DIRECT.GET.TIDE.{OURS}");
    for unruly in at_each_server(&family, &hub, place.path()).await {
        unruly.ask_until_answered(OURS, BYTES).await.unwrap();
        let before = stored(&hub, THEIRS).await;
        unruly.have_answered(OURS, "an acknowledgement", THEIRS).await.unwrap();
        unruly.ask_until_answered(OURS, BYTES).await.unwrap();
        unruly.have_answered(&head, "", THEIRS).await.unwrap();
        let after = until(SOON, "both answers are stored in another's record", || async {
            let after = stored(&hub, THEIRS).await;
            Ok((after.len() >= before.len() + 2).then_some(after))
        })
        .await
        .unwrap();
        let new = &after[before.len()..];
        assert!(new.iter().any(|it| it == BYTES), "{new:?}");
        assert!(new.iter().any(|it| it.contains("\"seq\"")), "{new:?}");
    }
}
