//! Browse paths: `/Objects/Press 1/{urn:press}Axis`, one browse name behind each slash.
//!
//! # Invariants
//! - A brace, colon, slash or ampersand of a name is escaped when printed, so that no name can
//!   read as a namespace or as two names.
//! - Between braces a slash or a colon is itself, since URIs are full of them.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use super::{Namespace, NodeError, Step, decimal};

/// What `&` may stand before, within a name and between braces.
const ESCAPED: &str = "/&:{}";

/// Reads a text that begins with a slash.
pub(super) fn parse(text: &str) -> Result<Arc<[Step]>, NodeError> {
    let mut rest = text;
    let mut steps = Vec::new();
    while let Some(after) = rest.strip_prefix('/') {
        let number = steps.len() + 1;
        let (step, left) = step(after).map_err(|flaw| flaw.at(text, number))?;
        steps.push(step);
        rest = left;
    }
    Ok(steps.into())
}

/// What is wrong with one browse name.
enum Flaw {
    Empty,
    EmptyUri,
    Escape,
    OpenBrace,
    Index(String),
}

impl Flaw {
    fn at(self, text: &str, number: usize) -> NodeError {
        let text = text.to_owned();
        match self {
            Self::Empty => NodeError::EmptyStep { text, number },
            Self::EmptyUri => NodeError::EmptyUri { text },
            Self::Escape => NodeError::Escape { text, number },
            Self::OpenBrace => NodeError::OpenBrace { text, number },
            Self::Index(index) => NodeError::Index { text, index },
        }
    }
}

/// One browse name and what follows it: nothing, or a slash.
fn step(text: &str) -> Result<(Step, &str), Flaw> {
    let (namespace, text) = namespace(text)?;
    let (name, rest) = until(text, '/')?;
    if name.is_empty() {
        return Err(Flaw::Empty);
    }
    Ok((Step { namespace, name: name.into() }, rest))
}

/// The namespace before a name, where there is one, and the rest.
fn namespace(text: &str) -> Result<(Option<Namespace>, &str), Flaw> {
    if let Some(text) = text.strip_prefix('{') {
        let (uri, rest) = until(text, '}')?;
        let rest = rest.strip_prefix('}').ok_or(Flaw::OpenBrace)?;
        if uri.is_empty() {
            return Err(Flaw::EmptyUri);
        }
        return Ok((Some(Namespace::from_uri(&uri)), rest));
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (index, rest) = text.split_at(digits);
    match rest.strip_prefix(':') {
        Some(rest) if digits > 0 => {
            let index = decimal(index).ok_or_else(|| Flaw::Index(index.to_owned()))?;
            Ok((Some(Namespace::Index(index)), rest))
        }
        _ => Ok((None, text)),
    }
}

/// The unescaped text before an unescaped `end`, and what stands from there on.
fn until(text: &str, end: char) -> Result<(String, &str), Flaw> {
    let mut plain = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '&' => match chars.next() {
                Some((_, escaped)) if ESCAPED.contains(escaped) => plain.push(escaped),
                _ => return Err(Flaw::Escape),
            },
            c if c == end => return Ok((plain, text.get(at..).unwrap_or_default())),
            c => plain.push(c),
        }
    }
    Ok((plain, ""))
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(Namespace::Index(index)) => write!(f, "{index}:")?,
            Some(Namespace::Uri(uri)) => {
                f.write_char('{')?;
                escape(f, uri, "&}")?;
                f.write_char('}')?;
            }
            None => {}
        }
        escape(f, &self.name, ESCAPED)
    }
}

fn escape(f: &mut fmt::Formatter<'_>, text: &str, escaped: &str) -> fmt::Result {
    text.chars().try_for_each(|c| {
        if escaped.contains(c) {
            f.write_char('&')?;
        }
        f.write_char(c)
    })
}
