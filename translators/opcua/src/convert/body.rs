//! Bodies of structures, decoded by their definitions (Part 6, 5.2) straight into JSON.
//!
//! The crate below decodes them too, but without a bound on depth, and not those that allow
//! subtypes; and what it does not know it keeps as bytes, which is what comes here.
//!
//! # Invariants
//! - Every sequence of bytes decodes or is refused: nothing panics, nothing is read twice but the
//!   members of a matrix, nothing is allocated by a length that the bytes merely claim.
//! - A body that is longer than its definition is refused as one that is shorter: both mean that
//!   the definition is another one, and the values would be wrong.
//! - Each level costs one of [`MAX_DEPTH`], each byte of JSON one of the limit: a small body that
//!   unfolds without end is refused.

use super::definition::{Field, Kind, Place, Scalar, Shape, Structure};
use super::json::Json;
use super::time::Rfc3339;
use super::{Converter, Flaw, MAX_DEPTH};
use crate::node::{Identifier, Namespace, turned};
use crate::status::Status;

/// What is still to be read of a body.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// The structure that is being read, for messages.
    of: &'a str,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8], of: &'a str) -> Self {
        Self { rest: bytes, of }
    }

    fn flaw(&self, what: &'static str) -> Flaw {
        Flaw::Malformed { of: self.of.into(), what }
    }

    fn slice(&mut self, length: usize) -> Result<&'a [u8], Flaw> {
        let (taken, rest) =
            self.rest.split_at_checked(length).ok_or_else(|| self.flaw("it ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Flaw> {
        let (taken, rest) =
            self.rest.split_first_chunk().ok_or_else(|| self.flaw("it ends too early"))?;
        self.rest = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, Flaw> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, Flaw> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Flaw> {
        self.array().map(u32::from_le_bytes)
    }

    fn i32(&mut self) -> Result<i32, Flaw> {
        self.array().map(i32::from_le_bytes)
    }

    /// A length; `None` for null, which every negative number means.
    fn length(&mut self) -> Result<Option<usize>, Flaw> {
        Ok(usize::try_from(self.i32()?).ok())
    }

    fn bytes(&mut self) -> Result<Option<&'a [u8]>, Flaw> {
        self.length()?.map(|length| self.slice(length)).transpose()
    }

    fn text(&mut self) -> Result<Option<&'a str>, Flaw> {
        let Some(bytes) = self.bytes()? else { return Ok(None) };
        std::str::from_utf8(bytes).map(Some).map_err(|_| self.flaw("a text in it is no UTF-8"))
    }

    pub(super) fn finish(&self) -> Result<(), Flaw> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.flaw("it is longer than its definition"))
        }
    }
}

/// One level deeper, or refused.
pub(super) const fn deeper(depth: u32) -> Result<u32, Flaw> {
    if depth >= MAX_DEPTH { Err(Flaw::TooDeep) } else { Ok(depth + 1) }
}

impl Converter {
    /// A structure without the id that stands before it.
    pub(super) fn structure(
        &self,
        out: &mut Json,
        structure: &Structure,
        body: &mut Reader<'_>,
        depth: u32,
    ) -> Result<(), Flaw> {
        let depth = deeper(depth)?;
        if structure.shape == Shape::Union {
            return self.union(out, structure, body, depth);
        }
        let mut mask = match structure.shape {
            Shape::Optional => body.u32()?,
            Shape::Plain | Shape::Union => 0,
        };
        out.raw("{")?;
        let mut comma = "";
        for field in &structure.fields {
            if field.optional && structure.shape == Shape::Optional {
                let present = mask & 1 != 0;
                mask >>= 1;
                if !present {
                    continue;
                }
            }
            out.raw(comma)?;
            comma = ",";
            self.field(out, field, body, depth)?;
        }
        if mask != 0 {
            return Err(body.flaw("it has more optional fields than its definition"));
        }
        out.raw("}")
    }

    fn union(
        &self,
        out: &mut Json,
        structure: &Structure,
        body: &mut Reader<'_>,
        depth: u32,
    ) -> Result<(), Flaw> {
        let Some(choice) = body.u32()?.checked_sub(1) else { return out.null() };
        let chosen = usize::try_from(choice).ok().and_then(|choice| structure.fields.get(choice));
        let field = chosen.ok_or_else(|| body.flaw("it chooses a field that the union has not"))?;
        out.raw("{")?;
        self.field(out, field, body, depth)?;
        out.raw("}")
    }

    fn field(
        &self,
        out: &mut Json,
        field: &Field,
        body: &mut Reader<'_>,
        depth: u32,
    ) -> Result<(), Flaw> {
        out.raw(field.key())?;
        match field.rank {
            0 => self.kind(out, &field.kind, body, depth),
            1 => match body.length()? {
                None => out.null(),
                Some(length) => self.list(out, &field.kind, length, body, depth),
            },
            rank => {
                let Some(count) = body.length()? else { return out.null() };
                if u32::try_from(count).ok() != Some(rank) {
                    return Err(
                        body.flaw("a matrix in it has other dimensions than its definition")
                    );
                }
                let dimensions = dimensions(body, count)?;
                self.matrix(out, &field.kind, &dimensions, body, depth)
            }
        }
    }

    fn list(
        &self,
        out: &mut Json,
        kind: &Kind,
        length: usize,
        body: &mut Reader<'_>,
        depth: u32,
    ) -> Result<(), Flaw> {
        let depth = deeper(depth)?;
        out.raw("[")?;
        for place in 0..length {
            if place > 0 {
                out.raw(",")?;
            }
            self.kind(out, kind, body, depth)?;
        }
        out.raw("]")
    }

    fn matrix(
        &self,
        out: &mut Json,
        kind: &Kind,
        dimensions: &[usize],
        body: &mut Reader<'_>,
        depth: u32,
    ) -> Result<(), Flaw> {
        let Some((&first, rest)) = dimensions.split_first() else {
            return self.kind(out, kind, body, depth);
        };
        // A matrix without a member has none of its rows either (Part 6, 5.2.5).
        if dimensions.contains(&0) {
            return out.raw("[]");
        }
        let depth = deeper(depth)?;
        out.raw("[")?;
        for place in 0..first {
            if place > 0 {
                out.raw(",")?;
            }
            self.matrix(out, kind, rest, body, depth)?;
        }
        out.raw("]")
    }

    fn kind(
        &self,
        out: &mut Json,
        kind: &Kind,
        body: &mut Reader<'_>,
        depth: u32,
    ) -> Result<(), Flaw> {
        match kind {
            Kind::Scalar(scalar) => self.scalar(out, *scalar, body, depth),
            Kind::Named(names) => names.write(out, body.i32()?.into()),
            Kind::Structure(place) => self.in_place(out, *place, body, depth),
            Kind::Undefined(name) => Err(Flaw::Undefined { name: name.clone() }),
        }
    }

    fn in_place(
        &self,
        out: &mut Json,
        place: Place,
        body: &mut Reader<'_>,
        depth: u32,
    ) -> Result<(), Flaw> {
        let Some(structure) = self.types.at(place) else {
            return Err(body.flaw("a structure in it has no definition"));
        };
        self.structure(out, structure, body, depth)
    }

    fn scalar(
        &self,
        out: &mut Json,
        scalar: Scalar,
        body: &mut Reader<'_>,
        depth: u32,
    ) -> Result<(), Flaw> {
        match scalar {
            Scalar::Boolean => out.bool(body.byte()? != 0),
            Scalar::SByte => out.signed(i8::from_le_bytes(body.array()?).into()),
            Scalar::Byte => out.unsigned(body.byte()?.into()),
            Scalar::Int16 => out.signed(i16::from_le_bytes(body.array()?).into()),
            Scalar::UInt16 => out.unsigned(body.u16()?.into()),
            Scalar::Int32 => out.signed(body.i32()?.into()),
            Scalar::UInt32 => out.unsigned(body.u32()?.into()),
            Scalar::Int64 => out.signed(i64::from_le_bytes(body.array()?)),
            Scalar::UInt64 => out.unsigned(u64::from_le_bytes(body.array()?)),
            Scalar::Float => out.float(f32::from_le_bytes(body.array()?)),
            Scalar::Double => out.float(f64::from_le_bytes(body.array()?)),
            Scalar::String | Scalar::XmlElement => match body.text()? {
                Some(text) => out.text(text),
                None => out.null(),
            },
            Scalar::DateTime => out.quoted(Rfc3339 { ticks: i64::from_le_bytes(body.array()?) }),
            Scalar::Guid => {
                // `g=` and the digits.
                let guid = Identifier::Guid(turned(body.array()?)).to_string();
                out.quoted(guid.trim_start_matches("g="))
            }
            Scalar::ByteString => match body.bytes()? {
                Some(bytes) => out.bytes(bytes),
                None => out.null(),
            },
            Scalar::NodeId | Scalar::ExpandedNodeId => {
                let text = self.node(body, scalar == Scalar::ExpandedNodeId)?;
                out.text(&text)
            }
            Scalar::StatusCode => out.quoted(Status(body.u32()?)),
            Scalar::QualifiedName => {
                let index = body.u16()?;
                let name = body.text()?.unwrap_or_default();
                let name = opcua::types::QualifiedName::new(index, name);
                out.text(&self.namespaces.name(&name))
            }
            Scalar::LocalizedText => {
                let mask = body.byte()?;
                let locale = if mask & 1 != 0 { body.text()? } else { None };
                let text = if mask & 2 != 0 { body.text()? } else { None };
                localized(out, text, locale)
            }
            Scalar::ExtensionObject => self.object(out, body, depth),
            Scalar::DataValue => self.data_value(out, body, depth),
            Scalar::Variant => self.variant(out, body, depth),
            Scalar::DiagnosticInfo => Err(Flaw::NoForm { what: "DiagnosticInfo" }),
        }
    }

    /// A structure with the id of its encoding before it.
    fn object(&self, out: &mut Json, body: &mut Reader<'_>, depth: u32) -> Result<(), Flaw> {
        let depth = deeper(depth)?;
        let id = self.node_id(body)?.0;
        match body.byte()? {
            0 => out.null(),
            1 => {
                let Some(inner) = body.bytes()?.filter(|inner| !inner.is_empty()) else {
                    return out.null();
                };
                self.encoded(out, &id, inner, depth)
            }
            2 => Err(Flaw::Encoding { id: self.namespaces.address(&id).to_string().into() }),
            _ => Err(body.flaw("a structure in it has an unknown encoding")),
        }
    }

    /// The bytes of a structure that came with the id of its encoding.
    pub(super) fn encoded(
        &self,
        out: &mut Json,
        id: &opcua::types::NodeId,
        bytes: &[u8],
        depth: u32,
    ) -> Result<(), Flaw> {
        let Some(structure) = self.types.find(id) else {
            let address = self.namespaces.address(id).to_string().into();
            return Err(Flaw::UnknownType { id: address, encoding: Box::new(id.clone()) });
        };
        let mut body = Reader::new(bytes, &structure.name);
        self.structure(out, structure, &mut body, depth)?;
        body.finish()
    }

    fn variant(&self, out: &mut Json, body: &mut Reader<'_>, depth: u32) -> Result<(), Flaw> {
        let depth = deeper(depth)?;
        let mask = body.byte()?;
        let number = u32::from(mask & 0x3f);
        if number == 0 {
            return out.null();
        }
        let scalar = Scalar::from_number(number)
            .ok_or_else(|| body.flaw("a value in it has an unknown type"))?;
        let kind = Kind::Scalar(scalar);
        if mask & 0x80 == 0 {
            return self.kind(out, &kind, body, depth);
        }
        let Some(length) = body.length()? else { return out.null() };
        if mask & 0x40 == 0 {
            return self.list(out, &kind, length, body, depth);
        }
        // The dimensions stand behind the members: those are read over first.
        let members = body.rest;
        let at = out.at();
        self.list(out, &kind, length, body, depth)?;
        let count = body.length()?.unwrap_or(0);
        let dimensions = dimensions(body, count)?;
        let product = dimensions.iter().try_fold(1_usize, |product, d| product.checked_mul(*d));
        if product != Some(length) {
            return Err(body.flaw("a matrix in it has other dimensions than members"));
        }
        out.cut(at);
        let mut again = Reader { rest: members, of: body.of };
        self.matrix(out, &kind, &dimensions, &mut again, depth)
    }

    fn data_value(&self, out: &mut Json, body: &mut Reader<'_>, depth: u32) -> Result<(), Flaw> {
        let depth = deeper(depth)?;
        let mask = body.byte()?;
        out.raw("{\"value\":")?;
        if mask & 1 != 0 {
            self.variant(out, body, depth)?
        } else {
            out.null()?
        }
        if mask & 2 != 0 {
            out.raw(",\"status\":")?;
            out.quoted(Status(body.u32()?))?;
        }
        for (time, fine, key) in [(4, 0x10, ",\"source\":"), (8, 0x20, ",\"server\":")] {
            if mask & time != 0 {
                out.raw(key)?;
                out.quoted(Rfc3339 { ticks: i64::from_le_bytes(body.array()?) })?;
            }
            if mask & fine != 0 {
                body.u16()?;
            }
        }
        out.raw("}")
    }

    fn node(&self, body: &mut Reader<'_>, expanded: bool) -> Result<String, Flaw> {
        let (id, flags) = self.node_id(body)?;
        let mut expanded_id = opcua::types::ExpandedNodeId::new(id);
        if expanded && flags & 0x80 != 0 {
            expanded_id.namespace_uri = body.text()?.unwrap_or_default().into();
        }
        if expanded && flags & 0x40 != 0 {
            expanded_id.server_index = body.u32()?;
        }
        Ok(self.namespaces.expanded(&expanded_id))
    }

    /// An id, and the flags of an expanded one.
    fn node_id(&self, body: &mut Reader<'_>) -> Result<(opcua::types::NodeId, u8), Flaw> {
        let form = body.byte()?;
        let (namespace, identifier) = match form & 0x3f {
            0 => (0, Identifier::Number(body.byte()?.into())),
            1 => (body.byte()?.into(), Identifier::Number(body.u16()?.into())),
            2 => (body.u16()?, Identifier::Number(body.u32()?)),
            3 => (body.u16()?, Identifier::Text(body.text()?.unwrap_or_default().into())),
            4 => (body.u16()?, Identifier::Guid(turned(body.array()?))),
            5 => (body.u16()?, Identifier::Bytes(body.bytes()?.unwrap_or_default().into())),
            _ => return Err(body.flaw("a node id in it has an unknown form")),
        };
        let address = self.namespaces.id(&Namespace::Index(namespace), &identifier);
        Ok((address.map_err(|_| body.flaw("a node id in it has no namespace"))?, form))
    }
}

fn dimensions(body: &mut Reader<'_>, count: usize) -> Result<Vec<usize>, Flaw> {
    if usize::try_from(MAX_DEPTH).is_ok_and(|most| count > most) {
        return Err(Flaw::TooDeep);
    }
    (0..count).map(|_| body.length().map(Option::unwrap_or_default)).collect()
}

/// `{"text":"Druck","locale":"de"}`
pub(super) fn localized(
    out: &mut Json,
    text: Option<&str>,
    locale: Option<&str>,
) -> Result<(), Flaw> {
    let part = |out: &mut Json, part: Option<&str>| match part {
        Some(part) => out.text(part),
        None => out.null(),
    };
    out.raw("{\"text\":")?;
    part(out, text)?;
    out.raw(",\"locale\":")?;
    part(out, locale)?;
    out.raw("}")
}
