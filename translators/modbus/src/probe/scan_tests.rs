use proptest::prelude::*;

use super::*;

/// A device that holds some addresses and takes at most so many at once.
#[derive(Debug)]
struct Map {
    held: Vec<bool>,
    first: u16,
    at_most: u16,
}

impl Map {
    fn answer(&self, start: u16, count: u16) -> Told {
        if count > self.at_most {
            return Told::Refused(3);
        }
        let at = usize::from(start - self.first);
        let asked = &self.held[at..at + usize::from(count)];
        if asked.iter().all(|held| *held) { Told::Answered } else { Told::Refused(2) }
    }

    fn runs(&self) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for (address, held) in (self.first..=u16::MAX).zip(&self.held) {
            match runs.last_mut() {
                Some(run) if *held && run.last + 1 == address => run.last = address,
                _ if *held => runs.push(Run { first: address, last: address }),
                _ => {}
            }
        }
        runs
    }

    fn range(&self) -> Run {
        let more = u16::try_from(self.held.len() - 1).unwrap();
        Run { first: self.first, last: self.first + more }
    }

    fn scanned(&self, block: u16, budget: u32) -> Scan {
        let mut scan = Scan::new(self.range(), block, budget);
        while let Some((start, count)) = scan.request() {
            scan.told(self.answer(start, count));
        }
        scan
    }
}

fn map(held: impl IntoIterator<Item = std::ops::Range<usize>>, length: usize) -> Map {
    let mut map = Map { held: vec![false; length], first: 0, at_most: 125 };
    held.into_iter().for_each(|range| map.held[range].fill(true));
    map
}

/// Runs and gaps in turn, short and long ones, as devices have them.
fn maps() -> impl Strategy<Value = Map> {
    let lengths = prop::collection::vec(prop_oneof![1_usize..4, 1_usize..40, 90_usize..300], 1..12);
    (lengths, any::<bool>(), 1_u16..=125, prop_oneof![Just(0_u16), 0_u16..60_000]).prop_map(
        |(lengths, mut held, at_most, first)| {
            let mut cells = Vec::new();
            for length in lengths {
                cells.extend(std::iter::repeat_n(held, length));
                held = !held;
            }
            cells.truncate(usize::from(u16::MAX - first) + 1);
            Map { held: cells, first, at_most }
        },
    )
}

proptest! {
    #[test]
    fn exactly_the_readable_runs_are_found_with_a_bounded_number_of_requests(
        map in maps(),
        block in 1_u16..=125,
    ) {
        let scan = map.scanned(block, u32::MAX);
        prop_assert_eq!(scan.end(), Some(End::Complete));
        let runs = map.runs();
        prop_assert_eq!(scan.readable(), runs.clone());
        prop_assert_eq!(scan.unknown(), Vec::new());
        // A device that takes few at once is asked in as small blocks, but for finding that out.
        let usable = u32::from(block.min(map.at_most.div_ceil(2)).max(1));
        let length = map.range().len();
        let absent = u32::try_from(map.held.iter().filter(|held| !**held).count()).unwrap();
        let ends = 2 * u32::try_from(runs.len()).unwrap();
        let bisection = usable.ilog2() + 2;
        let bound = 2 * length.div_ceil(usable) + absent + ends * bisection + 7;
        prop_assert!(scan.requests() <= bound, "{} of {bound}", scan.requests());
    }

    #[test]
    fn a_search_cut_short_claims_nothing_that_is_not_so(map in maps(), budget in 0_u32..60) {
        let scan = map.scanned(100, budget);
        prop_assert!(scan.requests() <= budget);
        prop_assert!(matches!(scan.end(), Some(End::Budget | End::Complete)));
        let held = |address: u16| map.held[usize::from(address - map.first)];
        for run in scan.readable() {
            prop_assert!((run.first..=run.last).all(held), "{:?}", run);
        }
        let is_in = |runs: &[Run], at| runs.iter().any(|run| run.first <= at && at <= run.last);
        let (readable, unknown) = (scan.readable(), scan.unknown());
        for at in map.range().first..=map.range().last {
            prop_assert!(held(at) == is_in(&readable, at) || is_in(&unknown, at), "{}", at);
        }
    }

    #[test]
    fn whatever_a_device_says_the_search_ends(answers in prop::collection::vec(0_u8..14, 0..400)) {
        let mut scan = Scan::new(Run { first: 65_000, last: 65_535 }, 125, 400);
        let mut answers = answers.into_iter().cycle();
        while scan.request().is_some() {
            scan.told(match answers.next() {
                Some(0) | None => Told::Answered,
                Some(13) => Told::Silent,
                Some(code) => Told::Refused(code),
            });
        }
        prop_assert!(scan.end().is_some() && scan.requests() <= 400);
    }
}

#[test]
fn a_long_run_is_found_early_although_the_search_is_cut_short() {
    let map = map(std::iter::once(437..500), 1000);
    let scan = map.scanned(100, 60);
    assert_eq!(scan.end(), Some(End::Budget));
    assert_eq!(scan.readable(), [Run { first: 437, last: 499 }]);
}

#[test]
fn a_dense_table_costs_one_request_for_each_block() {
    let map = map(std::iter::once(0..1000), 1000);
    let scan = map.scanned(125, 100);
    assert_eq!((scan.requests(), scan.readable()), (8, vec![Run { first: 0, last: 999 }]));
    assert!(!scan.has_holes());
}

#[test]
fn a_hole_of_one_address_is_found_by_bisection() {
    let scan = map([0..31, 32..100], 100).scanned(100, 100);
    assert_eq!(scan.readable(), [Run { first: 0, last: 30 }, Run { first: 32, last: 99 }]);
    assert!(scan.has_holes());
    // The range, its middle, all below and five parts of it down to the hole; the middle of the
    // rest and both sides of it; all above.
    assert_eq!(scan.requests(), 12);
}

#[test]
fn what_was_refused_with_readable_addresses_alone_is_not_asked_again() {
    let map = map([0..31, 33..100], 100);
    let mut asked = Vec::new();
    let mut scan = Scan::new(map.range(), 100, 100);
    while let Some((start, count)) = scan.request() {
        asked.push((start, count));
        scan.told(map.answer(start, count));
    }
    assert_eq!(scan.readable(), map.runs());
    assert!(!asked.contains(&(31, 1)) && !asked.contains(&(32, 1)), "{asked:?}");
}

#[test]
fn a_table_that_is_not_there_costs_one_request() {
    let mut scan = Scan::new(Run { first: 0, last: 65_535 }, 125, 1000);
    assert_eq!(scan.request(), Some((0, 125)));
    scan.told(Told::Refused(1));
    assert_eq!((scan.request(), scan.end(), scan.requests()), (None, Some(End::NoTable), 1));
}

#[test]
fn the_second_silence_ends_the_search_and_names_what_was_asked() {
    let mut scan = Scan::new(Run { first: 10, last: 999 }, 100, 1000);
    scan.request();
    scan.told(Told::Answered);
    assert_eq!(scan.request(), Some((110, 100)));
    scan.told(Told::Silent);
    assert_eq!(scan.request(), Some((110, 100)));
    scan.told(Told::Silent);
    let asked = Run { first: 110, last: 209 };
    assert_eq!((scan.request(), scan.end()), (None, Some(End::Silent(asked))));
    assert_eq!(scan.readable(), [Run { first: 10, last: 109 }]);
}

#[test]
fn a_busy_device_is_asked_again_but_not_for_ever() {
    let mut scan = Scan::new(Run { first: 0, last: 9 }, 100, 1000);
    scan.request();
    scan.told(Told::Refused(6));
    assert_eq!(scan.request(), Some((0, 10)));
    scan.told(Told::Answered);
    assert_eq!((scan.request(), scan.end()), (None, Some(End::Complete)));
    let mut scan = Scan::new(Run { first: 0, last: 9 }, 100, 1000);
    while scan.request().is_some() {
        scan.told(Told::Refused(6));
    }
    assert_eq!(scan.end(), Some(End::Busy));
}
