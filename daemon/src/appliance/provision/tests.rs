use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use super::*;

const SHORT: &str = r#"plant = "PlantA"
name = "gw-1"
hub = "tls://hub.example.com:7422"
est = "https://ca.example.com:8443"
ca-pins = ["6f0e52a2b1a0c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c"]
devices = "devices.toml"
"#;

/// The rest; the identity's folder lies in the test's own.
const DEVICES: &str = r#"
[[device]]
name = "press-1"
protocol = "modbus-tcp"
address = "192.0.2.10:502"
base-path = "PlantA/Press1"
tag-list = "lists/press-1.csv"
"#;

const LIST: &str = "path,address\ntemperature,holding:100\n";

struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { dir: tempfile::tempdir().unwrap() };
        for name in ["etc", "stick", "partition", "credentials"] {
            fs::create_dir(bench.path(name)).unwrap();
        }
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn put(&self, name: &str, content: &str) -> &Self {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    /// A stick as a technician fills it.
    fn filled(&self) -> &Self {
        self.put("stick/provision.toml", SHORT)
            .put("stick/devices.toml", DEVICES)
            .put("stick/lists/press-1.csv", LIST)
    }

    /// A whole configuration whose identity lies here.
    fn whole(&self, extra: &str) -> String {
        let dir = self.path("identity");
        format!(
            "[gateway]\nplant = \"PlantA\"\nname = \"gw-1\"\n\n[identity]\ndir = {dir:?}\n\
             est = \"https://ca.example.com\"\nca-pins = \
             [\"6f0e52a2b1a0c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c\"]\n{extra}"
        )
    }

    fn gateway(&self) -> Gateway {
        let config = self.path("etc/tidegate.toml");
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        Gateway { record: Record::beside(&config), config, now }
    }

    fn from(&self, names: &[&str]) -> Vec<Outcome> {
        let sources: Vec<_> = names
            .iter()
            .map(|name| match *name {
                "credentials" => Source::Credentials(self.path(name)),
                name => Source::Folder(self.path(name)),
            })
            .collect();
        provision(&self.gateway(), &sources)
    }

    fn stick(&self) -> Outcome {
        let mut outcomes = self.from(&["stick"]);
        assert_eq!(outcomes.len(), 1, "{outcomes:?}");
        outcomes.remove(0)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| format!("{name}: {error}"))
    }
}

fn ending(outcome: &Outcome) -> Ending {
    outcome.ending
}

#[test]
fn a_stick_configures_a_new_gateway_and_says_so() {
    let bench = Bench::new();
    let outcome = bench.filled().stick();
    assert_eq!(outcome.ending, Ending::Applied, "{outcome:?}");
    assert_eq!(outcome.line, "PlantA/gw-1 is configured from provision.toml");
    let config = config::load(&bench.path("etc/tidegate.toml"), Vec::new(), &[]).unwrap();
    assert_eq!(config.devices[0].tags.len(), 1);
    assert_eq!(bench.read("etc/lists/press-1.csv"), LIST);
    let said = bench.read("stick/tidegate-result.txt");
    assert!(said.starts_with("applied: PlantA/gw-1 is configured from provision.toml\n"), "{said}");
    let mode = fs::metadata(bench.path("etc/tidegate.toml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o137, 0, "{mode:o}");
}

#[test]
fn mistakes_are_told_on_the_stick_and_nothing_changes() {
    let bench = Bench::new();
    bench.put("etc/tidegate.toml", &bench.whole(""));
    let before = bench.read("etc/tidegate.toml");
    bench
        .filled()
        .put("stick/devices.toml", "[[device]]\nnmae = \"x\"\n[journal]\nmax-bytes = 1\n");
    bench.put("stick/tidegate.token", "secret\n");
    let outcome = bench.stick();
    assert_eq!(outcome.ending, Ending::Mistaken);
    let said = bench.read("stick/tidegate-result.txt");
    assert!(said.starts_with("mistakes: the configuration does not check"), "{said}");
    assert!(said.contains("did you mean `name`?") && said.contains("max-bytes"), "{said}");
    assert_eq!(bench.read("etc/tidegate.toml"), before);
    assert_eq!(bench.read("stick/tidegate.token"), "secret\n");
    assert!(!bench.path("identity").exists());
}

#[test]
fn a_token_is_kept_for_the_daemon_and_destroyed_on_the_stick() {
    let bench = Bench::new();
    bench.put("stick/tidegate.toml", &bench.whole("")).put("stick/tidegate.token", "s3cret\r\n");
    fs::hard_link(bench.path("stick/tidegate.token"), bench.path("twin")).unwrap();
    let outcome = bench.stick();
    assert_eq!(outcome.ending, Ending::Applied, "{outcome:?}");
    let folder = IdentityFolder::at(bench.path("identity"));
    assert_eq!(folder.token().unwrap().unwrap().secret(), "s3cret");
    assert!(!bench.path("stick/tidegate.token").exists());
    assert_eq!(fs::read(bench.path("twin")).unwrap(), [0; 8]);
    let said = bench.read("stick/tidegate-result.txt");
    assert!(said.contains("overwritten and removed"), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
}

#[test]
fn cut_off_anywhere_the_next_boot_does_the_rest() {
    let bench = Bench::new();
    bench.put("stick/tidegate.toml", &bench.whole("")).put("stick/tidegate.token", "s3cret");
    // After the configuration was renamed: nothing is remembered, and the token is still there.
    bench.put("etc/tidegate.toml", &bench.whole(""));
    assert_eq!(bench.stick().ending, Ending::TokenTaken);
    assert!(!bench.path("stick/tidegate.token").exists());
    assert_eq!(bench.stick().ending, Ending::Known);
}

#[test]
fn a_stick_that_stays_in_the_socket_does_nothing_more_and_keeps_its_result() {
    let bench = Bench::new();
    assert_eq!(bench.filled().stick().ending, Ending::Applied);
    let said = bench.read("stick/tidegate-result.txt");
    bench.put("etc/tidegate.toml", &bench.whole("# edited by hand since\n"));
    let edited = bench.read("etc/tidegate.toml");
    assert_eq!(bench.stick().ending, Ending::Known);
    assert_eq!(bench.read("etc/tidegate.toml"), edited);
    assert_eq!(bench.read("stick/tidegate-result.txt"), said);
}

#[test]
fn another_configuration_replaces_only_when_it_says_so_and_the_former_is_kept() {
    let bench = Bench::new();
    bench.put("etc/tidegate.toml", &bench.whole(""));
    let former = bench.read("etc/tidegate.toml");
    let outcome = bench.filled().stick();
    assert_eq!(outcome.ending, Ending::Refused);
    assert!(bench.read("stick/tidegate-result.txt").contains("write replace = true"));
    bench
        .put("stick/provision.toml", &format!("{SHORT}replace = true\nlater-media = \"refuse\"\n"));
    assert_eq!(bench.stick().ending, Ending::Applied);
    assert_eq!(bench.read("etc/tidegate.toml.previous"), former);
    // From now on nothing is taken.
    bench.put("stick/provision.toml", &format!("{SHORT}replace = true\n"));
    bench.put("stick/lists/press-1.csv", "path,address\nspeed,holding:7\n");
    let outcome = bench.stick();
    assert_eq!(outcome.ending, Ending::Refused, "{outcome:?}");
    assert!(outcome.line.contains("later-media"), "{outcome:?}");
}

#[test]
fn another_gateways_stick_is_refused_by_name() {
    let bench = Bench::new();
    bench.put("etc/tidegate.toml", &bench.whole(""));
    bench
        .filled()
        .put("stick/provision.toml", &format!("{}replace = true\n", SHORT.replace("gw-1", "gw-2")));
    let outcome = bench.stick();
    assert_eq!(outcome.ending, Ending::Refused);
    assert!(
        outcome.line.contains("this gateway is PlantA/gw-1, and the medium is for PlantA/gw-2")
    );
}

#[test]
fn credentials_come_first_and_their_short_words_make_a_configuration() {
    let bench = Bench::new();
    bench.put("credentials/tidegate.name", "PlantA/gw-1\n");
    bench.put("credentials/tidegate.hub", "nats://127.0.0.1:7422\n");
    bench.filled();
    let outcomes = bench.from(&["credentials", "stick"]);
    assert_eq!(outcomes.iter().map(ending).collect::<Vec<_>>(), [Ending::Applied, Ending::Refused]);
    let config = config::load(&bench.path("etc/tidegate.toml"), Vec::new(), &[]).unwrap();
    assert_eq!(config.hub.unwrap().urls.len(), 1);
    // Credentials are read only: no result is written there.
    assert!(!bench.path("credentials/tidegate-result.txt").exists());
    bench.put("credentials/tidegate.name", "gw-1");
    let outcomes = bench.from(&["credentials"]);
    assert!(outcomes[0].line.contains("write PLANT/NAME"), "{outcomes:?}");
}

#[test]
fn a_token_alone_waits_for_the_configuration_of_a_later_source() {
    let bench = Bench::new();
    bench.put("stick/tidegate.token", "s3cret");
    let outcomes = bench.from(&["stick"]);
    assert_eq!(ending(&outcomes[0]), Ending::Refused);
    assert!(bench.path("stick/tidegate.token").exists());
    bench.put("partition/tidegate.toml", &bench.whole(""));
    let outcomes = bench.from(&["stick", "partition"]);
    let endings: Vec<_> = outcomes.iter().map(ending).collect();
    assert_eq!(endings, [Ending::Applied, Ending::TokenTaken]);
    assert!(IdentityFolder::at(bench.path("identity")).token().unwrap().is_some());
}

#[test]
fn keys_come_along_readable_for_the_daemon_alone_and_go_from_the_stick() {
    let bench = Bench::new();
    let tls = "tls = { ca = \"ca.pem\", cert = \"gw.pem\", key = \"keys/gw.key\" }";
    let text = format!(
        "[gateway]\nplant = \"PlantA\"\nname = \"gw-1\"\n[hub]\nurls = [\"tls://h:7422\"]\n{tls}\n"
    );
    bench
        .put("stick/tidegate.toml", &text)
        .put("stick/ca.pem", "ca")
        .put("stick/keys/gw.key", "key");
    let outcome = bench.stick();
    assert_eq!(outcome.ending, Ending::Applied, "{outcome:?}");
    assert_eq!(bench.read("etc/keys/gw.key"), "key");
    assert!(!bench.path("stick/keys/gw.key").exists());
    assert!(bench.path("stick/ca.pem").exists());
    assert!(outcome.details.iter().any(|line| line.contains("gw.pem is named")), "{outcome:?}");
    assert_eq!(bench.stick().ending, Ending::Known, "the key's absence changes nothing");
}

#[test]
fn what_a_technician_gets_wrong_is_answered_with_what_to_do() {
    for (name, content, expected) in [
        (
            "stick/provision.toml.txt",
            SHORT,
            "provision.toml.txt is not looked at; name it provision.toml",
        ),
        ("stick/TIDEGATE.TOML", SHORT, "TIDEGATE.TOML is not looked at; name it tidegate.toml"),
        ("stick/provision.toml", SHORT, "devices.toml\", which is not there; put it beside"),
        ("stick/provision.toml", "id = \"1\"\n", "names no gateway"),
        ("stick/tidegate.token", "two words\n", "one line without blanks"),
        ("stick/roots.pem", "x", "it must be PEM"),
    ] {
        let bench = Bench::new();
        let outcome = bench.put(name, content).stick();
        assert_eq!(outcome.ending, Ending::Mistaken, "{name}");
        assert!(bench.read("stick/tidegate-result.txt").contains(expected), "{name}: {outcome:?}");
    }
    let bench = Bench::new();
    fs::write(bench.path("stick/provision.toml"), b"\xff\xfep\0l\0").unwrap();
    assert!(bench.stick().line.contains("save it as UTF-8"));
    let bench = Bench::new();
    bench.filled().put("stick/tidegate.toml", &bench.whole(""));
    assert!(bench.stick().line.contains("remove one"));
    // A mark at the beginning is no mistake.
    let bench = Bench::new();
    bench.filled().put("stick/provision.toml", &format!("\u{feff}{SHORT}"));
    assert_eq!(bench.stick().ending, Ending::Applied);
}

#[test]
fn an_empty_stick_and_one_that_is_not_there_say_nothing() {
    let bench = Bench::new();
    assert_eq!(bench.from(&["stick", "nowhere", "credentials"]), []);
    bench.put("stick/holiday.jpg", "x");
    assert_eq!(bench.from(&["stick"]), []);
    assert!(!bench.path("stick/tidegate-result.txt").exists());
}

#[test]
fn a_reset_is_asked_for_once_by_a_stick_that_names_the_gateway() {
    let bench = Bench::new();
    bench.put("etc/tidegate.toml", &bench.whole("")).put("stick/factory-reset", "PlantA/gw-2\n");
    assert_eq!(bench.stick().ending, Ending::Refused);
    assert!(!bench.gateway().record.reset_is_requested());
    bench.put("stick/factory-reset", "PlantA/gw-1\r\n");
    assert_eq!(bench.stick().ending, Ending::ResetRequested);
    assert!(bench.gateway().record.reset_is_requested());
    assert!(bench.path("stick/factory-reset.done").exists());
    assert_eq!(bench.from(&["stick"]), []);
}

#[test]
fn a_configuration_cannot_name_what_these_commands_remember() {
    let bench = Bench::new();
    let text = bench.whole("crl = \"appliance/provisioned.json\"\n");
    bench.put("stick/tidegate.toml", &text);
    bench.put("stick/appliance/provisioned.json", "{\"refuses-media\":true}");
    let outcome = bench.stick();
    assert_eq!(outcome.ending, Ending::Applied, "{outcome:?}");
    assert!(!bench.gateway().record.provisioned().refuses_media);
}
