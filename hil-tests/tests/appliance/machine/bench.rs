//! The bench's own rules, with files in place of a relay and a stick.

use std::path::Path;

use tidegate_hil_tests::bench::Bench;
use tidegate_hil_tests::bench::file::RigFile;
use tidegate_hil_tests::family::Family;
use tidegate_hil_tests::machine::disk::Stick;

/// A bench of files: the relay writes its state, the stick is a file.
fn file(dir: &Path) -> RigFile {
    let text = format!(
        "address = \"127.0.0.1\"\nboot-within-s = 60\n[power]\non = [\"cp\", \"{0}/one\", \
         \"{0}/relay\"]\noff = [\"rm\", \"-f\", \"{0}/relay\"]\nsettle-ms = 0\n[stick]\nto-rig \
         = [\"true\"]\nto-gateway = [\"cp\", \"{0}/device\", \"{0}/seen\"]\ndevice = \
         \"{0}/device\"\n",
        dir.display()
    );
    RigFile::parsed(&text).unwrap()
}

#[tokio::test]
async fn the_relay_and_the_stick_are_what_the_rig_file_names() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path();
    std::fs::write(dir.join("one"), "1").unwrap();
    std::fs::write(dir.join("device"), "").unwrap();
    let family = Family::new().unwrap();
    let mut bench = Bench::off(&family, file(dir), &dir.join("log")).await.unwrap();
    assert!(bench.cut_power().await.is_err() && bench.console().is_err());
    bench.power_on().unwrap();
    assert!(dir.join("relay").exists() && bench.power_on().is_err());

    let stick = Stick::new(&family, &dir.join("stick"), 1).unwrap();
    stick.write("provision.toml", "name").unwrap();
    bench.plug(&stick).unwrap();
    assert!(bench.plug(&stick).is_err());
    let whole = std::fs::read(stick.image()).unwrap();
    assert!(std::fs::read(dir.join("seen")).unwrap() == whole, "the gateway sees another");
    // The gateway writes onto it.
    let other = Stick::new(&family, &dir.join("other"), 1).unwrap();
    other.write("tidegate-result.txt", "fine").unwrap();
    std::fs::copy(other.image(), dir.join("device")).unwrap();
    bench.unplug().unwrap();
    assert_eq!(stick.read("tidegate-result.txt").unwrap().unwrap(), "fine");
    bench.cut_power().await.unwrap();
    assert!(!dir.join("relay").exists());
}
