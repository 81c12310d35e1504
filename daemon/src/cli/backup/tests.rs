use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use clap::Parser as _;
use tidegate_identity::lab::{LabCa, Lifetime};
use tidegate_identity::{IdentityFolder, Token};

use super::*;

#[derive(clap::Parser)]
enum Line {
    Backup(BackupArgs),
    Restore(RestoreArgs),
}

struct Site {
    dir: tempfile::TempDir,
}

type Said = (u8, String, String);

const CONFIG_TEXT: &str = "[gateway]\nplant = \"P\"\nname = \"g1\"\n[identity]\ndir = \"identity\"\n\
    [opcua]\ndir = \"pki\"\n[control]\nsocket = \"control.sock\"\n\
    [[device]]\nname = \"press\"\nprotocol = \"modbus-tcp\"\naddress = \"127.0.0.1:1\"\nunit = 1\n\
    base-path = \"A\"\ntag-list = \"press.csv\"\n";

impl Site {
    fn new() -> Self {
        let site = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(site.path("etc")).unwrap();
        fs::write(site.path("etc/t.toml"), CONFIG_TEXT).unwrap();
        fs::write(site.path("etc/press.csv"), "path,address,type\nx,holding:1,uint16\n").unwrap();
        fs::write(site.path("words"), "correct horse battery\n").unwrap();
        let folder = IdentityFolder::open(site.path("etc/identity")).unwrap();
        let now = SystemTime::now();
        let ca = LabCa::new("lab", Lifetime::from(now)).unwrap();
        let issued = ca.gateway("P/g1", Lifetime::from(now)).unwrap();
        let store = folder.generations();
        store.install(issued.key_pem.as_bytes(), issued.certificate_pem.as_bytes(), b"").unwrap();
        folder.store_token(&Token::new("open-sesame").unwrap()).unwrap();
        folder.store_roots(&[ca.certificate()]).unwrap();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn say(&self, line: &str) -> Said {
        let home = self.dir.path().to_str().unwrap();
        let words = line.split(' ').map(|word| word.replace("HOME", home));
        let line = Line::try_parse_from(std::iter::once("tidegate".to_owned()).chain(words));
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let surroundings = Surroundings {
            environment: Vec::new(),
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
            host: None,
            colour: false,
            out: &mut out,
            err: &mut err,
        };
        let code = match line.unwrap() {
            Line::Backup(args) => backup(&args, surroundings).unwrap(),
            Line::Restore(args) => restore(&args, surroundings).unwrap(),
        };
        (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }
}

#[test]
fn what_was_lost_comes_back_and_nobody_else_can_read_the_backup() {
    let site = Site::new();
    let backup = "backup --to HOME/b --config HOME/etc/t.toml --passphrase-file HOME/words";
    let (code, out, err) = site.say(backup);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("/b: "), "{out}");
    assert!(err.contains("/etc/pki is not there"), "{err}");
    assert_eq!(fs::metadata(site.path("b")).unwrap().permissions().mode() & 0o777, 0o600);
    let sealed = fs::read(site.path("b")).unwrap();
    assert!(!sealed.windows(11).any(|part| part == b"open-sesame" || part == b"PRIVATE KEY"));

    let key = fs::read(site.path("etc/identity/current/key.pem")).unwrap();
    fs::remove_dir_all(site.path("etc")).unwrap();
    let restore = "restore --from HOME/b --passphrase-file HOME/words";
    let (code, _, err) = site.say(restore);
    assert_eq!(code, 2, "nobody was asked");
    assert!(err.contains("fork the record") && err.contains("--yes"), "{err}");
    assert!(!site.path("etc").exists());
    let (code, out, err) = site.say(&format!("{restore} --yes"));
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("backup of P/g1 from 2027-01-15T08:00:00Z"), "{out}");
    assert_eq!(fs::read(site.path("etc/identity/current/key.pem")).unwrap(), key);
    assert_eq!(fs::read_to_string(site.path("etc/t.toml")).unwrap(), CONFIG_TEXT);
    assert!(site.path("etc/press.csv").is_file());
    let folder = IdentityFolder::at(site.path("etc/identity"));
    assert_eq!(folder.token().unwrap().unwrap().secret(), "open-sesame");
    assert!(folder.generations().load().unwrap().fallen_back.is_none());
    assert!(folder.exposed().is_empty(), "{:?}", folder.exposed());
}

#[test]
fn nothing_is_replaced_unless_told_to() {
    let site = Site::new();
    let (code, ..) = site.say("backup --to HOME/b --config HOME/etc/t.toml --unencrypted");
    assert_eq!(code, 0);
    let (code, _, err) = site.say("backup --to HOME/b --config HOME/etc/t.toml --unencrypted");
    assert_eq!((code, err.contains("exists already")), (73, true), "{err}");
    fs::write(site.path("etc/press.csv"), "path,address,type\ny,holding:2,uint16\n").unwrap();
    let (code, out, err) = site.say("restore --from HOME/b --yes");
    assert_eq!(code, 1);
    assert!(out.contains("press.csv  (is there)") && err.contains("--overwrite"), "{out}{err}");
    let (code, ..) = site.say("restore --from HOME/b --list");
    assert_eq!(code, 0);
    assert!(fs::read_to_string(site.path("etc/press.csv")).unwrap().contains("y,holding:2"));
    let (code, _, err) = site.say("restore --from HOME/b --yes --overwrite");
    assert_eq!(code, 0, "{err}");
    assert!(fs::read_to_string(site.path("etc/press.csv")).unwrap().contains("x,holding:1"));
}

#[test]
fn a_wrong_passphrase_and_a_missing_one_write_nothing() {
    let site = Site::new();
    fs::write(site.path("short"), "eleven char\n").unwrap();
    let (code, _, err) =
        site.say("backup --to HOME/b --config HOME/etc/t.toml --passphrase-file HOME/short");
    assert_eq!((code, err.contains("fewer than 12 characters")), (2, true), "{err}");
    assert!(!site.path("b").exists());
    let backup = "backup --to HOME/b --config HOME/etc/t.toml --passphrase-file HOME/words";
    assert_eq!(site.say(backup).0, 0);
    fs::remove_dir_all(site.path("etc")).unwrap();
    fs::write(site.path("words"), "another horse battery\n").unwrap();
    let (code, _, err) = site.say("restore --from HOME/b --passphrase-file HOME/words --yes");
    assert_eq!((code, err.contains("wrong passphrase")), (1, true), "{err}");
    assert!(!site.path("etc").exists());
}

#[test]
fn a_backup_cannot_write_where_its_configuration_names_nothing() {
    let site = Site::new();
    assert_eq!(site.say("backup --to HOME/b --config HOME/etc/t.toml --unencrypted").0, 0);
    let archive = fs::read(site.path("b")).unwrap();
    let entries = crate::upkeep::archive::read(&archive).unwrap();
    let mut writer = crate::upkeep::archive::Writer::new(0);
    for entry in &entries {
        if let Content::File(bytes) = &entry.content {
            writer.file(&entry.name, bytes).unwrap();
        }
    }
    let elsewhere = site.path("cron.d/evil");
    writer.file(&format!("files{}", elsewhere.display()), b"x").unwrap();
    fs::write(site.path("forged"), &*writer.finish()).unwrap();
    let (code, _, err) = site.say("restore --from HOME/forged --yes --overwrite");
    assert_eq!(code, 1);
    assert!(err.contains("cron.d/evil, which its configuration does not name"), "{err}");
    assert!(!elsewhere.exists());
}
