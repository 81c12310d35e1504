//! From the bytes of a message to a response.

use std::panic::{AssertUnwindSafe, catch_unwind};

use opcua::core::{Message as _, ResponseMessage};
use opcua::sync::RwLock;
use opcua::types::{BinaryDecodable as _, ContextOwned, DecodingOptions, Error, NodeId};

use super::guard::Guard;

/// Decodes a response, with no more trust in the lengths that it claims than it has bytes.
pub(super) fn response(
    body: &[u8],
    context: &RwLock<ContextOwned>,
) -> Result<ResponseMessage, Error> {
    let mut context = context.write();
    let configured = std::mem::take(context.options_mut());
    *context.options_mut() = bounded(&configured, body.len());
    // Nothing in here is left half done: what was decoded so far is dropped.
    let decoded = catch_unwind(AssertUnwindSafe(|| read(body, &context)));
    *context.options_mut() = configured;
    decoded.unwrap_or_else(|_| Err(Error::decoding("the decoder gave up")))
}

fn read(body: &[u8], context: &ContextOwned) -> Result<ResponseMessage, Error> {
    let context = context.context();
    let mut guard = Guard::new(body, context.options());
    let kind = NodeId::decode(&mut guard, &context)?;
    let kind = kind
        .as_object_id()
        .map_err(|_| Error::decoding(format!("{kind} is no type of a response")))?;
    ResponseMessage::decode_by_object_id(&mut guard, kind, &context)
}

/// Nothing is longer than the message that it is in: an element has a byte at least.
fn bounded(configured: &DecodingOptions, length: usize) -> DecodingOptions {
    DecodingOptions {
        max_string_length: configured.max_string_length.min(length),
        max_byte_string_length: configured.max_byte_string_length.min(length),
        max_array_length: configured.max_array_length.min(length),
        ..configured.clone()
    }
}
