//! Keys, passwords and tokens stay where they belong: whatever a gateway says, and whatever the
//! system writes down of it, holds none.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use tidegate_hil_tests::est::Est;
use tidegate_hil_tests::family::{Family, Process};
use tidegate_hil_tests::wait::{self, until};
use tidegate_hil_tests::{Rig, Wishes, tools};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::CATCH_UP;

/// What must be found nowhere, and everything that was said.
#[derive(Default)]
struct Ledger {
    secrets: Vec<(String, String)>,
    said: Vec<(String, Vec<u8>)>,
}

impl Ledger {
    fn secret(&mut self, what: &str, secret: &str) {
        assert!(secret.len() >= 8, "{what} is too short to be looked for");
        self.secrets.push((what.to_owned(), secret.to_owned()));
    }

    /// Every whole line of the body of a key; the bytes behind it are in a core as they are here.
    fn key(&mut self, file: &Path) {
        let text = fs::read_to_string(file).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with("-----") && line.len() >= 16);
        let lines: Vec<_> = lines.collect();
        assert!(lines.len() > 1, "{} is no key", file.display());
        for line in lines {
            self.secret(&file.display().to_string(), line);
        }
    }

    fn hear(&mut self, who: &str, said: impl Into<Vec<u8>>) {
        self.said.push((who.to_owned(), said.into()));
    }

    /// What a file that others may see holds; every file of a folder.
    fn hear_files(&mut self, path: &Path) {
        if path.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                self.hear_files(&entry.unwrap().path());
            }
        } else {
            self.hear(&path.display().to_string(), fs::read(path).unwrap());
        }
    }

    fn nothing_leaked(&self) {
        for (who, said) in &self.said {
            for (what, secret) in &self.secrets {
                let found = said.windows(secret.len()).any(|part| part == secret.as_bytes());
                assert!(!found, "{who} holds a secret of {what}");
            }
        }
    }
}

/// The binary, enrolling at an authority.
struct Enrolling {
    family: Arc<Family>,
    place: PathBuf,
    est: Est,
}

impl Enrolling {
    async fn new(place: &Path) -> Self {
        let family = Family::new().unwrap();
        let est = Est::start(&family, &place.join("est")).await.unwrap();
        let config = format!(
            "[gateway]\nplant = \"PlantA\"\nname = \"gw-line3\"\n[identity]\ndir = \"identity\"\n\
             est = {:?}\nca-pins = [{:?}]\n[control]\nsocket = \"none.sock\"\n[opcua]\ndir = \"pki\"\n",
            est.url(),
            est.pin()
        );
        fs::write(place.join("t.toml"), config).unwrap();
        Self { family, place: place.to_owned(), est }
    }

    fn identity(&self) -> PathBuf {
        self.place.join("identity")
    }

    /// What it prints, and its exit code.
    fn say(&self, ledger: &mut Ledger, line: &str) -> (i32, String) {
        let home = self.place.to_str().unwrap();
        let words = line.split(' ').map(|word| word.replace("HOME", home));
        let mut command = self.family.command(tools::gateway().unwrap());
        let output = command.args(words).args(["--config", &format!("{home}/t.toml")]).output();
        let output = output.unwrap();
        let said = [output.stdout, output.stderr].concat();
        ledger.hear(line, said.clone());
        (output.status.code().unwrap(), String::from_utf8_lossy(&said).into_owned())
    }

    /// Tokens refused and taken, a renewal and a rehearsal, and everything that shows an identity.
    async fn enrol(&self, ledger: &mut Ledger) {
        let file = self.place.join("token");
        let junk = "this-token-opens-nothing-4711";
        ledger.secret("a refused token", junk);
        fs::write(&file, junk).unwrap();
        let (code, said) = self.say(ledger, "identity enrol --token-file HOME/token");
        assert_eq!(code, 1, "{said}");
        assert!(file.exists(), "a token that was refused is kept");

        let token = self.est.token().await.unwrap();
        ledger.secret("the token", &token);
        fs::write(&file, format!("{token}\n")).unwrap();
        let (code, said) = self.say(ledger, "identity enrol --token-file HOME/token");
        assert_eq!(code, 0, "{said}");
        assert!(!file.exists(), "a used token is destroyed");
        let (code, said) = self.say(ledger, "identity rehearse --json");
        assert_eq!(code, 0, "{said}");
        assert!(!self.identity().join("gen-2").exists(), "a rehearsal keeps nothing");
        let (code, said) = self.say(ledger, "identity renew");
        assert_eq!(code, 0, "{said}");
        for key in ["gen-1/key.pem", "gen-2/key.pem"] {
            ledger.key(&self.identity().join(key));
        }
        let (code, said) = self.say(ledger, "identity show");
        assert_eq!(code, 0, "{said}");
        let (_, json) = self.say(ledger, "identity show --json");
        let tree: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(tree["current"]["subject"], "CN=PlantA/gw-line3,O=Tidegate");
        assert_eq!((&tree["current"]["generation"], &tree["token"]), (&2.into(), &false.into()));
        let waiting = self.est.token().await.unwrap();
        ledger.secret("a token that waits", &waiting);
        fs::write(&file, &waiting).unwrap();
        let (code, said) = self.say(ledger, "identity init --token-file HOME/token");
        assert_eq!(code, 0, "{said}");
    }
}

/// One request of HTTP/1.1, whose answer ends with the connection.
async fn metrics(rig: &Rig) -> Vec<u8> {
    let mut stream = TcpStream::connect(rig.gateway.metrics().await.unwrap()).await.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    answer
}

fn abort(id: u32) {
    let status = std::process::Command::new("kill").args(["-ABRT", &id.to_string()]).status();
    assert!(status.unwrap().success());
}

fn cores(place: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_string_lossy().contains("core")).collect()
}

/// Whether this system writes a core file beside a process that is nothing special.
async fn system_writes_cores(family: &Arc<Family>, place: &Path) -> bool {
    let mut command = family.command("sh");
    command.args(["-c", "ulimit -c unlimited; exec sleep 600"]).current_dir(place);
    let log = place.join("control.log");
    let mut process = Process::start(family, "the control", command, &log).unwrap();
    until(wait::SOON, "the control sleeps", || {
        let id = process.id();
        async move {
            Ok(fs::read_to_string(format!("/proc/{id}/comm"))?.starts_with("sleep").then_some(()))
        }
    })
    .await
    .unwrap();
    abort(process.id());
    let status = until(wait::SOON, "the control ends", || {
        let ended = process.ended();
        async move { ended }
    })
    .await
    .unwrap();
    let found = cores(place);
    for core in &found {
        fs::remove_file(core).unwrap();
    }
    status.core_dumped() && !found.is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_password_or_token_is_in_a_log_an_answer_a_bundle_or_a_core() {
    let place = tempfile::Builder::new().prefix("tidegate-rig-").tempdir().unwrap();
    let place = place.path();
    let mut ledger = Ledger::default();
    let enrolling = Enrolling::new(place).await;
    enrolling.enrol(&mut ledger).await;

    // A daemon that could write cores where we look, and whose server would write one on a panic.
    let room = place.join("cores");
    fs::create_dir(&room).unwrap();
    let mut wishes = Wishes::default()
        .with("metrics", "listen", "127.0.0.1:0")
        .with("identity", "dir", enrolling.identity().to_str().unwrap())
        .started_by(&[
            "env",
            "-C",
            room.to_str().unwrap(),
            "prlimit",
            "--core=unlimited:unlimited",
        ]);
    wishes.environment.push(("GOTRACEBACK".to_owned(), "crash".to_owned()));
    wishes.environment.push(("TIDEGATE_LOG".to_owned(), "trace".to_owned()));
    let mut rig = Rig::running_with(wishes).await.unwrap();
    let n = rig.polls(10).await.unwrap();
    rig.hub_holds(n, CATCH_UP).await.unwrap();

    let home = rig.gateway.config().parent().unwrap().to_owned();
    let config = fs::read_to_string(rig.gateway.config()).unwrap();
    let (_, key) = config.split_once("key = \"").unwrap();
    ledger.key(Path::new(key.split('"').next().unwrap()));
    let conf = fs::read_to_string(home.join("leaf/nats-server.conf")).unwrap();
    for line in conf.lines().filter_map(|line| line.split_once("password:")) {
        ledger.secret("the leaf's configuration", line.1.trim().trim_matches('"'));
    }
    let (pid, leaves) = (rig.gateway.pid().unwrap(), rig.gateway.leaves().unwrap());
    for id in leaves.iter().chain([&pid]) {
        for what in ["cmdline", "environ"] {
            let path = format!("/proc/{id}/{what}");
            ledger.hear(&path, fs::read(&path).unwrap());
        }
        let limits = fs::read_to_string(format!("/proc/{id}/limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().nth(4), Some("1"), "{core}");
    }
    ledger.hear("metrics", metrics(&rig).await);
    for arguments in [&["status"][..], &["status", "--json"], &["tags", "--json"]] {
        let mut command = rig.gateway.command(arguments[0]).unwrap();
        let output = command.args(&arguments[1..]).output().unwrap();
        assert!(output.status.success());
        ledger.hear(&arguments.join(" "), [output.stdout, output.stderr].concat());
    }

    ledger.nothing_leaked();

    // The bundle takes the log along, into which everything secret is written on purpose. A token
    // that is in no file any more cannot be known: one was used, one refused.
    ledger.secrets.retain(|(what, _)| what != "the token" && what != "a refused token");
    let log = place.join("with-canaries.log");
    let mut text = rig.gateway.log().unwrap();
    for (what, secret) in &ledger.secrets {
        text.push_str(&format!("\n{what} is {secret}"));
    }
    fs::write(&log, text).unwrap();
    let mut command = rig.gateway.command("support-bundle").unwrap();
    command.arg("--set").arg(format!("identity.dir={}", enrolling.identity().display()));
    let bundle = place.join("bundle");
    let output = command.arg("--folder").arg(&bundle).arg("--log").arg(&log).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(bundle.join("status.json").is_file() && bundle.join("identity.json").is_file());
    let cut = fs::read_to_string(bundle.join("log.txt")).unwrap();
    assert!(cut.contains("the leaf's configuration is ***"), "the rest of the log is there");
    ledger.hear_files(&bundle);
    ledger.hear("the bundle's messages", [output.stdout, output.stderr].concat());

    let has_cores = system_writes_cores(&enrolling.family, &room).await;
    for leaf in leaves {
        abort(leaf);
    }
    until(CATCH_UP, "another leaf", || {
        let (leaves, status) = (rig.gateway.leaves(), rig.gateway.status());
        async move {
            let up = status?["link"]["hub_up"] == true;
            Ok((up && !leaves?.is_empty()).then_some(()))
        }
    })
    .await
    .unwrap();
    abort(pid);
    let ended = until(wait::SOON, "the daemon is aborted", || {
        let ended = rig.gateway.reap();
        async move { Ok(ended.ok()) }
    })
    .await
    .unwrap();
    assert!(ended.contains("SIGABRT") && !ended.contains("core dumped"), "{ended}");
    assert_eq!(cores(&room), Vec::<PathBuf>::new(), "a core was written");
    if !has_cores {
        eprintln!("this system writes no core files beside processes: only limits were checked");
    }
    ledger.hear("the log", rig.gateway.log().unwrap());
    ledger.nothing_leaked();
}

/// A ledger that finds nothing would prove nothing.
#[test]
fn what_is_said_is_really_looked_through() {
    let mut ledger = Ledger::default();
    ledger.secret("a token", "open-sesame");
    ledger.hear("somebody", "it is open-sesame, really");
    assert!(std::panic::catch_unwind(|| ledger.nothing_leaked()).is_err());
}
