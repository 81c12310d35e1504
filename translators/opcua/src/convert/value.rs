//! Values that the crate below has decoded.
//!
//! # Invariants
//! - A single number costs no allocation, a text one, bytes are moved.

use opcua::types::{
    Array, ByteString, ByteStringBody, DataValue, DynEncodable, ExtensionObject, UaNullable,
    Variant, XmlBody, XmlElement,
};
use tidegate_translator::{Reason, Value};

use super::body::{deeper, localized};
use super::json::{Json, not_finite};
use super::time::Rfc3339;
use super::{Converter, Flaw, MAX_BYTES, Meaning, Names};
use crate::status::Status;

/// A value, and why it is not good although its status is.
type Own = (Value, Option<Reason>);

impl Converter {
    /// The value of a tag.
    pub(super) fn value(&self, meaning: &Meaning, value: Variant) -> Result<Own, Flaw> {
        if let Meaning::Named(names) = meaning
            && let Some(own) = self.named(names, &value)?
        {
            return Ok(own);
        }
        Ok(match value {
            Variant::Boolean(value) => (Value::Bool(value), None),
            Variant::SByte(value) => (Value::I64(value.into()), None),
            Variant::Int16(value) => (Value::I64(value.into()), None),
            Variant::Int32(value) => (Value::I64(value.into()), None),
            Variant::Int64(value) => (Value::I64(value), None),
            Variant::Byte(value) => (Value::U64(value.into()), None),
            Variant::UInt16(value) => (Value::U64(value.into()), None),
            Variant::UInt32(value) => (Value::U64(value.into()), None),
            Variant::UInt64(value) => (Value::U64(value), None),
            Variant::Float(value) => (Value::F32(value), not_finite(value.into())),
            Variant::Double(value) => (Value::F64(value), not_finite(value)),
            Variant::String(text) => (text_of(text.as_ref())?, None),
            Variant::LocalizedText(localized) => (text_of(localized.text.as_ref())?, None),
            Variant::ByteString(bytes) => (bytes_of(bytes)?, None),
            Variant::XmlElement(xml) => (text_of(&xml_of(&xml))?, None),
            Variant::DateTime(time) => (shown(Rfc3339::of(*time)), None),
            Variant::Guid(guid) => (shown(guid), None),
            Variant::NodeId(id) => (shown(self.namespaces.address(&id)), None),
            Variant::ExpandedNodeId(id) => (shown(self.namespaces.expanded(&id)), None),
            Variant::QualifiedName(name) => (shown(self.namespaces.name(&name)), None),
            Variant::StatusCode(status) => (shown(Status::from(status)), None),
            other => {
                let mut json = Json::new(MAX_BYTES);
                self.json(&mut json, None, &other, 0)?;
                let (text, lost) = json.finish();
                (Value::Json(text), lost)
            }
        })
    }

    /// The value of an enumeration; `None` when it is no whole number, but something that says
    /// itself what it is.
    fn named(&self, names: &Names, value: &Variant) -> Result<Option<Own>, Flaw> {
        let are_numbers = match value {
            Variant::Array(array) => array.values.iter().all(|value| whole(value).is_some()),
            value => whole(value).is_some(),
        };
        if !are_numbers {
            return Ok(None);
        }
        let mut json = Json::new(MAX_BYTES);
        self.json(&mut json, Some(names), value, 0)?;
        let (text, lost) = json.finish();
        Ok(Some((Value::Json(text), lost)))
    }

    fn json(
        &self,
        out: &mut Json,
        names: Option<&Names>,
        value: &Variant,
        depth: u32,
    ) -> Result<(), Flaw> {
        if let (Some(names), Some(number)) = (names, whole(value)) {
            return names.write(out, number);
        }
        match value {
            Variant::Empty => out.null(),
            Variant::Boolean(value) => out.bool(*value),
            Variant::SByte(value) => out.signed((*value).into()),
            Variant::Int16(value) => out.signed((*value).into()),
            Variant::Int32(value) => out.signed((*value).into()),
            Variant::Int64(value) => out.signed(*value),
            Variant::Byte(value) => out.unsigned((*value).into()),
            Variant::UInt16(value) => out.unsigned((*value).into()),
            Variant::UInt32(value) => out.unsigned((*value).into()),
            Variant::UInt64(value) => out.unsigned(*value),
            Variant::Float(value) => out.float(*value),
            Variant::Double(value) => out.float(*value),
            Variant::String(text) => match text.value() {
                Some(text) => out.text(text),
                None => out.null(),
            },
            Variant::XmlElement(xml) => out.text(&xml_of(xml)),
            Variant::DateTime(time) => out.quoted(Rfc3339::of(**time)),
            Variant::Guid(guid) => out.quoted(guid),
            Variant::ByteString(bytes) => match &bytes.value {
                Some(bytes) => out.bytes(bytes),
                None => out.null(),
            },
            Variant::NodeId(id) => out.text(&self.namespaces.address(id).to_string()),
            Variant::ExpandedNodeId(id) => out.text(&self.namespaces.expanded(id)),
            Variant::QualifiedName(name) => out.text(&self.namespaces.name(name)),
            Variant::StatusCode(status) => out.quoted(Status::from(*status)),
            Variant::LocalizedText(text) => {
                localized(out, text.text.value().as_deref(), text.locale.value().as_deref())
            }
            Variant::ExtensionObject(object) => self.extension(out, object, depth),
            Variant::Variant(inner) => self.json(out, names, inner, deeper(depth)?),
            Variant::DataValue(data) => self.data(out, data, deeper(depth)?),
            Variant::Array(array) => self.array(out, names, array, depth),
            Variant::DiagnosticInfo(_) => Err(Flaw::NoForm { what: "DiagnosticInfo" }),
        }
    }

    fn array(
        &self,
        out: &mut Json,
        names: Option<&Names>,
        array: &Array,
        depth: u32,
    ) -> Result<(), Flaw> {
        let dimensions = array.dimensions.as_deref().unwrap_or_default();
        let product = dimensions.iter().try_fold(1_usize, |product, dimension| {
            product.checked_mul(usize::try_from(*dimension).ok()?)
        });
        // One dimension says nothing that the count does not; others than the count cannot be.
        if dimensions.len() < 2 || product != Some(array.values.len()) {
            return self.rows(out, names, &[], &array.values, depth);
        }
        self.rows(out, names, dimensions.get(1..).unwrap_or_default(), &array.values, depth)
    }

    /// Members in rows; each row is divided further by `inner`.
    fn rows(
        &self,
        out: &mut Json,
        names: Option<&Names>,
        inner: &[u32],
        values: &[Variant],
        depth: u32,
    ) -> Result<(), Flaw> {
        let depth = deeper(depth)?;
        out.raw("[")?;
        let mut comma = "";
        match inner.split_first() {
            None => {
                for value in values {
                    out.raw(comma)?;
                    comma = ",";
                    self.json(out, names, value, depth)?;
                }
            }
            Some((_, rest)) => {
                let row = inner.iter().fold(1_usize, |product, dimension| {
                    product.saturating_mul(usize::try_from(*dimension).unwrap_or(usize::MAX))
                });
                for row in values.chunks(row.max(1)) {
                    out.raw(comma)?;
                    comma = ",";
                    self.rows(out, names, rest, row, depth)?;
                }
            }
        }
        out.raw("]")
    }

    fn data(&self, out: &mut Json, data: &DataValue, depth: u32) -> Result<(), Flaw> {
        out.raw("{\"value\":")?;
        match &data.value {
            Some(value) => self.json(out, None, value, depth)?,
            None => out.null()?,
        }
        if let Some(status) = data.status {
            out.raw(",\"status\":")?;
            out.quoted(Status::from(status))?;
        }
        for (time, key) in
            [(data.source_timestamp, ",\"source\":"), (data.server_timestamp, ",\"server\":")]
        {
            if let Some(time) = time {
                out.raw(key)?;
                out.quoted(Rfc3339::of(time))?;
            }
        }
        out.raw("}")
    }

    fn extension(&self, out: &mut Json, object: &ExtensionObject, depth: u32) -> Result<(), Flaw> {
        let Some(body) = &object.body else { return out.null() };
        if let Some(raw) = object.inner_as::<ByteStringBody>() {
            return self.encoded(out, raw.encoding_id(), raw.raw_body().as_ref(), depth);
        }
        if let Some(xml) = object.inner_as::<XmlBody>() {
            let id = self.namespaces.address(xml.encoding_id()).to_string();
            return Err(Flaw::Encoding { id: id.into() });
        }
        // One of the specification's own, which the crate below has decoded: back to bytes, so
        // that all structures go one way.
        let id = body.binary_type_id().node_id;
        let mut bytes = Vec::new();
        self.encode(body.as_ref(), &mut bytes)?;
        self.encoded(out, &id, &bytes, depth)
    }

    fn encode(&self, body: &dyn DynEncodable, bytes: &mut Vec<u8>) -> Result<(), Flaw> {
        let context = self.context.context();
        body.encode_binary(bytes, &context).map_err(|_| Flaw::Malformed {
            of: body.type_name().into(),
            what: "it cannot be encoded again",
        })
    }
}

/// A value as a whole number, if it is one.
fn whole(value: &Variant) -> Option<i64> {
    Some(match value {
        Variant::SByte(value) => (*value).into(),
        Variant::Int16(value) => (*value).into(),
        Variant::Int32(value) => (*value).into(),
        Variant::Int64(value) => *value,
        Variant::Byte(value) => (*value).into(),
        Variant::UInt16(value) => (*value).into(),
        Variant::UInt32(value) => (*value).into(),
        Variant::UInt64(value) => i64::try_from(*value).ok()?,
        _ => return None,
    })
}

fn shown(value: impl std::fmt::Display) -> Value {
    Value::Text(value.to_string().into())
}

/// A null text is an empty one: servers do not agree on which of both they send.
fn text_of(text: &str) -> Result<Value, Flaw> {
    if text.len() > MAX_BYTES {
        return Err(Flaw::TooLarge { limit: MAX_BYTES });
    }
    Ok(Value::Text(text.into()))
}

fn xml_of(xml: &XmlElement) -> String {
    if xml.is_ua_null() { String::new() } else { xml.to_string() }
}

fn bytes_of(bytes: ByteString) -> Result<Value, Flaw> {
    let bytes = bytes.value.unwrap_or_default();
    if bytes.len() > MAX_BYTES {
        return Err(Flaw::TooLarge { limit: MAX_BYTES });
    }
    Ok(Value::Bytes(bytes.into()))
}
