//! What data types are made of, as far as a session's values need it.
//!
//! # Invariants
//! - A structure refers to others by their place in the list, so that one that holds itself is no
//!   cycle of memory.
//! - What is written for an enumeration's numbers is made once, not per value.

use std::collections::HashMap;
use std::sync::Arc;

use opcua::types::NodeId;
use tidegate_translator::json::write_text;

use super::Flaw;
use super::json::Json;

/// The built-in types, as they stand in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Scalar {
    Boolean,
    SByte,
    Byte,
    Int16,
    UInt16,
    Int32,
    UInt32,
    Int64,
    UInt64,
    Float,
    Double,
    String,
    DateTime,
    Guid,
    ByteString,
    XmlElement,
    NodeId,
    ExpandedNodeId,
    StatusCode,
    QualifiedName,
    LocalizedText,
    /// A structure that says itself which one it is.
    ExtensionObject,
    DataValue,
    /// A value that says itself what it is.
    Variant,
    DiagnosticInfo,
}

impl Scalar {
    /// All, in the order of their numbers from 1 on (Part 6, 5.1.2).
    pub(crate) const ALL: [Self; 25] = [
        Self::Boolean,
        Self::SByte,
        Self::Byte,
        Self::Int16,
        Self::UInt16,
        Self::Int32,
        Self::UInt32,
        Self::Int64,
        Self::UInt64,
        Self::Float,
        Self::Double,
        Self::String,
        Self::DateTime,
        Self::Guid,
        Self::ByteString,
        Self::XmlElement,
        Self::NodeId,
        Self::ExpandedNodeId,
        Self::StatusCode,
        Self::QualifiedName,
        Self::LocalizedText,
        Self::ExtensionObject,
        Self::DataValue,
        Self::Variant,
        Self::DiagnosticInfo,
    ];

    /// The type with this number.
    pub(crate) fn from_number(number: u32) -> Option<Self> {
        let place = usize::try_from(number.checked_sub(1)?).ok()?;
        Self::ALL.get(place).copied()
    }
}

/// The place of a structure in [`Types`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Place(usize);

/// What a field is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Scalar(Scalar),
    /// A 32-bit number with a name.
    Named(Arc<Names>),
    /// A structure in place.
    Structure(Place),
    /// Its type has no definition: the name of that.
    Undefined(Box<str>),
}

/// One field of a structure.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    /// The name in quotes, with its colon.
    key: Box<str>,
    pub(super) kind: Kind,
    /// Dimensions; 0 for a single value.
    pub(super) rank: u32,
    pub(super) optional: bool,
}

impl Field {
    pub(crate) fn new(name: &str, kind: Kind, rank: i32, optional: bool) -> Self {
        let mut key = String::with_capacity(name.len() + 3);
        write_text(&mut key, name);
        key.push(':');
        // Fields have -1, or 1 and more (Part 3, 8.51).
        Self { key: key.into(), kind, rank: u32::try_from(rank).unwrap_or(0), optional }
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }
}

/// How the fields of a structure follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// All of them.
    Plain,
    /// A mask tells which of the optional ones are there.
    Optional,
    /// One, or none.
    Union,
}

/// A structure or union.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Structure {
    /// For a person.
    pub(crate) name: Box<str>,
    pub(crate) shape: Shape,
    pub(crate) fields: Vec<Field>,
}

/// The structures that values of a session can be.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Types {
    structures: Vec<Option<Structure>>,
    /// By the id of a binary encoding, and by that of the data type.
    places: HashMap<NodeId, Place>,
}

impl Types {
    /// Those of the specification that variables hold.
    pub(crate) fn known() -> Self {
        super::known::types()
    }

    /// A place for a structure that is still to be defined: fields may refer to it already.
    pub(crate) fn reserve(&mut self, data_type: NodeId) -> Place {
        let next = Place(self.structures.len());
        let place = *self.places.entry(data_type).or_insert(next);
        if place == next {
            self.structures.push(None);
        }
        place
    }

    /// Says what the structure at a place is.
    pub(crate) fn define(&mut self, place: Place, structure: Structure) {
        if let Some(slot) = self.structures.get_mut(place.0) {
            *slot = Some(structure);
        }
    }

    /// Says by which id the bodies of a structure come.
    pub(crate) fn encoded_as(&mut self, encoding: NodeId, place: Place) {
        self.places.insert(encoding, place);
    }

    /// The place of a structure by the id of its data type or of its encoding.
    pub(crate) fn place(&self, id: &NodeId) -> Option<Place> {
        self.places.get(id).copied()
    }

    /// The structure with the id of a data type or encoding; `None` when it has no definition.
    pub(crate) fn find(&self, id: &NodeId) -> Option<&Structure> {
        self.places.get(id).and_then(|place| self.at(*place))
    }

    pub(super) fn at(&self, place: Place) -> Option<&Structure> {
        self.structures.get(place.0).and_then(Option::as_ref)
    }
}

/// The names of an enumeration's numbers.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Names {
    /// What is written for each number, in their order.
    written: Vec<(i64, Box<str>)>,
}

impl Names {
    /// From numbers and names; of a number that has two the first counts.
    pub(crate) fn new(names: impl IntoIterator<Item = (i64, String)>) -> Self {
        let written = names.into_iter().map(|(number, name)| {
            let mut json = Json::new(usize::MAX);
            // Nothing has a limit here.
            let _ = write(&mut json, number, Some(&name));
            (number, json.finish().0)
        });
        let mut written: Vec<_> = written.collect();
        written.sort_by_key(|(number, _)| *number);
        written.dedup_by_key(|(number, _)| *number);
        Self { written }
    }

    /// Whether there is none.
    pub(crate) const fn is_empty(&self) -> bool {
        self.written.is_empty()
    }

    /// Writes a number with its name. One without a name is no value of the type.
    pub(super) fn write(&self, out: &mut Json, number: i64) -> Result<(), Flaw> {
        match self.written.binary_search_by_key(&number, |(known, _)| *known) {
            Ok(at) => match self.written.get(at) {
                Some((_, json)) => out.raw(json),
                None => write(out, number, None),
            },
            Err(_) => {
                out.out_of_range();
                write(out, number, None)
            }
        }
    }
}

/// `{"value":2,"name":"Running"}`
fn write(out: &mut Json, number: i64, name: Option<&str>) -> Result<(), Flaw> {
    out.raw("{\"value\":")?;
    out.signed(number)?;
    out.raw(",\"name\":")?;
    match name {
        Some(name) => out.text(name)?,
        None => out.null()?,
    }
    out.raw("}")
}
