//! From a server's certificate to an authority that a person trusts.
//!
//! # Invariants
//! - Every step is a signature that was verified; names only say which one to try.
//! - Neither a server's chain nor cross-signed authorities can make the search long: its depth and
//!   the number of signatures are bounded.
//! - An authority that is approved ends the search, whether or not it signed itself.

use std::time::SystemTime;

use crate::opcua::certificate::{Certificate, Key};
use crate::opcua::distrust::{Distrust, DistrustKind, Flaw, MIN_RSA_BITS, untimely, weak};
use crate::opcua::thumbprint::Thumbprint;

/// Authorities between a server and the one that is trusted, this one counted.
const MAX_DEPTH: usize = 6;
/// Signatures that are verified for one server; each takes well under a millisecond.
const MAX_SIGNATURES: u32 = 60;

/// Where authorities are looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pool<'a> {
    /// Approved by a person.
    pub(super) trusted: &'a [Certificate],
    /// Neither: by a person, to complete chains; or by the server.
    pub(super) others: &'a [Certificate],
    /// Refused by a person.
    pub(super) refused: &'a [Thumbprint],
    pub(super) now: SystemTime,
}

/// What the search ended with.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// The authorities from the one that signed the certificate to the trusted one.
    Path(Vec<&'a Certificate>),
    /// There is a way to a trusted authority, but not a good one.
    Flawed(Distrust),
    /// There is none.
    Nothing,
}

/// Looks for a way.
pub(super) fn search<'a>(leaf: &Certificate, pool: Pool<'a>) -> Found<'a> {
    let mut search = Search { leaf, pool, signatures: MAX_SIGNATURES, flawed: None };
    match search.from(leaf, &mut Vec::new(), None) {
        Some(path) => Found::Path(path),
        None => search.flawed.map_or(Found::Nothing, Found::Flawed),
    }
}

struct Search<'a, 'l> {
    leaf: &'l Certificate,
    pool: Pool<'a>,
    signatures: u32,
    /// The first way that would have been one.
    flawed: Option<Distrust>,
}

impl<'a> Search<'a, '_> {
    fn from(
        &mut self,
        child: &Certificate,
        path: &mut Vec<&'a Certificate>,
        flaw: Option<&Distrust>,
    ) -> Option<Vec<&'a Certificate>> {
        if path.len() == MAX_DEPTH {
            return None;
        }
        let trusted = self.pool.trusted.iter().map(|authority| (authority, true));
        let others = self.pool.others.iter().map(|authority| (authority, false));
        for (authority, is_trusted) in trusted.chain(others) {
            // A server that kept its key signs its next certificate like an authority would; it is
            // none, and the next certificate is simply unknown.
            if authority.subject != child.issuer
                || authority.authority.is_none()
                || authority.thumbprint == self.leaf.thumbprint
                || path.iter().any(|known| known.thumbprint == authority.thumbprint)
            {
                continue;
            }
            self.signatures = self.signatures.checked_sub(1)?;
            if !child.is_signed_by(authority) {
                continue;
            }
            let own = || {
                self.flaw(authority, child, path)
                    .map(|flaw| flaw.of_authority(authority, self.leaf))
            };
            let flaw = flaw.cloned().or_else(own);
            path.push(authority);
            if is_trusted {
                match flaw {
                    None => return Some(path.clone()),
                    Some(flaw) => self.flawed = self.flawed.take().or(Some(flaw)),
                }
            } else if let Some(path) = self.from(authority, path, flaw.as_ref()) {
                return Some(path);
            }
            path.pop();
        }
        None
    }

    /// What forbids `authority` to have signed `child`, with `below` between it and the server.
    fn flaw(
        &self,
        authority: &Certificate,
        child: &Certificate,
        below: &[&Certificate],
    ) -> Option<Flaw> {
        let remedy = "ask whoever runs that authority";
        if self.pool.refused.contains(&authority.thumbprint) {
            return Some(Flaw::new(
                DistrustKind::Rejected,
                "was rejected here",
                format!(
                    "approve it with: tidegate identity trust approve {}",
                    authority.thumbprint.short()
                ),
            ));
        }
        if let Key::Rsa(bits) = authority.key
            && bits < MIN_RSA_BITS
        {
            return Some(Flaw::new(
                DistrustKind::TooWeak,
                format!("has an RSA key of {bits} bits, fewer than {MIN_RSA_BITS}"),
                remedy,
            ));
        }
        // The signature under the trusted one itself is of no interest; under any other it is.
        if child.thumbprint != self.leaf.thumbprint
            && let Some(flaw) = weak(child)
        {
            return Some(Flaw { what: format!("signed another that {}", flaw.what), ..flaw });
        }
        let unusable = |what: String| Some(Flaw::new(DistrustKind::Unusable, what, remedy));
        if authority.usage.is_some_and(|usage| !usage.signs_certificates) {
            return unusable("lacks keyCertSign among its key usages".to_owned());
        }
        if let Some(oid) = &authority.obscure {
            return unusable(format!("has a critical extension that is not known here ({oid})"));
        }
        // RFC 5280, 4.2.1.9: those that signed themselves anew do not count.
        let between = below.iter().filter(|between| between.subject != between.issuer).count();
        if let Some(length) = authority.authority.and_then(|authority| authority.path_length)
            && usize::try_from(length).is_ok_and(|length| between > length)
        {
            return unusable(format!("allows {length} authorities below itself and has {between}"));
        }
        untimely(authority, self.pool.now).map(|flaw| Flaw {
            remedy: format!("{remedy}, or correct the clock of this gateway"),
            ..flaw
        })
    }
}
