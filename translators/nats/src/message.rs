//! One message as samples of tags.

use tidegate_translator::{Quality, Reason, TagPath, Timestamp, Value};

use crate::json::{self, Members};
use crate::path::path_of;
use crate::{Code, DeviceSpec, MAX_ID_BYTES, Payload, parse_time};

/// A message as it came.
#[derive(Debug, Clone, Copy)]
pub struct Message<'m> {
    /// Where it was published.
    pub subject: &'m str,
    /// What it holds.
    pub payload: &'m [u8],
    /// The identifier in its header.
    pub id: Option<&'m str>,
    /// The time in its header.
    pub time: Option<&'m str>,
}

/// What stands in a message.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// What identifies it.
    pub id: Option<Box<str>>,
    /// When its values arose, as it says.
    pub source: Option<Timestamp>,
    /// Its values, at least one.
    pub parts: Vec<Part>,
}

/// A value in a message.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Whose value it is.
    pub path: TagPath,
    /// The value.
    pub value: Value,
    /// How far it can be trusted: a message whose time or value is not where it should be is kept,
    /// and uncertain.
    pub quality: Quality,
}

/// Why a message cannot be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// For programs.
    pub code: Code,
    /// For people.
    pub why: String,
}

/// Reads a message.
///
/// # Errors
/// When it is too large, has no tag, or bears an identifier that is none.
pub fn read(spec: &DeviceSpec, message: &Message<'_>) -> Result<Reading, Refused> {
    let refuse = |code, why: String| Err(Refused { code, why });
    let length = message.payload.len();
    if length > spec.max_payload {
        let most = spec.max_payload;
        return refuse(Code::TooLarge, format!("payload of {length} bytes; at most {most}"));
    }
    let path = match path_of(spec, message.subject) {
        Ok(path) => path,
        Err(error) => return refuse(Code::BadSubject, error.to_string()),
    };
    let text = (spec.payload == Payload::Auto).then(|| std::str::from_utf8(message.payload).ok());
    let text = text.flatten();
    let mut members = text.filter(|_| spec.looks_inside()).and_then(json::members);
    let mut taken = |field: &Option<Box<str>>| {
        let members = members.as_mut()?;
        members.remove(field.as_deref()?).map(|text| text.get().to_owned())
    };
    let own_id = taken(&spec.id_field);
    let own_time = taken(&spec.time_field);
    let id = match (own_id, message.id) {
        (Some(own), _) => match json::plain(&own) {
            Some(id) => Some(id),
            None => return refuse(Code::BadId, "the identifier is no text and no number".into()),
        },
        (None, header) => header.map(str::to_owned),
    };
    if let Some(why) = id.as_deref().and_then(no_id) {
        return refuse(Code::BadId, why);
    }
    let time = match own_time {
        Some(own) => Some(json::plain(&own).unwrap_or_default()),
        None => message.time.map(str::to_owned),
    };
    let source = time.as_deref().and_then(parse_time);
    let mut parts = parts_of(spec, path, message.payload, text, members);
    if time.is_some() && source.is_none() {
        parts.iter_mut().for_each(Part::mark);
    }
    Ok(Reading { id: id.map(Into::into), source, parts })
}

/// Why a text identifies nothing.
fn no_id(id: &str) -> Option<String> {
    if id.is_empty() {
        return Some("the identifier is empty".to_owned());
    }
    if id.len() > MAX_ID_BYTES {
        return Some(format!("identifier of {} bytes; at most {MAX_ID_BYTES}", id.len()));
    }
    None
}

fn parts_of(
    spec: &DeviceSpec,
    path: TagPath,
    payload: &[u8],
    text: Option<&str>,
    members: Option<Members<'_>>,
) -> Vec<Part> {
    let value = members.as_ref().zip(spec.value_field.as_deref());
    let (text, members, missing) = match value {
        Some((members, field)) => match members.get(field) {
            Some(value) => (Some(value.get()), json::members(value.get()), false),
            None => (text, None, true),
        },
        None => (text, members, spec.value_field.is_some()),
    };
    if let Some(members) = members.filter(|_| spec.split)
        && let Some(parts) = json::split(&path, &members)
    {
        return parts;
    }
    let bytes = || (Value::Bytes(payload.into()), Quality::Good);
    let (value, quality) = text.and_then(json::value).unwrap_or_else(bytes);
    let mut part = Part { path, value, quality };
    if missing {
        part.mark();
    }
    vec![part]
}

impl Part {
    /// Not as it should be.
    const fn mark(&mut self) {
        if self.quality.is_good() {
            self.quality = Quality::Uncertain(Reason::Malformed);
        }
    }
}

impl DeviceSpec {
    const fn looks_inside(&self) -> bool {
        self.split
            || self.id_field.is_some()
            || self.time_field.is_some()
            || self.value_field.is_some()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::WhenFull;

    pub(crate) fn spec() -> DeviceSpec {
        DeviceSpec {
            name: "vehicle".to_owned(),
            subjects: ["fleet.prod.veh.VID-001.state.>".into()].into(),
            base_path: TagPath::new("Fleet/V1").unwrap(),
            skip_parts: 0,
            payload: Payload::Auto,
            split: false,
            id_field: None,
            time_field: None,
            value_field: None,
            max_payload: 1024,
            max_tags: 100,
            max_waiting: 100,
            when_full: WhenFull::Refuse,
            remember_ids: 100,
            remember_for: Duration::from_secs(3600),
            answer_within: Duration::from_millis(200),
        }
    }

    fn message(payload: &[u8]) -> Message<'_> {
        Message { subject: "a.b", payload, id: None, time: None }
    }

    fn one(spec: &DeviceSpec, payload: &[u8]) -> (Value, Quality) {
        let reading = read(spec, &message(payload)).unwrap();
        let [part] = <[Part; 1]>::try_from(reading.parts).unwrap();
        (part.value, part.quality)
    }

    #[test]
    fn json_is_a_value_and_anything_else_is_bytes() {
        let spec = spec();
        assert_eq!(one(&spec, b"12.5"), (Value::F64(12.5), Quality::Good));
        assert_eq!(one(&spec, b"running"), (Value::Bytes((*b"running").into()), Quality::Good));
        assert_eq!(one(&spec, b"\xff\x00"), (Value::Bytes((*b"\xff\x00").into()), Quality::Good));
        assert_eq!(one(&spec, b""), (Value::Bytes(Box::default()), Quality::Good));
        let bytes = DeviceSpec { payload: Payload::Bytes, ..spec };
        assert_eq!(one(&bytes, b"12.5"), (Value::Bytes((*b"12.5").into()), Quality::Good));
    }

    fn enveloped() -> DeviceSpec {
        DeviceSpec {
            id_field: Some("id".into()),
            time_field: Some("ts".into()),
            value_field: Some("data".into()),
            split: true,
            ..spec()
        }
    }

    #[test]
    fn an_envelope_gives_identifier_time_and_a_tag_for_each_member() {
        let payload = br#"{"id":"m-7","ts":"1970-01-01T00:00:02Z","seq":9,
            "data":{"lat":48.1,"fix":true,"gps":{"sats":7,"used":[1,2]},"none":{}}}"#;
        let reading = read(&enveloped(), &message(payload)).unwrap();
        assert_eq!(reading.id.as_deref(), Some("m-7"));
        assert_eq!(reading.source, Some(Timestamp(2_000_000_000)));
        let parts: Vec<_> =
            reading.parts.iter().map(|part| (part.path.as_str(), part.value.clone())).collect();
        assert_eq!(
            parts,
            [
                ("Fleet/V1/a/b/fix", Value::Bool(true)),
                ("Fleet/V1/a/b/gps/sats", Value::F64(7.0)),
                ("Fleet/V1/a/b/gps/used", Value::Json("[1,2]".into())),
                ("Fleet/V1/a/b/lat", Value::F64(48.1)),
                ("Fleet/V1/a/b/none", Value::Json("{}".into())),
            ]
        );
        assert!(reading.parts.iter().all(|part| part.quality.is_good()));
    }

    #[test]
    fn without_a_value_field_identifier_and_time_are_no_tags_of_their_own() {
        let spec = DeviceSpec { value_field: None, ..enveloped() };
        let reading = read(&spec, &message(br#"{"id":7,"ts":1500,"speed":3}"#)).unwrap();
        assert_eq!(reading.id.as_deref(), Some("7"));
        assert_eq!(reading.source, Some(Timestamp(1_500_000_000)));
        assert_eq!(reading.parts.len(), 1);
        assert_eq!(reading.parts[0].path.as_str(), "Fleet/V1/a/b/speed");
    }

    #[test]
    fn what_is_not_where_it_should_be_is_kept_and_uncertain() {
        let uncertain = Quality::Uncertain(Reason::Malformed);
        let spec = enveloped();
        for payload in [r#"{"id":"a"}"#, "12", "[1]"] {
            assert_eq!(one(&spec, payload.as_bytes()).1, uncertain, "{payload}");
        }
        assert_eq!(one(&spec, b"\xff"), (Value::Bytes((*b"\xff").into()), uncertain));
        let late = br#"{"ts":"yesterday","data":1}"#;
        assert_eq!(one(&spec, late), (Value::F64(1.0), uncertain));
        assert_eq!(one(&spec, br#"{"ts":{},"data":1}"#), (Value::F64(1.0), uncertain));
    }

    #[test]
    fn an_object_that_cannot_be_split_is_kept_whole() {
        let spec = DeviceSpec { split: true, ..spec() };
        let many: String = (0..200).map(|n| format!("\"m{n}\":1,")).collect();
        for payload in [
            r#"{"a/b":1}"#.to_owned(),
            r#"{"":1}"#.to_owned(),
            "{}".to_owned(),
            "{\"a\":".repeat(6) + "1" + &"}".repeat(6),
            format!("{{{}}}", many.trim_end_matches(',')),
        ] {
            let spec = DeviceSpec { max_payload: 4096, ..spec.clone() };
            assert_eq!(one(&spec, payload.as_bytes()).0, Value::Json(payload.into()));
        }
    }

    #[test]
    fn the_header_identifies_where_no_member_does() {
        let header = Message { id: Some("h"), time: Some("1000"), ..message(b"1") };
        let reading = read(&enveloped(), &header).unwrap();
        assert_eq!(reading.id.as_deref(), Some("h"));
        assert_eq!(reading.source, Some(Timestamp(1_000_000_000)));
        let both = Message { payload: br#"{"id":"m","data":1}"#, ..header };
        assert_eq!(read(&enveloped(), &both).unwrap().id.as_deref(), Some("m"));
    }

    #[test]
    fn too_large_payloads_and_unusable_identifiers_are_refused_by_code() {
        let code = |message: &Message<'_>| read(&enveloped(), message).map_err(|it| it.code).err();
        assert_eq!(code(&message(&[b'1'; 1025])), Some(Code::TooLarge));
        assert_eq!(code(&message(br#"{"id":{},"data":1}"#)), Some(Code::BadId));
        assert_eq!(code(&message(br#"{"id":"","data":1}"#)), Some(Code::BadId));
        let long = "x".repeat(MAX_ID_BYTES + 1);
        assert_eq!(code(&Message { id: Some(&long), ..message(b"1") }), Some(Code::BadId));
        let subject = Message { subject: "a.b/c", ..message(b"1") };
        assert_eq!(code(&subject), Some(Code::BadSubject));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            payload in prop::collection::vec(any::<u8>(), 0..200),
            text in "\\{(\"(id|ts|data|a)\":([0-9]{1,3}|\"[a-z0-9:TZ-]{0,8}\"|\\{\\}|null),?){0,5}\\}?",
            subject in "[a-z./%_]{0,12}",
            split: bool,
        ) {
            let spec = DeviceSpec { split, ..enveloped() };
            for payload in [payload.as_slice(), text.as_bytes()] {
                let message = Message { subject: &subject, payload, id: None, time: Some("x") };
                if let Ok(reading) = read(&spec, &message) {
                    prop_assert!(!reading.parts.is_empty());
                    prop_assert!(reading.parts.iter().all(
                        |part| part.path.as_str().starts_with("Fleet/V1/")
                    ));
                }
            }
        }
    }
}
