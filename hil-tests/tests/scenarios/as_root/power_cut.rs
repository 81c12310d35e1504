use std::fs;
use std::os::unix::fs::FileExt as _;

use tidegate_hil_tests::disk::{Canaries, Disk};

const OPTIONS: &str = "commit=300";

/// The copies that the scenarios below judge are what a power cut leaves: what was synced, and
/// nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_the_device_holds_what_was_synced_and_nothing_else() {
    let disk = Disk::new(32 << 20, OPTIONS).await.unwrap();
    let canaries = Canaries::new(&disk, 3).unwrap();
    for number in 0..3 {
        let kept = fs::File::create(disk.seen().join(format!("kept-{number}"))).unwrap();
        kept.write_all_at(b"synced", 0).unwrap();
        kept.sync_all().unwrap();
        canaries.release(number).unwrap();
        let after = disk.cut().unwrap().mounted(OPTIONS).await.unwrap();
        canaries.are_gone_from(&after, number).unwrap();
        for number in 0..=number {
            let kept = fs::read(after.seen().join(format!("kept-{number}"))).unwrap();
            assert_eq!(kept, b"synced");
        }
    }
}
