//! Ports that somebody else has, and a nats-server that is missing or too old: the daemon records,
//! says what is wrong, and heals by itself.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::common::{Hub, nats_server};
use crate::site::{Site, alarm, clean};

#[tokio::test]
async fn a_leaf_port_in_use_costs_live_values_and_not_the_record() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let site = Site::alone().await;
    site.edit("listen = \"127.0.0.1:0\"", &format!("listen = \"127.0.0.1:{port}\""));
    let mut daemon = site.start().await;
    let text = site.alarm("leaf-down").await;
    assert!(text.contains(&format!("port {port} of 127.0.0.1 is in use")), "{text}");
    assert!(text.contains("stop what listens there, or choose another [leaf] listen"), "{text}");
    site.records().await;
    drop(taken);
    let up = |status: &serde_json::Value| status["link"]["leaf_up"] == true;
    let status = site.until("the leaf listens", up).await;
    assert_eq!(alarm(&status, "leaf-down"), None);
    assert!(daemon.is_running());
}

#[tokio::test]
async fn a_metrics_port_in_use_costs_metrics_and_not_the_record() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let site = Site::alone().await;
    site.edit("[control]", &format!("[metrics]\nlisten = \"127.0.0.1:{port}\"\n\n[control]"));
    let daemon = site.start().await;
    let text = site.alarm("no-metrics").await;
    assert!(text.contains(&format!("[metrics] listen: port {port} of 127.0.0.1 is in use")));
    assert!(text.contains("choose another port, or stop what has it"), "{text}");
    site.records().await;
    drop(taken);
    site.until("the alarm is over", |status| alarm(status, "no-metrics").is_none()).await;
    daemon.logs(&["metrics and /healthz", &port.to_string()]).await;
}

/// Somebody else's nats-server, killed with the test.
struct External(std::process::Child);

impl External {
    fn start(server: &Path, site: &Site) -> Self {
        let mut command = clean(server);
        command.arg("-c").arg(site.path("leaf/nats-server.conf"));
        let log = std::fs::File::create(site.path("leaf.log")).unwrap();
        Self(command.stdout(std::process::Stdio::null()).stderr(log).spawn().unwrap())
    }
}

impl Drop for External {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_leaf_that_is_a_service_of_its_own_may_come_and_go() {
    let hub = Hub::start().await;
    let site = Site::at(&hub).await;
    let server = nats_server().await.canonicalize().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    site.edit("[leaf]\n", "[leaf]\nmode = \"external\"\n");
    site.edit("listen = \"127.0.0.1:0\"", &format!("listen = \"{free}\""));
    let daemon = site.start().await;
    let text = site.alarm("leaf-down").await;
    assert!(text.contains(&free.to_string()) && text.contains("start its service"), "{text}");
    site.records().await;
    let leaf = External::start(&server, &site);
    site.delivers().await;
    let well = |status: &serde_json::Value| {
        status["link"]["leaf_up"] == true && alarm(status, "leaf-down").is_none()
    };
    site.until("the leaf is known", well).await;
    drop(leaf);
    site.alarm("leaf-down").await;
    site.records().await;
    let _leaf = External::start(&server, &site);
    site.delivers().await;
    site.until("the leaf is known", well).await;
    let said = site.prove(&hub);
    assert_eq!(said.code, 0, "{said:?}");
    daemon.stop().await;
}

fn program(path: &Path, text: &str) {
    // Renamed into place: a file that is open for writing cannot be run.
    let draft = path.with_extension("draft");
    std::fs::write(&draft, text).unwrap();
    std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(draft, path).unwrap();
}

async fn heals_once_there_is_a_server(site: &Site, path: &Path, parts: &[&str]) {
    let server = nats_server().await.canonicalize().unwrap();
    site.edit(&format!("nats-server = {server:?}"), &format!("nats-server = {path:?}"));
    let daemon = site.start().await;
    let text = site.alarm("leaf-down").await;
    let name = path.display().to_string();
    for part in [&[name.as_str(), "[leaf] nats-server", "correct the path"], parts].concat() {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    site.records().await;
    program(path, &format!("#!/bin/sh\nexec {server:?} \"$@\"\n"));
    site.until("the leaf listens", |status| status["link"]["leaf_up"] == true).await;
    let log = daemon.log();
    let lines = log.lines().filter(|line| line.contains("leaf is down")).count();
    assert_eq!(lines, 1, "one trouble, one line:\n{log}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_missing_nats_server_is_named_and_waited_for() {
    let site = Site::alone().await;
    let path = site.path("nats-server");
    heals_once_there_is_a_server(&site, &path, &["there is no such file"]).await;
}

#[tokio::test]
async fn a_nats_server_that_is_too_old_is_named_with_what_is_needed() {
    let site = Site::alone().await;
    let path = site.path("nats-server");
    program(&path, "#!/bin/sh\necho 'nats-server: v2.9.10'\n");
    heals_once_there_is_a_server(&site, &path, &["2.9.10 is older than 2.15.0"]).await;
}
