//! `tidegate hub audit`: what is not as it should be, and who came and went.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use jiff::Timestamp;

use super::super::exit::{self, Failure, NO, OK, PEER};
use super::super::terminal::{Align, Table, Tone, tame};
use super::Surroundings;
use super::list::look;
use super::reach::{Reach, ReachArgs};
use crate::causes::chain;
use crate::hub::drift;
use crate::hub::operate::findings::{Finding, of_roll, of_servers, of_shares};
use crate::hub::operate::{Connection, Event, EventKind, Which};
use crate::hubread::RecordReader;
use crate::names::GatewayId;
use crate::system_account::System;

/// How long a stream may take to answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// Find what is not as hub.toml says, and see who came and went
#[derive(Debug, Clone, clap::Args)]
pub struct AuditArgs {
    /// How the servers are reached.
    #[command(flatten)]
    pub reach: ReachArgs,
    /// Also list who came and went since then, such as 30m, 12h or 7d ago; as far back as the servers
    /// remember: ten thousand ended connections each, since their start
    #[arg(long, value_name = "AGO", value_parser = ago)]
    pub since: Option<Duration>,
    /// Go on and print who comes and goes, until interrupted
    #[arg(long)]
    pub follow: bool,
    /// Print one JSON object per line
    #[arg(long)]
    pub json: bool,
}

fn ago(text: &str) -> Result<Duration, String> {
    let legal = || "write a number and s, m, h or d, such as 12h".to_owned();
    let unit = text.chars().last().ok_or_else(legal)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(legal()),
    };
    let number = text.strip_suffix(unit).and_then(|text| text.parse::<u64>().ok());
    let seconds = number.and_then(|number| number.checked_mul(seconds)).ok_or_else(legal)?;
    Ok(Duration::from_secs(seconds))
}

pub(super) fn run(args: &AuditArgs, with: &mut Surroundings<'_>) -> io::Result<u8> {
    let now = Timestamp::try_from(with.now).unwrap_or(Timestamp::UNIX_EPOCH);
    let done = exit::block_on(async {
        let reach = Reach::of(&args.reach)?;
        let system = reach.system().await?;
        // Listened to before anything is looked at, so that nobody comes or goes in between.
        let mut events = if args.follow { Some(system.events().await?) } else { None };
        let findings = audit(&reach, &system, now).await?;
        let past = match args.since {
            Some(since) => past(&reach, &system, now, since).await?,
            None => Vec::new(),
        };
        let told = tell(&findings, &past, args.json, with);
        if let (Ok(_), Some(events)) = (&told, &mut events) {
            while let Some(event) = events.next().await {
                if let Err(error) = tell_event(&event, args.json, with) {
                    return Ok(Err(error));
                }
            }
            return Err(Failure::new(PEER, "the connection to the hub was lost".to_owned()));
        }
        Ok(told)
    });
    match done {
        Ok(told) => told,
        Err(failure) => failure.tell(with.err),
    }
}

/// Everything that is not as it should be.
async fn audit(
    reach: &Reach<'_>,
    system: &System,
    now: Timestamp,
) -> Result<Vec<Finding>, Failure> {
    let servers = system.servers(&reach.nodes()).await?;
    let digests = reach.digests()?;
    let mut findings = of_servers(&servers.answers, &servers.silent, &digests, now);
    let looked = look(reach, system, now).await?;
    findings.extend(of_roll(&looked.roll));
    findings.extend(looked.notes.iter().map(|note| Finding::new("not-looked-at", "streams", note)));
    match streams(reach).await {
        Ok(found) => findings.extend(found),
        Err(failure) => {
            findings.push(Finding::new("not-looked-at", "streams", failure.to_string()))
        }
    }
    Ok(findings)
}

/// How the streams differ from `hub.toml`, and who has more in them than its share.
async fn streams(reach: &Reach<'_>) -> Result<Vec<Finding>, Failure> {
    let mut found = Vec::new();
    let admin = reach.admin().await?;
    let context = async_nats::jetstream::new(admin.clone());
    for plan in reach.file().stream_plans() {
        match context.get_stream(plan.stream.as_str()).await {
            Ok(stream) => {
                let what = drift(&stream.cached_info().config, &plan);
                if !what.is_empty() {
                    let text = format!(
                        "differs from hub.toml in {}; run tidegate hub apply --streams",
                        what.join(", ")
                    );
                    found.push(Finding::new("stream-differs", plan.stream.as_str(), text));
                }
            }
            Err(error) => {
                let text =
                    format!("is not there ({}); run tidegate hub apply --streams", chain(&error));
                found.push(Finding::new("stream-missing", plan.stream.as_str(), text));
            }
        }
    }
    let (mut messages, mut means) = (HashMap::new(), HashMap::new());
    for stream in &reach.file().streams {
        let reader = RecordReader::open(admin.clone(), stream.name.clone(), DEADLINE).await?;
        let state = reader.state().await?.state;
        let mean = mean(state.bytes, state.messages);
        for (subject, count) in reader.counts(crate::subjects::EVERY_FRAMES).await? {
            let mut tokens = subject.split('.').skip(1);
            let id = tokens.next().zip(tokens.next());
            let id = id.and_then(|(plant, name)| format!("{plant}/{name}").parse().ok());
            let Some(id): Option<GatewayId> = id else { continue };
            means.insert(id.clone(), mean);
            *messages.entry(id).or_insert(0_u64) += count;
        }
    }
    found.extend(of_shares(reach.file(), &messages, &means));
    Ok(found)
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn mean(bytes: u64, messages: u64) -> f64 {
    bytes as f64 / messages.max(1) as f64
}

/// Who came and went since then, the oldest first.
async fn past(
    reach: &Reach<'_>,
    system: &System,
    now: Timestamp,
    since: Duration,
) -> Result<Vec<Connection>, Failure> {
    let open = system.connections(&reach.nodes(), Which::Open, None).await?;
    let closed = system.connections(&reach.nodes(), Which::Closed, None).await?;
    let recent = |at: Timestamp| now.duration_since(at).unsigned_abs() <= since || at > now;
    let mut all: Vec<_> = open.answers.into_iter().chain(closed.answers).collect();
    all.retain(|one| recent(one.end.as_ref().map_or(one.since, |end| end.at)));
    all.sort_by_key(|one| one.end.as_ref().map_or(one.since, |end| end.at));
    Ok(all)
}

fn tell(
    findings: &[Finding],
    past: &[Connection],
    json: bool,
    with: &mut Surroundings<'_>,
) -> io::Result<u8> {
    if json {
        for finding in findings {
            writeln!(with.out, "{}", serde_json::json!({ "finding": finding }))?;
        }
        for one in past {
            writeln!(with.out, "{}", serde_json::json!({ "connection": record(one) }))?;
        }
    } else {
        let mut table =
            Table::new(&[("FINDING", Align::Left), ("ABOUT", Align::Left), ("WHAT", Align::Left)]);
        for finding in findings {
            table.row([
                (finding.kind.to_owned(), Tone::Caution),
                (finding.object.clone(), Tone::Plain),
                (finding.text.clone(), Tone::Plain),
            ]);
        }
        if findings.is_empty() {
            writeln!(with.out, "everything is as hub.toml says")?;
        } else {
            table.write(with.out, 0, with.colour)?;
        }
        for one in past {
            writeln!(with.out, "{}", line(one))?;
        }
    }
    with.out.flush()?;
    Ok(if findings.is_empty() { OK } else { NO })
}

/// Who it was: refused ones have no user, only the name that they gave.
fn who(one: &Connection) -> String {
    let user = if one.user.is_empty() { "nobody known" } else { &one.user };
    if one.name.is_empty() {
        user.to_owned()
    } else {
        format!("{user} (calls itself {})", one.name)
    }
}

fn line(one: &Connection) -> String {
    let (who, from, server) = (tame(&who(one)), &one.from, &one.server);
    match &one.end {
        None => format!("{} came    {who} from {from} to {server}, is there", one.since),
        Some(end) => format!(
            "{} left    {who} from {from} to {server}, there since {}: {}",
            end.at,
            one.since,
            tame(&end.why)
        ),
    }
}

fn record(one: &Connection) -> serde_json::Value {
    serde_json::json!({
        "user": one.user, "name": one.name, "from": one.from, "server": one.server,
        "account": one.account, "since": one.since,
        "until": one.end.as_ref().map(|end| end.at),
        "why": one.end.as_ref().map(|end| end.why.as_str()),
    })
}

fn tell_event(event: &Event, json: bool, with: &mut Surroundings<'_>) -> io::Result<()> {
    if json {
        writeln!(with.out, "{}", serde_json::json!({ "event": event }))?;
    } else {
        let word = match event.kind {
            EventKind::Connect => "came",
            EventKind::Disconnect => "left",
        };
        let why = if event.why.is_empty() { String::new() } else { format!(": {}", event.why) };
        let text = format!(
            "{} {word}    {} (calls itself {}) from {} to {}{why}",
            event.at, event.user, event.name, event.from, event.server
        );
        writeln!(with.out, "{}", tame(&text))?;
    }
    with.out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_ago_has_a_unit() {
        assert_eq!(ago("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(ago("2d"), Ok(Duration::from_secs(172_800)));
        for none in ["", "d", "12", "1w", "-1h", "99999999999999999999s", "1ü"] {
            assert!(ago(none).is_err(), "{none}");
        }
    }
}
