//! SIGHUP: what changed is applied, what did not is left alone, and a mistake changes nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::Signal;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use crate::site::{Site, device};

/// A way to a PLC that counts how often it was taken.
struct Way {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Way {
    async fn to(plc: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((mut here, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let mut there = TcpStream::connect(plc).await.unwrap();
                    tokio::io::copy_bidirectional(&mut here, &mut there).await
                });
            }
        });
        Self { address, connections }
    }

    fn taken(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn live(status: &Value, name: &str) -> bool {
    let devices = status["devices"].as_array().unwrap();
    devices.iter().any(|device| device["name"] == name && device["state"] == "live")
}

/// A gateway with two devices, each reached by a way of its own.
async fn two() -> (Site, Way, Way) {
    let site = Site::alone().await;
    let (one, two) = (Way::to(site.plc.address).await, Way::to(site.plc.address).await);
    site.edit(&site.plc.address.to_string(), &one.address.to_string());
    site.append(&device("oven", two.address));
    // A late answer is a new connection, and connections are counted: on a busy machine as well.
    let patient = "timeout-ms = 1000\npoll-every-ms = 100";
    site.write(&site.text().replace("poll-every-ms = 100", patient));
    (site, one, two)
}

#[tokio::test]
async fn a_changed_device_is_restarted_and_the_others_keep_their_connection() {
    let (site, press, oven) = two().await;
    let daemon = site.start().await;
    site.until("both are live", |status| live(status, "press") && live(status, "oven")).await;
    let text = site.text();
    let (head, tail) = text.split_once("name = \"oven\"").unwrap();
    let tail = tail.replace("poll-every-ms = 100", "poll-every-ms = 150");
    site.write(&format!("{head}name = \"oven\"{tail}"));
    daemon.signal(Signal::HUP);
    daemon.logs(&["configuration reloaded: changed oven"]).await;
    crate::common::eventually("a new connection", async || (oven.taken() == 2).then_some(())).await;
    site.until("both are live", |status| live(status, "press") && live(status, "oven")).await;
    site.records().await;
    assert_eq!(press.taken(), 1, "the unchanged device was reconnected");
    daemon.stop().await;
}

#[tokio::test]
async fn devices_come_and_go() {
    let (site, press, _oven) = two().await;
    let both = site.text();
    let (alone, _) = both.split_once("[[device]]\nname = \"oven\"").unwrap();
    site.write(alone);
    let daemon = site.start().await;
    site.until("press is live", |status| live(status, "press")).await;
    site.write(&both);
    daemon.signal(Signal::HUP);
    daemon.logs(&["configuration reloaded: added oven"]).await;
    site.until("oven is live", |status| live(status, "oven")).await;
    site.write(alone);
    daemon.signal(Signal::HUP);
    daemon.logs(&["configuration reloaded: removed oven"]).await;
    site.until("oven is gone", |status| status["devices"].as_array().unwrap().len() == 1).await;
    site.records().await;
    assert_eq!(press.taken(), 1);
    daemon.stop().await;
}

#[tokio::test]
async fn a_configuration_with_mistakes_changes_nothing() {
    let (site, press, oven) = two().await;
    let daemon = site.start().await;
    site.until("both are live", |status| live(status, "press") && live(status, "oven")).await;
    site.edit("poll-every-ms = 100", "poll-every-ms = 0");
    site.edit("[uplink]", "[uplink]\nsend-evry-ms = 1");
    daemon.signal(Signal::HUP);
    daemon.logs(&["ERROR", "configuration not reloaded: 3 mistakes", "tidegate check"]).await;
    daemon.logs(&["ERROR", "tidegate.toml:", "uplink.send-evry-ms: unknown key", "legal:"]).await;
    daemon.logs(&["ERROR", "tidegate.toml:", "device[1].poll-every-ms", "legal:"]).await;
    assert!(!daemon.log().contains("\\n"), "a line is a line:\n{}", daemon.log());
    site.records().await;
    assert_eq!((press.taken(), oven.taken()), (1, 1));
    daemon.stop().await;
}

#[tokio::test]
async fn what_needs_a_restart_is_named_until_there_is_one() {
    let site = Site::alone().await;
    let daemon = site.start().await;
    site.edit("max-bytes = \"32 MiB\"", "max-bytes = \"64 MiB\"");
    site.edit("socket = \"c.sock\"", "socket = \"d.sock\"");
    for _ in 0..2 {
        daemon.signal(Signal::HUP);
    }
    let line = daemon.logs(&["configuration reloaded: needs a restart: "]).await;
    assert!(line.contains("journal.max-bytes") && line.contains("control.socket"), "{line}");
    assert!(site.path("c.sock").exists() && !site.path("d.sock").exists());
    daemon.stop().await;
}
