//! U2: whom the gateway trusts, and who trusts it.

use std::path::Path;
use std::time::Instant;

use tidegate_hil_tests::field::{Devices, Field, GATEWAY, Site};
use tidegate_hil_tests::opcua::devices::OpcUaDevice;
use tidegate_hil_tests::opcua::papers::OpcUaPapers;
use tidegate_hil_tests::opcua::{Make, OpcUaServer};
use tidegate_hil_tests::wait;

use super::{BACK, note, state};

const SECURE: &str = "security = \"best\"";

async fn server(
    site: &Site,
    make: Make,
    name: &str,
    papers: &OpcUaPapers,
    paper: &str,
    more: &[&str],
) -> OpcUaServer {
    let shown = papers.shown(paper);
    let mut options = vec!["--items", "3", "--policies", "basic256sha256"];
    options.extend(shown.iter().map(String::as_str));
    options.extend(more);
    OpcUaServer::start(site, make, name, &options).await.unwrap()
}

fn files(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn trust(field: &Field, folder: &str, file: &Path) {
    let folder = field.gateway.opcua().join(folder);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(file, folder.join(file.file_name().unwrap())).unwrap();
}

/// Runs `tidegate identity …` for the gateway.
fn identity(field: &Field, arguments: &[&str]) -> String {
    let mut command = field.gateway.command("identity").unwrap();
    // The words of the command come before its options.
    let program = command.get_program().to_owned();
    let mut ordered = std::process::Command::new(program);
    ordered.arg("identity").args(arguments).arg("--config").arg(field.gateway.config());
    ordered.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command = ordered;
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "identity {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

async fn refused_then_approved(make: Make, uri_last: bool) {
    let site = Site::new().unwrap();
    let papers = OpcUaPapers::new(&site).unwrap();
    let order: &[&str] = if uri_last { &["--uri-last"] } else { &[] };
    let thumbprint = papers.issue(&site, "server", order).unwrap();
    let server = server(&site, make, "server", &papers, "server", &[]).await;
    let devices = OpcUaDevice::at("press", &server.url(), SECURE).counters(0..3).alone();
    let mut field = Field::without_hub(site, &devices).unwrap();
    let begun = Instant::now();
    field.start().await.unwrap();
    let shown = state(&field, "press", "configuration-error").await.unwrap();
    note(&format!("after {:?}: {}", begun.elapsed(), shown["why"]));
    let why = shown["why"].as_str().unwrap().to_lowercase();
    assert!(why.contains(&thumbprint[..16]), "it names the certificate: {why}");
    let rejected = files(&field.gateway.opcua().join("rejected"));
    assert!(rejected.iter().any(|name| name.starts_with(&thumbprint[..16])), "{rejected:?}");
    assert_eq!(server.events("session").unwrap().len(), 0, "nothing was asked of it");
    let listed = identity(&field, &["trust", "list"]);
    assert!(listed.to_lowercase().contains(&thumbprint[..16]), "{listed}");
    let approved = Instant::now();
    identity(&field, &["trust", "approve", &thumbprint]);
    field.all_good(BACK).await.unwrap();
    note(&format!("good {:?} after it was approved", approved.elapsed()));
    field.judge_shown().unwrap();
    server.was_only_read().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_asyncua_is_refused_by_its_certificate_and_read_once_it_is_approved() {
    refused_then_approved(Make::Asyncua, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_node_opcua_whose_uri_is_not_its_first_name_is_read_once_it_is_approved() {
    refused_then_approved(Make::NodeOpcua, true).await;
}

/// Each certificate is trusted, and nevertheless wrong in a way of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_certificate_that_is_expired_or_for_another_is_refused_with_the_reason() {
    let site = Site::new().unwrap();
    let papers = OpcUaPapers::new(&site).unwrap();
    let cases: [(&str, &[&str], &[&str]); 4] = [
        ("expired", &["--days-ago", "30", "--days", "-1"], &["expired"]),
        ("early", &["--days-ago", "-1", "--days", "30"], &["valid"]),
        ("other-uri", &["--uri", "urn:tidegate:rig:another"], &["uri"]),
        ("other-host", &["--host", "192.0.2.7"], &["host", "127.0.0.1", "address"]),
    ];
    let mut devices = Devices::none();
    let mut servers = Vec::new();
    for (name, options, _) in cases {
        let thumbprint = papers.issue(&site, name, options).unwrap();
        let server = server(&site, Make::Asyncua, name, &papers, name, &[]).await;
        let keys = format!("{SECURE}\ntrust = [\"{thumbprint}\"]");
        devices = OpcUaDevice::at(name, &server.url(), &keys).counters(0..2).among(devices);
        if name == "other-host" {
            let keys = format!("{keys}\ncheck-host = false");
            let device = OpcUaDevice::at("unchecked", &server.url(), &keys);
            devices = device.counters(0..2).among(devices);
        }
        servers.push(server);
    }
    let mut field = Field::without_hub(site, &devices).unwrap();
    field.start().await.unwrap();
    for (name, _, words) in cases {
        let shown = state(&field, name, "configuration-error").await.unwrap();
        note(&format!("{name}: {}", shown["why"]));
        let why = shown["why"].as_str().unwrap().to_lowercase();
        assert!(words.iter().any(|word| why.contains(word)), "{name}: {why}");
    }
    field.devices_good(&["unchecked"], BACK).await.unwrap();
    field.judge_shown().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_a_trusted_authority_is_taken_and_a_revoked_one_is_not() {
    let site = Site::new().unwrap();
    let papers = OpcUaPapers::new(&site).unwrap();
    papers.issue(&site, "ca", &["--authority"]).unwrap();
    papers.issue(&site, "good", &["--issuer", "ca"]).unwrap();
    papers.issue(&site, "taken-back", &["--issuer", "ca"]).unwrap();
    papers.issue(&site, "ca", &["--revoke", "taken-back"]).unwrap();
    let good = server(&site, Make::Asyncua, "good", &papers, "good", &[]).await;
    let node = server(&site, Make::NodeOpcua, "node", &papers, "good", &[]).await;
    let revoked = server(&site, Make::Asyncua, "revoked", &papers, "taken-back", &[]).await;
    let mut devices = Devices::none();
    for (name, server) in [("good", &good), ("node", &node), ("revoked", &revoked)] {
        let device = OpcUaDevice::at(name, &server.url(), SECURE);
        devices = device.counters(0..2).among(devices);
    }
    let mut field = Field::without_hub(site, &devices).unwrap();
    trust(&field, "trusted", &papers.file("ca", "pem"));
    trust(&field, "crl", &papers.file("ca", "crl"));
    field.start().await.unwrap();
    field.devices_good(&["good", "node"], BACK).await.unwrap();
    let shown = state(&field, "revoked", "configuration-error").await.unwrap();
    note(&format!("{}", shown["why"]));
    assert!(shown["why"].as_str().unwrap().to_lowercase().contains("revoked"), "{shown:#}");
    field.judge_shown().unwrap();
}

/// The other way round: the server does not know the gateway until its certificate is brought there.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_trust_the_gateway_is_named_and_read_once_it_does() {
    let site = Site::new().unwrap();
    let papers = OpcUaPapers::new(&site).unwrap();
    let thumbprint = papers.issue(&site, "server", &[]).unwrap();
    let clients = site.path("clients");
    std::fs::create_dir_all(&clients).unwrap();
    let more = ["--clients", clients.to_str().unwrap()];
    let server = server(&site, Make::Asyncua, "server", &papers, "server", &more).await;
    let keys = format!("{SECURE}\ntrust = [\"{thumbprint}\"]");
    let devices = OpcUaDevice::at("press", &server.url(), &keys).counters(0..2).alone();
    let mut field = Field::without_hub(site, &devices).unwrap();
    field.start().await.unwrap();
    let shown = state(&field, "press", "configuration-error").await.unwrap();
    note(&format!("{}", shown["why"]));
    let why = shown["why"].as_str().unwrap().to_lowercase();
    assert!(why.contains("certificate") && why.contains("trust"), "{why}");
    let exported = identity(&field, &["opcua", "export"]);
    assert!(exported.contains("BEGIN CERTIFICATE"), "{exported}");
    std::fs::write(clients.join("gateway.pem"), exported).unwrap();
    let untrusted = server.events("untrusted").unwrap().len();
    note(&format!("{untrusted} attempts were refused"));
    assert!(untrusted <= 4);
    // Whoever brought it there restarts the device's connection, or waits a minute.
    field.kill_and_start().await.unwrap();
    field.all_good(BACK).await.unwrap();
    field.judge_shown().unwrap();
}

/// The gateway's own certificate comes near its end: the next one is made, the server that does not
/// know it yet is shown the former one, and the next one is shown once it is approved.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_takes_the_former_certificate_until_it_knows_the_next_one() {
    let site = Site::new().unwrap();
    let papers = OpcUaPapers::new(&site).unwrap();
    let thumbprint = papers.issue(&site, "server", &[]).unwrap();
    let uri = format!("urn:tidegate:{}", GATEWAY.replace('/', ":"));
    papers.issue(&site, "gateway", &["--uri", &uri, "--days", "30"]).unwrap();
    let clients = site.path("clients");
    std::fs::create_dir_all(&clients).unwrap();
    std::fs::copy(papers.file("gateway", "pem"), clients.join("former.pem")).unwrap();
    let more = ["--clients", clients.to_str().unwrap()];
    let server = server(&site, Make::Asyncua, "server", &papers, "server", &more).await;
    let keys = format!("{SECURE}\ntrust = [\"{thumbprint}\"]");
    let devices = OpcUaDevice::at("press", &server.url(), &keys).counters(0..2).alone();
    let mut field = Field::without_hub(site, &devices).unwrap();
    let own = field.gateway.opcua().join("own");
    let first = own.join("gen-1");
    std::fs::create_dir_all(&first).unwrap();
    std::fs::copy(papers.file("gateway", "pem"), first.join("cert.pem")).unwrap();
    std::fs::copy(papers.file("gateway", "key"), first.join("key.pem")).unwrap();
    std::fs::write(first.join("chain.pem"), "").unwrap();
    std::os::unix::fs::symlink("gen-1", own.join("current")).unwrap();
    field.start().await.unwrap();
    let made = || async { Ok(own.join("gen-2/cert.pem").exists().then_some(())) };
    wait::until(BACK, "the next certificate is made", made).await.unwrap();
    field.all_good(BACK).await.unwrap();
    field.kill_and_start().await.unwrap();
    field.all_good(BACK).await.unwrap();
    let refused = server.events("untrusted").unwrap().len();
    note(&format!("the next one was refused {refused} times"));
    assert!(refused >= 1, "or nothing is shown here");
    let log = field.gateway.log().unwrap();
    assert!(log.contains("is shown the former one"), "{log}");
    let exported = identity(&field, &["opcua", "export"]);
    std::fs::write(clients.join("next.pem"), exported).unwrap();
    std::fs::remove_file(clients.join("former.pem")).unwrap();
    field.kill_and_start().await.unwrap();
    field.all_good(BACK).await.unwrap();
    assert_eq!(server.events("untrusted").unwrap().len(), refused, "taken at once");
    field.judge_shown().unwrap();
}
