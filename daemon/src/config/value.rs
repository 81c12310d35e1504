//! From what was written behind a key to a value that is legal by the key's kind.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tidegate_modbus::States;
use tidegate_opcua::Thumbprint;
use tidegate_translator::TagPath;
use toml_span::Value as Toml;
use toml_span::value::ValueInner;

use super::keys::{Kind, NumberRule};
use super::mistake::{Place, shorten};
use super::{HttpsUrl, HubScheme, HubUrl, credential, patterns, size, states, subject, suggest};

/// A legal value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Text(String),
    /// One of the words of its key.
    Word(&'static str),
    Flag(bool),
    Integer(i64),
    Duration(Duration),
    Size(u64),
    Number(f64),
    Path(PathBuf),
    /// The name of a credential.
    Credential(String),
    Listen(SocketAddr),
    Urls(Vec<(HubUrl, Place)>),
    /// Host and port.
    Proxy(String, u16),
    Subjects(Vec<Box<str>>),
    /// What each entry says is up to whoever asks.
    Texts(Vec<(String, Place)>),
    TagPath(TagPath),
    States(Arc<States>),
    Https(HttpsUrl),
    Thumbprints(Vec<Thumbprint>),
    Patterns(Vec<Box<str>>),
}

/// Why a value is not legal.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Illegal {
    pub(crate) message: String,
    /// The offending value; `None` where the message says all.
    pub(crate) value: Option<String>,
    pub(crate) suggestion: Option<String>,
    /// Overrides the kind's own words.
    pub(crate) legal: Option<String>,
}

impl Illegal {
    pub(super) fn new(message: impl Into<String>, value: impl Into<String>) -> Self {
        Self { message: message.into(), value: Some(value.into()), suggestion: None, legal: None }
    }

    fn suggest(mut self, word: Option<&str>) -> Self {
        self.suggestion = word.map(str::to_owned);
        self
    }
}

/// The place of a mistake in a list; `None` for the whole value.
pub(crate) type Element = Option<(usize, Place)>;

/// Every mistake of a value.
pub(crate) type Wrong = Vec<(Element, Illegal)>;

/// What stands in the file, in a tag list, or in a variable or argument.
#[derive(Clone, Copy)]
pub(crate) enum Raw<'a> {
    /// From the file, with its TOML type.
    Toml(&'a Toml<'a>),
    /// Plain text, whose type the key decides.
    Plain(&'a str),
    /// A cell of a tag list.
    Cell {
        /// Without spaces around it.
        text: &'a str,
        /// Whether a comma may stand for the decimal point.
        comma: bool,
    },
}

impl Raw<'_> {
    /// As it is quoted in a message.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Plain(text) | Self::Cell { text, .. } => format!("{:?}", shorten(text)),
            Self::Toml(value) => shown(value.as_ref()),
        }
    }

    pub(super) fn noun(&self) -> &'static str {
        match self {
            Self::Plain(_) | Self::Cell { .. } => "text",
            Self::Toml(value) => match value.as_ref() {
                ValueInner::String(_) => "text",
                ValueInner::Integer(_) => "a whole number",
                ValueInner::Float(_) => "a number with a decimal point",
                ValueInner::Boolean(_) => "true or false",
                ValueInner::Array(_) => "a list",
                ValueInner::Table(_) => "a section",
            },
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Plain(text) | Self::Cell { text, .. } => Some(text),
            Self::Toml(value) => value.as_str(),
        }
    }

    fn integer(&self) -> Option<i64> {
        match self {
            Self::Plain(text) | Self::Cell { text, .. } => text.trim().parse().ok(),
            Self::Toml(value) => value.as_integer(),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "2^53 and above is no scale that anyone writes")]
    fn number(&self) -> Option<f64> {
        match self {
            Self::Plain(text) | Self::Cell { text, comma: false } => text.trim().parse().ok(),
            Self::Cell { text, comma: true } => decimal(text).parse().ok(),
            Self::Toml(value) => value.as_float().or_else(|| value.as_integer().map(|n| n as f64)),
        }
    }

    fn flag(&self) -> Option<bool> {
        match self {
            Self::Plain(text) => text.trim().parse().ok(),
            // As spreadsheets write it.
            Self::Cell { text, .. } if text.eq_ignore_ascii_case("true") => Some(true),
            Self::Cell { text, .. } if text.eq_ignore_ascii_case("false") => Some(false),
            Self::Cell { .. } => None,
            Self::Toml(value) => value.as_bool(),
        }
    }
}

/// A number with its one comma as the decimal point.
pub(crate) fn decimal(text: &str) -> std::borrow::Cow<'_, str> {
    match text.matches(',').count() {
        1 if !text.contains('.') => text.replace(',', ".").into(),
        _ => text.into(),
    }
}

fn shown(value: &ValueInner<'_>) -> String {
    match value {
        ValueInner::String(text) => format!("{:?}", shorten(text)),
        ValueInner::Integer(n) => n.to_string(),
        ValueInner::Float(n) => n.to_string(),
        ValueInner::Boolean(b) => b.to_string(),
        ValueInner::Array(_) => "[…]".to_owned(),
        ValueInner::Table(_) => "{…}".to_owned(),
    }
}

/// Checks a value by its key's kind; a list can hold many mistakes.
pub(crate) fn read(kind: &Kind, raw: Raw<'_>) -> Result<Value, Wrong> {
    match kind {
        Kind::Urls => urls(raw),
        Kind::Ranges => texts(raw).map(Value::Texts),
        Kind::Thumbprints => each(raw, MOST_THUMBPRINTS, thumbprint).map(Value::Thumbprints),
        Kind::Patterns => each(raw, MOST_RANGES, patterns::pattern).map(Value::Patterns),
        Kind::Subjects => each(raw, MOST_SUBJECTS, subject::local).map(Value::Subjects),
        Kind::States => states::read(raw),
        _ => read_one(kind, raw).map_err(|illegal| vec![(None, illegal)]),
    }
}

/// The legal word that was probably meant.
pub(crate) fn word_meant(kind: &Kind, raw: Raw<'_>) -> Option<String> {
    let (Kind::Word(words), Some(text)) = (kind, raw.text()) else { return None };
    let planned = words.iter().any(|word| word.name == text);
    let built = words.iter().filter(|word| word.built).map(|word| word.name);
    suggest::nearest(text, built).filter(|_| !planned).map(str::to_owned)
}

fn read_one(kind: &Kind, raw: Raw<'_>) -> Result<Value, Illegal> {
    let wrong_type = |wanted: &str| {
        let message = match raw {
            Raw::Plain(text) | Raw::Cell { text, .. } => {
                format!("{:?} is not {wanted}", shorten(text))
            }
            Raw::Toml(_) => format!("expected {wanted}, found {}", raw.noun()),
        };
        Illegal::new(message, raw.shown())
    };
    let text = || {
        let text = raw.text().ok_or_else(|| wrong_type("text in quotes"))?;
        if text.is_empty() {
            return Err(Illegal::new("it is empty", "\"\""));
        }
        if text.chars().any(char::is_control) {
            return Err(Illegal::new("it holds a control character", raw.shown()));
        }
        Ok(text)
    };
    let whole = || {
        let expected = "a whole number";
        raw.integer().ok_or_else(|| {
            let mut wrong = wrong_type(expected);
            // A number in quotes is the commonest slip of all.
            let quoted = raw.text().filter(|t| t.trim().parse::<i64>().is_ok());
            if let (Raw::Toml(_), Some(number)) = (raw, quoted) {
                wrong.message = format!("{} is text; write it without quotes", raw.shown());
                wrong.suggestion = Some(number.trim().to_owned());
            }
            wrong
        })
    };
    let in_range = |n: i64, min: i64, max: i64| match n {
        n if (min..=max).contains(&n) => Ok(n),
        n => Err(Illegal::new(format!("{n} is out of range"), n.to_string())),
    };
    match *kind {
        Kind::Name { max } => {
            let text = text()?;
            let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if let Some(c) = text.chars().find(|c| !legal(*c)) {
                return Err(Illegal::new(format!("{} holds {c:?}", raw.shown()), raw.shown()));
            }
            if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
                let message = format!("{} begins with neither letter nor digit", raw.shown());
                return Err(Illegal::new(message, raw.shown()));
            }
            at_most(text, max, &raw)?;
            Ok(Value::Text(text.to_owned()))
        }
        Kind::Text { max } => {
            // Spaces around it cannot be seen, and no tag list can carry them.
            let text = text()?.trim();
            if text.is_empty() {
                return Err(Illegal::new("it is empty", raw.shown()));
            }
            at_most(text, max, &raw)?;
            Ok(Value::Text(text.to_owned()))
        }
        Kind::Word(words) => {
            let text = text()?;
            match words.iter().find(|word| word.name == text) {
                Some(word) if word.built => Ok(Value::Word(word.name)),
                Some(word) => {
                    let message =
                        format!("{:?} ({}) is not yet in this version", word.name, word.doc);
                    Err(Illegal::new(message, raw.shown()))
                }
                None => {
                    let message = format!("{} is none of the legal words", raw.shown());
                    Err(Illegal::new(message, raw.shown()))
                }
            }
        }
        Kind::Flag => raw.flag().map(Value::Flag).ok_or_else(|| wrong_type("true or false")),
        Kind::Integer { min, max } => Ok(Value::Integer(in_range(whole()?, min, max)?)),
        Kind::IntegerIn(ranges) => {
            let n = whole()?;
            match ranges.iter().any(|(min, max)| (min..=max).contains(&&n)) {
                true => Ok(Value::Integer(n)),
                false => Err(Illegal::new(format!("{n} is out of range"), n.to_string())),
            }
        }
        Kind::Millis { min, max } => {
            let n = in_range(whole()?, min, max)?;
            let n = u64::try_from(n).map_err(|_| wrong_type("a whole number"))?;
            Ok(Value::Duration(Duration::from_millis(n)))
        }
        Kind::Size { min, max } => {
            let bytes = match (raw.integer(), raw.text()) {
                (Some(n), _) => u64::try_from(n).ok(),
                (None, Some(text)) => size::parse(text),
                (None, None) => return Err(wrong_type("a size")),
            };
            match bytes {
                Some(bytes) if (min..=max).contains(&bytes) => Ok(Value::Size(bytes)),
                Some(_) => {
                    Err(Illegal::new(format!("{} is out of range", raw.shown()), raw.shown()))
                }
                None => Err(Illegal::new(format!("{} is no size", raw.shown()), raw.shown())),
            }
        }
        Kind::Number(rule) => {
            let n = raw.number().ok_or_else(|| wrong_type("a number"))?;
            let legal = match rule {
                NumberRule::Finite => true,
                NumberRule::NotZero => n != 0.0,
                NumberRule::NotNegative => n >= 0.0,
                NumberRule::Percent => (0.0..=100.0).contains(&n),
            };
            match n {
                n if n.is_nan() => Err(Illegal::new("it is not a number (NaN)", raw.shown())),
                n if n.is_infinite() => Err(Illegal::new("it is infinite", raw.shown())),
                n if !legal => Err(Illegal::new(format!("{n} is out of range"), raw.shown())),
                n => Ok(Value::Number(n)),
            }
        }
        Kind::Path => Ok(Value::Path(PathBuf::from(text()?))),
        Kind::File => match credential::read(text()?) {
            None => Ok(Value::Path(PathBuf::from(text()?))),
            Some(Ok(name)) => Ok(Value::Credential(name)),
            Some(Err(())) => {
                let message = format!("{} names no credential", raw.shown());
                let legal = Some(credential::LEGAL.to_owned());
                Err(Illegal { legal, ..Illegal::new(message, raw.shown()) })
            }
        },
        Kind::Listen => {
            let text = text()?;
            match text.strip_prefix("localhost:").and_then(|port| port.parse().ok()) {
                Some(port) => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
                None => text.parse().ok(),
            }
            .map(Value::Listen)
            .ok_or_else(|| {
                let message = format!("{} is no IP address with a port", raw.shown());
                Illegal::new(message, raw.shown())
            })
        }
        Kind::Host => match text()? {
            text if is_host(text) => Ok(Value::Text(text.to_owned())),
            _ => Err(Illegal::new(format!("{} names no host", raw.shown()), raw.shown())),
        },
        Kind::Proxy => proxy(text()?),
        Kind::TagPath => tag_path(text()?).map(Value::TagPath),
        Kind::Uri => match uri(text()?) {
            Ok(text) => Ok(Value::Text(text.to_owned())),
            Err(why) => Err(Illegal::new(format!("{} {why}", raw.shown()), raw.shown())),
        },
        Kind::HttpsUrl => https_url(text()?).map(Value::Https),
        Kind::IndexRange => match patterns::index_range(text()?) {
            Ok(()) => Ok(Value::Text(text()?.to_owned())),
            Err(why) => Err(Illegal::new(format!("{} {why}", raw.shown()), raw.shown())),
        },
        // Lists are read before; an address needs its device's base or protocol to be understood.
        Kind::Address
        | Kind::DeviceAddress
        | Kind::Urls
        | Kind::Subjects
        | Kind::Ranges
        | Kind::States
        | Kind::Thumbprints
        | Kind::Patterns => Ok(Value::Text(text()?.to_owned())),
    }
}

fn at_most(text: &str, max: usize, raw: &Raw<'_>) -> Result<(), Illegal> {
    match text.chars().count() {
        n if n > max => Err(Illegal::new(format!("it has {n} characters"), raw.shown())),
        _ => Ok(()),
    }
}

/// Checks a path, or the part of one.
fn tag_path(text: &str) -> Result<TagPath, Illegal> {
    let shown = format!("{:?}", shorten(text));
    if text.split('/').any(|segment| segment.trim() != segment) {
        let message = format!("a segment of {shown} begins or ends with a space");
        return Err(Illegal::new(message, shown));
    }
    if text.split('/').any(|segment| segment == RESERVED_SEGMENT) {
        let message =
            format!("{shown} lies under {RESERVED_SEGMENT:?}, where gateways report themselves");
        let mut illegal = Illegal::new(message, shown);
        illegal.legal = Some(format!("any segment but {RESERVED_SEGMENT:?}"));
        return Err(illegal);
    }
    TagPath::new(text).map_err(|error| Illegal::new(error.to_string(), shown))
}

/// The segment under which gateways publish their own health.
pub(crate) const RESERVED_SEGMENT: &str = "_gateways";

/// Splits `host`, `host:port`, `[v6]:port` or `[v6]`.
pub(crate) fn host_and_port(text: &str, default: u16) -> Result<(String, u16), &'static str> {
    const NO_PORT: &str = "ends in what is no port";
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("lacks a closing bracket")?;
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err("has no IPv6 address in its brackets");
        }
        match rest {
            "" => (host, None),
            _ => (host, Some(rest.strip_prefix(':').ok_or(NO_PORT)?)),
        }
    } else {
        if text.parse::<std::net::Ipv6Addr>().is_ok() {
            return Err("is an IPv6 address without brackets");
        }
        match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let port = match port {
        None => default,
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => {
            port.parse().ok().filter(|port| *port != 0).ok_or(NO_PORT)?
        }
        Some(_) => return Err(NO_PORT),
    };
    let v6 = text.starts_with('[');
    let label = |l: &str| {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        !l.is_empty()
            && l.len() <= 63
            && l.bytes().all(legal)
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    if !v6 && (name.len() > 253 || !name.split('.').all(label)) {
        return Err("names no host");
    }
    // Dotted numbers are an address or a slip, never a name.
    let numbers = name.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if !v6 && numbers && host.parse::<Ipv4Addr>().is_err() {
        return Err("is no IPv4 address");
    }
    Ok((host.to_owned(), port))
}

/// Whether a host is this machine, as far as its name tells.
pub(crate) fn is_loopback(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// Whether a text is a name or an address, without a port.
pub(crate) fn is_host(text: &str) -> bool {
    let v6 = text.parse::<std::net::Ipv6Addr>().is_ok();
    v6 || (!text.contains([':', '[']) && host_and_port(text, 1).is_ok())
}

/// The entries of a list of 1 to `most`.
fn entries<'a>(raw: Raw<'a>, most: usize) -> Result<&'a [Toml<'a>], Wrong> {
    let list = match raw {
        Raw::Toml(value) => value.as_array(),
        Raw::Plain(_) | Raw::Cell { .. } => None,
    };
    let Some(list) = list else {
        let mut wrong = Illegal::new(format!("expected a list, found {}", raw.noun()), raw.shown());
        if let (Raw::Toml(_), Some(text)) = (raw, raw.text()) {
            wrong.suggestion = Some(format!("[{text:?}]"));
        }
        return Err(vec![(None, wrong)]);
    };
    if list.is_empty() || list.len() > most {
        let wrong = Illegal::new(format!("it has {} entries", list.len()), "[…]");
        return Err(vec![(None, wrong)]);
    }
    Ok(list)
}

/// A URI as it can stand in a certificate, or what is wrong with it.
fn uri(text: &str) -> Result<&str, &'static str> {
    const MOST: usize = 512;
    let legal = |c: char| c.is_ascii_graphic() && !"\"<>\\^`{|}".contains(c);
    let scheme = text.split_once(':').filter(|(_, rest)| !rest.is_empty());
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    };
    match scheme {
        _ if text.len() > MOST => Err("is longer than any URI"),
        Some((scheme, _)) if is_scheme(scheme) && text.chars().all(legal) => Ok(text),
        Some((scheme, _)) if is_scheme(scheme) => Err("holds a character that no URI can have"),
        _ => Err("is no URI: it begins with no scheme, such as \"urn:\""),
    }
}

/// The port of HTTPS when none is written.
const HTTPS_PORT: u16 = 443;
/// RFC 7030, 3.2.2: where an EST server has its services when no path is written.
const EST_PATH: &str = "/.well-known/est";

fn https_url(text: &str) -> Result<HttpsUrl, Illegal> {
    let shown = format!("{:?}", shorten(text));
    let illegal = |why: &str| Illegal::new(format!("{shown} {why}"), shown.clone());
    if text.contains('@') {
        // What stands before it must not be repeated in a log.
        let mut illegal = Illegal::new("the URL carries credentials", "");
        illegal.value = None;
        illegal.legal = Some("the URL alone; a token is kept in token-file".to_owned());
        return Err(illegal);
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(illegal("has no scheme").suggest(Some(&format!("https://{text}"))));
    };
    if scheme != "https" {
        let near = format!("https://{rest}");
        return Err(illegal("is not protected by TLS").suggest(Some(&near)));
    }
    let at = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = (rest.get(..at).unwrap_or(rest), rest.get(at..).unwrap_or_default());
    let (host, port) = host_and_port(authority, HTTPS_PORT).map_err(illegal)?;
    let path = match path.trim_end_matches('/') {
        "" => EST_PATH,
        path => path,
    };
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b);
    if !path.bytes().all(legal) {
        return Err(illegal("holds a character that no path can have, a question or a fragment"));
    }
    Ok(HttpsUrl { host, port, path: path.to_owned() })
}

/// Certificates that one device may have.
const MOST_THUMBPRINTS: usize = 64;

fn thumbprint(text: &str) -> Result<Thumbprint, Illegal> {
    Thumbprint::parse(text).ok_or_else(|| {
        let shown = format!("{:?}", shorten(text));
        let digits = text.chars().filter(char::is_ascii_hexdigit).count();
        let message = match digits {
            // What browsers and tools of another age show.
            40 if text.chars().all(|c| c.is_ascii_hexdigit() || " :".contains(c)) => {
                format!("{shown} is a SHA-1 thumbprint")
            }
            _ => format!("{shown} is no SHA-256 thumbprint"),
        };
        Illegal::new(message, shown)
    })
}

/// The entries of a list of 1 to `most`, each of them judged. In a cell they are separated by
/// semicolons.
fn each<T>(
    raw: Raw<'_>,
    most: usize,
    judge: impl Fn(&str) -> Result<T, Illegal>,
) -> Result<Vec<T>, Wrong> {
    let mut out = Vec::new();
    let mut wrong = Vec::new();
    if let Raw::Cell { text, .. } = raw {
        for text in text.split(';').map(str::trim) {
            match judge(text) {
                Ok(judged) => out.push(judged),
                Err(illegal) => wrong.push((None, illegal)),
            }
        }
        if out.len() + wrong.len() > most {
            let count = out.len() + wrong.len();
            wrong = vec![(None, Illegal::new(format!("it has {count} entries"), raw.shown()))];
        }
        return if wrong.is_empty() { Ok(out) } else { Err(wrong) };
    }
    for (index, item) in entries(raw, most)?.iter().enumerate() {
        let text = Raw::Toml(item);
        let judged = item.as_str().map(str::trim).map(&judge).unwrap_or_else(|| {
            let message = format!("expected text in quotes, found {}", text.noun());
            Err(Illegal::new(message, text.shown()))
        });
        match judged {
            Ok(judged) => out.push(judged),
            Err(illegal) => wrong.push((Some((index, item.span.into())), illegal)),
        }
    }
    if wrong.is_empty() { Ok(out) } else { Err(wrong) }
}

/// A list of texts.
fn texts(raw: Raw<'_>) -> Result<Vec<(String, Place)>, Wrong> {
    let mut out = Vec::new();
    let mut wrong = Vec::new();
    for (index, item) in entries(raw, MOST_RANGES)?.iter().enumerate() {
        match item.as_str() {
            Some(text) => out.push((text.to_owned(), item.span.into())),
            None => {
                let item_raw = Raw::Toml(item);
                let message = format!("expected text in quotes, found {}", item_raw.noun());
                let illegal = Illegal::new(message, item_raw.shown());
                wrong.push((Some((index, item.span.into())), illegal));
            }
        }
    }
    if wrong.is_empty() { Ok(out) } else { Err(wrong) }
}

/// Ranges that must not be read: more than this is a mistake of another kind.
const MOST_RANGES: usize = 256;
fn urls(raw: Raw<'_>) -> Result<Value, Wrong> {
    let list = entries(raw, 16)?;
    let mut out = Vec::new();
    let mut wrong = Vec::new();
    for (index, item) in list.iter().enumerate() {
        let url = Raw::Toml(item);
        let checked = url.text().map(hub_url).unwrap_or_else(|| {
            let message = format!("expected text in quotes, found {}", url.noun());
            Err(Illegal::new(message, url.shown()))
        });
        match checked {
            Ok(url) => out.push((url, item.span.into())),
            Err(illegal) => wrong.push((Some((index, item.span.into())), illegal)),
        }
    }
    if wrong.is_empty() { Ok(Value::Urls(out)) } else { Err(wrong) }
}

/// Subjects of local applications: nobody has that many kinds of messages.
const MOST_SUBJECTS: usize = 64;

/// Checks the URL of a proxy. There is no usual port, so it must be written.
fn proxy(text: &str) -> Result<Value, Illegal> {
    let shown = format!("{:?}", shorten(text));
    let illegal = |why: &str| Illegal::new(format!("{shown} {why}"), shown.clone());
    if text.contains('@') {
        // The password must not be repeated in a log.
        let message = "the URL carries credentials";
        let mut illegal = Illegal::new(message, "");
        illegal.value = None;
        illegal.legal =
            Some("\"http://host:port\", with proxy-user and proxy-password-file".to_owned());
        return Err(illegal);
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(illegal("has no scheme").suggest(Some(&format!("http://{text}"))));
    };
    if scheme != "http" {
        return Err(illegal("is no HTTP proxy"));
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = host_and_port(rest, NO_PORT_WRITTEN).map_err(illegal)?;
    match port {
        NO_PORT_WRITTEN => Err(illegal("has no port")),
        port => Ok(Value::Proxy(host, port)),
    }
}

/// A port that cannot be written.
const NO_PORT_WRITTEN: u16 = 0;

fn hub_url(text: &str) -> Result<HubUrl, Illegal> {
    let shown = format!("{:?}", shorten(text));
    let illegal = |why: &str| Illegal::new(format!("{shown} {why}"), shown.clone());
    if text.contains('@') {
        // The password must not be repeated in a log.
        let message = "the URL carries credentials; gateways are known by their certificate";
        let mut illegal = Illegal::new(message, "");
        illegal.value = None;
        return Err(illegal);
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(illegal("has no scheme").suggest(Some(&format!("tls://{text}"))));
    };
    let scheme = match scheme {
        "tls" => HubScheme::Tls,
        "wss" => HubScheme::WebSocket,
        "nats" | "nats-leaf" => HubScheme::Plain,
        "ws" => {
            let meant = format!("wss://{rest}");
            return Err(illegal("is a WebSocket without TLS").suggest(Some(&meant)));
        }
        _ => {
            let near = suggest::nearest(scheme, ["tls", "nats", "wss"]);
            let near = near.map(|scheme| format!("{scheme}://{rest}"));
            return Err(illegal("has an unknown scheme").suggest(near.as_deref()));
        }
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = host_and_port(rest, scheme.port()).map_err(illegal)?;
    Ok(HubUrl { scheme, host, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_split_from_ports() {
        for (text, host, port) in [
            ("plc", "plc", 502),
            ("plc.example.com.:1502", "plc.example.com.", 1502),
            ("192.0.2.10", "192.0.2.10", 502),
            ("[2001:db8::1]", "2001:db8::1", 502),
            ("[::1]:503", "::1", 503),
            ("plc_3:502", "plc_3", 502),
        ] {
            assert_eq!(host_and_port(text, 502), Ok((host.to_owned(), port)), "{text}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in [
            "",
            ":502",
            "plc:",
            "plc:0",
            "plc:65536",
            "plc:+5",
            "plc:x",
            "[::1",
            "[::1]x",
            "[plc]:1",
            "::1",
            "a b",
            "a..b",
            "192.0.2.300",
            "192.0.2",
            "tcp://plc:502",
            "-a",
            &"x".repeat(64),
        ] {
            assert!(host_and_port(text, 502).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_url_of_an_authority_is_https_and_has_the_usual_port_and_path() {
        for (text, whole) in [
            ("https://ca.example.com", "https://ca.example.com:443/.well-known/est"),
            ("https://ca:8443/", "https://ca:8443/.well-known/est"),
            ("https://[::1]:9/est/plant-a/", "https://[::1]:9/est/plant-a"),
        ] {
            assert_eq!(https_url(text).unwrap().to_string(), whole, "{text}");
            assert_eq!(https_url(whole).unwrap().to_string(), whole, "{text}");
        }
        for text in ["ca.example.com", "http://ca", "https://", "https://ca/a?b", "https://ca/a b"]
        {
            assert!(https_url(text).is_err(), "{text}");
        }
        let said = format!("{:?}", https_url("https://me:secret@ca").unwrap_err());
        assert!(!said.contains("secret"), "{said}");
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for host in ["localhost", "LOCALHOST.", "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"]
        {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["0.0.0.0", "::", "192.0.2.1", "localhost.example.com", "127.0.0.1.example.com"]
        {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn a_url_with_a_password_is_refused_without_repeating_it() {
        for url in ["tls://user:secret@hub:7422", "wss://user:secret@hub", "user:secret@hub"] {
            let illegal = hub_url(url).unwrap_err();
            assert!(!format!("{illegal:?}").contains("secret"), "{illegal:?}");
        }
    }
}
