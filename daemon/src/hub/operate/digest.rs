//! The digest by which nats-server names the configuration that it runs.
//!
//! # Invariants
//! - It is nats-server's own: SHA-256 of what it read, as JSON with sorted keys, so it does not
//!   depend on the file's place or its comments.
//! - Only the notation that this program writes is understood: one key, one brace or one element in
//!   a line. Anything else has no digest here rather than a wrong one.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// No deeper than our own configurations, by far.
const DEEPEST: usize = 32;

/// A text has no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the server's configuration was not written by tidegate; write it anew")]
pub struct NoDigest {
    line: usize,
}

/// Something in a configuration.
#[derive(Debug)]
enum Node {
    Text(String),
    Number(i64),
    Truth(bool),
    List(Vec<Self>),
    Block(BTreeMap<String, Self>),
}

/// The digest of a configuration, as a server says it: `sha256:` and hexadecimal digits.
///
/// # Errors
/// When a line is not as this program writes it.
pub fn digest(config: &str) -> Result<String, NoDigest> {
    let mut lines = Lines { lines: config.lines().enumerate(), at: 0 };
    let block = lines.block(None, 0)?;
    let mut json = String::new();
    write(&mut json, &Node::Block(block));
    json.push('\n');
    let digest = ring::digest::digest(&ring::digest::SHA256, json.as_bytes());
    let mut text = String::from("sha256:");
    for byte in digest.as_ref() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

struct Lines<'a> {
    lines: std::iter::Enumerate<std::str::Lines<'a>>,
    at: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Option<&'a str> {
        loop {
            let (at, line) = self.lines.next()?;
            self.at = at + 1;
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                return Some(line);
            }
        }
    }

    const fn wrong(&self) -> NoDigest {
        NoDigest { line: self.at }
    }

    /// Up to `end`, or to the end of the text.
    fn block(
        &mut self,
        end: Option<&str>,
        depth: usize,
    ) -> Result<BTreeMap<String, Node>, NoDigest> {
        let mut block = BTreeMap::new();
        loop {
            let Some(line) = self.next() else {
                return if end.is_none() { Ok(block) } else { Err(self.wrong()) };
            };
            if Some(line) == end {
                return Ok(block);
            }
            if depth > DEEPEST {
                return Err(self.wrong());
            }
            let (key, node) = if let Some(key) = line.strip_suffix(" {") {
                (key, Node::Block(self.block(Some("}"), depth + 1)?))
            } else if let Some(key) = line.strip_suffix(": [") {
                (key, Node::List(self.list(depth + 1)?))
            } else {
                let (key, value) = split(line).ok_or_else(|| self.wrong())?;
                (key, value_of(value).ok_or_else(|| self.wrong())?)
            };
            let key = key_of(key).ok_or_else(|| self.wrong())?;
            if block.insert(key, node).is_some() {
                return Err(self.wrong());
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, NoDigest> {
        let mut list = Vec::new();
        loop {
            let line = self.next().ok_or_else(|| self.wrong())?;
            match line {
                "]" => return Ok(list),
                "{" if depth <= DEEPEST => {
                    list.push(Node::Block(self.block(Some("}"), depth + 1)?));
                }
                _ => list.push(value_of(line).ok_or_else(|| self.wrong())?),
            }
        }
    }
}

/// Key and value; a quoted key may have `: ` in it.
fn split(line: &str) -> Option<(&str, &str)> {
    if !line.starts_with('"') {
        return line.split_once(": ");
    }
    let end = 1 + line[1..].find('"')? + 1;
    Some((&line[..end], line[end..].strip_prefix(": ")?))
}

fn key_of(text: &str) -> Option<String> {
    if text.starts_with('"') {
        return unquoted(text);
    }
    let plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '$' | '*' | '>');
    (!text.is_empty() && text.chars().all(plain)).then(|| text.to_owned())
}

fn value_of(text: &str) -> Option<Node> {
    if text.starts_with('"') {
        return unquoted(text).map(Node::Text);
    }
    match text {
        "true" => return Some(Node::Truth(true)),
        "false" => return Some(Node::Truth(false)),
        _ => {}
    }
    if let Ok(number) = text.parse::<i64>() {
        // `007` would be written otherwise; nobody writes it.
        return (number.to_string() == text).then_some(Node::Number(number));
    }
    // A word: nats-server reads some as truth and numbers with a unit as numbers.
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
        && !["yes", "no", "on", "off"].contains(&text.to_ascii_lowercase().as_str());
    is_word.then(|| Node::Text(text.to_owned()))
}

fn unquoted(text: &str) -> Option<String> {
    let mut rest = text.strip_prefix('"')?.strip_suffix('"')?.chars();
    let mut bytes = Vec::new();
    while let Some(c) = rest.next() {
        match c {
            '"' => return None,
            '\\' => match rest.next()? {
                c @ ('"' | '\\') => bytes.extend_from_slice(c.to_string().as_bytes()),
                'x' => {
                    let digits: String = rest.by_ref().take(2).collect();
                    bytes.push(u8::from_str_radix(&digits, 16).ok()?);
                }
                _ => return None,
            },
            c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    String::from_utf8(bytes).ok()
}

fn write(out: &mut String, node: &Node) {
    match node {
        Node::Text(text) => write_text(out, text),
        Node::Number(number) => out.push_str(&number.to_string()),
        Node::Truth(truth) => drop(write!(out, "{truth}")),
        Node::List(list) => {
            out.push('[');
            for (at, node) in list.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write(out, node);
            }
            out.push(']');
        }
        Node::Block(block) => {
            out.push('{');
            for (at, (key, node)) in block.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_text(out, key);
                out.push(':');
                write(out, node);
            }
            out.push('}');
        }
    }
}

/// A text as Go's encoder writes it, which escapes for HTML.
fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{0}'..='\u{1f}' | '\u{2028}' | '\u{2029}' => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `nats-server -t` 2.15.1 says of this text.
    #[test]
    fn the_digest_is_the_one_that_the_server_says() {
        let config = include_str!("../../../vectors/hub/digest.conf");
        assert_eq!(
            digest(config).unwrap(),
            "sha256:85aa90f40d2833b4828c47ae3314fb48abb38831e077a88bd444b8232620ca16"
        );
        let elsewhere = config.replace("# Written", "# Copied, not written").replace("  ", "\t");
        assert_eq!(digest(&elsewhere), digest(config));
        assert_ne!(digest(&config.replace("q.>", "q.*")), digest(config));
    }

    #[test]
    fn every_configuration_that_is_written_has_a_digest() {
        assert!(digest(include_str!("../../../vectors/hub/field.conf")).is_ok());
    }

    #[test]
    fn a_notation_of_somebody_else_has_no_digest_and_names_its_line() {
        for (config, line) in [
            ("a: 1\nb = 2", 2),
            ("a { b: 1 }", 1),
            ("a {\nb: 1", 2),
            ("a: 1GB", 1),
            ("a: 1.5", 1),
            ("a: yes", 1),
            ("a: \"x\" # why", 1),
            ("a: 1\na: 2", 2),
            ("include \"other.conf\"", 1),
            ("a: $PASSWORD", 1),
            ("a: [\n1", 2),
        ] {
            assert_eq!(digest(config), Err(NoDigest { line }), "{config:?}");
        }
        let deep = "a {\n".repeat(100);
        assert!(digest(&deep).is_err());
    }
}
