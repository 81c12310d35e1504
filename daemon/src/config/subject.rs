//! Subjects of local applications, as far as their form goes.
//!
//! # Invariants
//! - No subject that is legal here reaches one of the product's or of a server's own: neither what
//!   the daemon publishes and answers, nor `$…` and `_…`.

use super::mistake::shorten;
use super::value::Illegal;

/// What subjects of the product begin with, at the gateway and at the hub.
const OWN: [&str; 6] = ["tide", "tidehead", "tideinfo", "tideread", "uns", "ask"];
/// Bytes of a subject: servers take more, and nobody has needed it.
const LONGEST: usize = 255;

/// Checks a subject of local applications.
pub(super) fn local(text: &str) -> Result<Box<str>, Illegal> {
    let shown = || format!("{:?}", shorten(text));
    let refuse = |why: &str| Err(Illegal::new(format!("{} {why}", shown()), shown()));
    if text.len() > LONGEST {
        return refuse("is longer than 255 bytes");
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return refuse("holds a space or a control character");
    }
    let mut tokens = text.split('.').peekable();
    let first = tokens.peek().copied().unwrap_or_default();
    while let Some(token) = tokens.next() {
        let wild = token.contains(['*', '>']);
        if token.is_empty() {
            return refuse("has an empty part");
        }
        if wild && token.len() > 1 {
            return refuse("has a wildcard within a part; it stands for a whole one");
        }
        if token == ">" && tokens.peek().is_some() {
            return refuse("goes on after \">\"");
        }
    }
    if first == "*" || first == ">" {
        return refuse("begins with a wildcard, which takes in what is not for applications");
    }
    if first.starts_with(['$', '_']) {
        return refuse("is one of the servers' own");
    }
    if OWN.contains(&first) {
        return refuse("is one of Tidegate's own");
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_of_applications_are_taken_as_they_are() {
        for text in ["site.orders", "line3.*.recipe", "site.work.>", "unsorted", "tides.x", "a"] {
            assert_eq!(local(text).as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_would_reach_beyond_applications_is_refused() {
        for text in [
            ">",
            "*.x",
            "uns.>",
            "uns",
            "tide.P.g.q.tags",
            "tidehead.x",
            "tideinfo.TIDE",
            "ask.>",
            "tideread.TIDE",
            "$JS.API.>",
            "$SYS.x",
            "_INBOX.>",
            "_R_.x",
            "",
            ".",
            "a.",
            "a..b",
            "a.>.b",
            "a.b*",
            "a.>x",
            "a b",
            "a\tb",
        ] {
            assert!(local(text).is_err(), "{text:?}");
        }
        assert!(local(&"x".repeat(256)).is_err());
    }
}
