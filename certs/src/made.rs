//! Certificates and revocation lists of every fault, for tests.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;

use crate::authority::Enrolled;
use crate::identity::Identity;
use crate::request::CertificateRequest;

pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// The middle of the certificates made here.
pub(crate) const NOW: u64 = 1_800_000_000;

pub(crate) fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// An authority.
pub(crate) struct MadeCa {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl MadeCa {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = named(name, "Test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        lasting(&mut params, NOW - 400 * 86_400, DAY * 4_000);
        let key = KeyPair::generate().unwrap();
        Self { issuer: CertifiedIssuer::self_signed(params, key).unwrap() }
    }

    /// An authority below this one.
    pub(crate) fn below(&self, name: &str) -> Self {
        let mut params = named(name, "Test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = true;
        lasting(&mut params, NOW - 400 * 86_400, DAY * 4_000);
        let key = KeyPair::generate().unwrap();
        Self { issuer: CertifiedIssuer::signed_by(params, key, &self.issuer).unwrap() }
    }

    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// Signs what a gateway asked for, changed by `change`.
    pub(crate) fn sign_as(
        &self,
        request: &CertificateRequest,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Enrolled {
        let key = KeyPair::from_pem(request.key_pem()).unwrap();
        let mut params = gateway("P/g");
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Enrolled { certificate, chain: Vec::new() }
    }

    pub(crate) fn sign(&self, request: &CertificateRequest) -> Enrolled {
        self.sign_as(request, |_| {})
    }

    /// A gateway's identity, changed by `change`.
    pub(crate) fn gateway(&self, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = gateway("P/g");
        change(&mut params);
        self.identity(params)
    }

    /// A hub's identity for `localhost`, changed by `change`.
    pub(crate) fn hub(&self, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = named("hub", "Tidegate hub");
        params.subject_alt_names = vec![SanType::DnsName("localhost".try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        change(&mut params);
        self.identity(params)
    }

    fn identity(&self, params: CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity::from_pem(key.serialize_pem().as_bytes(), certificate.pem().as_bytes()).unwrap()
    }

    /// A list that withdraws `serials`, made at `made` and to be replaced after `lasts`.
    pub(crate) fn crl(&self, serials: &[u64], made: u64, lasts: Duration) -> Vec<u8> {
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let made = epoch + Duration::from_secs(made);
        let params = CertificateRevocationListParams {
            this_update: made,
            next_update: made + lasts,
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials
                .iter()
                .map(|serial| RevokedCertParams {
                    serial_number: SerialNumber::from(*serial),
                    revocation_time: made,
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().der().to_vec()
    }
}

/// What is asked for with a gateway's certificate that is good at [`NOW`].
fn gateway(name: &str) -> CertificateParams {
    let mut params = named(name, "Tidegate");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn named(name: &str, organisation: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, organisation);
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    lasting(&mut params, NOW - 86_400, DAY * 30);
    params
}

pub(crate) fn lasting(params: &mut CertificateParams, from: u64, lasts: Duration) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(from);
    params.not_after = params.not_before + lasts;
}
