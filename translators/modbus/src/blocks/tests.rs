use std::collections::BTreeSet;

use proptest::prelude::*;
use tidegate_translator::TagPath;

use super::*;
use crate::spec::{Address, DataType, DeviceSpec, LinkSpec, Order, Table, TagSpec, UnitId};

fn plan(offsets: &[(u16, DataType)], max_gap: u16) -> Plan {
    let tags = offsets.iter().map(|&(offset, kind)| TagSpec {
        path: TagPath::new(format!("P/{offset}")).unwrap(),
        address: Address {
            table: Table::HoldingRegister,
            offset,
            bit: (kind == DataType::Bool).then_some(0),
        },
        kind,
        order: Order::Abcd,
        scale: 1.0,
        offset: 0.0,
        special: None,
    });
    let spec = DeviceSpec {
        name: "d".into(),
        link: Arc::new(LinkSpec::tcp("h".into(), 502)),
        unit: UnitId(1),
        poll_every: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        pause_between: Duration::ZERO,
        max_gap,
        max_registers: 125,
        max_bits: 2000,
        forbidden: Arc::default(),
        backoff: (Duration::from_secs(1), Duration::from_secs(30)),
        tags: tags.collect(),
    };
    Plan::new(&spec).unwrap()
}

/// What a cycle against a device with holes found, by tag.
#[derive(Default)]
struct Found {
    read: BTreeSet<usize>,
    refused: BTreeSet<usize>,
    resting: BTreeSet<usize>,
    requests: usize,
}

fn cycle(blocks: &mut Blocks, holes: &BTreeSet<u16>, now: Instant) -> Found {
    let mut found = Found::default();
    blocks.begin(now);
    while let Some(step) = blocks.next() {
        match step {
            Step::Resting(spans, _) => {
                for span in blocks.spans(&spans) {
                    assert!(found.resting.insert(span.tag()), "offered twice");
                }
            }
            Step::Read(block) => {
                found.requests += 1;
                let end = u32::from(block.start) + u32::from(block.count);
                let hit = holes.iter().any(|h| *h >= block.start && u32::from(*h) < end);
                if !hit {
                    for span in blocks.spans(&block.spans) {
                        assert!(span.start >= block.start && span.end() <= end);
                        assert!(found.read.insert(span.tag()), "read twice");
                    }
                    blocks.answered();
                } else if let Refusal::Final(spans) = blocks.refused(ILLEGAL_ADDRESS) {
                    for span in blocks.spans(&spans) {
                        assert!(found.refused.insert(span.tag()), "refused twice");
                    }
                }
            }
        }
    }
    found
}

proptest! {
    #[test]
    fn holes_are_isolated_until_exactly_the_tags_on_them_are_refused(
        offsets in prop::collection::btree_set(0u16..400, 1..60),
        wide in prop::collection::vec(any::<bool>(), 60),
        holes in prop::collection::btree_set(0u16..400, 0..40),
        max_gap in 0u16..30,
    ) {
        let tags: Vec<_> = offsets.iter().zip(wide)
            .map(|(at, wide)| (*at, if wide { DataType::Uint32 } else { DataType::Uint16 }))
            .collect();
        let plan = plan(&tags, max_gap);
        let mut now = Instant::now();
        let mut blocks = Blocks::new(&plan, now);
        let on_hole: BTreeSet<usize> = tags.iter().enumerate()
            .filter(|(_, (at, kind))| (*at..*at + kind.registers()).any(|a| holes.contains(&a)))
            .map(|(tag, _)| tag)
            .collect();
        for round in 0..12 {
            let found = cycle(&mut blocks, &holes, now);
            let all = found.read.len() + found.refused.len() + found.resting.len();
            prop_assert_eq!(all, tags.len(), "every tag is offered once");
            // Each halving adds one request, and each block may also be tried whole.
            prop_assert!(found.requests <= 2 * tags.len() + MAX_HALVINGS + plan.blocks().len());
            if round >= 3 {
                let bad: BTreeSet<_> = found.refused.union(&found.resting).copied().collect();
                prop_assert_eq!(&bad, &on_hole);
            }
            now += Duration::from_secs(7);
        }
        // Mended: after the longest rest everything is read as planned again.
        now += LONGEST_REST;
        cycle(&mut blocks, &BTreeSet::new(), now);
        now += LONGEST_REST;
        let found = cycle(&mut blocks, &BTreeSet::new(), now);
        prop_assert_eq!(found.read.len(), tags.len());
        prop_assert_eq!(found.requests, plan.blocks().len());
    }
}

#[test]
fn one_bad_address_among_125_is_found_in_one_cycle_with_few_requests() {
    let tags: Vec<_> = (0..125).map(|at| (at, DataType::Uint16)).collect();
    let now = Instant::now();
    let mut blocks = Blocks::new(&plan(&tags, 0), now);
    let found = cycle(&mut blocks, &BTreeSet::from([77]), now);
    assert_eq!(found.refused, BTreeSet::from([77]));
    assert_eq!(found.read.len(), 124);
    assert!(found.requests <= 15, "{} requests", found.requests);
}

#[test]
fn a_device_that_refuses_everything_costs_a_bounded_number_of_requests() {
    let tags: Vec<_> = (0..1_000).map(|at| (at, DataType::Uint16)).collect();
    let plan = plan(&tags, 0);
    let mut now = Instant::now();
    let mut blocks = Blocks::new(&plan, now);
    let everything = (0..1_000).collect();
    for _ in 0..300 {
        let found = cycle(&mut blocks, &everything, now);
        assert_eq!(found.refused.len() + found.resting.len(), 1_000);
        // The wholes, what is left of them in pieces, the halves of this cycle, and the retries.
        let most = 2 * plan.blocks().len() + 2 * MAX_HALVINGS + MAX_RETRIES;
        assert!(found.requests <= most, "{} requests in a cycle", found.requests);
        now += Duration::from_secs(1);
    }
}

#[test]
fn two_bits_of_one_register_are_never_parted() {
    let plan = plan(&[(5, DataType::Bool), (5, DataType::Bool)], 0);
    assert_eq!(halve(plan.spans(), &(0..2)), None);
}

#[test]
fn when_a_refused_address_exists_at_last_the_whole_block_is_tried_at_once() {
    let tags: Vec<_> = (0..20).map(|at| (at, DataType::Uint16)).collect();
    let mut now = Instant::now();
    let mut blocks = Blocks::new(&plan(&tags, 0), now);
    // Long enough for every rest to have become the longest.
    for _ in 0..400 {
        cycle(&mut blocks, &BTreeSet::from([7]), now);
        now += Duration::from_secs(7);
    }
    // The whole has just been tried, in vain; the refused address gets its chance before the next.
    blocks.planned[0].retry = Pause::first(now).longer(now).longer(now);
    let (until, _) = blocks.planned[0].parts.iter().find_map(|part| part.rest).unwrap();
    blocks.planned[0].retry.until = until.until + LONGEST_REST;
    now = until.until;
    assert_eq!(cycle(&mut blocks, &BTreeSet::new(), now).read.len(), 20);
    now += Duration::from_secs(1);
    assert_eq!(cycle(&mut blocks, &BTreeSet::new(), now).requests, 1);
}

#[test]
fn only_failures_in_a_row_put_a_block_to_rest() {
    let now = Instant::now();
    let mut blocks = Blocks::new(&plan(&[(0, DataType::Uint16)], 0), now);
    for _ in 0..5 {
        blocks.begin(now);
        assert!(matches!(blocks.next(), Some(Step::Read(_))));
        assert_eq!(blocks.poisoned(Reason::Timeout), None, "the first is an accident");
        assert!(matches!(blocks.next(), Some(Step::Read(_))), "and is offered again");
        blocks.answered();
        assert_eq!(blocks.next(), None);
    }
    blocks.begin(now);
    blocks.next();
    assert_eq!(blocks.poisoned(Reason::Timeout), None);
    blocks.next();
    assert_eq!(blocks.poisoned(Reason::Timeout), Some(0..1));
    assert_eq!(blocks.next(), None);
    blocks.begin(now);
    let resting = Step::Resting(0..1, Cause::Poison(Reason::Timeout));
    assert_eq!(blocks.next(), Some(resting));
}
