//! A device's seat at its bus: what stands between a poll and the turn.
//!
//! # Invariants
//! - A unit is asked only when its state allows it (`unit`), and probes of units that were given up
//!   stay within the bus' budget (`budget`) while any other unit is healthy.
//! - Where a pause between requests is kept, a unit is asked by one asker at a time; nobody holds
//!   the turn meanwhile, so that other units are asked.
//! - The end of every probe is told, also when its future is dropped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidegate_translator::{Clock, Exchange, Reason};
use tokio::time::{Instant, sleep_until};

use super::Bus;
use crate::budget::Budget;
use crate::link::{GATEWAY_PATH, GATEWAY_TARGET, LinkError, Reply, Request};
use crate::spec::{DeviceSpec, UnitId};
use crate::unit::{Leave, Unit};
use tidegate_translator::grid::mix;

/// The units of a bus.
#[derive(Default)]
pub(super) struct Units {
    at: BTreeMap<UnitId, Entry>,
    budget: Budget,
}

struct Entry {
    unit: Unit,
    /// When it may be asked next, for askers that keep a pause.
    pause: Arc<tokio::sync::Mutex<Option<Instant>>>,
    /// Why it was given up; means nothing while it was not.
    why: Arc<Absence>,
}

/// Why a unit is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Absence {
    /// What the samples say.
    pub(crate) reason: Reason,
    /// The exception code, 0 for everything else.
    pub(crate) status: u32,
    /// For a person.
    pub(crate) line: String,
}

/// One asker of one unit.
pub(crate) struct Seat {
    bus: Arc<Bus>,
    unit: UnitId,
    clock: Arc<dyn Clock>,
    pause: Arc<tokio::sync::Mutex<Option<Instant>>>,
}

/// A request and what became of it.
pub(crate) struct Asked {
    /// The verified answer, or why there is none.
    pub(crate) outcome: Result<Reply, LinkError>,
    /// Whether it went out on a connection that had answered before.
    pub(crate) met_proven: bool,
    /// Whether the unit had answered before and was not given up since.
    pub(crate) was_trusted: bool,
}

/// The leave to send one request.
struct Permit<'a> {
    seat: &'a Seat,
    leave: Leave,
    from_budget: bool,
    /// Whether it is for a probe whose end was not told yet.
    open: bool,
}

impl Units {
    fn entry(&mut self, unit: UnitId) -> &mut Entry {
        self.at.entry(unit).or_insert_with(|| Entry {
            unit: Unit::new(mix(u64::from(unit.0)) ^ getrandom::u64().unwrap_or_default()),
            pause: Arc::default(),
            why: Arc::new(Absence { reason: Reason::Timeout, status: 0, line: String::new() }),
        })
    }

    /// Whether `unit` may be asked, and whether that takes the budget. Where a probe is the answer,
    /// it begins.
    fn may_be_asked(&mut self, unit: UnitId, now: Instant) -> (Leave, bool) {
        let entry = self.entry(unit);
        let leave = entry.unit.may_be_asked(now);
        if leave == Leave::Go {
            return (leave, false);
        }
        let rested_until = entry.unit.rests_until();
        let any_healthy = self.at.values().any(|entry| entry.unit.is_healthy());
        let mut from_budget = false;
        match (leave, rested_until) {
            (Leave::Probe { given_up: true }, Some(since)) if any_healthy => {
                from_budget = self.budget.take(now, unit.0, since);
                if !from_budget {
                    return (Leave::Rest, false);
                }
                self.entry(unit).unit.probe();
            }
            (Leave::Probe { .. }, _) => {
                self.entry(unit).unit.probe();
                self.budget.forget(unit.0);
            }
            _ => {}
        }
        (leave, from_budget)
    }
}

impl Seat {
    /// Takes a seat at `bus` for one asker of `unit`.
    pub(crate) fn new(bus: Arc<Bus>, unit: UnitId, clock: Arc<dyn Clock>) -> Self {
        let pause = {
            let mut units = bus.units();
            let entry = units.entry(unit);
            entry.unit.join();
            let pause = Arc::clone(&entry.pause);
            bus.ring.make_room(units.at.len());
            pause
        };
        Self { bus, unit, clock, pause }
    }

    /// The bus.
    pub(crate) const fn bus(&self) -> &Arc<Bus> {
        &self.bus
    }

    /// The bytes of the last exchanges with the unit, oldest first.
    pub(crate) fn exchanges(&self) -> Vec<Exchange> {
        self.bus.exchanges(self.unit)
    }

    /// Whether the unit answers, as far as is known.
    pub(crate) fn is_healthy(&self) -> bool {
        self.bus.units().entry(self.unit).unit.is_healthy()
    }

    /// How often the unit came back after it had been given up.
    pub(crate) fn returns(&self) -> u64 {
        self.bus.units().entry(self.unit).unit.returns()
    }

    /// Sends one request when the unit may be asked.
    ///
    /// # Errors
    /// Why the unit is left alone at present: nothing was sent.
    ///
    /// Cancel safety: dropping the future closes the connection that the request went out on.
    pub(crate) async fn ask(
        &self,
        request: Request,
        spec: &DeviceSpec,
    ) -> Result<Asked, Arc<Absence>> {
        let permit = self.permit().await?;
        let was_trusted = permit.leave == Leave::Go;
        let mut resting = None;
        if !spec.pause_between.is_zero() {
            let mut until = self.pause.lock().await;
            if let Some(until) = until.filter(|until| Instant::now() < *until) {
                sleep_until(until).await;
            }
            // Until the answer is there, in case that nobody waits for it any more.
            *until = Some(Instant::now() + spec.pause_between);
            resting = Some(until);
        }
        let mut turn = self.bus.turn().await.with_backoff(spec.backoff).with_clock(&*self.clock);
        let since = Instant::now();
        let outcome = turn.ask(self.unit, request, spec.timeout).await;
        let met_proven = turn.met_proven();
        drop(turn);
        let now = Instant::now();
        if let Some(until) = &mut resting {
            **until = Some(now + spec.pause_between);
        }
        permit.settle(&outcome, now, now - since);
        Ok(Asked { outcome, met_proven, was_trusted })
    }

    /// Waits while somebody else's probe is under way.
    async fn permit(&self) -> Result<Permit<'_>, Arc<Absence>> {
        if self.bus.units().entry(self.unit).unit.may_be_asked(Instant::now()) == Leave::Go {
            return Ok(Permit { seat: self, leave: Leave::Go, from_budget: false, open: false });
        }
        loop {
            let mut changed = std::pin::pin!(self.bus.changed.notified());
            let (leave, from_budget) = {
                let mut units = self.bus.units();
                let (leave, from_budget) = units.may_be_asked(self.unit, Instant::now());
                match leave {
                    Leave::Rest => return Err(Arc::clone(&units.entry(self.unit).why)),
                    Leave::Wait => changed.as_mut().enable(),
                    Leave::Go | Leave::Probe { .. } => false,
                };
                (leave, from_budget)
            };
            if leave != Leave::Wait {
                let open = leave != Leave::Go;
                return Ok(Permit { seat: self, leave, from_budget, open });
            }
            changed.await;
        }
    }

    /// Stops asking for now. Tells whether the unit is given up until its back-off ends; otherwise
    /// others may be answered.
    pub(crate) fn give_up(&self, why: Absence, backoff: (Duration, Duration)) -> bool {
        let mut units = self.bus.units();
        let entry = units.entry(self.unit);
        let given_up = entry.unit.given_up(Instant::now(), backoff);
        if given_up {
            entry.why = Arc::new(why);
        }
        given_up
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut units = self.bus.units();
        if units.entry(self.unit).unit.leave() {
            units.at.remove(&self.unit);
            units.budget.forget(self.unit.0);
        }
    }
}

impl Permit<'_> {
    fn settle(mut self, outcome: &Result<Reply, LinkError>, now: Instant, took: Duration) {
        let was_open = std::mem::replace(&mut self.open, false);
        {
            let mut units = self.seat.bus.units();
            let unit = &mut units.entry(self.seat.unit).unit;
            let mut cost = None;
            match outcome {
                Err(LinkError::Refused { code: GATEWAY_PATH | GATEWAY_TARGET }) => {
                    unit.missed();
                    cost = Some(took);
                }
                Ok(_) | Err(LinkError::Refused { .. }) => unit.answered(),
                Err(error) if error.is_of_link() => unit.abandoned(),
                Err(LinkError::Unsettled { .. }) => unit.missed(),
                Err(_) => {
                    unit.missed();
                    cost = Some(took);
                }
            }
            if self.from_budget {
                units.budget.spent(now, cost);
            }
        }
        if was_open {
            self.seat.bus.changed.notify_waiters();
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.open {
            let mut units = self.seat.bus.units();
            units.entry(self.seat.unit).unit.abandoned();
            if self.from_budget {
                units.budget.spent(Instant::now(), None);
            }
            drop(units);
            self.seat.bus.changed.notify_waiters();
        }
    }
}
