use std::io;

use super::*;
use crate::link::Identity as Identification;
use crate::probe::findings::Evidence;
use crate::probe::limit::{Bound, Largest};
use crate::probe::scan::End;

/// Units 1 and 7 hold registers 10–39 and 50–199; unit 3 refuses every function. Everyone else is
/// silent for a second.
struct Line {
    asked: Vec<(u8, Request)>,
    at: Vec<Instant>,
    /// Registers at once.
    at_most: u16,
    /// Answers to every unit number as unit 1.
    blind: bool,
    /// After so many requests nobody answers.
    dies_after: usize,
    fills_holes: bool,
}

impl Line {
    fn new() -> Self {
        let (asked, at) = (Vec::new(), Vec::new());
        Self { asked, at, at_most: 64, blind: false, dies_after: usize::MAX, fills_holes: false }
    }
}

impl Ask for Line {
    async fn ask(&mut self, unit: UnitId, request: Request) -> Result<Reply, LinkError> {
        self.asked.push((unit.0, request));
        self.at.push(Instant::now());
        let there = self.blind || matches!(unit.0, 1 | 3 | 7);
        if !there || self.asked.len() > self.dies_after {
            let waited = Duration::from_secs(1);
            sleep(waited).await;
            return Err(LinkError::Silent { unit: unit.0, waited });
        }
        if unit.0 == 3 && !self.blind {
            return Err(LinkError::Refused { code: 1 });
        }
        match request {
            Request::Identify { code: IdCode::Basic, object: 0 } => {
                let objects = vec![(0, b"Lab"[..].into()), (1, b"PM-1"[..].into())];
                Ok(Reply::Identity(Identification { next: Some(2), objects }))
            }
            Request::Identify { code: IdCode::Basic, object: 2 } => {
                let objects = vec![(2, b"1.2"[..].into())];
                Ok(Reply::Identity(Identification { next: None, objects }))
            }
            Request::Identify { .. } => Err(LinkError::Refused { code: 3 }),
            Request::Read { table: Table::HoldingRegister, start, count } => {
                sleep(Duration::from_millis(u64::from(5 + count / 8))).await;
                if count > self.at_most {
                    return Err(LinkError::Refused { code: 3 });
                }
                let held = |at: u16| matches!(at, 10..40 | 50..200);
                let all = (start..start + count).all(held);
                let ends = held(start) && held(start + count - 1);
                if all || (ends && self.fills_holes) {
                    return Ok(Reply::Registers((start..start + count).collect()));
                }
                Err(LinkError::Refused { code: 2 })
            }
            Request::Read { .. } => Err(LinkError::Refused { code: 1 }),
        }
    }
}

fn wanted(units: Units) -> Wanted {
    Wanted {
        units,
        tables: vec![Table::HoldingRegister, Table::Coil],
        range: Run { first: 0, last: 299 },
        pause: Duration::from_millis(20),
        budget: 400,
        samples: 5,
    }
}

fn these(units: &[u8]) -> Units {
    Units::These(units.iter().copied().map(UnitId).collect())
}

async fn surveyed(line: &mut Line, units: Units) -> Findings {
    let findings = RefCell::default();
    survey(line, &wanted(units), &findings).await.unwrap();
    findings.into_inner()
}

#[tokio::test(start_paused = true)]
async fn a_device_is_described_as_it_is() {
    let mut line = Line::new();
    let found = surveyed(&mut line, these(&[1, 2, 3])).await;
    assert_eq!(found.silent, [UnitId(2)]);
    let [one, three] = &found.units[..] else { panic!("{found:?}") };
    assert_eq!((one.unit, one.evidence), (UnitId(1), Evidence::Exception(2)));
    assert_eq!((three.unit, three.evidence), (UnitId(3), Evidence::Exception(1)));
    assert_eq!(three.identity, Some(Identity::NotSupported));
    assert!(three.tables.iter().all(|table| table.end == Some(End::NoTable)));
    let objects = [(0, "Lab"), (1, "PM-1"), (2, "1.2")];
    let objects = objects.map(|(number, text)| (number, text.as_bytes().to_vec()));
    assert_eq!(one.identity, Some(Identity::Objects(objects.to_vec())));
    let [holding, coil] = &one.tables[..] else { panic!("{one:?}") };
    assert_eq!(coil.end, Some(End::NoTable));
    assert_eq!((holding.end, &holding.unknown[..]), (Some(End::Complete), &[][..]));
    assert_eq!(holding.readable, [Run { first: 10, last: 39 }, Run { first: 50, last: 199 }]);
    let largest = Largest { cells: 64, bound: Bound::Refused(3), exact: true };
    assert_eq!(holding.largest, Some(largest));
    assert_eq!(holding.one.unwrap().median, Duration::from_millis(5));
    assert_eq!(holding.block.unwrap().max, Duration::from_millis(13));
    assert_eq!(holding.merged, Merged::Refused(2));
    assert_eq!(usize::try_from(found.requests), Ok(line.asked.len()));
}

#[tokio::test(start_paused = true)]
async fn a_device_that_fills_holes_is_told_from_one_that_refuses_them() {
    let mut line = Line { fills_holes: true, ..Line::new() };
    let found = surveyed(&mut line, these(&[1])).await;
    assert_eq!(found.units[0].tables[0].merged, Merged::Answered);
}

#[tokio::test(start_paused = true)]
async fn between_two_requests_there_is_the_pause() {
    let mut line = Line::new();
    surveyed(&mut line, these(&[1])).await;
    let pauses = line.at.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(pauses.min() >= Some(Duration::from_millis(20)));
}

#[tokio::test(start_paused = true)]
async fn a_device_that_does_not_look_at_the_unit_number_is_described_once() {
    let mut line = Line { blind: true, ..Line::new() };
    let found = surveyed(&mut line, Units::Usual).await;
    assert!(found.any_unit && found.silent.is_empty());
    assert_eq!(found.units.iter().map(|unit| unit.unit.0).collect::<Vec<_>>(), [1]);
    assert!(line.asked.iter().all(|(unit, _)| matches!(unit, 0 | 1 | 113 | 255)));
}

#[tokio::test(start_paused = true)]
async fn units_behind_a_gateway_are_found_by_their_numbers() {
    let mut line = Line::new();
    let found = surveyed(&mut line, Units::Usual).await;
    assert_eq!(found.units.iter().map(|unit| unit.unit.0).collect::<Vec<_>>(), [1, 3, 7]);
    assert_eq!(found.silent.len(), 15);
    assert!(!found.any_unit);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_falls_silent_is_left_alone_and_what_is_known_stays() {
    let mut line = Line { dies_after: 12, ..Line::new() };
    let found = surveyed(&mut line, these(&[1])).await;
    assert_eq!(line.asked.len(), 14);
    let table = &found.units[0].tables[0];
    assert!(matches!(table.end, Some(End::Silent(_))), "{table:?}");
    assert!(!table.readable.is_empty() && !table.unknown.is_empty(), "{table:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_learnt_before_giving_up_is_kept() {
    let (mut line, findings) = (Line::new(), RefCell::default());
    let wanted = wanted(these(&[1, 2, 7]));
    let early = Duration::from_millis(1900);
    let ended = tokio::time::timeout(early, survey(&mut line, &wanted, &findings)).await;
    assert!(ended.is_err());
    let found = findings.into_inner();
    assert_eq!(found.units.len(), 2);
    assert!(!found.units[0].tables[0].readable.is_empty(), "{found:?}");
}

/// Takes connections and closes them.
struct Closing(u32);

impl Ask for Closing {
    async fn ask(&mut self, _: UnitId, _: Request) -> Result<Reply, LinkError> {
        self.0 += 1;
        Err(LinkError::Closed { source: io::ErrorKind::ConnectionReset.into() })
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_that_breaks_again_and_again_is_given_up() {
    let (mut line, findings) = (Closing(0), RefCell::default());
    let ended = survey(&mut line, &wanted(Units::Usual), &findings).await;
    assert!(matches!(ended, Err(LinkError::Closed { .. })));
    assert_eq!(line.0, u32::from(MAX_BROKEN));
}

#[tokio::test(start_paused = true)]
async fn as_many_registers_as_there_are_from_an_address_on_are_read() {
    let mut line = Line::new();
    let table = Table::HoldingRegister;
    let reply = cells(&mut line, UnitId(1), table, 38, 4).await.unwrap();
    assert_eq!(reply, Reply::Registers(vec![38, 39]));
    assert!(matches!(
        cells(&mut line, UnitId(1), table, 40, 4).await,
        Err(LinkError::Refused { code: 2 })
    ));
}
