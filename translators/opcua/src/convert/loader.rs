//! How the crate below is told to keep structures that it does not know.
//!
//! # Invariants
//! - A length is believed only as far as bytes come: the crate's own loader allocates what the
//!   length claims, up to 2 GiB, before it reads the first byte.

use std::io::Read;

use opcua::types::{
    ByteStringBody, Context, DynEncodable, EncodingResult, Error, NodeId, TypeLoader,
    TypeLoaderPriority,
};

/// Keeps every structure that is none of the services' own as bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawBodies;

impl TypeLoader for RawBodies {
    fn load_from_binary(
        &self,
        id: &NodeId,
        stream: &mut dyn Read,
        _: &Context<'_>,
        length: Option<usize>,
    ) -> Option<EncodingResult<Box<dyn DynEncodable>>> {
        let length = length?;
        let mut bytes = Vec::new();
        let mut stream = stream.take(u64::try_from(length).unwrap_or(u64::MAX));
        let body: EncodingResult<Box<dyn DynEncodable>> = match stream.read_to_end(&mut bytes) {
            Ok(read) if read == length => {
                Ok(Box::new(ByteStringBody::new(bytes.into(), id.clone())))
            }
            Ok(read) => Err(Error::decoding(format!("{read} bytes of a body of {length}"))),
            Err(error) => Err(error.into()),
        };
        Some(body)
    }

    /// Behind those that know a structure, before the one that keeps all others.
    fn priority(&self) -> TypeLoaderPriority {
        TypeLoaderPriority::Dynamic(u32::MAX - 1)
    }
}
