//! A gateway that comes by its certificate itself, from an authority by other hands, and renews it
//! every few seconds under load; then everything that the authority can do wrong.

use std::path::Path;
use std::time::Duration;

use tidegate_hil_tests::est::{Est, Wanted};
use tidegate_hil_tests::family::Family;
use tidegate_hil_tests::{Rig, Wishes, wait};

use crate::CATCH_UP;

pub(crate) const GATEWAY: &str = "PlantA/gw-line3";

/// Renewed after two thirds of it, more or less.
pub(crate) const LIFETIME: Duration = Duration::from_secs(12);

/// The path behind a key of a nats-server configuration.
fn file_of<'c>(config: &'c str, key: &str) -> &'c Path {
    let (_, rest) = config.split_once(&format!("{key}: \"")).unwrap();
    Path::new(rest.split('"').next().unwrap())
}

/// The lines of `[identity]` for a certificate from this authority.
pub(crate) fn kept_by(est: &Est, token: &Path) -> String {
    format!(
        "dir = \"identity\"\nest = \"{}\"\nca-pins = [\"{}\"]\ntoken-file = {token:?}\n\
         longest-offline-days = 0\n",
        est.url(),
        est.pin()
    )
}

/// Gives the hub a certificate of this authority, and has it admit certificates of it.
pub(crate) async fn certify_hub(rig: &mut Rig, est: &Est) {
    let ca = rig.hub.credentials(GATEWAY).unwrap().ca;
    let config = std::fs::read_to_string(ca.with_file_name("hub.conf")).unwrap();
    let wanted = Wanted {
        name: "hub".to_owned(),
        organisation: "Tidegate hub".to_owned(),
        hosts: vec!["127.0.0.1".to_owned()],
        lifetime: Some(Duration::from_secs(3_600)),
        ..Wanted::default()
    };
    let papers = est.issue("hub", &wanted).await.unwrap();
    std::fs::copy(papers.cert, file_of(&config, "cert_file")).unwrap();
    std::fs::copy(papers.key, file_of(&config, "key_file")).unwrap();
    let root = std::fs::read_to_string(est.root()).unwrap();
    let trusted = std::fs::read_to_string(&ca).unwrap();
    std::fs::write(&ca, format!("{trusted}{root}")).unwrap();
    rig.hub.kill9().unwrap();
    rig.start_hub_again().await.unwrap();
}

pub(crate) async fn generation(rig: &Rig, at_least: u64) -> u64 {
    let what = format!("generation {at_least}");
    wait::until(wait::SOON * 2, &what, || {
        let status = rig.gateway.status();
        async move {
            let status = status?;
            let number = status["identity"]["generation"].as_u64().unwrap_or_default();
            let taken = status["identity"]["confirmed_serial"] == status["identity"]["serial"];
            Ok((number >= at_least && taken).then_some(number))
        }
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_live_for_seconds_are_renewed_under_load_and_faults_are_alarms() {
    let (family, dir) = (Family::new().unwrap(), tempfile::tempdir().unwrap());
    let est = Est::start(&family, dir.path()).await.unwrap();
    est.lifetime(LIFETIME).await.unwrap();
    let token = dir.path().join("token");
    let identity = kept_by(&est, &token);
    let wishes = Wishes { identity: Some(identity), ..Wishes::default() };
    let mut rig = Rig::running_with(wishes).await.unwrap();
    rig.gateway.alarm("identity-missing").await.unwrap();
    certify_hub(&mut rig, &est).await;
    let daemon = rig.gateway.pid().unwrap();

    // A token, and the link is there; what was recorded without one follows.
    std::fs::write(&token, est.token().await.unwrap()).unwrap();
    generation(&rig, 1).await;
    rig.gateway.alarm_is_over("identity-missing", wait::SOON).await.unwrap();
    assert!(!token.exists(), "the token is gone");
    let [leaf] = rig.gateway.leaves().unwrap()[..] else { panic!("the gateway runs one leaf") };
    let delivered = rig.polls(10).await.unwrap();
    rig.hub_holds(delivered, CATCH_UP).await.unwrap();

    // Twice a new key and certificate, and nothing is started again.
    let rotated = generation(&rig, 3).await;
    let delivered = rig.polls(5).await.unwrap();
    rig.hub_holds(delivered, CATCH_UP).await.unwrap();
    assert_eq!(
        (rig.gateway.pid().unwrap(), &rig.gateway.leaves().unwrap()[..]),
        (daemon, &[leaf][..])
    );

    // From here on none that the authority signs can be used; the one in use stays, also past its end.
    for (mode, word) in [
        ("junk", "authority-junk"),
        ("wrong-name", "identity-wrong-name"),
        ("no-client", "identity-wrong-usage"),
        ("wrong-ca", "identity-wrong-ca"),
        ("not-yet", "identity-not-yet-valid"),
        ("unavailable", "authority-away"),
    ] {
        est.behave(mode).await.unwrap();
        // Renewals may be refused because the one in use is over by now; a token asks all the same.
        std::fs::write(&token, est.token().await.unwrap()).unwrap();
        rig.gateway.alarm(word).await.unwrap();
        rig.polls(2).await.unwrap();
    }
    let kept = rig.gateway.status().unwrap()["identity"]["generation"].as_u64().unwrap();
    assert!(kept >= rotated);
    est.behave("ok").await.unwrap();
    est.lifetime(Duration::from_secs(3_600)).await.unwrap();
    std::fs::write(&token, est.token().await.unwrap()).unwrap();
    generation(&rig, kept + 1).await;
    for word in ["authority-away", "identity-expired", "identity-not-yet-valid"] {
        rig.gateway.alarm_is_over(word, wait::SOON).await.unwrap();
    }
    assert_eq!(
        (rig.gateway.pid().unwrap(), &rig.gateway.leaves().unwrap()[..]),
        (daemon, &[leaf][..])
    );
    rig.verify_nothing_lost(CATCH_UP).await.unwrap();
    rig.gateway.stop().await.unwrap();
}
