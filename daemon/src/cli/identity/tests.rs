use std::fs;
use std::time::Duration;

use clap::Parser as _;
use serde_json::Value as Json;
use tidegate_identity::lab::{LabCa, Lifetime};

use super::*;

const NOW: Duration = Duration::from_secs(1_800_000_000);

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    identity: IdentityArgs,
}

struct Site {
    dir: tempfile::TempDir,
}

/// Exit code, stdout, stderr.
type Said = (u8, String, String);

impl Site {
    fn new() -> Self {
        let site = Self { dir: tempfile::tempdir().unwrap() };
        let config = "[gateway]\nplant = \"P\"\nname = \"g1\"\n";
        fs::write(site.dir.path().join("t.toml"), config).unwrap();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts an authority's certificate somewhere.
    fn authority(&self, name: &str, file: &str) -> LabCa {
        let lifetime = Lifetime::from(SystemTime::UNIX_EPOCH + NOW);
        let ca = LabCa::new(name, lifetime).unwrap();
        let path = self.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, ca.certificate_pem()).unwrap();
        ca
    }

    fn say(&self, line: &str) -> Said {
        self.say_at(line, SystemTime::UNIX_EPOCH + NOW)
    }

    fn say_at(&self, line: &str, now: SystemTime) -> Said {
        let home = self.dir.path().to_str().unwrap();
        let words = line.split(' ').map(|word| word.replace("HOME", home));
        let here = ["--dir".to_owned(), self.path("opcua").to_str().unwrap().to_owned()];
        let line =
            Line::try_parse_from(std::iter::once("identity".to_owned()).chain(words).chain(here));
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let surroundings = Surroundings {
            environment: Vec::new(),
            now,
            host: Some("g1.plant".to_owned()),
            colour: false,
            out: &mut out,
            err: &mut err,
        };
        let code = run(&line.unwrap().identity, surroundings).unwrap();
        (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }
}

fn thumbprint_of(site: &Site) -> String {
    let (code, out, _) = site.say("trust list --json");
    assert_eq!(code, 0);
    let tree: Json = serde_json::from_str(&out).unwrap();
    tree["certificates"][0]["thumbprint"].as_str().unwrap().to_owned()
}

#[test]
fn an_empty_list_says_how_it_gets_filled() {
    let (code, out, err) = Site::new().say("trust list");
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out, "no certificates yet: a server's is kept here when it is first refused\n");
}

#[test]
fn a_certificate_that_waits_is_listed_approved_and_rejected_by_eight_digits() {
    let site = Site::new();
    site.authority("press", "opcua/rejected/x.der");
    let thumbprint = thumbprint_of(&site);
    let short = &thumbprint[..16];
    let (_, out, _) = site.say("trust list");
    assert_eq!(
        out,
        format!(
            "STANDING  THUMBPRINT        UNTIL       SUBJECT                               \
             APPLICATION URI  HOSTS\n\
             waiting   {short}  2027-01-16  CN=press,O=Tidegate lab (authority)   –                –\n"
        )
        .replace("(authority)   –", "(authority)  –")
        .replace("SUBJECT                               ", "SUBJECT                              ")
    );
    let (code, out, err) = site.say(&format!("trust approve {}", &thumbprint[..8]));
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with("is now trusted: CN=press,O=Tidegate lab\n"), "{out}");
    assert!(out.contains(&thumbprint), "{out}");
    assert!(err.starts_with("warning: it is an authority"), "{err}");
    let (code, out, _) = site.say(&format!("trust approve {thumbprint}"));
    assert_eq!((code, out.starts_with("was already trusted")), (0, true));
    let (code, out, _) = site.say(&format!("trust reject {thumbprint} --json"));
    assert_eq!(code, 0);
    let tree: Json = serde_json::from_str(&out).unwrap();
    assert_eq!(tree["changed"], true);
    assert_eq!(tree["certificate"]["standing"], "rejected");
    assert_eq!(tree["certificate"]["valid_until"], "2027-01-16T08:00:00Z");
}

#[test]
fn what_nobody_showed_is_a_no_and_what_cannot_be_meant_a_usage() {
    let site = Site::new();
    let (code, _, err) = site.say("trust approve 00112233");
    assert_eq!(code, 1);
    assert!(err.contains("begins with 00112233; tidegate identity trust list shows all"), "{err}");
    fs::write(site.path("junk"), "x").unwrap();
    let (code, _, err) = site.say("trust add HOME/junk");
    assert_eq!(code, 2);
    assert!(err.contains("junk cannot be added: it holds no certificate"), "{err}");
    let parsed = Line::try_parse_from(["identity", "trust", "approve", "0011223"]);
    assert!(parsed.err().unwrap().to_string().contains("give at least 8 hexadecimal digits"));
}

#[test]
fn a_file_is_added_as_trusted_or_as_an_issuer() {
    let site = Site::new();
    site.authority("root", "root.pem");
    assert_eq!(site.say("trust add HOME/root.pem --issuer").0, 0);
    let (_, out, _) = site.say("trust list");
    assert!(out.contains("\nissuer "), "{out}");
    assert_eq!(site.say("trust add HOME/root.pem").0, 0);
    let (_, out, _) = site.say("trust list");
    assert!(out.contains("\ntrusted "), "{out}");
}

#[test]
fn an_expired_one_is_approved_with_a_warning() {
    let site = Site::new();
    site.authority("press", "opcua/rejected/x.der");
    let later = SystemTime::UNIX_EPOCH + NOW + Duration::from_secs(900_000);
    let (code, _, err) = site.say_at(&format!("trust approve {}", thumbprint_of(&site)), later);
    assert_eq!(code, 0);
    assert!(err.contains("warning: it expired on 2027-01-16 and is refused until"), "{err}");
}

#[test]
fn junk_among_them_is_a_warning() {
    let site = Site::new();
    site.authority("press", "opcua/trusted/x");
    fs::write(site.path("opcua/trusted/README"), "x").unwrap();
    let (code, out, err) = site.say("trust list");
    assert_eq!(code, 0);
    assert!(out.contains("CN=press"), "{out}");
    assert!(err.contains("README is passed over: it holds no certificate"), "{err}");
}

#[test]
fn a_folder_that_is_none_is_a_matter_of_the_disk() {
    let site = Site::new();
    fs::create_dir(site.path("opcua")).unwrap();
    fs::write(site.path("opcua/trusted"), "x").unwrap();
    let (code, _, err) = site.say("trust list");
    assert_eq!(code, 73, "{err}");
    fs::write(site.path("opcua/own"), "x").unwrap();
    let (code, _, err) = site.say("opcua renew --config HOME/t.toml");
    assert_eq!(code, 73, "{err}");
}

#[test]
fn the_own_certificate_is_made_shown_and_exported_without_its_key() {
    let site = Site::new();
    let (code, _, err) = site.say("opcua show");
    assert_eq!(code, 1);
    assert!(err.contains("make it now with: tidegate identity opcua renew"), "{err}");
    let (code, out, err) = site.say("opcua renew --config HOME/t.toml");
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("subject          CN=tidegate P g1,O=Tidegate\n"), "{out}");
    assert!(out.contains("application URI  urn:tidegate:P:g1\n"), "{out}");
    assert!(out.contains("hosts            g1.plant\n"), "{out}");
    assert!(out.contains("generation       gen-1\n"), "{out}");
    let (_, out, _) = site.say("opcua show --json");
    let tree: Json = serde_json::from_str(&out).unwrap();
    assert_eq!((&tree["rsa_bits"], &tree["warnings"]), (&2048.into(), &serde_json::json!([])));
    let (code, pem, _) = site.say("opcua export");
    assert_eq!(code, 0);
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----\n") && !pem.contains("PRIVATE"), "{pem}");
    let (code, out, _) = site.say("opcua export --der --output HOME/own.der");
    assert_eq!(code, 0, "{out}");
    assert_eq!(fs::read(site.path("own.der")).unwrap()[0], 0x30);
    let later = SystemTime::UNIX_EPOCH + NOW + Duration::from_secs(5 * 365 * 86_400);
    let (_, _, err) = site.say_at("opcua show", later);
    assert!(err.contains("warning: the OPC UA certificate ends in 24 hours; renew it"), "{err}");
}

#[test]
fn a_configuration_with_mistakes_is_told_as_such() {
    let site = Site::new();
    fs::write(site.path("t.toml"), "[gateway]\nplant = 1\n").unwrap();
    let (code, _, err) = site.say("opcua renew --config HOME/t.toml");
    assert_eq!(code, 64);
    assert!(err.contains("gateway.plant"), "{err}");
}
