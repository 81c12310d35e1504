//! A hostile application beside the gateway floods its local NATS server, while the hub is away.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidegate_hil_tests::{Rig, outage, vitals};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::CATCH_UP;

/// What a daemon with one device may hold under any flood.
const MOST_OF_DAEMON: u64 = 96 << 20;

/// The leaf: its collector's goal of 64 MiB, what nobody reads for it (8 MiB for each of the
/// connections below), and its program.
const MOST_OF_LEAF: u64 = 320 << 20;

/// As many as publish, and as many as subscribe to everything and never read.
const PEERS: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_on_the_local_server_and_a_backlog_at_once_stay_within_bounds_and_lose_nothing() {
    let mut rig = Rig::running().await.unwrap();
    let delivered = rig.polls(10).await.unwrap();
    rig.hub_holds(delivered, CATCH_UP).await.unwrap();
    let local = rig.gateway.local_server().await.unwrap();
    let (daemon, leaf) = (rig.gateway.pid().unwrap(), rig.gateway.leaves().unwrap()[0]);
    rig.wan.cut_black_hole().await.unwrap();

    let sent = Arc::new(AtomicU64::new(0));
    let mut flood = JoinSet::new();
    for _ in 0..PEERS {
        let sent = Arc::clone(&sent);
        flood.spawn(async move {
            let payload = "x".repeat(32 * 1024);
            let mut chunk = String::new();
            for subject in ["uns.PlantA.Line3.Press1.counter", "uns.PlantB", "tide.x.frames", "a"] {
                chunk.push_str(&format!("PUB {subject} {}\r\n{payload}\r\n", payload.len()));
            }
            loop {
                let Ok(mut stream) = TcpStream::connect(local).await else { continue };
                let _ = stream.write_all(b"CONNECT {\"verbose\":false}\r\n").await;
                while stream.write_all(chunk.as_bytes()).await.is_ok() {
                    sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                }
            }
        });
        flood.spawn(async move {
            let Ok(mut stream) = TcpStream::connect(local).await else { return };
            let _ = stream.write_all(b"CONNECT {\"verbose\":false}\r\nSUB > 1\r\nPING\r\n").await;
            std::future::pending::<()>().await;
        });
    }
    tokio::time::sleep(outage(Duration::from_secs(6))).await;
    rig.polls(5).await.unwrap();
    flood.shutdown().await;
    assert!(sent.load(Ordering::Relaxed) > 1 << 20, "the flood was a trickle: {sent:?}");
    let of_daemon = vitals::memory(daemon).unwrap().1;
    assert!(of_daemon < MOST_OF_DAEMON, "the daemon took {of_daemon} bytes");
    if let Ok((_, of_leaf)) = vitals::memory(leaf) {
        assert!(of_leaf < MOST_OF_LEAF, "the leaf took {of_leaf} bytes");
    }
    rig.wan.restore().await.unwrap();
    rig.verify_nothing_lost(CATCH_UP).await.unwrap();
}
