//! Whose signature a checkpoint bears: certificates for the proof.
//!
//! # Invariants
//! - A signature counts for a gateway only under a certificate that bears that gateway's name.
//! - A certificate is judged at the time at which it signed: it may have expired since.

use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use tidegate_identity::lab::gateway_subject;
use tidegate_identity::{CertificateFacts, Signature, verify};
use tidegate_record::Checkpoint;
use tidegate_record::proof::{Notary, Signatory};

use crate::causes::chain;

/// Judges signatures by certificates.
#[derive(Debug, Default)]
pub(crate) struct Certificates {
    authority: Option<Arc<dyn ClientCertVerifier>>,
}

/// Why no authority can be taken from the certificates.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthorityError {
    /// One of them is not good for an authority.
    #[error("a certificate is not good for an authority")]
    Root(#[source] rustls::Error),
    /// There is none, or the library refuses them.
    #[error("the certificates make no authority")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
}

impl Certificates {
    /// Vouches for certificates that lead to one of these.
    ///
    /// # Errors
    /// When one of them is not good for an authority, or there is none.
    pub(crate) fn vouched_for_by(
        roots: Vec<CertificateDer<'static>>,
    ) -> Result<Self, AuthorityError> {
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(root).map_err(AuthorityError::Root)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider);
        let authority = verifier.build().map_err(AuthorityError::Verifier)?;
        Ok(Self { authority: Some(authority) })
    }

    fn doubt(&self, checkpoint: &Checkpoint, at: UnixTime) -> Option<String> {
        let Some(authority) = &self.authority else {
            return Some("no authority was given to vouch for it: --authority FILE".to_owned());
        };
        let own = CertificateDer::from(checkpoint.certificate.as_slice());
        let chain: Vec<_> =
            checkpoint.chain.iter().map(|it| CertificateDer::from(it.as_slice())).collect();
        let error = authority.verify_client_cert(&own, &chain, at).err()?;
        Some(format!("its certificate is not vouched for: {error}"))
    }
}

impl Notary for Certificates {
    fn judge(
        &self,
        gateway: &str,
        checkpoint: &Checkpoint,
        message: &[u8],
    ) -> Result<Signatory, String> {
        let own = CertificateDer::from(checkpoint.certificate.as_slice());
        let facts = CertificateFacts::of(&own).map_err(|error| chain(&error))?;
        let asked = gateway_subject(gateway);
        if facts.subject != asked {
            return Err(format!("signed by {}, not by {asked}", facts.subject));
        }
        let (scheme, bytes) = (checkpoint.scheme, checkpoint.signature.clone());
        verify(&own, message, &Signature { scheme, bytes }).map_err(|error| error.to_string())?;
        let seconds = u64::try_from(checkpoint.at).unwrap_or_default() / 1_000_000_000;
        let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let not_vouched_for = self.doubt(checkpoint, at);
        Ok(Signatory { subject: facts.subject, serial: facts.serial, not_vouched_for })
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use tidegate_identity::Identity;
    use tidegate_identity::lab::{LabCa, Lifetime};
    use tidegate_journal::{FrameHash, Position};

    use super::*;

    const DAY: i64 = 86_400 * 1_000_000_000;

    fn lab() -> (LabCa, Identity) {
        let from = Lifetime::from(SystemTime::UNIX_EPOCH);
        let ca = LabCa::new("lab", from).unwrap();
        let identity = ca.gateway("P/g", from).unwrap().identity().unwrap();
        (ca, identity)
    }

    fn signed(identity: &Identity, message: &[u8], at: i64) -> Checkpoint {
        let signature = identity.sign(message).unwrap();
        Checkpoint {
            up_to: Position { frame: 1, next_seq: 2, hash: FrameHash([3; 32]) },
            at,
            certificate: identity.chain()[0].to_vec(),
            chain: Vec::new(),
            scheme: signature.scheme,
            signature: signature.bytes,
        }
    }

    #[test]
    fn a_signature_counts_under_the_gateways_own_name_alone() {
        let (_, identity) = lab();
        let notary = Certificates::default();
        let checkpoint = signed(&identity, b"message", DAY / 2);
        let by = notary.judge("P/g", &checkpoint, b"message").unwrap();
        assert_eq!(by.subject, "CN=P/g,O=Tidegate");
        assert!(by.not_vouched_for.unwrap().contains("--authority"));
        let other = notary.judge("P/other", &checkpoint, b"message").unwrap_err();
        assert!(other.contains("CN=P/g") && other.contains("CN=P/other"), "{other}");
        assert!(notary.judge("P/g", &checkpoint, b"another").is_err());
        let junk = Checkpoint { certificate: b"junk".to_vec(), ..checkpoint };
        assert!(notary.judge("P/g", &junk, b"message").is_err());
    }

    #[test]
    fn an_authority_vouches_for_what_it_issued_and_while_that_was_valid() {
        let (ca, identity) = lab();
        let notary = Certificates::vouched_for_by(vec![ca.certificate()]).unwrap();
        let doubt = |identity: &Identity, at| {
            let checkpoint = signed(identity, b"message", at);
            notary.judge("P/g", &checkpoint, b"message").unwrap().not_vouched_for
        };
        assert_eq!(doubt(&identity, DAY / 2), None);
        assert!(doubt(&identity, 2 * DAY).unwrap().contains("expired"));
        let (_, stranger) = lab();
        assert!(doubt(&stranger, DAY / 2).unwrap().contains("not vouched for"));
        assert!(Certificates::vouched_for_by(Vec::new()).is_err());
    }
}
