//! Hubs of more than one tier: a site between gateway and region, and a hub above regions that
//! mirrors their streams and takes the place of one.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tempfile::TempDir;
use tidegate_hil_tests::Wishes;
use tidegate_hil_tests::family::Family;
use tidegate_hil_tests::gateway::{BASE_PATH, Gateway, Settings};
use tidegate_hil_tests::hub::Credentials;
use tidegate_hil_tests::planned::PlannedHub;
use tidegate_hil_tests::plc::Plc;
use tidegate_hil_tests::server::Server;
use tidegate_hil_tests::unruly::Unruly;
use tidegate_hil_tests::wait::{SOON, until};
use tidegate_hil_tests::wan::{self, Wan};

use crate::CATCH_UP;

const GATEWAY: &str = "PlantA/gw-line3";

fn place() -> TempDir {
    tempfile::Builder::new().prefix("tidegate-tiers-").tempdir().unwrap()
}

/// A gateway with a PLC that counts, in front of a link.
async fn gateway(
    family: &Arc<Family>,
    place: &Path,
    id: &str,
    link: &Wan,
    (credentials, stream): (Credentials, &str),
) -> (Gateway, Plc) {
    let place = place.join(id.replace('/', "-"));
    std::fs::create_dir_all(&place).unwrap();
    let mut plc = Plc::off(family, &place);
    let settings = Settings {
        gateway: id.to_owned(),
        hubs: vec![link.address()],
        credentials,
        stream: stream.to_owned(),
        domain: "hub".to_owned(),
        plc: plc.switch_on().await.unwrap(),
        wishes: Wishes::default(),
    };
    let mut gateway = Gateway::configured(family, &place.join("gateway"), &settings).unwrap();
    gateway.start().await.unwrap();
    (gateway, plc)
}

/// The largest value that a PLC has served.
fn served(plc: &Plc) -> u64 {
    plc.history().unwrap().last().map_or(0, |served| served.n)
}

/// Waits until a hub holds every value up to the last one that was served, and sees that each is
/// there once and in order.
async fn holds_everything(hub: &PlannedHub, stream: &str, id: &str, plc: &Plc) {
    let upto = served(plc);
    let path = format!("{BASE_PATH}/counter");
    let values = until(CATCH_UP * 2, "the hub holds everything", || async {
        let values = hub.values(stream, id, &path).unwrap_or_default();
        Ok(values.last().is_some_and(|last| *last >= upto).then_some(values))
    })
    .await
    .unwrap();
    let first = plc.history().unwrap().first().map_or(0, |served| served.n);
    let seen: HashSet<_> = values.iter().collect();
    assert_eq!(seen.len(), values.len(), "a value came twice");
    assert!(values.is_sorted(), "values came out of order");
    assert_eq!(values.first(), Some(&first));
    assert_eq!(u64::try_from(values.len()).unwrap(), upto.max(*values.last().unwrap()) - first + 1);
}

async fn polls(plc: &Plc, more: u64) {
    let target = served(plc) + more;
    until(SOON, "the PLC is polled", || async { Ok((served(plc) >= target).then_some(())) })
        .await
        .unwrap();
}

/// The tables of a site, with the ports that it is given, and its leaf port.
fn site() -> (String, [tokio::net::TcpSocket; 2]) {
    let ports = [(); 2].map(|()| wan::reserve(([127, 0, 0, 1], 0).into()).unwrap());
    let [client, leaf] = ports.each_ref().map(|port| port.local_addr().unwrap());
    let text = format!(
        r#"
[[site]]
name = "site-a"
hosts = ["127.0.0.1"]
client = "{client}"
leaf = "{leaf}"
gateways = ["PlantA/*"]

[[gateway]]
id = "{GATEWAY}"
prefixes = ["PlantA/Line3"]

[[gateway]]
id = "PlantA/gw-b"
"#
    );
    (text, ports)
}

/// The record and live values take the way over the site; people at the site go on watching while
/// the region is away; and nobody forges a record there either.
#[tokio::test(flavor = "multi_thread")]
async fn a_site_between_gateway_and_region_loses_nothing_and_lets_nobody_forge() {
    let place = place();
    let family = Family::new().unwrap();
    let (tables, ports) = site();
    let mut region =
        PlannedHub::written(&family, &place.path().join("region"), 1, &[], &tables).unwrap();
    region.start().await.unwrap();
    let folder = region.folder().join("sites/site-a");
    region.certify_server("site-a", &folder).unwrap();
    let mut wan = Wan::open_to(region.leaf(0)).await.unwrap();
    let config = folder.join("nats-server.conf");
    let text = std::fs::read_to_string(&config).unwrap();
    let there = format!("tls://{}", region.leaf(0));
    assert!(text.contains(&there), "{text}");
    std::fs::write(&config, text.replace(&there, &format!("tls://{}", wan.address()))).unwrap();
    let site = Server::start(&family, &config, &folder.join("log")).await.unwrap();
    assert_eq!(site.leafs(), ports[1].local_addr().ok());

    let cable = Wan::open_to(site.leafs().unwrap()).await.unwrap();
    let own = region.gateway(GATEWAY).unwrap();
    let (gateway, plc) =
        gateway(&family, place.path(), GATEWAY, &cable, (own.clone(), "TIDE")).await;
    holds_everything(&region, "TIDE", GATEWAY, &plc).await;

    let reader = region.person("reader");
    let options = || {
        async_nats::ConnectOptions::new()
            .add_root_certificates(reader.ca.clone())
            .add_client_certificate(reader.cert.clone(), reader.key.clone())
            .require_tls(true)
    };
    let here = options().connect(format!("tls://{}", site.clients())).await.unwrap();
    let live = format!("uns.{}.counter", BASE_PATH.replace('/', "."));
    let mut here = here.subscribe(live.clone()).await.unwrap();
    let there = region.client(0, "reader").await.unwrap();
    let mut there = there.subscribe(live).await.unwrap();
    for watched in [&mut here, &mut there] {
        tokio::time::timeout(SOON, watched.next()).await.unwrap().unwrap();
    }

    wan.cut_closed().await.unwrap();
    polls(&plc, 30).await;
    tokio::time::timeout(SOON, here.next()).await.unwrap().unwrap();
    wan.restore().await.unwrap();
    holds_everything(&region, "TIDE", GATEWAY, &plc).await;
    assert!(gateway.leaves().unwrap().len() == 1);

    forging_fails(&family, place.path(), &region, (&site, own)).await;
}

/// Somebody with a gateway's certificate and no rules, at the site.
async fn forging_fails(
    family: &Arc<Family>,
    place: &Path,
    region: &PlannedHub,
    (site, own): (&Server, Credentials),
) {
    let frames = |name: &str| format!("tide.PlantA.{name}.000102030405060708090a0b0c0d0e0f.frames");
    let (ours, theirs) = (frames("gw-line3"), frames("gw-b"));
    let head = format!("tidehead.TIDE.{ours}");
    let leafs = site.leafs().unwrap();
    let inbox = "_INBOX.PlantA.gw-line3";
    let unruly = Unruly::start(family, &place.join("unruly"), leafs, &own, inbox).await.unwrap();
    let ack = unruly.ask_until_answered(&ours, "bytes of my choice").await.unwrap();
    assert!(String::from_utf8_lossy(&ack.payload).contains("\"domain\":\"hub\""));
    for _ in 0..8 {
        unruly.have_answered(&ours, "an acknowledgement", &theirs).await.unwrap();
        unruly.have_answered(&head, "", &theirs).await.unwrap();
        unruly.have_answered("tideinfo.TIDE", "", &theirs).await.unwrap();
    }
    for _ in 0..4 {
        unruly.ask_until_answered(&head, "").await.unwrap();
        unruly.ask_until_answered("tideinfo.TIDE", "").await.unwrap();
    }
    assert!(unruly.ask(&theirs, "x").await.is_none_or(|said| said.status.is_some()));
    let admin = region.client(0, "admin").await.unwrap();
    let stream = async_nats::jetstream::new(admin).get_stream("TIDE").await.unwrap();
    let mut subjects = stream.info_with_subjects(">").await.unwrap();
    let mut of_ours = 0;
    while let Some(one) = subjects.next().await {
        let (subject, count) = one.unwrap();
        assert_ne!(subject, theirs, "a server's answer was stored {count} times");
        of_ours += if subject == ours { count } else { 0 };
    }
    assert!(of_ours >= 9, "{of_ours}");
}

/// `tidegate hub promote`: whether it did it, and what it said.
fn promote(hub: &PlannedHub, words: &[&str]) -> (bool, String) {
    let output = hub.operate("promote", words).unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// A hub above two regions; the mirror of one takes its place after it had fallen behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_above_two_regions_is_promoted_and_gateways_send_again_what_it_had_not_got() {
    let place = place();
    let family = Family::new().unwrap();
    let folder = |name: &str| place.path().join(name);
    let other = "PlantB/gw-b";
    let admits = |id: &str| format!("\n[[gateway]]\nid = \"{id}\"\nprefixes = [\"PlantA\"]\n");
    let mirrored = "\n[[mirror]]\nname = \"hub\"\nsubject = \"CN=global,O=Tidegate hub\"\n";
    let tables = |id: &str| format!("{mirrored}{}", admits(id));
    let streams = ["--stream", "EU=PlantA"];
    let mut eu =
        PlannedHub::written(&family, &folder("eu"), 1, &streams, &tables(GATEWAY)).unwrap();
    eu.start().await.unwrap();
    let streams = ["--stream", "US=PlantB"];
    let mut us = PlannedHub::written_beside(&eu, &folder("us"), &streams, &tables(other)).unwrap();
    us.start().await.unwrap();

    let mut between = Wan::open_to(eu.leaf(0)).await.unwrap();
    let regions = format!(
        "\n[[region]]\nname = \"eu\"\nurls = [\"tls://{}\"]\n\
         \n[[region]]\nname = \"us\"\nurls = [\"tls://{}\"]\n{}",
        between.address(),
        us.leaf(0),
        admits(GATEWAY)
    );
    let streams = ["--stream", "EU=PlantA", "--stream", "US=PlantB"];
    let mut global =
        PlannedHub::written_beside(&eu, &folder("global"), &streams, &regions).unwrap();
    global.edit("name = \"EU\"", "name = \"EU\"\nmirrors = \"eu\"").unwrap();
    global.edit("name = \"US\"", "name = \"US\"\nmirrors = \"us\"").unwrap();
    for region in ["eu", "us"] {
        let shown = global.node(0).join("regions").join(region);
        global.certify_server("global", &shown).unwrap();
    }
    global.apply(&[]).unwrap();
    global.start().await.unwrap();

    let mut link = Wan::open_to(eu.leaf(0)).await.unwrap();
    let own = (eu.gateway(GATEWAY).unwrap(), "EU");
    let (one, plc) = gateway(&family, place.path(), GATEWAY, &link, own).await;
    let far = Wan::open_to(us.leaf(0)).await.unwrap();
    let own = (eu.gateway(other).unwrap(), "US");
    let (_two, plc_far) = gateway(&family, place.path(), other, &far, own).await;
    holds_everything(&global, "EU", GATEWAY, &plc).await;
    holds_everything(&global, "US", other, &plc_far).await;
    mirrors_write_nothing(&family, &folder("unruly"), &eu, &global).await;

    // Whoever promotes has to have said so in hub.toml, and the region has to be gone.
    let (done, said) = promote(&global, &["EU"]);
    assert!(!done && said.contains("remove its key mirrors"), "{said}");
    global.edit("mirrors = \"eu\"\n", "").unwrap();
    let (done, said) = promote(&global, &["EU"]);
    assert!(!done && said.contains("was heard"), "{said}");

    between.cut_closed().await.unwrap();
    polls(&plc, 30).await;
    holds_everything(&eu, "EU", GATEWAY, &plc).await;
    let behind = global.values("EU", GATEWAY, &format!("{BASE_PATH}/counter")).unwrap();
    assert!(*behind.last().unwrap() + 20 < served(&plc), "the mirror has everything");
    link.cut_closed().await.unwrap();
    eu.kill9_node(0).unwrap();

    let (done, said) = promote(&global, &["EU", "--although-region-lives"]);
    assert!(done && said.contains("takes frames now"), "{said}");
    link.lead_to(global.leaf(0)).await.unwrap();
    link.restore().await.unwrap();
    polls(&plc, 10).await;
    holds_everything(&global, "EU", GATEWAY, &plc).await;
    holds_everything(&global, "US", other, &plc_far).await;
    assert!(one.log().unwrap().contains("leaf listens"));
}

/// Whoever has a mirror's certificate can have the region's server deliver, and to nowhere that
/// matters.
async fn mirrors_write_nothing(
    family: &Arc<Family>,
    place: &Path,
    region: &PlannedHub,
    global: &PlannedHub,
) {
    let shown = global.node(0).join("regions/eu");
    let file = |name: &str| shown.join(name);
    let (ca, cert, key) = (file("ca.pem"), file("cert.pem"), file("key.pem"));
    let own = Credentials { ca, cert, key };
    let unruly = Unruly::start(family, place, region.leaf(0), &own, "$JSC.R").await.unwrap();
    let asked = "tidemirror.EU.api.CONSUMER.CREATE.EU";
    let wish = |deliver: &str, number: usize| {
        serde_json::json!({ "stream_name": "EU", "config": {
            "name": format!("unruly-{number}"), "deliver_policy": "all", "ack_policy": "none",
            "max_deliver": 1, "replay_policy": "instant", "deliver_subject": deliver,
            "direct": true, "sourcing": true, "flow_control": true,
            "idle_heartbeat": 1_000_000_000_u64, "inactive_threshold": 10_000_000_000_u64,
        }})
        .to_string()
    };
    let frames = format!("tide.PlantA.gw-line3.{}.frames", "0".repeat(32));
    let answer = unruly.ask_until_answered(asked, &wish(&frames, 0)).await.unwrap();
    let said = String::from_utf8_lossy(&answer.payload).into_owned();
    assert!(said.contains("forms a cycle"), "{said}");
    for (number, deliver) in
        ["$JS.API.STREAM.DELETE.EU", "$JS.API.STREAM.PURGE.EU"].iter().enumerate()
    {
        unruly.ask_until_answered(asked, &wish(deliver, number + 1)).await.unwrap();
    }
    for forbidden in ["$JS.API.STREAM.DELETE.EU", "tideread.EU", &frames, "uns.PlantA.x"] {
        let said = unruly.ask(forbidden, "").await;
        assert!(said.is_none_or(|said| said.status.is_some()), "{forbidden}");
    }
    // What a consumer delivers has been delivered by the time that it has been heard of again.
    tokio::time::timeout(Duration::from_secs(10), async {
        for number in 3..6 {
            let deliver = format!("tidemirror.EU.deliver.hub.{number}");
            unruly.ask_until_answered(asked, &wish(&deliver, number)).await.unwrap();
        }
    })
    .await
    .unwrap();
    let admin = region.client(0, "admin").await.unwrap();
    let stream = async_nats::jetstream::new(admin).get_stream("EU").await.unwrap();
    let state = &stream.cached_info().state;
    assert!(state.messages > 0 && state.first_sequence == 1, "{state:?}");
}
