//! U1: every policy with every identity, and what is said of a wrong one.

use std::time::{Duration, Instant};

use tidegate_hil_tests::field::{Devices, Field, Site, quoted};
use tidegate_hil_tests::opcua::devices::OpcUaDevice;
use tidegate_hil_tests::opcua::papers::OpcUaPapers;
use tidegate_hil_tests::opcua::{Make, OpcUaServer};
use tidegate_hil_tests::wait;

use super::{BACK, note, state};

const POLICIES: [&str; 5] =
    ["none", "basic256sha256", "aes128-sha256-rsaoaep", "aes256-sha256-rsapss", "best"];

/// A server with every policy that knows the user `rig` by password and a user by certificate.
async fn server(site: &Site, make: Make, papers: &OpcUaPapers) -> OpcUaServer {
    let shown = papers.shown("server");
    let users = site.path("users");
    std::fs::create_dir_all(&users).unwrap();
    std::fs::copy(papers.file("user", "pem"), users.join("user.pem")).unwrap();
    let policies = "none,basic256sha256,basic256sha256-sign,aes128-sha256-rsaoaep,\
                    aes256-sha256-rsapss";
    let mut options = vec!["--items", "3", "--policies", policies];
    options.extend(["--tokens", "anonymous,password,certificate", "--user", "rig:se:cret ü"]);
    let users = users.to_str().unwrap();
    options.extend(["--user-certs", users]);
    options.extend(shown.iter().map(String::as_str));
    OpcUaServer::start(site, make, "server", &options).await.unwrap()
}

fn password(site: &Site, name: &str, text: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;

    let file = site.path(name);
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    format!("user = \"rig\"\npassword-file = {}", quoted(&file))
}

fn certificate(papers: &OpcUaPapers, name: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;

    let paper = papers.paper(name);
    std::fs::set_permissions(&paper.key, std::fs::Permissions::from_mode(0o600)).unwrap();
    format!("user-cert = {}\nuser-key = {}", quoted(&paper.cert), quoted(&paper.key))
}

async fn every_policy(make: Make) {
    let site = Site::new().unwrap();
    let papers = OpcUaPapers::new(&site).unwrap();
    let thumbprint = papers.issue(&site, "server", &[]).unwrap();
    papers.issue(&site, "user", &["--uri", "urn:tidegate:rig:user"]).unwrap();
    let server = server(&site, make, &papers).await;
    let identities = [
        ("anonymous", String::new()),
        ("password", password(&site, "password", "se:cret ü")),
        ("certificate", certificate(&papers, "user")),
    ];
    let mut devices = Devices::none();
    for policy in POLICIES {
        for (identity, keys) in &identities {
            let trust = match policy {
                "none" => String::new(),
                _ => format!("trust = [\"{thumbprint}\"]"),
            };
            let keys = format!("security = \"{policy}\"\n{trust}\n{keys}");
            let device = OpcUaDevice::at(&format!("{policy}-{identity}"), &server.url(), &keys);
            devices = device.counters(0..2).among(devices);
        }
    }
    let keys = format!(
        "security = \"basic256sha256\"\nmessage-mode = \"sign\"\ntrust = [\"{thumbprint}\"]"
    );
    devices = OpcUaDevice::at("signed", &server.url(), &keys).counters(0..2).among(devices);
    let mut field = Field::without_hub(site, &devices).unwrap();
    field.start().await.unwrap();
    field.all_good(BACK).await.unwrap();
    field.judge_shown().unwrap();
    let activated = server.events("activate").unwrap();
    let users = activated.iter().filter(|one| one["user"] == "rig" && one["ok"] == true).count();
    assert!(users >= POLICIES.len(), "{activated:#?}");
    server.was_only_read().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn asyncua_is_read_under_every_policy_by_anybody_a_user_and_a_certificate() {
    every_policy(Make::Asyncua).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_opcua_is_read_under_every_policy_by_anybody_a_user_and_a_certificate() {
    every_policy(Make::NodeOpcua).await;
}

/// Wrong in ways that only a person can mend: said at once, and not tried again soon.
async fn wrong_credentials(make: Make) {
    let site = Site::new().unwrap();
    let papers = OpcUaPapers::new(&site).unwrap();
    let thumbprint = papers.issue(&site, "server", &[]).unwrap();
    papers.issue(&site, "user", &["--uri", "urn:tidegate:rig:user"]).unwrap();
    papers.issue(&site, "stranger", &["--uri", "urn:tidegate:rig:stranger"]).unwrap();
    let server = server(&site, make, &papers).await;
    let wrong = [
        ("wrong-password", password(&site, "wrong", "guessed")),
        ("wrong-certificate", certificate(&papers, "stranger")),
    ];
    let mut devices = OpcUaDevice::at("right", &server.url(), "").counters(0..2).alone();
    for (name, keys) in &wrong {
        let keys = format!("security = \"basic256sha256\"\ntrust = [\"{thumbprint}\"]\n{keys}");
        devices = OpcUaDevice::at(name, &server.url(), &keys).counters(0..2).among(devices);
    }
    let mut field = Field::without_hub(site, &devices).unwrap();
    let begun = Instant::now();
    field.start().await.unwrap();
    for (name, _) in &wrong {
        let shown = state(&field, name, "configuration-error").await.unwrap();
        note(&format!("{name} after {:?}: {}", begun.elapsed(), shown["why"]));
        let why = shown["why"].as_str().unwrap().to_lowercase();
        let named = ["user", "password", "identity", "certificate"];
        assert!(named.iter().any(|word| why.contains(word)), "{why}");
    }
    assert!(begun.elapsed() < BACK, "it took {:?}", begun.elapsed());
    field.devices_good(&["right"], BACK).await.unwrap();
    let refused = || -> anyhow::Result<usize> {
        Ok(server.events("activate")?.iter().filter(|one| one["ok"] == false).count())
    };
    let before = refused().unwrap();
    // A storm would be tens of attempts by then.
    tokio::time::sleep(Duration::from_secs(15)).await;
    let after = refused().unwrap();
    note(&format!("refused activations: {before}, then {after}"));
    assert!(after <= 4, "{after} attempts with wrong credentials");
    for (name, _) in &wrong {
        field.none_good(name, wait::SOON).await.unwrap();
    }
    field.judge_shown().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_or_certificate_is_said_at_once_and_asyncua_is_not_stormed() {
    wrong_credentials(Make::Asyncua).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_or_certificate_is_said_at_once_and_node_opcua_is_not_stormed() {
    wrong_credentials(Make::NodeOpcua).await;
}
