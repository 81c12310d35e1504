//! Asking a server for its data types.
//!
//! # Invariants
//! - A type is asked for once in a session, whatever came of it.
//! - What is not loaded when a bound is reached has no definition, and is named so where it is met.

use std::collections::HashSet;
use std::sync::Arc;

use opcua::types::{
    AttributeId, BrowseDirection, DataTypeId, DataValue, EnumDefinition, EnumValueType,
    ExtensionObject, NodeClassMask, NodeId, ReferenceTypeId, StructureDefinition, StructureType,
    Variant,
};

use super::{Class, DataTypes};
use crate::convert::{Field, Kind, Names, Scalar, Shape, Structure};
use crate::line::{ServiceError, attribute};
use crate::services::{Services, references};

/// The most data types of one session: companion specifications have some hundred.
const MAX_TYPES: usize = 2_000;
/// The longest way from a type to a built-in one, or from a structure to its innermost field.
pub(super) const MAX_ROUNDS: usize = 32;
/// The most names of one enumeration.
const MAX_NAMES: usize = 10_000;
/// The most fields of one structure.
const MAX_FIELDS: usize = 2_000;

impl DataTypes {
    /// Loads the types that are encoded under these ids; whether any of them is known now. Each is
    /// asked for once in a session.
    ///
    /// # Errors
    /// When the server does not answer.
    pub(crate) async fn learn(
        &mut self,
        services: &impl Services,
        encodings: Vec<NodeId>,
    ) -> Result<bool, ServiceError> {
        // What was asked for once is not asked for again, and not without end.
        let room = MAX_TYPES.saturating_sub(self.strange.len());
        let encodings: HashSet<NodeId> =
            encodings.into_iter().filter(|id| !self.strange.contains(id)).take(room).collect();
        let encodings: Vec<NodeId> = encodings.into_iter().collect();
        self.strange.extend(encodings.iter().cloned());
        if encodings.is_empty() {
            return Ok(false);
        }
        let asked = encodings.iter().map(|id| {
            let (of, direction) = (ReferenceTypeId::HasEncoding, BrowseDirection::Inverse);
            references(id.clone(), of, direction, NodeClassMask::DATA_TYPE)
        });
        let answers = services.browse(asked.collect()).await?;
        let pairs: Vec<(NodeId, NodeId)> = encodings
            .into_iter()
            .zip(answers)
            .filter_map(|(encoding, answer)| {
                let data_type = self.targets(answer).next()?.0;
                Some((encoding, data_type))
            })
            .collect();
        self.load(services, pairs.iter().map(|(_, data_type)| data_type.clone()).collect()).await?;
        let mut any = false;
        for (encoding, data_type) in pairs {
            if self.types.find(&encoding).is_none()
                && let Some(place) = self.types.place(&data_type)
            {
                self.types.encoded_as(encoding.clone(), place);
            }
            any |= self.types.find(&encoding).is_some();
        }
        Ok(any)
    }

    /// Loads data types and what they are made of.
    pub(super) async fn load(
        &mut self,
        services: &impl Services,
        mut wanted: Vec<NodeId>,
    ) -> Result<(), ServiceError> {
        let mut definitions = Vec::new();
        for _ in 0..MAX_ROUNDS {
            let mut seen = HashSet::new();
            wanted.retain(|id| !self.classes.contains_key(id) && seen.insert(id.clone()));
            wanted.truncate(MAX_TYPES.saturating_sub(self.classes.len()));
            if wanted.is_empty() {
                break;
            }
            self.climb(services, &wanted).await?;
            let (mut structures, mut enumerations) = (Vec::new(), Vec::new());
            for id in std::mem::take(&mut wanted) {
                let class = match self.base(&id) {
                    _ if self.types.find(&id).is_some() => Class::Structure,
                    Some(Base::Scalar(scalar)) => Class::Scalar(scalar),
                    Some(Base::Structure) => {
                        structures.push(id);
                        continue;
                    }
                    Some(Base::Enumeration) => {
                        enumerations.push(id);
                        continue;
                    }
                    None => Class::Undefined,
                };
                self.classes.insert(id, class);
            }
            self.name_enumerations(services, enumerations).await?;
            for defined in self.ask_structures(services, structures).await? {
                let fields = defined.1.fields.iter().flatten();
                wanted.extend(fields.map(|field| field.data_type.clone()));
                definitions.push(defined);
            }
        }
        for (id, definition, name) in definitions {
            let structure = self.structure(definition, name);
            let place = self.types.reserve(id);
            self.types.define(place, structure);
        }
        Ok(())
    }

    /// Finds the supertypes of types, up to built-in ones.
    async fn climb(
        &mut self,
        services: &impl Services,
        types: &[NodeId],
    ) -> Result<(), ServiceError> {
        let mut open: Vec<NodeId> = types.to_vec();
        for _ in 0..MAX_ROUNDS {
            open.retain(|id| built_in(id).is_none() && !self.supertypes.contains_key(id));
            if open.is_empty() {
                return Ok(());
            }
            let asked = open.iter().map(|id| {
                let (of, direction) = (ReferenceTypeId::HasSubtype, BrowseDirection::Inverse);
                references(id.clone(), of, direction, NodeClassMask::DATA_TYPE)
            });
            let answers = services.browse(asked.collect()).await?;
            let found: Vec<_> = open
                .into_iter()
                .zip(answers)
                .map(|(id, answer)| (id, self.targets(answer).next().map(|(above, _)| above)))
                .collect();
            open = found.iter().filter_map(|(_, above)| above.clone()).collect();
            self.supertypes.extend(found);
        }
        Ok(())
    }

    /// The built-in type that a type is a kind of.
    fn base(&self, id: &NodeId) -> Option<Base> {
        let mut id = id;
        for _ in 0..=MAX_ROUNDS {
            if let Some(base) = built_in(id) {
                return Some(base);
            }
            id = self.supertypes.get(id)?.as_ref()?;
        }
        None
    }

    /// Asks for the names of enumerations: by definition, or by the property of older servers.
    async fn name_enumerations(
        &mut self,
        services: &impl Services,
        types: Vec<NodeId>,
    ) -> Result<(), ServiceError> {
        if types.is_empty() {
            return Ok(());
        }
        let asked = types.iter().map(|id| attribute(id.clone(), AttributeId::DataTypeDefinition));
        let answers = services.read(asked.collect()).await?;
        let mut unnamed = Vec::new();
        for (id, answer) in types.into_iter().zip(answers) {
            match definition::<EnumDefinition>(answer) {
                Some(definition) => {
                    let fields = definition.fields.unwrap_or_default().into_iter();
                    let names = fields.take(MAX_NAMES).map(|field| {
                        let name = field.name.as_ref().to_owned();
                        let shown = field.display_name.text.as_ref().to_owned();
                        (field.value, if name.is_empty() { shown } else { name })
                    });
                    self.classes.insert(id, named(Names::new(names)));
                }
                None => unnamed.push(id),
            }
        }
        if unnamed.is_empty() {
            return Ok(());
        }
        let asked = unnamed.iter().map(|id| {
            let (of, direction) = (ReferenceTypeId::HasProperty, BrowseDirection::Forward);
            references(id.clone(), of, direction, NodeClassMask::VARIABLE)
        });
        let answers = services.browse(asked.collect()).await?;
        let mut properties = Vec::new();
        for (id, answer) in unnamed.into_iter().zip(answers) {
            let property = self
                .targets(answer)
                .find(|(_, name)| matches!(name.as_str(), "EnumStrings" | "EnumValues"));
            match property {
                Some((property, _)) => properties.push((id, property)),
                // Its numbers have no names.
                None => {
                    self.classes.insert(id, named(Names::default()));
                }
            }
        }
        let asked = properties.iter().map(|(_, id)| attribute(id.clone(), AttributeId::Value));
        let values = services.read(asked.collect()).await?;
        for ((id, _), value) in properties.into_iter().zip(values) {
            self.classes.insert(id, named(Names::new(listed(value))));
        }
        Ok(())
    }

    /// Asks for the definitions of structures, and by which ids their bodies come.
    async fn ask_structures(
        &mut self,
        services: &impl Services,
        types: Vec<NodeId>,
    ) -> Result<Vec<(NodeId, StructureDefinition, Box<str>)>, ServiceError> {
        if types.is_empty() {
            return Ok(Vec::new());
        }
        let asked = types.iter().flat_map(|id| {
            [AttributeId::DataTypeDefinition, AttributeId::IsAbstract, AttributeId::BrowseName]
                .map(|of| attribute(id.clone(), of))
        });
        let answers = services.read(asked.collect()).await?;
        let asked = types.iter().map(|id| {
            let (of, direction) = (ReferenceTypeId::HasEncoding, BrowseDirection::Forward);
            references(id.clone(), of, direction, NodeClassMask::OBJECT)
        });
        let encodings = services.browse(asked.collect()).await?;
        let mut defined = Vec::new();
        let mut answers = answers.into_iter();
        for (id, encodings) in types.into_iter().zip(encodings) {
            let (first, is_abstract, name) = (answers.next(), answers.next(), answers.next());
            let value = |answer: Option<DataValue>| answer.and_then(|answer| answer.value);
            if matches!(value(is_abstract), Some(Variant::Boolean(true))) {
                self.classes.insert(id, Class::AbstractStructure);
                continue;
            }
            let definition = first
                .and_then(definition::<StructureDefinition>)
                .filter(|definition| definition.fields.as_ref().map_or(0, Vec::len) <= MAX_FIELDS);
            let Some(definition) = definition else {
                self.classes.insert(id, Class::Undefined);
                continue;
            };
            let name = match value(name) {
                Some(Variant::QualifiedName(name)) => name.name.as_ref().into(),
                _ => (*self.name(&id)).into(),
            };
            let binary = self.targets(encodings).find(|(_, name)| name == "Default Binary");
            let place = self.types.reserve(id.clone());
            for encoding in binary
                .map(|(encoding, _)| encoding)
                .into_iter()
                .chain([definition.default_encoding_id.clone()])
            {
                if !encoding.is_null() && self.types.place(&encoding).is_none() {
                    self.types.encoded_as(encoding, place);
                }
            }
            self.classes.insert(id.clone(), Class::Structure);
            defined.push((id, definition, name));
        }
        Ok(defined)
    }

    /// A structure whose fields' types are known as far as they ever will be.
    fn structure(&mut self, definition: StructureDefinition, name: Box<str>) -> Structure {
        let of = definition.structure_type;
        let subtyped = matches!(
            of,
            StructureType::StructureWithSubtypedValues | StructureType::UnionWithSubtypedValues
        );
        let fields = definition.fields.into_iter().flatten().map(|field| {
            let kind = self.field(&field.data_type, subtyped && field.is_optional);
            Field::new(field.name.as_ref(), kind, field.value_rank, field.is_optional)
        });
        let fields = fields.collect();
        let shape = match of {
            StructureType::StructureWithOptionalFields => Shape::Optional,
            StructureType::Union | StructureType::UnionWithSubtypedValues => Shape::Union,
            StructureType::Structure | StructureType::StructureWithSubtypedValues => Shape::Plain,
        };
        Structure { name, shape, fields }
    }

    /// What stands in a body for a field of this type; `or_subtype` when it may be a subtype, so
    /// that the body says which (Part 3, 8.49; Part 6, 5.2.7).
    fn field(&mut self, data_type: &NodeId, or_subtype: bool) -> Kind {
        match self.classes.get(data_type) {
            Some(Class::Structure | Class::AbstractStructure) if or_subtype => {
                Kind::Scalar(Scalar::ExtensionObject)
            }
            Some(Class::Scalar(Scalar::ExtensionObject)) => Kind::Scalar(Scalar::ExtensionObject),
            Some(Class::Scalar(_) | Class::Named(_)) if or_subtype => Kind::Scalar(Scalar::Variant),
            Some(Class::Scalar(scalar)) => Kind::Scalar(*scalar),
            Some(Class::Named(names)) if names.is_empty() => Kind::Scalar(Scalar::Int32),
            Some(Class::Named(names)) => Kind::Named(Arc::clone(names)),
            Some(Class::AbstractStructure) => Kind::Scalar(Scalar::ExtensionObject),
            Some(Class::Structure) => Kind::Structure(self.types.reserve(data_type.clone())),
            Some(Class::Undefined) | None => Kind::Undefined((*self.name(data_type)).into()),
        }
    }
}

/// What a type can be a kind of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Base {
    Scalar(Scalar),
    Enumeration,
    Structure,
}

/// The types of the specification that are not made of others.
fn built_in(id: &NodeId) -> Option<Base> {
    let number = id.as_u32().filter(|_| id.namespace == 0)?;
    let is = |data_type: DataTypeId| data_type as u32 == number;
    if is(DataTypeId::Enumeration) {
        return Some(Base::Enumeration);
    }
    if is(DataTypeId::Structure) {
        return Some(Base::Structure);
    }
    if is(DataTypeId::Number) || is(DataTypeId::Integer) || is(DataTypeId::UInteger) {
        return Some(Base::Scalar(Scalar::Variant));
    }
    Scalar::from_number(number).map(Base::Scalar)
}

fn named(names: Names) -> Class {
    // Numbers without names are plain numbers.
    if names.is_empty() { Class::Scalar(Scalar::Int32) } else { Class::Named(Arc::new(names)) }
}

/// The definition that an attribute holds.
fn definition<T: Send + Sync + 'static>(answer: DataValue) -> Option<T> {
    let Some(Variant::ExtensionObject(object)) = answer.value else { return None };
    object.into_inner_as::<T>().map(|definition| *definition)
}

/// The names that a property `EnumStrings` (numbered from 0) or `EnumValues` holds.
fn listed(value: DataValue) -> Vec<(i64, String)> {
    let Some(Variant::Array(array)) = value.value else { return Vec::new() };
    let names =
        (0_i64..).zip(array.values).take(MAX_NAMES).filter_map(|(number, value)| match value {
            Variant::LocalizedText(text) => Some((number, text.text.as_ref().to_owned())),
            Variant::ExtensionObject(object) => one(object),
            _ => None,
        });
    names.collect()
}

fn one(object: ExtensionObject) -> Option<(i64, String)> {
    let value = object.into_inner_as::<EnumValueType>()?;
    Some((value.value, value.display_name.text.as_ref().to_owned()))
}
