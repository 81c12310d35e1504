//! From a URL to live tags: `probe opcua`, `browse`, tag lists, subtrees, browse paths and `check`.

use std::process::{Command, Output};

use serde_json::Value;
use tidegate_hil_tests::field::truth::Must;
use tidegate_hil_tests::field::{Field, Site, base_path};
use tidegate_hil_tests::opcua::devices::OpcUaDevice;
use tidegate_hil_tests::opcua::papers::OpcUaPapers;
use tidegate_hil_tests::opcua::{Make, NAMESPACE, OpcUaServer};
use tidegate_hil_tests::{tools, wait};

use super::{BACK, note, state};

fn tidegate(arguments: &[&str]) -> Output {
    Command::new(tools::gateway().unwrap()).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn secured(site: &Site, make: Make, papers: &OpcUaPapers, more: &[&str]) -> OpcUaServer {
    let shown = papers.shown("server");
    let mut options =
        vec!["--items", "3", "--tokens", "anonymous,password", "--user", "rig:secret"];
    options.extend(["--policies", "none,basic256sha256,aes256-sha256-rsapss"]);
    options.extend(shown.iter().map(String::as_str));
    options.extend(more);
    OpcUaServer::start(site, make, "server", &options).await.unwrap()
}

async fn probed(make: Make) {
    let site = Site::new().unwrap();
    let papers = OpcUaPapers::new(&site).unwrap();
    let thumbprint = papers.issue(&site, "server", &[]).unwrap();
    let server = secured(&site, make, &papers, &[]).await;
    let url = server.url();
    let output = tidegate(&["probe", "opcua", &url, "--json"]);
    let said = text(&output.stdout);
    let found: Value = serde_json::from_str(&said)
        .unwrap_or_else(|error| panic!("{error}: {said}{}", text(&output.stderr)));
    let all = found.to_string();
    for word in ["Basic256Sha256", "Aes256_Sha256_RsaPss", "urn:tidegate:rig:server", &thumbprint] {
        assert!(all.to_lowercase().contains(&word.to_lowercase()), "{word} is not in {found:#}");
    }
    // Untrusted, it says so and how to mend it.
    let output = tidegate(&["probe", "opcua", &url]);
    note(&format!("{}{}", text(&output.stdout), text(&output.stderr)));
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(said.contains("trust"), "{said}");
    let output = tidegate(&["probe", "opcua", &url, "--trust", &thumbprint]);
    note(&format!("{}{}", text(&output.stdout), text(&output.stderr)));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let wrong = site.path("wrong");
    std::fs::write(&wrong, "guessed").unwrap();
    let user = ["--user", "rig", "--password-file", wrong.to_str().unwrap()];
    let output =
        tidegate(&[&["probe", "opcua", &url, "--trust", &thumbprint][..], &user[..]].concat());
    let said = (text(&output.stdout) + &text(&output.stderr)).to_lowercase();
    note(&said);
    assert!(!output.status.success());
    assert!(said.contains("password") || said.contains("user"), "{said}");
    server.was_only_read().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_of_asyncua_says_what_it_offers_and_why_it_cannot_be_connected_to() {
    probed(Make::Asyncua).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_of_node_opcua_says_what_it_offers_and_why_it_cannot_be_connected_to() {
    probed(Make::NodeOpcua).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_of_nothing_and_of_something_else_says_so() {
    let output = tidegate(&["probe", "opcua", "opc.tcp://127.0.0.1:1"]);
    let said = text(&output.stdout) + &text(&output.stderr);
    note(&said);
    assert!(!output.status.success() && said.contains("refuses"), "{said}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("opc.tcp://{}", listener.local_addr().unwrap());
    let output = tidegate(&["probe", "opcua", &url, "--timeout-ms", "1000"]);
    note(&(text(&output.stdout) + &text(&output.stderr)));
    assert!(!output.status.success());
}

/// `browse --csv` writes a list that is live as it is.
async fn browsed(make: Make) {
    let site = Site::new().unwrap();
    let server = OpcUaServer::start(&site, make, "server", &["--items", "5"]).await.unwrap();
    let list = site.path("list.csv");
    let subtree = format!("nsu={NAMESPACE};s=Lines");
    let url = server.url();
    let arguments = ["browse", &url, "--subtree", &subtree, "--csv", list.to_str().unwrap()];
    let output = tidegate(&[&arguments[..], &["--security", "none"][..]].concat());
    note(&format!("{}{}", text(&output.stdout), text(&output.stderr)));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let written = std::fs::read_to_string(&list).unwrap();
    note(&written);
    let rows = written.lines().filter(|line| line.contains(NAMESPACE)).count();
    assert_eq!(rows, 18, "{written}");
    let keys = format!("tag-list = {:?}", list.display().to_string());
    let devices = OpcUaDevice::at("press", &url, &keys).alone();
    let mut field = Field::without_hub(site, &devices).unwrap();
    field.start().await.unwrap();
    eighteen_of_lines(&mut field).await;
    server.was_only_read().unwrap();
}

/// Waits until all counters below `Lines` are good under their names, and judges them.
async fn eighteen_of_lines(field: &mut Field) {
    let tags = wait::until(BACK, "18 tags are good", || async {
        let tags = field.tags_of("press")?;
        Ok((tags.iter().filter(|one| one.is_good()).count() >= 18).then_some(tags))
    })
    .await
    .unwrap_or_else(|error| panic!("{error:#}: {:#?}", field.tags().unwrap()));
    assert_eq!(tags.len(), 18, "{tags:#?}");
    let mut number = 90_000;
    for line in 1..=2 {
        for press in 1..=3 {
            for name in ["Speed", "Torque", "Temperature"] {
                let end = format!("L{line}/Press{press}/{name}");
                let tag = tags.iter().find(|one| one.path.ends_with(&end));
                let tag = tag.unwrap_or_else(|| panic!("no {end} in {tags:#?}"));
                field.exceptions.insert(tag.path.clone(), Must::Count(number));
                number += 1;
            }
        }
    }
    field.judge_shown().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_was_browsed_from_asyncua_is_live_as_it_is() {
    browsed(Make::Asyncua).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_was_browsed_from_node_opcua_is_live_as_it_is() {
    browsed(Make::NodeOpcua).await;
}

/// Everything below an object, though one of its children leads back to it.
async fn below_an_object(make: Make) {
    let site = Site::new().unwrap();
    let options = ["--items", "250"];
    let mut server = OpcUaServer::start(&site, make, "server", &options).await.unwrap();
    let device = OpcUaDevice::at("press", &server.url(), "");
    let device = device.tag("Lines", "Lines", "subtree = true");
    let mut field = Field::without_hub(site, &device.alone()).unwrap();
    field.start().await.unwrap();
    eighteen_of_lines(&mut field).await;
    server.restart(field.site().unwrap(), &["--shift-namespaces", "1"]).await.unwrap();
    field.none_good("press", BACK).await.unwrap();
    eighteen_of_lines(&mut field).await;
    server.was_only_read().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_below_an_object_of_asyncua_is_collected() {
    below_an_object(Make::Asyncua).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_below_an_object_of_node_opcua_is_collected() {
    below_an_object(Make::NodeOpcua).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subtree_is_filtered_and_kept_within_its_limits() {
    let site = Site::new().unwrap();
    let options = ["--items", "250"];
    let server = OpcUaServer::start(&site, Make::Asyncua, "server", &options).await.unwrap();
    let filtered = "subtree = true\ninclude = [\"L1/**\"]\nexclude = [\"**/Torque\"]";
    let device = OpcUaDevice::at("filtered", &server.url(), "").tag("Lines", "Lines", filtered);
    let limited = "subtree = true\nmax-tags = 100";
    let devices = device.alone();
    let device = OpcUaDevice::at("limited", &server.url(), "").tag("All", "Counters", limited);
    let mut field = Field::without_hub(site, &device.among(devices)).unwrap();
    field.start().await.unwrap();
    wait::until(BACK, "six tags are good", || async {
        let tags = field.tags_of("filtered")?;
        Ok((tags.iter().filter(|one| one.is_good()).count() == 6 && tags.len() == 6).then_some(()))
    })
    .await
    .unwrap_or_else(|error| panic!("{error:#}: {:#?}", field.tags_of("filtered").unwrap()));
    let shown = state(&field, "limited", "degraded").await.unwrap();
    note(&format!("{}", shown["why"]));
    assert!(field.tags_of("limited").unwrap().len() <= 100);
    for tag in field.tags().unwrap() {
        field.exceptions.insert(tag.path, Must::Anything);
    }
    field.judge_shown().unwrap();
}

/// Browse paths, and the index form, which is taken with a warning.
#[tokio::test(flavor = "multi_thread")]
async fn browse_paths_are_followed_and_the_index_form_is_warned_of() {
    let site = Site::new().unwrap();
    let server =
        OpcUaServer::start(&site, Make::NodeOpcua, "server", &["--items", "5"]).await.unwrap();
    let by_path = format!("/Objects/{{{NAMESPACE}}}Plant/Lines/L2/Press3/Temperature");
    let device = OpcUaDevice::at("press", &server.url(), "")
        .tag_at("n90017", &by_path, "")
        .tag_at("n90000", "/Objects/Plant/Lines/L1/Press1/Speed", "")
        .tag_at("n3", "ns=2;s=c3", "");
    let mut field = Field::without_hub(site, &device.alone()).unwrap();
    let config = field.gateway.config().to_str().unwrap().to_owned();
    let output = tidegate(&["check", &config]);
    let said = text(&output.stdout) + &text(&output.stderr);
    note(&said);
    assert!(output.status.success() && said.contains("ns=2;s=c3"), "{said}");
    field.start().await.unwrap();
    field.all_good(BACK).await.unwrap();
    field.judge_shown().unwrap();
    assert!(!base_path("press").is_empty());
}

/// The URL that the server names leads nowhere: it is dialled where the configuration says, or where
/// the server says, as told.
#[tokio::test(flavor = "multi_thread")]
async fn the_url_that_a_server_advertises_is_not_dialled_unless_told() {
    let site = Site::new().unwrap();
    let advertise = ["--advertise", "opc.tcp://127.0.0.1:1/rig"];
    let server = OpcUaServer::start(&site, Make::Asyncua, "server", &advertise).await.unwrap();
    let devices = OpcUaDevice::at("ignores", &server.url(), "").counters(0..2).alone();
    let keys = "advertised-url = \"follow\"";
    let devices = OpcUaDevice::at("follows", &server.url(), keys).counters(0..2).among(devices);
    let mut field = Field::without_hub(site, &devices).unwrap();
    field.start().await.unwrap();
    field.devices_good(&["ignores"], BACK).await.unwrap();
    field.none_good("follows", BACK).await.unwrap();
    let shown = wait::until(BACK, "it says where it dialled", || async {
        let shown = field.device("follows")?;
        Ok(shown["why"].is_string().then_some(shown))
    })
    .await
    .unwrap();
    note(&format!("{}", shown["why"]));
    field.judge_shown().unwrap();
}
