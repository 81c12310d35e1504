//! What is wrong with an identity, or with what an authority signed, for this gateway now.
//!
//! # Invariants
//! - Everything that is wrong is found in one look, each as a finding of its own: each is another
//!   alarm with another remedy.
//! - An expired certificate is still examined for the rest: the chain is judged by a time at which
//!   the certificate itself was valid.
//! - Nothing here decides what to do: an identity with findings is still shown to the hub, which
//!   alone says whether it takes it.

use std::fmt;
use std::time::{Duration, SystemTime};

use rustls::crypto::ring::default_provider;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::authority::Enrolled;
use crate::certificate::{CertificateFacts, Validity};
use crate::crl::{Revocation, RevocationError};
use crate::files::rough;
use crate::identity::Identity;
use crate::request::{CertificateRequest, NotAccepted};

/// What an identity should be.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The subject, as RFC 2253 writes it: see [`crate::lab::gateway_subject`].
    pub subject: &'a str,
    /// Whom we trust. Nothing is said about the chain where there is nobody.
    pub roots: &'a [CertificateDer<'a>],
    /// What authorities have withdrawn.
    pub revocation: &'a Revocation,
    /// What time it is.
    pub now: SystemTime,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// It bears another name.
    WrongName {
        /// The name that it bears.
        got: String,
        /// The name that it should bear.
        asked: String,
    },
    /// A TLS client may not use it.
    WrongUsage,
    /// It leads to none of the roots.
    WrongCa {
        /// Who signed it.
        issuer: String,
        /// Why it leads nowhere.
        why: String,
    },
    /// It begins later.
    NotYetValid {
        /// In what time.
        begins_in: Duration,
    },
    /// It is over.
    Expired {
        /// Since when.
        since: Duration,
    },
    /// Its authority has withdrawn it.
    Revoked {
        /// The sentence about it.
        why: String,
    },
    /// It is no certificate, or belongs to another key.
    Junk {
        /// What is wrong with it.
        why: String,
    },
}

impl Finding {
    /// The alarm that it is.
    #[must_use]
    pub fn alarm(&self) -> &'static str {
        match self {
            Self::WrongName { .. } => "identity-wrong-name",
            Self::WrongUsage => "identity-wrong-usage",
            Self::WrongCa { .. } => "identity-wrong-ca",
            Self::NotYetValid { .. } => "identity-not-yet-valid",
            Self::Expired { .. } => "identity-expired",
            Self::Revoked { .. } => "identity-revoked",
            Self::Junk { .. } => "authority-junk",
        }
    }

    /// Whether what was signed must not be installed. Time alone may mend the others.
    #[must_use]
    pub fn forbids_installing(&self) -> bool {
        !matches!(self, Self::NotYetValid { .. })
    }

    /// What helps.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::WrongName { .. } => "have the authority sign the name that was asked for",
            Self::WrongUsage => "have the authority allow clientAuth",
            Self::WrongCa { .. } => {
                "have the authority that the hub trusts sign it, or correct roots.pem"
            }
            Self::NotYetValid { .. } => "correct the clock of this gateway or of the authority",
            Self::Expired { .. } => "enrol again with a token, or correct the clock",
            Self::Revoked { .. } => "admit the gateway again and enrol it with a token",
            Self::Junk { .. } => "look at what the authority sends; the former certificate stays",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongName { got, asked } => {
                write!(f, "the certificate is {got}'s and not {asked}'s")
            }
            Self::WrongUsage => f.write_str("the certificate may not be used by a TLS client"),
            Self::WrongCa { issuer, why } => {
                write!(f, "the certificate, signed by {issuer}, leads to no trusted root ({why})")
            }
            Self::NotYetValid { begins_in } => {
                write!(f, "the certificate becomes valid only in {}", rough(*begins_in))
            }
            Self::Expired { since } => {
                write!(f, "the certificate expired {} ago", rough(*since))
            }
            Self::Revoked { why } => f.write_str(why),
            Self::Junk { why } => write!(f, "what was signed cannot be used: {why}"),
        }
    }
}

/// Everything that is wrong with an identity; nothing when it is good.
#[must_use]
pub fn examine(identity: &Identity, expected: &Expected<'_>) -> Vec<Finding> {
    let facts = identity.facts();
    let mut findings = Vec::new();
    if facts.subject != expected.subject {
        findings.push(Finding::WrongName {
            got: facts.subject.clone(),
            asked: expected.subject.to_owned(),
        });
    }
    if !facts.client_auth {
        findings.push(Finding::WrongUsage);
    }
    findings.extend(wrong_ca(identity.chain(), facts, expected));
    match facts.validity(expected.now) {
        Validity::Valid { .. } => {}
        Validity::NotYet { begins_in } => findings.push(Finding::NotYetValid { begins_in }),
        Validity::Expired { since } => findings.push(Finding::Expired { since }),
    }
    if let Err(error @ RevocationError::Revoked { .. }) =
        expected.revocation.judge(identity.chain(), expected.now)
    {
        findings.push(Finding::Revoked { why: error.to_string() });
    }
    findings
}

/// What was signed for a request, as the identity that it would be, and everything that is wrong
/// with it. Without an identity it is junk, another's, or for no client.
pub fn examine_signed(
    request: &CertificateRequest,
    signed: &Enrolled,
    expected: &Expected<'_>,
) -> (Option<Identity>, Vec<Finding>) {
    match request.accept(signed) {
        Ok(identity) => {
            let findings = examine(&identity, expected);
            (Some(identity), findings)
        }
        Err(NotAccepted::Name { got, asked }) => (None, vec![Finding::WrongName { got, asked }]),
        Err(NotAccepted::Usage) => (None, vec![Finding::WrongUsage]),
        Err(error @ (NotAccepted::Unreadable(_) | NotAccepted::Key(_))) => {
            (None, vec![Finding::Junk { why: error.to_string() }])
        }
    }
}

fn wrong_ca(
    chain: &[CertificateDer<'_>],
    facts: &CertificateFacts,
    expected: &Expected<'_>,
) -> Option<Finding> {
    if expected.roots.is_empty() {
        return None;
    }
    let wrong = |why: String| Finding::WrongCa { issuer: facts.issuer.clone(), why };
    let (own, others) = chain.split_first()?;
    let anchors: Vec<_> =
        expected.roots.iter().filter_map(|root| anchor_from_trusted_cert(root).ok()).collect();
    let certificate = match EndEntityCert::try_from(own) {
        Ok(certificate) => certificate,
        Err(error) => return Some(wrong(error.to_string())),
    };
    // At its end where it is over, so that being over is not taken for leading nowhere.
    let then = expected.now.max(facts.not_before).min(facts.not_after);
    let since = then.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let verified = certificate.verify_for_usage(
        default_provider().signature_verification_algorithms.all,
        &anchors,
        others,
        UnixTime::since_unix_epoch(since),
        KeyUsage::client_auth(),
        None,
        None,
    );
    match verified {
        Ok(_) => None,
        // Said by another finding.
        Err(webpki::Error::RequiredEkuNotFoundContext(_)) if !facts.client_auth => None,
        Err(webpki::Error::UnknownIssuer) => Some(wrong("no root here signed it".to_owned())),
        Err(error) => Some(wrong(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, SerialNumber};

    use super::*;
    use crate::crl::{Crl, CrlRule};
    use crate::made::{DAY, MadeCa, NOW, at, lasting};

    const SUBJECT: &str = "CN=P/g,O=Tidegate";

    fn words(ca: &MadeCa, identity: &Identity, revocation: &Revocation) -> Vec<&'static str> {
        let roots = [ca.certificate()];
        let expected = Expected { subject: SUBJECT, roots: &roots, revocation, now: at(NOW) };
        examine(identity, &expected).iter().map(Finding::alarm).collect()
    }

    #[track_caller]
    fn finds(change: impl FnOnce(&mut CertificateParams), expected: &[&str]) {
        let ca = MadeCa::new("ca");
        let identity = ca.gateway(change);
        assert_eq!(words(&ca, &identity, &Revocation::default()), expected);
    }

    #[test]
    fn each_fault_is_a_finding_of_its_own_and_all_are_found_at_once() {
        finds(|_| {}, &[]);
        let renamed = |params: &mut CertificateParams| {
            params.distinguished_name.push(DnType::CommonName, "P/other");
        };
        finds(renamed, &["identity-wrong-name"]);
        let server = |params: &mut CertificateParams| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        };
        finds(server, &["identity-wrong-usage"]);
        finds(|params| lasting(params, NOW + 7_300, DAY), &["identity-not-yet-valid"]);
        finds(|params| lasting(params, NOW - 3 * 86_400, DAY), &["identity-expired"]);
        let everything = |params: &mut CertificateParams| {
            renamed(params);
            server(params);
            lasting(params, NOW - 3 * 86_400, DAY);
        };
        finds(everything, &["identity-wrong-name", "identity-wrong-usage", "identity-expired"]);
    }

    #[test]
    fn another_authority_is_found_whether_the_certificate_is_over_or_not() {
        let (ca, other) = (MadeCa::new("ca"), MadeCa::new("other"));
        let none = Revocation::default();
        assert_eq!(words(&ca, &other.gateway(|_| {}), &none), ["identity-wrong-ca"]);
        let over = other.gateway(|params| lasting(params, NOW - 3 * 86_400, DAY));
        assert_eq!(words(&ca, &over, &none), ["identity-wrong-ca", "identity-expired"]);
        let namesake = MadeCa::new("ca").gateway(|_| {});
        assert_eq!(words(&ca, &namesake, &none), ["identity-wrong-ca"]);
        let expected = Expected { subject: SUBJECT, roots: &[], revocation: &none, now: at(NOW) };
        assert!(examine(&namesake, &expected).is_empty(), "nobody is trusted yet");
    }

    #[test]
    fn a_chain_over_an_intermediate_authority_leads_to_the_root_when_it_is_sent() {
        let root = MadeCa::new("root");
        let middle = root.below("middle");
        let request = CertificateRequest::new("P/g", &[]).unwrap();
        let mut signed = middle.sign(&request);
        let none = Revocation::default();
        let roots = [root.certificate()];
        let expected =
            Expected { subject: SUBJECT, roots: &roots, revocation: &none, now: at(NOW) };
        let (identity, findings) = examine_signed(&request, &signed, &expected);
        assert!(identity.is_some());
        assert_eq!(
            findings[0].to_string(),
            "the certificate, signed by CN=middle,O=Test, leads to no trusted root \
             (no root here signed it)"
        );
        signed.chain.push(middle.certificate());
        assert!(examine_signed(&request, &signed, &expected).1.is_empty());
    }

    #[test]
    fn a_withdrawn_identity_is_found() {
        let ca = MadeCa::new("ca");
        let identity = ca.gateway(|params| params.serial_number = Some(SerialNumber::from(7)));
        let lists = Crl::read(&ca.crl(&[7], NOW, DAY)).unwrap();
        let (list, _) = Revocation::new(lists, &[ca.certificate()], CrlRule::default());
        assert_eq!(words(&ca, &identity, &list), ["identity-revoked"]);
    }

    #[test]
    fn junk_another_key_another_name_and_another_usage_never_become_an_identity() {
        let ca = MadeCa::new("ca");
        let request = CertificateRequest::new("P/g", &[]).unwrap();
        let none = Revocation::default();
        let roots = [ca.certificate()];
        let expected =
            Expected { subject: SUBJECT, roots: &roots, revocation: &none, now: at(NOW) };
        let found = |signed: &Enrolled| {
            let (identity, findings) = examine_signed(&request, signed, &expected);
            assert!(identity.is_none());
            findings[0].alarm()
        };
        let junk = Enrolled { certificate: b"junk".to_vec().into(), chain: Vec::new() };
        assert_eq!(found(&junk), "authority-junk");
        let other = CertificateRequest::new("P/g", &[]).unwrap();
        assert_eq!(found(&ca.sign(&other)), "authority-junk");
        let renamed = ca.sign_as(&request, |params| {
            params.distinguished_name.push(DnType::CommonName, "P/other");
        });
        assert_eq!(found(&renamed), "identity-wrong-name");
        let server = ca.sign_as(&request, |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        });
        assert_eq!(found(&server), "identity-wrong-usage");
        let early = ca.sign_as(&request, |params| lasting(params, NOW + 60, DAY));
        let (identity, findings) = examine_signed(&request, &early, &expected);
        assert!(identity.is_some() && !findings[0].forbids_installing());
    }
}
