//! The JSON of one live value: `{"v","ts","q","u","src"}`, and `"why"` where there is something
//! to explain.
//!
//! # Invariants
//! - Every sample renders to one valid JSON object: what JSON cannot hold becomes `null` with a
//!   reason, never a broken document.
//! - No number loses digits on the way through a double: integers beyond ±2^53 are strings, floats
//!   are written in the shortest form that reads back as the same float of their own width.
//! - `ts` is when the value arose, by the device, else by its server, else by the gateway; never
//!   the time of sending.

use std::fmt::Write as _;

use tidegate_record::json::{Inexact, write_text, write_value};
use tidegate_translator::Sample;

/// Renders a sample as the live plane publishes it.
///
/// `unit` is the engineering unit, left out when there is none; `source` is the device's name.
#[must_use]
pub fn render(sample: &Sample, unit: Option<&str>, source: &str) -> Vec<u8> {
    // A float with unit and a short device name is about 80 bytes.
    let mut out = String::with_capacity(96);
    out.push_str("{\"v\":");
    let inexact = write_value(&mut out, &sample.value);
    // Writing to a String cannot fail.
    let (time, quality) = (sample.time().as_millis(), sample.quality.word());
    let _ = write!(out, ",\"ts\":{time},\"q\":\"{quality}\"");
    if let Some(unit) = unit {
        out.push_str(",\"u\":");
        write_text(&mut out, unit);
    }
    out.push_str(",\"src\":");
    write_text(&mut out, source);
    let why = sample.quality.reason().map(|reason| reason.word());
    if let Some(why) = why.or(inexact.map(Inexact::word)) {
        out.push_str(",\"why\":");
        write_text(&mut out, why);
    }
    out.push('}');
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidegate_translator::{Quality, Reason, TagId, Timestamp, Value};

    use super::*;

    fn rendered(sample: &Sample, unit: Option<&str>) -> String {
        String::from_utf8(render(sample, unit, "press-1")).unwrap()
    }

    #[test]
    fn a_good_value_has_the_five_fields_in_order() {
        let at = Timestamp(1_739_462_400_000_999_999);
        let sample = Sample::good(TagId(1), at, Value::F32(72.3));
        assert_eq!(
            rendered(&sample, Some("degC")),
            r#"{"v":72.3,"ts":1739462400000,"q":"good","u":"degC","src":"press-1"}"#
        );
    }

    #[test]
    fn the_time_is_the_source_s_else_the_server_s_else_the_gateway_s() {
        let mut sample = Sample::good(TagId(1), Timestamp::from_millis(9), Value::Bool(true));
        assert_eq!(rendered(&sample, None), r#"{"v":true,"ts":9,"q":"good","src":"press-1"}"#);
        sample.server = Some(Timestamp::from_millis(7));
        assert_eq!(rendered(&sample, None), r#"{"v":true,"ts":7,"q":"good","src":"press-1"}"#);
        sample.source = Some(Timestamp::from_millis(5));
        assert_eq!(rendered(&sample, None), r#"{"v":true,"ts":5,"q":"good","src":"press-1"}"#);
    }

    #[test]
    fn a_bad_value_says_why() {
        let sample = Sample::bad(TagId(1), Timestamp::from_millis(9), Reason::Timeout, 0);
        assert_eq!(
            rendered(&sample, None),
            r#"{"v":null,"ts":9,"q":"bad","src":"press-1","why":"timeout"}"#
        );
    }

    #[test]
    fn what_is_no_number_is_null_with_a_reason() {
        for (value, why) in [
            (Value::F64(f64::NAN), "not-a-number"),
            (Value::F32(f32::NAN), "not-a-number"),
            (Value::F64(f64::INFINITY), "positive-infinity"),
            (Value::F32(f32::NEG_INFINITY), "negative-infinity"),
        ] {
            let sample = Sample::good(TagId(1), Timestamp(0), value);
            let want = format!(r#"{{"v":null,"ts":0,"q":"good","src":"press-1","why":"{why}"}}"#);
            assert_eq!(rendered(&sample, None), want);
        }
    }

    #[test]
    fn a_reason_of_the_quality_goes_before_a_reason_of_the_rendering() {
        let mut sample = Sample::good(TagId(1), Timestamp(0), Value::F64(f64::NAN));
        sample.quality = Quality::Uncertain(Reason::SensorFailure);
        assert!(rendered(&sample, None).ends_with(r#""why":"sensor-failure"}"#));
    }

    #[test]
    fn text_and_bytes_are_strings() {
        let text = Sample::good(TagId(1), Timestamp(0), Value::Text("a\"b\n".into()));
        assert!(rendered(&text, None).starts_with(r#"{"v":"a\"b\n","ts":0,"#));
        let bytes = Sample::good(TagId(1), Timestamp(0), Value::Bytes([0, 255, 7, 9].into()));
        assert!(rendered(&bytes, None).starts_with(r#"{"v":"AP8HCQ==","ts":0,"#));
    }

    #[test]
    fn json_is_embedded_and_broken_json_is_carried_as_text() {
        let sample = Sample::good(TagId(1), Timestamp(0), Value::Json("{ \"a\": [1,\n2]}".into()));
        assert!(rendered(&sample, None).starts_with(r#"{"v":{"a":[1,2]},"ts":0,"#));
        let sample = Sample::good(TagId(1), Timestamp(0), Value::Json("{\"a\":".into()));
        assert_eq!(
            rendered(&sample, None),
            r#"{"v":"{\"a\":","ts":0,"q":"good","src":"press-1","why":"malformed"}"#
        );
    }

    #[test]
    fn json_nested_without_end_does_not_break_the_envelope() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let sample = Sample::good(TagId(1), Timestamp(0), Value::Json(deep.into()));
        let parsed: serde_json::Value = serde_json::from_str(&rendered(&sample, None)).unwrap();
        assert_eq!(parsed["why"], "malformed");
    }

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::None),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::I64),
            any::<u64>().prop_map(Value::U64),
            any::<u32>().prop_map(|bits| Value::F32(f32::from_bits(bits))),
            any::<u64>().prop_map(|bits| Value::F64(f64::from_bits(bits))),
            any::<String>().prop_map(|v| Value::Text(v.into())),
            any::<Vec<u8>>().prop_map(|v| Value::Bytes(v.into())),
            any::<String>().prop_map(|v| Value::Json(v.into())),
        ]
    }

    proptest! {
        #[test]
        fn every_sample_is_one_valid_document(
            value in value(), at: i64, unit: Option<String>, source: String,
        ) {
            let sample = Sample::good(TagId(1), Timestamp(at), value);
            let bytes = render(&sample, unit.as_deref(), &source);
            let parsed: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            prop_assert_eq!(parsed["ts"].as_i64(), Some(Timestamp(at).as_millis()));
            prop_assert_eq!(parsed["src"].as_str(), Some(source.as_str()));
            prop_assert_eq!(parsed.get("u").and_then(|u| u.as_str()), unit.as_deref());
        }
    }
}
