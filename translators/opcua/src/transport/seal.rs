//! The seals of chunks: whose they are, that none is missing, and the keys for the next ones.
//!
//! # Invariants
//! - A chunk that opens or renews the channel has the policy that was chosen and the certificate
//!   that was judged. The crate below would take any policy and any certificate.
//! - Chunks come in the order of their numbers, or the connection ends.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use opcua::core::comms::message_chunk::{
    MESSAGE_CHUNK_HEADER_SIZE, MessageChunkType, MessageIsFinalType,
};
use opcua::core::comms::secure_channel::SecureChannel;
use opcua::core::comms::security_header::SecurityHeader;
use opcua::crypto::SecurityPolicy;
use opcua::types::{
    ChannelSecurityToken, DateTime, Error, MessageSecurityMode, OpenSecureChannelResponse,
    StatusCode,
};

use super::pending::Last;
use crate::connect::leaf;

/// A token that lives for less would be renewed all the time, one for more overflows the
/// arithmetic of the channel. In milliseconds.
const TOKEN_LIFETIME: (u32, u32) = (10_000, 1_000_000_000);
/// The sequence number and the id of the request.
const SEQUENCE_HEADER: usize = 8;
/// Numbers begin anew below this, and not before so many are left.
const WRAP: u32 = 1024;

/// A chunk whose seal was checked and removed.
#[derive(Debug)]
pub(super) struct Chunk {
    /// It is of a response that opens or renews the channel.
    pub(super) opens: bool,
    pub(super) last: Last,
    pub(super) number: u32,
    pub(super) request: u32,
    pub(super) body: Bytes,
}

/// Checks and removes the seal of a chunk.
pub(super) fn open(channel: &SecureChannel, sealed: Bytes) -> Result<Chunk, Error> {
    let opens = sealed.starts_with(b"OPN");
    if opens {
        check_opening(channel, &sealed)?;
    } else if is_secured(channel) {
        let signature = channel.security_policy().symmetric_signature_size();
        if sealed.len() < MESSAGE_CHUNK_HEADER_SIZE + 4 + SEQUENCE_HEADER + signature {
            return Err(insecure("a chunk is too short for its seal"));
        }
    }
    // What is sealed wrongly may lead the arithmetic below astray; nothing is changed there.
    let checked = catch_unwind(AssertUnwindSafe(|| {
        let chunk = channel.verify_and_remove_security(sealed)?;
        let info = chunk.chunk_info(channel)?;
        Ok::<_, Error>((chunk, info))
    }));
    let (chunk, info) =
        checked.unwrap_or_else(|_| Err(insecure("the seal of a chunk cannot be read")))?;
    let known = channel.secure_channel_id();
    let id = info.message_header.secure_channel_id;
    if known != 0 && id != known {
        let text = format!("a chunk is of channel {id}, not of {known}");
        return Err(Error::new(StatusCode::BadSecureChannelIdInvalid, text));
    }
    let last = match info.message_header.is_final {
        MessageIsFinalType::Intermediate => Last::No,
        MessageIsFinalType::Final => Last::Yes,
        MessageIsFinalType::FinalError => Last::Aborted,
    };
    Ok(Chunk {
        opens: info.message_header.message_type == MessageChunkType::OpenSecureChannel,
        last,
        number: info.sequence_header.sequence_number,
        request: info.sequence_header.request_id,
        body: chunk.data.slice(info.body_offset.min(chunk.data.len())..),
    })
}

fn insecure(text: &str) -> Error {
    Error::new(StatusCode::BadSecurityChecksFailed, text)
}

fn is_secured(channel: &SecureChannel) -> bool {
    channel.security_policy() != SecurityPolicy::None
        && matches!(
            channel.security_mode(),
            MessageSecurityMode::Sign | MessageSecurityMode::SignAndEncrypt
        )
}

/// Compares who opens the channel with who was judged.
fn check_opening(channel: &SecureChannel, sealed: &[u8]) -> Result<(), Error> {
    let header = sealed.get(MESSAGE_CHUNK_HEADER_SIZE..).unwrap_or_default();
    let options = channel.decoding_options();
    let header = SecurityHeader::decode_from_stream(&mut Cursor::new(header), true, &options)?;
    let SecurityHeader::Asymmetric(header) = header else {
        return Err(insecure("the channel is opened without a policy"));
    };
    let policy = channel.security_policy();
    let uri = header.security_policy_uri.as_ref();
    let theirs = if uri.is_empty() { SecurityPolicy::None } else { SecurityPolicy::from_uri(uri) };
    if theirs != policy {
        let text = format!("the server opens the channel with {theirs}, not with {policy}");
        return Err(Error::new(StatusCode::BadSecurityPolicyRejected, text));
    }
    if policy == SecurityPolicy::None {
        return Ok(());
    }
    if channel.cert().is_none() {
        return Err(insecure("there is no certificate to open the channel with"));
    }
    let judged = channel.remote_cert_as_byte_string();
    if judged.is_null_or_empty() || leaf(header.sender_certificate.as_ref()) != judged.as_ref() {
        let text = "the server opens the channel with another certificate than its endpoint's";
        return Err(Error::new(StatusCode::BadCertificateInvalid, text));
    }
    Ok(())
}

/// Takes over the token, and the keys, of a response that opens or renews the channel.
pub(super) fn adopt(
    channel: &mut SecureChannel,
    response: &OpenSecureChannelResponse,
) -> Result<(), Error> {
    let token = &response.security_token;
    let known = channel.secure_channel_id();
    if token.channel_id == 0 || (known != 0 && known != token.channel_id) {
        let text = format!("channel {known} is renewed as channel {}", token.channel_id);
        return Err(Error::new(StatusCode::BadSecureChannelIdInvalid, text));
    }
    let secured = is_secured(channel);
    if secured {
        channel.validate_secure_channel_nonce_length(&response.server_nonce)?;
        channel.set_remote_nonce_from_byte_string(&response.server_nonce)?;
    }
    let (least, most) = TOKEN_LIFETIME;
    channel.set_security_token(ChannelSecurityToken {
        created_at: DateTime::now(),
        revised_lifetime: token.revised_lifetime.clamp(least, most),
        ..token.clone()
    });
    if secured {
        channel.derive_keys();
    }
    Ok(())
}

/// The numbers of the chunks that came in.
#[derive(Debug, Default)]
pub(super) struct Numbers(Option<u32>);

impl Numbers {
    /// Takes the next number, whichever the first one is.
    pub(super) fn follow(&mut self, number: u32) -> Result<(), Error> {
        if let Some(last) = self.0 {
            let follows = last.checked_add(1) == Some(number);
            let wraps = last >= u32::MAX - WRAP && number < WRAP;
            if !follows && !wraps {
                let text = format!("chunk {number} comes after chunk {last}");
                return Err(Error::new(StatusCode::BadSequenceNumberInvalid, text));
            }
        }
        self.0 = Some(number);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_come_in_the_order_of_their_numbers_and_begin_anew_near_the_end() {
        let follows = |last, number| Numbers(Some(last)).follow(number).is_ok();
        assert!(Numbers::default().follow(51).is_ok());
        assert!(follows(51, 52));
        assert!(!follows(51, 51) && !follows(51, 53) && !follows(51, 1));
        assert!(follows(u32::MAX - 1024, 1) && follows(u32::MAX, 0));
        assert!(!follows(u32::MAX - 1025, 1) && !follows(u32::MAX, 1024));
    }
}
