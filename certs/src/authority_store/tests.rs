use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::crl::Crl;
use crate::request::CertificateRequest;

const DAY: Duration = Duration::from_secs(86_400);

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

struct Lab {
    dir: tempfile::TempDir,
    store: AuthorityStore,
}

impl Lab {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = AuthorityStore::create(dir.path().join("ca"), "lab", DAY * 365, now()).unwrap();
        Self { dir, store }
    }

    /// As another process would see it.
    fn again(&self) -> AuthorityStore {
        AuthorityStore::open(self.dir.path().join("ca")).unwrap()
    }

    fn everything(&self) -> String {
        let files = std::fs::read_dir(self.dir.path().join("ca")).unwrap();
        files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect()
    }
}

fn request(gateway: &str) -> CertificateRequest {
    CertificateRequest::new(gateway, &["hub.example.com".to_owned()]).unwrap()
}

fn serial(certificate: &CertificateDer<'_>) -> String {
    CertificateFacts::of(certificate).unwrap().serial
}

#[test]
fn a_token_buys_one_certificate_for_its_gateway_in_any_process() {
    let lab = Lab::new();
    let token = lab.store.token("P/g", DAY, now()).unwrap();
    assert!(!lab.everything().contains(token.secret()), "only a hash is kept");
    let asks = request("P/g");
    let got = lab.again().enrol(token.secret(), asks.der(), DAY, now()).unwrap();
    let facts = CertificateFacts::of(&got).unwrap();
    assert_eq!((facts.subject.as_str(), facts.names.len()), ("CN=P/g,O=Tidegate", 0));
    assert_eq!(facts.not_after, now() + DAY);
    for store in [&lab.store, &lab.again()] {
        let again = store.enrol(token.secret(), asks.der(), DAY, now());
        assert!(matches!(again, Err(Refusal::Token)));
    }
    let book = lab.store.issued().unwrap();
    assert_eq!((book.len(), book[0].gateway(), book[0].how), (1, Some("P/g"), How::Token));
}

#[test]
fn a_token_ends_and_one_that_was_refused_is_still_good() {
    let lab = Lab::new();
    let token = lab.store.token("P/g", DAY, now()).unwrap();
    let enrol =
        |gateway: &str, at| lab.store.enrol(token.secret(), request(gateway).der(), DAY, at);
    assert!(matches!(enrol("P/other", now()), Err(Refusal::OtherName { .. })));
    let junk = b"junk".to_vec().into();
    let refused = lab.store.enrol(token.secret(), &junk, DAY, now());
    assert!(matches!(refused, Err(Refusal::Request(SignError::Malformed))));
    assert!(matches!(enrol("P/g", now() + DAY), Err(Refusal::Token)));
    assert!(enrol("P/g", now() + DAY / 2).is_ok());
    assert!(matches!(
        lab.store.enrol("guess", request("P/g").der(), DAY, now()),
        Err(Refusal::Token)
    ));
}

#[test]
fn a_gateway_renews_its_own_certificate_and_no_other() {
    let lab = Lab::new();
    let token = lab.store.token("P/g", DAY, now()).unwrap();
    let old = lab.store.enrol(token.secret(), request("P/g").der(), DAY, now()).unwrap();
    let renew = |shown: &CertificateDer<'_>, gateway: &str| {
        lab.again().renew(shown, request(gateway).der(), DAY, now())
    };
    let new = renew(&old, "P/g").unwrap();
    assert_ne!(serial(&new), serial(&old));
    assert!(matches!(renew(&old, "P/other"), Err(Refusal::OtherName { .. })));
    // A server's or a person's certificate of the same authority is not renewed to a gateway's.
    let of = |issued: Issued| issued.identity().unwrap().chain()[0].clone();
    let server = of(lab.store.server("P/g", &["hub.example.com"], DAY, now()).unwrap());
    let person = of(lab.store.person("P/g", DAY, now()).unwrap());
    for shown in [server, person] {
        assert!(matches!(renew(&shown, "P/g"), Err(Refusal::NotOurs { .. })));
    }
    // Nor is one of another authority that bears the same name.
    let stranger = Lab::new();
    let shown = of(stranger.store.gateway("P/g", DAY, now()).unwrap());
    assert!(matches!(renew(&shown, "P/g"), Err(Refusal::NotOurs { .. })));
}

#[test]
fn what_is_revoked_is_not_renewed_and_stands_in_the_list() {
    let lab = Lab::new();
    let token = lab.store.token("P/g", DAY, now()).unwrap();
    let spare = lab.store.token("P/g", DAY, now()).unwrap();
    let old = lab.store.enrol(token.secret(), request("P/g").der(), DAY, now()).unwrap();
    let new = lab.store.renew(&old, request("P/g").der(), DAY, now()).unwrap();
    let kept = lab.store.gateway("P/kept", DAY, now()).unwrap().identity().unwrap();
    let revoked = lab.again().revoke_gateway("P/g", now()).unwrap();
    assert_eq!(revoked.len(), 2);
    for shown in [&old, &new] {
        let refused = lab.store.renew(shown, request("P/g").der(), DAY, now());
        assert!(matches!(refused, Err(Refusal::Revoked { .. })));
    }
    let refused = lab.store.enrol(spare.secret(), request("P/g").der(), DAY, now());
    assert!(matches!(refused, Err(Refusal::Token)), "its tokens are gone as well");
    assert!(lab.store.renew(&kept.chain()[0], request("P/kept").der(), DAY, now()).is_ok());
    assert!(lab.store.revoke_gateway("P/g", now()).unwrap().is_empty());

    let list = Crl::read(lab.store.crl(now()).unwrap().as_bytes()).unwrap();
    let text = openssl_like(&lab.store.crl(now()).unwrap());
    assert_eq!(list.len(), 1);
    for one in [&old, &new] {
        assert!(text.contains(&serial(one)), "{text}");
    }
    assert!(!text.contains(&kept.facts().serial));
}

/// The serial numbers of a list.
fn openssl_like(pem: &str) -> String {
    use rustls_pki_types::pem::PemObject as _;
    let der =
        rustls_pki_types::CertificateRevocationListDer::from_pem_slice(pem.as_bytes()).unwrap();
    let (_, list) =
        x509_parser::prelude::CertificateRevocationList::from_der(der.as_ref()).unwrap();
    let serials = list
        .iter_revoked_certificates()
        .map(|one| one.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    serials.collect::<Vec<_>>().join(" ")
}

#[test]
fn one_certificate_is_revoked_by_its_serial_number() {
    let lab = Lab::new();
    let issued = lab.store.server("hub-1", &["hub.example.com"], DAY, now()).unwrap();
    let serial = issued.identity().unwrap().facts().serial.to_uppercase();
    assert!(!lab.store.revoke_serial("1234", now()).unwrap());
    assert!(lab.store.revoke_serial(&serial, now()).unwrap());
    assert!(!lab.store.revoke_serial(&serial, now()).unwrap());
}

#[test]
fn the_list_is_made_anew_before_it_ends() {
    let lab = Lab::new();
    let first = lab.store.crl(now()).unwrap();
    assert_eq!(lab.again().crl(now() + DAY).unwrap(), first);
    let second = lab.store.crl(now() + DAY * 4).unwrap();
    assert_ne!(second, first);
    assert_eq!(lab.store.publish_crl(now()).unwrap(), (3, 0));
    // A clock that went back gives a list that is valid by it.
    assert_ne!(lab.store.crl(now() - DAY).unwrap(), second);
}

#[test]
fn nothing_in_the_folder_is_for_others_and_no_second_authority_is_made() {
    let lab = Lab::new();
    lab.store.token("P/g", DAY, now()).unwrap();
    lab.store.gateway("P/g", DAY, now()).unwrap();
    let ca = lab.dir.path().join("ca");
    for file in std::fs::read_dir(&ca).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
    }
    let again = AuthorityStore::create(&ca, "lab", DAY, now());
    assert!(matches!(again, Err(AuthorityStoreError::Exists { .. })));
    assert_eq!(lab.again().certificate(), lab.store.certificate());
    let missing = AuthorityStore::open(lab.dir.path().join("none"));
    assert!(matches!(missing, Err(AuthorityStoreError::Missing { .. })));
    std::fs::write(ca.join("ca.key"), "junk").unwrap();
    assert!(matches!(AuthorityStore::open(&ca), Err(AuthorityStoreError::Broken { .. })));
}
