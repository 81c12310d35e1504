//! What the tools take. The descriptions are the tools' documentation: an agent reads nothing else.

use std::time::Duration;

use rmcp::schemars;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::desk::Inquiry;
use tidegate_query::Op;

/// Rows when the agent sets no limit, and the most that it gets: a model reads every one of them.
const ROWS: (usize, usize) = (100, 1000);

/// Agents give up on a tool after about a minute.
const WITHIN: Duration = Duration::from_secs(30);

/// Which tags to find.
#[derive(Debug, Default, Deserialize, schemars::JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
#[serde(deny_unknown_fields)]
pub(super) struct FindTags {
    /// A path (meaning it and all below) or a pattern: `*` within one level, `**` over any, such as
    /// `PlantA/Line3/**` or `**/temperature`. All tags without it.
    pub(super) pattern: Option<String>,
    /// Only tags with this text in path, unit, device or address, whatever the case.
    pub(super) search: Option<String>,
    /// At most this many rows (100 without it, 1000 at most).
    pub(super) limit: Option<usize>,
}

/// Whose latest values.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
#[serde(deny_unknown_fields)]
pub(super) struct Latest {
    /// Paths or patterns with `*` and `**`, as `find_tags` gives them.
    pub(super) tags: Vec<String>,
    /// At most this many rows (100 without it, 1000 at most).
    pub(super) limit: Option<usize>,
}

/// What to read from the devices now.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
#[serde(deny_unknown_fields)]
pub(super) struct ReadNow {
    /// Paths or narrow patterns: every tag costs the device a request.
    pub(super) tags: Vec<String>,
    /// How long the devices may take, in seconds (5 without it, 30 at most).
    #[schemars(range(min = 1, max = 30))]
    pub(super) timeout_s: Option<u64>,
}

/// What to take from the record.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryOf {
    /// Paths or patterns with `*` and `**`.
    pub(super) tags: Vec<String>,
    /// The beginning: `-12h`, `-30m`, `-7d`, or RFC 3339 with its zone (2026-09-21T06:00:00+02:00).
    /// Needed unless `at` is given.
    pub(super) from: Option<String>,
    /// The end (not included), in the same forms; the present without it.
    pub(super) to: Option<String>,
    /// Instead of a range: the last value of each tag at or before this moment.
    pub(super) at: Option<String>,
    /// The step of buckets, such as `5m` or `1h`. Choose it so that range ÷ step × tags stays under
    /// the limit; without it every single sample is a row.
    pub(super) every: Option<String>,
    /// What each bucket tells: any of min, max, avg, last, count. The first four without it.
    #[schemars(with = "Option<Vec<Aggregated>>")]
    pub(super) aggregates: Option<Vec<String>>,
    /// At most this many rows (100 without it, 1000 at most).
    pub(super) limit: Option<usize>,
}

/// For the schema alone: the gateway checks the words and says which there are.
#[derive(schemars::JsonSchema)]
#[schemars(crate = "rmcp::schemars", rename_all = "kebab-case")]
#[expect(dead_code, reason = "read by the schema's generator")]
enum Aggregated {
    Min,
    Max,
    Avg,
    Last,
    Count,
}

/// Which losses.
#[derive(Debug, Default, Deserialize, schemars::JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
#[serde(deny_unknown_fields)]
pub(super) struct LossesOf {
    /// Only what concerns these paths or patterns; everything without it.
    pub(super) tags: Option<Vec<String>>,
    /// The beginning, as in `history`; the oldest that is kept without it.
    pub(super) from: Option<String>,
    /// The end; the present without it.
    pub(super) to: Option<String>,
    /// At most this many rows (100 without it, 1000 at most).
    pub(super) limit: Option<usize>,
}

/// Whose devices.
#[derive(Debug, Default, Deserialize, schemars::JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
#[serde(deny_unknown_fields)]
pub(super) struct DevicesOf {
    /// Only this gateway, `PLANT/NAME`; every gateway that can be asked without it.
    pub(super) gateway: Option<String>,
}

/// Whose record.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
#[serde(deny_unknown_fields)]
pub(super) struct ProveOf {
    /// The gateway, `PLANT/NAME`, as the rows of other tools name it.
    pub(super) gateway: String,
}

fn rows(limit: Option<usize>) -> usize {
    limit.unwrap_or(ROWS.0).clamp(1, ROWS.1)
}

/// Fields of a question; what was not given is left out.
fn fields(pairs: impl IntoIterator<Item = (&'static str, Value)>) -> Map<String, Value> {
    let given = pairs.into_iter().filter(|(_, value)| !value.is_null());
    given.map(|(key, value)| (key.to_owned(), value)).collect()
}

impl From<FindTags> for Inquiry {
    fn from(wish: FindTags) -> Self {
        let (limit, tags) = (rows(wish.limit), Vec::from_iter(wish.pattern));
        let wish = fields([
            ("tags", json!(tags)),
            ("search", json!(wish.search)),
            ("limit", json!(limit)),
        ]);
        Self { op: Op::Tags, wish, tags, gateway: None, limit, within: WITHIN }
    }
}

impl From<Latest> for Inquiry {
    fn from(wish: Latest) -> Self {
        let limit = rows(wish.limit);
        let fields = fields([("tags", json!(wish.tags)), ("limit", json!(limit))]);
        Self { op: Op::Latest, wish: fields, tags: wish.tags, gateway: None, limit, within: WITHIN }
    }
}

impl From<ReadNow> for Inquiry {
    fn from(wish: ReadNow) -> Self {
        let within = Duration::from_secs(wish.timeout_s.unwrap_or(5).clamp(1, 30));
        let fields = fields([("tags", json!(wish.tags))]);
        Self { op: Op::Read, wish: fields, tags: wish.tags, gateway: None, limit: ROWS.1, within }
    }
}

impl From<HistoryOf> for Inquiry {
    fn from(wish: HistoryOf) -> Self {
        let limit = rows(wish.limit);
        let fields = fields([
            ("tags", json!(wish.tags)),
            ("from", json!(wish.from)),
            ("to", json!(wish.to)),
            ("at", json!(wish.at)),
            ("every", json!(wish.every)),
            ("agg", json!(wish.aggregates)),
            ("limit", json!(limit)),
        ]);
        Self {
            op: Op::History,
            wish: fields,
            tags: wish.tags,
            gateway: None,
            limit,
            within: WITHIN,
        }
    }
}

impl From<LossesOf> for Inquiry {
    fn from(wish: LossesOf) -> Self {
        let (limit, tags) = (rows(wish.limit), wish.tags.unwrap_or_default());
        let fields = fields([
            ("tags", json!(tags)),
            ("from", json!(wish.from)),
            ("to", json!(wish.to)),
            ("limit", json!(limit)),
        ]);
        Self { op: Op::Losses, wish: fields, tags, gateway: None, limit, within: WITHIN }
    }
}

impl From<DevicesOf> for Inquiry {
    fn from(wish: DevicesOf) -> Self {
        let DevicesOf { gateway } = wish;
        let (wish, tags) = (Map::new(), Vec::new());
        Self { op: Op::Devices, wish, tags, gateway, limit: ROWS.1, within: WITHIN }
    }
}

impl ProveOf {
    /// The gateway's own side.
    pub(super) fn own_side(gateway: String) -> Inquiry {
        let (wish, tags) = (Map::new(), Vec::new());
        let gateway = Some(gateway);
        Inquiry { op: Op::Prove, wish, tags, gateway, limit: ROWS.1, within: WITHIN }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_query::parse;

    use super::*;

    #[test]
    fn every_wish_becomes_a_question_that_a_gateway_reads() {
        let tags = || vec!["P/**".to_owned()];
        let inquiries: [Inquiry; 6] = [
            FindTags::default().into(),
            Latest { tags: tags(), limit: None }.into(),
            ReadNow { tags: tags(), timeout_s: Some(3) }.into(),
            HistoryOf {
                tags: tags(),
                from: Some("-1h".into()),
                to: None,
                at: None,
                every: Some("5m".into()),
                aggregates: Some(vec!["avg".into()]),
                limit: Some(5000),
            }
            .into(),
            LossesOf::default().into(),
            DevicesOf::default().into(),
        ];
        for inquiry in inquiries {
            let bytes = serde_json::to_vec(&inquiry.wish).unwrap();
            parse(inquiry.op, &bytes).unwrap();
            assert!(inquiry.limit <= ROWS.1);
        }
    }
}
