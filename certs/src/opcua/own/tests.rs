use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::*;

const NOW: u64 = 1_800_000_000;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// Keys take seconds to make: a test that makes several certificates makes one key of each size.
static MADE: Mutex<BTreeMap<usize, rsa::RsaPrivateKey>> = Mutex::new(BTreeMap::new());

pub(super) fn made_before(bits: usize) -> Option<rsa::RsaPrivateKey> {
    MADE.lock().unwrap().get(&bits).cloned()
}

pub(super) fn keep(bits: usize, key: &rsa::RsaPrivateKey) {
    MADE.lock().unwrap().insert(bits, key.clone());
}

fn spec() -> OwnSpec {
    OwnSpec {
        application_uri: "urn:tidegate:PlantA:gw-line3".to_owned(),
        host: Some("gw-line3".to_owned()),
        common_name: "tidegate PlantA/gw-line3".to_owned(),
        key: KeyBits::Rsa2048,
    }
}

#[test]
fn the_certificate_says_what_part_6_asks_for_with_the_uri_first() {
    let dir = tempfile::tempdir().unwrap();
    let own = Own::below(dir.path()).ensure(&spec(), at(NOW)).unwrap();
    let (rest, parsed) = X509Certificate::from_der(&own.der).unwrap();
    assert!(rest.is_empty());
    let names = &parsed.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert!(matches!(
        names.as_slice(),
        [GeneralName::URI("urn:tidegate:PlantA:gw-line3"), GeneralName::DNSName("gw-line3")]
    ));
    let constraints = parsed.basic_constraints().unwrap().unwrap();
    assert!(!constraints.value.ca);
    let usage = parsed.key_usage().unwrap().unwrap();
    // Bits 0 to 3 and 5 of RFC 5280, 4.2.1.3, and nothing else.
    assert_eq!(usage.value.flags, 0b10_1111);
    let extended = parsed.extended_key_usage().unwrap().unwrap();
    assert!(extended.value.client_auth && extended.value.server_auth && !extended.value.any);
    assert!(parsed.verify_signature(None).is_ok(), "it signs itself");
    assert_eq!(own.facts.subject, "CN=tidegate PlantA-gw-line3,O=Tidegate");
    assert_eq!(own.facts.not_before, at(NOW) - DAY);
    assert_eq!(own.facts.not_after, at(NOW) + LASTS);
    assert_eq!(own.key_bits, 2048);
    assert_eq!(own.thumbprint, Thumbprint::of(&own.der));
    assert!(own.remarks("urn:tidegate:PlantA:gw-line3", at(NOW)).is_empty());
}

/// What async-opcua reads: one `PRIVATE KEY` and one `CERTIFICATE`, in files that end in `.pem`.
#[test]
fn the_files_are_pem_of_a_pkcs_8_key_and_one_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let own = Own::below(dir.path()).ensure(&spec(), at(NOW)).unwrap();
    let key = fs::read_to_string(&own.key).unwrap();
    let lines: Vec<_> = key.lines().collect();
    assert_eq!(lines.first(), Some(&"-----BEGIN PRIVATE KEY-----"));
    assert_eq!(lines.last(), Some(&"-----END PRIVATE KEY-----"));
    assert!(lines[1..lines.len() - 1].iter().all(|line| line.len() <= 64));
    let read = <rsa::RsaPrivateKey as rsa::pkcs8::DecodePrivateKey>::from_pkcs8_pem(&key).unwrap();
    assert_eq!(rsa::traits::PublicKeyParts::n(&read).bits(), 2048);
    let certificate = fs::read_to_string(&own.certificate).unwrap();
    assert_eq!(certificate.matches("-----BEGIN CERTIFICATE-----").count(), 1);
    assert!(own.certificate.extension().is_some_and(|extension| extension == "pem"));
}

#[test]
fn a_key_of_3072_bits_is_made_when_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let spec = OwnSpec { key: KeyBits::Rsa3072, ..spec() };
    assert_eq!(Own::below(dir.path()).ensure(&spec, at(NOW)).unwrap().key_bits, 3072);
}

#[test]
fn what_is_there_is_kept_and_a_renewal_keeps_the_former_one() {
    let dir = tempfile::tempdir().unwrap();
    let own = Own::below(dir.path());
    assert!(own.load().unwrap().is_none());
    let first = own.ensure(&spec(), at(NOW)).unwrap();
    let again = own.ensure(&spec(), at(NOW + 1)).unwrap();
    assert_eq!((first.generation, first.thumbprint), (again.generation, again.thumbprint));
    let renewed = own.renew(&spec(), at(NOW)).unwrap();
    assert_eq!(renewed.generation, Generation(2));
    assert_ne!(renewed.facts.serial, first.facts.serial);
    assert_eq!(own.load().unwrap().unwrap().thumbprint, renewed.thumbprint);
    assert!(first.key.is_file(), "a session that still uses it can read it");
}

#[test]
fn a_half_written_one_heals() {
    let dir = tempfile::tempdir().unwrap();
    let own = Own::below(dir.path());
    let first = own.ensure(&spec(), at(NOW)).unwrap();
    fs::write(&first.key, &fs::read(&first.key).unwrap()[..900]).unwrap();
    assert!(own.load().unwrap().is_none());
    let second = own.ensure(&spec(), at(NOW)).unwrap();
    assert_ne!(second.thumbprint, first.thumbprint);
    fs::remove_file(&second.certificate).unwrap();
    let third = own.ensure(&spec(), at(NOW)).unwrap();
    assert_eq!(third.generation, Generation(3));
    fs::create_dir(dir.path().join("own/.unfinished-gen-4")).unwrap();
    fs::remove_file(dir.path().join("own/current")).unwrap();
    let without_link = own.ensure(&spec(), at(NOW)).unwrap();
    assert_eq!(without_link.thumbprint, third.thumbprint, "the newest is as good a guess as any");
    assert!(without_link.remarks(&spec().application_uri, at(NOW))[0].contains("serves instead"));
}

#[test]
fn a_broken_renewal_falls_back_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let own = Own::below(dir.path());
    let first = own.ensure(&spec(), at(NOW)).unwrap();
    let second = own.renew(&spec(), at(NOW)).unwrap();
    fs::write(&second.key, "").unwrap();
    let loaded = own.ensure(&spec(), at(NOW)).unwrap();
    assert_eq!(loaded.thumbprint, first.thumbprint);
    let remarks = loaded.remarks(&spec().application_uri, at(NOW));
    assert!(remarks[0].contains("gen-1 serves instead: gen-2 in "), "{remarks:?}");
}

#[test]
fn many_who_need_one_at_once_get_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let made: Vec<_> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| Own::below(dir.path()).ensure(&spec(), at(NOW)).unwrap()))
            .collect();
        asked.into_iter().map(|thread| thread.join().unwrap().thumbprint).collect()
    });
    assert!(made.windows(2).all(|pair| pair[0] == pair[1]), "{made:?}");
}

#[test]
fn another_uri_and_a_near_end_are_remarked() {
    let dir = tempfile::tempdir().unwrap();
    let own = Own::below(dir.path()).ensure(&spec(), at(NOW)).unwrap();
    let remarks = own.remarks("urn:other", at(NOW));
    assert_eq!(
        remarks,
        ["the OPC UA certificate names the application URI \"urn:tidegate:PlantA:gw-line3\" and \
          not \"urn:other\"; renew it with: tidegate identity opcua renew, and approve it at the \
          servers"]
    );
    let uri = &spec().application_uri;
    let end = at(NOW) + LASTS;
    assert!(own.remarks(uri, end - DUE).is_empty());
    assert!(own.remarks(uri, end - 30 * DAY)[0].contains("ends in 30 days"));
    assert!(own.remarks(uri, end + 3 * DAY)[0].contains("ended 3 days ago"));
    assert!(own.remarks(uri, at(NOW) - 3 * DAY)[0].contains("begins only in 2 days"));
}

#[test]
fn a_clock_that_was_never_set_makes_no_certificate_of_1970() {
    let dir = tempfile::tempdir().unwrap();
    let own = Own::below(dir.path()).ensure(&spec(), at(0)).unwrap();
    assert_eq!(own.facts.not_before, at(0) + CLOCK_FLOOR - DAY);
}

#[test]
fn a_host_name_that_cannot_stand_there_is_left_out_and_such_a_uri_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let own = Own::below(dir.path());
    for uri in ["", "no-scheme", "urn:späti", "urn:a b"] {
        let spec = OwnSpec { application_uri: uri.to_owned(), ..spec() };
        assert!(matches!(own.ensure(&spec, at(NOW)), Err(OwnError::Uri { .. })), "{uri}");
    }
    let spec = OwnSpec { host: Some("späti".to_owned()), ..spec() };
    assert!(own.ensure(&spec, at(NOW)).unwrap().facts.names.is_empty());
}

#[test]
fn a_certificate_that_opc_ua_cannot_use_is_not_replaced_but_named() {
    let dir = tempfile::tempdir().unwrap();
    let own = Own::below(dir.path());
    let pair = KeyPair::generate().unwrap();
    let certificate = CertificateParams::default().self_signed(&pair).unwrap();
    let store = GenerationStore::open(dir.path().join("own")).unwrap();
    store.install(pair.serialize_pem().as_bytes(), certificate.pem().as_bytes(), b"").unwrap();
    let error = own.ensure(&spec(), at(NOW)).unwrap_err().to_string();
    assert!(error.contains("its key is not RSA; make another one with"), "{error}");
    assert_eq!(own.renew(&spec(), at(NOW)).unwrap().generation, Generation(2));
}

/// Those that servers may be shown, the first first.
fn usable(own: &Own, now: SystemTime) -> Vec<Generation> {
    own.usable(now).unwrap().iter().map(|own| own.generation).collect()
}

#[test]
fn the_next_one_is_made_before_the_end_and_both_can_be_shown_until_then() {
    let dir = tempfile::tempdir().unwrap();
    let own = Own::below(dir.path());
    assert!(own.tend(&spec(), at(NOW)).unwrap().is_none(), "nobody needs one here");
    assert!(own.usable(at(NOW)).unwrap().is_empty());
    own.ensure(&spec(), at(NOW)).unwrap();
    let end = at(NOW) + LASTS;
    assert!(own.tend(&spec(), end - DUE).unwrap().is_none());
    let next = own.tend(&spec(), end - DUE + DAY).unwrap().unwrap();
    assert_eq!(next.generation, Generation(2));
    assert!(own.tend(&spec(), end - DAY).unwrap().is_none(), "once");
    assert_eq!(usable(&own, end - DAY), [Generation(2), Generation(1)]);
    assert_eq!(usable(&own, end + DAY), [Generation(2)]);
    assert!(own.wipe().left.is_empty());
    assert!(own.load().unwrap().is_none());
}

#[test]
fn an_expired_one_is_followed_by_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let own = Own::below(dir.path());
    own.ensure(&spec(), at(NOW)).unwrap();
    let late = at(NOW) + LASTS + 40 * DAY;
    assert_eq!(usable(&own, late), [Generation(1)], "better than none");
    assert!(own.tend(&spec(), late).unwrap().is_some());
    assert_eq!(usable(&own, late), [Generation(2)]);
}

#[test]
fn a_wild_clock_makes_one_at_most_and_the_known_one_comes_back_with_the_time() {
    let dir = tempfile::tempdir().unwrap();
    let own = Own::below(dir.path());
    own.ensure(&spec(), at(NOW)).unwrap();
    for _ in 0..3 {
        assert!(own.tend(&spec(), at(0)).unwrap().is_none(), "1970");
    }
    let years_ahead = at(NOW) + 2 * LASTS;
    assert!(own.tend(&spec(), years_ahead).unwrap().is_some());
    for now in [at(NOW), years_ahead, at(NOW), at(0)] {
        assert!(own.tend(&spec(), now).unwrap().is_none());
    }
    assert_eq!(usable(&own, at(NOW)), [Generation(1)], "the servers know this one");
    // And its own end is not missed for the one of the future.
    let due = at(NOW) + LASTS - DAY;
    assert_eq!(own.tend(&spec(), due).unwrap().unwrap().generation, Generation(3));
    assert_eq!(usable(&own, due), [Generation(3), Generation(1)]);
}
