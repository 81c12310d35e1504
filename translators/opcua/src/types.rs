//! What the values of nodes are: data types, names of enumerations, definitions of structures.
//!
//! Only the types of nodes that are collected are asked for, all of one round in one request:
//!
//! 1. data type and rank of each node;
//! 2. the supertypes of each type, up to one that is built in;
//! 3. definitions of structures and names of enumerations; the fields' types go to step 2;
//! 4. where only a value says what it is (an abstract type, any rank), the present value, and the
//!    definition of the structure that it turns out to be.
//!
//! # Invariants
//! - At most 2,000 types in at most 32 rounds, whatever refers to what.
//! - A type that cannot be represented is named by its address; the nodes of other types do not
//!   suffer from it.
//! - Old type dictionaries (before 1.04) are not read: a structure that only they describe is named
//!   as one without definition.

mod load;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use opcua::types::{AttributeId, BrowseResult, DataTypeId, DataValue, NodeId, StatusCode, Variant};
use tidegate_translator::{Quality, TagId, Timestamp, Value, ValueKind};

use crate::convert::{Converter, Flaw, Meaning, Names, Scalar, Types};
use crate::line::{ServiceError, attribute};
use crate::namespaces::Namespaces;
use crate::services::Services;
use crate::status::Status;

/// What the values of a node are.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Described {
    pub(crate) meaning: Meaning,
    pub(crate) kind: ValueKind,
    /// The data type: a name of the specification, or an address.
    pub(crate) data_type: Arc<str>,
}

/// Why the values of a node cannot be collected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TypeError {
    /// The node is not there, or may not be looked at.
    #[error("the server does not tell the data type: {}", Status::from(*.status))]
    Refused {
        /// What the server says.
        status: StatusCode,
    },
    /// It is an object, a method or the like.
    #[error("the node is no variable and has no value; for what is below it write subtree = true")]
    NoVariable,
    /// Its values have no representation.
    #[error("data type {data_type} cannot be represented: {flaw}")]
    Unrepresentable {
        /// The data type.
        data_type: Arc<str>,
        /// Why.
        flaw: Flaw,
    },
}

impl TypeError {
    /// The status code that stands for it in a sample.
    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::Refused { status } => *status,
            Self::NoVariable => StatusCode::BadAttributeIdInvalid,
            Self::Unrepresentable { .. } => StatusCode::BadDataTypeIdUnknown,
        }
    }
}

/// What is known of a data type.
#[derive(Debug, Clone)]
enum Class {
    Scalar(Scalar),
    Named(Arc<Names>),
    /// Its definition stands among the types.
    Structure,
    /// A structure whose values are of its subtypes.
    AbstractStructure,
    /// It has no definition.
    Undefined,
}

/// The data types of one session. Kept with it, so that what is described later asks less.
pub(crate) struct DataTypes {
    namespaces: Arc<Namespaces>,
    types: Types,
    classes: HashMap<NodeId, Class>,
    /// `None` where the server names no supertype.
    supertypes: HashMap<NodeId, Option<NodeId>>,
    /// Encodings that only a value told, and that were asked for.
    strange: HashSet<NodeId>,
}

impl DataTypes {
    pub(crate) fn new(namespaces: Arc<Namespaces>) -> Self {
        Self {
            namespaces,
            types: Types::known(),
            classes: HashMap::new(),
            supertypes: HashMap::new(),
            strange: HashSet::new(),
        }
    }

    /// Makes samples of the values of everything that was described so far.
    pub(crate) fn converter(&self) -> Converter {
        Converter::new(Arc::clone(&self.namespaces), Arc::new(self.types.clone()))
    }

    /// What the values of each node are, in order.
    ///
    /// # Errors
    /// When the server does not answer.
    pub(crate) async fn describe(
        &mut self,
        services: &impl Services,
        nodes: &[NodeId],
    ) -> Result<Vec<Result<Described, TypeError>>, ServiceError> {
        let asked = nodes.iter().flat_map(|node| {
            [AttributeId::DataType, AttributeId::ValueRank].map(|of| attribute(node.clone(), of))
        });
        let answers = services.read(asked.collect()).await?;
        let declared: Vec<_> = answers.chunks(2).map(declared).collect();
        let wanted = declared.iter().filter_map(|declared| declared.as_ref().ok());
        let wanted: HashSet<NodeId> = wanted.map(|(data_type, _)| data_type.clone()).collect();
        self.load(services, wanted.into_iter().collect()).await?;
        let mut described: Vec<_> = declared
            .into_iter()
            .map(|declared| declared.and_then(|(id, rank)| self.described(&id, rank)))
            .collect();
        self.look_at_values(services, nodes, &mut described).await?;
        Ok(described
            .into_iter()
            .map(|described| described.map(|(described, _)| described))
            .collect())
    }

    /// What follows from a data type and a rank, and whether only a value tells the rest.
    fn described(&self, id: &NodeId, rank: i32) -> Result<(Described, bool), TypeError> {
        let data_type = self.name(id);
        let class = self.classes.get(id).unwrap_or(&Class::Undefined);
        let (meaning, kind, says_value) = match class {
            Class::Scalar(scalar) => {
                let kind = kind(*scalar);
                (Meaning::Plain, kind, kind.is_none() || *scalar == Scalar::ExtensionObject)
            }
            Class::Named(names) => {
                (Meaning::Named(Arc::clone(names)), Some(ValueKind::Json), false)
            }
            Class::Structure | Class::AbstractStructure => {
                (Meaning::Plain, Some(ValueKind::Json), true)
            }
            Class::Undefined => {
                let flaw = Flaw::Undefined { name: (*data_type).into() };
                return Err(TypeError::Unrepresentable { data_type, flaw });
            }
        };
        // -1 is a single value, -2 any, -3 one or a list; all others are arrays (Part 3, 5.6.2).
        let (kind, says_value) = match (kind, rank) {
            (kind, -1) => (kind, says_value),
            (kind @ Some(ValueKind::Json), _) => (kind, says_value),
            (kind, ..-1) => (kind, true),
            (_, _) => (Some(ValueKind::Json), false),
        };
        let kind = kind.unwrap_or(ValueKind::None);
        Ok((Described { meaning, kind, data_type }, says_value))
    }

    /// Looks at the present values of nodes whose types do not tell everything.
    async fn look_at_values(
        &mut self,
        services: &impl Services,
        nodes: &[NodeId],
        described: &mut [Result<(Described, bool), TypeError>],
    ) -> Result<(), ServiceError> {
        let mut open: Vec<(usize, NodeId)> = described
            .iter()
            .zip(nodes)
            .enumerate()
            .filter(|(_, (described, _))| matches!(described, Ok((_, true))))
            .map(|(at, (_, node))| (at, node.clone()))
            .collect();
        // A structure may hold another one of which only the value tells; few do so twice.
        for _ in 0..4 {
            if open.is_empty() {
                return Ok(());
            }
            let asked = open.iter().map(|(_, node)| attribute(node.clone(), AttributeId::Value));
            let values = services.read(asked.collect()).await?;
            let converter = self.converter();
            let mut unknown = Vec::new();
            let mut again = Vec::new();
            for ((at, node), value) in open.into_iter().zip(values) {
                let Some(slot) = described.get_mut(at) else { continue };
                let Ok((described, _)) = slot else { continue };
                match converter.sample(TagId(0), &described.meaning, value, Timestamp(0)) {
                    Ok(sample) => {
                        if !matches!(sample.quality, Quality::Bad(_)) && sample.value != Value::None
                        {
                            described.kind = sample.value.kind();
                        }
                    }
                    Err(refused) => match refused.flaw {
                        Flaw::UnknownType { ref encoding, .. } => {
                            unknown.push((**encoding).clone());
                            again.push((at, node, refused.flaw));
                        }
                        // The next value may be smaller.
                        Flaw::TooLarge { .. } => {}
                        flaw => {
                            let data_type = Arc::clone(&described.data_type);
                            *slot = Err(TypeError::Unrepresentable { data_type, flaw });
                        }
                    },
                }
            }
            if !self.learn(services, unknown).await? {
                for (at, _, flaw) in again {
                    let Some(slot) = described.get_mut(at) else { continue };
                    let Ok((described, _)) = slot else { continue };
                    let data_type = Arc::clone(&described.data_type);
                    *slot = Err(TypeError::Unrepresentable { data_type, flaw });
                }
                return Ok(());
            }
            open = again.into_iter().map(|(at, node, _)| (at, node)).collect();
        }
        Ok(())
    }

    /// Where references lead, with the browse names.
    fn targets(&self, answer: BrowseResult) -> impl Iterator<Item = (NodeId, String)> + use<'_> {
        answer.references.unwrap_or_default().into_iter().filter_map(|reference| {
            let name = reference.browse_name.name.as_ref().to_owned();
            Some((self.namespaces.local(&reference.node_id)?, name))
        })
    }

    /// A data type for a person.
    fn name(&self, id: &NodeId) -> Arc<str> {
        match id.as_data_type_id() {
            Ok(known) => format!("{known:?}").into(),
            Err(_) => self.namespaces.address(id).to_string().into(),
        }
    }
}

/// Data type and rank as they were read.
fn declared(answers: &[DataValue]) -> Result<(NodeId, i32), TypeError> {
    let [data_type, rank] = answers else {
        return Err(TypeError::Refused { status: StatusCode::BadUnexpectedError });
    };
    let rank = match rank.value {
        Some(Variant::Int32(rank)) => rank,
        // A server that does not say has single values.
        _ => -1,
    };
    match (&data_type.value, data_type.status.unwrap_or_default()) {
        (_, StatusCode::BadAttributeIdInvalid) => Err(TypeError::NoVariable),
        (_, status) if status.is_bad() => Err(TypeError::Refused { status }),
        (Some(Variant::NodeId(id)), _) if !id.is_null() => Ok(((**id).clone(), rank)),
        // Without a type the value says itself what it is.
        _ => Ok((DataTypeId::BaseDataType.into(), rank)),
    }
}

/// The kind of single values; `None` when only a value tells.
const fn kind(scalar: Scalar) -> Option<ValueKind> {
    Some(match scalar {
        Scalar::Boolean => ValueKind::Bool,
        Scalar::SByte | Scalar::Int16 | Scalar::Int32 | Scalar::Int64 => ValueKind::I64,
        Scalar::Byte | Scalar::UInt16 | Scalar::UInt32 | Scalar::UInt64 => ValueKind::U64,
        Scalar::Float => ValueKind::F32,
        Scalar::Double => ValueKind::F64,
        Scalar::String
        | Scalar::DateTime
        | Scalar::Guid
        | Scalar::XmlElement
        | Scalar::NodeId
        | Scalar::ExpandedNodeId
        | Scalar::StatusCode
        | Scalar::QualifiedName
        | Scalar::LocalizedText => ValueKind::Text,
        Scalar::ByteString => ValueKind::Bytes,
        Scalar::ExtensionObject | Scalar::DataValue | Scalar::DiagnosticInfo => ValueKind::Json,
        Scalar::Variant => return None,
    })
}

#[cfg(test)]
mod tests;
