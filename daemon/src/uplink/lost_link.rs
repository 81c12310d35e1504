//! A leaf that has given one of its two links up.
//!
//! nats-server 2.15.1 can forget to connect a remote again: seen when the WAN was cut in the middle
//! of connecting ("Error flushing … broken pipe", then never another attempt for that account,
//! while the other account's link came back). Both links go the same way, so when the hub answers
//! over LIVE and not over RECORD for a while, the leaf is started again.
//!
//! # Invariants
//! - Nothing is asked while the record's link answers.
//! - One bad look decides nothing: the links come back seconds apart.

use std::time::Duration;

use async_nats::{Client, Request, StatusCode};
use tokio::time::Instant;

/// The record's silence before the links are compared: shorter ones end by themselves.
const SILENT: Duration = Duration::from_secs(5);
/// How often they are compared.
const EVERY: Duration = Duration::from_secs(4);
/// How long one must answer without the other: more than a leaf's own pause between attempts, and
/// more than two of its pings may differ.
const APART: Duration = Duration::from_secs(10);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(3);

/// What both links said to one question each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) live: bool,
    pub(super) record: bool,
}

/// Asks the hub over both links.
pub(super) async fn look(live: Client, record: Client, info: String) -> Look {
    let answers = async |client: Client| {
        let request = Request::new().timeout(Some(ANSWER));
        let answer = client.send_request(info.clone(), request).await;
        answer.is_ok_and(|message| message.status != Some(StatusCode::NO_RESPONDERS))
    };
    let (live, record) = futures_util::future::join(answers(live), answers(record)).await;
    Look { live, record }
}

/// Decides when to look, and when one link is lost.
#[derive(Debug, Default)]
pub(super) struct LostLink {
    silent_since: Option<Instant>,
    apart_since: Option<Instant>,
    looked: Option<Instant>,
}

impl LostLink {
    /// Notes whether the hub answered over the record's link.
    pub(super) fn record_answered(&mut self, answered: bool, now: Instant) {
        if answered {
            *self = Self::default();
        } else {
            self.silent_since.get_or_insert(now);
        }
    }

    /// Whether to look now; says so once for each look.
    pub(super) fn look_is_due(&mut self, now: Instant) -> bool {
        let silent = self.silent_since.is_some_and(|since| now.duration_since(since) >= SILENT);
        let due = silent && self.looked.is_none_or(|looked| now.duration_since(looked) >= EVERY);
        if due {
            self.looked = Some(now);
        }
        due
    }

    /// Takes in a look; whether the record's link is lost.
    pub(super) fn looked(&mut self, look: Look, now: Instant) -> bool {
        if look.record {
            *self = Self::default();
            return false;
        }
        if !look.live {
            self.apart_since = None;
            return false;
        }
        let since = *self.apart_since.get_or_insert(now);
        let lost = now.duration_since(since) >= APART;
        if lost {
            *self = Self::default();
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Look = Look { live: true, record: true };
    const NEITHER: Look = Look { live: false, record: false };
    const ONE: Look = Look { live: true, record: false };

    /// Looks as often as due; the second at which the link counts as lost.
    fn lost_at(says: impl Fn(u64) -> Look) -> Option<u64> {
        let begin = Instant::now();
        let mut link = LostLink::default();
        link.record_answered(false, begin);
        (0..120).find(|second| {
            let now = begin + Duration::from_secs(*second);
            link.look_is_due(now) && link.looked(says(*second), now)
        })
    }

    #[test]
    fn a_link_that_stays_away_while_the_other_answers_is_lost() {
        assert_eq!(lost_at(|_| ONE), Some(17));
    }

    #[test]
    fn a_wan_that_is_down_is_no_lost_link() {
        assert_eq!(lost_at(|_| NEITHER), None);
        assert_eq!(lost_at(|second| if second % 8 < 4 { ONE } else { NEITHER }), None);
    }

    #[test]
    fn a_link_that_comes_back_seconds_later_is_not_lost() {
        assert_eq!(lost_at(|second| if second < 12 { ONE } else { BOTH }), None);
    }

    #[test]
    fn nothing_is_asked_while_the_record_is_answered() {
        let begin = Instant::now();
        let mut link = LostLink::default();
        link.record_answered(false, begin);
        link.record_answered(true, begin);
        assert!(!link.look_is_due(begin + Duration::from_secs(60)));
    }
}
