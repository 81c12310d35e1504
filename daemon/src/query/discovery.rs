//! The micro-service protocol of NATS's own clients (ADR-32): who is there, what it answers, and how
//! it has been doing.

use serde_json::{Value, json};
use tidegate_query::Op;
use tidegate_record::Moment;

use crate::names::GatewayId;

/// The name under which every gateway is found.
const NAME: &str = "tidegate";

/// How one operation has been doing.
#[derive(Debug, Clone, Default)]
struct Usage {
    requests: u64,
    errors: u64,
    last_error: String,
    nanos: u64,
}

/// What discovery tells.
#[derive(Debug)]
pub(super) struct Presence {
    id: String,
    gateway: GatewayId,
    started: i64,
    usage: [Usage; Op::ALL.len()],
}

impl Presence {
    /// `id` is another one for each process.
    pub(super) fn new(id: String, gateway: GatewayId, started: i64) -> Self {
        Self { id, gateway, started, usage: Default::default() }
    }

    /// Counts an answer.
    pub(super) fn count(&mut self, op: Op, nanos: u64, error: Option<&str>) {
        let place = Op::ALL.iter().position(|known| *known == op);
        let Some(usage) = place.and_then(|place| self.usage.get_mut(place)) else { return };
        usage.requests += 1;
        usage.nanos = usage.nanos.saturating_add(nanos);
        if let Some(error) = error {
            usage.errors += 1;
            usage.last_error = error.to_owned();
        }
    }

    /// The answer to a subject below `$SRV`; `None` when others are meant.
    pub(super) fn answer(&self, subject: &str) -> Option<Value> {
        let mut tokens = subject.strip_prefix("$SRV.")?.split('.');
        let verb = tokens.next()?;
        let is_us = tokens.next().is_none_or(|name| name.eq_ignore_ascii_case(NAME))
            && tokens.next().is_none_or(|id| id == self.id)
            && tokens.next().is_none();
        if !is_us {
            return None;
        }
        match verb {
            "PING" => Some(self.of("ping")),
            "INFO" => Some(self.info()),
            "STATS" => Some(self.stats()),
            _ => None,
        }
    }

    fn of(&self, kind: &str) -> Value {
        json!({
            "type": format!("io.nats.micro.v1.{kind}_response"),
            "name": NAME,
            "id": self.id,
            "version": env!("CARGO_PKG_VERSION"),
            "metadata": {
                "gateway": self.gateway.to_string(),
                "plant": self.gateway.plant.as_str(),
                "protocol": tidegate_query::VERSION.to_string(),
            },
        })
    }

    fn subject(&self, op: Op) -> String {
        let GatewayId { plant, name } = &self.gateway;
        format!("tide.{plant}.{name}.q.{}", op.token())
    }

    fn info(&self) -> Value {
        let endpoint = |op: Op| {
            json!({
                "name": op.token(), "subject": self.subject(op), "queue_group": "", "metadata": {},
            })
        };
        let mut info = self.of("info");
        info["description"] = "Answers questions about what this gateway has read.".into();
        info["endpoints"] = Op::ALL.into_iter().map(endpoint).collect();
        info
    }

    fn stats(&self) -> Value {
        let endpoint = |(op, usage): (Op, &Usage)| {
            json!({
                "name": op.token(), "subject": self.subject(op), "queue_group": "",
                "num_requests": usage.requests, "num_errors": usage.errors,
                "last_error": usage.last_error, "processing_time": usage.nanos,
                "average_processing_time": usage.nanos.checked_div(usage.requests).unwrap_or(0),
            })
        };
        let mut stats = self.of("stats");
        stats["started"] = Moment(self.started).rfc3339().into();
        stats["endpoints"] = Op::ALL.into_iter().zip(&self.usage).map(endpoint).collect();
        stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_looked_for_by_verb_name_and_identity_answers_and_nobody_else() {
        let mut presence = Presence::new("i1".into(), "P/g".parse().unwrap(), 0);
        presence.count(Op::History, 10, None);
        presence.count(Op::History, 30, Some("busy"));
        for subject in ["$SRV.PING", "$SRV.PING.tidegate", "$SRV.PING.tidegate.i1"] {
            let pong = presence.answer(subject).unwrap();
            assert_eq!(pong["type"], "io.nats.micro.v1.ping_response");
            assert_eq!((&pong["id"], &pong["metadata"]["gateway"]), (&"i1".into(), &"P/g".into()));
        }
        for subject in [
            "$SRV.PING.other",
            "$SRV.PING.tidegate.i2",
            "$SRV.X",
            "$SRV",
            "$SRV.PING.tidegate.i1.x",
        ] {
            assert_eq!(presence.answer(subject), None, "{subject}");
        }
        let info = presence.answer("$SRV.INFO").unwrap();
        assert_eq!(info["endpoints"][0]["subject"], "tide.P.g.q.tags");
        let stats = presence.answer("$SRV.STATS.tidegate").unwrap();
        let history = &stats["endpoints"][3];
        assert_eq!((&history["num_requests"], &history["num_errors"]), (&2.into(), &1.into()));
        assert_eq!(
            (&history["average_processing_time"], &history["last_error"]),
            (&20.into(), &"busy".into())
        );
    }
}
