use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::gate::Gate;

type Issuer = CertifiedIssuer<'static, KeyPair>;
type Pair = (CertificateDer<'static>, PrivateKeyDer<'static>);

const NAME: &str = "plc.example";

fn authority() -> Issuer {
    named("authority")
}

fn named(name: &str) -> Issuer {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for `name`, valid in these years.
fn issue(authority: &Issuer, name: &str, years: std::ops::Range<i32>) -> Pair {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.not_before = date_time_ymd(years.start, 1, 1);
    params.not_after = date_time_ymd(years.end, 1, 1);
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
}

fn roots(authority: &Issuer) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    roots
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];
const OLD: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];

struct Device {
    versions: &'static [&'static SupportedProtocolVersion],
    pair: Pair,
    /// Whose clients it accepts; everybody when `None`.
    clients: Option<RootCertStore>,
}

impl Device {
    /// Serves one connection: echoes a request's header with an exception.
    async fn serve(self) -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint =
            Endpoint { host: "127.0.0.1".into(), port: listener.local_addr().unwrap().port() };
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(self.versions)
            .unwrap();
        let builder = match self.clients {
            Some(roots) => {
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(roots.into(), provider());
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
            None => builder.with_no_client_auth(),
        };
        let config = builder.with_single_cert(vec![self.pair.0], self.pair.1).unwrap();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await else {
                return;
            };
            let mut request = [0; 12];
            if stream.read_exact(&mut request).await.is_ok() {
                let no = [&request[..4], &[0, 3, request[6], request[7] | 0x80, 2]].concat();
                stream.write_all(&no).await.unwrap();
                stream.flush().await.unwrap();
                let _ = stream.read(&mut request).await;
            }
        });
        endpoint
    }
}

/// Trusts and shows what the test says.
struct Prepared(Arc<ClientConfig>);

impl TlsSource for Prepared {
    fn config(&self, _: &TlsSpec) -> Result<Arc<ClientConfig>, Box<dyn Error + Send + Sync>> {
        Ok(Arc::clone(&self.0))
    }
}

fn spec(shows: bool) -> TlsSpec {
    let identity = shows.then(|| ("cert.pem".into(), "key.pem".into()));
    TlsSpec { ca: "ca.pem".into(), identity, server_name: Some(NAME.into()) }
}

fn dialer(to: &Endpoint, trusted: &Issuer, shown: Option<Pair>) -> TlsDialer {
    let shows = shown.is_some();
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(BOTH)
        .unwrap()
        .with_root_certificates(roots(trusted));
    let config = match shown {
        Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    TlsDialer::new(to, spec(shows), Arc::new(Prepared(Arc::new(config))))
}

/// Dials and asks once, through the gate of Modbus TCP; returns the answer, or all that the error
/// says.
async fn ask(dialer: &TlsDialer) -> Result<Vec<u8>, String> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let stream = dialer.dial(deadline).await.map_err(|error| error.to_string())?;
    let mut gate = Gate::new(stream, 7);
    let asked = async {
        gate.write_all(&[0, 1, 0, 0, 0, 6, 9, 3, 0, 0, 0, 1]).await?;
        gate.flush().await?;
        let mut answer = vec![0; 9];
        gate.read_exact(&mut answer).await?;
        Ok(answer)
    };
    asked.await.map_err(|error: io::Error| {
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted, "{error}");
        error.to_string()
    })
}

const NO: [u8; 9] = [0, 1, 0, 0, 0, 3, 9, 0x83, 2];

#[tokio::test]
async fn a_device_that_proves_itself_is_asked_with_either_version() {
    for versions in [BOTH, OLD] {
        let ca = authority();
        let pair = issue(&ca, NAME, 2020..2100);
        let to = Device { versions, pair, clients: None }.serve().await;
        assert_eq!(ask(&dialer(&to, &ca, None)).await.unwrap(), NO);
    }
}

#[tokio::test]
async fn both_sides_prove_themselves_with_either_version() {
    for versions in [BOTH, OLD] {
        let ca = authority();
        let pair = issue(&ca, NAME, 2020..2100);
        let to = Device { versions, pair, clients: Some(roots(&ca)) }.serve().await;
        let ours = issue(&ca, "gateway.example", 2020..2100);
        assert_eq!(ask(&dialer(&to, &ca, Some(ours))).await.unwrap(), NO);
    }
}

#[tokio::test]
async fn a_device_that_wants_our_certificate_says_so() {
    for versions in [BOTH, OLD] {
        let ca = authority();
        let pair = issue(&ca, NAME, 2020..2100);
        let to = Device { versions, pair, clients: Some(roots(&ca)) }.serve().await;
        let error = ask(&dialer(&to, &ca, None)).await.unwrap_err();
        assert!(error.contains("wants a certificate of ours; set tls.cert"), "{error}");
    }
}

#[tokio::test]
async fn a_certificate_of_ours_that_expired_or_is_unknown_is_told() {
    for versions in [BOTH, OLD] {
        let ca = authority();
        let device = || {
            let pair = issue(&ca, NAME, 2020..2100);
            Device { versions, pair, clients: Some(roots(&ca)) }.serve()
        };
        let expired = issue(&ca, "gateway.example", 2020..2021);
        let error = ask(&dialer(&device().await, &ca, Some(expired))).await.unwrap_err();
        assert!(error.contains("refused us: our certificate has expired"), "{error}");
        // Another authority, and one that only has the same name.
        for other in [named("other"), authority()] {
            let unknown = issue(&other, "gateway.example", 2020..2100);
            let error = ask(&dialer(&device().await, &ca, Some(unknown))).await.unwrap_err();
            assert!(error.contains("does not know the authority of our certificate"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_device_with_a_bad_certificate_is_not_asked() {
    let (ca, other, alike) = (authority(), named("other"), authority());
    for (pair, trusted, says) in [
        (issue(&ca, NAME, 2020..2021), &ca, "the device's certificate has expired"),
        (issue(&ca, NAME, 2090..2100), &ca, "not yet valid"),
        (issue(&ca, "pump.example", 2020..2100), &ca, "is not for plc.example"),
        (issue(&ca, NAME, 2020..2100), &other, "an authority that is not in tls.ca"),
        (issue(&ca, NAME, 2020..2100), &alike, "an authority that is not in tls.ca"),
    ] {
        let to = Device { versions: BOTH, pair, clients: None }.serve().await;
        let error = ask(&dialer(&to, trusted, None)).await.unwrap_err();
        assert!(error.contains(says), "{error} says not {says}");
    }
}

#[tokio::test]
async fn a_port_without_tls_is_told_from_a_device_that_hangs_up() {
    let ca = authority();
    for (said, says) in [
        (&[0, 0, 0, 0, 0, 3, 1, 0x80, 1, 0, 0, 0, 0, 0][..], "does not speak TLS"),
        (&[], "closed the connection without a word"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let to = Endpoint { host: "127.0.0.1".into(), port };
        let serve = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
            stream.write_all(said).await.unwrap();
        });
        let error = ask(&dialer(&to, &ca, None)).await.unwrap_err();
        assert!(error.contains(says), "{error} says not {says}");
        serve.await.unwrap();
    }
}

#[tokio::test]
async fn files_that_cannot_be_used_and_names_that_none_can_carry_are_told_before_dialling() {
    struct Broken;
    impl TlsSource for Broken {
        fn config(
            &self,
            spec: &TlsSpec,
        ) -> Result<Arc<ClientConfig>, Box<dyn Error + Send + Sync>> {
            Err(format!("ca file {} does not exist", spec.ca.display()).into())
        }
    }
    let nowhere = Endpoint { host: "host.invalid".into(), port: 9 };
    let deadline = Instant::now() + Duration::from_secs(60);
    let dialer = TlsDialer::new(&nowhere, spec(false), Arc::new(Broken));
    let error = dialer.dial(deadline).await.err().unwrap();
    let source = error.source().map(ToString::to_string);
    assert_eq!(source.as_deref(), Some("ca file ca.pem does not exist"), "{error}");
    let spec = TlsSpec { server_name: Some("no name".into()), ..spec(false) };
    let dialer = TlsDialer::new(&nowhere, spec, Arc::new(Broken));
    let error = dialer.dial(deadline).await.err().unwrap().to_string();
    assert!(error.contains("\"no name\"") && error.contains("tls.server-name"), "{error}");
}

#[test]
fn a_name_is_a_host_or_an_address() {
    assert!(matches!(server_name("10.0.0.7"), Some(ServerName::IpAddress(_))));
    assert!(matches!(server_name("fe80::1"), Some(ServerName::IpAddress(_))));
    assert!(matches!(server_name("plc-1.plant"), Some(ServerName::DnsName(_))));
    assert!(server_name("").is_none());
}
