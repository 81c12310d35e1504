use proptest::prelude::*;
use rcgen::SerialNumber;

use super::*;
use crate::made::{DAY, MadeCa, NOW, at};

const HOUR: Duration = Duration::from_secs(3_600);

fn rule(when_stale: WhenStale) -> CrlRule {
    CrlRule { when_stale, ..CrlRule::default() }
}

fn revocation(ca: &MadeCa, list: &[u8], when_stale: WhenStale) -> Revocation {
    let (revocation, remarks) =
        Revocation::new(Crl::read(list).unwrap(), &[ca.certificate()], rule(when_stale));
    assert!(remarks.is_empty(), "{remarks:?}");
    revocation
}

fn chain(ca: &MadeCa, serial: u64) -> Vec<CertificateDer<'static>> {
    ca.hub(|params| params.serial_number = Some(SerialNumber::from(serial))).chain().to_vec()
}

#[test]
fn a_list_is_read_from_der_and_from_pem_with_several() {
    let ca = MadeCa::new("ca");
    let der = ca.crl(&[5, 6], NOW, DAY);
    let lists = Crl::read(&der).unwrap();
    assert_eq!((lists.len(), lists[0].withdrawn()), (1, 2));
    assert_eq!(lists[0].issuer(), "CN=ca,O=Test");
    assert_eq!((lists[0].this_update(), lists[0].next_update()), (at(NOW), Some(at(NOW) + DAY)));
    let pem = crate::pem::pem_of("X509 CRL", &der);
    assert_eq!(Crl::read((pem.clone() + &pem).as_bytes()).unwrap().len(), 2);
    assert_eq!(Crl::read(pem.repeat(17).as_bytes()).unwrap_err(), CrlError::TooMany);
}

#[test]
fn what_is_no_list_says_so() {
    assert_eq!(Crl::read(b"").unwrap_err(), CrlError::None);
    assert_eq!(Crl::read(b"hello\n").unwrap_err(), CrlError::None);
    assert!(matches!(Crl::read(&[0x30, 3, 1, 1, 1]), Err(CrlError::Unusable(_))));
    let ca = MadeCa::new("ca");
    assert!(matches!(Crl::read(&ca.certificate()), Err(CrlError::Unusable(_))));
    let mut long = ca.crl(&[], NOW, DAY);
    long.push(0);
    assert!(matches!(Crl::read(&long), Err(CrlError::Unusable(_))));
    let broken = b"-----BEGIN X509 CRL-----\n!!!\n-----END X509 CRL-----\n";
    assert_eq!(Crl::read(broken).unwrap_err(), CrlError::Pem);
    let huge = vec![b' '; usize::try_from(MAX_CRL_BYTES).unwrap() + 1];
    assert_eq!(Crl::read(&huge).unwrap_err(), CrlError::TooLarge);
}

#[test]
fn only_the_lists_of_known_authorities_count() {
    let (ca, namesake) = (MadeCa::new("ca"), MadeCa::new("ca"));
    let forged = Crl::read(&namesake.crl(&[5], NOW, DAY)).unwrap();
    let (revocation, remarks) =
        Revocation::new(forged, &[ca.certificate()], rule(WhenStale::Accept));
    assert!(revocation.lists().is_empty());
    assert!(remarks[0].contains("CN=ca,O=Test is passed over"), "{remarks:?}");
    assert_eq!(revocation.judge(&chain(&ca, 5), at(NOW)), Ok(()));
}

#[test]
fn what_a_list_names_is_refused_by_a_fresh_list_and_by_an_old_one() {
    let ca = MadeCa::new("ca");
    for (made, when_stale) in [
        (NOW, WhenStale::Accept),
        (NOW, WhenStale::Refuse),
        (NOW - 90 * 86_400, WhenStale::Accept),
        (NOW - 90 * 86_400, WhenStale::Refuse),
    ] {
        let revocation = revocation(&ca, &ca.crl(&[5], made, DAY), when_stale);
        let error = revocation.judge(&chain(&ca, 5), at(NOW)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the certificate of CN=hub,O=Tidegate hub with serial 05 was revoked by CN=ca,O=Test"
        );
    }
}

#[test]
fn a_missing_or_old_list_is_taken_or_refused_as_configured() {
    let ca = MadeCa::new("ca");
    let other = MadeCa::new("other");
    let good = chain(&ca, 7);
    let old = ca.crl(&[5], NOW - 2 * 86_400, DAY);
    assert_eq!(revocation(&ca, &old, WhenStale::Accept).judge(&good, at(NOW)), Ok(()));
    let refused = revocation(&ca, &old, WhenStale::Refuse).judge(&good, at(NOW)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the revocation list of CN=ca,O=Test should have been replaced 24 hours ago"
    );
    let elsewhere = other.crl(&[], NOW, DAY);
    assert_eq!(revocation(&other, &elsewhere, WhenStale::Accept).judge(&good, at(NOW)), Ok(()));
    let refused = revocation(&other, &elsewhere, WhenStale::Refuse).judge(&good, at(NOW));
    assert!(matches!(refused, Err(RevocationError::Unknown { .. })));
    let none = Revocation::new(Vec::new(), &[], rule(WhenStale::Refuse)).0;
    assert!(matches!(none.judge(&good, at(NOW)), Err(RevocationError::Unknown { .. })));
    assert_eq!(Revocation::default().judge(&good, at(NOW)), Ok(()));
}

#[test]
fn one_fresh_list_of_an_authority_is_enough() {
    let ca = MadeCa::new("ca");
    let mut lists = Crl::read(&ca.crl(&[], NOW, DAY)).unwrap();
    lists.extend(Crl::read(&ca.crl(&[], NOW - 9 * 86_400, DAY)).unwrap());
    let revocation = Revocation::new(lists, &[ca.certificate()], rule(WhenStale::Refuse)).0;
    assert_eq!(revocation.judge(&chain(&ca, 7), at(NOW)), Ok(()));
    let stalest = revocation.stalest(at(NOW)).unwrap();
    assert!(matches!(stalest, RevocationError::Stale { since, .. } if since == 8 * DAY));
}

#[test]
fn a_list_is_old_by_its_next_update_or_by_its_age_whichever_is_first() {
    let ca = MadeCa::new("ca");
    let list = |lasts| Crl::read(&ca.crl(&[], NOW, lasts)).unwrap().remove(0);
    let short = list(DAY);
    assert_eq!(short.freshness(at(NOW), 7 * DAY), Freshness::Fresh { left: DAY });
    assert_eq!(
        short.freshness(at(NOW) + DAY + HOUR, 7 * DAY),
        Freshness::Stale { since: HOUR, bound: StaleBy::NextUpdate }
    );
    let long = list(300 * DAY);
    assert_eq!(
        long.freshness(at(NOW) + 7 * DAY + HOUR, 7 * DAY),
        Freshness::Stale { since: HOUR, bound: StaleBy::MaxAge }
    );
    let future = long.freshness(at(NOW) - 20 * DAY, 7 * DAY);
    assert_eq!(future, Freshness::Fresh { left: 27 * DAY });
    assert!(matches!(long.freshness(at(NOW), Duration::MAX), Freshness::Fresh { .. }));
}

#[test]
fn an_intermediate_authority_can_be_withdrawn_and_needs_a_list_when_refusing() {
    let root = MadeCa::new("root");
    let middle = root.below("middle");
    let mut chain = chain(&middle, 7);
    chain.push(middle.certificate());
    chain.push(root.certificate());
    let (_, parsed) = X509Certificate::from_der(&chain[1]).unwrap();
    let middle_serial = bare(parsed.raw_serial()).to_vec();
    let fresh = |withdrawn: &[u64]| {
        let mut lists = Crl::read(&middle.crl(withdrawn, NOW, DAY)).unwrap();
        lists.extend(Crl::read(&root.crl(&[], NOW, DAY)).unwrap());
        lists
    };
    let authorities = [root.certificate(), middle.certificate()];
    let all = Revocation::new(fresh(&[]), &authorities, rule(WhenStale::Refuse)).0;
    assert_eq!(all.judge(&chain, at(NOW)), Ok(()), "the root has nobody above");
    let only_middle = Crl::read(&middle.crl(&[], NOW, DAY)).unwrap();
    let one = Revocation::new(only_middle, &authorities, rule(WhenStale::Refuse)).0;
    assert!(matches!(one.judge(&chain, at(NOW)), Err(RevocationError::Unknown { .. })));
    let mut lists = fresh(&[]);
    lists[1].withdrawn.insert(middle_serial);
    let revoked = Revocation::new(lists, &authorities, rule(WhenStale::Accept)).0;
    assert!(matches!(revoked.judge(&chain, at(NOW)), Err(RevocationError::Revoked { .. })));
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = Crl::read(&bytes);
        let mut sequence = vec![0x30, 0x82];
        sequence.extend(&bytes);
        let _ = Crl::read(&sequence);
    }

    /// Real lists with bytes changed, cut and repeated: deeper than random bytes ever reach.
    #[test]
    fn no_damage_to_a_real_list_makes_anything_panic_or_unsigned_count(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        shortened: bool,
    ) {
        let ca = MadeCa::new("ca");
        let real = ca.crl(&[1, 70_000, u64::MAX], NOW, DAY);
        let mut bytes = real.clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if shortened {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(lists) = Crl::read(&bytes) {
            let (revocation, _) =
                Revocation::new(lists, &[ca.certificate()], rule(WhenStale::Refuse));
            let _ = revocation.judge(&chain(&ca, 1), at(NOW));
            prop_assert!(revocation.lists().is_empty() || bytes == real);
        }
    }
}
