//! Notifications come in: numbers are checked, values become samples.

use super::*;

impl Session<'_> {
    /// Whether one more publish request may be sent beside so many, and with what it confirms.
    pub(crate) fn publish(
        &mut self,
        waiting: usize,
        now: Instant,
    ) -> Option<Vec<SubscriptionAcknowledgement>> {
        // One to be answered and one behind it for each subscription: a busy server answers several
        // in a row, and is held up by a round trip with less.
        let wanted = (2 * self.mirror.subs.len() + 1).clamp(3, MAX_PUBLISHES).min(self.publishes);
        if self.mirror.subs.is_empty()
            || waiting >= wanted
            || self.publish_pause.is_some_and(|until| now < until)
        {
            return None;
        }
        let later = self.acks.split_off(self.acks.len().min(MAX_ACKS));
        Some(std::mem::replace(&mut self.acks, later))
    }

    /// A publish request has an end.
    pub(crate) fn published(
        &mut self,
        result: Result<PublishResponse, ServiceError>,
        waiting: usize,
        now: Instant,
    ) {
        let response = match result {
            Ok(response) => response,
            Err(error) => return self.publish_failed(&error, waiting, now),
        };
        self.publish_failures = 0;
        let acquired = self.hears(now);
        self.mirror.server_time = response.response_header.timestamp;
        let message = response.notification_message;
        let (id, number) = (response.subscription_id, message.sequence_number);
        let is_empty = message.notification_data.as_ref().is_none_or(Vec::is_empty);
        let Some(sub) = self.mirror.subs.iter_mut().find(|sub| sub.at_server.id == id) else {
            // Of a subscription that is being deleted, or that somebody else made for this
            // session: its values are values, its numbers mean nothing.
            self.take(message, acquired);
            return;
        };
        sub.dog.heard(now);
        sub.is_confirmed = true;
        if let Some(since) = sub.silent_since.take_if(|_| !sub.is_replaced) {
            self.core.ledger.missed(None, LossCause::DeviceSilent, since, acquired, None);
        }
        let before = std::mem::replace(&mut sub.heard, (acquired, message.publish_time));
        let is_built = self.is_built;
        let seen =
            if is_empty { sub.sequence.keep_alive(number) } else { sub.sequence.data(number) };
        if is_built && self.core.ledger.is_away() && self.mirror.subs.iter().all(|s| s.is_confirmed)
        {
            self.returned(now);
        }
        if let Seen::Gap(missing) = seen {
            let span =
                Span { from: before.0, to: acquired, server: (before.1, message.publish_time) };
            self.mirror.owed.push(Owed { subscription: id, missing: Some(missing), span });
            self.todo.push(Chore::Republish { subscription: id, missing, span });
        }
        if !is_empty {
            let ack = SubscriptionAcknowledgement { subscription_id: id, sequence_number: number };
            self.acks.push(ack);
            if seen != Seen::Again {
                self.take(message, acquired);
            }
        }
    }

    pub(super) fn publish_failed(&mut self, error: &ServiceError, waiting: usize, now: Instant) {
        match error.status {
            StatusCode::BadTooManyPublishRequests => {
                self.publishes = waiting.clamp(1, MAX_PUBLISHES);
                return;
            }
            StatusCode::BadNoSubscription => {
                if self.mirror.subs.is_empty() || !self.is_built {
                    self.publish_pause = Some(now + PUBLISH_PAUSE);
                    return;
                }
                let why = "the server has none of the session's subscriptions any more";
                return self.leave(why.to_owned(), false);
            }
            StatusCode::BadTimeout => {}
            _ if self.fails(error) => return,
            _ => {}
        }
        self.publish_pause = Some(now + PUBLISH_PAUSE);
        self.publish_failures += 1;
        if self.publish_failures >= MAX_PUBLISH_FAILURES {
            self.leave(error.to_string(), false);
        }
    }

    /// Takes what a notification holds.
    pub(super) fn take(&mut self, message: NotificationMessage, acquired: Timestamp) {
        for data in message.notification_data.unwrap_or_default() {
            if data.inner_is::<DataChangeNotification>() {
                let data = data.into_inner_as::<DataChangeNotification>();
                let items = data.and_then(|data| data.monitored_items).unwrap_or_default();
                let values = items.into_iter().map(|item| {
                    (usize::try_from(item.client_handle).unwrap_or(usize::MAX), item.value)
                });
                self.values(values, acquired);
            } else if let Some(change) = data.inner_as::<StatusChangeNotification>() {
                let why =
                    format!("a subscription ended ({})", crate::connect::words(change.status));
                self.core.voice.warns("subscriptions are created again", &why);
                self.replace_all();
            }
        }
    }

    /// Makes samples of values.
    pub(super) fn values(
        &mut self,
        values: impl ExactSizeIterator<Item = (usize, DataValue)>,
        acquired: Timestamp,
    ) {
        let Some(prepared) = &self.mirror.prepared else { return };
        let mut samples: Vec<Sample> = Vec::with_capacity(values.len());
        let (mut unknown, mut flawed_before) = (Vec::new(), true);
        let mut overflowed = Vec::new();
        for (place, value) in values {
            let (Some(wanted), Some(meaning)) =
                (prepared.wanted.get(place), prepared.meanings.get(place))
            else {
                continue;
            };
            if let Some((last, before)) = self.mirror.came.get_mut(place)
                && *last != acquired
            {
                (*last, *before) = (acquired, *last);
            }
            let status = value.status.map_or(0, |status| status.bits());
            if status & OVERFLOW_MASK == OVERFLOW {
                overflowed.push(place);
            }
            match prepared.converter.sample(wanted.tag, meaning, value, acquired) {
                Ok(sample) => samples.push(sample),
                Err(flawed) => {
                    if let Flaw::TooLarge { .. } = &flawed.flaw {
                        let tag = Some(wanted.path.shared());
                        let cause = LossCause::TooLarge;
                        self.core.ledger.missed(tag, cause, acquired, acquired, Some(1));
                    }
                    // The value before it is not the value any more, so the tag turns bad.
                    if let Flaw::UnknownType { encoding, .. } = &flawed.flaw
                        && self.mirror.asked_types.len() < MAX_ASKED_TYPES
                        && self.mirror.asked_types.insert((**encoding).clone())
                    {
                        unknown.push((**encoding).clone());
                    }
                    if self.mirror.flaws.insert(place, flawed.flaw.to_string()).is_none() {
                        flawed_before = false;
                    }
                    samples.push(flawed.sample);
                    continue;
                }
            }
            if !self.mirror.flaws.is_empty() && self.mirror.flaws.remove(&place).is_some() {
                flawed_before = false;
            }
        }
        self.core.ledger.speaks();
        self.core.ledger.hand_over(samples);
        self.overflowed(&overflowed, acquired);
        self.unknown_types.extend(unknown);
        self.learn();
        if !flawed_before {
            self.tell_state();
        }
    }

    /// Queues at the server were too short for some items.
    fn overflowed(&mut self, places: &[usize], acquired: Timestamp) {
        let Some(prepared) = self.mirror.prepared.as_ref().filter(|_| !places.is_empty()) else {
            return;
        };
        let now = Instant::now();
        let wanted = places.iter().filter_map(|place| prepared.wanted.get(*place));
        // What ran over came after the last value that was received.
        let since = |place: &usize| match self.mirror.came.get(*place) {
            Some((_, before)) if *before != Timestamp::default() => *before,
            _ => acquired,
        };
        let cause = LossCause::QueueOverflow;
        let is_due = |told: Option<&Instant>| {
            told.is_none_or(|told| now.saturating_duration_since(*told) >= OVERFLOW_EVERY)
        };
        if places.len() > MAX_OVERFLOWS_BY_NAME {
            // So many at once are the server's trouble and not that of a tag.
            if is_due(self.overflow_told.as_ref()) {
                self.overflow_told = Some(now);
                let from = places.iter().map(since).min().unwrap_or(acquired);
                self.core.ledger.missed(None, cause, from, acquired, None);
            }
            return;
        }
        for (place, wanted) in places.iter().zip(wanted) {
            if is_due(self.mirror.overflows.get(place)) {
                let from = since(place);
                self.mirror.overflows.insert(*place, now);
                let tag = Some(wanted.path.shared());
                self.core.ledger.missed(tag, cause, from, acquired, None);
            }
        }
    }

    /// Asks for the types of which values came.
    pub(super) fn learn(&mut self) {
        if self.unknown_types.is_empty() {
            return;
        }
        let types = self.mirror.prepared.as_mut().and_then(|prepared| prepared.types.take());
        if let Some(types) = types {
            let encodings = std::mem::take(&mut self.unknown_types);
            self.todo.push(Chore::Learn { types, encodings });
        }
    }

    pub(super) fn learned(
        &mut self,
        types: DataTypes,
        result: Result<bool, ServiceError>,
        now: Instant,
    ) {
        let Some(prepared) = &mut self.mirror.prepared else { return };
        if matches!(result, Ok(true)) {
            prepared.converter = types.converter();
        }
        prepared.types = Some(types);
        match result {
            Ok(true) => {
                self.hears(now);
                // The server does not send again what it thinks was taken.
                let places: Vec<usize> = self.mirror.flaws.keys().copied().collect();
                let items = self.readable(&places);
                self.todo.push(Chore::Refresh(items));
            }
            Ok(false) => {}
            Err(error) => {
                self.fails(&error);
            }
        }
        self.learn();
    }
}
