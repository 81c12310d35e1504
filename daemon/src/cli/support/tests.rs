use clap::Parser as _;
use tidegate_identity::lab::{LabCa, Lifetime};
use tidegate_identity::{CertificateRequest, IdentityFolder, Token};

use super::*;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    args: SupportArgs,
}

struct Site {
    dir: tempfile::TempDir,
    /// What must be found nowhere.
    canaries: Vec<String>,
}

const CONFIG: &str = "[gateway]\nplant = \"P\"\nname = \"g1\"\n\
    [identity]\ndir = \"identity\"\n[opcua]\ndir = \"pki\"\n[control]\nsocket = \"c.sock\"\n\
    [leaf]\ndir = \"leaf\"\n[journal]\ndir = \"journal\"\n\
    [[device]]\nname = \"press\"\nprotocol = \"opcua\"\naddress = \"opc.tcp://127.0.0.1:1\"\n\
    base-path = \"A\"\nuser = \"operator\"\npassword-file = \"press.password\"\n\
    [[device.tag]]\npath = \"x\"\naddress = \"ns=2;s=x\"\n";

impl Site {
    fn new() -> Self {
        let site = Self { dir: tempfile::tempdir().unwrap(), canaries: Vec::new() };
        site.put("t.toml", CONFIG.as_bytes());
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn put(&self, name: &str, content: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Every line of a key's body.
    fn watch_key(&mut self, pem: &str) {
        let lines = pem.lines().filter(|line| !line.starts_with("-----") && line.len() > 8);
        self.canaries.extend(lines.map(str::to_owned));
    }

    fn canary(&mut self, word: &str) -> String {
        self.canaries.push(word.to_owned());
        word.to_owned()
    }

    /// Secrets in every file that a gateway has, and once more in its log.
    fn plant(&mut self) {
        let now = SystemTime::now();
        let folder = IdentityFolder::open(self.path("identity")).unwrap();
        let ca = LabCa::new("lab", Lifetime::from(now)).unwrap();
        let issued = ca.gateway("P/g1", Lifetime::from(now)).unwrap();
        let (key, cert) = (issued.key_pem.as_str(), issued.certificate_pem.as_str());
        folder.generations().install(key.as_bytes(), cert.as_bytes(), b"").unwrap();
        self.watch_key(key);
        let token = self.canary("canary-token-4711");
        folder.store_token(&Token::new(&token).unwrap()).unwrap();
        let waiting = CertificateRequest::new("P/g1", &[]).unwrap();
        folder.store_pending(&waiting).unwrap();
        self.watch_key(waiting.key_pem());
        let bootstrap = ca.gateway("P/boot", Lifetime::from(now)).unwrap();
        let (boot_key, boot_cert) = (&bootstrap.key_pem, &bootstrap.certificate_pem);
        folder.store_bootstrap(boot_key.as_bytes(), boot_cert.as_bytes()).unwrap();
        self.watch_key(boot_key);
        folder.store_roots(&[ca.certificate()]).unwrap();
        let opcua = CertificateRequest::new("P/opcua", &[]).unwrap();
        self.put("pki/own/gen-1/key.pem", opcua.key_pem().as_bytes());
        self.watch_key(opcua.key_pem());

        let password = self.canary("canary-press-password");
        self.put("press.password", format!("{password}\n").as_bytes());
        let leaf = self.canary("canary0live0password0of0the0leaf");
        self.put("leaf/local-passwords", format!("{leaf}\n").as_bytes());
        let managed = self.canary("canary0record0password");
        let conf = format!("users: [ {{\n  user: \"r\"\n  password: \"{managed}\"\n}} ]\n");
        self.put("leaf/nats-server.conf", conf.as_bytes());

        let mut log: Vec<String> =
            self.canaries.iter().map(|canary| format!("it said {canary}, loudly")).collect();
        log.push(format!("a whole key {key}"));
        let url = self.canary("canary-in-a-url");
        log.push(format!("dial wss://user:{url}@hub.example.com:443/x"));
        let header = self.canary("Y2FuYXJ5OmhlYWRlcg==");
        log.push(format!("sent Authorization: Basic {header}"));
        self.put("log.txt", log.join("\n").as_bytes());
        // Only in the environment.
        self.canary("canary-setting");
    }

    fn say(&self, line: &str) -> (u8, String, String) {
        let home = self.dir.path().to_str().unwrap();
        let words = line.split(' ').map(|word| word.replace("HOME", home));
        let line = Line::try_parse_from(std::iter::once("support-bundle".to_owned()).chain(words));
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let surroundings = Surroundings {
            environment: vec![("TIDEGATE_LOG".into(), "canary-setting".into())],
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
            host: None,
            colour: false,
            out: &mut out,
            err: &mut err,
        };
        let code = support_bundle(&line.unwrap().args, surroundings).unwrap();
        (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }
}

fn texts(dir: &Path) -> Vec<(String, String)> {
    let name = |path: &Path| path.strip_prefix(dir).unwrap().display().to_string();
    let all = files_below(dir, DEEPEST);
    all.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn no_secret_that_was_planted_anywhere_is_in_the_bundle_or_on_the_screen() {
    let mut site = Site::new();
    site.plant();
    let (code, out, err) = site.say("--config HOME/t.toml --log HOME/log.txt --folder HOME/b");
    assert_eq!(code, 0, "{err}");
    let texts = texts(&site.path("b"));
    for name in [
        "about.json",
        "check.txt",
        "config/0-t.toml",
        "identity.json",
        "log.txt",
        "nats-server.conf",
        "journal-files.txt",
        "machine/clock-and-room.txt",
        "missing.txt",
    ] {
        assert!(texts.iter().any(|(it, _)| it == name), "no {name}: {err}");
    }
    assert!(site.canaries.len() > 12);
    for canary in &site.canaries {
        for (name, text) in &texts {
            assert!(!text.contains(canary), "{canary} is in {name}:\n{text}");
        }
        assert!(!out.contains(canary) && !err.contains(canary), "{canary} is on the screen");
    }
    let log = &texts.iter().find(|(name, _)| name == "log.txt").unwrap().1;
    assert!(log.contains("it said ***, loudly"), "the rest is still there:\n{log}");
    let config = &texts.iter().find(|(name, _)| name == "config/0-t.toml").unwrap().1;
    assert!(config.contains("password-file = \"press.password\""), "{config}");
}

#[test]
fn a_configuration_with_mistakes_and_a_daemon_that_is_down_are_what_a_bundle_is_for() {
    let site = Site::new();
    site.put("t.toml", b"[gateway]\nplant = \"P\"\npassword = \"canary-typo\"\n");
    let (code, out, err) = site.say("--config HOME/t.toml --log HOME/none --to HOME/b.tar");
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("wrote"), "{out}");
    assert!(err.contains("without status.json: no tidegate answers"), "{err}");
    assert!(err.contains("without log.txt: "), "{err}");
    let archive = fs::read(site.path("b.tar")).unwrap();
    let text = String::from_utf8_lossy(&archive);
    assert!(text.contains("gateway.name") && !text.contains("canary-typo"), "{text}");
    assert!(text.contains("tidegate-support-unknown-20270115T080000Z/check.txt"));
    let (code, _, err) = site.say("--config HOME/t.toml --log HOME/none --to HOME/b.tar");
    assert_eq!((code, err.contains("cannot be written")), (73, true), "{err}");
}

#[test]
fn a_program_that_does_not_end_is_given_up() {
    let error = output(Command::new("false").arg("x")).unwrap_err();
    assert!(error.to_string().contains("it ended with"), "{error}");
    assert_eq!(output(Command::new("echo").arg("x")).unwrap(), "x\n");
    assert_eq!(
        output(&mut Command::new("/nonexistent")).unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
}
