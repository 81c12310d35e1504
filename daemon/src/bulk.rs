//! Values that may be long: what they take in a queue, and how they are remembered.
//!
//! # Invariants
//! - A bound on samples holds for texts and structures as well: a long one counts as several.
//! - What is remembered only to be compared takes no more than a number does.

use tidegate_translator::{Sample, Value, ValueKind};

/// About what a sample takes without text: counting a number as one keeps limits in samples.
const UNIT: usize = 64;

/// The bytes of text, of opaque bytes or of JSON in a value.
pub(crate) fn text_bytes(value: &Value) -> usize {
    match value {
        Value::Text(text) | Value::Json(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        _ => 0,
    }
}

/// One for each sample, and one more for every 64 bytes of text in it.
pub(crate) fn weight(samples: &[Sample]) -> usize {
    let texts = samples.iter().map(|sample| text_bytes(&sample.value) / UNIT);
    samples.len().saturating_add(texts.fold(0, usize::saturating_add))
}

/// A text longer than this is remembered by its hash.
const SHORT: usize = 64;

/// A value to compare later ones with.
#[derive(Debug, Clone)]
pub(crate) enum Remembered {
    /// As it is.
    Short(Value),
    /// The kind and the hash of a long one.
    Long(Box<(ValueKind, blake3::Hash)>),
}

impl Remembered {
    pub(crate) fn of(value: &Value) -> Self {
        match hashed(value) {
            Some(hash) => Self::Long(Box::new((value.kind(), hash))),
            None => Self::Short(value.clone()),
        }
    }

    /// Whether it was this one, bit for bit.
    pub(crate) fn is(&self, value: &Value) -> bool {
        match self {
            Self::Short(known) => known.is_same(value),
            Self::Long(known) => {
                known.0 == value.kind() && hashed(value).is_some_and(|hash| hash == known.1)
            }
        }
    }

    /// The value, unless it was a long one.
    pub(crate) const fn short(&self) -> Option<&Value> {
        match self {
            Self::Short(value) => Some(value),
            Self::Long(_) => None,
        }
    }
}

fn hashed(value: &Value) -> Option<blake3::Hash> {
    let bytes = match value {
        Value::Text(text) | Value::Json(text) => text.as_bytes(),
        Value::Bytes(bytes) => bytes,
        _ => return None,
    };
    (bytes.len() > SHORT).then(|| blake3::hash(bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidegate_translator::{TagId, Timestamp};

    use super::*;

    #[test]
    fn a_number_weighs_one_and_a_structure_by_its_size() {
        let of = |value| Sample::good(TagId(1), Timestamp(0), value);
        assert_eq!(weight(&[of(Value::F64(1.0)), of(Value::Text("running".into()))]), 2);
        assert_eq!(weight(&[of(Value::Json(" ".repeat(48 * 1024).into()))]), 769);
    }

    fn value() -> impl Strategy<Value = Value> {
        let text = prop_oneof!["[ab]{0,3}", "[ab]{0,3}".prop_map(|end| "x".repeat(63) + &end)];
        (text, 0..4).prop_map(|(text, kind)| match kind {
            0 => Value::Text(text.into()),
            1 => Value::Json(text.into()),
            2 => Value::Bytes(text.into_bytes().into()),
            _ => Value::F64(if text.len() % 2 == 0 { f64::NAN } else { -0.0 }),
        })
    }

    proptest! {
        #[test]
        fn what_is_remembered_is_the_same_for_the_same_value_alone(a in value(), b in value()) {
            prop_assert_eq!(Remembered::of(&a).is(&b), a.is_same(&b));
        }
    }

    #[test]
    fn a_long_value_is_remembered_by_its_hash() {
        let text = |length| Remembered::of(&Value::Text("x".repeat(length).into()));
        assert!(text(SHORT).short().is_some() && text(SHORT + 1).short().is_none());
        assert!(size_of::<Remembered>() <= size_of::<Value>() + 8);
    }
}
