//! Questions and answers, and how a line becomes a question.

use serde::{Deserialize, Serialize};

use crate::observe::state::{DeviceFaults, StatusReport, TagPage};

/// The version of the protocol. A later one keeps answering this one.
pub const VERSION: u64 = 1;

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Ask {
    /// Everything but the tags.
    Status,
    /// The latest values.
    Tags(TagQuery),
    /// What went over the wire around the last faults of a device.
    Faults(FaultQuery),
}

/// Whose faults.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FaultQuery {
    /// The device's configured name.
    pub device: String,
}

/// Which tags.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TagQuery {
    /// A path, meaning it and all below, or a pattern with `*` and `**`; all tags without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Only tags behind this path: the `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most this many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// A line from the daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// The version it is written in.
    pub v: u64,
    /// What it says.
    #[serde(flatten)]
    pub answer: Answer,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// To [`Ask::Status`].
    Status(Box<StatusReport>),
    /// To [`Ask::Tags`].
    Tags(TagPage),
    /// To [`Ask::Faults`].
    Faults(DeviceFaults),
    /// There is no answer.
    Error(Refusal),
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// For programs.
    pub kind: ErrorKind,
    /// For people.
    pub text: String,
}

/// The kind of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// Not one JSON object per line, or a field of the wrong type.
    BadRequest,
    /// A version that this daemon does not speak.
    UnknownVersion,
    /// A question that this daemon does not know.
    UnknownAsk,
    /// A device that is not configured.
    UnknownDevice,
    /// The request is longer than is taken.
    TooLong,
    /// Too many ask at once.
    Busy,
    /// A kind of a later version.
    #[serde(other)]
    Other,
}

impl Refusal {
    pub(super) fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }
}

impl From<Answer> for Response {
    fn from(answer: Answer) -> Self {
        Self { v: VERSION, answer }
    }
}

/// Reads one line. Pure; every text gives a question or a refusal.
pub(super) fn parse(line: &[u8]) -> Result<Ask, Refusal> {
    let bad = |text: String| Refusal::new(ErrorKind::BadRequest, text);
    let request: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(line)
        .map_err(|error| bad(format!("not one JSON object on one line: {error}")))?;
    match request.get("v").map(serde_json::Value::as_u64) {
        Some(Some(VERSION)) => {}
        Some(Some(v)) => {
            let text = format!("version {v} is not spoken here, only {VERSION}");
            return Err(Refusal::new(ErrorKind::UnknownVersion, text));
        }
        _ => return Err(bad(format!("\"v\" is missing; write {{\"v\":{VERSION},…}}"))),
    }
    let ask = request.get("ask").and_then(serde_json::Value::as_str).unwrap_or_default();
    if !matches!(ask, "status" | "tags" | "faults") {
        let text = format!("{ask:?} cannot be asked; \"status\", \"tags\" and \"faults\" can");
        return Err(Refusal::new(ErrorKind::UnknownAsk, text));
    }
    serde_json::from_value(request.into()).map_err(|error| bad(error.to_string()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn questions_are_read_as_documented() {
        assert_eq!(parse(br#"{"v":1,"ask":"status"}"#), Ok(Ask::Status));
        let tags = parse(br#"{"v":1,"ask":"tags","pattern":"A/**","limit":7,"later":true}"#);
        let query = TagQuery { pattern: Some("A/**".into()), limit: Some(7), after: None };
        assert_eq!(tags, Ok(Ask::Tags(query)));
        let faults = parse(br#"{"v":1,"ask":"faults","device":"press-1"}"#);
        assert_eq!(faults, Ok(Ask::Faults(FaultQuery { device: "press-1".into() })));
    }

    #[test]
    fn what_cannot_be_answered_says_why_by_kind() {
        for (line, kind) in [
            (r#"{"v":2,"ask":"status"}"#, ErrorKind::UnknownVersion),
            (r#"{"v":1,"ask":"write"}"#, ErrorKind::UnknownAsk),
            (r#"{"v":1}"#, ErrorKind::UnknownAsk),
            (r#"{"ask":"status"}"#, ErrorKind::BadRequest),
            (r#"{"v":1,"ask":"tags","limit":-1}"#, ErrorKind::BadRequest),
            (r#"{"v":1,"ask":"faults"}"#, ErrorKind::BadRequest),
            (r#"[1]"#, ErrorKind::BadRequest),
            ("status", ErrorKind::BadRequest),
            ("", ErrorKind::BadRequest),
        ] {
            assert_eq!(parse(line.as_bytes()).unwrap_err().kind, kind, "{line}");
        }
        let deep = "[".repeat(4000);
        assert_eq!(parse(deep.as_bytes()).unwrap_err().kind, ErrorKind::BadRequest);
    }

    #[test]
    fn a_question_survives_the_wire() {
        for ask in [Ask::Status, Ask::Tags(TagQuery::default()), Ask::Faults(FaultQuery::default())]
        {
            let mut line = serde_json::to_value(&ask).unwrap();
            line["v"] = VERSION.into();
            assert_eq!(parse(line.to_string().as_bytes()), Ok(ask));
        }
    }

    #[test]
    fn an_error_kind_of_a_later_version_is_still_an_error() {
        let line = r#"{"v":1,"error":{"kind":"tired","text":"later"}}"#;
        let response: Response = serde_json::from_str(line).unwrap();
        assert!(matches!(response.answer, Answer::Error(r) if r.kind == ErrorKind::Other));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_question_or_a_refusal(line: Vec<u8>) {
            let _ = parse(&line);
        }
    }
}
