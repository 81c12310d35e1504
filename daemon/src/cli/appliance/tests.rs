use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use clap::Parser as _;

use super::*;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    appliance: ApplianceArgs,
}

struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        for name in ["etc", "data", "stick"] {
            fs::create_dir(bench.path(name)).unwrap();
        }
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn say(&self, line: &str) -> (u8, String, String) {
        let home = self.0.path().to_str().unwrap();
        let line = format!("{line} --config HOME/etc/tidegate.toml");
        let words = line.split(' ').map(|word| word.replace("HOME", home));
        let line = Line::try_parse_from(std::iter::once("appliance".to_owned()).chain(words));
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let surroundings = Surroundings {
            environment: Vec::new(),
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
            host: None,
            colour: false,
            out: &mut out,
            err: &mut err,
        };
        let code = run(&line.unwrap().appliance, surroundings).unwrap();
        (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    fn configured(&self, extra: &str) {
        let socket = self.path("control.sock");
        let text = format!(
            "[gateway]\nplant = \"P\"\nname = \"g\"\n[control]\nsocket = {socket:?}\n{extra}"
        );
        self.write("etc/tidegate.toml", &text);
    }
}

fn last_line(out: &str) -> &str {
    out.lines().last().unwrap_or_default()
}

#[test]
fn the_last_line_tells_a_service_whether_the_daemon_has_something_new() {
    let bench = Bench::new();
    let provision = "provision --from HOME/stick --from HOME/nowhere";
    let (code, out, _) = bench.say(provision);
    assert_eq!((code, last_line(&out)), (0, "nothing to do"));
    assert!(out.starts_with("this gateway is not configured, and nothing is offered"), "{out}");
    bench.write("stick/provision.toml", "plant = \"P\"\nname = \"g\"\n");
    let (code, out, err) = bench.say(provision);
    assert_eq!((code, last_line(&out), err.as_str()), (0, "changed", ""));
    let (code, out, _) = bench.say(provision);
    assert_eq!((code, last_line(&out)), (0, "nothing to do"));
    bench.write("stick/provision.toml", "plant = \"P\"\nname = \"other\"\n");
    let (code, out, err) = bench.say(provision);
    assert_eq!((code, last_line(&out)), (1, "nothing to do"));
    assert!(err.contains("this gateway is P/g"), "{err}");
    bench.write("stick/provision.toml", "plant = \n");
    let (code, out, _) = bench.say(&format!("{provision} --json"));
    let tree: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &tree["media"][0]["ending"]), (64, &"mistakes".into()));
}

#[test]
fn without_a_configuration_nothing_can_be_ill() {
    let (code, out, _) = Bench::new().say("healthy --within 1s");
    assert_eq!(code, 0);
    assert!(out.starts_with("not configured: there is no "), "{out}");
}

#[test]
fn a_daemon_that_does_not_answer_is_not_healthy_and_said_once() {
    let bench = Bench::new();
    bench.configured("");
    let (code, out, err) = bench.say("healthy --within 1s");
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.starts_with("not healthy: no tidegate answers on"), "{err}");
}

#[test]
fn a_configuration_that_never_was_healthy_is_not_the_systems_fault() {
    let bench = Bench::new();
    bench.configured("[journal]\nmax-bytes = 1\n");
    let (code, out, _) = bench.say("healthy --within 1s");
    assert_eq!(code, 0, "{out}");
    assert!(out.starts_with("the system is well, and "), "{out}");
    // The same text ran before an update: then it is.
    let text = fs::read_to_string(bench.path("etc/tidegate.toml")).unwrap();
    let configuration = crate::appliance::offer::digest(None, &text, &[]);
    let record = crate::appliance::record::Record::beside(&bench.path("etc/tidegate.toml"));
    let system = crate::appliance::record::System::default();
    let healthy = crate::appliance::record::LastHealthy { system, configuration };
    record.keep_last_healthy(&healthy).unwrap();
    let (code, _, err) = bench.say("healthy --within 1s");
    assert_eq!(code, 1);
    assert!(err.contains("and did before"), "{err}");
}

#[test]
fn the_slot_stands_in_the_kernels_command_line() {
    assert_eq!(healthy::slot("root=x rauc.slot=B quiet\n").as_deref(), Some("B"));
    assert_eq!(healthy::slot("root=x\n"), None);
}

#[test]
fn a_reset_is_done_by_the_boot_that_follows_and_only_then() {
    let bench = Bench::new();
    bench.configured("");
    bench.write("data/identity/gen-1/key.pem", "key");
    let reset = |what: &str| bench.say(&format!("reset {what} --data HOME/data"));
    let (code, out, _) = reset("--requested");
    assert_eq!((code, out.as_str()), (0, "no reset is asked for\n"));
    assert_eq!(reset("--yes").0, 0);
    assert!(bench.path("data/identity/gen-1/key.pem").exists());
    assert_eq!(reset("--cancel").0, 0);
    assert_eq!(reset("--requested").1, "no reset is asked for\n");
    assert_eq!(reset("--yes").0, 0);
    let (code, out, err) = reset("--requested");
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("as new: 2 files removed"), "{out}");
    assert!(bench.path("data/identity").exists());
    assert!(!bench.path("data/identity/gen-1").exists());
    assert!(!bench.path("etc/tidegate.toml").exists());
    assert_eq!(reset("--requested").1, "no reset is asked for\n");
}

#[test]
fn a_reset_that_was_cut_off_is_repeated() {
    let bench = Bench::new();
    bench.configured("");
    // The configuration is gone, the data is not, and the request still stands.
    bench.say("reset --yes --data HOME/data");
    fs::remove_file(bench.path("etc/tidegate.toml")).unwrap();
    bench.write("data/identity/token", "s3cret");
    let (code, out, _) = bench.say("reset --requested --data HOME/data");
    assert_eq!(code, 0, "{out}");
    assert!(!bench.path("data/identity/token").exists());
}

#[test]
fn a_folder_that_is_not_tidegates_own_is_never_emptied() {
    let bench = Bench::new();
    bench.configured("");
    for folder in ["/", "/var", "data"] {
        let (code, _, err) = bench.say(&format!("reset --yes --now --data {folder}"));
        assert_eq!(code, 2, "{folder}");
        assert!(err.contains("is not emptied"), "{err}");
    }
    assert!(bench.path("etc/tidegate.toml").exists());
}

#[test]
fn a_daemon_that_runs_is_not_erased_under_its_feet() {
    let bench = Bench::new();
    bench.configured("");
    let _daemon = std::os::unix::net::UnixListener::bind(bench.path("control.sock")).unwrap();
    let (code, _, err) = bench.say("reset --yes --now --data HOME/data");
    assert_eq!(code, 1);
    assert!(err.contains("systemctl stop tidegate"), "{err}");
    assert!(Path::new(&bench.path("etc/tidegate.toml")).exists());
}
