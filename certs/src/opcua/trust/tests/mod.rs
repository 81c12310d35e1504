mod made;
mod shelf;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use rcgen::{
    BasicConstraints, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, RevocationReason, SanType,
};

use self::made::{Authority, DAY, HOST, Made, NOW, URI, dns, replaced, time, uri};
use super::*;
use crate::crl::WhenStale;
use crate::opcua::ThumbprintPrefix;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn expected() -> Expectation<'static> {
    Expectation {
        application_uri: URI,
        host: HOST,
        any_host: false,
        thumbprints: &[],
        now: at(NOW),
    }
}

struct Plant {
    dir: tempfile::TempDir,
}

impl Plant {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn store(&self) -> TrustStore {
        TrustStore::below(self.dir.path())
    }

    fn put(&self, file: &str, content: impl AsRef<[u8]>) {
        let path = self.dir.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn trusting(der: &[u8]) -> Self {
        let plant = Self::new();
        plant.put("trusted/it", der);
        plant
    }

    fn judge(&self, chain: &[u8]) -> Result<Accepted, Distrust> {
        self.store().judge(chain, &expected())
    }

    fn refuses(&self, chain: &[u8]) -> Distrust {
        self.judge(chain).unwrap_err()
    }

    fn files(&self, folder: &str) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.dir.path().join(folder))
            .map(|listing| {
                listing.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect()
            })
            .unwrap_or_default();
        names.sort();
        names
    }
}

/// The sentence after the name of the certificate.
fn after_name(distrust: &Distrust, chain: &[u8]) -> String {
    let (leaf, _) = Certificate::split(chain).unwrap();
    let name = format!("{} ", leaf.name());
    distrust.text.strip_prefix(&name).unwrap_or_else(|| panic!("{distrust}")).to_owned()
}

#[test]
fn an_unknown_certificate_is_kept_and_the_sentence_says_how_to_approve_it() {
    let plant = Plant::new();
    let der = Made::good().self_signed();
    let refused = plant.refuses(&der);
    assert_eq!(refused.kind, DistrustKind::Unknown);
    let thumbprint = Thumbprint::of(&der);
    assert_eq!(refused.thumbprint, Some(thumbprint));
    let short = thumbprint.short();
    assert_eq!(
        refused.text,
        format!(
            "certificate {short} of \"CN=press\" is not approved; compare it with the server and \
             approve it with: tidegate identity trust approve {short}"
        )
    );
    assert_eq!(plant.files("rejected"), [format!("{short}-press.der")]);
    let prefix = ThumbprintPrefix::parse(&short).unwrap();
    plant.store().approve(&prefix).unwrap();
    assert_eq!(plant.judge(&der).unwrap().by, AcceptedBy::Folder);
    assert!(plant.files("rejected").is_empty());
}

#[test]
fn what_is_wrong_beside_is_told_with_the_first_refusal() {
    let der = Made::with(time(NOW - 3 * DAY)).self_signed();
    let refused = Plant::new().refuses(&der);
    assert_eq!(refused.kind, DistrustKind::Unknown);
    assert!(
        after_name(&refused, &der).starts_with("is not approved and expired 3 days ago; compare"),
        "{refused}"
    );
}

#[test]
fn a_certificate_is_accepted_by_thumbprint_and_by_a_file_of_any_name_in_der_or_pem() {
    let der = Made::good().self_signed();
    let thumbprints = [Thumbprint::of(&der)];
    let by_thumbprint = Expectation { thumbprints: &thumbprints, ..expected() };
    let accepted = Plant::new().store().judge(&der, &by_thumbprint).unwrap();
    assert_eq!(accepted.by, AcceptedBy::Thumbprint);
    let pem = pem_of(&der);
    for (name, content) in [
        ("a b.crt", der.as_slice()),
        ("press.pem", pem.as_bytes()),
        ("text before.txt", format!("subject=press\n{pem}").as_bytes()),
    ] {
        let plant = Plant::new();
        plant.put(&format!("trusted/{name}"), content);
        assert_eq!(plant.judge(&der).unwrap().by, AcceptedBy::Folder, "{name}");
    }
}

fn pem_of(der: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in der.chunks(3) {
        let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte))
            << (8 * (3 - three.len()));
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= three.len() { char::from(digit) } else { '=' });
        }
    }
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

#[test]
fn approval_does_not_stretch_time() {
    let der = Made::good().self_signed();
    let plant = Plant::trusting(&der);
    let judge = |now| plant.store().judge(&der, &Expectation { now: at(now), ..expected() });
    for now in [NOW - DAY, NOW + DAY] {
        assert!(judge(now).is_ok(), "both ends belong to it");
    }
    let early = judge(NOW - DAY - 1).unwrap_err();
    assert_eq!(early.kind, DistrustKind::NotYetValid);
    assert_eq!(
        after_name(&early, &der),
        "becomes valid only in 1 seconds; correct the clock of this gateway, or that of the \
         server and renew the certificate"
    );
    let late = judge(NOW + 4 * DAY).unwrap_err();
    assert_eq!(late.kind, DistrustKind::Expired);
    assert_eq!(
        after_name(&late, &der),
        "expired 3 days ago; renew it at the server, or correct the clock of this gateway"
    );
}

#[test]
fn the_uri_may_stand_anywhere_among_the_names_and_must_be_exact() {
    let several = Made::with(|params| {
        params.subject_alt_names = vec![uri("urn:other"), dns(HOST), uri(URI)];
    });
    let der = several.self_signed();
    assert!(Plant::trusting(&der).judge(&der).is_ok());
    for wrong in ["urn:maker:PRESS", "urn:maker:press2", "urn:maker:pres", ""] {
        let expectation = Expectation { application_uri: wrong, ..expected() };
        let refused = Plant::trusting(&der).store().judge(&der, &expectation).unwrap_err();
        assert_eq!(refused.kind, DistrustKind::WrongUri);
        assert_eq!(
            after_name(&refused, &der),
            format!(
                "names the application URI \"urn:other\", \"urn:maker:press\" and not \"{wrong}\"; \
                 have the server make a new one, or correct server-uri"
            )
        );
    }
    let without = Made::with(|params| params.subject_alt_names = vec![dns(HOST)]).self_signed();
    let refused = Plant::trusting(&without).refuses(&without);
    assert_eq!(refused.kind, DistrustKind::WrongUri);
    assert!(after_name(&refused, &without).starts_with("names no application URI and not"));
}

#[test]
fn the_host_is_compared_without_case_and_without_wildcards() {
    let names = Made::with(|params| {
        params.subject_alt_names = vec![
            uri(URI),
            dns("Press-1.Plant"),
            dns("*.wild"),
            dns("192.0.2.7"),
            SanType::IpAddress("192.0.2.10".parse().unwrap()),
            SanType::IpAddress("2001:db8::1".parse().unwrap()),
        ];
    });
    let der = names.self_signed();
    let plant = Plant::trusting(&der);
    let judge =
        |host, any_host| plant.store().judge(&der, &Expectation { host, any_host, ..expected() });
    for host in ["press-1.plant", "PRESS-1.PLANT.", "192.0.2.10", "192.0.2.7", "2001:DB8:0::1"] {
        assert!(judge(host, false).is_ok(), "{host}");
    }
    for host in ["press-1", "a.wild", "192.0.2.11", "2001:db8::2", "", "press-1.plant.evil"] {
        let refused = judge(host, false).unwrap_err();
        assert_eq!(refused.kind, DistrustKind::WrongHost, "{host}");
        assert!(judge(host, true).is_ok(), "{host}");
    }
    assert_eq!(
        after_name(&judge("other", false).unwrap_err(), &der),
        "names \"Press-1.Plant\", \"*.wild\", \"192.0.2.7\", \"192.0.2.10\" and 1 more and not the \
         host \"other\"; dial it by a name that it has, have the server make a new one, or set \
         check-host = false"
    );
}

#[test]
fn short_keys_and_forgeable_signatures_are_refused_before_anybody_is_asked_to_approve_them() {
    let short = Made { bits: 1024, ..Made::good() }.self_signed();
    let long = Made { bits: 8192, ..Made::good() }.self_signed();
    let strong = Made { bits: 4096, ..Made::good() }.self_signed();
    assert!(Plant::trusting(&strong).judge(&strong).is_ok());
    // sha256WithRSAEncryption and its neighbours, RFC 8017, appendix C.
    let pkcs1 = |last| [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, last];
    let signed_with = |last| replaced(&Made::good().self_signed(), &pkcs1(11), &pkcs1(last));
    for (der, kind, why) in [
        (short, DistrustKind::TooWeak, "has an RSA key of 1024 bits, fewer than 2048"),
        (long, DistrustKind::Unusable, "has an RSA key of 8192 bits, more than OPC UA's 4096"),
        (signed_with(5), DistrustKind::TooWeak, "is signed with SHA-1, which can be forged"),
        (signed_with(4), DistrustKind::TooWeak, "is signed with MD5, which can be forged"),
        (
            signed_with(99),
            DistrustKind::Unusable,
            "is signed with an algorithm that is not known here (1.2.840.113549.1.1.99)",
        ),
    ] {
        for plant in [Plant::new(), Plant::trusting(&der)] {
            let refused = plant.refuses(&der);
            assert_eq!(refused.kind, kind, "{refused}");
            assert!(after_name(&refused, &der).starts_with(why), "{refused}");
        }
    }
    for last in [12, 13] {
        let der = signed_with(last);
        assert!(Plant::trusting(&der).judge(&der).is_ok(), "SHA-384 and SHA-512");
    }
}

#[test]
fn a_key_that_no_policy_can_use_is_refused() {
    let root = Authority::root(Authority::params("root"));
    let refused = Plant::trusting(&root.der()).refuses(&root.der());
    assert_eq!(refused.kind, DistrustKind::Unusable);
    assert!(refused.text.contains("has no RSA key"), "{refused}");
}

#[test]
fn a_certificate_for_another_use_is_no_servers() {
    for (change, lacks) in [
        (KeyUsagePurpose::KeyEncipherment, "digitalSignature"),
        (KeyUsagePurpose::DigitalSignature, "keyEncipherment"),
    ] {
        let der = Made::with(|params| params.key_usages = vec![change]).self_signed();
        let refused = Plant::trusting(&der).refuses(&der);
        assert_eq!(refused.kind, DistrustKind::Unusable);
        assert!(refused.text.contains(&format!("it lacks {lacks} among its key usages")));
    }
    let client = |params: &mut rcgen::CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    };
    let der = Made::with(client).self_signed();
    assert!(Plant::trusting(&der).refuses(&der).text.contains("lacks serverAuth"));
    let bare = Made::with(|params| {
        params.key_usages.clear();
        params.extended_key_usages.clear();
    });
    let der = bare.self_signed();
    assert!(Plant::trusting(&der).judge(&der).is_ok(), "a certificate that says nothing may");
}

#[test]
fn a_chain_leads_to_a_trusted_authority_with_the_help_of_the_server_or_of_the_issuers() {
    let root = Authority::root(Authority::params("root"));
    let middle = root.below(Authority::params("middle"));
    let leaf = Made::good().signed_by(&middle);
    let by = AcceptedBy::Authority(Thumbprint::of(&root.der()));

    let plant = Plant::trusting(&root.der());
    assert_eq!(plant.refuses(&leaf).kind, DistrustKind::Unknown, "the link is missing");
    assert_eq!(plant.files("rejected").len(), 1);
    assert_eq!(plant.judge(&[leaf.clone(), middle.der()].concat()).unwrap().by, by);
    assert_eq!(plant.judge(&[leaf.clone(), root.der(), middle.der()].concat()).unwrap().by, by);
    assert!(plant.files("rejected").is_empty(), "it no longer waits");
    plant.put("issuers/middle.pem", middle.pem());
    assert_eq!(plant.judge(&leaf).unwrap().by, by);

    let plant = Plant::trusting(&middle.der());
    let by = AcceptedBy::Authority(Thumbprint::of(&middle.der()));
    assert_eq!(plant.judge(&leaf).unwrap().by, by, "whoever is approved ends the search");

    let plant = Plant::new();
    plant.put("issuers/root", root.der());
    plant.put("issuers/middle", middle.der());
    assert_eq!(plant.refuses(&leaf).kind, DistrustKind::Unknown, "issuers alone are not trusted");
}

#[test]
fn the_name_of_an_authority_without_its_key_leads_nowhere() {
    let root = Authority::root(Authority::params("root"));
    let impostor = Authority::root(Authority::params("root"));
    let leaf = Made::good().signed_by(&impostor);
    let plant = Plant::trusting(&root.der());
    assert_eq!(plant.refuses(&leaf).kind, DistrustKind::Unknown);
    assert_eq!(plant.refuses(&[leaf, impostor.der()].concat()).kind, DistrustKind::Unknown);
}

#[test]
fn an_approved_server_is_no_authority() {
    let server = Authority::root({
        let mut params = Authority::params("press");
        params.is_ca = IsCa::ExplicitNoCa;
        params
    });
    let leaf = Made::good().signed_by(&server);
    assert_eq!(Plant::trusting(&server.der()).refuses(&leaf).kind, DistrustKind::Unknown);
}

#[test]
fn an_authority_that_may_not_sign_is_named() {
    let case = |change: &dyn Fn(&mut rcgen::CertificateParams)| {
        let root = Authority::root(Authority::params("root"));
        let mut params = Authority::params("middle");
        change(&mut params);
        let middle = root.below(params);
        let lower = middle.below(Authority::params("lower"));
        let leaf = Made::good().signed_by(&lower);
        let chain = [leaf, lower.der(), middle.der()].concat();
        (Plant::trusting(&root.der()).judge(&chain), chain)
    };
    assert!(case(&|_| {}).0.is_ok());
    assert!(case(&|params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1))).0.is_ok());
    type Change = fn(&mut rcgen::CertificateParams);
    let cases: [(Change, DistrustKind, &str); 4] = [
        (
            |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)),
            DistrustKind::Unusable,
            "allows 0 authorities below itself and has 1; ask whoever runs that authority",
        ),
        (
            |params| params.key_usages = vec![KeyUsagePurpose::CrlSign],
            DistrustKind::Unusable,
            "lacks keyCertSign among its key usages; ask",
        ),
        (|params| time(NOW - DAY)(params), DistrustKind::Expired, "expired 24 hours ago; ask"),
        (
            |params| {
                let mut extension =
                    rcgen::CustomExtension::from_oid_content(&[1, 2, 3], vec![5, 0]);
                extension.set_criticality(true);
                params.custom_extensions = vec![extension];
            },
            DistrustKind::Unusable,
            "has a critical extension that is not known here (1.2.3); ask",
        ),
    ];
    for (change, kind, why) in cases {
        let (judged, chain) = case(&change);
        let refused = judged.unwrap_err();
        assert_eq!(refused.kind, kind, "{refused}");
        let sentence = after_name(&refused, &chain);
        assert!(sentence.starts_with("comes from an authority whose certificate "), "{sentence}");
        assert!(sentence.contains(&format!("of \"CN=middle\" {why}")), "{sentence}");
    }
}

#[test]
fn a_second_way_is_taken_where_the_first_is_closed() {
    let root = Authority::root(Authority::params("root"));
    let other = Authority::root({
        let mut params = Authority::params("old root");
        time(NOW - DAY)(&mut params);
        params
    });
    let middle = root.below(Authority::params("middle"));
    let leaf = Made::good().signed_by(&middle);
    let plant = Plant::trusting(&root.der());
    plant.put("trusted/0-old", other.der());
    plant.put("issuers/0-of-another", other.below(Authority::params("middle")).der());
    assert!(plant.judge(&[leaf, middle.der()].concat()).is_ok());
}

#[test]
fn a_long_or_circular_chain_ends() {
    let root = Authority::root(Authority::params("same"));
    let mut authorities = vec![root];
    for _ in 0..8 {
        let next = authorities.last().unwrap().below(Authority::params("same"));
        authorities.push(next);
    }
    let leaf = Made::good().signed_by(authorities.last().unwrap());
    let plant = Plant::trusting(&authorities[0].der());
    for (at, authority) in authorities.iter().enumerate() {
        plant.put(&format!("issuers/{at}"), authority.der());
    }
    assert_eq!(plant.refuses(&leaf).kind, DistrustKind::Unknown);
}

/// Certificates of one key and one name all sign each other: twelve have 665,280 ways of six.
#[test]
fn a_thicket_of_authorities_is_not_searched_to_its_end() {
    let root = Authority::root(Authority::params("root"));
    let middle = root.below(Authority::params("middle"));
    let leaf = Made::good().signed_by(&middle);
    let chain = [leaf, middle.der()].concat();
    for (count, found) in [(0, true), (3, true), (12, false)] {
        let plant = Plant::trusting(&root.der());
        for serial in 0..count {
            let mut params = Authority::params("middle");
            params.serial_number = Some((serial + 1_u64).into());
            plant.put(&format!("issuers/{serial}"), middle.again(params).der());
        }
        assert_eq!(plant.judge(&chain).is_ok(), found, "{count}");
    }
}

fn serial(der: &[u8]) -> Vec<u8> {
    Certificate::read(der).unwrap().serial
}

#[test]
fn what_an_authority_withdrew_is_refused_however_it_is_trusted() {
    let root = Authority::root(Authority::params("root"));
    let middle = root.below(Authority::params("middle"));
    let leaf = Made::good().signed_by(&middle);
    let list = middle.list(&serial(&leaf), NOW + DAY, RevocationReason::KeyCompromise);
    let thumbprints = [Thumbprint::of(&leaf)];
    for trusted in [leaf.clone(), middle.der(), root.der(), Vec::new()] {
        let plant = Plant::new();
        if !trusted.is_empty() {
            plant.put("trusted/it", &trusted);
        }
        plant.put("issuers/middle", middle.der());
        let thumbprints = if trusted.is_empty() { thumbprints.as_slice() } else { &[] };
        let expected = Expectation { thumbprints, ..expected() };
        assert!(plant.store().judge(&leaf, &expected).is_ok());
        plant.put("crl/list", &list);
        let refused = plant.store().judge(&leaf, &expected).unwrap_err();
        assert_eq!(refused.kind, DistrustKind::Revoked);
        assert_eq!(
            after_name(&refused, &leaf),
            "was revoked by its authority; give the server a new certificate"
        );
    }
    let plant = Plant::trusting(&root.der());
    plant.put("issuers/middle", middle.der());
    plant.put(
        "crl/list",
        root.list(&serial(&middle.der()), NOW + DAY, RevocationReason::Superseded),
    );
    let refused = plant.refuses(&leaf);
    assert_eq!(refused.kind, DistrustKind::Revoked);
    assert!(refused.text.contains("of \"CN=middle\" was revoked"), "{refused}");
}

#[test]
fn an_old_list_still_counts_and_is_remarked_and_one_of_nobody_does_not() {
    let root = Authority::root(Authority::params("root"));
    let leaf = Made::good().signed_by(&root);
    let plant = Plant::trusting(&root.der());
    plant.put("crl/old", root.list(&[7], NOW - DAY, RevocationReason::KeyCompromise));
    let accepted = plant.judge(&leaf).unwrap();
    assert_eq!(accepted.remarks.len(), 1);
    assert!(
        accepted.remarks[0]
            .ends_with("crl/old should have been replaced 24 hours ago and still counts"),
        "{:?}",
        accepted.remarks
    );
    plant.put("crl/old", root.list(&serial(&leaf), NOW - DAY, RevocationReason::KeyCompromise));
    assert_eq!(plant.refuses(&leaf).kind, DistrustKind::Revoked);

    plant.put("crl/old", root.list(&serial(&leaf), NOW + DAY, RevocationReason::RemoveFromCrl));
    assert!(plant.judge(&leaf).unwrap().remarks.is_empty(), "the revocation was taken back");

    let impostor = Authority::root(Authority::params("root"));
    plant.put("crl/old", impostor.list(&serial(&leaf), NOW + DAY, RevocationReason::KeyCompromise));
    let remarks = plant.judge(&leaf).unwrap().remarks;
    assert!(
        remarks[0].ends_with("is passed over: no authority known here signed it"),
        "{remarks:?}"
    );
}

#[test]
fn too_old_a_list_refuses_its_authoritys_servers_where_the_configuration_says_so() {
    let (root, other) =
        (Authority::root(Authority::params("root")), Authority::root(Authority::params("other")));
    let leaf = Made::good().signed_by(&root);
    let stranger = Made::good().signed_by(&other);
    let itself = Made::good().self_signed();
    let plant = Plant::trusting(&root.der());
    plant.put("trusted/other", other.der());
    plant.put("trusted/itself", &itself);
    plant.put("crl/list", root.list(&[7], NOW - DAY, RevocationReason::KeyCompromise));
    let rule =
        |days: u64, when_stale| CrlRule { max_age: Duration::from_secs(days * DAY), when_stale };
    let judge = |rule, chain: &[u8]| plant.store().revoking(rule).judge(chain, &expected());
    let accepted = judge(rule(7, WhenStale::Accept), &leaf).unwrap();
    assert_eq!(accepted.remarks.len(), 1);
    let refused = judge(rule(7, WhenStale::Refuse), &leaf).unwrap_err();
    assert_eq!(refused.kind, DistrustKind::RevocationUnknown);
    let text = after_name(&refused, &leaf);
    assert!(text.contains("should have been replaced 24 hours ago; bring the"), "{text}");
    for others in [&stranger, &itself] {
        assert!(judge(rule(7, WhenStale::Refuse), others).is_ok(), "another authority's list");
    }
    // By its age alone: made three days ago.
    plant.put("crl/list", root.list(&[7], NOW + DAY, RevocationReason::KeyCompromise));
    assert!(judge(rule(4, WhenStale::Refuse), &leaf).unwrap().remarks.is_empty());
    let refused = judge(rule(2, WhenStale::Refuse), &leaf).unwrap_err();
    assert!(refused.text.contains("is 3 days old, more than crl-max-age-hours"), "{refused}");
    // One recent list is enough, and what cannot be read refuses whoever has an authority.
    plant.put("crl/another", root.list(&[8], NOW - DAY, RevocationReason::KeyCompromise));
    assert!(judge(rule(4, WhenStale::Refuse), &leaf).is_ok());
    plant.put("crl/junk", "junk");
    let refused = judge(rule(4, WhenStale::Refuse), &leaf).unwrap_err();
    assert!(refused.text.contains("crl/junk is passed over"), "{refused}");
    assert!(judge(rule(4, WhenStale::Accept), &leaf).is_ok());
    assert!(judge(rule(4, WhenStale::Refuse), &itself).is_ok());
}

#[test]
fn what_a_person_rejected_is_refused_by_folder_thumbprint_and_authority() {
    let root = Authority::root(Authority::params("root"));
    let leaf = Made::good().signed_by(&root);
    let plant = Plant::trusting(&leaf);
    plant.put("trusted/root", root.der());
    let prefix = ThumbprintPrefix::parse(&Thumbprint::of(&leaf).to_string()).unwrap();
    plant.store().reject(&prefix).unwrap();
    let thumbprints = [Thumbprint::of(&leaf)];
    let expected = Expectation { thumbprints: &thumbprints, ..expected() };
    let refused = plant.store().judge(&leaf, &expected).unwrap_err();
    assert_eq!(refused.kind, DistrustKind::Rejected);
    assert!(after_name(&refused, &leaf).starts_with("was rejected here; compare"), "{refused}");
    let root_prefix = ThumbprintPrefix::parse(&Thumbprint::of(&root.der()).to_string()).unwrap();
    plant.store().approve(&prefix).unwrap();
    assert!(plant.judge(&leaf).is_ok());
    plant.store().reject(&root_prefix).unwrap();
    let other = Made::good().signed_by(&root);
    plant.put("trusted/kept by hand", root.der());
    let refused = plant.refuses(&other);
    assert_eq!(refused.kind, DistrustKind::Rejected);
    assert!(refused.text.contains("of \"CN=root\" was rejected here"), "{refused}");
}

#[test]
fn bytes_that_are_no_certificate_are_told_as_such() {
    let plant = Plant::new();
    let leaf = Made::good().self_signed();
    for (chain, why) in [
        (Vec::new(), "the server shows no certificate; give it one"),
        (b"hello".to_vec(), "what the server shows as its certificate is none ("),
        (vec![0x30; 70_000], "the server shows certificates of 70000 bytes, more than 65536"),
        (leaf[..leaf.len() - 1].to_vec(), "what the server shows as its certificate is none ("),
    ] {
        let refused = plant.refuses(&chain);
        assert_eq!((refused.kind, refused.thumbprint), (DistrustKind::Unusable, None));
        assert!(refused.text.starts_with(why), "{refused}");
    }
    let followed = [leaf.as_slice(), &[1, 2, 3]].concat();
    assert!(plant.refuses(&followed).text.contains("is followed by 3 bytes that are no chain"));
    let many = leaf.repeat(11);
    assert!(plant.refuses(&many).text.contains("that are no chain of at most 10"));
    assert!(plant.files("rejected").is_empty());
}

#[test]
fn a_certificate_cannot_choose_its_file_nor_steer_a_terminal() {
    let name = "../../etc/\u{202e}x\n\"\u{1b}[2J.rejected";
    let der = Made::with(|params| {
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
    });
    let der = der.self_signed();
    let plant = Plant::new();
    let refused = plant.refuses(&der);
    assert!(refused.text.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{refused}");
    let short = Thumbprint::of(&der).short();
    assert_eq!(plant.files("rejected"), [format!("{short}-.._.._etc__x____2J.der")]);
    assert_eq!(plant.refuses(&der).kind, DistrustKind::Unknown, "and it is no person's refusal");
    let long = Made::with(|params| {
        params.distinguished_name.push(rcgen::DnType::CommonName, "x".repeat(5_000));
    });
    let long = long.self_signed();
    assert!(plant.refuses(&long).text.len() < 400);
    assert!(plant.files("rejected").iter().all(|name| name.len() < 100));
}

#[test]
fn only_the_youngest_hundred_are_kept_and_a_persons_refusals_beside_them() {
    let plant = Plant::new();
    let rejected = Made::good().self_signed();
    plant.refuses(&rejected);
    let prefix = ThumbprintPrefix::parse(&Thumbprint::of(&rejected).to_string()).unwrap();
    plant.store().reject(&prefix).unwrap();
    let mut first = String::new();
    for count in 0..102_u64 {
        let der = Made::with(|params| params.serial_number = Some(count.into())).self_signed();
        plant.refuses(&der);
        let name = format!("{}-press.der", Thumbprint::of(&der).short());
        // Files of one moment have no order: the first ones are made to be older.
        if count < 2 {
            let path = plant.dir.path().join("rejected").join(&name);
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_modified(at(1 + count)).unwrap();
        }
        if count == 0 {
            first = name;
        }
    }
    let files = plant.files("rejected");
    assert_eq!(files.len(), 101);
    assert!(!files.contains(&first));
    assert!(files.iter().any(|name| name.ends_with("-press.rejected.der")));
}

#[test]
fn what_is_shown_again_is_not_written_again() {
    let plant = Plant::new();
    let der = Made::good().self_signed();
    plant.refuses(&der);
    let path = plant.dir.path().join("rejected").join(&plant.files("rejected")[0]);
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(at(NOW)).unwrap();
    plant.refuses(&der);
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), at(NOW));
}

#[test]
fn junk_in_the_folders_is_passed_over_and_remarked() {
    let der = Made::good().self_signed();
    let plant = Plant::trusting(&der);
    plant.put("trusted/README", "put certificates here");
    plant.put("trusted/huge.der", vec![0x30; 70_000]);
    plant.put(
        "trusted/broken.pem",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    plant.put("trusted/.hidden", "x");
    plant.put("trusted/folder/x", "x");
    plant.put("crl/junk", "x");
    let mut remarks = plant.judge(&der).unwrap().remarks;
    remarks.sort();
    let ends: Vec<_> = remarks.iter().map(|text| text.rsplit_once("/").unwrap().1).collect();
    assert_eq!(
        ends,
        [
            "junk is passed over: it holds no revocation list",
            "README is passed over: it holds no certificate",
            "broken.pem is passed over: it holds no X.509 certificate",
            "folder is passed over: it is not a file",
            "huge.der is passed over: it is larger than 64 KiB",
        ]
    );
    let unknown = Made::with(|params| params.serial_number = Some(5.into())).self_signed();
    let refused = plant.refuses(&unknown);
    assert!(refused.text.ends_with("README is passed over: it holds no certificate)"), "{refused}");
}

#[test]
fn a_folder_that_cannot_be_read_trusts_nobody() {
    let der = Made::good().self_signed();
    let plant = Plant::new();
    plant.put("trusted", "a file");
    let refused = plant.refuses(&der);
    assert_eq!(refused.kind, DistrustKind::Store);
    assert!(refused.text.contains("cannot list"), "{refused}");
    let plant = Plant::trusting(&der);
    for count in 0..1_000 {
        plant.put(&format!("trusted/{count}"), "");
    }
    let refused = plant.refuses(&der);
    assert_eq!(refused.kind, DistrustKind::Store);
    assert!(refused.text.contains("more than 1000 files; remove some"), "{refused}");
}

#[test]
fn a_refusal_says_where_the_certificate_could_not_be_kept() {
    let der = Made::good().self_signed();
    let plant = Plant::new();
    plant.put("rejected/.keep", "");
    let dir = plant.dir.path().join("rejected");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o500)).unwrap();
    let refused = plant.refuses(&der);
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(refused.kind, DistrustKind::Unknown);
    // Root writes anyway.
    if plant.files("rejected").len() == 1 {
        assert!(refused.text.contains("it could not be kept (cannot write"), "{refused}");
    }
}

fn chain_of_two() -> Vec<u8> {
    let root = Authority::root(Authority::params("root"));
    [Made::good().signed_by(&root), root.der()].concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_from_a_server_end_the_process_nor_are_trusted(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let chain = chain_of_two();
        let mut hostile = chain.clone();
        for (at, byte) in changes {
            let at = at.index(hostile.len());
            hostile[at] = byte;
        }
        if let Some(cut) = cut {
            hostile.truncate(cut.index(hostile.len()));
        }
        let (leaf, _) = Certificate::split(&chain).unwrap();
        // Trusted is what was there before the changes.
        let plant = Plant::trusting(&leaf.der);
        let judged = plant.judge(&hostile);
        if !hostile.starts_with(&leaf.der) {
            prop_assert!(judged.is_err(), "{judged:?}");
        }
        // And in a folder it is junk or a certificate.
        plant.put("trusted/hostile", &hostile);
        plant.put("crl/hostile", &hostile);
        let _ = plant.judge(&chain);
        let _ = plant.store().list();
    }

    #[test]
    fn no_bytes_in_a_folder_end_the_process(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let plant = Plant::trusting(&bytes);
        plant.put("crl/it", &bytes);
        let _ = plant.judge(&bytes);
        prop_assert!(plant.store().list().is_ok());
    }
}
