//! What a configuration will cost, estimated: requests, samples, disk, network.
//!
//! The figures rest on measurements of 100-tag scans with mixed signals; real signals pack better
//! or worse. Whoever prints them says that they are estimates.

use std::time::Duration;

use serde::Serialize;

use tidegate_opcua::Collect;

use super::polls::{Group, publications};
use super::{Config, Device};

/// Bytes per sample by samples per frame, columns with LZ4 (plain postcard for one): measured.
/// Larger frames pack better still; the estimate stays on the safe side.
const BYTES_PER_SAMPLE: [(f64, f64); 3] = [(1.0, 20.6), (10.0, 8.5), (100.0, 5.5)];
/// Envelope and header of a frame: names, epoch, boot id, hash, times.
const FRAME_OVERHEAD: f64 = 150.0;
/// The largest frame.
const MAX_FRAME: f64 = 65_536.0;
/// What one commit costs at the block device beyond its bytes: the block that is written twice.
const BLOCK: f64 = 4096.0;
/// Below this much per commit the journal waits longer, up to [`LONGEST_COMMIT`].
const LITTLE: f64 = 4096.0;
/// The longest wait for a commit while there is little to write.
const LONGEST_COMMIT: Duration = Duration::from_secs(5);
/// Subject, headers, acknowledgement, TLS and TCP/IP of one message.
const MESSAGE_OVERHEAD: f64 = 600.0;
/// Seconds.
const DAY: f64 = 86_400.0;

/// What a configuration will cost. All numbers are estimates.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// Requests to all polled devices per second.
    pub requests_per_s: f64,
    /// Readings of all polled tags per second. Tags recorded on change count in full.
    pub samples_per_s: f64,
    /// By how much the record grows per day, in bytes.
    pub journal_bytes_per_day: f64,
    /// What reaches the disk per day, in bytes: the journal and the blocks that commits rewrite.
    pub disk_bytes_per_day: f64,
    /// What crosses the network to the hub per day, in bytes; `None` without a hub. Live values
    /// are not in it: they cross only where somebody subscribes.
    pub wan_bytes_per_day: Option<f64>,
    /// How many days of record the journal holds.
    pub buffer_days: Option<f64>,
    /// What is in none of these figures; `None` when everything is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_change: Option<OnChange>,
}

/// What a server sends when it changes, and how often that is only the server knows.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct OnChange {
    /// Single tags that are sent when they change.
    pub tags: usize,
    /// Subtrees, whose tags only the server knows.
    pub subtrees: usize,
    /// Readings per second, were each of the single tags to change between all samples.
    pub samples_per_s_at_most: f64,
    /// By how much the record would then grow beyond the figures, per day, in bytes.
    pub journal_bytes_per_day_at_most: f64,
}

/// Estimates; `groups` are what is read together, of all devices.
#[must_use]
pub fn estimate(config: &Config, groups: &[Vec<Group>]) -> Estimate {
    let (mut requests_per_s, mut samples_per_s, mut polls_per_s) = (0.0, 0.0, 0.0);
    for group in groups.iter().flatten() {
        let polls = per_s(group.every);
        polls_per_s += polls;
        samples_per_s += polls * number(group.tags);
        requests_per_s += group.requests_per_s();
    }
    let mut on_change = OnChange::default();
    for spec in config.devices.iter().filter_map(Device::opcua) {
        for part in publications(spec) {
            let looks = per_s(part.sample_every);
            on_change.subtrees += part.subtrees;
            if spec.collect == Collect::Subscribe {
                on_change.tags += part.tags;
                on_change.samples_per_s_at_most += looks * number(part.tags);
            } else if part.tags > 0 {
                let most = usize::try_from(spec.max_items).unwrap_or(usize::MAX).max(1);
                polls_per_s += looks;
                samples_per_s += looks * number(part.tags);
                requests_per_s += looks * number(part.tags.div_ceil(most));
            }
        }
    }
    let (commits, bytes) = record(config, polls_per_s, samples_per_s);
    let journal = commits * bytes;
    // Nobody sends a change in a message of its own more often than it is looked at.
    let (most_commits, most_bytes) = record(
        config,
        polls_per_s + on_change.samples_per_s_at_most,
        samples_per_s + on_change.samples_per_s_at_most,
    );
    on_change.journal_bytes_per_day_at_most = (most_commits * most_bytes - journal) * DAY;
    let messages = per_s(config.uplink.send_every)
        .min(commits)
        .max(journal / number(config.uplink.max_message).max(1.0));
    let journal_bytes_per_day = journal * DAY;
    Estimate {
        requests_per_s,
        samples_per_s,
        journal_bytes_per_day,
        disk_bytes_per_day: (journal + commits * BLOCK) * DAY,
        wan_bytes_per_day: config
            .hub
            .as_ref()
            .map(|_| (journal + messages * MESSAGE_OVERHEAD) * DAY),
        buffer_days: (journal > 0.0)
            .then(|| size(config.journal.max_bytes) / journal_bytes_per_day),
        on_change: (on_change.tags + on_change.subtrees > 0).then_some(on_change),
    }
}

/// Commits per second, and what one of them writes into the journal.
fn record(config: &Config, polls_per_s: f64, samples_per_s: f64) -> (f64, f64) {
    let with = |commit_every: Duration| {
        // Nothing is committed while nothing was read.
        let commits = per_s(commit_every).min(polls_per_s);
        let samples = if commits > 0.0 { samples_per_s / commits } else { 0.0 };
        let body = samples * bytes_per_sample(samples);
        let frames = (body / MAX_FRAME).ceil();
        (commits, body + frames * FRAME_OVERHEAD)
    };
    let usual = with(config.journal.commit_every);
    if usual.1 < LITTLE { with(config.journal.commit_every.max(LONGEST_COMMIT)) } else { usual }
}

fn per_s(every: Duration) -> f64 {
    1.0 / every.as_secs_f64().max(0.001)
}

/// Between the measured points on a logarithmic scale.
fn bytes_per_sample(samples: f64) -> f64 {
    let [(_, first), .., (_, last)] = BYTES_PER_SAMPLE;
    for pair in BYTES_PER_SAMPLE.windows(2) {
        if let &[(n0, b0), (n1, b1)] = pair
            && samples <= n1
        {
            let share = (samples.max(n0) / n0).log10() / (n1 / n0).log10();
            return b0 + (b1 - b0) * share;
        }
    }
    if samples <= 1.0 { first } else { last }
}

#[expect(clippy::cast_precision_loss, reason = "an estimate needs no 53 bits")]
const fn number(n: usize) -> f64 {
    n as f64
}

#[expect(clippy::cast_precision_loss, reason = "an estimate needs no 53 bits")]
const fn size(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::path::Path;

    use super::*;

    fn config(tags: usize, poll_every_ms: u32) -> Config {
        let mut text = format!(
            "[gateway]\nplant = \"P\"\nname = \"g\"\n[hub]\nurls = [\"nats://127.0.0.1\"]\n\
             [[device]]\nname = \"d\"\nprotocol = \"modbus-tcp\"\naddress = \"h\"\n\
             poll-every-ms = {poll_every_ms}\n"
        );
        for i in 0..tags {
            let _ = write!(text, "[[device.tag]]\npath = \"t{i}\"\naddress = \"holding:{i}\"\n");
        }
        crate::config::parse(Path::new("x.toml"), &text, Vec::new(), &[]).unwrap()
    }

    fn polls(every_ms: u64, tags: usize, requests: usize) -> Vec<Vec<Group>> {
        let plan = vec![(tidegate_modbus::Table::HoldingRegister, 0, 1); requests];
        vec![vec![Group { every: Duration::from_millis(every_ms), tags, plan }]]
    }

    fn close(found: f64, expected: f64) -> bool {
        (found / expected - 1.0).abs() < 0.01
    }

    #[test]
    fn five_thousand_tags_a_second_cost_what_was_measured() {
        let found = estimate(&config(5000, 1000), &polls(1000, 5000, 40));
        assert!(close(found.requests_per_s, 40.0), "{found:?}");
        assert!(close(found.samples_per_s, 5000.0), "{found:?}");
        assert!(close(found.journal_bytes_per_day, (27_500.0 + 150.0) * DAY), "{found:?}");
        // 27.5 kB per commit were measured at 1.15 times their size at the device.
        let ratio = found.disk_bytes_per_day / found.journal_bytes_per_day;
        assert!((1.1..1.2).contains(&ratio), "{ratio}");
        let wan = found.wan_bytes_per_day.unwrap() / found.journal_bytes_per_day;
        assert!((1.0..1.05).contains(&wan), "{wan}");
        assert!(close(found.buffer_days.unwrap(), 3.596), "{found:?}");
    }

    #[test]
    fn one_slow_tag_costs_a_frame_for_each_reading() {
        let found = estimate(&config(1, 60_000), &polls(60_000, 1, 1));
        assert!(close(found.journal_bytes_per_day, (20.6 + 150.0) * 1440.0), "{found:?}");
        assert!(close(found.disk_bytes_per_day, (20.6 + 150.0 + BLOCK) * 1440.0), "{found:?}");
    }

    /// A server with this many tags, and more keys.
    fn server(tags: usize, keys: &str, more: &str) -> Config {
        let mut text = format!(
            "[gateway]\nplant = \"P\"\nname = \"g\"\n[[device]]\nname = \"d\"\n\
             protocol = \"opcua\"\naddress = \"opc.tcp://h\"\n{keys}\n"
        );
        for i in 0..tags {
            text += &format!("[[device.tag]]\npath = \"t{i}\"\naddress = \"nsu=urn:x;i={i}\"\n");
        }
        crate::config::parse(Path::new("x.toml"), &(text + more), Vec::new(), &[]).unwrap()
    }

    #[test]
    fn what_a_server_sends_on_change_is_bounded_and_counted_apart() {
        let tree = "[[device.tag]]\npath = \"x\"\naddress = \"/Objects\"\nsubtree = true\n";
        let found = estimate(&server(5000, "", tree), &[Vec::new()]);
        assert_eq!((found.samples_per_s, found.buffer_days), (0.0, None));
        let beside = found.on_change.unwrap();
        assert_eq!((beside.tags, beside.subtrees), (5000, 1));
        assert!(close(beside.samples_per_s_at_most, 5000.0), "{beside:?}");
        // As much as polled ones would be.
        assert!(
            close(beside.journal_bytes_per_day_at_most, (27_500.0 + 150.0) * DAY),
            "{beside:?}"
        );
    }

    #[test]
    fn what_is_polled_at_a_server_counts_as_what_is_polled_anywhere() {
        let keys = "collect = \"poll\"\nmax-items = 1000\npoll-every-ms = 500\n";
        let found = estimate(&server(2500, keys, ""), &[Vec::new()]);
        assert!(close(found.samples_per_s, 5000.0), "{found:?}");
        assert!(close(found.requests_per_s, 6.0), "{found:?}");
        assert!(close(found.journal_bytes_per_day, (27_500.0 + 150.0) * DAY), "{found:?}");
        assert_eq!(found.on_change, None);
    }

    #[test]
    fn each_interval_counts_by_itself() {
        let mut both = polls(1000, 100, 2);
        both.extend(polls(100, 10, 1));
        let found = estimate(&config(110, 1000), &both);
        assert!(close(found.requests_per_s, 12.0), "{found:?}");
        assert!(close(found.samples_per_s, 200.0), "{found:?}");
    }

    #[test]
    fn nothing_to_poll_costs_nothing_and_fills_no_journal() {
        let mut config = config(1, 1000);
        config.devices.clear();
        config.hub = None;
        let found = estimate(&config, &[]);
        assert_eq!(
            found,
            Estimate {
                requests_per_s: 0.0,
                samples_per_s: 0.0,
                journal_bytes_per_day: 0.0,
                disk_bytes_per_day: 0.0,
                wan_bytes_per_day: None,
                buffer_days: None,
                on_change: None,
            }
        );
    }

    #[test]
    fn more_samples_per_frame_never_take_more_bytes_each() {
        let sizes: Vec<f64> = (1..2000).map(|n| bytes_per_sample(f64::from(n))).collect();
        assert!(sizes.is_sorted_by(|a, b| a >= b));
        assert!(close(bytes_per_sample(10.0), 8.5) && close(bytes_per_sample(1e6), 5.5));
        assert!(close(bytes_per_sample(0.0), 20.6));
    }
}
