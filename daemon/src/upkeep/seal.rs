//! A file under a passphrase.
//!
//! ```text
//! "TIDEGATE SEALED 1\n"  rounds (u32, big-endian)  salt (16)  nonce (12)  sealed bytes and tag (16)
//! ```
//!
//! # Invariants
//! - The key is PBKDF2-HMAC-SHA256 of passphrase and salt; the bytes are sealed by
//!   ChaCha20-Poly1305 with everything before them as its context: nothing can be changed unseen.
//! - Salt and nonce are new each time, so no key is used for two files.
//! - What opens a file does not let the file decide how long it takes.

use std::num::NonZeroU32;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::pbkdf2::{PBKDF2_HMAC_SHA256, derive};
use zeroize::Zeroizing;

const MAGIC: &[u8] = b"TIDEGATE SEALED 1\n";
const SALT: usize = 16;
const NONCE: usize = 12;
const TAG: usize = 16;
const HEAD: usize = MAGIC.len() + 4 + SALT + NONCE;

/// OWASP's Password Storage Cheat Sheet (2023) for PBKDF2-HMAC-SHA256.
#[cfg(not(test))]
const ROUNDS: u32 = 600_000;
/// Tests are about the format.
#[cfg(test)]
const ROUNDS: u32 = 1_000;
/// What a file may ask for: some seconds on a small board.
const MOST_ROUNDS: u32 = 5_000_000;
/// NIST SP 800-63B-4 asks for fifteen characters where a password is all that there is; twelve are
/// refused here by nobody who uses words.
pub(crate) const SHORTEST: usize = 12;

/// Why a file could not be sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SealError {
    #[error("the passphrase has fewer than {SHORTEST} characters; take several words")]
    Short,
    #[error("the system gives no random numbers")]
    Random,
    #[error("wrong passphrase, or the file was changed")]
    Closed,
    #[error("the file is cut off, or asks for more work than any of ours")]
    Foreign,
}

/// Whether a file is sealed.
pub(crate) fn is_sealed(file: &[u8]) -> bool {
    file.starts_with(MAGIC)
}

/// Seals `content`.
pub(crate) fn seal(content: &[u8], passphrase: &str) -> Result<Vec<u8>, SealError> {
    if passphrase.chars().count() < SHORTEST {
        return Err(SealError::Short);
    }
    let mut random = [0_u8; SALT + NONCE];
    getrandom::fill(&mut random).map_err(|_| SealError::Random)?;
    let mut file = MAGIC.to_vec();
    file.extend_from_slice(&ROUNDS.to_be_bytes());
    file.extend_from_slice(&random);
    let (salt, nonce) = random.split_at(SALT);
    let key = key(passphrase, salt, ROUNDS)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Foreign)?;
    let mut sealed = Zeroizing::new(content.to_vec());
    // Room for the tag, so that no copy of the plain bytes is left behind by growing.
    sealed.reserve_exact(TAG);
    let tag = key
        .seal_in_place_separate_tag(nonce, Aad::from(&file), &mut sealed)
        .map_err(|_| SealError::Foreign)?;
    file.extend_from_slice(&sealed);
    file.extend_from_slice(tag.as_ref());
    Ok(file)
}

/// Opens what [`seal`] made.
pub(crate) fn open(file: &[u8], passphrase: &str) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (head, sealed) = file.split_at_checked(HEAD).ok_or(SealError::Foreign)?;
    let rest = head.strip_prefix(MAGIC).ok_or(SealError::Foreign)?;
    let (rounds, rest) = rest.split_first_chunk::<4>().ok_or(SealError::Foreign)?;
    let rounds = u32::from_be_bytes(*rounds);
    if rounds > MOST_ROUNDS {
        return Err(SealError::Foreign);
    }
    let (salt, nonce) = rest.split_at_checked(SALT).ok_or(SealError::Foreign)?;
    let key = key(passphrase, salt, rounds)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Foreign)?;
    let mut content = Zeroizing::new(sealed.to_vec());
    let length = key
        .open_in_place(nonce, Aad::from(head), &mut content)
        .map_err(|_| SealError::Closed)?
        .len();
    content.truncate(length);
    Ok(content)
}

fn key(passphrase: &str, salt: &[u8], rounds: u32) -> Result<LessSafeKey, SealError> {
    let rounds = NonZeroU32::new(rounds).ok_or(SealError::Foreign)?;
    let mut bytes = Zeroizing::new([0_u8; 32]);
    derive(PBKDF2_HMAC_SHA256, rounds, salt, passphrase.as_bytes(), bytes.as_mut_slice());
    let key = UnboundKey::new(&CHACHA20_POLY1305, bytes.as_slice());
    key.map(LessSafeKey::new).map_err(|_| SealError::Foreign)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: &str = "correct horse battery";

    #[test]
    fn what_was_sealed_opens_by_the_same_passphrase_and_by_no_other() {
        let file = seal(b"the key", WORDS).unwrap();
        assert!(is_sealed(&file) && !file.windows(7).any(|part| part == b"the key"));
        assert_eq!(open(&file, WORDS).unwrap().as_slice(), b"the key");
        assert_eq!(open(&file, "correct horse batterie").unwrap_err(), SealError::Closed);
        assert_ne!(seal(b"the key", WORDS).unwrap(), file);
    }

    #[test]
    fn a_short_passphrase_is_refused() {
        assert_eq!(seal(b"x", "eleven char").unwrap_err(), SealError::Short);
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_noticed() {
        let file = seal(b"the key", WORDS).unwrap();
        for at in MAGIC.len() + 4..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert_eq!(open(&changed, WORDS).unwrap_err(), SealError::Closed, "byte {at}");
        }
        for length in 0..file.len() {
            assert!(open(&file[..length], WORDS).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_file_cannot_ask_for_years_of_work() {
        let mut file = seal(b"the key", WORDS).unwrap();
        file[MAGIC.len()..MAGIC.len() + 4].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(open(&file, WORDS).unwrap_err(), SealError::Foreign);
        file[MAGIC.len()..MAGIC.len() + 4].copy_from_slice(&[0; 4]);
        assert_eq!(open(&file, WORDS).unwrap_err(), SealError::Foreign);
    }
}
