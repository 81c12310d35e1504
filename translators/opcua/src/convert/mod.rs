//! From what a server sends to samples.
//!
//! | OPC UA | value |
//! |---|---|
//! | Boolean | bool |
//! | SByte, Int16, Int32, Int64 | i64 |
//! | Byte, UInt16, UInt32, UInt64 | u64 |
//! | Float, Double | f32, f64 |
//! | String, XmlElement, Guid, NodeId, ExpandedNodeId, QualifiedName, StatusCode, LocalizedText | text |
//! | DateTime | text, RFC 3339 with the digits that the source sent |
//! | ByteString | bytes |
//! | enumeration | JSON: `{"value":2,"name":"Running"}` |
//! | array, matrix | JSON, nested by its dimensions |
//! | structure | JSON: an object of its fields; optional fields that are not there are left out |
//! | union | JSON: an object of the one field that is chosen, or `null` |
//!
//! Within JSON a LocalizedText is `{"text":…,"locale":…}`, a ByteString Base64, an integer beyond
//! ±2^53 a string, what is no finite number `null`.
//!
//! # Invariants
//! - A sample is good only when the server says so, the value is there, and every number in it is
//!   finite and, of an enumeration, has a name.
//! - A sample with a bad status has no value.
//! - Nothing is cut short: a value that is too large, too deep, or of a type without a definition
//!   is refused by name.
//! - Nothing that a server sends makes it panic, recurse or grow without end.

mod body;
mod definition;
mod json;
mod known;
mod loader;
mod time;
mod value;

use std::sync::Arc;

use opcua::types::{ContextOwned, DataValue, NodeId, Variant};
use tidegate_translator::{Quality, Reason, Sample, TagId, Timestamp, Value};

pub(crate) use self::definition::{Field, Kind, Names, Scalar, Shape, Structure, Types};
pub(crate) use self::loader::RawBodies;
use crate::namespaces::Namespaces;
use crate::status::Status;

/// The largest value, as text or bytes: a frame has 64 KiB and is shared with other samples.
pub(crate) const MAX_BYTES: usize = 48 * 1024;
/// The deepest nesting of structures, arrays and values in values. The live plane embeds 64 levels.
pub(crate) const MAX_DEPTH: u32 = 32;

/// What the values of a tag are.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) enum Meaning {
    /// What they say themselves.
    #[default]
    Plain,
    /// Numbers with names.
    Named(Arc<Names>),
}

/// Why a value is no sample.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Flaw {
    /// It takes too much room.
    #[error("the value takes more than {limit} bytes; read a part of it by an index range")]
    TooLarge {
        /// In bytes.
        limit: usize,
    },
    /// It nests too deeply.
    #[error("the value nests deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// It is a structure of which the server gave no definition.
    #[error("the value is a structure encoded as {id}, of which the server has no definition")]
    UnknownType {
        /// The address of its encoding.
        id: Box<str>,
        /// The same in this session, so that it can be asked for.
        encoding: Box<NodeId>,
    },
    /// A part of it has a data type without a definition.
    #[error("the server has no definition of the data type {name}")]
    Undefined {
        /// The data type.
        name: Box<str>,
    },
    /// It is a structure in XML or JSON.
    #[error("the value is a structure encoded as {id} in another form than binary")]
    Encoding {
        /// The address of its encoding.
        id: Box<str>,
    },
    /// It has a type that is no value.
    #[error("the value holds a {what}, which is not collected")]
    NoForm {
        /// The type.
        what: &'static str,
    },
    /// It is not what its definition says.
    #[error("the body of a {of} does not fit its definition: {what}")]
    Malformed {
        /// The structure.
        of: Box<str>,
        /// What is wrong.
        what: &'static str,
    },
}

impl Flaw {
    /// Why there is no value.
    pub(crate) const fn reason(&self) -> Reason {
        match self {
            Self::TooLarge { .. } | Self::TooDeep => Reason::OutOfRange,
            Self::UnknownType { .. }
            | Self::Undefined { .. }
            | Self::Encoding { .. }
            | Self::NoForm { .. } => Reason::Configuration,
            Self::Malformed { .. } => Reason::Malformed,
        }
    }
}

/// A value that is no sample of its own.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{flaw}")]
pub(crate) struct Unrepresentable {
    /// A sample that tells so, with the times and the status that came.
    pub(crate) sample: Sample,
    /// Why. A value that is too large is a loss instead of that sample.
    pub(crate) flaw: Flaw,
}

/// Makes samples in one session.
pub(crate) struct Converter {
    namespaces: Arc<Namespaces>,
    types: Arc<Types>,
    /// To turn structures that the crate below has decoded back into bytes.
    context: ContextOwned,
}

impl Converter {
    /// For a session with these namespaces, and for structures of these types.
    pub(crate) fn new(namespaces: Arc<Namespaces>, types: Arc<Types>) -> Self {
        Self { namespaces, types, context: ContextOwned::default() }
    }

    /// The sample of what a server sent.
    ///
    /// # Errors
    /// When the value is one that cannot be represented.
    pub(crate) fn sample(
        &self,
        tag: TagId,
        meaning: &Meaning,
        data: DataValue,
        acquired: Timestamp,
    ) -> Result<Sample, Box<Unrepresentable>> {
        let status = data.status.map_or(0, |status| status.bits());
        let mut sample = Sample {
            tag,
            acquired,
            source: time::timestamp(data.source_timestamp, data.source_picoseconds),
            server: time::timestamp(data.server_timestamp, data.server_picoseconds),
            status,
            quality: Status(status).quality(),
            value: Value::None,
        };
        if matches!(sample.quality, Quality::Bad(_)) {
            return Ok(sample);
        }
        let Some(value) = data.value.filter(|value| !matches!(value, Variant::Empty)) else {
            sample.quality = Quality::Bad(Reason::Unspecified);
            return Ok(sample);
        };
        match self.value(meaning, value) {
            Ok((value, own)) => {
                sample.value = value;
                if let (Quality::Good, Some(reason)) = (sample.quality, own) {
                    sample.quality = Quality::Uncertain(reason);
                }
                Ok(sample)
            }
            Err(flaw) => {
                sample.quality = Quality::Bad(flaw.reason());
                Err(Box::new(Unrepresentable { sample, flaw }))
            }
        }
    }
}

#[cfg(test)]
mod tests;
