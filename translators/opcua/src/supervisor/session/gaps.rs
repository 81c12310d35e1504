//! What did not come: asked for again, filled from history, or told as lost.

use super::build::creation;
use super::*;

impl Session<'_> {
    /// Each subscription has said something, so values come again.
    pub(super) fn returned(&mut self, now: Instant) {
        self.core.ledger.returned();
        if self.kept_all { self.come_back(now) } else { self.make_good(now) }
    }

    /// The absence is over, and what the server held back has come: queues that are long enough
    /// lost nothing. Not every server marks a queue that was not.
    pub(super) fn come_back(&mut self, now: Instant) {
        let Some(away) = self.core.ledger.away_for() else { return };
        let holds = self.mirror.subs.iter().map(|sub| sub.holds).min().unwrap_or_default();
        if away <= holds { self.core.ledger.forgive() } else { self.make_good(now) }
    }

    /// Fills an absence from history, or tells it as lost.
    pub(super) fn make_good(&mut self, now: Instant) {
        let known = self.mirror.server_time;
        let until = if known > self.before { known } else { DateTime::now() };
        let wall = self.core.ledger.now();
        let span = Span { from: wall, to: wall, server: (self.before, until) };
        let is_known = !self.before.is_null();
        if self.core.spec.backfill && is_known && self.core.spec.collect == Collect::Subscribe {
            if !std::mem::replace(&mut self.filling, true) {
                let all: Vec<usize> = (0..self.mirror.exists.len()).collect();
                self.fill(&all, Gap::Absence, span);
            }
        } else {
            self.core.ledger.settle(now);
        }
    }

    pub(super) fn fill(&mut self, places: &[usize], gap: Gap, span: Span) {
        let Some(prepared) = &self.mirror.prepared else { return };
        let node = |place: &usize| {
            let node = prepared.nodes.get(*place)?.as_ref().ok()?;
            Some((*place, node.clone()))
        };
        let nodes = places.iter().filter_map(node).collect();
        self.todo.push(Chore::Fill { nodes, gap, span });
    }

    pub(super) fn filled(
        &mut self,
        gap: Gap,
        span: Span,
        result: Result<crate::history::Filled, ServiceError>,
        now: Instant,
    ) {
        let complete = match result {
            Ok(filled) => {
                let acquired = self.hears(now);
                let count: usize = filled.values.iter().map(|(_, values)| values.len()).sum();
                let flat = filled.values.into_iter().flat_map(|(place, values)| {
                    values.into_iter().map(move |value| (place, value))
                });
                let flat: Vec<_> = flat.collect();
                if count > 0 {
                    self.core.voice.notes("values came from history", &count.to_string());
                    self.values(flat.into_iter(), acquired);
                }
                filled.complete
            }
            Err(error) => {
                self.fails(&error);
                false
            }
        };
        match gap {
            Gap::Absence => self.filling = false,
            Gap::Notifications => {
                self.settled(|owed| owed.missing.is_none() && owed.span == span);
            }
        }
        match (gap, complete) {
            (Gap::Absence, true) => self.core.ledger.forgive(),
            (Gap::Absence, false) => self.core.ledger.settle(now),
            (Gap::Notifications, true) => {}
            (Gap::Notifications, false) => self.lose(span),
        }
    }

    pub(super) fn lose(&mut self, span: Span) {
        self.core.ledger.missed(None, LossCause::DeviceSilent, span.from, span.to, None);
    }

    /// What was asked for again has come, or has not.
    pub(super) fn republished(
        &mut self,
        subscription: u32,
        missing: Missing,
        span: Span,
        results: Vec<Result<NotificationMessage, ServiceError>>,
        now: Instant,
    ) {
        let acquired = self.hears(now);
        let this = Owed { subscription, missing: Some(missing), span };
        self.settled(|owed| *owed == this);
        let (mut found, mut answered, mut is_broken) = (0, 0, false);
        for result in results {
            match result {
                Ok(message) => {
                    found += 1;
                    self.acks.push(SubscriptionAcknowledgement {
                        subscription_id: subscription,
                        sequence_number: message.sequence_number,
                    });
                    self.take(message, acquired);
                }
                Err(error) => {
                    if self.fails(&error) {
                        // Not an answer: the next session asks for this one and those behind it.
                        let missing = missing.after(answered);
                        self.mirror.owed.push(Owed { missing, ..this });
                        is_broken = true;
                        break;
                    }
                }
            }
            answered += 1;
        }
        let expected = if is_broken { answered } else { missing.count };
        if found == expected {
            return;
        }
        let why = format!("{} of {} notifications did not arrive", expected - found, missing.count);
        self.core.voice.warns("notifications are missing", &why);
        let group = self.mirror.subs.iter().find(|sub| sub.at_server.id == subscription);
        let members = group.and_then(|sub| self.mirror.groups.get(sub.group));
        match members.map(|group| group.members.clone()) {
            Some(members) if self.core.spec.backfill && !is_broken => {
                self.mirror.owed.push(Owed { missing: None, ..this });
                self.fill(&members, Gap::Notifications, span);
            }
            _ => self.lose(span),
        }
    }

    /// One that was owed is owed no more.
    fn settled(&mut self, is_it: impl Fn(&Owed) -> bool) {
        if let Some(at) = self.mirror.owed.iter().position(is_it) {
            self.mirror.owed.swap_remove(at);
        }
    }

    /// Asks for what an earlier session was still owed when its connection broke.
    pub(super) fn ask_again(&mut self) {
        let asked = self.mirror.owed.iter().filter_map(|owed| {
            let Owed { subscription, missing, span } = *owed;
            Some(Chore::Republish { subscription, missing: missing?, span })
        });
        self.todo.extend(asked);
    }

    /// Keeps what the next session can still ask for, and tells the rest as lost.
    pub(super) fn keep_owed(&mut self) {
        let may_ask = self.end.as_ref().is_some_and(|end| end.may_resume);
        let owed = std::mem::take(&mut self.mirror.owed);
        let (kept, lost) = owed.into_iter().partition(|o| may_ask && o.missing.is_some());
        self.mirror.owed = lost;
        self.mirror.give_up(&mut self.core.ledger);
        self.mirror.owed = kept;
    }

    /// Cures subscriptions that are silent while the server is not.
    pub(super) fn watch(&mut self, now: Instant) {
        if now.saturating_duration_since(self.heard) > 2 * KEEP_ALIVE {
            return;
        }
        let silent = self.mirror.subs.iter().enumerate().filter(|(_, sub)| !sub.is_replaced);
        let silent: Vec<_> =
            silent.filter_map(|(at, sub)| Some((at, sub.dog.cure(now)?))).collect();
        for (at, cure) in silent {
            match cure {
                Cure::Leave => {
                    let why = "a subscription says nothing, and neither did the one before it";
                    return self.leave(why.to_owned(), false);
                }
                Cure::Recreate => {
                    let why = "a subscription says nothing";
                    self.core.voice.warns("the subscription is created again", why);
                    self.replace(at);
                }
            }
        }
    }

    pub(super) fn replace_all(&mut self) {
        for at in 0..self.mirror.subs.len() {
            self.replace(at);
        }
    }

    /// Has a subscription deleted and another one created for its group.
    pub(super) fn replace(&mut self, at: usize) {
        let Some(sub) = self.mirror.subs.get_mut(at).filter(|sub| !sub.is_replaced) else { return };
        sub.is_replaced = true;
        let (id, group) = (sub.at_server.id, sub.group);
        let (from, _) = sub.heard;
        let to = self.core.ledger.now();
        sub.silent_since = Some(to);
        self.core.ledger.missed(None, LossCause::DeviceSilent, from, to, None);
        let Some(members) = self.mirror.groups.get(group) else { return };
        let mut samples = Vec::new();
        if let Some(prepared) = &self.mirror.prepared {
            for place in &members.members {
                if let (Some(wanted), None) =
                    (prepared.wanted.get(*place), self.mirror.failures.get(place))
                {
                    let status = StatusCode::BadTimeout.bits();
                    samples.push(Sample::bad(wanted.tag, to, Reason::Timeout, status));
                }
            }
        }
        self.todo.push(Chore::Delete(vec![id]));
        self.todo.push(creation(group, members));
        self.core.ledger.hand_over(samples);
    }
}
