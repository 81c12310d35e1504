//! Links that the leaf has given up, or that carry nothing: what to do about them, and when. Pure.
//!
//! nats-server 2.15.1 forgets to dial a remote again when the WAN is cut while that link is being
//! made ("Error flushing … broken pipe", and never another attempt). Either of the two links can be
//! lost so, or both; a restart of nats-server heals it, and so does a reload in which the remote has
//! another URL (decision 11). Both links go the same way, so one that answers shows that the other
//! one is lost. When neither does, the WAN is down or both are lost, and only time tells: dialling
//! anew costs nothing then.
//!
//! # Invariants
//! - While the record's link answers, one small question a minute goes over the live link.
//! - One bad look decides nothing: links come back seconds apart.
//! - The gentle remedy comes first; a restart, which cuts local applications off, only when that
//!   did not help, or when the leaf itself holds both links for well and nothing answers.
//! - While nothing helps, remedies become rare.

use std::time::Duration;

use async_nats::{Client, Request, StatusCode};
use tokio::time::Instant;

/// The record's silence before the links are compared: shorter ones end by themselves.
const SILENT: Duration = Duration::from_secs(5);
/// How often they are compared while something is wrong.
const OFTEN: Duration = Duration::from_secs(4);
/// How often the live link is looked at while nothing is.
const SELDOM: Duration = Duration::from_secs(60);
/// How long one link must be away while the other answers: more than a leaf's own pause between
/// attempts (4 s at most), and more than two of its pings may differ.
const APART: Duration = Duration::from_secs(15);
/// How long the gentle remedy may take to show: twice what a link over a satellite needs.
const HELPS_WITHIN: Duration = Duration::from_secs(30);
/// How long neither link may be there before both are dialled anew.
const BOTH_AWAY: Duration = Duration::from_secs(60);
/// How long both may be silent while the leaf holds them for well. It notices a dead link within
/// 14 s (measured), so this one does not notice anything any more.
const BOTH_MUTE: Duration = Duration::from_secs(90);
/// The longest time between two remedies that did not help.
const SELDOM_AT_MOST: Duration = Duration::from_secs(1800);
/// How long an answer may take: four round trips over a satellite.
const ANSWER: Duration = Duration::from_secs(8);

/// What one link said to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// The hub answered.
    Hub,
    /// The leaf knows nobody who would: it has no link, or the hub does not permit the question.
    Nobody,
    /// No answer in time: the leaf has a link, and nothing comes back over it.
    Silence,
}

/// What both links said to one question each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) live: Answer,
    pub(super) record: Answer,
}

/// What would help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Have the leaf dial links anew; what is linked otherwise and local applications stay.
    Dial {
        /// The live one.
        live: bool,
        /// The record's.
        record: bool,
        /// For the log.
        why: &'static str,
    },
    /// Have the leaf make both links from the first URL on.
    FailBack {
        /// For the log.
        why: &'static str,
    },
    /// Start the leaf again.
    Restart {
        /// For the log.
        why: &'static str,
    },
}

/// Asks the hub over both links.
pub(super) async fn look(live: Client, record: Client, info: String) -> Look {
    let answer = async |client: Client| {
        let request = Request::new().timeout(Some(ANSWER));
        match client.send_request(info.clone(), request).await {
            Ok(message) if message.status == Some(StatusCode::NO_RESPONDERS) => Answer::Nobody,
            Ok(_) => Answer::Hub,
            Err(error) if error.kind() == async_nats::RequestErrorKind::NoResponders => {
                Answer::Nobody
            }
            Err(_) => Answer::Silence,
        }
    };
    let (live, record) = futures_util::future::join(answer(live), answer(record)).await;
    Look { live, record }
}

/// Which of the links is away, as far as a look tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// The hub answers over the other link.
    LiveLost,
    /// The same.
    RecordLost,
    /// The leaf has no link, or only one of them and nothing comes back over it.
    Away,
    /// The leaf has both, and nothing comes back over either.
    Mute,
}

impl Trouble {
    fn of(look: Look) -> Option<Self> {
        match (look.live, look.record) {
            (Answer::Nobody, Answer::Hub) => Some(Self::LiveLost),
            // A live link that is merely full answers late.
            (_, Answer::Hub) => None,
            (Answer::Hub, _) => Some(Self::RecordLost),
            (Answer::Silence, Answer::Silence) => Some(Self::Mute),
            _ => Some(Self::Away),
        }
    }

    /// What to do at first, and for how long the trouble must have lasted.
    const fn first_aid(self) -> (Remedy, Duration) {
        match self {
            Self::LiveLost => {
                let why = "the hub answers over the record's link and not over the live one";
                (Remedy::Dial { live: true, record: false, why }, APART)
            }
            Self::RecordLost => {
                let why = "the hub answers over the live link and not over the record's";
                (Remedy::Dial { live: false, record: true, why }, APART)
            }
            Self::Away => {
                let why = "there has been no link to the hub for long";
                (Remedy::Dial { live: true, record: true, why }, BOTH_AWAY)
            }
            Self::Mute => {
                let why = "nothing answers over links that the leaf holds for well";
                (Remedy::Restart { why }, BOTH_MUTE)
            }
        }
    }

    /// What to do when that did not help, and after how long.
    const fn second_aid(self) -> (Remedy, Duration) {
        match self {
            Self::LiveLost | Self::RecordLost => {
                let why = "one link to the hub stays away although it was dialled anew";
                (Remedy::Restart { why }, HELPS_WITHIN)
            }
            Self::Away | Self::Mute => self.first_aid(),
        }
    }
}

/// Decides when to look, and what to do about what was seen.
#[derive(Debug, Default)]
pub(super) struct Links {
    record_silent_since: Option<Instant>,
    looked: Option<Instant>,
    /// Nobody has seen the live link since the record's was away.
    live_unseen: bool,
    trouble: Option<(Trouble, Instant)>,
    /// The last remedy of this trouble, and how long to wait for the next.
    tried: Option<(Instant, Duration)>,
}

impl Links {
    /// Notes whether the hub answered over the record's link.
    pub(super) fn record_answered(&mut self, answered: bool, now: Instant) {
        if !answered {
            self.record_silent_since.get_or_insert(now);
            return;
        }
        // Both go down together, and either may not come back.
        self.live_unseen |= self.record_silent_since.take().is_some();
        if !self.trouble.is_some_and(|(trouble, _)| trouble == Trouble::LiveLost) {
            self.trouble = None;
            self.tried = None;
        }
    }

    /// Whether to look now; says so once for each look.
    pub(super) fn look_is_due(&mut self, now: Instant) -> bool {
        let silent = self.record_silent_since.is_some_and(|at| now.duration_since(at) >= SILENT);
        let often = silent || self.live_unseen || self.trouble.is_some();
        let every = if often { OFTEN } else { SELDOM };
        let due = now.duration_since(*self.looked.get_or_insert(now)) >= every;
        if due {
            self.looked = Some(now);
        }
        due
    }

    /// Takes in a look, and says what would help.
    pub(super) fn looked(&mut self, look: Look, now: Instant) -> Option<Remedy> {
        self.live_unseen &= look.live == Answer::Nobody;
        let Some(trouble) = Trouble::of(look) else {
            self.trouble = None;
            self.tried = None;
            return None;
        };
        if self.trouble.is_none_or(|(before, _)| before != trouble) {
            self.trouble = Some((trouble, now));
            self.tried = None;
        }
        let lasts = self.trouble.map_or(Duration::ZERO, |(_, since)| now.duration_since(since));
        let (first, patience) = trouble.first_aid();
        let Some((at, wait)) = self.tried else {
            if lasts < patience {
                return None;
            }
            self.tried = Some((now, trouble.second_aid().1));
            return Some(first);
        };
        if now.duration_since(at) < wait {
            return None;
        }
        self.tried = Some((now, (wait * 2).min(SELDOM_AT_MOST)));
        Some(trouble.second_aid().0)
    }
}

#[cfg(test)]
mod tests {
    use Answer::{Hub, Nobody, Silence};

    use super::*;

    const fn saw(live: Answer, record: Answer) -> Look {
        Look { live, record }
    }

    /// The remedies of the first two hours, each with its second; looks as often as due.
    fn remedies(says: impl Fn(u64) -> Look) -> Vec<(u64, Remedy)> {
        let begin = Instant::now();
        let mut links = Links::default();
        let mut all = Vec::new();
        for second in 0..7200 {
            let now = begin + Duration::from_secs(second);
            let look = says(second);
            links.record_answered(look.record == Hub, now);
            if links.look_is_due(now)
                && let Some(remedy) = links.looked(look, now)
            {
                all.push((second, remedy));
            }
        }
        all
    }

    fn seconds(all: &[(u64, Remedy)]) -> Vec<u64> {
        all.iter().map(|(second, _)| *second).collect()
    }

    #[test]
    fn a_record_link_that_stays_away_is_dialled_anew_and_then_the_leaf_is_started_again() {
        for lost in [Nobody, Silence] {
            let all = remedies(|_| saw(Hub, lost));
            assert!(matches!(all[0], (20..25, Remedy::Dial { live: false, record: true, .. })));
            assert!(matches!(all[1], (50..60, Remedy::Restart { .. })), "{all:?}");
            assert!(all.len() < 12, "remedies become rare: {:?}", seconds(&all));
        }
    }

    #[test]
    fn a_live_link_that_is_lost_is_noticed_although_the_record_flows() {
        let all = remedies(|_| saw(Nobody, Hub));
        assert!(matches!(all[0], (60..90, Remedy::Dial { live: true, record: false, .. })));
        assert!(matches!(all[1], (90..125, Remedy::Restart { .. })), "{all:?}");
    }

    #[test]
    fn a_live_link_that_does_not_come_back_with_the_record_is_noticed_soon() {
        let look = |second| if second < 10 { saw(Nobody, Nobody) } else { saw(Nobody, Hub) };
        let all = remedies(look);
        assert!(matches!(all[0], (25..35, Remedy::Dial { live: true, record: false, .. })));
    }

    #[test]
    fn a_live_link_that_is_full_is_left_alone() {
        assert_eq!(remedies(|_| saw(Silence, Hub)), []);
    }

    #[test]
    fn two_links_that_are_away_are_dialled_anew_ever_more_rarely_and_never_by_a_restart() {
        for away in [saw(Nobody, Nobody), saw(Silence, Nobody), saw(Nobody, Silence)] {
            let all = remedies(|_| away);
            let both = Remedy::Dial { live: true, record: true, why: "" };
            let gentle = all.iter().all(|(_, remedy)| match remedy {
                Remedy::Dial { live, record, .. } => *live && *record,
                Remedy::FailBack { .. } | Remedy::Restart { .. } => false,
            });
            assert!(gentle, "{both:?} expected: {all:?}");
            assert!((65..80).contains(&all[0].0), "{:?}", seconds(&all));
            assert!((6..12).contains(&all.len()), "{:?}", seconds(&all));
        }
    }

    #[test]
    fn a_leaf_that_does_not_notice_dead_links_is_started_again() {
        let all = remedies(|_| saw(Silence, Silence));
        assert!(matches!(all[0], (90..105, Remedy::Restart { .. })), "{all:?}");
        assert!(all.len() < 10, "{:?}", seconds(&all));
    }

    #[test]
    fn links_that_come_back_seconds_apart_need_no_remedy() {
        let look = |second| if second < 12 { saw(Hub, Nobody) } else { saw(Hub, Hub) };
        assert_eq!(remedies(look), []);
        let look = |second| if second % 12 < 6 { saw(Hub, Nobody) } else { saw(Nobody, Nobody) };
        assert_eq!(remedies(look), []);
    }

    #[test]
    fn a_remedy_that_helped_is_followed_by_no_other() {
        let all = remedies(|second| if second < 24 { saw(Hub, Nobody) } else { saw(Hub, Hub) });
        assert_eq!(all.len(), 1, "{all:?}");
    }

    #[test]
    fn a_link_that_flaps_for_two_hours_gets_few_remedies() {
        // Away for 70 s, back for 5 s, while the record answers in between.
        let away = |second: u64| second % 75 < 70;
        let all = remedies(|s| if away(s) { saw(Nobody, Nobody) } else { saw(Hub, Hub) });
        assert!(all.iter().all(|(_, remedy)| matches!(remedy, Remedy::Dial { .. })), "{all:?}");
    }

    #[test]
    fn while_the_record_is_answered_the_live_link_is_looked_at_once_a_minute() {
        let begin = Instant::now();
        let mut links = Links::default();
        let looks = (0..600).filter(|second| {
            let now = begin + Duration::from_secs(*second);
            links.record_answered(true, now);
            links.look_is_due(now) && links.looked(saw(Hub, Hub), now).is_none()
        });
        assert_eq!(looks.count(), 9);
    }
}
