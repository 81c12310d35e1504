//! What this gateway must be permitted at the hub, and when it is asked whether it is.
//!
//! The servers refuse silently, so the gateway asks, over a connection of its own, what it may do:
//! whenever the hub answers anew, and while something is amiss. Nothing is stored by that.
//!
//! # Invariants
//! - What is needed has a bounded size: live values are named by the common front of a device.
//! - A hub that cannot be asked leaves what was known; it is asked again ever more rarely.

use std::time::Duration;

use tidegate_translator::TagPath;
use tokio::time::Instant;

use crate::config::{Config, Hub};
use crate::subjects;
use crate::wan::{Missing, Need};

/// The first and the longest wait before the hub is asked again while something is amiss.
const AGAIN: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(3600));
/// The longest wait before the first question: a fleet whose hub is back does not ask at once.
const SPREAD: Duration = Duration::from_secs(5);
/// How many missing rights a text names.
const NAMED: usize = 4;

/// Everything that a gateway needs.
pub(crate) fn needs(config: &Config, hub: &Hub) -> Vec<Need> {
    let gateway = &config.gateway;
    let frames = subjects::all_frames(gateway);
    let inbox = format!("{}.>", subjects::inbox(gateway));
    let head = subjects::head(&hub.stream, &frames);
    let health = format!("uns.{}._gateways.{}.>", gateway.plant, gateway.name);
    let mut out = vec![
        Need::publish(frames, "the record"),
        Need::publish(head, "to find out how far the hub has the record"),
        Need::publish(subjects::info(&hub.stream), "to find out whether the hub is there"),
        Need::subscribe(inbox, "every answer of the hub"),
        Need::subscribe(subjects::questions(gateway), "questions to this gateway"),
        Need::publish(health, "this gateway's health"),
    ];
    if config.query.enabled {
        out.push(Need::publish(subjects::ANSWERS, "answers to questions"));
    }
    for device in &config.devices {
        let below = device.subtrees.iter().map(|tree| &tree.path);
        let paths = device.tags.iter().map(|tag| &tag.path).chain(below);
        let single = device.tags.len() == 1 && device.subtrees.is_empty();
        if let Some(subject) = front(paths, single) {
            out.push(Need::publish(subject, "live values"));
        }
    }
    for subject in &config.leaf.local.publish {
        out.push(Need::publish(&**subject, "local applications, by local-publish in [leaf]"));
    }
    for subject in &config.leaf.local.subscribe {
        out.push(Need::subscribe(&**subject, "local applications, by local-subscribe in [leaf]"));
    }
    out
}

/// The subject of the parts that all paths begin with, and all below it.
fn front<'p>(mut paths: impl Iterator<Item = &'p TagPath>, single: bool) -> Option<String> {
    let first = paths.next()?;
    if single {
        return Some(subjects::live(first));
    }
    let mut common: Vec<&str> = first.segments().collect();
    // The last part is one value, and what is above it is below the front.
    common.pop();
    for path in paths {
        let same = common.iter().zip(path.segments()).take_while(|(a, b)| **a == *b).count();
        common.truncate(same);
    }
    let front = TagPath::new(common.join("/")).ok();
    Some(front.map_or_else(|| "uns.>".to_owned(), |front| format!("{}.>", subjects::live(&front))))
}

/// What is told of rights that are missing.
pub(super) fn text(missing: &[Missing]) -> Option<String> {
    let (named, more) = missing.split_at(missing.len().min(NAMED));
    if named.is_empty() {
        return None;
    }
    let named: Vec<_> = named.iter().map(ToString::to_string).collect();
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    Some(format!(
        "the hub does not permit this gateway to {}{more}. Admit the gateway with it: the permissions \
         of its user at the hub need it, and the hub a reload. Recording goes on",
        named.join(", ")
    ))
}

/// Decides when the hub is asked.
#[derive(Debug)]
pub(super) struct Asking {
    /// When, and how long to wait after that while something is amiss.
    due: Option<(Instant, Duration)>,
    spread: Duration,
}

impl Asking {
    /// `share` of 0 to 1 is this gateway's place in a fleet.
    pub(super) fn new(share: f64) -> Self {
        Self { due: None, spread: SPREAD.mul_f64(share.clamp(0.0, 1.0)) }
    }

    /// The hub answers after it did not.
    pub(super) fn linked(&mut self, now: Instant) {
        self.due = Some((now + self.spread, AGAIN.0));
    }

    /// Something is amiss that a missing right would explain.
    pub(super) fn amiss(&mut self, now: Instant) {
        if self.due.is_none() {
            self.due = Some((now + self.spread, AGAIN.0));
        }
    }

    /// Whether to ask now; says so once for each question.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let Some((at, wait)) = self.due.filter(|(at, _)| *at <= now) else { return false };
        self.due = Some((at.max(now) + wait, (wait * 2).min(AGAIN.1)));
        true
    }

    /// The hub said that nothing is missing, and nothing else is amiss.
    pub(super) fn settled(&mut self) {
        self.due = None;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn path(text: &str) -> TagPath {
        TagPath::new(text).unwrap()
    }

    #[test]
    fn the_live_values_of_a_device_are_named_by_their_common_front() {
        let front = |paths: &[&str]| {
            let paths: Vec<_> = paths.iter().map(|text| path(text)).collect();
            front(paths.iter(), paths.len() == 1)
        };
        assert_eq!(front(&["P/L.3/a/x", "P/L.3/b"]).as_deref(), Some("uns.P.L%2E3.>"));
        assert_eq!(front(&["P/x", "P/x/y"]).as_deref(), Some("uns.P.>"));
        assert_eq!(front(&["P/x"]).as_deref(), Some("uns.P.x"));
        assert_eq!(front(&["P/x", "Q/x"]).as_deref(), Some("uns.>"));
        assert_eq!(front(&[]), None);
    }

    #[test]
    fn a_gateway_needs_what_the_configuration_asks_for() {
        let text = include_str!("../../../examples/line.toml");
        let config = crate::config::parse(Path::new("x.toml"), text, Vec::new(), &[]).unwrap();
        let needs = needs(&config, config.hub.as_ref().unwrap());
        let subjects: Vec<_> = needs.iter().map(|need| need.subject.as_str()).collect();
        for expected in [
            "tide.PlantA.gw-line3.*.frames",
            "tidehead.TIDE.tide.PlantA.gw-line3.*.frames",
            "tideinfo.TIDE",
            "_INBOX.PlantA.gw-line3.>",
            "tide.PlantA.gw-line3.q.>",
            "uns.PlantA._gateways.gw-line3.>",
        ] {
            assert!(subjects.contains(&expected), "{expected} in {subjects:?}");
        }
        assert!(needs.len() > 6, "{subjects:?}");
    }

    #[test]
    fn a_text_names_some_and_counts_the_rest() {
        let missing = |n: usize| -> Vec<Missing> {
            (0..n).map(|at| Missing(Need::publish(format!("a.{at}"), "x"))).collect()
        };
        assert_eq!(text(&missing(0)), None);
        assert!(text(&missing(4)).is_some_and(|text| text.contains("publish a.3 (x). Admit")));
        assert!(text(&missing(6)).is_some_and(|text| text.contains("and 2 more")));
    }

    #[test]
    fn the_hub_is_asked_once_when_all_is_well_and_ever_more_rarely_while_something_is_amiss() {
        let begin = Instant::now();
        let asked = |settles: bool| {
            let mut asking = Asking::new(0.5);
            asking.linked(begin);
            let mut out = Vec::new();
            for second in 0..7200 {
                if asking.is_due(begin + Duration::from_secs(second)) {
                    out.push(second);
                    if settles {
                        asking.settled();
                    } else {
                        asking.amiss(begin);
                    }
                }
            }
            out
        };
        assert_eq!(asked(true), [3]);
        assert_eq!(asked(false), [3, 18, 48, 108, 228, 468, 948, 1908, 3828]);
    }
}
