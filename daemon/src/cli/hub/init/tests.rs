use std::path::Path;

use super::*;
use clap::Parser;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: InitArgs,
}

fn init(dir: &Path, more: &[&str]) -> (u8, String, String) {
    let dir = dir.to_str().unwrap();
    let line = ["init", "--dir", dir].into_iter().chain(more.iter().copied());
    let args = Line::try_parse_from(line).unwrap().args;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let now = std::time::SystemTime::now();
    let mut with = Surroundings { now, colour: false, out: &mut out, err: &mut err };
    let code = run(&args, &mut with).unwrap();
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

#[test]
fn three_servers_on_one_machine_get_ports_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let host = ["--host", "127.0.0.1"];
    let more = [&host[..], &host, &host, &["--websocket-port", "8443"]].concat();
    let (code, out, err) = init(dir.path(), &more);
    assert_eq!((code, err.as_str()), (OK, ""), "{out}");
    let folder = HubFolder::at(dir.path());
    let read = folder.load().unwrap().file;
    let ports: Vec<_> = read.nodes.iter().map(|it| it.leaf.port()).collect();
    assert_eq!(ports, [7422, 7423, 7424]);
    for node in &read.nodes {
        for file in ["nats-server.conf", "cert.pem", "key.pem", "ca.pem", "nats-server.service"] {
            assert!(folder.node(&node.name).join(file).exists(), "{}/{file}", node.name);
        }
    }
    for person in &read.people {
        let (cert, key) = (folder.user_cert(&person.name), folder.user_key(&person.name));
        let identity = tidegate_identity::load_identity(&cert, &key).unwrap();
        assert_eq!(identity.facts().subject, person.subject());
    }
}

#[test]
fn a_hub_that_is_there_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(init(dir.path(), &["--host", "hub.example.com"]).0, OK);
    let before = std::fs::read(dir.path().join("hub.toml")).unwrap();
    let (code, _, err) = init(dir.path(), &["--host", "other.example.com"]);
    assert_eq!(code, USAGE);
    assert!(err.contains("tidegate hub apply"), "{err}");
    assert_eq!(std::fs::read(dir.path().join("hub.toml")).unwrap(), before);
}

#[test]
fn arguments_that_make_no_hub_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    for more in [
        &["--host", "a", "--host", "b"][..],
        &["--host", "a:7422"],
        &["--host", "a", "--leaf-port", "4222"],
        &["--host", "a", "--stream", "A=P", "--stream", "B=P"],
    ] {
        let (code, _, err) = init(dir.path(), more);
        assert_eq!(code, USAGE, "{more:?}: {err}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "{more:?}");
    }
}

#[test]
fn an_authority_of_ones_own_is_taken_and_what_it_has_to_sign_is_named() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(init(&dir.path().join("lab"), &["--host", "a"]).0, OK);
    let ca = dir.path().join("lab/ca.pem");
    let own = dir.path().join("own");
    let (code, _, err) = init(&own, &["--host", "a", "--ca", ca.to_str().unwrap()]);
    assert_eq!(code, OK);
    assert!(err.contains("cert.pem is missing") && err.contains("key.pem is missing"), "{err}");
    assert!(!own.join("users").exists() && own.join("hub-1/ca.pem").exists());
}

#[test]
fn whoever_is_added_to_the_file_gets_a_certificate_and_nobody_gets_another_one() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(init(dir.path(), &["--host", "a"]).0, OK);
    let folder = HubFolder::at(dir.path());
    let before = std::fs::read(folder.dir().join("hub-1/cert.pem")).unwrap();
    let toml = std::fs::read_to_string(folder.hub_toml()).unwrap();
    let toml = format!("{toml}\n[[user]]\nname = \"historian\"\nrole = \"reader\"\n");
    std::fs::write(folder.hub_toml(), toml).unwrap();
    let file = folder.load().unwrap().file;
    papers::complete(&folder, &file, std::time::SystemTime::now()).unwrap();
    let name = Name::new("historian").unwrap();
    assert!(folder.user_cert(&name).exists() && folder.user_key(&name).exists());
    assert_eq!(std::fs::read(folder.dir().join("hub-1/cert.pem")).unwrap(), before);
}
