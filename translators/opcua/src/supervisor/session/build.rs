//! What a session makes at the server: subscriptions and items, each with a result of its own.

use super::*;

impl Session<'_> {
    pub(super) fn prepared(&mut self, prepared: Prepared, now: Instant) {
        self.hears(now);
        let spec = Arc::clone(&self.core.spec);
        self.mirror.groups = match spec.collect {
            Collect::Subscribe => groups(&spec, &prepared.wanted),
            Collect::Poll => polls(&spec, &prepared.wanted),
        };
        self.mirror.exists = vec![false; prepared.wanted.len()];
        let failure = |(place, node): (usize, &Result<_, Failure>)| {
            node.as_ref().err().map(|failure| (place, failure.clone()))
        };
        let failures = prepared.nodes.iter().enumerate().filter_map(failure).collect();
        let leftover = self.leftover.take().filter(|mirror| {
            let same = |old: &Prepared| old.wanted == prepared.wanted;
            mirror.prepared.as_ref().is_some_and(same) && !mirror.subs.is_empty()
        });
        for note in &prepared.notes {
            self.core.voice.notes("not everything below a subtree is taken", note);
        }
        self.mirror.prepared = Some(prepared);
        self.fail_tags(failures);
        match leftover.filter(|_| spec.collect == Collect::Subscribe) {
            Some(mirror) => {
                let ids = mirror.subs.iter().map(|sub| sub.at_server.id).collect();
                self.leftover = Some(mirror);
                self.todo.push(Chore::Transfer(ids));
            }
            None => self.build_next(now),
        }
    }

    pub(super) fn transferred(
        &mut self,
        ids: &[u32],
        result: Result<Vec<opcua::types::TransferResult>, ServiceError>,
        now: Instant,
    ) {
        let Some(mut old) = self.leftover.take() else { return };
        let results = match result {
            Ok(results) => results,
            Err(error) => {
                if !self.fails(&error) {
                    self.build_next(now);
                }
                return;
            }
        };
        self.hears(now);
        let mut useless = Vec::new();
        for (id, result) in ids.iter().zip(results) {
            let place = old.subs.iter().position(|sub| sub.at_server.id == *id);
            let Some(mut sub) = place.map(|place| old.subs.swap_remove(place)) else { continue };
            if result.status_code.is_bad() {
                continue;
            }
            let is_known = self.mirror.groups.get(sub.group) == old.groups.get(sub.group);
            if sub.is_replaced || !is_known {
                useless.push(*id);
                continue;
            }
            // A transfer that says it is good, and then is silent, is not given a second chance.
            sub.dog = sub.dog.successor(now, sub.at_server.keep_alive);
            sub.is_confirmed = false;
            let members = self.mirror.groups.get(sub.group).map(|group| group.members.clone());
            for place in members.unwrap_or_default() {
                if let (Some(to), Some(from)) =
                    (self.mirror.exists.get_mut(place), old.exists.get(place))
                {
                    *to = *from;
                }
                if let Some(failure) = old.failures.remove(&place) {
                    self.mirror.failures.insert(place, failure);
                }
            }
            self.mirror.subs.push(sub);
        }
        if !useless.is_empty() {
            self.todo.push(Chore::Delete(useless));
        }
        self.needs_refresh = !self.mirror.subs.is_empty();
        self.build_next(now);
    }

    /// Creates the next group that has no subscription.
    pub(super) fn build_next(&mut self, now: Instant) {
        if self.core.spec.collect == Collect::Poll {
            self.building = self.mirror.groups.len();
            let slots = |(at, group): (usize, &Group)| {
                let name = format!("{}/{at}", self.core.spec.name);
                Slots::new(now, group.publish_every, &name, group.members.len())
            };
            if self.core.ledger.slots.len() != self.mirror.groups.len() {
                self.core.ledger.slots = self.mirror.groups.iter().enumerate().map(slots).collect();
            }
        }
        while let Some(group) = self.mirror.groups.get(self.building) {
            if self.mirror.subs.iter().all(|sub| sub.group != self.building) {
                self.todo.push(creation(self.building, group));
                return;
            }
            self.building += 1;
        }
        if !self.is_built {
            self.built(now);
        }
    }

    pub(super) fn created(
        &mut self,
        group: usize,
        result: Result<Subscription, ServiceError>,
        now: Instant,
    ) {
        let at_server = match result {
            Ok(at_server) => at_server,
            Err(error) => {
                if !self.fails(&error) {
                    let failure = Failure::of(error.status);
                    let members = self.mirror.groups.get(group).map(|g| g.members.clone());
                    let members = members.unwrap_or_default();
                    self.fail_tags(members.into_iter().map(|p| (p, failure.clone())).collect());
                    self.after_group(group, now);
                }
                return;
            }
        };
        let acquired = self.hears(now);
        let fresh = Watchdog::new(now, at_server.keep_alive);
        let (mut dog, mut heard) = (fresh, (acquired, self.mirror.server_time));
        if let Some(old) = self.mirror.subs.iter().position(|sub| sub.group == group) {
            let old = self.mirror.subs.swap_remove(old);
            dog = old.dog.successor(now, at_server.keep_alive);
            heard = old.heard;
        }
        let sequence = Sequence::new();
        let sub = Sub {
            group,
            at_server,
            sequence,
            dog,
            heard,
            is_replaced: false,
            is_confirmed: true,
            holds: Duration::MAX,
        };
        self.kept_all = false;
        self.mirror.subs.push(sub);
        self.create_items(group, at_server, None, now);
    }

    /// Creates those of the group's items that do not exist.
    pub(super) fn create_items(
        &mut self,
        group: usize,
        at_server: Subscription,
        only: Option<&[usize]>,
        now: Instant,
    ) {
        let members = self.mirror.groups.get(group).map(|group| group.members.clone());
        let mut items = Vec::new();
        let mut failures = Vec::new();
        let Some(prepared) = &self.mirror.prepared else { return };
        for place in members.unwrap_or_default() {
            let (Some(wanted), Some(Ok(node))) =
                (prepared.wanted.get(place), prepared.nodes.get(place))
            else {
                continue;
            };
            if only.is_some_and(|only| !only.contains(&place)) {
                continue;
            }
            let every = at_server.publish_every;
            match create(&self.core.spec, place, wanted, node.clone(), every) {
                Ok(request) => items.push((place, request)),
                Err(error) => {
                    let status = StatusCode::BadIndexRangeInvalid;
                    failures.push((place, Failure::misfit(status, error.to_string())));
                }
            }
        }
        self.fail_tags(failures);
        if items.is_empty() {
            self.after_group(group, now);
        } else {
            self.todo.push(Chore::Items { group, subscription: at_server.id, items });
        }
    }

    pub(super) fn itemised(
        &mut self,
        group: usize,
        places: &[usize],
        result: Result<Vec<MonitoredItemCreateResult>, ServiceError>,
        now: Instant,
    ) {
        self.retrying = false;
        match result {
            Ok(results) => {
                self.hears(now);
                let mut failures = Vec::new();
                let (mut revised, mut first) = (0_usize, None);
                let mut holds = Duration::MAX;
                for (place, result) in places.iter().zip(&results) {
                    if result.status_code.is_bad() {
                        failures.push((*place, Failure::of(result.status_code)));
                        continue;
                    }
                    self.mirror.failures.remove(place);
                    if let Some(exists) = self.mirror.exists.get_mut(*place) {
                        *exists = true;
                    }
                    let prepared = self.mirror.prepared.as_ref();
                    let wanted = prepared.and_then(|prepared| prepared.wanted.get(*place));
                    let Some(wanted) = wanted else { continue };
                    let each = (result.revised_sampling_interval / 1000.0).clamp(0.0, 86_400.0);
                    let held = each * f64::from(result.revised_queue_size);
                    holds = holds.min(Duration::try_from_secs_f64(held).unwrap_or_default());
                    let asked = sample_every(&self.core.spec, &wanted.item).as_secs_f64() * 1000.0;
                    let given = result.revised_sampling_interval;
                    if (given - asked).abs() > asked * 0.01 {
                        revised += 1;
                        first.get_or_insert_with(|| {
                            format!("{} each {given} ms instead of {asked} ms", wanted.path)
                        });
                    }
                }
                if let Some(sub) = self.mirror.subs.iter_mut().find(|sub| sub.group == group) {
                    sub.holds = sub.holds.min(holds);
                }
                if let Some(first) = first {
                    let of = results.len();
                    let detail = format!("{revised} of {of}, the first: {first}");
                    self.core.voice.notes("the server samples at other intervals", &detail);
                }
                self.fail_tags(failures);
            }
            Err(error) => {
                if self.fails(&error) {
                    return;
                }
                let failure = Failure::of(error.status);
                let failures = places.iter().map(|place| (*place, failure.clone())).collect();
                self.fail_tags(failures);
            }
        }
        self.after_group(group, now);
    }

    pub(super) fn after_group(&mut self, group: usize, now: Instant) {
        if group == self.building && !self.is_built {
            self.building += 1;
            self.build_next(now);
        } else if self.is_built {
            self.tell_state();
        }
    }

    /// Everything exists that can.
    pub(super) fn built(&mut self, now: Instant) {
        self.is_built = true;
        self.retry = now + RETRY;
        self.core.ledger.returned();
        self.tell_state();
        if !self.core.ledger.is_away() {
            return;
        }
        if self.kept_all && !self.mirror.subs.is_empty() {
            // What the server held back comes now; what it could not hold is missing in the
            // sequence, or marked in the status of a value.
            return;
        }
        self.make_good(now);
    }

    /// Asks again for what was refused.
    pub(super) fn retry(&mut self, now: Instant) {
        if now < self.retry || !self.is_built || self.retrying || self.mirror.failures.is_empty() {
            return;
        }
        self.retry = now + RETRY;
        let lost = |group: &usize| self.mirror.subs.iter().all(|sub| sub.group != *group);
        if self.core.spec.collect == Collect::Subscribe
            && let Some(group) = (0..self.mirror.groups.len()).find(lost)
            && let Some(members) = self.mirror.groups.get(group)
        {
            self.todo.push(creation(group, members));
        }
        self.retrying = true;
        let Some(prepared) = &self.mirror.prepared else { return };
        let address = |place: &usize| Some((*place, prepared.wanted.get(*place)?.node.clone()));
        self.todo.push(Chore::Resolve(self.mirror.failures.keys().filter_map(address).collect()));
    }

    pub(super) fn resolved(
        &mut self,
        places: &[usize],
        result: Result<Vec<Place>, ServiceError>,
        now: Instant,
    ) {
        self.retrying = false;
        let nodes = match result {
            Ok(nodes) => nodes,
            Err(error) => {
                self.fails(&error);
                return;
            }
        };
        self.hears(now);
        let mut failures = Vec::new();
        let mut found = Vec::new();
        for (place, node) in places.iter().zip(nodes) {
            match (node, self.mirror.prepared.as_mut()) {
                (Ok((node, meaning)), Some(prepared)) => {
                    found.push(*place);
                    if let (Some(at), Some(of)) =
                        (prepared.nodes.get_mut(*place), prepared.meanings.get_mut(*place))
                    {
                        (*at, *of) = (Ok(node), meaning);
                    }
                }
                (Err(failure), _) => failures.push((*place, failure)),
                (Ok(_), None) => {}
            }
        }
        self.fail_tags(failures);
        if self.core.spec.collect == Collect::Poll {
            for place in &found {
                self.mirror.failures.remove(place);
            }
            return self.tell_state();
        }
        let subs: Vec<_> = self.mirror.subs.iter().filter(|sub| !sub.is_replaced).collect();
        let subs: Vec<_> = subs.into_iter().map(|sub| (sub.group, sub.at_server)).collect();
        for (group, at_server) in subs {
            let holds = |place: &usize| {
                self.mirror.groups.get(group).is_some_and(|g| g.members.contains(place))
            };
            if found.iter().any(holds) {
                self.create_items(group, at_server, Some(&found), now);
            }
        }
    }
}

pub(super) fn creation(at: usize, group: &Group) -> Chore {
    let (keep_alive, lifetime) = counts(group.publish_every);
    Chore::Create { group: at, publish_every: group.publish_every, keep_alive, lifetime }
}
