//! How it ends: drained, forced, or killed.

use rustix::process::{Signal, kill_process};
use serde_json::Value;
use std::sync::Arc;

use tidegate_journal::{DirStorage, Storage, inspect};

use crate::common::{Hub, eventually};
use crate::site::{Site, recorded};

/// Samples that are durable in the journal.
fn durable(site: &Site) -> u64 {
    let storage: Arc<dyn Storage> = Arc::new(DirStorage::new(site.path("journal")).unwrap());
    inspect(&storage).unwrap().0.durable().unwrap().1.next_seq
}

#[tokio::test]
async fn what_was_read_before_sigterm_is_durable() {
    let site = Site::alone().await;
    // So late that only the end can make it durable.
    site.edit("commit-every-ms = 50", "commit-every-ms = 60000");
    let daemon = site.start().await;
    let acquired = |status: &Value| status["counters"]["samples_acquired"].as_u64().unwrap();
    let status = site.until("samples are read", |status| acquired(status) > 20).await;
    assert_eq!(recorded(&status), 0);
    daemon.stop().await;
    assert!(durable(&site) >= acquired(&status), "{} of {status:#}", durable(&site));
}

#[tokio::test]
async fn the_end_and_the_next_start_leave_a_balanced_proof() {
    let hub = Hub::start().await;
    let site = Site::at(&hub).await;
    let daemon = site.start().await;
    site.delivers().await;
    daemon.stop().await;
    let before = durable(&site);
    let daemon = site.start().await;
    site.delivers().await;
    daemon.stop().await;
    let said = site.prove(&hub);
    assert_eq!(said.code, 0, "{said:?}");
    let report = said.json();
    let epoch = &report["epochs"][0];
    assert!(epoch["watermark"]["next-seq"].as_u64().unwrap() >= before, "{report:#}");
}

#[tokio::test]
async fn a_second_sigterm_forces_the_end() {
    let site = Site::alone().await;
    let mut daemon = site.start().await;
    site.records().await;
    // A leaf that does not hear holds the drain up until its grace of 5 s is over.
    let line = daemon.logs(&["leaf listens", "pid="]).await;
    let leaf = line.split("pid=").nth(1).unwrap().trim().parse().unwrap();
    let leaf = rustix::process::Pid::from_raw(leaf).unwrap();
    kill_process(leaf, Signal::STOP).unwrap();
    daemon.signal(Signal::TERM);
    eventually("the drain is under way", async || site.status().is_none().then_some(())).await;
    assert!(daemon.is_running());
    let begun = std::time::Instant::now();
    daemon.signal(Signal::TERM);
    let status = daemon.ended().await;
    assert!(begun.elapsed().as_secs() < 3, "{:?}", begun.elapsed());
    assert!(!status.success(), "what was cut off is told");
    // Whoever inherits it may leave it as a zombie, which has no arguments.
    let file = format!("/proc/{}/cmdline", leaf.as_raw_nonzero());
    let gone = || std::fs::read(&file).unwrap_or_default().is_empty();
    eventually("the leaf ends with it", async || gone().then_some(())).await;
    // What was read before is in the journal all the same.
    assert!(durable(&site) > 0);
}

#[tokio::test]
async fn a_kill_and_the_time_without_the_daemon_are_named_as_a_loss() {
    let hub = Hub::start().await;
    let site = Site::at(&hub).await;
    let daemon = site.start().await;
    site.delivers().await;
    daemon.kill().await;
    assert!(site.path("c.sock").exists(), "nobody cleared up");
    let daemon = site.start().await;
    site.delivers().await;
    let report = eventually("the loss is at the hub", async || {
        let report = site.prove(&hub).json();
        report.to_string().contains("not-running").then_some(report)
    })
    .await;
    let said = site.prove(&hub);
    assert_eq!(said.code, 0, "named, so balanced: {report:#}");
    let losses = &report["epochs"][0]["unsequenced"];
    let named = losses["list"].as_array().unwrap().iter().find(|l| l["cause"] == "not-running");
    assert_eq!(named.unwrap()["open"], false, "it is over: {report:#}");
    daemon.stop().await;
    let gone = eventually("the leaf ends with it", async || {
        let leaf = site.path("leaf").display().to_string();
        crate::secrets::processes().iter().all(|(_, line)| !line.contains(&leaf)).then_some(())
    });
    gone.await;
}
