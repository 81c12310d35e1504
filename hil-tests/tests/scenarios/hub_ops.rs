//! `tidegate hub admit`, `revoke`, `list`, `audit` and `rotate` on a running cluster.

use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tidegate_hil_tests::family::Family;
use tidegate_hil_tests::gateway::{Gateway, Settings, Wishes};
use tidegate_hil_tests::hub::Credentials;
use tidegate_hil_tests::planned::PlannedHub;
use tidegate_hil_tests::plc::Plc;
use tidegate_hil_tests::server::Server;
use tidegate_hil_tests::wait::{SOON, until};
use tidegate_hil_tests::{stream, tools, wan};

use crate::CATCH_UP;

const GATEWAYS: &str = r#"
[[gateway]]
id = "PlantA/gw-a"
prefixes = ["PlantA/Area"]
bytes = "20 MiB"

[[gateway]]
id = "PlantA/gw-b"
prefixes = ["PlantA"]
bytes = "20 MiB"

[[gateway]]
id = "PlantA/gw-line3"
prefixes = ["PlantA/Line3"]
bytes = "20 MiB"

[[gateway]]
id = "PlantA/gw-never"
"#;

/// The longest that a revoked gateway may be there.
const GONE: Duration = Duration::from_secs(5);

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What was printed; the command has to end with this code.
fn ends(output: &Output, code: i32) -> (String, String) {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}{err}");
    (out, err)
}

/// A gateway's leaf without a daemon: two links, as a real one has, one at each of two servers.
async fn links(hub: &PlannedHub, name: &str, at: [usize; 2], shows: &Credentials) -> Server {
    let Credentials { ca, cert, key } = shows;
    let remote = |account: &str, at: usize| {
        let url = format!("tls://{}", hub.leaf(at));
        format!(
            "{{ urls: [{url:?}], account: {account:?}, tls {{ ca_file: {ca:?}, cert_file: {cert:?}, key_file: {key:?} }} }}"
        )
    };
    let conf = format!(
        "server_name: {name:?}\nlisten: \"127.0.0.1:-1\"\n\
         accounts {{ LIVE {{ users: [{{user: l, password: l}}] }}, RECORD {{ users: [{{user: r, password: r}}] }} }}\n\
         leafnodes {{ reconnect: \"200ms\", remotes: [ {}, {} ] }}\n",
        remote("LIVE", at[0]),
        remote("RECORD", at[1])
    );
    hub.plain(&name.replace('/', "-"), &conf).await.unwrap()
}

/// Asks the servers themselves, without the product: who is connected by which certificate.
async fn connected(operator: &async_nats::Client, servers: usize) -> anyhow::Result<Vec<String>> {
    use futures_util::StreamExt as _;
    let inbox = operator.new_inbox();
    let mut answers = operator.subscribe(inbox.clone()).await?;
    let wish = r#"{"auth":true}"#;
    operator.publish_with_reply("$SYS.REQ.SERVER.PING.CONNZ", inbox, wish.into()).await?;
    let mut users = Vec::new();
    for _ in 0..servers {
        let answer = tokio::time::timeout(SOON, answers.next()).await?;
        let answer: Value = serde_json::from_slice(&answer.unwrap().payload)?;
        let all = answer["data"]["connections"].as_array().unwrap().clone();
        users.extend(
            all.iter()
                .filter(|one| one["kind"] == "Leafnode")
                .map(|one| format!("{} {}", one["authorized_user"].as_str().unwrap(), one["cid"])),
        );
    }
    users.sort();
    Ok(users)
}

fn count(users: &[String], gateway: &str) -> usize {
    let user = format!("CN={gateway},O=Tidegate ");
    users.iter().filter(|one| one.starts_with(&user)).count()
}

fn row<'a>(list: &'a Value, gateway: &str) -> &'a Value {
    let rows = list["gateways"].as_array().unwrap();
    let found = rows.iter().find(|row| {
        row["gateway"]["plant"].as_str().zip(row["gateway"]["name"].as_str())
            == gateway.split_once('/')
    });
    found.unwrap_or(&Value::Null)
}

fn kinds(output: &Output) -> Vec<String> {
    let lines = text(&output.stdout);
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter_map(|line| Some(line["finding"]["kind"].as_str()?.to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_is_let_in_and_shut_out_on_every_server_and_what_is_not_done_is_said() {
    let dir = TempDir::with_prefix("tidegate-hub-ops-").unwrap();
    let family = Family::new().unwrap();
    let more = ["--max-store", "1 GiB", "--last-values", "16 MiB"];
    let mut hub = PlannedHub::written(&family, dir.path(), 3, &more, GATEWAYS).unwrap();
    hub.start().await.unwrap();
    let operator = hub.client(1, "operator").await.unwrap();
    let (own_a, own_b) = (hub.gateway("PlantA/gw-a").unwrap(), hub.gateway("PlantA/gw-b").unwrap());
    let mut plc = Plc::off(&family, dir.path());
    let settings = Settings {
        gateway: "PlantA/gw-line3".to_owned(),
        hubs: vec![hub.leaf(0), hub.leaf(1)],
        credentials: hub.gateway("PlantA/gw-line3").unwrap(),
        stream: "TIDE".to_owned(),
        domain: "hub".to_owned(),
        plc: plc.switch_on().await.unwrap(),
        wishes: Wishes::default(),
    };
    let mut gateway = Gateway::configured(&family, &dir.path().join("gw"), &settings).unwrap();
    gateway.start().await.unwrap();
    // One is not what it calls itself; one is not admitted yet.
    let _a = links(&hub, "PlantA/gw-b-too", [0, 1], &own_a).await;
    let b = links(&hub, "PlantA/gw-b", [1, 2], &own_b).await;
    let own_new = hub.gateway("PlantA/gw-new").unwrap();
    let _new = links(&hub, "PlantA/gw-new", [0, 2], &own_new).await;
    until(CATCH_UP, "all are there", || async {
        let users = connected(&operator, 3).await?;
        let all = ["gw-a", "gw-b", "gw-line3"].map(|name| format!("PlantA/{name}"));
        Ok(all.iter().all(|gateway| count(&users, gateway) == 2).then_some(()))
    })
    .await
    .unwrap();
    let before = connected(&operator, 3).await.unwrap();
    assert_eq!(count(&before, "PlantA/gw-new"), 0);

    // Admitted on every server, which is seen by its being let in.
    let admit = ["PlantA/gw-new", "--prefix", "PlantA/New", "--bytes", "10 MiB"];
    let (out, _) = ends(&hub.operate("admit", &admit).unwrap(), 0);
    assert_eq!(out.matches("runs the new configuration").count(), 3, "{out}");
    until(CATCH_UP, "the admitted one is let in", || async {
        Ok((count(&connected(&operator, 3).await?, "PlantA/gw-new") == 2).then_some(()))
    })
    .await
    .unwrap();
    let (out, _) = ends(&hub.operate("admit", &admit).unwrap(), 0);
    assert!(out.contains("was admitted already"), "{out}");
    let admin = hub.client(0, "admin").await.unwrap();
    let stream = async_nats::jetstream::new(admin).get_stream("TIDE").await.unwrap();
    assert_eq!(stream.cached_info().config.max_bytes, -1, "one gateway has no budget");

    // How far a record reaches at the hub, and what a gateway last said of itself.
    let speaks = async_nats::ConnectOptions::with_user_and_password("l".into(), "l".into());
    let speaks = speaks.connect(b.clients().to_string()).await.unwrap();
    let last = std::cell::RefCell::new(String::new());
    let list = until(CATCH_UP, "the list knows watermark and backlog", || async {
        for (tag, value) in [("backlog.frames", "3"), ("certificate.days-left", "12.5")] {
            let subject = format!("uns.PlantA._gateways.gw-b.{tag}");
            let payload = format!("{{\"v\":{value},\"ts\":1,\"q\":\"good\",\"src\":\"x\"}}");
            speaks.publish(subject, payload.into()).await?;
        }
        let (out, _) = ends(&hub.operate("list", &["--json"])?, 0);
        let list: Value = serde_json::from_str(&out)?;
        *last.borrow_mut() = out;
        let (real, said) = (row(&list, "PlantA/gw-line3"), row(&list, "PlantA/gw-b"));
        let fresh = real["watermark-age-s"].as_f64().is_some_and(|age| age < 10.0);
        let known = said["backlog-frames"] == 3 && said["days-left"] == 12.5;
        Ok((fresh && known && real["journals"] == 1).then_some(list))
    })
    .await
    .unwrap_or_else(|error| panic!("{error}: {}", last.borrow()));
    assert_eq!(row(&list, "PlantA/gw-line3")["presence"], "connected");
    assert_eq!(row(&list, "PlantA/gw-a")["presence"], "connected", "{list}");
    assert_eq!(row(&list, "PlantA/gw-a")["servers"], serde_json::json!(["hub-1", "hub-2"]));
    assert_eq!(row(&list, "PlantA/gw-never")["presence"], "never-seen");
    assert_eq!(list["strangers"], serde_json::json!([]));

    // Revoked: gone from every server, by its certificate, whatever it calls itself.
    let begun = Instant::now();
    let (out, _) = ends(&hub.operate("revoke", &["PlantA/gw-a"]).unwrap(), 0);
    assert!(begun.elapsed() < GONE, "{:?}: {out}", begun.elapsed());
    assert_eq!(out.matches("cut its connection").count(), 2, "{out}");
    let after = connected(&operator, 3).await.unwrap();
    assert_eq!(count(&after, "PlantA/gw-a"), 0, "{after:?}");
    let others = |users: &[String]| -> Vec<String> {
        let other = |one: &&String| one.contains("gw-b,") || one.contains("gw-line3,");
        users.iter().filter(other).cloned().collect()
    };
    assert_eq!(others(&after), others(&before), "the others were not touched");
    // It dials five times a second and is refused.
    let past = ["--since", "1h", "--json"];
    until(CATCH_UP, "it is refused", || {
        let audit = hub.operate("audit", &past);
        async move {
            let said = text(&audit?.stdout);
            Ok((said.contains("Kicked") && said.contains("Authentication Failure")).then_some(()))
        }
    })
    .await
    .unwrap();
    assert_eq!(count(&connected(&operator, 3).await.unwrap(), "PlantA/gw-a"), 0);

    // A server that is away is named, and nothing is called done.
    hub.kill9_node(2).unwrap();
    let (_, err) = ends(&hub.operate("revoke", &["PlantA/gw-b"]).unwrap(), 1);
    assert!(err.contains("hub-3 did not say whom it holds"), "{err}");
    assert!(err.contains("NOT known to be gone"), "{err}");
    hub.start_node(2).await.unwrap();
    until(CATCH_UP, "the revocation is complete", || {
        let done = hub.operate("revoke", &["PlantA/gw-b"]);
        async move { Ok(done?.status.success().then_some(())) }
    })
    .await
    .unwrap();

    // What is not as hub.toml says is found.
    let found = kinds(&hub.operate("audit", &["--json"]).unwrap());
    assert!(found.contains(&"never-seen".to_owned()), "{found:?}");
    assert!(!found.iter().any(|kind| kind.ends_with("differs")), "{found:?}");
    let conf = hub.node(0).join("nats-server.conf");
    let right = std::fs::read_to_string(&conf).unwrap();
    std::fs::write(&conf, right.replace("ping_max: 2", "ping_max: 3")).unwrap();
    hub.reload(0).await.unwrap();
    std::fs::write(&conf, &right).unwrap();
    let mut config = stream.cached_info().config.clone();
    config.max_age = Duration::from_secs(3600);
    let context = async_nats::jetstream::new(hub.client(1, "admin").await.unwrap());
    stream::update(&context, &config).await.unwrap();
    let found = kinds(&hub.operate("audit", &["--json"]).unwrap());
    for kind in ["configuration-differs", "stream-differs", "never-seen"] {
        assert!(found.contains(&kind.to_owned()), "{kind} in {found:?}");
    }

    // The hub's own certificate: every port shows the new one, and no link is lost.
    let before = connected(&operator, 3).await.unwrap();
    let papers = hub.server_papers("new").unwrap();
    let (cert, key) = (papers.cert.to_str().unwrap(), papers.key.to_str().unwrap());
    let (out, _) = ends(
        &hub.operate(
            "rotate",
            &["hub-1", "--new-cert", cert, "--new-key", key, "--alarm-days", "0"],
        )
        .unwrap(),
        0,
    );
    let serials: Vec<_> =
        out.lines().skip(1).filter_map(|line| line.split_whitespace().nth(3)).collect();
    assert!(serials.len() == 4 && serials.iter().all(|one| *one == serials[0]), "{out}");
    assert_eq!(connected(&operator, 3).await.unwrap(), before);
    // These certificates last a day.
    let (out, _) = ends(&hub.operate("rotate", &["--check"]).unwrap(), 1);
    assert_eq!(out.matches("ends 2").count(), 12, "{out}");
    assert_eq!(out.matches(serials[0]).count(), 4, "{out}");
    // A key of another certificate is not even written.
    let stale = own_a.key.to_str().unwrap();
    let (_, err) = ends(
        &hub.operate("rotate", &["hub-1", "--new-cert", cert, "--new-key", stale]).unwrap(),
        2,
    );
    assert!(err.contains("the new pair"), "{err}");
    ends(&hub.operate("rotate", &["--check", "--alarm-days", "0"]).unwrap(), 0);
}

/// With an authority of its own, a hub gives out tokens, renews its certificates and takes those of
/// a dead device back.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_with_its_own_authority_gives_tokens_renews_itself_and_replaces_a_device() {
    let dir = TempDir::with_prefix("tidegate-hub-own-").unwrap();
    let family = Family::new().unwrap();
    let folder = dir.path().join("hub");
    let ports = [(); 2].map(|()| wan::reserve(([127, 0, 0, 1], 0).into()).unwrap());
    let [client, leaf] = &ports;
    let port = |socket: &tokio::net::TcpSocket| socket.local_addr().unwrap().port().to_string();
    let hub = |verb: &str, args: &[&str]| {
        let mut command = family.command(tools::gateway().unwrap());
        command.args(["hub", verb]).args(args).arg("--dir").arg(&folder).output().unwrap()
    };
    let (client, leaf) = (port(client), port(leaf));
    let here = ["--host", "127.0.0.1", "--listen", "127.0.0.1", "--store-dir", "store"];
    let more = ["--client-port", &client, "--leaf-port", &leaf, "--max-store", "1 GiB"];
    ends(&hub("init", &[here, more].concat()), 0);
    let conf = folder.join("hub-1/nats-server.conf");
    let _server = Server::start(&family, &conf, &dir.path().join("log")).await.unwrap();
    ends(&hub("apply", &["--streams"]), 0);

    let admitted = hub("admit", &["PlantA/gw1", "--prefix", "PlantA", "--token"]);
    let (out, _) = ends(&admitted, 0);
    let token = |out: &str| {
        let line = out.lines().find(|line| line.starts_with("token, good once")).unwrap();
        line.rsplit(' ').next().unwrap().to_owned()
    };
    let first = token(&out);
    let kept = std::fs::read_to_string(folder.join("ca/tokens.json")).unwrap();
    assert!(first.len() >= 20 && !kept.contains(&first), "only its hash is kept");

    // A device that is replaced: what was given out for it is good no longer.
    let (out, err) = ends(&hub("replace", &["PlantA/gw1"]), 0);
    assert_ne!(token(&out), first);
    assert!(out.contains("no certificate of the old device is left to revoke"), "{out}");
    assert!(err.contains("do not ask for revocations"), "{err}");
    let now = std::fs::read_to_string(folder.join("ca/tokens.json")).unwrap();
    assert_eq!(now.matches("PlantA/gw1").count(), 1, "the former token is gone: {now}");
    let (_, err) = ends(&hub("replace", &["PlantA/nobody"]), 2);
    assert!(err.contains("is not admitted"), "{err}");

    // The server's own certificate, by the hub's authority.
    let serials = |out: &str| -> Vec<String> {
        let serial = |line: &str| line.split_whitespace().nth(3).map(str::to_owned);
        out.lines().skip(1).filter_map(serial).collect()
    };
    let before = serials(&ends(&hub("rotate", &["--check"]), 0).0);
    let after = serials(&ends(&hub("rotate", &["--days", "20"]), 1).0);
    assert_eq!((before.len(), after.len()), (2, 2));
    assert!(after[0] == after[1] && after[0] != before[0], "{before:?} {after:?}");
    // Twenty days are an alarm.
    let found = kinds(&hub("audit", &["--json"]));
    assert_eq!(found, ["server-certificate", "server-certificate", "never-seen"]);
    ends(&hub("rotate", &[]), 0);
    assert_eq!(kinds(&hub("audit", &["--json"])), ["never-seen"]);
    let (out, _) = ends(&hub("revoke", &["PlantA/gw1"]), 0);
    assert!(out.contains("no certificate of it to revoke"), "{out}");
    let (out, _) = ends(&hub("audit", &[]), 0);
    assert!(out.contains("everything is as hub.toml says"), "{out}");
}
