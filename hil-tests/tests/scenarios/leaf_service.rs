//! A leaf that is a service of its own, as in the package: what a managed one does by itself.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidegate_hil_tests::est::Est;
use tidegate_hil_tests::family::Family;
use tidegate_hil_tests::leaf_service::LeafService;
use tidegate_hil_tests::{Rig, Wishes, live_values, wait};

use crate::CATCH_UP;
use crate::identity::{LIFETIME, certify_hub, generation, kept_by};

/// How the binary ends when its configuration is wrong.
const CONFIGURATION: i32 = 64;

async fn leaf_is_up(rig: &Rig) {
    wait::until(wait::SOON, "the leaf is known", || {
        let status = rig.gateway.status();
        async move { Ok((status?["link"]["leaf_up"] == true).then_some(())) }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_of_its_own_outlives_the_daemon_and_nothing_is_lost_whoever_ends() {
    let (wishes, address) = LeafService::wishes().unwrap();
    let mut rig = Rig::running_with(wishes).await.unwrap();
    // No leaf yet: the daemon waits for it and collects.
    let text = rig.gateway.alarm("leaf-down").await.unwrap();
    assert!(text.contains(&address.to_string()) && text.contains("start its service"), "{text}");
    let polled = rig.polls(5).await.unwrap();
    let leaf = LeafService::on(rig.family(), &rig.gateway.leaf()).unwrap();
    rig.hub_holds(polled, CATCH_UP).await.unwrap();
    rig.gateway.alarm_is_over("leaf-down", wait::SOON).await.unwrap();
    // Which hub its link leads to is asked for in turns.
    wait::until(wait::SOON, "the link's hub is named", || {
        let status = rig.gateway.status();
        let expected = format!("tls://{}", rig.wan.address());
        async move { Ok((status?["link"]["hub_url"] == expected).then_some(())) }
    })
    .await
    .unwrap();
    let first = leaf.runs().await.unwrap();

    // The daemon ends and begins: the leaf runs on, and its links too.
    let links = || leaf.log().unwrap().matches("Leafnode connection created").count();
    let before = links();
    rig.gateway.stop().await.unwrap();
    rig.gateway.start().await.unwrap();
    let polled = rig.polls(5).await.unwrap();
    rig.hub_holds(polled, CATCH_UP).await.unwrap();
    assert_eq!((leaf.runs().await.unwrap(), links()), (first, before), "{}", leaf.log().unwrap());

    // A configuration that does not check ends the daemon and not the leaf.
    rig.gateway.stop().await.unwrap();
    let config = std::fs::read_to_string(rig.gateway.config()).unwrap();
    std::fs::write(rig.gateway.config(), format!("{config}\n[leaf\n")).unwrap();
    rig.gateway.launch().unwrap();
    assert_eq!(rig.gateway.ends().await.unwrap(), CONFIGURATION);
    let local = tidegate_hil_tests::stream::connect(&format!("nats://{address}")).await.unwrap();
    local.flush().await.unwrap();
    std::fs::write(rig.gateway.config(), config).unwrap();
    rig.gateway.start().await.unwrap();
    leaf_is_up(&rig).await;
    assert_eq!((leaf.runs().await.unwrap(), links()), (first, before), "{}", leaf.log().unwrap());

    // The link goes silent for longer than the leaf waits: it dials anew by itself.
    rig.wan.cut_black_hole().await.unwrap();
    rig.sit_out(Duration::from_secs(16)).await.unwrap();
    rig.wan.restore().await.unwrap();
    let polled = rig.polls(2).await.unwrap();
    rig.hub_holds(polled, CATCH_UP).await.unwrap();

    // Killed, it is started by its own manager, and live values find it as well.
    leaf.kill9().unwrap();
    leaf.runs_otherwise(first).await.unwrap();
    live_values(&rig, 3).await.unwrap();
    assert_eq!(rig.gateway.leaves().unwrap(), [0_u32; 0], "the daemon runs none itself");
    // Neither did a stop cost a poll that was under way.
    rig.verify_nothing_lost(CATCH_UP).await.unwrap();
    rig.gateway.stop().await.unwrap();
    local.flush().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_of_its_own_shows_certificates_that_change_in_flight_and_sees_no_other_key() {
    let (family, dir) = (Family::new().unwrap(), tempfile::tempdir().unwrap());
    let est = Est::start(&family, dir.path()).await.unwrap();
    est.lifetime(LIFETIME).await.unwrap();
    let token = dir.path().join("token");
    let (wishes, _) = LeafService::wishes().unwrap();
    let wishes = Wishes { identity: Some(kept_by(&est, &token)), ..wishes };
    let mut rig = Rig::running_with(wishes).await.unwrap();
    let folder = rig.gateway.leaf();
    let leaf = LeafService::on(rig.family(), &folder).unwrap();
    rig.gateway.alarm("identity-missing").await.unwrap();
    certify_hub(&mut rig, &est).await;
    std::fs::write(&token, est.token().await.unwrap()).unwrap();
    generation(&rig, 1).await;
    let first = leaf.runs().await.unwrap();
    let delivered = rig.polls(5).await.unwrap();
    rig.hub_holds(delivered, CATCH_UP).await.unwrap();

    // A new key and certificate, shown by the same process.
    generation(&rig, 2).await;
    est.lifetime(Duration::from_secs(3_600)).await.unwrap();
    let delivered = rig.polls(5).await.unwrap();
    rig.hub_holds(delivered, CATCH_UP).await.unwrap();
    assert_eq!(leaf.runs().await.unwrap(), first);

    // What it reads is in its folder, for its group, and no former key lies there.
    let config = std::fs::read_to_string(folder.join("nats-server.conf")).unwrap();
    assert!(!config.contains("/identity/"), "{config}");
    wait::until(wait::SOON, "only the key that is in use lies there", || {
        let count = keys(&folder).len();
        async move { Ok((count == 1).then_some(())) }
    })
    .await
    .unwrap();
    let mode = std::fs::metadata(&keys(&folder)[0]).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o640);
    rig.verify_nothing_lost(CATCH_UP).await.unwrap();
    rig.gateway.stop().await.unwrap();
}

fn keys(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.to_string_lossy().ends_with("-key.pem")).collect()
}
