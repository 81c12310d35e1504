//! Cutting secrets out of texts that others are going to read.
//!
//! # Invariants
//! - Two nets, one behind the other: secrets that were learned from their files are cut wherever
//!   they stand; private keys, values of keys that are named like a secret, passwords in URLs,
//!   authorization headers, seeds and web tokens are cut by their looks.
//! - Any text gives a text. What is no secret stays readable: paths, users, public certificates.

use std::fmt;

use zeroize::Zeroizing;

/// What stands in the place of a secret.
pub(crate) const CUT: &str = "***";
/// What stands in the place of a private key.
const KEY_CUT: &str = "[a private key was cut here]";
/// Shorter texts are not learned: they would be cut out of the middle of words.
const SHORTEST: usize = 6;
/// The most that is learned from one file; a private key has some thirty lines.
const MOST_LINES: usize = 400;

/// Secrets by their looks and by heart.
#[derive(Default)]
pub(crate) struct Redaction {
    known: Vec<Zeroizing<String>>,
}

impl fmt::Debug for Redaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redaction").field("known", &self.known.len()).finish()
    }
}

impl Redaction {
    /// Learns a file that holds secrets: each line of a private key, else each line.
    pub(crate) fn learn(&mut self, content: &[u8]) {
        let text = Zeroizing::new(String::from_utf8_lossy(content).into_owned());
        let is_pem = text.contains("-----BEGIN ");
        let mut in_key = false;
        for line in text.lines().take(MOST_LINES).map(str::trim) {
            if line.starts_with("-----") {
                in_key = line.contains("BEGIN") && line.contains("PRIVATE KEY");
                continue;
            }
            if in_key || !is_pem {
                self.learn_word(line);
            }
        }
    }

    fn learn_word(&mut self, word: &str) {
        let is_new = !self.known.iter().any(|known| known.as_str() == word);
        if word.chars().count() >= SHORTEST && is_new {
            self.known.push(Zeroizing::new(word.to_owned()));
        }
    }

    /// The text without secrets.
    pub(crate) fn cut(&self, text: &str) -> String {
        let mut text = without_keys(text);
        for known in &self.known {
            if text.contains(known.as_str()) {
                text = text.replace(known.as_str(), CUT);
            }
        }
        without_assigned(&without_tokens(&without_userinfo(&text)))
    }
}

/// Without the private keys in PEM; one that does not end is cut to the end of the text.
fn without_keys(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(begin) = rest.find("-----BEGIN ") {
        let (before, block) = rest.split_at(begin);
        let head = block.lines().next().unwrap_or_default();
        // The header itself may stand in one line with its block, `\n` written out.
        let is_key = head.get(..head.len().min(60)).is_some_and(|it| it.contains("PRIVATE KEY"))
            || head.chars().take(60).collect::<String>().contains("PRIVATE KEY");
        if !is_key {
            let (shown, after) = block.split_at("-----BEGIN ".len());
            out.push_str(before);
            out.push_str(shown);
            rest = after;
            continue;
        }
        out.push_str(before);
        out.push_str(KEY_CUT);
        rest = match block.find("-----END ") {
            None => "",
            Some(end) => {
                let tail = &block[end + "-----END ".len()..];
                tail.find("-----").map_or("", |dashes| &tail[dashes + "-----".len()..])
            }
        };
    }
    out.push_str(rest);
    out
}

/// Without user and password in URLs.
fn without_userinfo(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let ends = |c: char| c.is_whitespace() || matches!(c, '/' | '"' | '\'' | '<' | '>' | ',');
        let length = after.find(ends).unwrap_or(after.len());
        rest = match after[..length].rfind('@') {
            Some(user) => {
                out.push_str(CUT);
                &after[user..]
            }
            None => after,
        };
    }
    out.push_str(rest);
    out
}

/// Without words that are secrets by their form: NKEY seeds, web tokens, and what follows the name
/// of an HTTP authentication scheme.
fn without_tokens(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut scheme = false;
    let is_part =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '_' | '-' | '.');
    let mut rest = text;
    while !rest.is_empty() {
        let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(length);
        // The end of a sentence is no part of it.
        let bare = word.trim_end_matches('.');
        let is_credential = scheme && word.len() >= 8 && word.chars().skip(1).any(is_unlike_prose);
        if is_seed(bare) || is_web_token(bare) || is_credential {
            out.push_str(CUT);
        } else {
            out.push_str(word);
        }
        let gap = after.find(is_part).unwrap_or(after.len());
        let (between, next) = after.split_at(gap);
        if !word.is_empty() {
            let named = word.eq_ignore_ascii_case("basic") || word.eq_ignore_ascii_case("bearer");
            scheme = named && between == " ";
        }
        out.push_str(between);
        rest = next;
    }
    out
}

const fn is_unlike_prose(c: char) -> bool {
    c.is_ascii_digit() || c.is_ascii_uppercase() || c == '='
}

/// `S`, a kind, and base 32 (NATS, ADR-14).
fn is_seed(word: &str) -> bool {
    let base32 = |b: u8| b.is_ascii_uppercase() || (b'2'..=b'7').contains(&b);
    word.len() >= 58
        && word.starts_with('S')
        && word.as_bytes().get(1).is_some_and(|kind| b"UAOCNX".contains(kind))
        && word.bytes().all(base32)
}

/// A JSON object in base 64, with parts behind it.
fn is_web_token(word: &str) -> bool {
    word.len() > 40 && word.starts_with("eyJ") && word.contains('.')
}

/// Without the values of keys that are named like a secret, in TOML, JSON, YAML, and the
/// configurations of nats-server.
fn without_assigned(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let mut rest = text;
    while !rest.is_empty() {
        let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let (word, mut after) = rest.split_at(length);
        out.push_str(word);
        if is_secret_name(word)
            && let Some(sign) = assignment(after)
        {
            let (signs, value) = after.split_at(sign);
            out.push_str(signs);
            let whole_line = word.eq_ignore_ascii_case("authorization");
            let length = value_length(value, whole_line);
            if length > 0 {
                out.push_str(quoted_cut(value));
            }
            after = &value[length..];
        }
        let gap = after.find(is_part).unwrap_or(after.len());
        let (between, next) = after.split_at(gap);
        out.push_str(between);
        rest = next;
    }
    out
}

fn is_secret_name(word: &str) -> bool {
    let word = word.to_ascii_lowercase().replace('_', "-");
    let names = [
        "password",
        "passwd",
        "passphrase",
        "secret",
        "token",
        "authorization",
        "api-key",
        "apikey",
    ];
    let named = names.iter().any(|name| word.contains(name))
        || matches!(word.as_str(), "pass" | "pwd" | "psk");
    // Where it stands is no secret, nor is when it was made.
    let tells_where = ["-file", "-path", "-dir", "-url", "-user", "-ms", "-at", "-age", "-hours"];
    named && !tells_where.iter().any(|end| word.ends_with(end))
}

/// How much of the text is an end of a quoted key, blanks, `=` or `:`, and blanks.
fn assignment(text: &str) -> Option<usize> {
    let closed = text.strip_prefix(['"', '\'']).unwrap_or(text);
    let closed = closed.strip_prefix("\\\"").unwrap_or(closed);
    let signed = closed.trim_start_matches([' ', '\t']);
    let value = signed.strip_prefix(['=', ':'])?;
    // `token::x` and `secret://x` assign nothing.
    if value.starts_with([':', '/']) {
        return None;
    }
    let value = value.trim_start_matches([' ', '\t']);
    Some(text.len() - value.len())
}

/// How long the value is that the text begins with.
fn value_length(text: &str, whole_line: bool) -> usize {
    for quotes in ["\"\"\"", "'''"] {
        if let Some(inside) = text.strip_prefix(quotes) {
            return inside.find(quotes).map_or(text.len(), |end| end + 2 * quotes.len());
        }
    }
    if let Some(inside) = text.strip_prefix("\\\"") {
        return inside.find("\\\"").map_or_else(|| line_length(text), |end| end + 4);
    }
    match text.chars().next() {
        Some(quote @ ('"' | '\'')) => quoted_length(text, quote),
        Some('[' | '{') => bracketed_length(text),
        _ if whole_line => line_length(text),
        _ => {
            let ends = |c: char| c.is_whitespace() || matches!(c, ',' | ';' | '}' | ']' | '"');
            text.find(ends).unwrap_or(text.len())
        }
    }
}

fn line_length(text: &str) -> usize {
    text.find('\n').unwrap_or(text.len())
}

/// To the closing quote, or where it is missing to the end of the line.
fn quoted_length(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '\n' => return at,
            _ if escaped => escaped = false,
            '\\' if quote == '"' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// To the bracket that closes the first one, or where it is missing to the end of the text.
fn bracketed_length(text: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + c.len_utf8();
        }
    }
    text.len()
}

/// The cut in the quotes of the value, so that the text stays what it was to a parser.
fn quoted_cut(value: &str) -> &'static str {
    match value.as_bytes() {
        [b'\\', b'"', ..] => "\\\"***\\\"",
        [b'\'', ..] => "'***'",
        _ => "\"***\"",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(text: &str) -> String {
        Redaction::default().cut(text)
    }

    #[test]
    fn values_of_keys_named_like_a_secret_are_cut_in_every_notation() {
        for (text, shown) in [
            ("password = \"p w\" # why", "password = \"***\" # why"),
            ("proxy-password='x'", "proxy-password='***'"),
            ("{\"token\":\"abc\",\"v\":1}", "{\"token\":\"***\",\"v\":1}"),
            ("\"{\\\"token\\\":\\\"abc\\\",1}\"", "\"{\\\"token\\\":\\\"***\\\",1}\""),
            ("  password: deadbeef\n  user: a", "  password: \"***\"\n  user: a"),
            ("{user: a, password: b}", "{user: a, password: \"***\"}"),
            ("secret = \"\"\"a\nb\"\"\"\nx", "secret = \"***\"\nx"),
            ("secrets = [\"a\", [\"b\"]] x", "secrets = \"***\" x"),
            ("MY_API_KEY=abc def", "MY_API_KEY=\"***\" def"),
            ("password = \"never closed\nx", "password = \"***\"\nx"),
            ("Authorization: Basic abc=\nHost: x", "Authorization: \"***\"\nHost: x"),
            ("password = \"a\\\"b\" c", "password = \"***\" c"),
        ] {
            assert_eq!(cut(text), shown, "{text}");
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        for text in [
            "password-file = \"/etc/tidegate/press.password\"",
            "token_file: x",
            "the token was refused",
            "key = \"gw.key\"\ncert = \"gw.pem\"",
            "tls://hub.example.com:7422, tls://b",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "basic constraints; security = \"Basic256Sha256\"",
            "mail ops@example.com",
        ] {
            assert_eq!(cut(text), text);
        }
    }

    #[test]
    fn keys_urls_headers_seeds_and_web_tokens_are_cut_by_their_looks() {
        let pem = "a -----BEGIN EC PRIVATE KEY-----\nMHcC\n-----END EC PRIVATE KEY----- b";
        assert_eq!(cut(pem), "a [a private key was cut here] b");
        let line = "-----BEGIN PRIVATE KEY-----\\nMHcC\\n-----END PRIVATE KEY-----\\n\"}";
        assert_eq!(cut(line), "[a private key was cut here]\\n\"}");
        assert_eq!(
            cut("x -----BEGIN PRIVATE KEY-----\nMHcC\nMHcC"),
            "x [a private key was cut here]"
        );
        assert_eq!(cut("http://u:p@proxy:3128/x"), "http://***@proxy:3128/x");
        assert_eq!(cut("sent Basic dXNlcjpwYXNz to"), "sent Basic *** to");
        let seed = format!("S{}", "UAM".repeat(19));
        assert_eq!(cut(&format!("seed {seed}. x")), "seed *** x");
        assert_eq!(cut(&format!("seed {seed}, x")), "seed ***, x");
        let token = format!("eyJ{}.eyJ{}", "a".repeat(20), "b".repeat(20));
        assert_eq!(cut(&token), "***");
    }

    #[test]
    fn what_was_learned_is_cut_wherever_it_stands() {
        let mut redaction = Redaction::default();
        redaction.learn(b"open-sesame\n");
        redaction.learn(
            b"-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\n-----END PRIVATE KEY-----\n",
        );
        redaction.learn(b"-----BEGIN CERTIFICATE-----\npublic-line\n-----END CERTIFICATE-----\n");
        redaction.learn(b"short");
        assert_eq!(redaction.cut("say open-sesame!"), "say ***!");
        assert_eq!(
            redaction.cut("xMIGHAgEAMBMGByqGSM49x short public-line"),
            "x***x short public-line"
        );
        assert_eq!(format!("{redaction:?}"), "Redaction { known: 2 }");
    }

    proptest! {
        #[test]
        fn any_text_can_be_cut(text in "(password|secret|://|-----BEGIN |PRIVATE KEY|[\"'\\[{}\\]=:@\n\\\\ ]|ä|x){0,60}") {
            let once = cut(&text);
            prop_assert!(once.len() <= text.len() * 20 + 40);
        }
    }
}
