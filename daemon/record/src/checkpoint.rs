//! Bodies of checkpoint frames: the gateway's signature over its chain up to a frame.
//!
//! A frame carries the hash of the one before it, so a signature over one hash is one over
//! everything before. Without it the chain shows accidents; with it also whoever writes at the hub
//! in the gateway's place.
//!
//! # Invariants
//! - What is signed names gateway, epoch and position: a checkpoint says nothing anywhere else.
//! - The certificate travels with it, because a reader years later has no other way to get it. It
//!   proves nothing by itself: whoever reads decides which authorities count.

use serde::{Deserialize, Serialize};
use tidegate_journal::{Epoch, Position};

use crate::BodyError;

/// What every signed message begins with: no signature for another purpose can pass for one.
const PURPOSE: &[u8] = b"tidegate checkpoint 1\0";

/// The most certificates after the gateway's own.
const MAX_CHAIN: usize = 8;

/// A signature over the chain of an epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The last frame that it covers.
    pub up_to: Position,
    /// When it was signed by the gateway's clock, nanoseconds since 1970 UTC.
    pub at: i64,
    /// The gateway's certificate (DER).
    pub certificate: Vec<u8>,
    /// Those between it and the root, the nearest first (DER).
    pub chain: Vec<Vec<u8>>,
    /// How it was signed, as TLS numbers it (RFC 8446, 4.2.3).
    pub scheme: u16,
    /// The signature over [`Checkpoint::message`].
    pub signature: Vec<u8>,
}

impl Checkpoint {
    /// What is signed: the purpose, then plant, gateway, epoch, position and time as postcard has
    /// them.
    ///
    /// # Errors
    /// Never in practice; the encoder's signature allows it.
    pub fn message(
        plant: &str,
        gateway: &str,
        epoch: Epoch,
        up_to: &Position,
        at: i64,
    ) -> Result<Vec<u8>, BodyError> {
        let message = postcard::to_extend(&(plant, gateway, epoch, up_to, at), PURPOSE.to_vec());
        message.map_err(|_| BodyError { kind: "checkpoint" })
    }

    /// The body of a checkpoint frame.
    ///
    /// # Errors
    /// When the chain of certificates is longer than a reader takes.
    pub fn encode(&self) -> Result<Vec<u8>, BodyError> {
        let failed = BodyError { kind: "checkpoint" };
        if self.chain.len() > MAX_CHAIN {
            return Err(failed);
        }
        postcard::to_stdvec(self).map_err(|_| failed)
    }

    /// Reads the body of a checkpoint frame.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn decode(body: &[u8]) -> Result<Self, BodyError> {
        let read: Option<Self> = crate::whole(body);
        read.filter(|it| it.chain.len() <= MAX_CHAIN).ok_or(BodyError { kind: "checkpoint" })
    }
}

#[cfg(test)]
mod tests {
    use tidegate_journal::FrameHash;

    use super::*;

    const UP_TO: Position = Position { frame: 7, next_seq: 300, hash: FrameHash([7; 32]) };

    #[test]
    fn every_part_of_what_is_signed_changes_the_message() {
        let of = |plant, gateway, epoch, up_to: Position, at| {
            Checkpoint::message(plant, gateway, Epoch([epoch; 16]), &up_to, at).unwrap()
        };
        let message = of("P", "g", 1, UP_TO, 5);
        assert!(message.starts_with(PURPOSE));
        for other in [
            of("Pg", "", 1, UP_TO, 5),
            of("P", "h", 1, UP_TO, 5),
            of("P", "g", 2, UP_TO, 5),
            of("P", "g", 1, Position { frame: 8, ..UP_TO }, 5),
            of("P", "g", 1, Position { next_seq: 301, ..UP_TO }, 5),
            of("P", "g", 1, Position { hash: FrameHash([8; 32]), ..UP_TO }, 5),
            of("P", "g", 1, UP_TO, 6),
        ] {
            assert_ne!(message, other);
        }
    }

    #[test]
    fn a_chain_that_is_too_long_is_neither_written_nor_read() {
        let long = Checkpoint {
            up_to: UP_TO,
            at: 0,
            certificate: vec![1],
            chain: vec![vec![2]; MAX_CHAIN + 1],
            scheme: 0x0403,
            signature: vec![3],
        };
        assert!(long.encode().is_err());
        assert!(Checkpoint::decode(&postcard::to_stdvec(&long).unwrap()).is_err());
    }
}
