//! A stream that samples are published into, and where it stands.
//!
//! Each message names the sample that it is and where that stood in the record. The stream takes a
//! message only behind the one that was last when it was made, so what it holds is one unbroken
//! row, and its last message says where to go on.

use std::fmt::Write as _;
use std::str::FromStr;

use async_nats::jetstream::{self, stream::Stream};
use async_nats::{Client, HeaderMap};
use futures_util::StreamExt as _;
use tidegate_journal::Epoch;
use tidegate_record::Reading;

use super::RepublishError;
use crate::names::GatewayId;
use crate::subjects;

pub(super) const GATEWAY: &str = "Tidegate-Gateway";
pub(super) const EPOCH: &str = "Tidegate-Epoch";
pub(super) const SEQ: &str = "Tidegate-Seq";
pub(super) const SOURCE: &str = "Tidegate-Source";
pub(super) const SOURCE_SEQ: &str = "Tidegate-Source-Seq";

/// The subject of each tag: tokens, some of which are filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectTemplate(Vec<Token>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Text(String),
    Plant,
    Gateway,
    Path,
}

/// Why a text is no template of a subject.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "subject {text:?} does not fit; write tokens with dots between them, {{path}} as the last one, and {{plant}} and {{gateway}} where you like, such as plc.{{path}}"
)]
pub struct TemplateError {
    text: String,
}

impl FromStr for SubjectTemplate {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let error = || TemplateError { text: text.chars().take(200).collect() };
        let illegal = |c: char| c.is_whitespace() || c.is_control() || "*>{}".contains(c);
        let tokens: Result<Vec<Token>, TemplateError> = text
            .split('.')
            .map(|token| match token {
                "{plant}" => Ok(Token::Plant),
                "{gateway}" => Ok(Token::Gateway),
                "{path}" => Ok(Token::Path),
                "" => Err(error()),
                token if token.starts_with('$') || token.contains(illegal) => Err(error()),
                token => Ok(Token::Text(token.to_owned())),
            })
            .collect();
        let tokens = tokens?;
        let paths = tokens.iter().filter(|token| **token == Token::Path).count();
        if paths != 1 || tokens.last() != Some(&Token::Path) || tokens.len() < 2 {
            return Err(error());
        }
        Ok(Self(tokens))
    }
}

impl SubjectTemplate {
    /// The subject of a sample. Where its tag has no name any more, `_unnamed` and its number
    /// stand for the path.
    #[must_use]
    pub fn subject(&self, gateway: &GatewayId, reading: &Reading<'_>) -> String {
        self.fill(|token| match token {
            Token::Text(text) => text.clone(),
            Token::Plant => gateway.plant.to_string(),
            Token::Gateway => gateway.name.to_string(),
            Token::Path => match reading.path() {
                Some(path) => subjects::tokens_of(path),
                None => format!("_unnamed.{gateway}.{}", reading.sample.tag.0).replace('/', "."),
            },
        })
    }

    /// What matches every subject.
    #[must_use]
    pub fn filter(&self) -> String {
        self.fill(|token| match token {
            Token::Text(text) => text.clone(),
            Token::Plant | Token::Gateway => "*".to_owned(),
            Token::Path => ">".to_owned(),
        })
    }

    fn fill(&self, with: impl Fn(&Token) -> String) -> String {
        let mut out = String::new();
        for (at, token) in self.0.iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = write!(out, "{}{}", if at > 0 { "." } else { "" }, with(token));
        }
        out
    }
}

/// A stream that samples are published into.
#[derive(Debug, Clone)]
pub struct Target {
    pub(super) context: jetstream::Context,
    pub(super) stream: Stream,
    pub(super) name: String,
}

/// Where a target stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stand {
    /// Nothing was ever published into it.
    Fresh,
    /// What was published is gone.
    Forgotten {
        /// The stream's last sequence.
        last: u64,
    },
    /// Its last message.
    At(Place),
}

/// A sample that was published, and where it stood in the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The target's sequence of it.
    pub(super) last: u64,
    pub(super) gateway: GatewayId,
    pub(super) epoch: Epoch,
    pub(super) seq: u64,
    /// Which copy of the record it was read from.
    pub(super) source: String,
    /// Its message there.
    pub(super) source_seq: u64,
}

impl Place {
    fn of(last: u64, headers: &HeaderMap) -> Option<Self> {
        let text = |name: &str| headers.get(name).map(async_nats::HeaderValue::as_str);
        Some(Self {
            last,
            gateway: text(GATEWAY)?.parse().ok()?,
            epoch: text(EPOCH)?.parse().ok()?,
            seq: text(SEQ)?.parse().ok()?,
            source: text(SOURCE)?.to_owned(),
            source_seq: text(SOURCE_SEQ)?.parse().ok()?,
        })
    }
}

impl Target {
    /// Finds the stream: by its name, or as the one that takes the template's subjects.
    ///
    /// # Errors
    /// When there is none.
    pub async fn open(
        client: Client,
        name: Option<&str>,
        template: &SubjectTemplate,
    ) -> Result<Self, RepublishError> {
        let context = jetstream::new(client);
        let subjects = template.filter();
        let missing = |what: String, error: &dyn std::error::Error| RepublishError::NoStream {
            what,
            subjects: subjects.clone(),
            said: error.to_string(),
        };
        let name = match name {
            Some(name) => name.to_owned(),
            None => context
                .stream_by_subject(subjects.clone())
                .await
                .map_err(|error| missing(format!("that takes {subjects}"), &error))?,
        };
        let stream = context.get_stream(&name).await;
        let stream = stream.map_err(|error| missing(format!("named {name}"), &error))?;
        Ok(Self { context, stream, name })
    }

    fn failed(&self, error: impl std::error::Error) -> RepublishError {
        RepublishError::Target { stream: self.name.clone(), said: error.to_string() }
    }

    /// Where it stands now, by its leader.
    pub(super) async fn stand(&self) -> Result<Stand, RepublishError> {
        let state = self.stream.get_info().await.map_err(|error| self.failed(error))?.state;
        let last = state.last_sequence;
        if last == 0 {
            return Ok(Stand::Fresh);
        }
        if state.messages == 0 {
            return Ok(Stand::Forgotten { last });
        }
        match self.stream.get_raw_message(last).await {
            Ok(message) => match Place::of(last, &message.headers) {
                Some(place) => Ok(Stand::At(place)),
                None => Err(RepublishError::Foreign { stream: self.name.clone(), seq: last }),
            },
            Err(error)
                if error.kind() == jetstream::stream::RawMessageErrorKind::NoMessageFound =>
            {
                Ok(Stand::Forgotten { last })
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Reads all of it for the last sample of each epoch: what another copy of the record has to
    /// be compared with.
    pub(super) async fn last_of_each(
        &self,
        last: u64,
    ) -> Result<Vec<(Epoch, u64)>, RepublishError> {
        let consumer =
            jetstream::consumer::pull::OrderedConfig { headers_only: true, ..Default::default() };
        let consumer = self.stream.create_consumer(consumer).await;
        let messages = consumer.map_err(|error| self.failed(error))?.messages().await;
        let mut messages = messages.map_err(|error| self.failed(error))?;
        let mut found = std::collections::HashMap::new();
        while let Some(message) = messages.next().await {
            let message = message.map_err(|error| self.failed(error))?;
            let seq = message.info().map(|info| info.stream_sequence).unwrap_or(last);
            if let Some(place) = message.headers.as_ref().and_then(|of| Place::of(seq, of)) {
                let known = found.entry(place.epoch).or_insert(place.seq);
                *known = (*known).max(place.seq);
            }
            if seq >= last {
                break;
            }
        }
        Ok(found.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use tidegate_record::Catalog;
    use tidegate_record::catalog::Definition;
    use tidegate_translator::{Sample, TagId, TagPath, Timestamp, Value, ValueKind};

    use super::*;

    #[test]
    fn a_template_gives_each_tag_a_subject_of_its_own() {
        let mut catalog = Catalog::new();
        let defined = catalog.define(Definition {
            path: TagPath::new("Plant A/Line.3/t").unwrap(),
            kind: ValueKind::None,
            unit: None,
            device: "d".into(),
            address: "a".into(),
            source: "s".into(),
        });
        let tag = defined.unwrap().id();
        let gateway: GatewayId = "P/g".parse().unwrap();
        let template: SubjectTemplate = "plc.{plant}.{gateway}.{path}".parse().unwrap();
        let reading = |tag: TagId| Reading {
            epoch: Epoch([1; 16]),
            seq: 1,
            entry: catalog.resolve(tag),
            sample: Sample::good(tag, Timestamp(0), Value::None),
        };
        assert_eq!(template.subject(&gateway, &reading(tag)), "plc.P.g.Plant%20A.Line%2E3.t");
        assert_eq!(template.subject(&gateway, &reading(TagId(9))), "plc.P.g._unnamed.P.g.9");
        assert_eq!(template.filter(), "plc.*.*.>");
    }

    #[test]
    fn a_template_that_could_not_be_a_subject_is_refused() {
        for text in [
            "",
            "plc",
            "plc.",
            ".{path}",
            "{path}",
            "plc.{path}.x",
            "plc.{tag}",
            "plc.*.{path}",
            "plc.>",
            "pl c.{path}",
            "$JS.{path}",
            "plc.{path}.{path}",
            "plc.x{path}",
        ] {
            assert!(text.parse::<SubjectTemplate>().is_err(), "{text}");
        }
    }
}
