//! Links that are thinner than what a dashboard at the hub asks for, with real TCP over them.

use std::time::Duration;

use tidegate_hil_tests::net::{Net, isolated};
use tidegate_hil_tests::{Rig, Wishes, stream};
use tokio::time::Instant;

use crate::CATCH_UP;

/// The queue before a thin link, as modems have one.
const QUEUE: Duration = Duration::from_secs(1);
/// How long the link is thin.
const WINDOW: Duration = Duration::from_secs(24);
/// The record must get on in each part of the time that is watched.
const PARTS: u32 = 2;

/// What crossed the link while somebody at the hub watched everything.
struct Seen {
    record_bytes: u64,
    link_bytes: u64,
    links_closed: usize,
}

/// Watches everything at the hub over a link of so many bits a second.
async fn watched(net: &Net, rig: &Rig, bits_per_s: u64) -> anyhow::Result<Seen> {
    let client = stream::connect(&rig.hub.reader_url()?).await?;
    // A subscription that nobody reads is served all the same, and drops what is too much for it.
    let _everything = client.subscribe("uns.>").await?;
    client.flush().await?;
    net.narrow(bits_per_s, QUEUE)?;
    let (admin, name) = (rig.hub.admin_url()?, rig.hub.stream()?);
    let begun = Instant::now();
    let (link, bytes) = (net.sent()?, stream::bytes(&admin, name).await?);
    let closed = links_closed(rig)?;
    let mut before = rig.messages_at_hub().await?;
    for part in 1..=PARTS {
        tokio::time::sleep_until(begun + WINDOW * part / PARTS).await;
        let now = rig.messages_at_hub().await?;
        anyhow::ensure!(now > before, "no message in part {part} of {WINDOW:?}");
        before = now;
    }
    Ok(Seen {
        record_bytes: stream::bytes(&admin, name).await? - bytes,
        link_bytes: net.sent()? - link,
        links_closed: links_closed(rig)? - closed,
    })
}

fn links_closed(rig: &Rig) -> anyhow::Result<usize> {
    Ok(rig.gateway.log()?.matches("Leafnode connection closed").count())
}

/// The record gets its part of a link that live values alone would fill.
fn the_record_gets_through(bits_per_s: u64, chatter_ms: u64) {
    isolated(move |net| async move {
        let wishes = Wishes { chatter: Some(chatter_ms), ..Wishes::default() };
        let mut rig = Rig::running_across(&net, wishes).await?;
        let delivered = rig.polls(10).await?;
        rig.hub_holds(delivered, CATCH_UP).await?;
        let Seen { record_bytes, link_bytes, links_closed } =
            watched(&net, &rig, bits_per_s).await?;
        let capacity = bits_per_s / 8 * WINDOW.as_secs();
        anyhow::ensure!(link_bytes > capacity / 10 * 8, "{link_bytes} of {capacity} bytes used");
        anyhow::ensure!(links_closed == 0, "{links_closed} links closed");
        // Less than half, because each message waits for the one before it, and live values are
        // always there.
        let told = format!("{record_bytes} of {link_bytes} bytes were the record's");
        anyhow::ensure!(record_bytes > link_bytes / 20, "{told}");
        net.widen()?;
        rig.verify_nothing_lost(CATCH_UP).await
    })
    .unwrap();
}

#[test]
fn the_record_gets_through_64_kbit_beside_more_live_values_than_fit() {
    the_record_gets_through(64_000, 250);
}

#[test]
fn the_record_gets_through_1_mbit_beside_more_live_values_than_fit() {
    the_record_gets_through(1_000_000, 10);
}
