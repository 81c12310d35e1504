//! Checkpoints: the gateway's signature over what is durable.
//!
//! # Invariants
//! - Only what is durable is signed, so a signature never speaks of frames that a power cut takes.
//! - A checkpoint that cannot be made costs that checkpoint and nothing else; the next one covers
//!   what it would have.

use tidegate_identity::Identity;
use tidegate_journal::Kind;
use tidegate_record::Checkpoint;

use super::Writer;
use crate::causes::chain;
use crate::names::GatewayId;

impl Writer {
    /// Signs everything durable with the gateway's key, and records that.
    pub(super) fn seal(&mut self, identity: &Identity) {
        if self.journal.is_carrying() {
            return;
        }
        self.commit();
        let Some((epoch, up_to)) = self.journal.reader().durable() else { return };
        if self.refusing || epoch != self.journal.epoch() {
            return;
        }
        let at = self.clock.now().0;
        let GatewayId { plant, name } = self.board.gateway();
        let message = Checkpoint::message(plant.as_str(), name.as_str(), epoch, &up_to, at);
        let Ok(message) = message else { return };
        let signature = match identity.sign(&message) {
            Ok(signature) => signature,
            Err(error) => {
                tracing::warn!("no checkpoint: {}", chain(&error));
                return;
            }
        };
        let mut certificates = identity.chain().iter().map(|it| it.to_vec());
        let checkpoint = Checkpoint {
            up_to,
            at,
            certificate: certificates.next().unwrap_or_default(),
            chain: certificates.collect(),
            scheme: signature.scheme,
            signature: signature.bytes,
        };
        match checkpoint.encode() {
            // A refusal is told and tried again as that of any frame.
            Ok(body) => drop(self.append_plain(Kind::Checkpoint, &body)),
            Err(error) => tracing::warn!("no checkpoint: {}", chain(&error)),
        }
    }
}
