//! Which gateways, tags and times are read.

use tidegate_journal::{ClockState, Header};
use tidegate_query::Pattern;
use tidegate_translator::Timestamp;

use crate::names::GatewayId;
use crate::subjects;

const HOUR: i64 = 3_600_000_000_000;

/// What is read of the record.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Gateways by name, whether the hub has anything of them or not.
    pub named: Vec<GatewayId>,
    /// Patterns over `PLANT/NAME`; with [`Choice::named`] empty as well: every gateway.
    pub gateways: Vec<Pattern>,
    /// Patterns over tag paths; empty: every tag.
    pub tags: Vec<Pattern>,
    /// Samples acquired at this time or later, nanoseconds since 1970 UTC.
    pub from: Option<i64>,
    /// Samples acquired before this time.
    pub to: Option<i64>,
}

impl Choice {
    /// Takes a name or a pattern of gateways.
    pub fn add_gateway(&mut self, text: &str) {
        match text.parse() {
            Ok(gateway) => self.named.push(gateway),
            Err(_) => self.gateways.push(Pattern::new(text)),
        }
    }

    /// The gateway, if it can be no other one.
    #[must_use]
    pub fn only(&self) -> Option<&GatewayId> {
        match (self.named.as_slice(), self.gateways.as_slice()) {
            ([gateway], []) => Some(gateway),
            _ => None,
        }
    }

    /// Whether a gateway is meant.
    #[must_use]
    pub fn has_gateway(&self, gateway: &GatewayId) -> bool {
        let all = self.named.is_empty() && self.gateways.is_empty();
        all || self.named.contains(gateway)
            || self.gateways.iter().any(|pattern| pattern.matches(&gateway.to_string()))
    }

    /// Whether a tag is meant.
    #[must_use]
    pub fn has_tag(&self, path: &str) -> bool {
        self.tags.is_empty() || self.tags.iter().any(|pattern| pattern.matches(path))
    }

    /// Whether a time is meant.
    #[must_use]
    pub fn has_time(&self, acquired: Timestamp) -> bool {
        self.from.is_none_or(|from| acquired.0 >= from) && self.to.is_none_or(|to| acquired.0 < to)
    }

    /// Whether every time is meant.
    #[must_use]
    pub const fn is_timeless(&self) -> bool {
        self.from.is_none() && self.to.is_none()
    }

    /// Whether a gateway's record has come so far past the end of the range that nothing behind
    /// this frame can be within it. A clock that somebody sets may go back by hours.
    #[must_use]
    pub fn is_past(&self, header: &Header) -> bool {
        let trust = if header.clock == ClockState::Synchronised { HOUR } else { 24 * HOUR };
        self.to.is_some_and(|to| header.wall.0 > to.saturating_add(trust))
    }

    /// What is read at the hub.
    #[must_use]
    pub fn filter(&self) -> String {
        self.only().map_or_else(|| subjects::EVERY_FRAMES.to_owned(), subjects::all_frames)
    }
}
