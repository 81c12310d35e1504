//! The gateway's own client against this server, and what others could send it.

use std::sync::Arc;

use rustls::time_provider::DefaultTimeProvider;
use tidegate_identity::est::{EstClient, EstLimits, EstPlan};
use tidegate_identity::opcua::Thumbprint;
use tidegate_identity::{
    Authority as _, AuthorityError, CertificateRequest, Identity, Token, Warrant,
};

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

struct Lab {
    dir: tempfile::TempDir,
    plan: EstPlan,
    stop: CancellationToken,
}

impl Lab {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca");
        let store = AuthorityStore::create(&ca, "lab", DAY * 30, SystemTime::now()).unwrap();
        let pins = vec![Thumbprint::of(&store.certificate())];
        let settings = EstSettings { hosts: vec!["127.0.0.1".to_owned()], lasts: DAY };
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = EstServer::bind(listen, store, settings).await.unwrap();
        let plan = EstPlan {
            url: format!("https://{}", server.address()).parse().unwrap(),
            roots: Vec::new(),
            pins,
            time: Arc::new(DefaultTimeProvider),
            limits: EstLimits::default(),
        };
        let stop = CancellationToken::new();
        tokio::spawn(server.serve(stop.clone()));
        Self { dir, plan, stop }
    }

    fn client(&self) -> EstClient {
        EstClient::new(self.plan.clone())
    }

    /// What another process would do in the folder.
    fn store(&self) -> AuthorityStore {
        AuthorityStore::open(self.dir.path().join("ca")).unwrap()
    }

    fn token(&self, gateway: &str) -> Token {
        self.store().token(gateway, DAY, SystemTime::now()).unwrap()
    }

    async fn enrolled(&self, gateway: &str) -> Identity {
        let request = request(gateway);
        let token = self.token(gateway);
        let signed = self.client().enrol(&request, Warrant::Token(&token)).await.unwrap();
        request.accept(&signed).unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn request(gateway: &str) -> CertificateRequest {
    CertificateRequest::new(gateway, &[]).unwrap()
}

fn refused(done: Result<tidegate_identity::Enrolled, AuthorityError>) -> (u16, String) {
    match done {
        Err(AuthorityError::Refused { status, said, .. }) => (status, said),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_gateway_enrols_once_with_its_token_and_renews_with_what_it_got() {
    let lab = Lab::new().await;
    let client = lab.client();
    assert_eq!(client.roots().await.unwrap(), [lab.store().certificate()]);
    let first = lab.enrolled("P/g").await;
    let asks = request("P/g");
    let signed = client.enrol(&asks, Warrant::Renewal(&first)).await.unwrap();
    let second = asks.accept(&signed).unwrap();
    assert_ne!(second.facts().serial, first.facts().serial);

    let token = lab.token("P/g");
    client.enrol(&asks, Warrant::Token(&token)).await.unwrap();
    let (status, said) = refused(client.enrol(&asks, Warrant::Token(&token)).await);
    assert!(status == 401 && said.contains("used"), "{status} {said}");
}

#[tokio::test]
async fn nobody_gets_a_certificate_of_another_name() {
    let lab = Lab::new().await;
    let client = lab.client();
    let own = lab.enrolled("P/g").await;
    let other = request("P/other");
    let (status, said) = refused(client.enrol(&other, Warrant::Renewal(&own)).await);
    assert!(status == 403 && said.contains("only its own"), "{status} {said}");
    let token = lab.token("P/g");
    let (status, _) = refused(client.enrol(&other, Warrant::Token(&token)).await);
    assert_eq!(status, 403);
    // A person's certificate of the same authority renews nothing.
    let person = lab.store().person("P/g", DAY, SystemTime::now()).unwrap().identity().unwrap();
    let (status, _) = refused(client.enrol(&request("P/g"), Warrant::Renewal(&person)).await);
    assert_eq!(status, 403);
}

#[tokio::test]
async fn a_revoked_certificate_is_not_renewed() {
    let lab = Lab::new().await;
    let own = lab.enrolled("P/g").await;
    lab.store().revoke_gateway("P/g", SystemTime::now()).unwrap();
    let (status, said) = refused(lab.client().enrol(&request("P/g"), Warrant::Renewal(&own)).await);
    assert!(status == 403 && said.contains("revoked"), "{status} {said}");
}

#[tokio::test]
async fn whoever_guesses_tokens_waits() {
    let lab = Lab::new().await;
    let client = lab.client();
    let guess = Token::new("guess").unwrap();
    for _ in 0..10 {
        assert_eq!(refused(client.enrol(&request("P/g"), Warrant::Token(&guess)).await).0, 401);
    }
    let done = client.enrol(&request("P/g"), Warrant::Token(&guess)).await;
    match done {
        Err(AuthorityError::Unreachable { why, .. }) => assert!(why.contains("429"), "{why}"),
        other => panic!("{other:?}"),
    }
}

fn asked(method: hyper::Method, path: &str, body: &[u8]) -> Asked {
    Asked {
        method,
        path: path.to_owned(),
        authorization: None,
        body: body.to_vec(),
        shown: None,
        lasts: DAY,
        now: SystemTime::now(),
    }
}

#[test]
fn what_is_no_request_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = AuthorityStore::create(dir.path().join("ca"), "lab", DAY, SystemTime::now());
    let store = store.unwrap();
    let status = |asked: &Asked| answer::decide(asked, &store).status.as_u16();
    let (get, post) = (hyper::Method::GET, hyper::Method::POST);
    let enrol = "/.well-known/est/simpleenroll";
    assert_eq!(status(&asked(get.clone(), "/", b"")), 404);
    assert_eq!(status(&asked(get.clone(), enrol, b"")), 405);
    assert_eq!(status(&asked(post.clone(), enrol, b"junk")), 401);
    assert_eq!(status(&asked(post.clone(), "/.well-known/est/simplereenroll", b"junk")), 403);
    assert_eq!(status(&asked(post.clone(), "/crl", b"")), 405);
    let token = store.token("P/g", DAY, SystemTime::now()).unwrap();
    let secret = Some(zeroize::Zeroizing::new(token.secret().to_owned()));
    let junk = Asked { authorization: secret, ..asked(post, enrol, b"junk") };
    assert_eq!(status(&junk), 400);
    assert_eq!(status(&asked(get.clone(), "/crl", b"")), 200);
    // The folder is gone: a stranger is told nothing of it.
    std::fs::remove_dir_all(dir.path().join("ca")).unwrap();
    let said = answer::decide(&asked(get, "/crl.pem", b""), &store);
    assert_eq!(said.status.as_u16(), 500);
    assert_eq!(said.body, b"the authority is out of order");
}
