//! Journals that are another gateway's, another version's, another process's or damaged.

use std::collections::BTreeMap;
use std::path::Path;

use std::sync::Arc;

use tidegate_journal::{DirStorage, Storage, frame, inspect};

use crate::common::{Hub, eventually};
use crate::site::Site;

/// Every file of a folder.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let name = |entry: &std::fs::DirEntry| entry.file_name().into_string().unwrap();
    files.map(|file| (name(&file), std::fs::read(file.path()).unwrap())).collect()
}

fn epochs(site: &Site) -> usize {
    let storage: Arc<dyn Storage> = Arc::new(DirStorage::new(site.path("journal")).unwrap());
    inspect(&storage).unwrap().0.epochs().len()
}

#[tokio::test]
async fn the_journal_of_another_gateway_is_left_alone() {
    let site = Site::alone().await;
    let daemon = site.start().await;
    site.records().await;
    daemon.stop().await;
    let before = contents(&site.path("journal"));
    site.edit("name = \"g1\"", "name = \"g2\"");
    let said = site.run_to_the_end();
    said.refused(64, &["belongs to gateway P/g1", "this is P/g2", "journal.dir", "move that"]);
    assert_eq!(contents(&site.path("journal")), before);
}

#[tokio::test]
async fn the_journal_of_a_newer_version_is_left_alone() {
    let site = Site::alone().await;
    let daemon = site.start().await;
    site.records().await;
    daemon.stop().await;
    let dir = site.path("journal");
    let mut patched = 0;
    for (name, mut bytes) in contents(&dir) {
        if let Some(at) = bytes.windows(4).position(|found| found == frame::MAGIC) {
            let length = frame::whole_length(&bytes[at..]).unwrap();
            raise_version(&mut bytes[at..at + length]);
            std::fs::write(dir.join(name), bytes).unwrap();
            patched += 1;
        }
    }
    assert!(patched > 0, "no frame was found");
    let before = contents(&dir);
    let daemon = site.start().await;
    let text = site.alarm("journal-needs-newer").await;
    for words in ["needs a reader of version 9", "this one is version 1", "newer release"] {
        assert!(text.contains(words), "{text}");
    }
    let status = site.until("live values go on", |status| {
        status["counters"]["live_published"].as_u64() > Some(0)
    });
    assert_eq!(status.await["journal"]["writable"], false);
    daemon.stop().await;
    assert_eq!(contents(&dir), before);
}

#[tokio::test]
async fn a_journal_in_use_is_not_opened_twice() {
    let site = Site::alone().await;
    let mut daemon = site.start().await;
    let other = Site::alone().await;
    let dir = site.path("journal");
    other.edit("dir = \"journal\"", &format!("dir = {dir:?}"));
    let place = dir.display().to_string();
    other
        .run_to_the_end()
        .refused(73, &[&place, "is in use by another process", "stop it, or set"]);
    assert!(daemon.is_running());
    site.records().await;
}

#[tokio::test]
async fn a_damaged_catalog_begins_a_new_epoch_and_loses_nothing() {
    let hub = Hub::start().await;
    let site = Site::at(&hub).await;
    let daemon = site.start().await;
    site.delivers().await;
    daemon.stop().await;
    assert_eq!(epochs(&site), 1);
    let catalog = site.path("journal/catalog");
    let mut bytes = std::fs::read(&catalog).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&catalog, bytes).unwrap();

    let daemon = site.start().await;
    daemon.logs(&["ERROR", "journal/catalog is damaged", "a new epoch begins"]).await;
    site.delivers().await;
    daemon.stop().await;
    let daemon = site.start().await;
    site.delivers().await;
    daemon.stop().await;
    assert_eq!(epochs(&site), 2, "only the damage began one");
    let said = eventually("the hub has both epochs", async || {
        let said = site.prove(&hub);
        (said.json()["epochs"].as_array().unwrap().len() == 2).then_some(said)
    })
    .await;
    assert_eq!(said.code, 0, "{said:?}");
}

/// Makes a valid frame of a later version of this one, as a later program would write it.
fn raise_version(frame: &mut [u8]) {
    frame[8] = 9;
    frame[9] = 9;
    frame[12..16].fill(0);
    let sum = crc32c::crc32c(frame);
    frame[12..16].copy_from_slice(&sum.to_le_bytes());
}
