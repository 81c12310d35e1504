use super::*;
use crate::opcua::trust::{Change, Standing, TrustError};

fn prefix(der: &[u8]) -> ThumbprintPrefix {
    ThumbprintPrefix::parse(&Thumbprint::of(der).to_string()[..8]).unwrap()
}

fn standings(plant: &Plant) -> Vec<(Standing, String)> {
    let listing = plant.store().list().unwrap();
    listing.certificates.iter().map(|one| (one.standing, one.facts.subject.clone())).collect()
}

#[test]
fn a_listing_shows_who_waits_first_with_everything_a_person_compares() {
    let root = Authority::root(Authority::params("root"));
    let der = Made::good().signed_by(&root);
    let plant = Plant::new();
    plant.put("trusted/root", root.der());
    plant.put("issuers/other", Authority::root(Authority::params("other")).der());
    plant.put("rejected/x.der", &der);
    plant.put("crl/list", root.list(&[1], NOW, RevocationReason::KeyCompromise));
    let listing = plant.store().list().unwrap();
    let first = &listing.certificates[0];
    assert_eq!(first.thumbprint, Thumbprint::of(&der));
    assert_eq!((first.rsa_bits, first.is_authority), (Some(2048), false));
    assert_eq!(first.uris, [URI]);
    assert_eq!(first.facts.names, [HOST]);
    assert_eq!(
        standings(&plant),
        [
            (Standing::Waiting, "CN=press".to_owned()),
            (Standing::Trusted, "CN=root".to_owned()),
            (Standing::Issuer, "CN=other".to_owned()),
        ]
    );
    assert!(listing.certificates[1].is_authority);
    let [list] = listing.lists.as_slice() else { panic!("{listing:?}") };
    assert_eq!((list.issuer.as_str(), list.revoked), ("CN=root", 1));
    assert_eq!(list.next_update, Some(at(NOW)));
}

#[test]
fn approving_and_rejecting_move_one_certificate_to_and_fro() {
    let der = Made::good().self_signed();
    let plant = Plant::new();
    plant.refuses(&der);
    let store = plant.store();
    for _ in 0..2 {
        assert!(matches!(store.approve(&prefix(&der)), Ok(Change::Moved(_))));
        assert!(matches!(store.approve(&prefix(&der)), Ok(Change::Nothing(_))));
        assert_eq!(standings(&plant), [(Standing::Trusted, "CN=press".to_owned())]);
        assert!(matches!(store.reject(&prefix(&der)), Ok(Change::Moved(_))));
        assert!(matches!(store.reject(&prefix(&der)), Ok(Change::Nothing(_))));
        assert_eq!(standings(&plant), [(Standing::Rejected, "CN=press".to_owned())]);
    }
}

#[test]
fn one_that_waits_can_be_rejected_for_good() {
    let der = Made::good().self_signed();
    let plant = Plant::new();
    plant.refuses(&der);
    plant.store().reject(&prefix(&der)).unwrap();
    assert_eq!(plant.refuses(&der).kind, DistrustKind::Rejected);
    assert_eq!(plant.files("rejected").len(), 1);
}

#[test]
fn a_prefix_must_fit_exactly_one() {
    let plant = Plant::new();
    let der = Made::good().self_signed();
    let nothing = plant.store().approve(&prefix(&der)).unwrap_err();
    assert!(matches!(nothing, TrustError::NoSuch { .. }));
    // Two certificates whose thumbprints begin alike cannot be made here; one in two folders
    // counts as one.
    plant.put("trusted/a", &der);
    plant.put("rejected/b.rejected.der", &der);
    assert_eq!(plant.refuses(&der).kind, DistrustKind::Rejected);
    assert!(matches!(plant.store().approve(&prefix(&der)), Ok(Change::Moved(_))));
    assert!(plant.judge(&der).is_ok());
}

#[test]
fn a_file_is_added_by_what_is_in_it() {
    let root = Authority::root(Authority::params("root"));
    let middle = root.below(Authority::params("middle"));
    let leaf = Made::good().signed_by(&middle);
    let list = middle.list(&serial(&leaf), NOW + DAY, RevocationReason::KeyCompromise);
    let plant = Plant::new();
    for (name, content) in [
        ("root.pem", root.pem().into_bytes()),
        ("middle.der", middle.der()),
        ("list.crl", list),
        ("leaf", leaf.clone()),
        ("both.pem", [root.pem(), middle.pem()].concat().into_bytes()),
        ("junk", b"x".to_vec()),
    ] {
        plant.put(&format!("home/{name}"), content);
    }
    let file = |name: &str| plant.dir.path().join("home").join(name);
    let store = plant.store();
    assert_eq!(plant.refuses(&leaf).kind, DistrustKind::Unknown);
    assert!(matches!(store.add(&file("root.pem"), false), Ok(Change::Moved(_))));
    assert!(matches!(store.add(&file("root.pem"), false), Ok(Change::Nothing(_))));
    assert!(matches!(store.add(&file("middle.der"), true), Ok(Change::Moved(_))));
    assert!(plant.judge(&leaf).is_ok());
    assert!(matches!(store.add(&file("list.crl"), false), Ok(Change::List(_))));
    assert_eq!(plant.refuses(&leaf).kind, DistrustKind::Revoked);
    assert!(matches!(store.add(&file("leaf"), false), Ok(Change::Moved(_))));
    assert!(plant.files("rejected").is_empty(), "it no longer waits");
    for (name, as_issuer, why) in [
        ("both.pem", false, "it holds more than one certificate; add them one by one"),
        ("junk", false, "it holds no certificate"),
        ("leaf", true, "it is no authority's certificate"),
        ("missing", false, "No such file"),
    ] {
        let error = store.add(&file(name), as_issuer).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn adding_takes_a_refusal_back() {
    let der = Made::good().self_signed();
    let plant = Plant::trusting(&der);
    plant.store().reject(&prefix(&der)).unwrap();
    plant.put("home/it", &der);
    plant.store().add(&plant.dir.path().join("home/it"), false).unwrap();
    assert!(plant.judge(&der).is_ok());
}

#[test]
fn a_bundle_is_not_torn_apart() {
    let root = Authority::root(Authority::params("root"));
    let other = Authority::root(Authority::params("other"));
    let plant = Plant::new();
    plant.put("trusted/bundle.pem", [root.pem(), other.pem()].concat());
    plant.store().reject(&prefix(&root.der())).unwrap();
    let refused = plant.refuses(&Made::good().signed_by(&root));
    assert_eq!(refused.kind, DistrustKind::Rejected);
    assert!(plant.judge(&Made::good().signed_by(&other)).is_ok());
}
