//! Questions as they arrive, and how bytes become one.
//!
//! # Invariants
//! - A key that is not known is refused: a mistyped `from` must not become a question without one.
//! - Depth is judged before the bytes are parsed.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Code, Refusal, VERSION, Wish};

/// The longest question, in bytes.
pub const MAX_QUESTION_BYTES: usize = 64 * 1024;
/// The deepest nesting of a question.
pub const MAX_DEPTH: usize = 4;
/// The longest identity and the longest name of an asker, in bytes.
const MAX_NAME: usize = 64;

/// What can be asked: the last token of the subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Op {
    /// Which tags there are.
    Tags,
    /// Their latest values, from memory.
    Latest,
    /// Their values now, from the device.
    Read,
    /// What the record holds.
    History,
    /// What it does not hold, and why.
    Losses,
    /// How the devices are doing.
    Devices,
    /// How the gateway is doing.
    Status,
    /// The gateway's own side of the proof.
    Prove,
    /// Ends a question by its identity.
    Cancel,
    /// Lets more parts of an answer come.
    Credit,
}

impl Op {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Tags,
        Self::Latest,
        Self::Read,
        Self::History,
        Self::Losses,
        Self::Devices,
        Self::Status,
        Self::Prove,
        Self::Cancel,
        Self::Credit,
    ];

    /// The subject's last token.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Tags => "tags",
            Self::Latest => "latest",
            Self::Read => "read",
            Self::History => "history",
            Self::Losses => "losses",
            Self::Devices => "devices",
            Self::Status => "status",
            Self::Prove => "prove",
            Self::Cancel => "cancel",
            Self::Credit => "credit",
        }
    }

    /// The operation of a subject's last token.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn of_token(token: &str) -> Result<Self, Refusal> {
        Self::ALL.into_iter().find(|op| op.token() == token).ok_or_else(|| {
            let shown: String = token.chars().take(MAX_NAME).collect();
            let known: Vec<_> = Self::ALL.iter().map(|op| op.token()).collect();
            let text = format!("{shown:?} cannot be asked; these can: {}", known.join(", "));
            Refusal::new(Code::UnknownOperation, text)
        })
    }
}

/// What every question may say beside what it asks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// The version; 1 when it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v: Option<u8>,
    /// Chosen by the asker, hard to guess: what `cancel` and `credit` name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Who asks, for the audit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// How long the answer may take, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// How many parts may be sent before more are granted. Without it the answer is one message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credit: Option<u32>,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// Paths or patterns with `*` and `**`; all tags without it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Only tags that have this text in path, unit, device or address, whatever the case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<String>,
    /// At most this many rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// The `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// Which latest values.
pub type LatestQuestion = Page;

/// What is read from devices now.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadQuestion {
    /// Paths or patterns; at least one.
    pub tags: Vec<String>,
}

/// What is computed over a step of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aggregate {
    /// The smallest usable number.
    Min,
    /// The largest usable number.
    Max,
    /// The mean of the usable numbers, each counting once.
    Avg,
    /// The last sample by its place in the record.
    Last,
    /// How many samples; `good` counts those that are vouched for. Always part of a bucket.
    Count,
}

/// What is asked of the record.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// Paths or patterns; at least one.
    pub tags: Vec<String>,
    /// Where the range begins (included), by the time of acquisition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Wish>,
    /// Where it ends (excluded); the present without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Wish>,
    /// Instead of a range: the last sample of each tag at or before this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Wish>,
    /// The step of buckets, such as `5m`; single samples without it. Steps begin at multiples of it
    /// since 1970 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<String>,
    /// What a bucket tells; min, max, avg and last without it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agg: Vec<Aggregate>,
    /// At most this many rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// The `next` of the answer before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// Which losses.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossesQuestion {
    /// Only those of these paths or patterns, their devices and the gateway; all without it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Where the range begins; the oldest that is kept without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Wish>,
    /// Where it ends; the present without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Wish>,
    /// At most this many rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// The `next` of the answer before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// The gateway's own side of the proof.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProveQuestion {
    /// Whether every kept frame is read and its hash checked; otherwise what is known without.
    #[serde(default)]
    pub verify: bool,
}

/// What `cancel` and `credit` say.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    /// The question.
    pub id: String,
    /// How many parts more may be sent; of `credit` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<u32>,
}

/// A question with what it asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// See [`Op::Tags`].
    Tags(Page),
    /// See [`Op::Latest`].
    Latest(LatestQuestion),
    /// See [`Op::Read`].
    Read(ReadQuestion),
    /// See [`Op::History`].
    History(History),
    /// See [`Op::Losses`].
    Losses(LossesQuestion),
    /// See [`Op::Devices`].
    Devices,
    /// See [`Op::Status`].
    Status,
    /// See [`Op::Prove`].
    Prove(ProveQuestion),
    /// See [`Op::Cancel`].
    Cancel(Flow),
    /// See [`Op::Credit`].
    Credit(Flow),
}

/// Reads a question. Every byte string gives one or a refusal; no bytes at all are an empty object.
///
/// # Errors
/// See [`Code`]: `too-large`, `too-deep`, `malformed`, `unknown-version`, `bad-time`.
pub fn parse(op: Op, bytes: &[u8]) -> Result<(Envelope, Question), Refusal> {
    if bytes.len() > MAX_QUESTION_BYTES {
        let text = format!("question of {} bytes; at most {MAX_QUESTION_BYTES}", bytes.len());
        return Err(Refusal::new(Code::TooLarge, text));
    }
    if depth(bytes) > MAX_DEPTH {
        let text = format!("question nests deeper than {MAX_DEPTH} levels");
        return Err(Refusal::new(Code::TooDeep, text));
    }
    let mut wish: Map<String, Value> = match bytes.trim_ascii() {
        [] => Map::new(),
        bytes => serde_json::from_slice(bytes)
            .map_err(|error| malformed(&format!("question is not one JSON object: {error}")))?,
    };
    // A question about another one names that one by the same key as its own identity.
    let about_another = matches!(op, Op::Cancel | Op::Credit);
    let mut own = Map::new();
    for key in ["v", "id", "by", "deadline_ms", "credit"] {
        if !(about_another && key == "id")
            && let Some(value) = wish.remove(key)
        {
            own.insert(key.to_owned(), value);
        }
    }
    let envelope: Envelope = whole(own)?;
    if let Some(v) = envelope.v.filter(|v| *v != VERSION) {
        let text = format!("version {v} is not spoken here, only {VERSION}");
        return Err(Refusal::new(Code::UnknownVersion, text));
    }
    for (key, name) in [("id", &envelope.id), ("by", &envelope.by)] {
        let fits = |name: &String| {
            !name.is_empty() && name.len() <= MAX_NAME && !name.chars().any(char::is_control)
        };
        if name.as_ref().is_some_and(|name| !fits(name)) {
            return Err(malformed(&format!("{key:?} is 1 to {MAX_NAME} bytes of text")));
        }
    }
    let question = match op {
        Op::Tags => Question::Tags(whole(wish)?),
        Op::Latest => Question::Latest(whole(wish)?),
        Op::Read => Question::Read(whole(wish)?),
        Op::History => Question::History(whole(wish)?),
        Op::Losses => Question::Losses(whole(wish)?),
        Op::Prove => Question::Prove(whole(wish)?),
        Op::Cancel => Question::Cancel(whole(wish)?),
        Op::Credit => Question::Credit(whole(wish)?),
        Op::Devices | Op::Status => {
            #[derive(Deserialize)]
            #[serde(deny_unknown_fields)]
            struct Nothing {}
            let Nothing {} = whole(wish)?;
            if op == Op::Devices { Question::Devices } else { Question::Status }
        }
    };
    Ok((envelope, question))
}

fn malformed(text: &str) -> Refusal {
    Refusal::new(Code::Malformed, text)
}

fn whole<T: for<'de> Deserialize<'de>>(wish: Map<String, Value>) -> Result<T, Refusal> {
    // A time that is none has a code of its own.
    for key in ["from", "to", "at"] {
        if let Some(Value::String(text)) = wish.get(key)
            && let Err(error) = text.parse::<Wish>()
        {
            return Err(Refusal::new(Code::BadTime, format!("{key}: {error}")));
        }
    }
    serde_json::from_value(Value::Object(wish)).map_err(|error| malformed(&error.to_string()))
}

/// How deep brackets nest outside of texts.
fn depth(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in bytes {
        match (in_text, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_text = !in_text,
            (false, b'[' | b'{') => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn questions_are_read_as_documented() {
        let bytes = br#"{"id":"q1","by":"shift lead","tags":["P/**"],"from":"-12h","every":"5m","agg":["avg"]}"#;
        let (envelope, question) = parse(Op::History, bytes).unwrap();
        assert_eq!(envelope.id.as_deref(), Some("q1"));
        let Question::History(history) = question else { panic!("{question:?}") };
        assert_eq!(history.tags, ["P/**"]);
        assert_eq!(history.agg, [Aggregate::Avg]);
        assert_eq!(parse(Op::Status, b"").unwrap().1, Question::Status);
        let credit = parse(Op::Credit, br#"{"id":"q1","parts":3}"#).unwrap().1;
        assert_eq!(credit, Question::Credit(Flow { id: "q1".into(), parts: Some(3) }));
    }

    #[test]
    fn what_cannot_be_answered_says_why_by_code() {
        let deep = "[".repeat(4000);
        for (op, text, code) in [
            (Op::History, r#"{"tags":["a"],"form":"-1h"}"#, Code::Malformed),
            (Op::History, r#"{"tags":["a"],"from":"2026-01-01T00:00:00"}"#, Code::BadTime),
            (Op::History, r#"{"tags":"a","from":"-1h"}"#, Code::Malformed),
            (Op::History, "{}", Code::Malformed),
            (Op::Tags, r#"{"v":2}"#, Code::UnknownVersion),
            (Op::Tags, r#"{"limit":-1}"#, Code::Malformed),
            (Op::Tags, r#"{"id":""}"#, Code::Malformed),
            (Op::Tags, "[1]", Code::Malformed),
            (Op::Tags, "\u{0}", Code::Malformed),
            (Op::Status, r#"{"x":1}"#, Code::Malformed),
            (Op::Tags, &deep, Code::TooDeep),
            (Op::Tags, &" ".repeat(MAX_QUESTION_BYTES + 1), Code::TooLarge),
        ] {
            let refusal = parse(op, text.as_bytes()).unwrap_err();
            assert_eq!(refusal.code, code, "{text:.60}: {refusal}");
        }
        assert_eq!(Op::of_token("write").unwrap_err().code, Code::UnknownOperation);
    }

    #[test]
    fn brackets_in_texts_are_no_depth() {
        assert_eq!(depth(br#"{"a":"[[[[\"[[["}"#), 1);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_question_or_a_refusal(bytes: Vec<u8>, op in 0..10_usize) {
            let _ = parse(Op::ALL[op], &bytes);
        }
    }
}
