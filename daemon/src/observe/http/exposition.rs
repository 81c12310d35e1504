//! The metrics: every counter, every device, every part, as OpenMetrics text.
//!
//! # Invariants
//! - Names, labels and units are an interface: `tidegate_…`, base units, one label per dimension.
//! - The number of series is bounded by the configuration; no label comes from a wire.
//! - What is not known has no series, instead of a zero that means something else.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use tidegate_translator::DeviceState;

use crate::observe::state::{Board, HealthLimits, PartState, StatusReport};

/// The content type of the text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics as they stand now.
///
/// # Errors
/// Never in practice: the text goes to memory.
pub fn exposition(board: &Board, limits: &HealthLimits) -> Result<String, fmt::Error> {
    let status = board.report(limits);
    let counters = board.counters.read().into_iter();
    let counters = counters.map(|c| (c.name, c.help, c.value)).collect();
    let mut registry = Registry::with_prefix("tidegate");
    registry.register_collector(Box::new(Snapshot { status, counters }));
    let mut text = String::with_capacity(16 * 1024);
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Snapshot {
    status: StatusReport,
    counters: Vec<(&'static str, &'static str, u64)>,
}

type Labels<'a> = Vec<(&'static str, &'a str)>;

struct Out<'e, 'w>(&'e mut DescriptorEncoder<'w>);

impl Out<'_, '_> {
    fn gauges<'a>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        rows: impl IntoIterator<Item = (Labels<'a>, f64)>,
    ) -> fmt::Result {
        let help = format!("{help}.");
        let mut family = self.0.encode_descriptor(name, &help, unit.as_ref(), MetricType::Gauge)?;
        for (labels, value) in rows {
            if labels.is_empty() {
                family.encode_gauge(&value)?;
            } else {
                family.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }

    fn gauge(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        value: Option<f64>,
    ) -> fmt::Result {
        self.gauges(name, help, unit, value.map(|value| (Labels::new(), value)))
    }

    fn counters<'a>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        rows: impl IntoIterator<Item = (Labels<'a>, u64)>,
    ) -> fmt::Result {
        let help = format!("{help}.");
        let mut family =
            self.0.encode_descriptor(name, &help, unit.as_ref(), MetricType::Counter)?;
        for (labels, value) in rows {
            if labels.is_empty() {
                family.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
            } else {
                let mut series = family.encode_family(&labels)?;
                series.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
            }
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "metrics are doubles")]
const fn number(value: u64) -> f64 {
    value as f64
}

fn seconds(millis: u64) -> f64 {
    number(millis) / 1000.0
}

const fn flag(value: bool) -> f64 {
    if value { 1.0 } else { 0.0 }
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let out = &mut Out(&mut encoder);
        self.gateway(out)?;
        self.devices(out)?;
        self.delivery(out)?;
        self.journal(out)?;
        for (name, help, value) in &self.counters {
            out.counters(name, help, None, [(Labels::new(), *value)])?;
        }
        Ok(())
    }
}

impl Snapshot {
    fn gateway(&self, out: &mut Out<'_, '_>) -> fmt::Result {
        let s = &self.status;
        let labels = vec![("gateway", s.gateway.as_str()), ("version", s.version.as_str())];
        out.gauges("build", "Which gateway and version this is; always 1", None, [(labels, 1.0)])?;
        let uptime = Some(number(s.uptime_seconds));
        out.gauge("uptime", "Time since the daemon started", Some(Unit::Seconds), uptime)?;
        let parts = s.health.parts.iter();
        let parts =
            parts.map(|p| (vec![("part", p.part.as_str())], flag(p.state != PartState::Down)));
        out.gauges("part_up", "Whether a part does its job", None, parts)?;
        let tags = [("good", s.tags.good), ("uncertain", s.tags.uncertain), ("bad", s.tags.bad)];
        let tags =
            tags.map(|(q, n)| (vec![("quality", q)], number(u64::try_from(n).unwrap_or(u64::MAX))));
        out.gauges("tags", "Configured tags by present quality", None, tags)?;
        let alarms = s.alarms.iter().map(|a| (vec![("kind", a.kind.as_str())], 1.0));
        out.gauges("alarm", "Alarms that are raised; always 1", None, alarms)?;
        let now = s.now;
        let certificates = s.certificates.iter();
        let certificates =
            certificates.map(|c| (vec![("role", c.role.as_str())], c.days_left(now) * 86_400.0));
        let help = "Time until a certificate expires; negative once it has";
        out.gauges("certificate_expires_in", help, Some(Unit::Seconds), certificates)
    }

    fn devices(&self, out: &mut Out<'_, '_>) -> fmt::Result {
        let devices = &self.status.devices;
        let label = |name| vec![("device", name)];
        let rows = devices.iter().map(|d| {
            let answers = matches!(d.state, DeviceState::Live | DeviceState::Degraded);
            (label(d.name.as_str()), flag(answers))
        });
        out.gauges("device_up", "Whether a device answers, by its driver", None, rows)?;
        let rows = devices
            .iter()
            .map(|d| (vec![("device", d.name.as_str()), ("state", d.state.word())], 1.0));
        out.gauges("device_state", "What a device's driver says of it; always 1", None, rows)?;
        let rows = devices.iter();
        let rows = rows.filter_map(|d| Some((label(d.name.as_str()), seconds(d.data_age_ms?))));
        let help = "Time since a device's last usable value";
        out.gauges("device_data_age", help, Some(Unit::Seconds), rows)?;
        let rows = devices.iter().flat_map(|d| {
            d.missed.iter().map(|(cause, missed)| {
                (vec![("device", d.name.as_str()), ("cause", cause.word())], missed.slots)
            })
        });
        let help = "Samples that were due and never captured; each is in a loss record";
        out.counters("device_missed_samples", help, None, rows)?;
        let rows = devices.iter().map(|d| (label(d.name.as_str()), d.restarts));
        out.counters("device_driver_restarts", "Restarts of a device's driver", None, rows)
    }

    fn delivery(&self, out: &mut Out<'_, '_>) -> fmt::Result {
        let (link, up) = (&self.status.link, &self.status.uplink);
        out.gauge(
            "leaf_up",
            "Whether the local server is reached",
            None,
            Some(flag(link.leaf_up)),
        )?;
        let help = "Whether the local server is connected to the hub";
        out.gauge("link_up", help, None, link.configured.then_some(flag(link.hub_up)))?;
        let trip = link.round_trip_ms.map(|ms| ms / 1000.0);
        out.gauge("link_round_trip", "Round trip to the hub", Some(Unit::Seconds), trip)?;
        let state = [(vec![("state", up.state.word())], 1.0)];
        out.gauges("uplink_state", "What the delivery is doing; always 1", None, state)?;
        let frames = Some(number(up.backlog_frames));
        out.gauge("uplink_backlog_frames", "Frames not yet acknowledged", None, frames)?;
        let samples = Some(number(up.backlog_samples));
        out.gauge("uplink_backlog_samples", "Samples not yet acknowledged", None, samples)?;
        let bytes = Some(number(up.backlog_bytes));
        out.gauge("uplink_backlog", "Bytes not yet acknowledged", Some(Unit::Bytes), bytes)?;
        let help = "Time that the backlog spans";
        out.gauge("uplink_backlog", help, Some(Unit::Seconds), up.backlog_seconds)?;
        let help = "Expected time until the backlog is delivered";
        out.gauge("uplink_drain", help, Some(Unit::Seconds), up.drain_seconds)?;
        let age = up.ack_age_ms.map(seconds);
        let help = "Time since the hub's last acknowledgement";
        out.gauge("uplink_ack_age", help, Some(Unit::Seconds), age)?;
        let seq = Some(number(up.acknowledged_seq));
        out.gauge("uplink_acknowledged_seq", "Sequence after the last delivered sample", None, seq)
    }

    fn journal(&self, out: &mut Out<'_, '_>) -> fmt::Result {
        let j = &self.status.journal;
        let help = "Whether the journal takes frames";
        out.gauge("journal_writable", help, None, Some(flag(j.writable)))?;
        let bytes = |n| Some(number(n));
        out.gauge("journal", "Bytes used", Some(Unit::Bytes), bytes(j.bytes))?;
        out.gauge("journal_max", "Bytes it may use", Some(Unit::Bytes), bytes(j.max_bytes))?;
        out.gauge("journal_segments", "Segment files", None, bytes(j.segments))?;
        let help = "Bytes used by sidecars of segments";
        out.gauge("journal_sidecar", help, Some(Unit::Bytes), bytes(j.sidecar_bytes))?;
        let help = "Sequence after the last durable sample";
        out.gauge("journal_durable_seq", help, None, bytes(j.durable_seq))?;
        let failures = [(Labels::new(), j.sidecar_failures)];
        let help = "Sidecars not written or found damaged";
        out.counters("journal_sidecar_failures", help, None, failures)?;
        let written = [(Labels::new(), j.written_bytes)];
        out.counters("journal_written", "Bytes written", Some(Unit::Bytes), written)?;
        let commit = j.commit_ms.map(|ms| ms / 1000.0);
        out.gauge("journal_commit", "Time of the last commit", Some(Unit::Seconds), commit)?;
        let slowest = j.slowest_commit_ms.map(|ms| ms / 1000.0);
        let help = "Time of the slowest commit of the last minute";
        out.gauge("journal_commit_slowest", help, Some(Unit::Seconds), slowest)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tidegate_translator::{LossCause, Missed, Sample, TagId, Timestamp, Value};

    use super::*;
    use crate::observe::state::CertificateStatus;
    use crate::observe::state::tests::board;

    fn text(board: &Board) -> String {
        exposition(board, &HealthLimits::default()).unwrap()
    }

    fn has(text: &str, line: &str) {
        assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn devices_parts_and_counters_have_their_series_with_units() {
        let board = board();
        board.note_samples(&[Sample::good(TagId(1), Timestamp(0), Value::Bool(true))]);
        board.note_missed(&Missed {
            device: "press-1".into(),
            tag: None,
            cause: LossCause::DeviceSilent,
            from: Timestamp(0),
            to: Timestamp(0),
            count: Some(4),
        });
        board.note_device("press-2", DeviceState::ConfigurationError, Some("x".into()));
        board.note_acknowledged(7);
        board.update_journal(|journal| journal.bytes = 4096);
        board.raise("journal-full", "");
        tokio::time::advance(std::time::Duration::from_millis(1500)).await;
        let text = text(&board);
        has(&text, r#"tidegate_device_data_age_seconds{device="press-1"} 1.5"#);
        has(
            &text,
            r#"tidegate_device_missed_samples_total{device="press-1",cause="device-silent"} 4"#,
        );
        has(&text, r#"tidegate_device_up{device="press-2"} 0.0"#);
        has(&text, r#"tidegate_device_state{device="press-2",state="configuration-error"} 1.0"#);
        has(&text, r#"tidegate_device_state{device="press-1",state="connecting"} 1.0"#);
        has(&text, "tidegate_uplink_ack_age_seconds 1.5");
        has(&text, "tidegate_journal_bytes 4096.0");
        has(&text, "# UNIT tidegate_journal_bytes bytes");
        has(&text, "tidegate_samples_acquired_total 1");
        has(&text, "tidegate_live_overflow_total 0");
        has(&text, r#"tidegate_part_up{part="journal"} 0.0"#);
        has(&text, r#"tidegate_tags{quality="good"} 1.0"#);
        has(&text, r#"tidegate_alarm{kind="journal-full"} 1.0"#);
        assert!(!text.contains("device_data_age_seconds{device=\"press-2\""));
    }

    #[tokio::test(start_paused = true)]
    async fn the_text_is_well_formed() {
        let board = board();
        board.set_certificates(vec![CertificateStatus {
            role: "a \"quoted\\\nrole".into(),
            subject: String::new(),
            not_after: Timestamp::from_millis(86_400_000),
        }]);
        let text = text(&board);
        has(&text, r#"tidegate_certificate_expires_in_seconds{role="a \"quoted\\\nrole"} 86400.0"#);
        assert!(text.ends_with("# EOF\n"));
        let mut families = BTreeSet::new();
        let mut family = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                family = rest.split(' ').next().unwrap().to_owned();
                assert!(families.insert(family.clone()), "{family} twice");
            } else if !line.starts_with('#') {
                assert!(line.starts_with(&family), "{line} outside of its family");
                let value = line.rsplit(' ').next().unwrap();
                assert!(value.parse::<f64>().is_ok(), "{line}");
            }
        }
    }
}
