//! Certificates for Modbus/TCP Security: an authority, a device, and clients good and bad.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, SanType,
};

use crate::clock;
use crate::field::{Site, quoted};

/// A certificate and its key, in files.
#[derive(Debug, Clone)]
pub struct Paper {
    /// The certificate.
    pub cert: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// An authority, and what it has signed.
#[derive(Debug)]
pub struct Papers {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: PathBuf,
    server: Paper,
}

impl Papers {
    /// An authority of this name, and a device of it at `127.0.0.1`.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn issued(site: &Site, name: &str) -> anyhow::Result<Self> {
        let directory = site.path(name);
        std::fs::create_dir_all(&directory)?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        std::fs::write(directory.join("ca.pem"), issuer.pem())?;
        let mut papers =
            Self { issuer, server: Paper { cert: PathBuf::new(), key: PathBuf::new() }, directory };
        papers.server = papers.issue("device", Duration::from_secs(3 * 3600))?;
        Ok(papers)
    }

    /// The authority's certificate.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// The device's.
    #[must_use]
    pub const fn server(&self) -> &Paper {
        &self.server
    }

    /// A certificate more, valid from an hour ago for so long.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn issue(&self, name: &str, valid_for: Duration) -> anyhow::Result<Paper> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = vec![SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST))];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let hour_ago = clock::now_ms()? / 1000 - 3600;
        let until = hour_ago + i64::try_from(valid_for.as_secs())?;
        params.not_before =
            rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(hour_ago)?);
        params.not_after =
            rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(until)?);
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer).context("signing")?;
        let file = |ending: &str| self.directory.join(format!("{name}.{ending}"));
        let paper = Paper { cert: file("pem"), key: file("key") };
        std::fs::write(&paper.cert, cert.pem())?;
        std::fs::write(&paper.key, key.serialize_pem())?;
        Ok(paper)
    }

    /// The key `tls` of a `[[device]]`: whom it trusts, and what it shows.
    #[must_use]
    pub fn tls(&self, shown: Option<&Paper>) -> String {
        let ca = quoted(&self.ca());
        let shown = shown
            .map(|paper| format!(", cert = {}, key = {}", quoted(&paper.cert), quoted(&paper.key)));
        format!("tls = {{ ca = {ca}{} }}", shown.unwrap_or_default())
    }
}
