//! Two plants and a hub, each with its leaf: asked at one plant, answered by the other, and what is
//! said when that one is away, goes away in the middle, or is read slowly.

use std::net::SocketAddr;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tidegate_hil_tests::family::Family;
use tidegate_hil_tests::gateway::{Gateway, Settings, Wishes};
use tidegate_hil_tests::hub::Credentials;
use tidegate_hil_tests::planned::PlannedHub;
use tidegate_hil_tests::plc::Plc;
use tidegate_hil_tests::tools;
use tidegate_hil_tests::wait::until;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use crate::CATCH_UP;

/// Plant B may ask plant A. One of A's never comes; what plant C has, B is not shown.
const GATEWAYS: &str = r#"
[[gateway]]
id = "PlantA/gw-a"
prefixes = ["PlantA/Line3"]

[[gateway]]
id = "PlantA/gw-never"
prefixes = ["PlantA/Line9"]

[[gateway]]
id = "PlantB/gw-b"
prefixes = ["PlantB/Line1"]
shares = ["PlantA/*"]

[[gateway]]
id = "PlantC/gw-c"
prefixes = ["PlantC"]
"#;

/// An owner that is away is said to be so within this, through two links, on a machine that has other
/// work.
const SAID_AT_ONCE: Duration = Duration::from_secs(10);

fn devices_of_b(plc: SocketAddr) -> String {
    format!(
        "[[device]]\nname = \"oven\"\nprotocol = \"modbus-tcp\"\naddress = \"{plc}\"\nunit = 1\n\
         poll-every-ms = 200\nbase-path = \"PlantB/Line1/Oven\"\n\n\
         [[device.tag]]\npath = \"tenths\"\naddress = \"holding:106\"\ntype = \"uint16\"\nunit = \"s\"\n"
    )
}

struct Answer {
    status: ExitStatus,
    json: Value,
    said: String,
    took: Duration,
}

impl Answer {
    fn rows(&self) -> &[Value] {
        self.json["rows"].as_array().map(Vec::as_slice).unwrap_or_default()
    }

    /// What came of asking this gateway.
    fn outcome(&self, gateway: &str) -> &str {
        let owners = self.json["owners"].as_array().map(Vec::as_slice).unwrap_or_default();
        let own = owners.iter().find(|owner| owner["gateway"] == gateway);
        own.and_then(|own| own["outcome"].as_str()).unwrap_or("not asked")
    }
}

/// Where somebody asks.
enum At<'a> {
    Leaf(SocketAddr),
    Hub(&'a PlannedHub),
}

impl At<'_> {
    fn command(&self, family: &Family, verb: &str) -> Command {
        let mut command = family.command(tools::gateway().unwrap());
        command.arg(verb);
        match self {
            At::Leaf(leaf) => drop(command.args(["--server", &format!("nats://{leaf}")])),
            At::Hub(hub) => {
                let Credentials { ca, cert, key } = hub.person("reader");
                command.args(["--server", &hub.url(0)]);
                command.arg("--ca").arg(ca).arg("--cert").arg(cert).arg("--key").arg(key);
            }
        }
        command
    }

    async fn ask(&self, family: &Family, verb: &str, args: &[&str]) -> Answer {
        let begun = Instant::now();
        let mut command = self.command(family, verb);
        command.arg("--json").args(args);
        let output = tokio::process::Command::from(command).output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let json = serde_json::from_slice(&output.stdout).unwrap_or_default();
        Answer { status: output.status, json, said, took: begun.elapsed() }
    }
}

/// A reader of JSON lines that takes its time.
struct Slow {
    child: tokio::process::Child,
    lines: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
    read: u64,
}

impl Slow {
    fn begin(mut command: Command, args: &[&str]) -> Self {
        command.args(args).args(["--format", "jsonl"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines, read: 0 }
    }

    async fn line(&mut self) -> Option<Value> {
        let line = self.lines.next_line().await.unwrap()?;
        self.read += 1;
        Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
    }

    /// Everything that is left; how many lines there were in all, the exit code, and what was said.
    async fn rest(mut self) -> (u64, Option<i32>, String) {
        while self.line().await.is_some() {}
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).await.unwrap();
        (self.read, self.child.wait().await.unwrap().code(), said)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plant_asks_another_one_and_hears_what_is_missing() {
    let dir = TempDir::with_prefix("tidegate-mesh-").unwrap();
    let family = Family::new().unwrap();
    let more = ["--max-store", "1 GiB"];
    let mut hub = PlannedHub::written(&family, dir.path(), 1, &more, GATEWAYS).unwrap();
    hub.start().await.unwrap();
    let mut plc = Plc::off(&family, dir.path());
    let plc_at = plc.switch_on().await.unwrap();
    let gateway = |id: &str, place: &str, wishes: Wishes| {
        let settings = Settings {
            gateway: id.to_owned(),
            hubs: vec![hub.leaf(0)],
            credentials: hub.gateway(id).unwrap(),
            stream: "TIDE".to_owned(),
            domain: "hub".to_owned(),
            plc: plc_at,
            wishes,
        };
        Gateway::configured(&family, &dir.path().join(place), &settings).unwrap()
    };
    let noisy = Wishes { noise: 3, ..Wishes::default() };
    let mut a = gateway("PlantA/gw-a", "a", noisy);
    let fleet = Wishes::default().with("query", "local", "fleet");
    let mut b =
        gateway("PlantB/gw-b", "b", Wishes { devices: Some(devices_of_b(plc_at)), ..fleet });
    a.start().await.unwrap();
    b.start().await.unwrap();
    let at_b = At::Leaf(b.local_server().await.unwrap());
    let at_hub = At::Hub(&hub);

    // Asked at plant B, answered by plant A: counted values, each once and in order.
    let range = ["PlantA/Line3/Press1/counter", "--from", "-1h"];
    let answer = until(CATCH_UP, "plant B hears plant A", || async {
        let answer = at_b.ask(&family, "query", &range).await;
        Ok((answer.rows().len() >= 20).then_some(answer))
    })
    .await
    .unwrap();
    assert_eq!(answer.status.code(), Some(0), "{}", answer.said);
    let counted: Vec<_> = answer.rows().iter().filter_map(whole).collect();
    let follows = |pair: &[u64]| pair[1] == pair[0] + 1;
    assert!(counted.windows(2).all(follows), "{counted:?}");
    assert_eq!(answer.json["summary"]["sources"][0]["gateway"], "PlantA/gw-a");
    assert!(
        answer.json["summary"]["coverage"]["share"].as_f64().unwrap() < 1.0,
        "an hour ago it did not run"
    );

    // Both plants merged; who never came is named, and whom B is not shown is not asked.
    let answer =
        at_b.ask(&family, "query", &["--from", "-1h", "--every", "1s", "--agg", "last"]).await;
    assert_eq!(answer.status.code(), Some(1), "{}", answer.said);
    assert_eq!(answer.outcome("PlantA/gw-a"), "answered");
    assert_eq!(answer.outcome("PlantB/gw-b"), "answered");
    assert_eq!(answer.outcome("PlantA/gw-never"), "absent");
    assert_eq!(answer.outcome("PlantC/gw-c"), "not asked");
    assert!(answer.said.contains("PlantA/gw-never is away"), "{}", answer.said);
    assert!(answer.said.contains("PlantC/gw-c was not asked"), "{}", answer.said);
    let from: Vec<_> = answer.rows().iter().map(|row| time(&row["from"])).collect();
    assert!(from.is_sorted() && from.len() > 20, "{from:?}");
    let of = |gateway: &str| answer.rows().iter().filter(|row| row["gateway"] == gateway).count();
    assert!(of("PlantA/gw-a") > of("PlantB/gw-b") && of("PlantB/gw-b") > 0);

    // The state of the fleet at a moment, at the hub; there it is known at once that one is away.
    let answer = at_hub.ask(&family, "query", &["--at", "-1s"]).await;
    assert_eq!(answer.outcome("PlantA/gw-never"), "absent", "{}", answer.said);
    assert_eq!(answer.outcome("PlantB/gw-b"), "answered", "{}", answer.said);
    assert!(answer.rows().iter().any(|row| row["path"] == "PlantB/Line1/Oven/tenths"));
    assert!(answer.took < SAID_AT_ONCE, "{:?}", answer.took);

    // Fresh from the device, through two links.
    let answer = at_b.ask(&family, "read", &["PlantA/Line3/Press1/tenths"]).await;
    assert_eq!(answer.status.code(), Some(0), "{}", answer.said);
    let fresh = &answer.rows()[0];
    assert_eq!((&fresh["fresh"], &fresh["q"]), (&true.into(), &"good".into()), "{fresh}");

    // Whoever reads slowly gets everything, and holds up nobody.
    let everything = ["PlantA/Line3", "--from", "-1h"];
    let mut slow = Slow::begin(at_b.command(&family, "query"), &everything);
    for _ in 0..10 {
        slow.line().await.unwrap();
    }
    let mut lost = Slow::begin(at_b.command(&family, "query"), &everything);
    for _ in 0..10 {
        lost.line().await.unwrap();
    }
    let beside = at_b.ask(&family, "query", &["PlantA/Line3/Press1"]).await;
    assert_eq!((beside.status.code(), beside.rows().len()), (Some(0), 4), "{}", beside.said);
    let (rows, code, said) = slow.rest().await;
    assert_eq!(code, Some(0), "{said}");

    // Lost in the middle: what came is there, and the rest is said to be missing.
    a.kill9().unwrap();
    let (some, code, said) = lost.rest().await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("PlantA/gw-a was lost after"), "{said}");
    assert!(some >= 10 && some < rows, "{some} of {rows}");

    // Away: said at once, at the plant and at the hub.
    for at in [&at_b, &at_hub] {
        let answer = at.ask(&family, "query", &["PlantA/Line3/**", "--from", "-10m"]).await;
        assert_eq!(answer.status.code(), Some(1), "{}", answer.said);
        assert_eq!(answer.outcome("PlantA/gw-a"), "absent", "{}", answer.said);
        assert!(answer.took < SAID_AT_ONCE, "{:?}", answer.took);
    }
    b.stop().await.unwrap();
}

/// A counted value: a number, or a text where it has more digits than JSON's.
fn whole(row: &Value) -> Option<u64> {
    row["v"].as_u64().or_else(|| row["v"].as_str()?.parse().ok())
}

fn time(value: &Value) -> jiff::Timestamp {
    value.as_str().unwrap().parse().unwrap()
}
