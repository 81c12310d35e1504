use std::time::Duration;

use proptest::prelude::*;
use tidegate_translator::TagPath;

use super::*;
use crate::spec::LinkSpec;
use crate::spec::{Address, Order, UnitId};

fn tag(table: Table, offset: u16, kind: DataType) -> TagSpec {
    let bit =
        (kind == DataType::Bool && !table.holds_bits()).then_some(offset.to_le_bytes()[0] & 15);
    TagSpec {
        path: TagPath::new(format!("P/{table:?}/{offset}/{kind:?}")).unwrap(),
        address: Address { table, offset, bit },
        kind,
        order: Order::Abcd,
        scale: 1.0,
        offset: 0.0,
        special: None,
    }
}

fn device(tags: Vec<TagSpec>) -> DeviceSpec {
    DeviceSpec {
        name: "d".into(),
        link: Arc::new(LinkSpec::tcp("h".into(), 502)),
        unit: UnitId(1),
        poll_every: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        pause_between: Duration::ZERO,
        max_gap: 8,
        max_registers: 125,
        max_bits: 2000,
        forbidden: Arc::default(),
        backoff: (Duration::from_secs(1), Duration::from_secs(30)),
        tags: tags.into(),
    }
}

fn holding(offset: u16, kind: DataType) -> TagSpec {
    tag(Table::HoldingRegister, offset, kind)
}

fn ranges(plan: &Plan) -> Vec<(u16, u16)> {
    plan.blocks().iter().map(|b| (b.start, b.count)).collect()
}

#[test]
fn neighbours_share_a_request_and_a_wide_gap_parts_them() {
    let spec = device(vec![
        holding(20, DataType::Uint16),
        holding(0, DataType::Float32),
        holding(10, DataType::Uint16),
        holding(1, DataType::Uint16),
    ]);
    assert_eq!(ranges(&Plan::new(&spec).unwrap()), [(0, 11), (20, 1)]);
}

#[test]
fn bits_of_one_register_take_one_register() {
    let mut tags: Vec<_> = (0..16).map(|_| holding(7, DataType::Bool)).collect();
    for (bit, tag) in (0..16).zip(&mut tags) {
        tag.address.bit = Some(bit);
    }
    assert_eq!(ranges(&Plan::new(&device(tags)).unwrap()), [(7, 1)]);
}

#[test]
fn a_wide_value_at_the_limit_goes_whole_into_the_next_request() {
    let tags = (0..63).map(|i| holding(i * 2, DataType::Float32)).collect();
    assert_eq!(ranges(&Plan::new(&device(tags)).unwrap()), [(0, 124), (124, 2)]);
}

#[test]
fn the_last_addresses_of_a_table_are_reached_and_not_passed() {
    let last = device(vec![holding(65_535, DataType::Uint16), holding(65_532, DataType::Uint32)]);
    assert_eq!(ranges(&Plan::new(&last).unwrap()), [(65_532, 4)]);
    let past = device(vec![holding(65_535, DataType::Uint32)]);
    assert!(matches!(&Plan::new(&past).unwrap_err()[..], [PlanError::PastEnd { width: 2, .. }]));
}

#[test]
fn every_unreadable_tag_is_named_in_one_run() {
    let mut stray = holding(3, DataType::Int16);
    stray.address.bit = Some(3);
    let mut missing = holding(4, DataType::Bool);
    missing.address.bit = None;
    let mut beyond = holding(5, DataType::Bool);
    beyond.address.bit = Some(16);
    let mut spec = device(vec![
        tag(Table::Coil, 1, DataType::Int16),
        stray,
        missing,
        beyond,
        holding(6, DataType::Int64),
    ]);
    spec.max_registers = 2;
    let errors = Plan::new(&spec).unwrap_err();
    assert!(
        matches!(
            &errors[..],
            [
                PlanError::NumberInBits { .. },
                PlanError::StrayBit { .. },
                PlanError::MissingBit { .. },
                PlanError::StrayBit { .. },
                PlanError::WiderThanBlock { width: 4, limit: 2, .. },
            ]
        ),
        "{errors:?}"
    );
}

#[test]
fn no_tags_need_no_requests() {
    assert_eq!(Plan::new(&device(vec![])).unwrap().blocks(), []);
}

fn any_tag() -> impl Strategy<Value = TagSpec> {
    let numbers = prop_oneof![
        Just(DataType::Bool),
        Just(DataType::Int16),
        Just(DataType::Uint32),
        Just(DataType::Float32),
        Just(DataType::Int64),
        Just(DataType::Float64),
    ];
    // Both ends of the table and a crowded middle.
    let offsets =
        prop_oneof![0u16..400, 65_300u16..=65_532, any::<u16>().prop_map(|o| o.min(65_532))];
    prop_oneof![
        (
            prop_oneof![Just(Table::HoldingRegister), Just(Table::InputRegister)],
            offsets.clone(),
            numbers
        )
            .prop_map(|(table, offset, kind)| tag(table, offset, kind)),
        (prop_oneof![Just(Table::Coil), Just(Table::DiscreteInput)], offsets)
            .prop_map(|(table, offset)| tag(table, offset, DataType::Bool)),
    ]
}

/// The fewest blocks that any cut of the sorted spans into runs can give.
fn fewest(plan: &Plan, limits: Limits) -> usize {
    let spans = plan.spans();
    let fits = |from: usize, to: usize| {
        let run = &spans[from..to];
        let mut end = run[0].end();
        for span in &run[1..] {
            if span.table != run[0].table || u32::from(span.start) > end + limits.gap {
                return false;
            }
            end = end.max(span.end());
        }
        end - u32::from(run[0].start) <= u32::from(limits.of_table(run[0].table))
    };
    let mut best = vec![0; spans.len() + 1];
    for to in 1..=spans.len() {
        best[to] = (0..to).filter(|&from| fits(from, to)).map(|from| best[from] + 1).min().unwrap();
    }
    best[spans.len()]
}

proptest! {
    #[test]
    fn a_plan_keeps_every_rule(
        tags in prop::collection::vec(any_tag(), 0..60),
        max_gap in prop_oneof![0u16..20, Just(u16::MAX)],
        max_registers in 4u16..=130,
        max_bits in prop_oneof![1u16..40, 1990u16..=2100],
    ) {
        let spec = DeviceSpec { max_gap, max_registers, max_bits, ..device(tags) };
        let limits = Limits::of(&spec);
        let plan = Plan::new(&spec).unwrap();

        let mut seen = vec![0; spec.tags.len()];
        for block in plan.blocks() {
            prop_assert!(block.count >= 1);
            let hard = if block.table.holds_bits() { 2000 } else { 125 };
            prop_assert!(block.count <= hard);
            prop_assert!(block.count <= limits.of_table(block.table));
            let end = u32::from(block.start) + u32::from(block.count);
            prop_assert!(end <= 65_536);
            let mut needed = vec![false; usize::from(block.count)];
            for span in plan.spans_of(block) {
                seen[span.tag()] += 1;
                prop_assert_eq!(span.table, block.table);
                prop_assert!(span.start >= block.start && span.end() <= end);
                let from = usize::from(span.start - block.start);
                needed[from..from + usize::from(span.width)].fill(true);
            }
            let widest = needed.split(|n| *n).map(<[bool]>::len).max().unwrap_or(0);
            prop_assert!(widest <= usize::from(max_gap), "bridges {} of {}", widest, max_gap);
            prop_assert!(needed[0] && needed[needed.len() - 1], "reads more than it needs");
        }
        prop_assert!(seen.iter().all(|n| *n == 1), "{:?}", seen);
        prop_assert_eq!(plan.blocks().len(), fewest(&plan, limits));
    }

    #[test]
    fn the_order_of_tags_does_not_change_the_requests(
        tags in prop::collection::vec(any_tag(), 0..30).prop_shuffle(),
    ) {
        let mut sorted = tags.clone();
        sorted.sort_by_key(|t| (t.address, t.kind.registers()));
        prop_assert_eq!(
            ranges(&Plan::new(&device(tags)).unwrap()),
            ranges(&Plan::new(&device(sorted)).unwrap())
        );
    }
}
