use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::UnixTime;
use tokio::net::TcpListener;

use super::*;
use crate::lab::{Issued, LabCa, Lifetime};

const NOW: u64 = 1_800_000_000;
const DAY: Duration = Duration::from_secs(86_400);

#[derive(Debug)]
struct At(u64);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0)))
    }
}

fn lifetime() -> Lifetime {
    Lifetime::from(SystemTime::UNIX_EPOCH + Duration::from_secs(NOW) - DAY).lasting(2 * DAY)
}

/// What the server was asked.
#[derive(Debug, Clone)]
struct Asked {
    path: String,
    headers: HeaderMap,
    body: Vec<u8>,
    shown: Option<String>,
}

type Script = Arc<dyn Fn(&Asked) -> Response<Full<Bytes>> + Send + Sync>;

/// A scripted server: what it answers, and what it was asked.
struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    _task: Task,
}

/// Ends with the test.
struct Task(tokio::task::JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Server {
    async fn start(certificate: &Issued, clients: Option<&LabCa>, script: Script) -> Self {
        let identity = certificate.identity().unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let building =
            rustls::ServerConfig::builder_with_details(provider.clone(), Arc::new(At(NOW)))
                .with_safe_default_protocol_versions()
                .unwrap();
        let building = match clients {
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                roots.add(ca.certificate()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .allow_unauthenticated()
                        .build()
                        .unwrap();
                building.with_client_cert_verifier(verifier)
            }
            None => building.with_no_client_auth(),
        };
        let shown = rustls::sign::SingleCertAndKey::from(identity.certified().unwrap());
        let config = building.with_cert_resolver(Arc::new(shown));
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (acceptor, script, seen) = (acceptor.clone(), script.clone(), seen.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(tcp).await else { return };
                    let shown = stream
                        .get_ref()
                        .1
                        .peer_certificates()
                        .map(|all| crate::CertificateFacts::of(&all[0]).unwrap().subject);
                    let answer = service_fn(|request: Request<Incoming>| {
                        let (script, seen, shown) = (script.clone(), seen.clone(), shown.clone());
                        async move {
                            let (head, body) = request.into_parts();
                            let body = body.collect().await.unwrap().to_bytes().to_vec();
                            let path = head.uri.path().to_owned();
                            let asked = Asked { path, headers: head.headers, body, shown };
                            seen.lock().unwrap().push(asked.clone());
                            Ok::<_, Infallible>(script(&asked))
                        }
                    });
                    let _ =
                        http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
                });
            }
        });
        Self { address, asked, _task: Task(task) }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    fn paths(&self) -> Vec<String> {
        self.asked().iter().map(|one| one.path.rsplit('/').next().unwrap().to_owned()).collect()
    }

    fn plan(&self) -> EstPlan {
        EstPlan {
            url: format!("https://{}", self.address).parse().unwrap(),
            roots: Vec::new(),
            pins: Vec::new(),
            time: Arc::new(At(NOW)),
            limits: EstLimits::default(),
        }
    }
}

fn answer(status: u16, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::new(body.into())).unwrap()
}

fn challenge(schemes: &str) -> Response<Full<Bytes>> {
    let response = Response::builder().status(401).header("WWW-Authenticate", schemes);
    response.body(Full::new(Bytes::from_static(b"say who you are"))).unwrap()
}

fn packed(certificates: &[CertificateDer<'static>]) -> String {
    BASE64.encode(envelope(certificates))
}

/// A certificate of `ca` for the key of the request in the body.
fn signed(ca: &LabCa, asked: &Asked) -> CertificateDer<'static> {
    let der = pkcs7::bare(&asked.body).unwrap();
    ca.sign(&der.into(), "P/g", lifetime()).unwrap()
}

struct Lab {
    ca: Arc<LabCa>,
    server: Server,
}

impl Lab {
    /// A server that offers its root and signs whatever it is sent.
    async fn new() -> Self {
        Self::answering(|ca, asked| answer(200, packed(&[signed(ca, asked)]))).await
    }

    async fn answering(
        enrol: impl Fn(&LabCa, &Asked) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        let ca = Arc::new(LabCa::new("lab", lifetime()).unwrap());
        let signing = Arc::clone(&ca);
        let script = move |asked: &Asked| {
            if asked.path.ends_with("/cacerts") {
                return answer(200, packed(&[signing.certificate()]));
            }
            enrol(&signing, asked)
        };
        let own = ca.hub("ca", &["127.0.0.1"], lifetime()).unwrap();
        let server = Server::start(&own, Some(&ca), Arc::new(script)).await;
        Self { ca, server }
    }

    fn pin(&self) -> Thumbprint {
        Thumbprint::of(&self.ca.certificate())
    }

    fn pinning(&self) -> EstClient {
        EstClient::new(EstPlan { pins: vec![self.pin()], ..self.server.plan() })
    }

    fn trusting(&self) -> EstClient {
        EstClient::new(EstPlan { roots: vec![self.ca.certificate()], ..self.server.plan() })
    }
}

fn request() -> CertificateRequest {
    CertificateRequest::new("P/g", &[]).unwrap()
}

fn token() -> Token {
    Token::new("canary").unwrap()
}

#[tokio::test]
async fn a_pinned_root_is_found_and_a_token_buys_a_certificate() {
    let lab = Lab::new().await;
    let client = lab.pinning();
    assert_eq!(client.roots().await.unwrap(), [lab.ca.certificate()]);
    let request = request();
    let signed = client.enrol(&request, Warrant::Token(&token())).await.unwrap();
    assert!(signed.chain.is_empty());
    assert_eq!(request.accept(&signed).unwrap().facts().subject, "CN=P/g,O=Tidegate");
    assert_eq!(lab.server.paths(), ["cacerts", "cacerts", "simpleenroll"]);
    let asked = lab.server.asked().pop().unwrap();
    assert_eq!(asked.headers["authorization"], format!("Basic {}", BASE64.encode("P/g:canary")));
    assert_eq!(asked.headers["content-type"], "application/pkcs10");
    assert_eq!(asked.shown, None);
}

#[tokio::test]
async fn a_token_with_a_colon_is_user_and_password() {
    let lab = Lab::new().await;
    let token = Token::new("estuser:estpwd").unwrap();
    lab.trusting().enrol(&request(), Warrant::Token(&token)).await.unwrap();
    let asked = lab.server.asked().pop().unwrap();
    assert_eq!(
        asked.headers["authorization"],
        format!("Basic {}", BASE64.encode("estuser:estpwd"))
    );
}

#[tokio::test]
async fn a_token_is_a_bearers_where_the_server_says_so() {
    let lab = Lab::answering(|ca, asked| {
        let is_bearer = asked.headers["authorization"] == "Bearer canary";
        if is_bearer {
            answer(200, packed(&[signed(ca, asked)]))
        } else {
            challenge("Bearer realm=\"est\"")
        }
    })
    .await;
    lab.pinning().enrol(&request(), Warrant::Token(&token())).await.unwrap();
    // A server that takes both has refused the token as such.
    let lab = Lab::answering(|_, _| challenge("Basic realm=\"est\", Bearer realm=\"est\"")).await;
    let error = lab.pinning().enrol(&request(), Warrant::Token(&token())).await.unwrap_err();
    assert!(matches!(error, AuthorityError::Refused { status: 401, .. }), "{error}");
    assert_eq!(lab.server.paths(), ["cacerts", "simpleenroll"]);
}

#[tokio::test]
async fn no_token_goes_to_a_server_that_is_not_the_pinned_one() {
    let lab = Lab::new().await;
    let other = LabCa::new("lab", lifetime()).unwrap();
    let pins = vec![Thumbprint::of(&other.certificate())];
    let plans = [
        EstPlan { pins: pins.clone(), ..lab.server.plan() },
        EstPlan { roots: vec![other.certificate()], pins, ..lab.server.plan() },
        EstPlan { roots: vec![other.certificate()], ..lab.server.plan() },
        lab.server.plan(),
    ];
    for plan in plans {
        let client = EstClient::new(plan);
        let error = client.enrol(&request(), Warrant::Token(&token())).await.unwrap_err();
        assert!(matches!(error, AuthorityError::Untrusted { .. }), "{error}");
        let error = client.roots().await.unwrap_err();
        assert!(matches!(error, AuthorityError::Untrusted { .. }), "{error}");
    }
    assert!(lab.server.asked().iter().all(|one| one.path.ends_with("/cacerts")));
    assert!(lab.server.asked().iter().all(|one| !one.headers.contains_key("authorization")));
}

#[tokio::test]
async fn who_relays_the_pinned_root_without_its_certificate_is_told_no_token() {
    // It knows the right root, as everybody may, but has no certificate of it.
    let (right, own) =
        (LabCa::new("lab", lifetime()).unwrap(), LabCa::new("lab", lifetime()).unwrap());
    let offered = packed(&[right.certificate()]);
    let certificate = own.hub("ca", &["127.0.0.1"], lifetime()).unwrap();
    let server =
        Server::start(&certificate, None, Arc::new(move |_| answer(200, offered.clone()))).await;
    let pins = vec![Thumbprint::of(&right.certificate())];
    let client = EstClient::new(EstPlan { pins, ..server.plan() });
    let error = client.enrol(&request(), Warrant::Token(&token())).await.unwrap_err();
    assert!(
        matches!(&error, AuthorityError::Untrusted { why, .. } if why.contains("none of the trusted roots")),
        "{error}"
    );
    assert_eq!(server.paths(), ["cacerts"]);
}

#[tokio::test]
async fn a_renewal_shows_the_certificate_and_an_untrusted_one_is_refused_by_tls() {
    let lab = Lab::answering(|ca, asked| match &asked.shown {
        Some(subject) if subject == "CN=P/g,O=Tidegate" => {
            answer(200, packed(&[signed(ca, asked)]))
        }
        _ => answer(403, "show it"),
    })
    .await;
    let own = lab.ca.gateway("P/g", lifetime()).unwrap().identity().unwrap();
    let request = request();
    for (by, path) in
        [(Warrant::Renewal(&own), "simplereenroll"), (Warrant::Bootstrap(&own), "simpleenroll")]
    {
        let signed = lab.trusting().enrol(&request, by).await.unwrap();
        request.accept(&signed).unwrap();
        assert_eq!(lab.server.paths().pop().as_deref(), Some(path));
    }
    let stranger = LabCa::new("other", lifetime()).unwrap();
    let stranger = stranger.gateway("P/g", lifetime()).unwrap().identity().unwrap();
    let expired = lab.ca.gateway("P/g", lifetime().lasting(DAY / 2)).unwrap().identity().unwrap();
    for (identity, said) in [(&stranger, "does not know"), (&expired, "expired")] {
        let error = lab.trusting().enrol(&request, Warrant::Renewal(identity)).await.unwrap_err();
        assert!(
            matches!(&error, AuthorityError::Refused { status: REFUSED_BY_TLS, .. }),
            "{error}"
        );
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[tokio::test]
async fn a_server_outside_its_time_or_for_another_host_is_not_trusted() {
    let lab = Lab::new().await;
    let roots = vec![lab.ca.certificate()];
    for (time, said) in [(NOW + 10 * 86_400, "expired"), (NOW - 10 * 86_400, "not valid yet")] {
        let time = Arc::new(At(time));
        let client = EstClient::new(EstPlan { roots: roots.clone(), time, ..lab.server.plan() });
        let error = client.roots().await.unwrap_err();
        assert!(
            matches!(&error, AuthorityError::Untrusted { why, .. } if why.contains(said)),
            "{error}"
        );
    }
    let url = format!("https://localhost:{}", lab.server.address.port()).parse().unwrap();
    let client = EstClient::new(EstPlan { roots, url, ..lab.server.plan() });
    let error = client.roots().await.unwrap_err();
    assert!(error.to_string().contains("another host"), "{error}");
}

#[tokio::test]
async fn intermediates_come_from_the_answer_or_from_cacerts() {
    // A root of the lab signs no authorities; this one stands below it and is taken as a root.
    let root = LabCa::new("lab", lifetime()).unwrap().below("root", lifetime());
    let middle = Arc::new(root.below("middle", lifetime()));
    let own = middle.hub("ca", &["127.0.0.1"], lifetime()).unwrap();
    for in_answer in [true, false] {
        let (signer, middle_der, root_der) =
            (middle.clone(), middle.certificate(), root.certificate());
        let script = move |asked: &Asked| {
            let offered = [middle_der.clone(), root_der.clone()];
            if asked.path.ends_with("/cacerts") {
                return answer(200, packed(&offered));
            }
            let mut all = vec![signed(&signer, asked)];
            if in_answer {
                all.splice(0..0, offered);
            }
            answer(200, packed(&all))
        };
        let shown = Issued {
            certificate_pem: own.certificate_pem.clone() + &middle.certificate_pem(),
            key_pem: own.key_pem.clone(),
        };
        let server = Server::start(&shown, None, Arc::new(script)).await;
        let client = EstClient::new(EstPlan { roots: vec![root.certificate()], ..server.plan() });
        let request = request();
        let signed = client.enrol(&request, Warrant::Token(&token())).await.unwrap();
        assert_eq!(signed.chain, [middle.certificate()]);
        assert_eq!(request.accept(&signed).unwrap().chain().len(), 2);
        assert_eq!(server.paths().len(), if in_answer { 1 } else { 2 });
    }
}

#[tokio::test]
async fn each_wrong_answer_is_named() {
    type Scripted = fn(&LabCa, &Asked) -> Response<Full<Bytes>>;
    let cases: [(Scripted, &str); 9] = [
        (|_, _| answer(200, "junk"), "cannot be used"),
        (|_, _| answer(200, ""), "cannot be used"),
        (|_, _| answer(200, packed(&[])), "without a certificate"),
        (|_, _| answer(200, vec![b'A'; 300 << 10]), "more than"),
        (|_, _| answer(202, ""), "not decided"),
        (|_, asked| answer(403, format!("no {:?}", asked.headers)), "refuses (403)"),
        (|_, _| answer(503, "busy"), "503"),
        (|_, _| answer(302, ""), "not followed"),
        (|_, _| answer(204, ""), "cannot be used"),
    ];
    for (script, said) in cases {
        let lab = Lab::answering(script).await;
        let error = lab.pinning().enrol(&request(), Warrant::Token(&token())).await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains(said), "{said}: {text}");
        assert!(!text.contains("canary"), "{text}");
        assert!(!text.contains(&BASE64.encode("P/g:canary")), "{text}");
    }
}

#[tokio::test]
async fn a_certificate_for_another_key_is_handed_on_and_then_not_accepted() {
    let lab = Lab::answering(|ca, _| {
        let other = ca.gateway("P/g", lifetime()).unwrap().identity().unwrap();
        answer(200, packed(&[other.chain()[0].clone()]))
    })
    .await;
    let request = request();
    let signed = lab.pinning().enrol(&request, Warrant::Token(&token())).await.unwrap();
    assert!(matches!(request.accept(&signed), Err(crate::NotAccepted::Key(_))));
}

#[tokio::test]
async fn silence_ends_at_the_limit_and_nobody_there_is_said_so() {
    let limits = EstLimits { connect: Duration::from_millis(80), ..EstLimits::default() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: EstUrl = format!("https://{}", listener.local_addr().unwrap()).parse().unwrap();
    let plan = EstPlan {
        url: url.clone(),
        roots: Vec::new(),
        pins: vec![Thumbprint([0; 32])],
        time: Arc::new(At(NOW)),
        limits,
    };
    let error = EstClient::new(plan.clone()).roots().await.unwrap_err();
    assert!(error.to_string().contains("no TLS handshake within"), "{error}");
    drop(listener);
    let error = EstClient::new(plan).roots().await.unwrap_err();
    assert!(matches!(error, AuthorityError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn an_answer_that_never_ends_is_given_up() {
    let lab = Lab::new().await;
    // Asked over TLS by somebody who takes no time at all.
    let limits = EstLimits { exchange: Duration::ZERO, ..EstLimits::default() };
    let plan = EstPlan { pins: vec![lab.pin()], limits, ..lab.server.plan() };
    let error = EstClient::new(plan).roots().await.unwrap_err();
    assert!(error.to_string().contains("no whole answer within"), "{error}");
}
