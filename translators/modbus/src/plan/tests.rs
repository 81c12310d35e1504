use std::time::Duration;

use proptest::prelude::*;
use tidegate_translator::TagPath;

use super::*;
use crate::blocks::{Blocks, Refusal, Step};
use crate::spec::{Address, LegalRange, LinkSpec, Order, Outside, Special, States, UnitId};

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

fn forbidden(table: Table, first: u16, last: u16) -> Forbidden {
    Forbidden { table, first, last }
}

#[test]
fn what_the_decoder_could_not_make_sense_of_is_named_in_one_run() {
    let special = |special| Some(Arc::new(special));
    let states = || Special {
        states: Some(Arc::new(States::new(vec![(0, "off".into())]))),
        ..Special::default()
    };
    let range = |min, max| Special {
        range: Some(LegalRange { min, max, outside: Outside::Mark }),
        ..Special::default()
    };
    let of = |kind, order, special| TagSpec { order, special, ..holding(0, kind) };
    let spec = device(vec![
        of(DataType::Text(0), Order::Abcd, None),
        of(DataType::Text(8), Order::Cdab, None),
        of(DataType::Text(8), Order::Dcba, None),
        of(DataType::Text(8), Order::Abcd, special(states())),
        of(DataType::Float32, Order::Abcd, special(states())),
        of(DataType::Int16, Order::Abcd, special(range(2.0, 1.0))),
        of(DataType::Int16, Order::Abcd, special(range(f64::NAN, 1.0))),
        tag(Table::Coil, 3, DataType::Bcd16),
        tag(Table::DiscreteInput, 3, DataType::Text(2)),
        of(DataType::Text(251), Order::Abcd, None),
    ]);
    let errors = Plan::new(&spec).unwrap_err();
    assert!(
        matches!(
            &errors[..],
            [
                PlanError::EmptyText { .. },
                PlanError::TextOrder { order: Order::Cdab, .. },
                PlanError::TextOrder { order: Order::Dcba, .. },
                PlanError::StatesOfNoInteger { kind: DataType::Text(8), .. },
                PlanError::StatesOfNoInteger { kind: DataType::Float32, .. },
                PlanError::EmptyRange { .. },
                PlanError::EmptyRange { .. },
                PlanError::NumberInBits { .. },
                PlanError::NumberInBits { .. },
                PlanError::WiderThanBlock { width: 126, limit: 125, .. },
            ]
        ),
        "{errors:?}"
    );
    let legal = device(vec![
        of(DataType::Text(250), Order::Badc, None),
        of(DataType::Bcd64, Order::Dcba, special(states())),
        of(DataType::Int16, Order::Abcd, special(range(1.0, 1.0))),
        TagSpec { special: special(states()), ..tag(Table::Coil, 3, DataType::Bool) },
    ]);
    Plan::new(&legal).unwrap();
}

#[test]
fn a_tag_on_forbidden_registers_is_refused_with_both_named() {
    let mut spec = device(vec![
        holding(98, DataType::Float32),
        holding(99, DataType::Float32),
        holding(110, DataType::Text(5)),
        holding(111, DataType::Uint16),
        tag(Table::InputRegister, 105, DataType::Uint16),
        tag(Table::Coil, 5, DataType::Bool),
    ]);
    // Within the long one, so that its end must not be forgotten behind theirs.
    let within = (101..109).map(|at| forbidden(Table::HoldingRegister, at, at));
    let others = [forbidden(Table::Coil, 5, 5), forbidden(Table::HoldingRegister, 100, 110)];
    spec.forbidden = others.into_iter().chain(within).collect();
    let told: Vec<_> = Plan::new(&spec).unwrap_err().iter().map(ToString::to_string).collect();
    let remedy = "give the tag another address or a shorter type, or take its addresses out of \
                  forbidden";
    let expected = [
        ("P/HoldingRegister/99/Float32", "holding:99 to 100", "holding:100-110"),
        ("P/HoldingRegister/110/Text(5)", "holding:110 to 112", "holding:100-110"),
        ("P/Coil/5/Bool", "coil:5 to 5", "coil:5"),
    ]
    .map(|(tag, reads, range)| {
        format!("tag {tag} reads {reads}, and {range} is forbidden; {remedy}")
    });
    assert_eq!(told, expected);
}

#[test]
fn a_gap_is_bridged_only_where_nothing_in_it_is_forbidden() {
    let tags = vec![
        holding(0, DataType::Uint16),
        holding(4, DataType::Uint16),
        holding(8, DataType::Uint16),
        holding(65_535, DataType::Uint16),
    ];
    let mut spec = device(tags);
    spec.forbidden = [
        forbidden(Table::InputRegister, 0, 65_535),
        forbidden(Table::HoldingRegister, 3, 3),
        forbidden(Table::HoldingRegister, 9, 65_534),
    ]
    .into();
    spec.max_gap = u16::MAX;
    assert_eq!(ranges(&Plan::new(&spec).unwrap()), [(0, 1), (4, 5), (65_535, 1)]);
    // Backwards, it forbids the same.
    spec.forbidden = [forbidden(Table::HoldingRegister, 8, 5)].into();
    assert!(matches!(&Plan::new(&spec).unwrap_err()[..], [PlanError::Forbidden { .. }]));
    spec.forbidden = [forbidden(Table::HoldingRegister, 7, 5)].into();
    assert_eq!(ranges(&Plan::new(&spec).unwrap()), [(0, 5), (8, 1), (65_535, 1)]);
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
        Just(DataType::Bcd32),
        (1u16..=8).prop_map(DataType::Text),
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

/// Ranges where the tags are, and anywhere.
fn any_forbidden() -> impl Strategy<Value = Vec<Forbidden>> {
    let table = prop_oneof![
        4 => Just(Table::HoldingRegister),
        1 => Just(Table::InputRegister),
        2 => Just(Table::Coil),
        1 => Just(Table::DiscreteInput),
    ];
    let first = prop_oneof![0u16..400, 65_300u16..=65_535, any::<u16>()];
    let range = (table, first, prop_oneof![3 => Just(0u16), 3 => 0u16..12, 1 => 60u16..200])
        .prop_map(|(table, first, more)| forbidden(table, first, first.saturating_add(more)));
    prop::collection::vec(range, 0..12).prop_map(|mut ranges| {
        ranges.sort();
        ranges
    })
}

/// Address by address, unlike the planner.
fn reads_forbidden(spec: &DeviceSpec, table: Table, start: u16, count: u16) -> bool {
    (u32::from(start)..u32::from(start) + u32::from(count)).any(|address| {
        spec.forbidden.iter().any(|it| {
            it.table == table && (u32::from(it.first)..=u32::from(it.last)).contains(&address)
        })
    })
}

/// Only the tags that may be read.
fn clear_of_forbidden(mut spec: DeviceSpec) -> DeviceSpec {
    let tags = spec.tags.iter().filter(|tag| {
        !reads_forbidden(&spec, tag.address.table, tag.address.offset, tag.kind.registers())
    });
    spec.tags = tags.cloned().collect();
    spec
}

/// Whether one request may read just these spans.
fn fits(spans: &[&Span], spec: &DeviceSpec) -> bool {
    let limits = Limits::of(spec);
    let (table, start) = (spans[0].table, spans.iter().map(|span| span.start).min().unwrap());
    let end = spans.iter().map(|span| span.end()).max().unwrap();
    let count = end - u32::from(start);
    if spans.iter().any(|span| span.table != table) || count > limits.of_table(table).into() {
        return false;
    }
    let needed = |at: u32| spans.iter().any(|s| (u32::from(s.start)..s.end()).contains(&at));
    let mut gap = 0;
    for address in u32::from(start)..end {
        gap = if needed(address) { 0 } else { gap + 1 };
        if gap > u32::from(spec.max_gap) {
            return false;
        }
    }
    !reads_forbidden(spec, table, start, u16::try_from(count).unwrap())
}

/// The fewest blocks that any cut of the sorted spans into runs can give.
fn fewest_runs(plan: &Plan, spec: &DeviceSpec) -> usize {
    let spans: Vec<&Span> = plan.spans().iter().collect();
    let mut best = vec![0; spans.len() + 1];
    for to in 1..=spans.len() {
        let runs = (0..to).filter(|&from| fits(&spans[from..to], spec));
        best[to] = runs.map(|from| best[from] + 1).min().unwrap();
    }
    best[spans.len()]
}

/// The fewest blocks that any way to share the spans out can give, runs or not.
fn fewest<'s>(spans: &[&'s Span], shares: &mut Vec<Vec<&'s Span>>, spec: &DeviceSpec) -> usize {
    let Some((span, rest)) = spans.split_first() else {
        let legal = shares.iter().all(|share| fits(share, spec));
        return if legal { shares.len() } else { usize::MAX };
    };
    let mut best = usize::MAX;
    for at in 0..shares.len() {
        shares[at].push(span);
        best = best.min(fewest(rest, shares, spec));
        shares[at].pop();
    }
    shares.push(vec![span]);
    best = best.min(fewest(rest, shares, spec));
    shares.pop();
    best
}

proptest! {
    #[test]
    fn a_plan_keeps_every_rule(
        tags in prop::collection::vec(any_tag(), 0..60),
        forbidden in any_forbidden(),
        max_gap in prop_oneof![0u16..20, Just(u16::MAX)],
        max_registers in 4u16..=130,
        max_bits in prop_oneof![1u16..40, 1990u16..=2100],
    ) {
        let forbidden = forbidden.into();
        let spec = DeviceSpec { max_gap, max_registers, max_bits, forbidden, ..device(tags) };
        let on_forbidden = spec.tags.len() - clear_of_forbidden(spec.clone()).tags.len();
        match Plan::new(&spec) {
            Ok(_) => prop_assert_eq!(on_forbidden, 0),
            Err(errors) => prop_assert_eq!(errors.len(), on_forbidden),
        }
        let spec = clear_of_forbidden(spec);
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
            prop_assert!(!reads_forbidden(&spec, block.table, block.start, block.count));
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
        prop_assert_eq!(plan.blocks().len(), fewest_runs(&plan, &spec));
    }

    #[test]
    fn no_way_to_share_the_tags_out_needs_fewer_blocks(
        // Crowded, so that values of all widths overlap.
        tags in prop::collection::vec((0u16..14, prop_oneof![
            Just(DataType::Uint16), Just(DataType::Uint32), Just(DataType::Uint64),
            (1u16..=12).prop_map(DataType::Text),
        ]), 0..7),
        fences in prop::collection::vec(0u16..18, 0..3),
        max_gap in 0u16..4,
        max_registers in 6u16..10,
    ) {
        let tags = tags.into_iter().map(|(at, kind)| holding(at, kind)).collect();
        let table = Table::HoldingRegister;
        let forbidden = fences.into_iter().map(|at| forbidden(table, at, at)).collect();
        let spec = DeviceSpec { max_gap, max_registers, forbidden, ..device(tags) };
        let spec = clear_of_forbidden(spec);
        let plan = Plan::new(&spec).unwrap();
        let spans: Vec<&Span> = plan.spans().iter().collect();
        prop_assert_eq!(plan.blocks().len(), fewest(&spans, &mut Vec::new(), &spec));
        // Short values lie within long ones here: the last span need not reach furthest.
        for block in plan.blocks() {
            prop_assert_eq!(hull(plan.spans(), block.spans.clone()), Some(block.clone()));
        }
    }

    #[test]
    fn no_part_of_a_block_reads_what_is_forbidden_whatever_the_device_refuses(
        tags in prop::collection::vec(any_tag(), 1..60),
        forbidden in any_forbidden(),
        max_gap in prop_oneof![0u16..20, Just(u16::MAX)],
        refusals in prop::collection::vec(any::<bool>(), 1..40),
    ) {
        let forbidden = forbidden.into();
        let spec = clear_of_forbidden(DeviceSpec { max_gap, forbidden, ..device(tags) });
        let plan = Plan::new(&spec).unwrap();
        let mut now = tokio::time::Instant::now();
        let mut blocks = Blocks::new(&plan, now);
        let mut refusals = refusals.into_iter().cycle();
        for _ in 0..8 {
            blocks.begin(now);
            let mut offered = 0;
            while let Some(step) = blocks.next() {
                let block = match step {
                    Step::Read(block) => block,
                    Step::Resting(spans, _) => {
                        offered += spans.len();
                        continue;
                    }
                };
                prop_assert!(!reads_forbidden(&spec, block.table, block.start, block.count));
                if !refusals.next().unwrap() {
                    offered += block.spans.len();
                    blocks.answered();
                } else if let Refusal::Final(spans) = blocks.refused(2) {
                    offered += spans.len();
                }
            }
            prop_assert_eq!(offered, spec.tags.len());
            now += Duration::from_secs(60);
        }
        // Any run of spans of one block, whoever cuts it.
        for block in plan.blocks() {
            for from in block.spans.clone() {
                for to in from + 1..=block.spans.end {
                    let part = hull(plan.spans(), from..to).unwrap();
                    prop_assert!(!reads_forbidden(&spec, part.table, part.start, part.count));
                }
            }
        }
    }

    #[test]
    fn the_order_of_tags_does_not_change_the_requests(
        tags in prop::collection::vec(any_tag(), 0..30).prop_shuffle(),
        forbidden in any_forbidden(),
    ) {
        let spec = DeviceSpec { forbidden: forbidden.clone().into(), ..device(tags) };
        let spec = clear_of_forbidden(spec);
        let mut other = spec.clone();
        let mut sorted = spec.tags.to_vec();
        sorted.sort_by_key(|t| (t.address, t.kind.registers()));
        other.tags = sorted.into();
        other.forbidden = forbidden.into_iter().rev().collect();
        prop_assert_eq!(
            ranges(&Plan::new(&spec).unwrap()),
            ranges(&Plan::new(&other).unwrap())
        );
    }
}
