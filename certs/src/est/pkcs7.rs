//! Certificates in a PKCS #7 envelope without signatures ("certs-only", RFC 5652 and RFC 7030,
//! 4.1.3): what an EST server sends.
//!
//! # Invariants
//! - Whatever the bytes are, reading them neither panics nor takes more than their own length; the
//!   number of certificates and the depth of nesting are bounded.
//! - The certificates' bytes are handed on untouched: encoded again, a certificate that is sloppy
//!   in a detail would lose its signature.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::STANDARD as STANDARD_ENGINE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

/// A chain has three or four; an authority in the middle of a roll-over offers four for each root.
const MAX_CERTIFICATES: usize = 32;

/// An envelope has five levels, a certificate ten.
const MAX_DEPTH: usize = 24;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
/// `[0]`, constructed: the content of the envelope, and the certificates in it.
const CONTEXT_0: u8 = 0xa0;
/// 1.2.840.113549.1.7.2.
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// 1.2.840.113549.1.7.1.
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];

/// Some servers leave the padding away.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why bytes are no envelope of certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Neither base64 nor DER.
    #[error("neither base64 nor DER")]
    Text,
    /// Base64 or DER of something else, or cut.
    #[error("no PKCS #7 envelope of certificates")]
    Envelope,
    /// There is nothing in it.
    #[error("a PKCS #7 envelope without a certificate")]
    Empty,
    /// More than any authority has reason to send.
    #[error("a PKCS #7 envelope with more than {MAX_CERTIFICATES} certificates")]
    TooMany,
}

/// What a server may put around an envelope taken away: base64 with or without line breaks, with or
/// without PEM's lines, or nothing at all.
///
/// # Errors
/// When it is neither.
pub fn bare(body: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
    if body.first() == Some(&SEQUENCE) && !body.is_ascii() {
        return Ok(body.to_vec());
    }
    let text = std::str::from_utf8(body).map_err(|_| EnvelopeError::Text)?;
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("-----"));
    let text: String = lines.flat_map(str::chars).filter(|c| !c.is_whitespace()).collect();
    match LENIENT.decode(text) {
        Ok(bytes) if !bytes.is_empty() => Ok(bytes),
        _ => Err(EnvelopeError::Text),
    }
}

/// The certificates in an answer, in its order. Whether they are certificates is not looked at.
///
/// # Errors
/// When it is no envelope, or there are none or too many in it.
pub fn certificates(body: &[u8]) -> Result<Vec<CertificateDer<'static>>, EnvelopeError> {
    let bytes = bare(body)?;
    let content = inside(&bytes).ok_or(EnvelopeError::Envelope)?;
    let mut all = Vec::new();
    let mut left = content;
    while !left.is_empty() {
        let (element, rest) = Element::next(left, 0).ok_or(EnvelopeError::Envelope)?;
        left = rest;
        // Others are attribute certificates, which nobody asked for.
        if element.tag == SEQUENCE {
            if all.len() == MAX_CERTIFICATES {
                return Err(EnvelopeError::TooMany);
            }
            all.push(CertificateDer::from(element.whole.to_vec()));
        }
    }
    if all.is_empty() { Err(EnvelopeError::Empty) } else { Ok(all) }
}

/// Puts certificates into an envelope, DER.
#[must_use]
pub fn envelope(certificates: &[CertificateDer<'_>]) -> Vec<u8> {
    let all: Vec<u8> = certificates.iter().flat_map(|one| one.iter().copied()).collect();
    let signed = wrap(
        SEQUENCE,
        &[
            // Version 1.
            &[0x02, 0x01, 0x01],
            // No digest algorithms.
            &wrap(SET, &[]),
            &wrap(SEQUENCE, &[&wrap(OBJECT_ID, &[DATA])]),
            &wrap(CONTEXT_0, &[&all]),
            // No signatures.
            &wrap(SET, &[]),
        ],
    );
    wrap(SEQUENCE, &[&wrap(OBJECT_ID, &[SIGNED_DATA]), &wrap(CONTEXT_0, &[&signed])])
}

/// Base64 in lines, as RFC 7030 bodies are written.
#[must_use]
pub fn base64(bytes: &[u8]) -> String {
    let text = STANDARD_ENGINE.encode(bytes);
    let mut out = String::with_capacity(text.len() + text.len() / 64 + 1);
    for (at, c) in text.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            out.push('\n');
        }
        out.push(c);
    }
    out.push('\n');
    out
}

/// The secret in an `Authorization` header: a Basic password, or a Bearer's token. The user name
/// says nothing that the secret does not say better.
#[must_use]
pub fn credential_of(header: &str) -> Option<Zeroizing<String>> {
    let (scheme, said) = header.split_once(' ')?;
    let said = said.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(Zeroizing::new(said.to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = Zeroizing::new(LENIENT.decode(said).ok()?);
    let (_, password) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
    Some(Zeroizing::new(password.to_owned()))
}

/// The bytes of the certificates.
fn inside(bytes: &[u8]) -> Option<&[u8]> {
    let (outer, _) = Element::next(bytes, 0)?.of(SEQUENCE)?;
    let (kind, rest) = Element::next(outer.content, 0)?.of(OBJECT_ID)?;
    if kind.content != SIGNED_DATA {
        return None;
    }
    let (content, _) = Element::next(rest, 0)?.of(CONTEXT_0)?;
    let (signed, _) = Element::next(content.content, 0)?.of(SEQUENCE)?;
    // Version, digest algorithms, content: none of them says anything here.
    let mut left = signed.content;
    for _ in 0..3 {
        left = Element::next(left, 0)?.1;
    }
    match Element::next(left, 0) {
        Some((element, _)) if element.tag == CONTEXT_0 => Some(element.content),
        _ => Some(&[]),
    }
}

/// One element of BER, and where its content is.
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    whole: &'a [u8],
}

/// So that a step of a path reads as one.
trait Of: Sized {
    fn of(self, tag: u8) -> Option<Self>;
}

impl Of for (Element<'_>, &[u8]) {
    fn of(self, tag: u8) -> Option<Self> {
        (self.0.tag == tag).then_some(self)
    }
}

impl<'a> Element<'a> {
    /// The first element, and what follows it. Lengths may be indefinite, as some servers write.
    fn next(bytes: &'a [u8], depth: usize) -> Option<(Self, &'a [u8])> {
        if depth > MAX_DEPTH {
            return None;
        }
        let (&tag, after_tag) = bytes.split_first()?;
        // No tag of an envelope or certificate takes more than one byte.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (&first, after_length) = after_tag.split_first()?;
        let (content, rest) = match first {
            0..=0x7f => after_length.split_at_checked(usize::from(first))?,
            0x80 => return Self::indefinite(tag, bytes, after_length, depth),
            0x81..=0x84 => {
                let (digits, after) = after_length.split_at_checked(usize::from(first & 0x7f))?;
                let length = digits.iter().try_fold(0_u32, |sum, digit| {
                    Some(sum.checked_mul(256)? + u32::from(*digit))
                })?;
                after.split_at_checked(usize::try_from(length).ok()?)?
            }
            _ => return None,
        };
        let whole = bytes.get(..bytes.len().checked_sub(rest.len())?)?;
        Some((Self { tag, content, whole }, rest))
    }

    fn indefinite(
        tag: u8,
        bytes: &'a [u8],
        content: &'a [u8],
        depth: usize,
    ) -> Option<(Self, &'a [u8])> {
        let mut left = content;
        while !left.starts_with(&[0, 0]) {
            left = Self::next(left, depth.checked_add(1)?)?.1;
        }
        let rest = left.get(2..)?;
        let inner = content.get(..content.len().checked_sub(left.len())?)?;
        let whole = bytes.get(..bytes.len().checked_sub(rest.len())?)?;
        Some((Self { tag, content: inner, whole }, rest))
    }
}

/// An element of DER.
fn wrap(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = vec![tag];
    let digits: Vec<u8> =
        content.len().to_be_bytes().into_iter().skip_while(|digit| *digit == 0).collect();
    match (digits.as_slice(), u8::try_from(digits.len())) {
        ([], _) => out.push(0),
        ([short], _) if *short < 0x80 => out.push(*short),
        // The bytes of a length are never more than a `usize` has.
        (long, count) => {
            out.push(0x80 | count.unwrap_or(8));
            out.extend_from_slice(long);
        }
    }
    out.extend_from_slice(&content);
    out
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD as BASE64;
    use proptest::prelude::*;

    use super::*;

    fn two() -> Vec<CertificateDer<'static>> {
        let of = |fill: u8, length: usize| wrap(SEQUENCE, &[&vec![fill; length]]);
        vec![of(1, 5).into(), of(2, 700).into()]
    }

    #[test]
    fn what_is_put_in_comes_out_however_a_server_writes_it() {
        let der = envelope(&two());
        let text = BASE64.encode(&der);
        let lines = base64(&der);
        let pem = format!("-----BEGIN PKCS7-----\n{lines}-----END PKCS7-----\n");
        let bodies = [
            text.clone().into_bytes(),
            text.trim_end_matches('=').as_bytes().to_vec(),
            lines.replace('\n', "\r\n").into_bytes(),
            lines.into_bytes(),
            pem.into_bytes(),
            der,
        ];
        for body in bodies {
            assert_eq!(certificates(&body).unwrap(), two());
        }
    }

    #[test]
    fn lengths_may_be_indefinite() {
        let all: Vec<u8> = two().iter().flat_map(|one| one.to_vec()).collect();
        let open = |tag: u8, parts: &[&[u8]]| [&[tag, 0x80], &parts.concat()[..], &[0, 0]].concat();
        let signed = open(
            SEQUENCE,
            &[
                &[2, 1, 1],
                &wrap(SET, &[]),
                &open(SEQUENCE, &[&wrap(OBJECT_ID, &[DATA])]),
                &open(CONTEXT_0, &[&all]),
                &wrap(SET, &[]),
            ],
        );
        let whole =
            open(SEQUENCE, &[&wrap(OBJECT_ID, &[SIGNED_DATA]), &open(CONTEXT_0, &[&signed])]);
        assert_eq!(certificates(&whole).unwrap(), two());
    }

    #[test]
    fn a_secret_is_found_in_either_scheme() {
        let of = |header: &str| credential_of(header).map(|secret| secret.to_string());
        let basic = format!("basic {}", BASE64.encode("P/g:a:b"));
        assert_eq!(of(&basic).as_deref(), Some("a:b"));
        assert_eq!(of("Bearer abc").as_deref(), Some("abc"));
        for none in ["", "Basic", "Basic !", "Basic YQ==", "Digest abc", "Basic /w=="] {
            assert_eq!(of(none), None, "{none}");
        }
    }

    #[test]
    fn what_openssl_wrote_is_read() {
        // openssl crl2pkcs7 -nocrl -certfile …, OpenSSL 3.0.
        let text = include_bytes!("openssl.p7b");
        let all = certificates(text).unwrap();
        let facts = crate::CertificateFacts::of(&all[0]).unwrap();
        assert_eq!((all.len(), facts.subject.as_str()), (1, "CN=lab"));
    }

    #[test]
    fn anything_else_is_told_apart() {
        for text in ["", "\n", "<html>busy</html>", "é"] {
            assert_eq!(certificates(text.as_bytes()), Err(EnvelopeError::Text), "{text:?}");
        }
        let der = envelope(&two());
        for other in [&der[..der.len() - 1], b"MIIB".as_slice(), &der[4..]] {
            assert!(certificates(other).is_err());
        }
        assert_eq!(certificates(&envelope(&[])), Err(EnvelopeError::Empty));
        let many = vec![two()[0].clone(); MAX_CERTIFICATES + 1];
        assert_eq!(certificates(&envelope(&many)), Err(EnvelopeError::TooMany));
        // Nested without end, each level of indefinite length.
        let deep = [SEQUENCE, 0x80].repeat(100_000);
        assert_eq!(certificates(&deep), Err(EnvelopeError::Envelope));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = certificates(&bytes);
            bytes.splice(0..0, [SEQUENCE, 0x80, OBJECT_ID, 9]);
            bytes.splice(4..4, SIGNED_DATA.iter().copied());
            let _ = certificates(&bytes);
        }

        #[test]
        fn a_damaged_envelope_is_read_or_refused(at in 0usize..700, to in any::<u8>()) {
            let mut der = envelope(&two());
            if let Some(byte) = der.get_mut(at) {
                *byte = to;
            }
            let _ = certificates(&der);
        }
    }
}
