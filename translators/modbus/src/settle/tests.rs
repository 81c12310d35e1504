use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const TIMEOUT: Duration = Duration::from_millis(200);
const UNIT: UnitId = UnitId(9);

fn registers(count: u16) -> Shape {
    Shape::read(3, count)
}

fn no(function: u8) -> Shape {
    Shape { function: function | 0x80, bytes: 0 }
}

#[test]
fn a_request_that_looks_like_an_unanswered_one_waits_for_another_or_for_the_rest() {
    let (mut settle, start) = (Settle::default(), Instant::now());
    assert_eq!(settle.may_ask(UNIT, registers(10), start), Verdict::Ask);
    settle.asked(UNIT, registers(10), start, TIMEOUT);
    let or_from = start + TIMEOUT + LEAST_REST;
    let late = start + TIMEOUT;
    assert_eq!(settle.may_ask(UNIT, registers(10), late), Verdict::Other { or_from });
    assert_eq!(settle.may_ask(UNIT, registers(9), late), Verdict::Ask);
    assert_eq!(settle.may_ask(UNIT, Shape::read(4, 10), late), Verdict::Ask);
    assert_eq!(settle.may_ask(UnitId(8), registers(10), late), Verdict::Ask);
    let before = or_from - Duration::from_nanos(1);
    assert_eq!(settle.may_ask(UNIT, registers(10), before), Verdict::Other { or_from });
    assert_eq!(settle.may_ask(UNIT, registers(10), or_from), Verdict::Ask);
}

#[test]
fn the_rest_is_four_time_outs_and_begins_anew_with_each_request() {
    let (mut settle, start) = (Settle::default(), Instant::now());
    let second = Duration::from_secs(1);
    settle.asked(UNIT, registers(10), start, second);
    let or_from = start + 5 * second;
    assert_eq!(settle.may_ask(UNIT, registers(10), start), Verdict::Other { or_from });
    settle.asked(UNIT, registers(9), start + 3 * second, TIMEOUT);
    let or_from = start + 3 * second + TIMEOUT + LEAST_REST;
    assert_eq!(settle.may_ask(UNIT, registers(10), start), Verdict::Other { or_from });
}

#[test]
fn an_answer_of_another_shape_settles_the_unit() {
    let (mut settle, start) = (Settle::default(), Instant::now());
    settle.asked(UNIT, registers(10), start, TIMEOUT);
    settle.asked(UNIT, registers(9), start, TIMEOUT);
    assert!(!settle.is_settled(UNIT, start));
    settle.answered(UNIT);
    assert!(settle.is_settled(UNIT, start));
    assert_eq!(settle.may_ask(UNIT, registers(10), start), Verdict::Ask);
}

#[test]
fn a_late_answer_settles_what_was_asked_before_it() {
    let (mut settle, start) = (Settle::default(), Instant::now());
    for count in [10, 9, 8] {
        settle.asked(UNIT, registers(count), start, TIMEOUT);
    }
    settle.saw_stale(UnitId(8), registers(8));
    settle.saw_stale(UNIT, registers(9));
    assert_eq!(settle.may_ask(UNIT, registers(10), start), Verdict::Ask);
    assert_eq!(settle.may_ask(UNIT, registers(9), start), Verdict::Ask);
    assert_ne!(settle.may_ask(UNIT, registers(8), start), Verdict::Ask);
    settle.saw_stale(UNIT, registers(8));
    assert!(settle.is_settled(UNIT, start));
}

#[test]
fn an_exception_is_believed_only_when_no_other_request_can_have_it() {
    let (mut settle, start) = (Settle::default(), Instant::now());
    settle.asked(UNIT, registers(10), start, TIMEOUT);
    assert!(settle.refused(UNIT, no(3)), "it is the only one");
    settle.asked(UNIT, registers(10), start, TIMEOUT);
    settle.asked(UNIT, registers(9), start, TIMEOUT);
    assert!(!settle.refused(UNIT, no(3)), "it may be that of the first");
    assert_eq!(settle.may_ask(UNIT, registers(10), start), Verdict::Ask, "which is over now");
    assert_ne!(settle.may_ask(UNIT, registers(9), start), Verdict::Ask);
    settle.asked(UNIT, Shape::read(4, 9), start, TIMEOUT);
    assert!(settle.refused(UNIT, no(4)), "nothing else was asked with this function");
    assert!(settle.is_settled(UNIT, start));
}

#[test]
fn a_unit_that_owes_too_much_is_left_alone() {
    let (mut settle, start) = (Settle::default(), Instant::now());
    for count in 1..=8 {
        settle.asked(UNIT, registers(count), start, TIMEOUT);
    }
    let until = start + TIMEOUT + LEAST_REST;
    assert_eq!(settle.may_ask(UNIT, registers(50), start), Verdict::NotBefore(until));
    assert_eq!(settle.may_ask(UNIT, registers(50), until), Verdict::Ask);
}

#[test]
fn a_part_of_a_block_has_another_shape_than_the_block() {
    assert_eq!(part(3, 10, |_| true), Some(9));
    assert_eq!(part(3, 1, |_| true), None);
    assert_eq!(part(1, 17, |_| true), Some(16));
    assert_eq!(part(1, 24, |_| true), Some(16));
    assert_eq!(part(2, 9, |_| true), Some(8));
    assert_eq!(part(2, 8, |_| true), None);
    assert_eq!(part(4, 10, |shape| shape.bytes < 16), Some(7));
    assert_eq!(part(3, 125, |_| false), None);
    for function in 1..=4 {
        for count in 2..=125 {
            if let Some(some) = part(function, count, |_| true) {
                assert!(some < count);
                assert_ne!(Shape::read(function, some), Shape::read(function, count));
            }
        }
    }
}

/// What the line does with one request.
#[derive(Debug, Clone, Copy)]
struct Fate {
    unit: u8,
    function: u8,
    count: u16,
    /// Until the answer is ready; `None` when there will be none.
    delay: Option<u64>,
    refused: bool,
    /// Before the request is asked.
    pause: u64,
    /// Whether the connection is new, and what came in between is lost with the old one.
    anew: bool,
    /// Whether a request that may not be asked is asked in part, or its rest awaited.
    in_part: bool,
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    // No answer comes later than the rest; all else is arbitrary.
    let latest = u64::try_from(LEAST_REST.as_millis()).unwrap();
    let delay = prop_oneof![
        3 => (0..150u64).prop_map(Some),
        4 => (150..latest).prop_map(Some),
        1 => Just(None),
    ];
    let fate = (
        1u8..3,
        prop_oneof![4 => Just(3u8), 1 => Just(4), 1 => Just(1)],
        1u16..5,
        delay,
        prop::bool::weighted(0.2),
        prop_oneof![0..30u64, 0..3000u64],
        prop::bool::weighted(0.2),
        any::<bool>(),
    );
    let fate = fate.prop_map(|(unit, function, count, delay, refused, pause, anew, in_part)| {
        let count = if function == 1 { count * 8 } else { count };
        Fate { unit, function, count, delay, refused, pause, anew, in_part }
    });
    prop::collection::vec(fate, 1..40)
}

/// An answer on its way.
#[derive(Debug, Clone, Copy)]
struct Coming {
    at: Instant,
    unit: UnitId,
    shape: Shape,
    answers: usize,
}

/// A line with slaves that answer in order, and one who asks by the rules.
struct Line {
    settle: Settle,
    coming: VecDeque<Coming>,
    now: Instant,
    believed: usize,
}

impl Line {
    /// Everything that arrives until then, and is seen.
    fn arrives(&mut self, until: Instant) -> Option<Coming> {
        self.coming.make_contiguous().sort_by_key(|it| (it.at, it.answers));
        if self.coming.front()?.at > until { None } else { self.coming.pop_front() }
    }

    fn step(&mut self, number: usize, fate: Fate) -> Result<(), TestCaseError> {
        self.now += Duration::from_millis(fate.pause);
        let unit = UnitId(fate.unit);
        let mut shape = Shape::read(fate.function, fate.count);
        match self.settle.may_ask(unit, shape, self.now) {
            Verdict::Ask => {}
            Verdict::Other { .. } if fate.in_part => {
                let (settle, now) = (&mut self.settle, self.now);
                let free = |it| settle.may_ask(unit, it, now) == Verdict::Ask;
                let Some(some) = part(fate.function, fate.count, free) else { return Ok(()) };
                shape = Shape::read(fate.function, some);
            }
            Verdict::Other { or_from: from } | Verdict::NotBefore(from) => {
                self.now = from;
                prop_assert_eq!(self.settle.may_ask(unit, shape, from), Verdict::Ask);
            }
        }
        // What came before the request is thrown away: seen by a drain, or lost with the
        // connection.
        while let Some(stale) = self.arrives(self.now) {
            if !fate.anew {
                self.settle.saw_stale(stale.unit, stale.shape);
            }
        }
        self.settle.asked(unit, shape, self.now, TIMEOUT);
        if let Some(delay) = fate.delay {
            let ready = self.now + Duration::from_millis(delay);
            let in_order = self.coming.iter().filter(|it| it.unit == unit).map(|it| it.at).max();
            let at = in_order.map_or(ready, |before| before.max(ready));
            let shape = if fate.refused { no(fate.function) } else { shape };
            self.coming.push_back(Coming { at, unit, shape, answers: number });
        }
        let deadline = self.now + TIMEOUT;
        self.now = loop {
            let Some(came) = self.arrives(deadline) else { break deadline };
            if came.unit == unit && came.shape == shape {
                prop_assert_eq!(came.answers, number, "a wrong answer");
                self.settle.answered(unit);
                self.believed += 1;
                break came.at;
            }
            if came.unit == unit && came.shape == no(fate.function) {
                if self.settle.refused(unit, came.shape) {
                    prop_assert_eq!(came.answers, number, "a wrong exception");
                    self.believed += 1;
                }
                break came.at;
            }
            self.settle.saw_stale(came.unit, came.shape);
        };
        let owed = self.settle.0.values().map(|owed| owed.shapes.len()).max();
        prop_assert!(owed.unwrap_or_default() <= MOST);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn an_accepted_answer_is_the_answer_to_its_request(fates in fates()) {
        let mut line = Line {
            settle: Settle::default(),
            coming: VecDeque::new(),
            now: Instant::now(),
            believed: 0,
        };
        for (number, fate) in fates.iter().enumerate() {
            line.step(number, *fate)?;
        }
        // Rules that let nothing pass would never be wrong either.
        let prompt = fates.iter().all(|it| it.delay.is_some_and(|delay| delay < 150));
        prop_assert!(!prompt || line.believed == fates.len());
    }
}
