//! What a peer wrote down: the requests that it got, and how many at once.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

/// One request as a peer saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// When, nanoseconds since 1970 UTC; 0 where the peer does not say.
    pub at_ns: i64,
    /// The unit that was asked.
    pub unit: u8,
    /// The function code.
    pub function: u8,
    /// The first address.
    pub start: u16,
    /// How many cells.
    pub count: u16,
    /// Requests without an answer on this connection, this one included; 0 where it is not said.
    pub outstanding: u64,
    /// Open connections; 0 where it is not said.
    pub connections: u64,
    /// The bytes in hexadecimal; empty where the peer does not say.
    pub raw: String,
}

/// The requests among a peer's lines of JSON; the last line counts only once it is whole.
///
/// # Errors
/// When a line is not what peers write.
pub fn requests(lines: &str) -> anyhow::Result<Vec<Request>> {
    let mut requests = Vec::new();
    for line in events(lines, "request") {
        let line = line?;
        let parse = || {
            Some(Request {
                at_ns: line["t"].as_i64().unwrap_or_default(),
                unit: line["unit"].as_u64()?.try_into().ok()?,
                function: line["function"].as_u64()?.try_into().ok()?,
                start: line["start"].as_u64().unwrap_or_default().try_into().ok()?,
                count: line["count"].as_u64().unwrap_or_default().try_into().ok()?,
                outstanding: line["outstanding"].as_u64().unwrap_or_default(),
                connections: line["connections"].as_u64().unwrap_or_default(),
                raw: line["raw"].as_str().unwrap_or_default().to_owned(),
            })
        };
        requests.push(parse().with_context(|| format!("a peer wrote {line}"))?);
    }
    Ok(requests)
}

/// How long it was silent before each request, in nanoseconds: since the answer before it, or since
/// the connection was made where nothing was answered on it yet.
///
/// # Errors
/// When a line is not what peers write.
pub fn silences(lines: &str) -> anyhow::Result<Vec<Silence>> {
    let mut silences = Vec::new();
    let mut since: Option<(Since, i64, Option<u8>)> = None;
    let mut asked = None;
    let whole = lines.rfind('\n').map_or("", |end| &lines[..end]);
    for line in whole.lines() {
        let line: Value = serde_json::from_str(line)?;
        let at = line["t"].as_i64().context("an event without a time")?;
        match line["event"].as_str() {
            Some("connect") => since = Some((Since::Connect, at, None)),
            Some("answer") => since = Some((Since::Answer, at, asked)),
            Some("request") => {
                let unit = line["unit"].as_u64().and_then(|unit| u8::try_from(unit).ok());
                if let Some((from, began, before)) = since.take() {
                    let nanos = u64::try_from(at - began).unwrap_or(0);
                    let lasted = Duration::from_nanos(nanos);
                    silences.push(Silence { from, lasted, same_unit: before == unit });
                }
                asked = unit;
            }
            _ => {}
        }
    }
    Ok(silences)
}

/// The silence before a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silence {
    /// Since what.
    pub from: Since,
    /// How long.
    pub lasted: Duration,
    /// Whether the same unit had answered before.
    pub same_unit: bool,
}

/// What was before the silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// The connection was made.
    Connect,
    /// The request before was answered.
    Answer,
}

/// The lines of one kind of event.
pub fn events<'a>(
    lines: &'a str,
    event: &'a str,
) -> impl Iterator<Item = anyhow::Result<Value>> + 'a {
    let whole = lines.rfind('\n').map_or("", |end| &lines[..end]);
    whole.lines().filter_map(move |line| match serde_json::from_str::<Value>(line) {
        Ok(value) => (value["event"] == event).then_some(Ok(value)),
        Err(error) => Some(Err(anyhow::Error::new(error).context(format!("a peer wrote {line}")))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_begins_with_an_answer_or_a_connection() {
        let lines = "{\"event\": \"connect\", \"t\": 1}\n\
            {\"event\": \"request\", \"t\": 5, \"unit\": 1}\n\
            {\"event\": \"answer\", \"t\": 6}\n\
            {\"event\": \"request\", \"t\": 9, \"unit\": 2}\n\
            {\"event\": \"request\", \"t\": 99, \"unit\": 2}\n";
        let silence = |from, lasted, same_unit| Silence {
            from,
            lasted: Duration::from_nanos(lasted),
            same_unit,
        };
        let expected = [silence(Since::Connect, 4, false), silence(Since::Answer, 3, false)];
        assert_eq!(silences(lines).unwrap(), expected);
    }

    #[test]
    fn requests_are_read_and_other_events_are_not() {
        let lines = "{\"port\": 5}\n{\"event\": \"connect\"}\n\
            {\"event\": \"request\", \"unit\": 7, \"function\": 3, \"start\": 9, \"count\": 2}\n\
            {\"event\": \"requ";
        let requests = requests(lines).unwrap();
        assert_eq!(requests.len(), 1);
        let one = &requests[0];
        assert_eq!((one.unit, one.function, one.start, one.count), (7, 3, 9, 2));
    }
}
