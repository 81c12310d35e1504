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

#[cfg(test)]
mod tests {
    use opcua::types::{
        BinaryDecodable, BinaryEncodable, ContextOwned, ExtensionObject, Range, StatusCode,
    };

    use super::*;

    fn context() -> ContextOwned {
        let mut context = ContextOwned::default();
        context.loaders_mut().add_type_loader(RawBodies);
        context
    }

    #[test]
    fn a_structure_that_nobody_knows_is_kept_as_its_bytes() {
        let context = context();
        let bytes = [1, 2, 9, 0, 1, 3, 0, 0, 0, 7, 8, 9];
        let object = ExtensionObject::decode(&mut bytes.as_slice(), &context.context()).unwrap();
        let body = object.inner_as::<ByteStringBody>().unwrap();
        assert_eq!(body.raw_body().as_ref(), [7, 8, 9]);
        assert_eq!(*body.encoding_id(), NodeId::new(2, 9u32));
    }

    #[test]
    fn those_of_the_services_are_decoded_as_ever() {
        let context = context();
        let range = Range { low: 1.0, high: 2.0 };
        let bytes = ExtensionObject::from_message(range.clone()).encode_to_vec(&context.context());
        let object = ExtensionObject::decode(&mut bytes.as_slice(), &context.context()).unwrap();
        assert_eq!(object.inner_as::<Range>(), Some(&range));
    }

    #[test]
    fn a_length_without_bytes_is_refused_and_not_allocated() {
        let context = context();
        let bytes = [&[1, 2, 9, 0, 1][..], &i32::MAX.to_le_bytes(), &[7, 8]].concat();
        let refused = ExtensionObject::decode(&mut bytes.as_slice(), &context.context());
        let error = refused.unwrap_err();
        assert_eq!(error.status(), StatusCode::BadDecodingError);
        assert!(error.to_string().contains("2 bytes of a body of 2147483647"), "{error}");
    }
}
