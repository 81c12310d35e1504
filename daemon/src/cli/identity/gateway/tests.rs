use std::fs;
use std::sync::Mutex;

use clap::Parser as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::CertificateDer;
use serde_json::Value as Json;
use tidegate_identity::{Answer, CertificateRequest, Enrolled, Token, Warrant, pem_of_all};

use super::enrol::{Opener, enrol_at};
use super::renew::{Rehearsal, rehearse_at, renew_at};
use super::*;
use crate::cli::identity::{IdentityArgs, run};

const NOW: u64 = 1_800_000_000;
const DAY: u64 = 86_400;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    identity: IdentityArgs,
}

type Said = (u8, String, String);

/// An authority without a network.
#[derive(Debug)]
struct Scripted {
    issuer: CertifiedIssuer<'static, KeyPair>,
    lasts: u64,
    usage: ExtendedKeyUsagePurpose,
    /// By what each certificate was asked for.
    warrants: Mutex<Vec<String>>,
}

fn params(name: &str, lasts: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(NOW - DAY);
    params.not_after = epoch + Duration::from_secs(NOW + lasts);
    params
}

impl Scripted {
    fn new(lasts: u64) -> Self {
        let mut root = params("the root", 1_000 * DAY);
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(root, KeyPair::generate().unwrap()).unwrap();
        let usage = ExtendedKeyUsagePurpose::ClientAuth;
        Self { issuer, lasts, usage, warrants: Mutex::default() }
    }

    fn root(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    fn sign(&self, request: &CertificateRequest) -> CertificateDer<'static> {
        let asked = CertificateSigningRequestParams::from_der(request.der()).unwrap();
        let mut issued = params("", self.lasts);
        issued.distinguished_name = asked.params.distinguished_name.clone();
        issued.extended_key_usages = vec![self.usage.clone()];
        let asked = CertificateSigningRequestParams { params: issued, ..asked };
        asked.signed_by(&self.issuer).unwrap().der().clone()
    }
}

impl Authority for Scripted {
    fn roots(&self) -> Answer<'_, Vec<CertificateDer<'static>>> {
        Box::pin(std::future::ready(Ok(vec![self.root()])))
    }

    fn enrol<'a>(
        &'a self,
        request: &'a CertificateRequest,
        by: Warrant<'a>,
    ) -> Answer<'a, Enrolled> {
        self.warrants.lock().unwrap().push(format!("{by:?}"));
        let answer = match by {
            Warrant::Token(token) if token.secret() != "good-token" => {
                Err(AuthorityError::Refused {
                    authority: "it".to_owned(),
                    status: 401,
                    said: "no".to_owned(),
                })
            }
            _ => Ok(Enrolled { certificate: self.sign(request), chain: Vec::new() }),
        };
        Box::pin(std::future::ready(answer))
    }
}

struct Folder {
    dir: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        let folder = Self { dir: tempfile::tempdir().unwrap() };
        let config = "[gateway]\nplant = \"P\"\nname = \"g1\"\n[identity]\ndir = \"identity\"\n\
                      [opcua]\ndir = \"pki\"\n[control]\nsocket = \"control.sock\"\n";
        fs::write(folder.path("t.toml"), config).unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn identity(&self) -> IdentityFolder {
        IdentityFolder::at(self.path("identity"))
    }

    fn say(&self, line: &str) -> Said {
        let home = self.dir.path().to_str().unwrap();
        let line = format!("{line} --config HOME/t.toml");
        let words = line.split(' ').map(|word| word.replace("HOME", home));
        let line = Line::try_parse_from(std::iter::once("identity".to_owned()).chain(words));
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let surroundings = Surroundings { out: &mut out, err: &mut err, ..quiet() };
        let code = run(&line.unwrap().identity, surroundings).unwrap();
        (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    fn site(&self) -> Site {
        let set = SetArgs { set: Vec::new() };
        let args = GatewayArgs { config: self.path("t.toml"), dir: None, set };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut with = Surroundings { out: &mut out, err: &mut err, ..quiet() };
        args.site(&mut with).unwrap().ok().unwrap()
    }

    /// The certificate in a file of its own, and the authority's.
    fn put(&self, name: &str, certificates: &[CertificateDer<'static>]) {
        fs::write(self.path(name), pem_of_all(certificates)).unwrap();
    }
}

fn quiet() -> Surroundings<'static> {
    Surroundings {
        environment: Vec::new(),
        now: SystemTime::UNIX_EPOCH + Duration::from_secs(NOW),
        host: None,
        colour: false,
        out: Box::leak(Box::new(io::sink())),
        err: Box::leak(Box::new(io::sink())),
    }
}

fn token(text: &str) -> Opener {
    Opener::Token(Token::new(text).unwrap(), None)
}

#[test]
fn without_an_authority_a_request_is_made_signed_by_hand_and_its_certificate_taken() {
    let folder = Folder::new();
    let ca = Scripted::new(90 * DAY);
    let (code, out, err) = folder.say("show");
    assert_eq!(code, 1);
    assert!(out.contains("none: ") && err.contains("tidegate identity init"), "{out}{err}");
    folder.put("root.pem", &[ca.root()]);
    let (code, out, err) = folder.say("init --roots HOME/root.pem --host gw.example.com");
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(
        out.contains("trusted       CN=the root (") && out.contains("CN=P/g1,O=Tidegate"),
        "{out}"
    );
    assert!(folder.path("identity/pending/request.pem").is_file());
    let (code, _, err) = folder.say("init");
    assert_eq!((code, err.contains("--new-key")), (1, true), "{err}");
    let (_, out, _) = folder.say("show");
    assert!(out.contains("waiting       a request\n"), "{out}");

    let request = folder.identity().pending().unwrap().unwrap().request("P/g1", &[]).unwrap();
    folder.put("cert.pem", &[ca.sign(&request), ca.root()]);
    let (code, out, err) = folder.say("enrol --certificate HOME/cert.pem");
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("it counts now, as gen-1\n"), "{out}");
    let loaded = folder.identity().generations().load().unwrap();
    assert_eq!(loaded.identity.chain().len(), 1, "the root is not sent to hubs");
    let (code, out, err) = folder.say("show");
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    for line in [
        "subject       CN=P/g1,O=Tidegate\n",
        "generation    gen-1\n",
        "90 d 0 h left\n",
        "authority     none",
    ] {
        assert!(out.contains(line), "no {line:?} in {out}");
    }
    let (code, _, err) = folder.say("enrol --certificate HOME/cert.pem");
    assert_eq!((code, err.contains("no key waits")), (1, true), "{err}");
}

#[test]
fn a_certificate_that_is_of_no_use_is_named_and_the_key_goes_on_waiting() {
    let folder = Folder::new();
    let (ca, other) = (Scripted::new(90 * DAY), Scripted::new(90 * DAY));
    folder.put("root.pem", &[ca.root()]);
    folder.say("init --roots HOME/root.pem");
    let request = folder.identity().pending().unwrap().unwrap().request("P/g1", &[]).unwrap();
    let server = Scripted { usage: ExtendedKeyUsagePurpose::ServerAuth, ..Scripted::new(DAY) };
    let foreign = CertificateRequest::new("P/g1", &[]).unwrap();
    for (certificate, why) in [
        (other.sign(&request), "leads to no trusted root"),
        (server.sign(&request), "clientAuth"),
        (ca.sign(&foreign), "does not belong to the key"),
    ] {
        folder.put("cert.pem", &[certificate]);
        let (code, _, err) = folder.say("enrol --certificate HOME/cert.pem");
        assert_eq!((code, err.contains(why)), (1, true), "{why}: {err}");
        assert!(folder.identity().pending().unwrap().is_some());
        assert!(folder.identity().generations().current().is_err());
    }
    fs::write(folder.path("cert.pem"), "junk").unwrap();
    assert_eq!(folder.say("enrol --certificate HOME/cert.pem").0, 2);
}

#[tokio::test]
async fn a_token_enrols_once_and_is_destroyed_wherever_it_lay() {
    let folder = Folder::new();
    let ca = Scripted::new(90 * DAY);
    let site = folder.site();
    let open = IdentityFolder::open(site.folder.dir()).unwrap();
    open.store_token(&Token::new("good-token").unwrap()).unwrap();
    let file = folder.path("token.txt");
    fs::write(&file, "good-token\n").unwrap();

    let refused = enrol_at(&site, &ca, &token("bad-token"), &[]).await.err().unwrap();
    assert_eq!(refused.code, NO);
    assert!(refused.text.contains("refuses (401)") && !refused.text.contains("bad-token"));
    assert!(open.token().unwrap().is_some(), "a token that was not used is kept");

    let opener = Opener::Token(Token::new("good-token").unwrap(), Some(file.clone()));
    let got = enrol_at(&site, &ca, &opener, &[]).await.unwrap();
    assert_eq!(got.generation, Some(1));
    assert!(
        got.remarks.iter().any(|text| text.contains("token.txt was used up")),
        "{:?}",
        got.remarks
    );
    assert!(!file.exists() && open.token().unwrap().is_none());
    assert_eq!(open.roots().unwrap(), [ca.root()]);
    assert!(open.pending().unwrap().is_none());
    assert!(ca.warrants.lock().unwrap().iter().all(|by| by == "Token(Token(..))"));
}

#[tokio::test]
async fn a_renewal_uses_a_new_key_and_the_former_generation_stays() {
    let folder = Folder::new();
    let ca = Scripted::new(90 * DAY);
    let site = folder.site();
    assert!(renew_at(&site, &ca).await.err().unwrap().text.contains("no certificate to renew"));
    enrol_at(&site, &ca, &token("good-token"), &[]).await.unwrap();
    let first = fs::read(folder.path("identity/current/key.pem")).unwrap();
    let got = renew_at(&site, &ca).await.unwrap();
    assert_eq!(got.generation, Some(2));
    assert_ne!(fs::read(folder.path("identity/current/key.pem")).unwrap(), first);
    assert!(folder.path("identity/gen-1/key.pem").is_file());
}

#[tokio::test]
async fn while_the_daemon_runs_a_new_certificate_is_left_for_it_to_try() {
    let folder = Folder::new();
    let ca = Scripted::new(90 * DAY);
    let site = folder.site();
    let _daemon = std::os::unix::net::UnixListener::bind(folder.path("control.sock")).unwrap();
    let got = enrol_at(&site, &ca, &token("good-token"), &[]).await.unwrap();
    assert_eq!(got.generation, Some(1), "the first one replaces nothing");
    let got = renew_at(&site, &ca).await.unwrap();
    assert_eq!(got.generation, None);
    assert_eq!(site.folder.generations().current().unwrap().0, 1);
    assert!(site.folder.pending().unwrap().unwrap().certificate.unwrap().is_ok());
    let (_, out, _) = folder.say("show");
    assert!(out.contains("waiting       a certificate, to be tried on the hub\n"), "{out}");
    let (code, _, err) = folder.say("wipe --yes");
    assert_eq!((code, err.contains("systemctl stop tidegate")), (1, true), "{err}");
}

#[tokio::test]
async fn a_rehearsal_says_until_when_it_would_work_and_keeps_nothing() {
    let folder = Folder::new();
    let mut ca = Scripted::new(90 * DAY);
    let site = folder.site();
    enrol_at(&site, &ca, &token("good-token"), &[]).await.unwrap();
    let files = || {
        let dir = fs::read_dir(folder.path("identity")).unwrap();
        let mut names: Vec<_> = dir.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = files();
    ca.lasts = 10 * DAY;
    let Rehearsal { facts, until, remarks, .. } = rehearse_at(&site, &ca).await.unwrap();
    assert_eq!(until, SystemTime::UNIX_EPOCH + Duration::from_secs(NOW + 90 * DAY));
    assert_eq!(facts.not_after, SystemTime::UNIX_EPOCH + Duration::from_secs(NOW + 10 * DAY));
    assert!(remarks[0].contains("can outlast one"), "{remarks:?}");
    ca.usage = ExtendedKeyUsagePurpose::ServerAuth;
    let error = rehearse_at(&site, &ca).await.err().unwrap();
    assert!(
        error.text.contains("would not work: the certificate may not be used"),
        "{}",
        error.text
    );
    assert_eq!(files(), before);
    assert_eq!(site.folder.generations().current().unwrap().0, 1);
}

#[tokio::test]
async fn show_says_what_is_wrong_in_words_and_in_json_and_never_a_key() {
    let folder = Folder::new();
    let ca = Scripted::new(90 * DAY);
    enrol_at(&folder.site(), &ca, &token("good-token"), &[]).await.unwrap();
    folder.identity().store_roots(&[Scripted::new(1).root()]).unwrap();
    folder.identity().store_token(&Token::new("sesame-4711").unwrap()).unwrap();
    fs::write(folder.path("identity/state.json"), r#"{"last-error":"away","failures":3}"#).unwrap();
    let (code, out, err) = folder.say("show");
    assert_eq!(code, 1);
    assert!(err.contains("wrong: the certificate, signed by CN=the root, leads to no"), "{err}");
    assert!(out.contains("last error    away (3 failures)\n"), "{out}");
    assert!(out.contains("enrols by     a token\n"), "{out}");
    let (code, json, _) = folder.say("show --json");
    assert_eq!(code, 1);
    let tree: Json = serde_json::from_str(&json).unwrap();
    assert_eq!(tree["findings"][0]["alarm"], "identity-wrong-ca");
    assert_eq!((&tree["current"]["generation"], &tree["token"]), (&1.into(), &true.into()));
    assert_eq!(tree["current"]["days_left"], 90.0);
    let key = fs::read_to_string(folder.path("identity/current/key.pem")).unwrap();
    let secret = key.lines().nth(1).unwrap();
    for text in [&out, &err, &json] {
        assert!(!text.contains(secret) && !text.contains("sesame-4711"), "{text}");
    }
}

#[tokio::test]
async fn a_wipe_leaves_no_key_of_either_kind() {
    let folder = Folder::new();
    let ca = Scripted::new(90 * DAY);
    enrol_at(&folder.site(), &ca, &token("good-token"), &[]).await.unwrap();
    let own = folder.path("pki/own");
    let request = CertificateRequest::new("P/g1", &[]).unwrap();
    let cert = pem_of_all(&[ca.sign(&request)]);
    let store = IdentityFolder::open(&own).unwrap().generations();
    store.install(request.key_pem().as_bytes(), cert.as_bytes(), b"").unwrap();
    let (code, _, err) = folder.say("wipe");
    assert_eq!((code, err.contains("--yes")), (2, true), "{err}");
    assert!(folder.path("identity/current/key.pem").exists());
    let (code, out, err) = folder.say("wipe --yes");
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("tidegate hub revoke P/g1"), "{out}");
    assert!(!folder.path("identity/gen-1").exists() && !own.join("gen-1").exists());
}

#[test]
fn roots_that_are_not_pinned_are_refused_where_pins_are_configured() {
    let folder = Folder::new();
    let (ca, other) = (Scripted::new(DAY), Scripted::new(DAY));
    let pin = Thumbprint::of(&ca.root()).to_string();
    let text = fs::read_to_string(folder.path("t.toml")).unwrap();
    let section = format!("[identity]\nest = \"https://127.0.0.1:1\"\nca-pins = [\"{pin}\"]");
    fs::write(folder.path("t.toml"), text.replace("[identity]", &section)).unwrap();
    folder.put("other.pem", &[other.root()]);
    let (code, _, err) = folder.say("init --roots HOME/other.pem");
    assert_eq!((code, err.contains("not in [identity] ca-pins")), (1, true), "{err}");
    assert!(!folder.path("identity/roots.pem").exists());
    folder.put("root.pem", &[ca.root()]);
    assert_eq!(folder.say("init --roots HOME/root.pem").0, 0);
    let (code, _, err) = folder.say("enrol");
    assert_eq!((code, err.contains("--token-file FILE")), (2, true), "{err}");
    fs::write(folder.path("token"), "good-token").unwrap();
    let (code, _, err) = folder.say("enrol --token-file HOME/token");
    assert_eq!((code, err.contains("does not answer")), (69, true), "{err}");
    assert!(folder.path("token").exists(), "a token that was not used is kept");
}
