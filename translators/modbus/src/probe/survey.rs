//! The course of a probe: units, identification, tables, limits, times.
//!
//! # Invariants
//! - Between two requests to the line there is the wanted pause.
//! - A unit that falls silent is left alone; what was learnt of it stays.

use std::cell::RefCell;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::ask::Ask;
use super::findings::{Evidence, Findings, Identity, Merged, TableFindings, Times, UnitFindings};
use super::limit::Limit;
use super::scan::{Run, Scan, Told};
use crate::link::{
    GATEWAY_PATH, GATEWAY_TARGET, ILLEGAL_FUNCTION, IdCode, LinkError, Reply, Request,
};
use crate::plan::{MAX_BITS, MAX_REGISTERS};
use crate::spec::{Table, UnitId};

/// The block in which registers are searched: less than the protocol's 125, because many devices
/// take no more than 100 or 120.
const REGISTER_BLOCK: u16 = 100;
/// The block in which bits are searched.
const BIT_BLOCK: u16 = 256;
/// A unit number that nobody gives: who answers to it as well as to 1, 255 and 0 does not look at
/// the unit number.
const UNLIKELY: UnitId = UnitId(113);
/// Connections that may break in a row before it is the link, and not a unit, that fails.
const MAX_BROKEN: u8 = 3;
/// Identification answers that are read; a device has 253 objects at most and a loop must end.
const MAX_PARTS: u8 = 16;
/// The pause before a request that was not answered is repeated.
const REST: Duration = Duration::from_millis(500);

/// Which units are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Units {
    /// What a device on TCP usually has: 1, 255, 0; unless all of these answer alike, 2 to 16 too.
    Usual,
    /// These.
    These(Vec<UnitId>),
}

/// What is to be found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Which units.
    pub units: Units,
    /// The tables to search.
    pub tables: Vec<Table>,
    /// The range to search in each.
    pub range: Run,
    /// The pause between two requests.
    pub pause: Duration,
    /// The most requests of one table's search.
    pub budget: u32,
    /// How often each response time is measured.
    pub samples: u8,
}

/// Finds out what is wanted; `findings` has it as soon as it is known.
///
/// Cancel safety: dropping the future ends the probe; what was learnt stays in `findings`.
///
/// # Errors
/// When there is no link, or it breaks again and again before any unit has answered.
pub async fn survey<A: Ask>(
    ask: &mut A,
    wanted: &Wanted,
    findings: &RefCell<Findings>,
) -> Result<(), LinkError> {
    let mut probe = Probe { ask, pause: wanted.pause, findings, last: None };
    probe.units(&wanted.units).await?;
    let count = findings.borrow().units.len();
    let units = if findings.borrow().any_unit { count.min(1) } else { count };
    for at in 0..units {
        probe.identify(at).await;
        for table in &wanted.tables {
            if !probe.table(at, *table, wanted).await {
                break;
            }
        }
    }
    Ok(())
}

/// Reads registers or bits from `start` on: `most` of them, or as many fewer as the device gives.
///
/// # Errors
/// When not even one is given.
pub async fn cells<A: Ask>(
    ask: &mut A,
    unit: UnitId,
    table: Table,
    start: u16,
    most: u16,
) -> Result<Reply, LinkError> {
    let mut count = most.min(u16::MAX - start).max(1);
    loop {
        match ask.ask(unit, Request::Read { table, start, count }).await {
            Err(LinkError::Refused { code: 2..=4 }) if count > 1 => count -= 1,
            outcome => return outcome,
        }
    }
}

struct Probe<'a, A> {
    ask: &'a mut A,
    pause: Duration,
    findings: &'a RefCell<Findings>,
    /// When the last answer, or the lack of one, was known.
    last: Option<Instant>,
}

impl<A: Ask> Probe<'_, A> {
    async fn ask(&mut self, unit: UnitId, request: Request) -> Result<Reply, LinkError> {
        if let Some(last) = self.last {
            tokio::time::sleep_until(last + self.pause).await;
        }
        self.findings.borrow_mut().requests += 1;
        let outcome = self.ask.ask(unit, request).await;
        self.last = Some(Instant::now());
        outcome
    }

    async fn read(
        &mut self,
        unit: UnitId,
        table: Table,
        start: u16,
        count: u16,
    ) -> Result<Reply, LinkError> {
        self.ask(unit, Request::Read { table, start, count }).await
    }

    fn doing(&self, what: String) {
        self.findings.borrow_mut().doing = what;
    }

    fn found(&self) -> usize {
        self.findings.borrow().units.len()
    }

    async fn units(&mut self, units: &Units) -> Result<(), LinkError> {
        let usual;
        let units = match units {
            Units::These(units) => units,
            Units::Usual => {
                let first = [1, 255, 0].map(UnitId);
                self.look_for(&first).await?;
                if self.found() == first.len() {
                    // Its silence is no unit's silence: nobody asked for this one.
                    let silent = self.findings.borrow().silent.len();
                    self.look_for(&[UNLIKELY]).await?;
                    let mut findings = self.findings.borrow_mut();
                    findings.silent.truncate(silent);
                    if findings.units.len() > first.len() {
                        findings.units.truncate(1);
                        findings.any_unit = true;
                        return Ok(());
                    }
                }
                usual = (2..=16).map(UnitId).collect::<Vec<_>>();
                &usual
            }
        };
        self.look_for(units).await
    }

    async fn look_for(&mut self, units: &[UnitId]) -> Result<(), LinkError> {
        let mut broken = 0;
        for unit in units {
            self.doing(format!("looking for unit {}", unit.0));
            let evidence = match self.read(*unit, Table::HoldingRegister, 0, 1).await {
                Ok(_) => Some(Evidence::Value),
                Err(LinkError::Refused { code: GATEWAY_PATH | GATEWAY_TARGET }) => None,
                Err(LinkError::Refused { code }) => Some(Evidence::Exception(code)),
                Err(LinkError::Silent { .. }) => None,
                Err(error @ (LinkError::Closed { .. } | LinkError::Malformed { .. })) => {
                    broken += 1;
                    if broken >= MAX_BROKEN && self.found() == 0 {
                        return Err(error);
                    }
                    None
                }
                Err(error) => return Err(error),
            };
            let mut findings = self.findings.borrow_mut();
            match evidence {
                None => findings.silent.push(*unit),
                Some(evidence) => {
                    broken = 0;
                    let (identity, tables) = (None, Vec::new());
                    findings.units.push(UnitFindings { unit: *unit, evidence, identity, tables });
                }
            }
        }
        Ok(())
    }

    fn unit(&self, at: usize) -> Option<UnitId> {
        self.findings.borrow().units.get(at).map(|unit| unit.unit)
    }

    async fn identify(&mut self, at: usize) {
        let Some(unit) = self.unit(at) else { return };
        self.doing(format!("asking unit {} who it is", unit.0));
        let identity = self.identity(unit).await;
        if let Some(unit) = self.findings.borrow_mut().units.get_mut(at) {
            unit.identity = Some(identity);
        }
    }

    /// Basic and regular objects. Devices differ in whether "regular" holds the basic ones.
    async fn identity(&mut self, unit: UnitId) -> Identity {
        let mut objects: Vec<(u8, Vec<u8>)> = Vec::new();
        for (code, first) in [(IdCode::Basic, 0), (IdCode::Regular, 3)] {
            let mut object = first;
            for _ in 0..MAX_PARTS {
                let part = match self.ask(unit, Request::Identify { code, object }).await {
                    Ok(Reply::Identity(part)) => part,
                    Ok(_) => return Identity::NoAnswer("another answer".to_owned()),
                    // Only the basic objects are mandatory.
                    Err(_) if code != IdCode::Basic => break,
                    Err(LinkError::Refused { code: ILLEGAL_FUNCTION }) => {
                        return Identity::NotSupported;
                    }
                    Err(LinkError::Refused { code }) => return Identity::Refused(code),
                    Err(LinkError::Silent { waited, .. }) => {
                        let waited = waited.as_millis();
                        return Identity::NoAnswer(format!("silent for {waited} ms"));
                    }
                    Err(error) => return Identity::NoAnswer(error.line()),
                };
                for (number, text) in part.objects {
                    if !objects.iter().any(|(known, _)| *known == number) {
                        objects.push((number, text.into()));
                    }
                }
                match part.next {
                    Some(next) if next > object => object = next,
                    _ => break,
                }
            }
        }
        objects.sort();
        Identity::Objects(objects)
    }

    /// Looks at one table; `false` when the unit no longer answers.
    async fn table(&mut self, at: usize, table: Table, wanted: &Wanted) -> bool {
        let Some(unit) = self.unit(at) else { return false };
        let bits = table.holds_bits();
        let block = if bits { BIT_BLOCK } else { REGISTER_BLOCK };
        let mut scan = Scan::new(wanted.range, block, wanted.budget);
        let found = TableFindings {
            table,
            searched: wanted.range,
            readable: Vec::new(),
            unknown: vec![wanted.range],
            end: None,
            requests: 0,
            largest: None,
            one: None,
            block: None,
            merged: Merged::Untried,
        };
        if let Some(unit) = self.findings.borrow_mut().units.get_mut(at) {
            unit.tables.push(found);
        }
        let word = table.word();
        while let Some((start, count)) = scan.request() {
            let (known, of) = scan.progress();
            self.doing(format!("unit {}: {word}, {known} of {of} addresses known", unit.0));
            let told = told(&self.read(unit, table, start, count).await);
            scan.told(told);
            match told {
                Told::Silent => sleep(REST).await,
                Told::Refused(5 | 6) => sleep(REST).await,
                Told::Answered | Told::Refused(_) => {}
            }
            self.note(at, |found| note_scan(found, &scan));
        }
        self.note(at, |found| note_scan(found, &scan));
        let longest = scan.readable().into_iter().max_by_key(|run| run.len());
        let gone = matches!(scan.end(), Some(super::scan::End::Silent(_)));
        if let Some(run) = longest.filter(|_| !gone) {
            self.doing(format!("unit {}: measuring {word}", unit.0));
            return self.measure(at, unit, table, run, &scan, wanted.samples).await;
        }
        !gone
    }

    fn note(&self, at: usize, change: impl FnOnce(&mut TableFindings)) {
        let mut findings = self.findings.borrow_mut();
        if let Some(found) = findings.units.get_mut(at).and_then(|unit| unit.tables.last_mut()) {
            change(found);
        }
    }

    /// Limit, times and gaps of a table, in its longest run.
    async fn measure(
        &mut self,
        at: usize,
        unit: UnitId,
        table: Table,
        run: Run,
        scan: &Scan,
        samples: u8,
    ) -> bool {
        let protocol = if table.holds_bits() { MAX_BITS } else { MAX_REGISTERS };
        let mut limit = Limit::new(scan.largest_answered(), run.len(), protocol);
        while let Some(count) = limit.next() {
            let outcome = told(&self.read(unit, table, run.first, count).await);
            limit.told(outcome);
            if outcome == Told::Silent {
                sleep(REST).await;
            }
        }
        let largest = limit.largest();
        self.note(at, |found| found.largest = Some(largest));
        let Some(one) = self.times(unit, table, run.first, 1, samples).await else { return false };
        self.note(at, |found| found.one = Some(one));
        let block = self.times(unit, table, run.first, largest.cells, samples).await;
        let Some(block) = block else { return false };
        self.note(at, |found| found.block = Some(block));
        let merged = self.merged(unit, table, scan, largest.cells).await;
        self.note(at, |found| found.merged = merged);
        merged != Merged::Silent
    }

    async fn times(
        &mut self,
        unit: UnitId,
        table: Table,
        start: u16,
        count: u16,
        samples: u8,
    ) -> Option<Times> {
        // The first one may have to open a connection.
        self.read(unit, table, start, count).await.ok()?;
        let mut times = Vec::new();
        for _ in 0..samples {
            if let Some(last) = self.last {
                tokio::time::sleep_until(last + self.pause).await;
            }
            let since = Instant::now();
            self.read(unit, table, start, count).await.ok()?;
            times.push(since.elapsed());
        }
        Times::of(times)
    }

    /// Asks for one block from the end of a run over a hole to the next run.
    async fn merged(&mut self, unit: UnitId, table: Table, scan: &Scan, most: u16) -> Merged {
        let (runs, unknown) = (scan.readable(), scan.unknown());
        let across = runs.windows(2).filter_map(|pair| {
            let (first, last) = (pair.first()?.last, pair.get(1)?.first);
            let known = !unknown.iter().any(|gap| first < gap.first && gap.last < last);
            let count = last - first + 1;
            (known && count <= most).then_some((first, count))
        });
        let Some((start, count)) = across.min_by_key(|(_, count)| *count) else {
            return Merged::Untried;
        };
        match self.read(unit, table, start, count).await {
            Ok(_) => Merged::Answered,
            Err(LinkError::Refused { code }) => Merged::Refused(code),
            Err(_) => Merged::Silent,
        }
    }
}

fn note_scan(found: &mut TableFindings, scan: &Scan) {
    found.readable = scan.readable();
    found.unknown = scan.unknown();
    found.end = scan.end();
    found.requests = scan.requests();
}

const fn told(outcome: &Result<Reply, LinkError>) -> Told {
    match outcome {
        Ok(_) => Told::Answered,
        Err(LinkError::Refused { code }) => Told::Refused(*code),
        Err(_) => Told::Silent,
    }
}

#[cfg(test)]
#[path = "survey_tests.rs"]
mod tests;
