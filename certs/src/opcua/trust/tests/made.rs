//! Certificates for tests. RSA keys take seconds to make and nothing here uses them, so servers
//! have a modulus that is nobody's; authorities sign with P-256.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair,
    KeyUsagePurpose, PublicKeyData, RevocationReason, RevokedCertParams, SanType, SerialNumber,
    SignatureAlgorithm, SigningKey,
};

pub(super) const NOW: u64 = 1_800_000_000;
pub(super) const DAY: u64 = 86_400;
pub(super) const URI: &str = "urn:maker:press";
pub(super) const HOST: &str = "press-1.plant";

/// A public key of so many bits, and signatures that fit nothing.
pub(super) struct NobodysKey(Vec<u8>);

impl NobodysKey {
    pub(super) fn of(bits: usize) -> Self {
        // SEQUENCE { INTEGER modulus, INTEGER 65537 }, as RFC 8017 writes it.
        let mut modulus = vec![0xa5; bits / 8];
        modulus[bits / 8 - 1] = 0x5b;
        let mut body = integer(&modulus);
        body.extend(integer(&[1, 0, 1]));
        Self(tagged(0x30, &body))
    }
}

fn integer(bytes: &[u8]) -> Vec<u8> {
    let mut padded = Vec::new();
    if bytes[0] & 0x80 != 0 {
        padded.push(0);
    }
    padded.extend_from_slice(bytes);
    tagged(2, &padded)
}

fn tagged(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    match length {
        [0, short] if short < 0x80 => out.push(short),
        [high, low] => out.extend([0x82, high, low]),
    }
    out.extend_from_slice(body);
    out
}

impl PublicKeyData for NobodysKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_RSA_SHA256
    }
}

impl SigningKey for NobodysKey {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(vec![0x42; 256])
    }
}

/// What a server's certificate says.
pub(super) struct Made {
    pub(super) params: CertificateParams,
    pub(super) bits: usize,
}

impl Made {
    /// One without a fault, valid for a day around now.
    pub(super) fn good() -> Self {
        let mut params = params("press", NOW - DAY, NOW + DAY);
        // The order of node-opcua's own certificates: the host first, the URI last.
        params.subject_alt_names = vec![dns(HOST), uri(URI)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::ContentCommitment,
            KeyUsagePurpose::KeyEncipherment,
            KeyUsagePurpose::DataEncipherment,
        ];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        Self { params, bits: 2048 }
    }

    pub(super) fn with(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut made = Self::good();
        change(&mut made.params);
        made
    }

    pub(super) fn self_signed(self) -> Vec<u8> {
        self.params.self_signed(&NobodysKey::of(self.bits)).unwrap().der().to_vec()
    }

    pub(super) fn signed_by(self, authority: &Authority) -> Vec<u8> {
        let key = NobodysKey::of(self.bits);
        self.params.signed_by(&key, &authority.0).unwrap().der().to_vec()
    }
}

pub(super) fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

pub(super) fn uri(uri: &str) -> SanType {
    SanType::URI(uri.try_into().unwrap())
}

pub(super) fn time(seconds: u64) -> impl Fn(&mut CertificateParams) {
    move |params| params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds)
}

pub(super) fn params(name: &str, from: u64, to: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(from);
    params.not_after = epoch + Duration::from_secs(to);
    params
}

/// An authority.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn params(name: &str) -> CertificateParams {
        let mut params = params(name, NOW - 10 * DAY, NOW + 10 * DAY);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
    }

    pub(super) fn root(params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub(super) fn below(&self, params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::signed_by(params, key, &self.0).unwrap())
    }

    /// Another certificate of the same key, signed by itself.
    pub(super) fn again(&self, params: CertificateParams) -> Self {
        let key = KeyPair::from_pem(&self.0.key().serialize_pem()).unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub(super) fn der(&self) -> Vec<u8> {
        self.0.der().to_vec()
    }

    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A list that withdraws `serial`, to be replaced at `until`.
    pub(super) fn list(&self, serial: &[u8], until: u64, reason: RevocationReason) -> Vec<u8> {
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let params = CertificateRevocationListParams {
            this_update: epoch + Duration::from_secs(NOW - 3 * DAY),
            next_update: epoch + Duration::from_secs(until),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from_slice(serial),
                revocation_time: epoch + Duration::from_secs(NOW - DAY),
                reason_code: Some(reason),
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).unwrap().der().to_vec()
    }
}

/// Everywhere the one object identifier instead of the other, of the same length.
pub(super) fn replaced(der: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = der.to_vec();
    let places: Vec<_> =
        out.windows(from.len()).enumerate().filter(|(_, w)| *w == from).map(|(at, _)| at).collect();
    assert!(!places.is_empty());
    for at in places {
        out[at..at + to.len()].copy_from_slice(to);
    }
    out
}
