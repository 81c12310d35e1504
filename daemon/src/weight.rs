//! What samples take in a queue, so that a bound holds for long texts as well.

use tidegate_translator::{Sample, Value};

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

#[cfg(test)]
mod tests {
    use tidegate_translator::{TagId, Timestamp};

    use super::*;

    #[test]
    fn a_number_weighs_one_and_a_structure_by_its_size() {
        let of = |value| Sample::good(TagId(1), Timestamp(0), value);
        assert_eq!(weight(&[of(Value::F64(1.0)), of(Value::Text("running".into()))]), 2);
        assert_eq!(weight(&[of(Value::Json(" ".repeat(48 * 1024).into()))]), 769);
    }
}
