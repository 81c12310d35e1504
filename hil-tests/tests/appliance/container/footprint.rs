//! What a gateway with a thousand tags takes of a small machine.

use std::fmt::Write as _;
use std::time::Duration;

use tidegate_hil_tests::gateway::{BASE_PATH, DEVICE};
use tidegate_hil_tests::installed::{DAEMON, LEAF};
use tidegate_hil_tests::{Wishes, vitals};

use super::{CATCH_UP, Stage, staged};

/// Of daemon and leaf together.
const MOST: u64 = 50_000_000;

/// How long it is watched: some sixty polls of everything, checkpoints and a renewal of every cache.
const WATCHED: Duration = Duration::from_secs(60);

/// The PLC's noisy registers, one tag each, new with every read.
const NOISE: usize = 124;

#[test]
fn a_thousand_tags_a_second_fit_into_fifty_megabytes() {
    staged(|net| async move {
        let mut stage = Stage::bare(net, "footprint", Wishes::default()).await?;
        stage.gateway.install(&tidegate_hil_tests::installed::package()?)?;
        let whole = stage.configuration()?;
        let (head, _) = whole.split_once("\n[[device]]").unwrap_or((&whole, ""));
        let devices = thousand_tags(&stage.rig.cable.address().to_string());
        stage.commission_with(&format!("{head}\n{devices}")).await?;
        let tags = stage.gateway.container.run("tidegate tags --json | wc -l")?;
        stage.report.figure("tags", tags, "");

        let (daemon, leaf) = (stage.gateway.pid(DAEMON)?, stage.gateway.pid(LEAF)?);
        let (mut most, mut last) = (0, [0, 0]);
        let end = tokio::time::Instant::now() + WATCHED;
        while tokio::time::Instant::now() < end {
            tokio::time::sleep(Duration::from_secs(1)).await;
            last = [vitals::memory(daemon)?.0, vitals::memory(leaf)?.0];
            most = most.max(last[0] + last[1]);
        }
        let megabytes = |bytes: u64| format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10);
        let asked = format!("<= {}", megabytes(MOST));
        let what = "RSS of daemon and leaf, 1,000 tags @1 s";
        stage.report.bound(what, megabytes(most), &asked, most <= MOST);
        stage.report.figure("of which the daemon", megabytes(last[0]), "");
        stage.report.figure("of which the leaf", megabytes(last[1]), "");
        assert!(most <= MOST, "{most} bytes");
        stage.rig.verify_nothing_lost(CATCH_UP).await?;
        stage.pass();
        Ok(())
    });
}

/// The device that counts with its four tags, and 996 of noise, everything once a second and live.
fn thousand_tags(plc: &str) -> String {
    let mut text = device(DEVICE, plc, BASE_PATH);
    for (path, register, kind) in [
        ("counter", 100, "uint64"),
        ("triple", 104, "uint32"),
        ("tenths", 106, "uint16"),
        ("sine", 107, "float32"),
    ] {
        text.push_str(&tag(path, register, kind));
    }
    let mut left = 996;
    for number in 1.. {
        let own = NOISE.min(left);
        if own == 0 {
            break;
        }
        text.push_str(&device(&format!("noise-{number}"), plc, &format!("PlantA/Line3/n{number}")));
        for at in 0..own {
            text.push_str(&tag(&format!("n{at}"), 1000 + at, "uint16"));
        }
        left -= own;
    }
    text
}

fn device(name: &str, plc: &str, base: &str) -> String {
    format!(
        "\n[[device]]\nname = \"{name}\"\nprotocol = \"modbus-tcp\"\naddress = \"{plc}\"\n\
         unit = 1\npoll-every-ms = 1000\nbase-path = \"{base}\"\n"
    )
}

fn tag(path: &str, register: usize, kind: &str) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "\n[[device.tag]]\npath = \"{path}\"\naddress = \"holding:{register}\"\ntype = \"{kind}\"\n"
    );
    text
}
