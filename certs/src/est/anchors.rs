//! Which certificates an authority's answer makes trusted, and in which order the rest stand.
//!
//! # Invariants
//! - A root becomes trusted because a person wrote its hash down, because it was trusted before, or
//!   because a trusted root signed its key (RFC 7030, 4.1.3: the way from an old root to a new one).
//!   That a server sent it is no reason.
//! - No I/O and no clock: whether a certificate is valid by now is asked where it is used.

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::opcua::Thumbprint;

/// Those whose hash a person wrote down.
pub(super) fn pinned(
    offered: &[CertificateDer<'static>],
    pins: &[Thumbprint],
) -> Vec<CertificateDer<'static>> {
    let mut found = Vec::new();
    for one in offered {
        if pins.contains(&Thumbprint::of(one)) && !found.contains(one) {
            found.push(one.clone());
        }
    }
    found
}

/// The roots that are trusted after this answer of an authority that is trusted already. Roots that
/// it names no more, and that nothing in the answer leads to, are left out.
pub(super) fn accepted(
    offered: &[CertificateDer<'static>],
    known: &[CertificateDer<'static>],
    pins: &[Thumbprint],
) -> Vec<CertificateDer<'static>> {
    let mut roots = pinned(offered, pins);
    for one in known {
        let is_used = offered.contains(one) || offered.iter().any(|other| signed_by(other, one));
        if is_used && !roots.contains(one) {
            roots.push(one.clone());
        }
    }
    // Each round adds a root or is the last one, so there are at most as many as certificates.
    loop {
        let found = offered.iter().find(|one| {
            !roots.contains(one) && signed_by(one, one) && is_vouched_for(one, offered, &roots)
        });
        match found {
            Some(root) => roots.push(root.clone()),
            None => return roots,
        }
    }
}

/// Whether a trusted root has signed the key of this root, under the same name.
fn is_vouched_for(
    root: &CertificateDer<'_>,
    offered: &[CertificateDer<'_>],
    trusted: &[CertificateDer<'_>],
) -> bool {
    let Ok((_, root)) = X509Certificate::from_der(root) else {
        return false;
    };
    root.is_ca()
        && offered.iter().any(|bridge| {
            X509Certificate::from_der(bridge).is_ok_and(|(_, parsed)| {
                parsed.is_ca()
                    && parsed.subject() == root.subject()
                    && parsed.public_key().raw == root.public_key().raw
            }) && trusted.iter().any(|trusted| signed_by(bridge, trusted))
        })
}

/// The certificate that belongs to the key of a request; where none does, the first that is no
/// authority's, so that whoever compares keys can say what is wrong.
pub(super) fn issued<'a>(
    all: &'a [CertificateDer<'static>],
    public_key: &[u8],
) -> Option<&'a CertificateDer<'static>> {
    let parsed = |one: &'a CertificateDer<'static>| X509Certificate::from_der(one).map(|(_, p)| p);
    all.iter()
        .find(|one| parsed(one).is_ok_and(|parsed| parsed.public_key().raw == public_key))
        .or_else(|| all.iter().find(|one| parsed(one).is_ok_and(|parsed| !parsed.is_ca())))
        .or_else(|| all.first())
}

/// The certificates between `own` and a root, the nearest first.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) between: Vec<CertificateDer<'static>>,
    /// Whether it ends at one of the roots.
    pub(super) is_whole: bool,
}

/// Puts the certificates of a pool into order.
pub(super) fn path(
    own: &CertificateDer<'static>,
    pool: &[CertificateDer<'static>],
    roots: &[CertificateDer<'static>],
) -> Path {
    let mut between: Vec<CertificateDer<'static>> = Vec::new();
    loop {
        let last = between.last().unwrap_or(own);
        if roots.iter().any(|root| signed_by(last, root)) {
            return Path { between, is_whole: true };
        }
        let next = pool.iter().find(|one| {
            *one != own && !between.contains(one) && !signed_by(one, one) && signed_by(last, one)
        });
        match next {
            Some(next) => between.push(next.clone()),
            None => return Path { between, is_whole: false },
        }
    }
}

/// Whether `issuer`, by name and key, signed `one`.
fn signed_by(one: &CertificateDer<'_>, issuer: &CertificateDer<'_>) -> bool {
    let (Ok((_, one)), Ok((_, issuer))) =
        (X509Certificate::from_der(one), X509Certificate::from_der(issuer))
    else {
        return false;
    };
    one.issuer() == issuer.subject() && one.verify_signature(Some(issuer.public_key())).is_ok()
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PublicKeyData as _,
    };

    use super::*;

    type Der = CertificateDer<'static>;

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    fn one(der: &Der) -> &[Der] {
        std::slice::from_ref(der)
    }

    struct Root {
        key: KeyPair,
        name: &'static str,
        der: Der,
    }

    impl Root {
        fn new(name: &'static str) -> Self {
            let key = KeyPair::generate().unwrap();
            let der = params(name).self_signed(&key).unwrap().der().clone();
            Self { key, name, der }
        }

        fn signs(&self, name: &str, key: &KeyPair) -> Der {
            let issuer = Issuer::new(params(self.name), &self.key);
            params(name).signed_by(key, &issuer).unwrap().der().clone()
        }

        fn pin(&self) -> Thumbprint {
            Thumbprint::of(&self.der)
        }
    }

    #[test]
    fn only_a_pinned_root_is_trusted_at_first() {
        let (good, evil) = (Root::new("good"), Root::new("good"));
        let offered = [evil.der.clone(), good.der.clone(), good.der.clone()];
        assert_eq!(pinned(&offered, &[good.pin()]), one(&good.der));
        assert_eq!(accepted(&offered, &[], &[good.pin()]), one(&good.der));
        assert!(accepted(&[evil.der], &[], &[good.pin()]).is_empty());
    }

    #[test]
    fn a_new_root_is_trusted_once_the_old_one_signed_its_key() {
        let (old, new, foreign) = (Root::new("old"), Root::new("new"), Root::new("new"));
        let bridge = old.signs("new", &new.key);
        let offered = [old.der.clone(), new.der.clone(), foreign.der.clone(), bridge.clone()];
        assert_eq!(accepted(&offered, one(&old.der), &[]), [old.der.clone(), new.der.clone()]);
        // The old one need not be offered any more.
        let offered = [new.der.clone(), bridge.clone()];
        assert_eq!(accepted(&offered, one(&old.der), &[]), [old.der.clone(), new.der.clone()]);
        // Without the bridge it is just a certificate that somebody sent.
        let offered = [old.der.clone(), new.der.clone()];
        assert_eq!(accepted(&offered, one(&old.der), &[]), one(&old.der));
        // A bridge under another name vouches for nobody.
        let offered = [old.der.clone(), new.der, old.signs("other", &new.key)];
        assert_eq!(accepted(&offered, one(&old.der), &[]), one(&old.der));
    }

    #[test]
    fn a_root_that_is_not_offered_any_more_is_left_out() {
        let (old, new) = (Root::new("old"), Root::new("new"));
        let known = [old.der.clone(), new.der.clone()];
        assert_eq!(accepted(one(&new.der), &known, &[]), one(&new.der));
        let middle = old.signs("middle", &KeyPair::generate().unwrap());
        assert_eq!(accepted(&[middle], &known, &[]), one(&old.der));
        assert!(accepted(&[b"junk".to_vec().into()], &known, &[]).is_empty());
    }

    #[test]
    fn a_chain_is_put_into_order_and_ends_before_the_root() {
        let root = Root::new("root");
        let (upper, lower) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let upper_der = root.signs("upper", &upper);
        let upper = Root { key: upper, name: "upper", der: upper_der.clone() };
        let lower_der = upper.signs("lower", &lower);
        let lower = Root { key: lower, name: "lower", der: lower_der.clone() };
        let own = lower.signs("own", &KeyPair::generate().unwrap());
        let pool = [root.der.clone(), own.clone(), upper_der.clone(), lower_der.clone()];
        let roots = [root.der];
        let whole = Path { between: vec![lower_der.clone(), upper_der], is_whole: true };
        assert_eq!(path(&own, &pool, &roots), whole);
        let cut = Path { between: vec![lower_der.clone()], is_whole: false };
        assert_eq!(path(&own, &pool[..2], &roots), Path { between: vec![], is_whole: false });
        assert_eq!(path(&own, &pool[3..], &roots), cut);
    }

    #[test]
    fn the_issued_certificate_is_known_by_its_key() {
        let root = Root::new("root");
        let (mine, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let all = [root.der.clone(), root.signs("other", &other), root.signs("own", &mine)];
        assert_eq!(issued(&all, &mine.subject_public_key_info()), Some(&all[2]));
        assert_eq!(issued(&all[..1], b"none"), Some(&all[0]));
        assert_eq!(issued(&[], b"none"), None);
    }
}
