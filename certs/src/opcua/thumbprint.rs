//! What people compare to know a certificate: the SHA-256 of its DER.

use std::fmt;

/// Fewer digits are guessed too easily: a person who approves by eight digits has looked at them.
const MIN_DIGITS: usize = 8;

/// The SHA-256 of a certificate's DER.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Thumbprint(pub [u8; 32]);

/// The beginning of a thumbprint, of at least eight digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThumbprintPrefix(String);

/// Why a text is no beginning of a thumbprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no thumbprint; give at least {MIN_DIGITS} hexadecimal digits of it")]
pub struct PrefixError {
    text: String,
}

impl Thumbprint {
    /// That of a certificate.
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, der);
        let mut bytes = [0; 32];
        for (to, from) in bytes.iter_mut().zip(digest.as_ref()) {
            *to = *from;
        }
        Self(bytes)
    }

    /// Its first 16 digits: what messages and file names say.
    #[must_use]
    pub fn short(&self) -> String {
        hex(&self.0[..8])
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl ThumbprintPrefix {
    /// Reads digits of either case, with or without colons or spaces between them.
    ///
    /// # Errors
    /// When they are fewer than eight, more than 64, or no digits.
    pub fn parse(text: &str) -> Result<Self, PrefixError> {
        let digits: String = text
            .chars()
            .filter(|c| !matches!(c, ':' | ' '))
            .map(|c| c.to_ascii_lowercase())
            .collect();
        let legal = digits.chars().all(|c| c.is_ascii_hexdigit())
            && (MIN_DIGITS..=64).contains(&digits.len());
        if legal { Ok(Self(digits)) } else { Err(PrefixError { text: text.to_owned() }) }
    }

    /// Whether the thumbprint begins like this.
    #[must_use]
    pub fn fits(&self, thumbprint: &Thumbprint) -> bool {
        thumbprint.to_string().starts_with(&self.0)
    }
}

impl fmt::Display for ThumbprintPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The SHA-1 of a certificate's DER, hexadecimal: Part 4 of OPC UA calls that its thumbprint.
pub(super) fn sha1(der: &[u8]) -> String {
    hex(ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, der).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thumbprint_is_the_sha_256_of_the_bytes() {
        // FIPS 180-2, B.1.
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let thumbprint = Thumbprint::of(b"abc");
        assert_eq!(thumbprint.to_string(), known);
        assert_eq!(thumbprint.short(), known[..16]);
    }

    #[test]
    fn eight_digits_of_either_case_are_enough_and_seven_are_not() {
        let thumbprint = Thumbprint::of(b"abc");
        for text in ["ba7816bf", "BA:78:16:BF", "ba78 16bf 8f"] {
            assert!(ThumbprintPrefix::parse(text).unwrap().fits(&thumbprint), "{text}");
        }
        assert!(!ThumbprintPrefix::parse("ba7816b0").unwrap().fits(&thumbprint));
        for text in ["ba7816b", "", "ba7816bg", "éééééééé", &"0".repeat(65)] {
            assert!(ThumbprintPrefix::parse(text).is_err(), "{text}");
        }
    }
}
