//! The values that a tag can take.
//!
//! Every variant of record format version 1 exists from the first release, so that later
//! protocols need no new format.

use serde::{Deserialize, Serialize};

/// One value as the device gave it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// No value: the sample tells only its quality.
    None,
    /// A coil, a discrete input, a bit in a register.
    Bool(bool),
    /// A signed integer of up to 64 bits.
    I64(i64),
    /// An unsigned integer of up to 64 bits.
    U64(u64),
    /// An IEEE 754 single; its bits are kept, NaN payload included.
    F32(f32),
    /// An IEEE 754 double; its bits are kept, NaN payload included.
    F64(f64),
    /// Text in UTF-8.
    Text(Box<str>),
    /// Opaque bytes.
    Bytes(Box<[u8]>),
    /// An array or a structure, as JSON text.
    Json(Box<str>),
}

/// The kind of a [`Value`], as the catalog names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum ValueKind {
    /// See [`Value::None`].
    None = 0,
    /// See [`Value::Bool`].
    Bool = 1,
    /// See [`Value::I64`].
    I64 = 2,
    /// See [`Value::U64`].
    U64 = 3,
    /// See [`Value::F32`].
    F32 = 4,
    /// See [`Value::F64`].
    F64 = 5,
    /// See [`Value::Text`].
    Text = 6,
    /// See [`Value::Bytes`].
    Bytes = 7,
    /// See [`Value::Json`].
    Json = 8,
}

impl Value {
    /// The kind of this value.
    #[must_use]
    pub const fn kind(&self) -> ValueKind {
        match self {
            Self::None => ValueKind::None,
            Self::Bool(_) => ValueKind::Bool,
            Self::I64(_) => ValueKind::I64,
            Self::U64(_) => ValueKind::U64,
            Self::F32(_) => ValueKind::F32,
            Self::F64(_) => ValueKind::F64,
            Self::Text(_) => ValueKind::Text,
            Self::Bytes(_) => ValueKind::Bytes,
            Self::Json(_) => ValueKind::Json,
        }
    }

    /// Whether both values are the same bit for bit: two equal NaNs are, `0.0` and `-0.0` are not.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::F32(a), Self::F32(b)) => a.to_bits() == b.to_bits(),
            (Self::F64(a), Self::F64(b)) => a.to_bits() == b.to_bits(),
            (a, b) => a == b,
        }
    }

    /// The value as a number for deadbands and buckets; `None` for what is no number.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a deadband compares magnitudes, not identity")]
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Self::I64(v) => Some(v as f64),
            Self::U64(v) => Some(v as f64),
            Self::F32(v) => Some(f64::from(v)),
            Self::F64(v) => Some(v),
            _ => None,
        }
    }
}
