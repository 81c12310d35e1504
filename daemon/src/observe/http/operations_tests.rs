//! The rules and the dashboard in `docs/operations` name nothing that a gateway does not export.

use std::collections::BTreeSet;

use tidegate_translator::{LossCause, Missed, Timestamp};

use super::exposition::exposition;
use crate::observe::state::tests::board;
use crate::observe::state::{CertificateStatus, HealthLimits};

const RULES: &str = include_str!("../../../../docs/operations/alerts.yml");
const DASHBOARD: &str = include_str!("../../../../docs/operations/dashboard.json");

/// Every name of a series, and every name of a label, of a gateway that has one of each.
fn exported() -> (BTreeSet<String>, BTreeSet<String>) {
    let board = board();
    board.raise("journal-full", "");
    board.note_acknowledged(7);
    board.update_link(|link| (link.configured, link.round_trip_ms) = (true, Some(1.0)));
    board.note_missed(&Missed {
        device: "press-1".into(),
        tag: None,
        cause: LossCause::PollOverrun,
        from: Timestamp(0),
        to: Timestamp(0),
        count: Some(1),
    });
    board.set_certificates(vec![CertificateStatus {
        role: "identity".into(),
        subject: String::new(),
        not_after: Timestamp(0),
    }]);
    let text = exposition(&board, &HealthLimits::default()).unwrap();
    let (mut names, mut labels) = (BTreeSet::new(), BTreeSet::new());
    for line in text.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').unwrap();
            let end = if kind == "counter" { "_total" } else { "" };
            names.insert(format!("{name}{end}"));
        } else if let Some((_, pairs)) = line.split_once('{') {
            let keys = pairs.split("=\"").filter_map(|piece| piece.rsplit([',', '"']).next());
            labels.extend(keys.map(str::to_owned));
        }
    }
    (names, labels)
}

/// The words of a text that begin like a metric.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("tidegate_")).map(str::to_owned).collect()
}

/// The words before `=`, `=~`, `!=` and `!~` inside of braces behind a metric.
fn asked_labels(text: &str) -> BTreeSet<String> {
    let mut labels = BTreeSet::new();
    for part in text.split("tidegate_").skip(1) {
        let name =
            part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(part.len());
        let Some(inside) = part[name..].strip_prefix('{') else { continue };
        let inside = inside.split('}').next().unwrap_or_default();
        for pair in inside.split(',') {
            if let Some((label, _)) = pair.split_once(['=', '!']) {
                labels.insert(label.trim().to_owned());
            }
        }
    }
    labels
}

#[tokio::test(start_paused = true)]
async fn rules_and_dashboard_name_only_what_is_exported() {
    let (names, labels) = exported();
    assert!(names.contains("tidegate_journal_writable"), "{names:?}");
    // What Prometheus itself puts beside each series.
    let from_prometheus = ["instance", "job"].map(str::to_owned);
    for (file, text) in [("alerts.yml", RULES), ("dashboard.json", DASHBOARD)] {
        let unknown: Vec<_> = named(text).difference(&names).cloned().collect();
        assert_eq!(unknown, Vec::<String>::new(), "{file} names what no gateway exports");
        let mut unknown = asked_labels(text);
        unknown.retain(|label| !labels.contains(label) && !from_prometheus.contains(label));
        assert_eq!(unknown, BTreeSet::new(), "{file} asks for labels that no gateway has");
    }
}

#[test]
fn each_rule_says_how_bad_it_is_and_what_to_do() {
    let rules: Vec<&str> = RULES.split("- alert: ").skip(1).collect();
    assert!(rules.len() > 20);
    for rule in rules {
        let name = rule.lines().next().unwrap_or_default();
        let severe = ["severity: warning", "severity: critical"];
        assert!(severe.iter().any(|it| rule.contains(it)), "{name} has no severity");
        assert!(
            rule.contains("summary: ") && rule.contains("description: "),
            "{name} says nothing"
        );
    }
}

#[test]
fn the_dashboard_is_json_with_a_description_at_each_panel() {
    let tree: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = tree["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let is_row = panel["type"] == "row";
        let described = panel["description"].as_str().is_some_and(|text| !text.is_empty());
        assert!(is_row || described, "{} has no description", panel["title"]);
    }
}

#[test]
fn the_alarms_of_identity_and_hub_that_rules_name_are_raised_by_somebody() {
    let uplink = ["hub-refuses", "hub-silent", "hub-lost-data"];
    let kinds = RULES.split("kind=~\"").chain(RULES.split("kind!~\"")).skip(1);
    let mut named = 0;
    for kind in kinds.filter_map(|rest| rest.split('"').next()).flat_map(|all| all.split('|')) {
        if ["identity-", "hub-", "authority-", "crl-"].iter().any(|start| kind.starts_with(start)) {
            let known = crate::identity::WORDS.contains(&kind) || uplink.contains(&kind);
            assert!(known, "no part of the gateway raises {kind}");
            named += 1;
        }
    }
    assert!(named >= 5, "{named}");
}
