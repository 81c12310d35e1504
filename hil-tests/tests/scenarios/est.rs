//! Certificates by EST: our client against an authority by other hands, and our authority against a
//! client by other hands.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use tidegate_hil_tests::est::Est;
use tidegate_hil_tests::family::{Family, Process};
use tidegate_hil_tests::{is_long, tools, wait};

const GATEWAY: &str = "PlantA/gw-line3";
const SUBJECT: &str = "CN=PlantA/gw-line3,O=Tidegate";

/// A gateway that does not run: its configuration and its command line.
struct Site {
    family: Arc<Family>,
    dir: PathBuf,
}

impl Site {
    fn new(family: &Arc<Family>, dir: &Path, est: &str, pin: &str) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let text = format!(
            "[gateway]\nplant = \"PlantA\"\nname = \"gw-line3\"\n\n[identity]\ndir = \"identity\"\n\
             est = \"{est}\"\nca-pins = [\"{pin}\"]\n"
        );
        std::fs::write(dir.join("tidegate.toml"), text).unwrap();
        Self { family: Arc::clone(family), dir: dir.to_owned() }
    }

    /// `tidegate identity …`: its exit code, and everything that it printed.
    fn identity(&self, words: &[&str]) -> (i32, String) {
        let mut command = self.family.command(tools::gateway().unwrap());
        command.arg("identity").args(words);
        command.arg("--config").arg(self.dir.join("tidegate.toml"));
        printed(&command.output().unwrap())
    }

    /// Enrols by a token that comes from a file.
    fn enrol(&self, token: &str) -> (i32, String) {
        let file = self.dir.join("token-to-use");
        std::fs::write(&file, token).unwrap();
        let done = self.identity(&["enrol", "--token-file", file.to_str().unwrap()]);
        assert!(!done.1.contains(token), "a token is printed: {}", done.1);
        done
    }

    fn generation(&self) -> Option<PathBuf> {
        std::fs::read_link(self.dir.join("identity/current")).ok()
    }

    fn count(&self, file: &str) -> usize {
        let text = std::fs::read_to_string(self.dir.join("identity").join(file)).unwrap();
        text.matches("BEGIN CERTIFICATE").count()
    }
}

fn printed(output: &Output) -> (i32, String) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
}

/// Nobody but the pinned authority hears of the token; each of its faults is told apart, and none
/// leaves a certificate behind; then a certificate is got, rehearsed and renewed.
#[tokio::test(flavor = "multi_thread")]
async fn our_client_gets_on_with_an_authority_by_other_hands_and_survives_its_faults() {
    let directory = tempfile::tempdir().unwrap();
    let family = Family::new().unwrap();
    let mut est = Est::start_below_root(&family, &directory.path().join("est")).await.unwrap();

    // Another root is pinned than the one that the server stands under.
    let stranger =
        Site::new(&family, &directory.path().join("stranger"), &est.url(), &est.foreign_pin());
    let (code, said) = stranger.enrol(&est.token().await.unwrap());
    assert!(code == 69 && said.contains("not the pinned authority"), "{code} {said}");
    for asked in est.log().await.unwrap() {
        assert!(asked["operation"] == "cacerts" && asked["authorization"].is_null(), "{asked}");
    }

    let site = Site::new(&family, &directory.path().join("gateway"), &est.url(), &est.pin());
    let endless = [("hang", 69, "no whole answer"), ("drip", 69, "no whole answer")];
    let faults = [
        ("junk", 69, "cannot be used"),
        ("empty", 69, "without a certificate"),
        ("large", 69, "more than"),
        ("cut", 69, "does not answer"),
        ("other-key", 1, "not taken"),
        ("wrong-name", 1, "Elsewhere/other"),
        ("no-client", 1, "clientAuth"),
        ("wrong-ca", 1, "not taken"),
        ("expired", 1, "not taken"),
        ("unavailable", 69, "503"),
        ("refuse", 1, "not today"),
        ("redirect", 1, "not followed"),
        ("pending", 1, "not decided"),
    ];
    // Each of those is waited for a minute.
    let endless = endless.iter().filter(|_| is_long());
    for (mode, expected, words) in faults.iter().chain(endless) {
        est.behave(mode).await.unwrap();
        let (code, said) = site.enrol(&est.token().await.unwrap());
        assert!(code == *expected && said.contains(words), "{mode}: {code} {said}");
        assert_eq!(site.generation(), None, "{mode}");
    }
    est.behave("ok").await.unwrap();
    let (code, said) = site.enrol("guessed");
    assert!(code == 1 && said.contains("401"), "{code} {said}");

    // A server that wants a Bearer's token, and says so.
    est.set(json!({ "auth": "bearer" })).await.unwrap();
    let (code, said) = site.enrol(&est.token().await.unwrap());
    assert_eq!(code, 0, "{said}");
    assert_eq!(site.generation(), Some("gen-1".into()));
    assert!(!site.dir.join("token-to-use").exists(), "a token that was used is removed");
    assert_eq!(site.count("gen-1/chain.pem"), 1, "the authority between it and the root");
    let root = std::fs::read_to_string(est.root()).unwrap();
    let roots = std::fs::read_to_string(site.dir.join("identity/roots.pem")).unwrap();
    assert_eq!((site.count("roots.pem"), roots.trim()), (1, root.trim()));

    let (code, said) = site.identity(&["rehearse"]);
    assert!(code == 0 && said.contains("would work until"), "{code} {said}");
    assert_eq!(site.generation(), Some("gen-1".into()));
    let (code, said) = site.identity(&["renew"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(site.generation(), Some("gen-2".into()));
    let granted = est.granted().await.unwrap();
    let last: Vec<_> = granted.iter().rev().take(3).collect();
    assert_eq!(last[0]["operation"], "simplereenroll");
    assert_eq!((&last[0]["shown"], &last[0]["subject"]), (&json!(SUBJECT), &json!(SUBJECT)));
    // The certificate of the enrolment was shown, not that of the rehearsal.
    assert_eq!(last[0]["shown-serial"], last[2]["serial"]);
    assert_eq!(last[0]["tls"], "TLSv1.3");

    est.revoke(last[0]["serial"].as_str().unwrap()).await.unwrap();
    let (code, said) = site.identity(&["renew"]);
    assert!(code == 1 && said.contains("revoked"), "{code} {said}");
    est.switch_off().unwrap();
    let (code, said) = site.identity(&["renew"]);
    assert!(code == 69 && said.contains("does not answer"), "{code} {said}");
    assert_eq!(site.generation(), Some("gen-2".into()));
}

/// Our authority, and a client by other hands.
struct Ca {
    family: Arc<Family>,
    hub: PathBuf,
    url: String,
    root: PathBuf,
    process: Process,
}

impl Ca {
    async fn start(family: &Arc<Family>, dir: &Path) -> Self {
        let hub = dir.join("hub");
        let mut init = family.command(tools::gateway().unwrap());
        init.args(["hub", "init", "--host", "127.0.0.1", "--dir"]).arg(&hub);
        let (code, said) = printed(&init.output().unwrap());
        assert_eq!(code, 0, "{said}");
        let mut serve = family.command(tools::gateway().unwrap());
        serve.args(["hub", "ca", "serve", "--listen", "127.0.0.1:0", "--json", "--lasts", "1h"]);
        serve.arg("--dir").arg(&hub);
        let process = Process::start(family, "hub ca serve", serve, &dir.join("ca.log")).unwrap();
        let serving = wait::until(wait::SOON, "EST is served", || {
            let said = process.printed_since(0);
            async move {
                let said = said?;
                let line = said.lines().find(|line| line.starts_with('{'));
                Ok(line.map(serde_json::from_str::<Value>).transpose()?)
            }
        })
        .await
        .unwrap();
        let root = hub.join("ca.pem");
        let text = |key: &str| serving[key].as_str().unwrap().to_owned();
        assert_eq!(text("pin").len(), 64);
        Self { family: Arc::clone(family), hub, url: text("est"), root, process }
    }

    /// `tidegate hub ca …`.
    fn ca(&self, words: &[&str]) -> (i32, String) {
        let mut command = self.family.command(tools::gateway().unwrap());
        command.args(["hub", "ca"]).args(words).arg("--dir").arg(&self.hub);
        printed(&command.output().unwrap())
    }

    fn token(&self) -> String {
        let (code, said) = self.ca(&["token", GATEWAY]);
        assert_eq!(code, 0, "{said}");
        said.trim().to_owned()
    }

    /// What a client by other hands is told.
    fn client(&self, words: &[&str]) -> Value {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("est/est_client.py");
        let mut command = self.family.command(tools::python().unwrap());
        command.arg(script).args(["--url", &self.url, "--root"]).arg(&self.root).args(words);
        let output = command.output().unwrap();
        let (_, said) = printed(&output);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{words:?}: {said}"))
    }

    #[track_caller]
    fn refuses(&self, status: u16, words: &[&str]) -> Value {
        let told = self.client(words);
        assert_eq!(told["status"], status, "{words:?}: {told}");
        told
    }
}

/// A token is good once, for one name; a request gives its key and nothing else; what is revoked is
/// not renewed and stands in a list that others can check.
#[tokio::test(flavor = "multi_thread")]
async fn our_authority_gets_on_with_a_client_by_other_hands_and_gives_it_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let family = Family::new().unwrap();
    let ca = Ca::start(&family, directory.path()).await;
    let own = directory.path().join("own");
    let (own, cert) = (own.to_str().unwrap(), format!("{}.pem", own.display()));
    let key = format!("{own}.key");
    let subject = "PlantA/gw-line3,Tidegate";

    let told = ca.client(&["cacerts"]);
    assert_eq!(told["kind"], "application/pkcs7-mime; smime-type=certs-only");
    let root = std::fs::read_to_string(&ca.root).unwrap();
    assert_eq!(told["roots"][0]["pem"].as_str().unwrap().trim(), root.trim());

    let told = ca.refuses(401, &["enroll"]);
    assert!(told["challenge"].as_str().unwrap().starts_with("Basic"), "{told}");
    ca.refuses(401, &["enroll", "--token", "guessed"]);
    let token = ca.token();
    // None of these costs the token.
    ca.refuses(403, &["enroll", "--token", &token, "--subject", "PlantA/other,Tidegate"]);
    ca.refuses(400, &["enroll", "--token", &token, "--forge"]);
    ca.refuses(400, &["enroll", "--token", &token, "--kind", "ed25519"]);
    ca.refuses(413, &["enroll", "--token", &token, "--padding", "20000"]);
    let greedy = ["--san", "hub.example.com", "--san", "admin", "--keep", own];
    let enroll = ["enroll", "--token", &token, "--subject", subject];
    let got = ca.client(&[&enroll[..], &greedy].concat());
    assert_eq!((&got["status"], &got["subject"]), (&json!(200), &json!(SUBJECT)), "{got}");
    assert_eq!(got["names"], json!(["urn:tidegate:PlantA:gw-line3"]));
    assert_eq!((&got["usages"], &got["own-key"]), (&json!(["clientAuth"]), &json!(true)));
    assert_eq!(got["lasts"], 3_900.0, "an hour, and five minutes for clocks that differ");
    let spent = ca.refuses(401, &enroll);
    assert!(spent["said"].as_str().unwrap().contains("used"), "{spent}");
    let bearer = ["enroll", "--scheme", "bearer", "--token", &ca.token()];
    assert_eq!(ca.client(&bearer)["status"], 200, "the name is the authority's to write");

    let shown = ["--cert", &cert, "--key", &key];
    let renewed = ca.client(&[&["reenroll", "--subject", subject][..], &shown].concat());
    assert_eq!((&renewed["status"], &renewed["subject"]), (&json!(200), &json!(SUBJECT)));
    ca.refuses(403, &["reenroll", "--subject", subject]);
    let other = ["reenroll", "--subject", "PlantA/other,Tidegate"];
    ca.refuses(403, &[&other[..], &shown].concat());
    // Somebody with a certificate of his own making gets no further than TLS.
    let made = KeyPair::generate().unwrap();
    let forged = CertificateParams::new(vec!["gw".to_owned()]).unwrap().self_signed(&made).unwrap();
    let (forged_cert, forged_key) =
        (directory.path().join("forged.pem"), directory.path().join("forged.key"));
    std::fs::write(&forged_cert, forged.pem()).unwrap();
    std::fs::write(&forged_key, made.serialize_pem()).unwrap();
    let forged = ["--cert", forged_cert.to_str().unwrap(), "--key", forged_key.to_str().unwrap()];
    let told = ca.client(&[&["reenroll", "--subject", subject][..], &forged].concat());
    assert!(told["tls"].is_string(), "{told}");

    let (code, said) = ca.ca(&["revoke", GATEWAY]);
    assert!(code == 0 && said.contains(got["serial"].as_str().unwrap()), "{code} {said}");
    let told = ca.refuses(403, &[&["reenroll", "--subject", subject][..], &shown].concat());
    assert!(told["said"].as_str().unwrap().contains("revoked"), "{told}");
    let list = ca.client(&["crl"]);
    assert_eq!((&list["signed"], &list["issuer"]), (&json!(true), &json!(true)), "{list}");
    for one in [&got, &renewed] {
        assert!(list["serials"].as_array().unwrap().contains(&one["serial"]), "{list}");
    }

    // One line for each certificate and refusal; a secret in none.
    let log = ca.process.printed_since(0).unwrap();
    assert!(log.contains("issued a certificate") && log.contains("refused"), "{log}");
    assert!(!log.contains(&token) && !log.contains("guessed"), "{log}");
}
