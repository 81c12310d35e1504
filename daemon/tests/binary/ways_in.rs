//! The ways in which `prove` and `tap` log in at a hub.

use std::path::Path;
use std::process::Command;

use tidegate::hub::{ClientPort, Credential, HubUser, Role};
use tidegate_identity::lab::reader_subject;

use crate::common::{ADMIN, Hub, any, lifetime, write_files};
use crate::site::{Said, tidegate};

/// `prove` of a gateway that has nothing: 1 and a report mean that the hub was read.
fn prove() -> Command {
    let mut command = tidegate();
    command.args(["prove", "--gateway", "P/g1", "--json"]);
    command
}

fn was_read(command: &mut Command) {
    let said = Said::of(command);
    assert_eq!(said.code, 1, "{said:?}");
    assert_eq!(said.json()["messages"], 0);
}

fn write(dir: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    path
}

#[tokio::test]
async fn a_password_comes_from_a_file_a_url_or_a_context() {
    let hub = Hub::start().await;
    let (dir, at) = (tempfile::tempdir().unwrap(), hub.server.client);
    let file = write(dir.path(), "password", &format!("{ADMIN}\n"));
    let server = format!("nats://{at}");
    was_read(prove().args(["--server", &server, "--user", "admin", "--password-file"]).arg(file));
    was_read(prove().args(["--server", &format!("nats://admin:{ADMIN}@{at}")]));
    let context = format!(r#"{{"url":"{server}","user":"admin","password":"{ADMIN}"}}"#);
    write(dir.path(), "nats/context/plant.json", &context);
    let config_home = ("XDG_CONFIG_HOME", dir.path());
    was_read(prove().args(["--context", "plant"]).env(config_home.0, config_home.1));
    Said::of(prove().args(["--context", "typo"]).env(config_home.0, config_home.1))
        .refused(2, &["--context", "typo.json"]);
    let wrong = format!("nats://admin:wrong@{at}");
    let said = Said::of(prove().args(["--server", &wrong]));
    said.refused(69, &["no connection to", &at.to_string()]);
}

#[tokio::test]
async fn a_certificate_is_shown_where_the_hub_asks_for_one() {
    let hub = Hub::start_with(|mut plan, dir, ca| {
        let issued = ca.hub("hub", &["127.0.0.1"], lifetime()).unwrap();
        let tls = write_files(dir, "clients", &ca.certificate_pem(), &issued);
        plan.client = ClientPort { listen: any(), tls: Some(tls) };
        let certified = |role, name: &str| HubUser {
            role,
            credential: Credential::Certificate { subject: reader_subject(name) },
        };
        plan.users = vec![certified(Role::Reader, "ana"), certified(Role::Admin, "root")];
        plan.anonymous = None;
        plan
    })
    .await;
    let ana = hub.ca.reader("ana", lifetime()).unwrap();
    let files = write_files(hub.dir.path(), "ana", &hub.ca.certificate_pem(), &ana);
    let server = format!("tls://{}", hub.server.client);
    let mut command = prove();
    command.args(["--server", &server]).arg("--ca").arg(&files.ca);
    command.arg("--cert").arg(&files.cert).arg("--key").arg(&files.key);
    // The stream was not made: that the hub says so means that ana was let in.
    Said::of(&mut command).refused(69, &["no stream TIDE"]);
    let mut nobody = prove();
    nobody.args(["--server", &server]).arg("--ca").arg(&files.ca);
    Said::of(&mut nobody).refused(69, &["no connection to", &server]);
    let mut missing = prove();
    missing.args(["--server", &server, "--ca", "/nowhere/ca.pem"]);
    Said::of(&mut missing).refused(2, &["--ca", "/nowhere/ca.pem"]);
}
