//! Writes nats-server configuration: one key per line, every text quoted.
//!
//! # Invariants
//! - No value can end its line or its quotes: nats-server's escapes are used for `"` and `\`, and
//!   control characters are written as `\xHH`. Paths that are not Unicode are refused by callers.

use std::fmt::{Display, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// The largest message that hub and leaf accept, in bytes: nats-server's own default, written
/// out because a hub with less than its leaves closes the link at every large message, silently.
pub(crate) const MAX_PAYLOAD: u32 = 1 << 20;

/// A configuration under construction.
#[derive(Debug, Default)]
pub(crate) struct Conf {
    text: String,
    depth: usize,
}

impl Conf {
    /// Begins with the comment that says whose file it is.
    pub(crate) fn generated(comment: &str) -> Self {
        let mut conf = Self::default();
        conf.comment(comment);
        conf
    }

    pub(crate) fn comment(&mut self, text: &str) {
        self.write_line(&format!("# {text}"));
    }

    /// `key: value`, for numbers, durations, booleans and words of the configuration language.
    pub(crate) fn set(&mut self, key: &str, value: impl Display) {
        self.write_line(&format!("{key}: {value}"));
    }

    /// `key: "text"`.
    pub(crate) fn text(&mut self, key: &str, text: &str) {
        self.write_line(&format!("{key}: {}", quoted(text)));
    }

    /// `key: [` and one text per line.
    pub(crate) fn texts(&mut self, key: &str, texts: &[impl AsRef<str>]) {
        self.array(key, |conf| {
            for text in texts {
                conf.write_line(&quoted(text.as_ref()));
            }
        });
    }

    /// `key {`, whatever `body` writes, `}`.
    pub(crate) fn block(&mut self, key: &str, body: impl FnOnce(&mut Self)) {
        self.write_line(&format!("{key} {{"));
        self.nested("}", body);
    }

    /// `key: [`, whatever `body` writes, `]`.
    pub(crate) fn array(&mut self, key: &str, body: impl FnOnce(&mut Self)) {
        self.write_line(&format!("{key}: ["));
        self.nested("]", body);
    }

    /// An element of an array: `{`, whatever `body` writes, `}`.
    pub(crate) fn element(&mut self, body: impl FnOnce(&mut Self)) {
        self.write_line("{");
        self.nested("}", body);
    }

    pub(crate) fn finish(self) -> String {
        self.text
    }

    fn nested(&mut self, end: &str, body: impl FnOnce(&mut Self)) {
        self.depth += 1;
        body(self);
        self.depth -= 1;
        self.write_line(end);
    }

    fn write_line(&mut self, line: &str) {
        for _ in 0..self.depth {
            self.text.push_str("  ");
        }
        self.text.push_str(line);
        self.text.push('\n');
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_ascii_control() => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\x{:02X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A listen address. nats-server lets the system choose a port for -1.
pub(crate) fn listen_text(address: SocketAddr) -> String {
    if address.port() != 0 {
        return address.to_string();
    }
    match address.ip() {
        IpAddr::V4(ip) => format!("{ip}:-1"),
        IpAddr::V6(ip) => format!("[{ip}]:-1"),
    }
}

/// A path as text. Plans with paths that are not Unicode are refused before they get here.
pub(crate) fn text_of(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_leaves_its_quotes() {
        assert_eq!(quoted(r#"a"b\c"#), r#""a\"b\\c""#);
        assert_eq!(quoted("a\nb\tc\u{7f}"), r#""a\x0Ab\x09c\x7F""#);
        assert_eq!(quoted("$JS.API.>"), r#""$JS.API.>""#);
    }

    #[test]
    fn blocks_are_indented_and_closed() {
        let mut conf = Conf::generated("mine");
        conf.block("a", |conf| {
            conf.set("n", 1);
            conf.array("list", |conf| conf.element(|conf| conf.text("t", "x")));
        });
        let expected = "# mine\na {\n  n: 1\n  list: [\n    {\n      t: \"x\"\n    }\n  ]\n}\n";
        assert_eq!(conf.finish(), expected);
    }
}
