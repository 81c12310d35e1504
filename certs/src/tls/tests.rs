use std::sync::atomic::{AtomicU64, Ordering};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, SanType, SerialNumber};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConnection, HandshakeKind, ServerConfig, ServerConnection};

use super::*;
use crate::crl::{Crl, CrlRule, WhenStale};
use crate::floor::{FloorClock, SharedFloor};
use crate::made::{DAY, MadeCa, NOW, at, lasting};

/// A clock that a test sets.
#[derive(Debug, Clone)]
struct Hand(Arc<AtomicU64>);

impl Hand {
    fn new() -> Self {
        Self(Arc::new(AtomicU64::new(NOW)))
    }

    fn time(&self) -> Arc<dyn TimeProvider> {
        let hand = Arc::clone(&self.0);
        Arc::new(FloorClock::new(move || at(hand.load(Ordering::SeqCst)), SharedFloor::default()))
    }
}

fn hot(ca: &MadeCa, identity: Option<&Identity>, hand: &Hand) -> HotTls {
    let revocation = Revocation::default();
    HotTls::new(vec![ca.certificate()], identity, revocation, Oldest::Tls13, hand.time()).unwrap()
}

/// A server that shows `hub` and wants a certificate of `ca`.
fn server(hub: &Identity, clients: Option<&MadeCa>, hand: &Hand) -> Arc<ServerConfig> {
    let provider = Arc::new(default_provider());
    let builder = ServerConfig::builder_with_details(Arc::clone(&provider), hand.time())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            roots.add(ca.certificate()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let resolver = SingleCertAndKey::from(hub.certified().unwrap());
    Arc::new(builder.with_cert_resolver(Arc::new(resolver)))
}

/// A whole handshake in memory, and a message after it, so that tickets and late alerts arrive.
fn shake(
    client: &HotTls,
    server: &Arc<ServerConfig>,
    name: &str,
) -> Result<HandshakeKind, rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(client.config(), name).unwrap();
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    for _ in 0..10 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        server.read_tls(&mut wire.as_slice()).unwrap();
        // What the server does not take it tells by an alert.
        let _ = server.process_new_packets();
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok(client.handshake_kind().unwrap())
}

fn fault(client: &HotTls, server: &Arc<ServerConfig>, name: &str) -> PeerFault {
    fault_of(&shake(client, server, name).unwrap_err())
}

#[test]
fn sessions_are_resumed_until_identity_roots_or_lists_change() {
    let (ca, hand) = (MadeCa::new("ca"), Hand::new());
    let (hub, gateway) = (ca.hub(|_| {}), ca.gateway(|_| {}));
    let server = server(&hub, Some(&ca), &hand);
    let client = hot(&ca, Some(&gateway), &hand);
    let kind = || shake(&client, &server, "localhost").unwrap();
    assert_eq!(kind(), HandshakeKind::Full);
    assert_eq!(kind(), HandshakeKind::Resumed, "or the rest shows nothing");
    let changes: [&dyn Fn(); 3] = [
        &|| client.set_identity(Some(&ca.gateway(|_| {}))).unwrap(),
        &|| client.set_roots(vec![ca.certificate()]).unwrap(),
        &|| client.set_revocation(Revocation::default()).unwrap(),
    ];
    for (count, change) in (1..).zip(changes) {
        change();
        assert_eq!(client.changes(), count);
        assert_eq!(kind(), HandshakeKind::Full, "change {count}");
        assert_eq!(kind(), HandshakeKind::Resumed);
    }
}

#[test]
fn a_hub_of_former_roots_is_refused_at_once_and_not_resumed() {
    let (old, new, hand) = (MadeCa::new("old"), MadeCa::new("new"), Hand::new());
    let server = server(&old.hub(|_| {}), None, &hand);
    let client = hot(&old, None, &hand);
    shake(&client, &server, "localhost").unwrap();
    client.set_roots(vec![new.certificate()]).unwrap();
    assert_eq!(fault(&client, &server, "localhost"), PeerFault::Untrusted);
    client.set_roots(vec![new.certificate(), old.certificate()]).unwrap();
    shake(&client, &server, "localhost").unwrap();
}

#[test]
fn a_change_that_cannot_be_made_leaves_what_was() {
    let (ca, hand) = (MadeCa::new("ca"), Hand::new());
    let server = server(&ca.hub(|_| {}), None, &hand);
    let client = hot(&ca, None, &hand);
    assert!(matches!(client.set_roots(Vec::new()), Err(TlsError::NoRoots)));
    let junk = vec![ca.certificate(), CertificateDer::from(&b"junk"[..])];
    assert!(matches!(client.set_roots(junk), Err(TlsError::Root { number: 2, .. })));
    assert_eq!(client.changes(), 0);
    shake(&client, &server, "localhost").unwrap();
}

#[test]
fn each_fault_of_a_hub_has_a_word_of_its_own() {
    let (ca, hand) = (MadeCa::new("ca"), Hand::new());
    let client = hot(&ca, None, &hand);
    let of = |change: &dyn Fn(&mut CertificateParams)| {
        let hub = ca.hub(|params| change(params));
        fault(&client, &server(&hub, None, &hand), "localhost")
    };
    let elsewhere = |params: &mut CertificateParams| {
        params.subject_alt_names = vec![SanType::DnsName("elsewhere".try_into().unwrap())];
    };
    assert_eq!(of(&elsewhere), PeerFault::WrongName);
    let clients = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    };
    assert_eq!(of(&clients), PeerFault::WrongUsage);
    assert_eq!(of(&|params| lasting(params, NOW - 100, DAY / 1_000)), PeerFault::Expired);
    assert_eq!(of(&|params| lasting(params, NOW + 100, DAY)), PeerFault::NotYetValid);
    let other = MadeCa::new("other").hub(|_| {});
    let server = server(&other, None, &hand);
    assert_eq!(fault(&client, &server, "localhost"), PeerFault::Untrusted);
}

#[test]
fn a_hub_that_does_not_take_our_certificate_is_told_from_one_that_is_not_trusted() {
    let (ca, hand) = (MadeCa::new("ca"), Hand::new());
    let server = server(&ca.hub(|_| {}), Some(&ca), &hand);
    let none = hot(&ca, None, &hand);
    assert_eq!(fault(&none, &server, "localhost"), PeerFault::RefusesUs);
    let stranger = MadeCa::new("other").gateway(|_| {});
    none.set_identity(Some(&stranger)).unwrap();
    assert_eq!(fault(&none, &server, "localhost"), PeerFault::RefusesUs);
    let expired = ca.gateway(|params| lasting(params, NOW - 100, DAY / 1_000));
    none.set_identity(Some(&expired)).unwrap();
    assert_eq!(fault(&none, &server, "localhost"), PeerFault::RefusesUs);
    none.set_identity(Some(&ca.gateway(|_| {}))).unwrap();
    shake(&none, &server, "localhost").unwrap();
    assert!(!PeerFault::RefusesUs.is_the_peers() && PeerFault::Expired.is_the_peers());
}

#[test]
fn lists_are_asked_at_each_handshake_and_grow_old_under_a_standing_configuration() {
    let (ca, hand) = (MadeCa::new("ca"), Hand::new());
    let hub = ca.hub(|params| params.serial_number = Some(SerialNumber::from(7)));
    let client = hot(&ca, None, &hand);
    let revocation = |withdrawn: &[u64], when_stale| {
        let lists = Crl::read(&ca.crl(withdrawn, NOW, DAY)).unwrap();
        Revocation::new(lists, &[ca.certificate()], CrlRule { when_stale, ..CrlRule::default() }).0
    };
    // A server of its own each time: nothing to resume.
    let shake = |client: &HotTls| shake(client, &server(&hub, None, &hand), "localhost");
    let fault = |client: &HotTls| fault_of(&shake(client).unwrap_err());
    client.set_revocation(revocation(&[7], WhenStale::Accept)).unwrap();
    assert_eq!(fault(&client), PeerFault::Revoked);
    client.set_revocation(revocation(&[8], WhenStale::Refuse)).unwrap();
    shake(&client).unwrap();
    hand.0.store(NOW + 2 * 86_400, Ordering::SeqCst);
    assert_eq!(fault(&client), PeerFault::RevocationUnknown);
    assert_eq!(
        told(&shake(&client).unwrap_err()),
        "the revocation list of CN=ca,O=Test should have been replaced 24 hours ago"
    );
    client.set_revocation(revocation(&[8], WhenStale::Accept)).unwrap();
    shake(&client).unwrap();
}

#[test]
fn a_clock_behind_its_floor_still_finds_valid_certificates_valid() {
    let ca = MadeCa::new("ca");
    let right = Hand::new();
    let server = server(&ca.hub(|_| {}), None, &right);
    let mut floor = crate::floor::TimeFloor::new(at(1_000), None);
    let time = Arc::new(FloorClock::new(|| at(5), floor.shared()));
    let roots = vec![ca.certificate()];
    let client = HotTls::new(roots, None, Revocation::default(), Oldest::Tls13, time).unwrap();
    assert_eq!(fault(&client, &server, "localhost"), PeerFault::NotYetValid);
    floor.took_certificate(at(NOW - 3_600));
    shake(&client, &server, "localhost").unwrap();
}

#[test]
fn neither_key_nor_certificate_is_printed() {
    let (ca, hand) = (MadeCa::new("ca"), Hand::new());
    let client = hot(&ca, Some(&ca.gateway(|_| {})), &hand);
    assert_eq!(
        format!("{client:?}"),
        "HotTls { roots: 1, identity: true, oldest: Tls13, changes: 0, .. }"
    );
}

#[test]
fn protocols_are_offered_as_asked_for() {
    let (ca, hand) = (MadeCa::new("ca"), Hand::new());
    let client = hot(&ca, None, &hand).offering(&["http/1.1"]).unwrap();
    client.set_roots(vec![ca.certificate()]).unwrap();
    assert_eq!(client.config().alpn_protocols, [b"http/1.1".to_vec()]);
}
