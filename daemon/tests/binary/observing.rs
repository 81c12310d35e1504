//! What can be seen from outside: status, tags, metrics and health, and who may look.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::time::Duration;

use crate::common::eventually;
use crate::site::{Daemon, Said, Site, clean, tidegate};

async fn with_metrics() -> (Site, Daemon, SocketAddr) {
    let site = Site::alone().await;
    site.edit("[control]", "[metrics]\nlisten = \"127.0.0.1:0\"\n\n[control]");
    let daemon = site.start().await;
    let line = daemon.logs(&["metrics and /healthz"]).await;
    let address = line.split("address=").nth(1).unwrap().parse().unwrap();
    (site, daemon, address)
}

/// Status, head and body of an answer.
fn get(address: SocketAddr, path: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    (code, head.to_lowercase(), body.to_owned())
}

/// What is wrong with a text as OpenMetrics, as far as this exposition uses it: families declared
/// once and before their samples, samples of their own family and type, no series twice, labels
/// quoted, values numbers, the end marked.
fn wrong_with(text: &str) -> Option<String> {
    let body = text.strip_suffix("# EOF\n").or_else(|| text.strip_suffix("# EOF"));
    let Some(body) = body else { return Some("no # EOF at the end".into()) };
    let (mut families, mut series) = (Vec::<(String, String)>::new(), Vec::new());
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            let (Some(what), Some(family), Some(text)) = (words.next(), words.next(), words.next())
            else {
                return Some(format!("a comment of another shape: {line}"));
            };
            match what {
                "TYPE" if families.iter().any(|(known, _)| known == family) => {
                    return Some(format!("declared twice: {line}"));
                }
                "TYPE" => families.push((family.into(), text.into())),
                "HELP" => {}
                "UNIT" if family.ends_with(&format!("_{text}")) => {}
                _ => return Some(format!("no metadata: {line}")),
            }
            continue;
        }
        let (name, value) = match line.rsplit_once(' ') {
            Some(both) => both,
            None => return Some(format!("no sample: {line}")),
        };
        if value.parse::<f64>().is_err() {
            return Some(format!("no number: {line}"));
        }
        let (bare, labels) = name.split_once('{').unwrap_or((name, "}"));
        let Some(labels) = labels.strip_suffix('}') else {
            return Some(format!("labels without end: {line}"));
        };
        let quoted = labels.contains("=\"") && labels.ends_with('"');
        if !labels.is_empty() && !quoted {
            return Some(format!("labels not quoted: {line}"));
        }
        let belongs = families.last().is_some_and(|(family, kind)| match kind.as_str() {
            "counter" => bare == format!("{family}_total") || bare == format!("{family}_created"),
            "info" => bare == format!("{family}_info"),
            "gauge" | "stateset" | "unknown" => bare == family,
            _ => bare.starts_with(family),
        });
        if !belongs {
            return Some(format!("not of the family before it: {line}"));
        }
        if series.contains(&name) {
            return Some(format!("twice: {line}"));
        }
        series.push(name);
    }
    series.is_empty().then(|| "nothing in it".into())
}

#[test]
fn the_check_of_openmetrics_finds_mistakes() {
    let good = "# HELP a_b x y\n# TYPE a_b counter\na_b_total{d=\"x\"} 1\n# EOF\n";
    assert_eq!(wrong_with(good), None);
    for (from, to) in
        [("# EOF\n", ""), (" 1\n", " one\n"), ("_total", ""), ("\"x\"", "x"), ("TYPE", "TIPE")]
    {
        assert!(wrong_with(&good.replacen(from, to, 1)).is_some(), "{from} to {to}");
    }
}

#[tokio::test]
async fn metrics_are_openmetrics() {
    let (site, _daemon, address) = with_metrics().await;
    site.records().await;
    let (code, head, body) = get(address, "/metrics");
    assert_eq!(code, 200);
    assert!(head.contains("content-type: application/openmetrics-text"), "{head}");
    assert_eq!(wrong_with(&body), None, "{body}");
    assert!(body.contains("device=\"press\""), "{body}");
    assert!(!body.contains("_gateway\""), "the gateway is no device:\n{body}");
    assert_eq!(get(address, "/nothing").0, 404);
}

#[tokio::test]
async fn health_is_503_once_a_device_has_been_silent_for_too_long() {
    let (mut site, _daemon, address) = with_metrics().await;
    site.until("the device is live", |s| s["devices"][0]["state"] == "live").await;
    let (code, head, body) = get(address, "/healthz");
    assert_eq!((code, head.contains("application/json")), (200, true), "{body}");
    let health: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(health["state"], "up");
    assert!(health["parts"][0]["data_age_ms"].is_u64(), "{health:#}");
    site.plc.stop();
    let body = eventually("health is down", async || {
        let (code, _, body) = get(address, "/healthz");
        (code == 503).then_some(body)
    })
    .await;
    assert!(body.contains("device press"), "{body}");
}

#[tokio::test]
async fn status_is_for_people_and_for_programs() {
    let site = Site::alone().await;
    let _daemon = site.start().await;
    site.until("the leaf listens", |s| s["link"]["leaf_up"] == true).await;
    site.records().await;
    let said = Said::of(&mut site.command("status"));
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    for part in [
        "P/g1  tidegate ",
        "health   up",
        "tags     1: 1 good",
        "link     local server up",
        "uplink   not-configured",
        "press   live",
    ] {
        assert!(said.out.contains(part), "no {part:?} in\n{}", said.out);
    }
    assert!(!said.out.contains("_gateway"), "{}", said.out);
    let status = site.status().unwrap();
    for key in [
        "gateway",
        "version",
        "now_ms",
        "health",
        "tags",
        "devices",
        "link",
        "uplink",
        "journal",
        "certificates",
        "alarms",
        "counters",
    ] {
        assert!(!status[key].is_null(), "no {key} in {status:#}");
    }
}

#[tokio::test]
async fn tags_are_shown_filtered_and_watched() {
    let site = Site::alone().await;
    let _daemon = site.start().await;
    site.records().await;
    let said = Said::of(site.command("tags").arg("P/press"));
    assert_eq!((said.code, said.out.lines().count()), (0, 2), "{said:?}");
    assert!(said.out.starts_with("TAG        VALUE  UNIT  QUALITY"), "{}", said.out);
    let said = Said::of(site.command("tags").args(["P/press/*", "--json"]));
    let tag = said.json();
    assert_eq!((&tag["path"], &tag["q"]), (&"P/press/n".into(), &"good".into()));
    assert!(tag["v"].is_u64() && tag["ts"].is_i64() && tag["age_ms"].is_u64(), "{tag:#}");
    let all = Said::of(site.command("tags").arg("--json")).out;
    assert!(!all.contains("not-connected"), "nothing is bad here:\n{all}");
    Said::of(site.command("tags").arg("P/none")).refused(1, &["error: no tag matches \"P/none\""]);

    let mut command = site.command("tags");
    command.args(["P/press", "--watch"]).stdout(Stdio::piped());
    let mut watch = command.spawn().unwrap();
    let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let lines: Vec<_> = lines.take(2).map(Result::unwrap).collect();
    watch.kill().unwrap();
    watch.wait().unwrap();
    assert!(lines.iter().all(|line| line.starts_with("P/press/n ") && line.ends_with(" good")));
    assert_ne!(lines[0], lines[1]);
}

#[tokio::test]
async fn the_socket_is_for_owner_and_group() {
    let site = Site::alone().await;
    let daemon = site.start().await;
    let mode = std::fs::metadata(site.path("c.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    if rustix::process::getuid().is_root() {
        let open = |path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        open(site.dir.path().to_owned(), 0o755);
        let binary = site.path("tidegate");
        let built = env!("CARGO_BIN_EXE_tidegate");
        std::fs::hard_link(built, &binary)
            .or_else(|_| std::fs::copy(built, &binary).map(drop))
            .unwrap();
        for verb in ["status", "tags"] {
            let mut command = clean("setpriv");
            command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]);
            command.arg(&binary).args([verb, "--socket"]).arg(site.path("c.sock"));
            let said = Said::of(&mut command);
            said.refused(77, &["error: no permission to ask on", "usermod -aG tidegate"]);
        }
    }
    daemon.stop().await;
    assert!(!site.path("c.sock").exists());
    for verb in ["status", "tags"] {
        let said = Said::of(&mut site.command(verb));
        said.refused(69, &["error: no tidegate answers on", "c.sock", "systemctl start tidegate"]);
    }
    let said = Said::of(tidegate().args(["status", "--socket", "/nonexistent/c.sock"]));
    said.refused(69, &["/nonexistent/c.sock"]);
}
