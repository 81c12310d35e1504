//! `tidegate hub list`: who should be there, and who is.

use std::collections::HashMap;
use std::io;

use futures_util::StreamExt as _;
use jiff::Timestamp;

use super::super::exit::{self, Failure, OK, PEER};
use super::super::terminal::{Align, Table, Tone, age};
use super::Surroundings;
use super::reach::{Reach, ReachArgs};
use crate::causes::chain;
use crate::hub::operate::Which;
use crate::hub::operate::roll::{
    Head, Presence, Roll, Row, Values, head_filter, heads_of, health_subjects, roll_call, value_of,
};
use crate::hubread::{ReadError, RecordReader, Stored};
use crate::names::{GatewayId, Name};
use crate::system_account::System;

/// Gateways that are asked for in one question; each may have delivered several journals, and a hub
/// answers for 1024 subjects at once.
const AT_ONCE: usize = 64;

/// Questions for last values under way at once.
const ASKED_AT_ONCE: usize = 32;

/// How long a stream may take to answer.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(5);

/// List who is admitted: connected since when and from where, certificate, backlog, watermark
#[derive(Debug, Clone, clap::Args)]
pub struct ListArgs {
    /// How the servers are reached.
    #[command(flatten)]
    pub reach: ReachArgs,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Everything that was found.
pub(super) struct Looked {
    pub(super) roll: Roll,
    /// Servers that did not answer.
    pub(super) silent: Vec<String>,
    /// What could not be looked at.
    pub(super) notes: Vec<String>,
}

pub(super) fn run(args: &ListArgs, with: &mut Surroundings<'_>) -> io::Result<u8> {
    let now = Timestamp::try_from(with.now).unwrap_or(Timestamp::UNIX_EPOCH);
    let looked = exit::block_on(async {
        let reach = Reach::of(&args.reach)?;
        let system = reach.system().await?;
        look(&reach, &system, now).await
    });
    let looked = match looked {
        Ok(looked) => looked,
        Err(failure) => return failure.tell(with.err),
    };
    if args.json {
        let strangers: Vec<_> = looked.roll.strangers.iter().map(stranger).collect();
        let object = serde_json::json!({
            "gateways": looked.roll.rows, "strangers": strangers,
            "silent-servers": looked.silent, "notes": looked.notes,
        });
        writeln!(with.out, "{object}")?;
    } else {
        tell(&looked, now, with)?;
    }
    Ok(if looked.silent.is_empty() { OK } else { PEER })
}

fn stranger(link: &crate::hub::operate::Connection) -> serde_json::Value {
    serde_json::json!({
        "user": link.user, "name": link.name, "from": link.from, "server": link.server,
        "since": link.since, "account": link.account,
    })
}

fn tell(looked: &Looked, now: Timestamp, with: &mut Surroundings<'_>) -> io::Result<()> {
    let columns = ["GATEWAY", "STATE", "SINCE", "FROM", "SERVER", "SERIAL"];
    let columns = columns.map(|name| (name, Align::Left)).into_iter();
    let numbers = ["CERT DAYS", "BACKLOG", "WATERMARK AGE", "JOURNALS"];
    let columns: Vec<_> = columns.chain(numbers.map(|name| (name, Align::Right))).collect();
    let mut table = Table::new(&columns);
    for row in &looked.roll.rows {
        table.row(cells(row, now));
    }
    table.write(with.out, 0, with.colour)?;
    if looked.roll.rows.is_empty() {
        writeln!(with.out, "nobody is admitted; tidegate hub admit PLANT/NAME lets a gateway in")?;
    }
    for link in &looked.roll.strangers {
        let user = super::super::terminal::tame(&link.user);
        writeln!(
            with.err,
            "warning: {user} is connected from {} to {} and not in hub.toml",
            link.from, link.server
        )?;
    }
    for server in &looked.silent {
        writeln!(with.err, "warning: {server} does not answer; whom it holds is not known")?;
    }
    for note in &looked.notes {
        writeln!(with.err, "warning: {note}")?;
    }
    Ok(())
}

fn cells(row: &Row, now: Timestamp) -> Vec<(String, Tone)> {
    let plain = |text: String| (text, Tone::Plain);
    let dash = || ("–".to_owned(), Tone::Faint);
    let tone = match row.presence {
        Presence::Connected => Tone::Good,
        Presence::Partly => Tone::Caution,
        Presence::Absent | Presence::NeverSeen => Tone::Wrong,
    };
    let list = |texts: &[String]| match texts {
        [] => dash(),
        texts => plain(texts.join(" ")),
    };
    let since = row.since.map(|since| {
        let since = now.duration_since(since);
        age(since.try_into().unwrap_or_default())
    });
    let seconds =
        |seconds: f64| age(std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default());
    let days = row.days_left.map(|days| {
        let tone = if days < 7.0 { Tone::Wrong } else { Tone::Plain };
        (format!("{days:.1}"), tone)
    });
    vec![
        plain(row.gateway.to_string()),
        (row.presence.word().to_owned(), tone),
        since.map_or_else(dash, plain),
        list(&row.from),
        list(&row.servers),
        match &row.serial {
            None => dash(),
            Some(serial) if row.is_revoked => (format!("{serial} revoked"), Tone::Wrong),
            Some(serial) => plain(serial.clone()),
        },
        days.unwrap_or_else(dash),
        row.backlog_frames.map_or_else(dash, |frames| plain(frames.to_string())),
        row.watermark_age_s.map_or_else(dash, |age| plain(seconds(age))),
        plain(row.journals.to_string()),
    ]
}

/// Asks servers and streams. What a stream does not say is noted, and the rest is shown.
pub(super) async fn look(
    reach: &Reach<'_>,
    system: &System,
    now: Timestamp,
) -> Result<Looked, Failure> {
    let links = system.connections(&reach.nodes(), Which::Open, None).await?;
    let mut notes = Vec::new();
    let (heads, values) = match reach.reader().await {
        Ok(client) => {
            let heads = heads(reach, &client, &mut notes).await;
            (heads, values(reach, &client).await)
        }
        Err(failure) => {
            notes.push(format!("watermarks are not known: {failure}"));
            (HashMap::new(), Values::new())
        }
    };
    let mut roll = roll_call(reach.file(), &reach.users()?, &links.answers, &heads, &values, now);
    match reach.signed() {
        Ok(signed) => roll.add_certificates(&signed, now),
        Err(failure) => notes.push(format!("certificates are not known: {failure}")),
    }
    Ok(Looked { roll, silent: links.silent, notes })
}

pub(super) async fn heads(
    reach: &Reach<'_>,
    client: &async_nats::Client,
    notes: &mut Vec<String>,
) -> HashMap<GatewayId, Head> {
    let mut heads = HashMap::new();
    for stream in &reach.file().streams {
        let own = reach.file().gateways.iter().map(|gateway| &gateway.id);
        let filters: Vec<_> = own.filter(|id| stream.takes.holds(id)).map(head_filter).collect();
        match last_of(client, &stream.name, &filters).await {
            Ok(found) => heads.extend(heads_of(&found)),
            Err(error) => notes.push(chain(&error)),
        }
    }
    heads
}

/// What gateways said of themselves last, one question each.
async fn values(reach: &Reach<'_>, client: &async_nats::Client) -> Values {
    if reach.file().hub.last_values.is_none() {
        return Values::new();
    }
    let own = reach.file().gateways.iter();
    let subjects = own.flat_map(|gateway| health_subjects(&gateway.id));
    let asked = subjects.map(async |subject| {
        let asked = client.request(format!("tidelast.{subject}"), "".into());
        let answer = tokio::time::timeout(DEADLINE, asked).await.ok()?.ok()?;
        // Whoever never said anything has no last value.
        Some((subject, value_of(&answer.payload)?))
    });
    let answers = futures_util::stream::iter(asked).buffer_unordered(ASKED_AT_ONCE);
    answers.filter_map(std::future::ready).collect().await
}

async fn last_of(
    client: &async_nats::Client,
    stream: &Name,
    filters: &[String],
) -> Result<Vec<Stored>, ReadError> {
    if filters.is_empty() {
        return Ok(Vec::new());
    }
    let reader = RecordReader::open(client.clone(), stream.clone(), DEADLINE).await?;
    let mut all = Vec::new();
    for some in filters.chunks(AT_ONCE) {
        all.extend(reader.last_of(some).await?);
    }
    Ok(all)
}
