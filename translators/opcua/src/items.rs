//! What is to be collected, and in which subscriptions. Nothing here is of one session but the
//! requests that are built for it.
//!
//! # Invariants
//! - An item's client handle is its place in the list of wanted items: a notification finds its
//!   tag by one look.
//! - Each item is in exactly one group, and a group has one publishing interval.
//! - No group is larger than [`MAX_GROUP`], so that no single notification delays all values.

use std::sync::Arc;
use std::time::Duration;

use opcua::types::{
    AttributeId, DataChangeFilter, DataChangeTrigger, DeadbandType, ExtensionObject,
    MonitoredItemCreateRequest, MonitoringMode, MonitoringParameters, NodeId, NumericRange,
    ReadValueId,
};
use tidegate_translator::{TagId, TagPath};

use crate::node::NodeAddress;
use crate::spec::{DeviceSpec, Discard, ItemSpec, ServerDeadband, Trigger};

/// The most items of one subscription: 2,000 values are some 60 KiB, one chunk.
const MAX_GROUP: usize = 2_000;
/// Publishing more often than this gains nothing but overhead, unless somebody asks for it.
const SHORTEST_PUBLISH: Duration = Duration::from_millis(100);
/// The most subscriptions that intervals alone make; above it, intervals are rounded down to
/// powers of two.
const MAX_INTERVALS: usize = 12;
/// A subscription says at least this often that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// A subscription that nobody asks for is kept at the server for so long.
const LIFETIME: Duration = Duration::from_secs(120);
/// How long a server that is busy, or a link that stalls, may delay a publication without a loss.
/// With three values for each item, node-opcua at 10,000 items lost some when it was short of time.
const STALL: Duration = Duration::from_secs(2);
/// The shortest queue that is asked for without configuration.
const MIN_QUEUE: u32 = 10;
/// The longest queue that is asked for without configuration.
const MAX_QUEUE: u32 = 1_000;

/// One value that is collected.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) tag: TagId,
    pub(crate) path: TagPath,
    pub(crate) node: NodeAddress,
    pub(crate) item: Arc<ItemSpec>,
}

/// Items that share a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) publish_every: Duration,
    /// Places in the list of wanted items, ascending.
    pub(crate) members: Vec<usize>,
}

/// The sampling interval of an item.
pub(crate) fn sample_every(spec: &DeviceSpec, item: &ItemSpec) -> Duration {
    item.sample_every.unwrap_or(spec.sample_every)
}

fn publish_every(spec: &DeviceSpec, item: &ItemSpec) -> Duration {
    let sampling = sample_every(spec, item);
    spec.publish_every.unwrap_or_else(|| sampling.max(SHORTEST_PUBLISH))
}

/// Distributes the items over subscriptions.
pub(crate) fn groups(spec: &DeviceSpec, wanted: &[Wanted]) -> Vec<Group> {
    by_interval(wanted, |item| publish_every(spec, item))
}

/// Distributes the items over polls.
pub(crate) fn polls(spec: &DeviceSpec, wanted: &[Wanted]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for group in by_interval(wanted, |item| sample_every(spec, item)) {
        match groups.last_mut().filter(|last| last.publish_every == group.publish_every) {
            Some(last) => last.members.extend(group.members),
            None => groups.push(group),
        }
    }
    groups
}

fn by_interval(wanted: &[Wanted], interval: impl Fn(&ItemSpec) -> Duration) -> Vec<Group> {
    let mut all: Vec<(Duration, usize)> =
        wanted.iter().enumerate().map(|(at, wanted)| (interval(&wanted.item), at)).collect();
    let mut distinct: Vec<Duration> = all.iter().map(|(every, _)| *every).collect();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() > MAX_INTERVALS {
        for (every, _) in &mut all {
            *every = rounded(*every);
        }
    }
    // Stable: within an interval the order of the configuration stays.
    all.sort_by_key(|(every, _)| *every);
    let mut groups = Vec::new();
    for same in all.chunk_by(|(a, _), (b, _)| a == b) {
        for members in same.chunks(MAX_GROUP) {
            let publish_every = members.first().map_or(KEEP_ALIVE, |(every, _)| *every);
            groups.push(Group {
                publish_every,
                members: members.iter().map(|(_, at)| *at).collect(),
            });
        }
    }
    groups
}

/// The next shorter power of two, in milliseconds.
fn rounded(every: Duration) -> Duration {
    let millis = u64::try_from(every.as_millis()).unwrap_or(u64::MAX).max(1);
    Duration::from_millis(1 << millis.ilog2())
}

/// The keep-alive and lifetime counts of a subscription.
pub(crate) fn counts(publish_every: Duration) -> (u32, u32) {
    let count = |time: Duration| {
        let count = time.as_nanos().div_ceil(publish_every.as_nanos().max(1));
        u32::try_from(count).unwrap_or(u32::MAX / 4).clamp(1, u32::MAX / 4)
    };
    let keep_alive = count(KEEP_ALIVE);
    (keep_alive, count(LIFETIME).max(3 * keep_alive))
}

/// Values that the server is asked to hold of an item between two publications.
fn queue(sampling: Duration, publishing: Duration, item: &ItemSpec) -> u32 {
    if let Some(queue) = item.queue {
        return queue;
    }
    let sampled = publishing.max(STALL).as_nanos().div_ceil(sampling.as_nanos().max(1));
    u32::try_from(sampled).unwrap_or(MAX_QUEUE).clamp(MIN_QUEUE, MAX_QUEUE)
}

/// Why an item cannot be asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{range:?} is no index range; write it like \"3\", \"0:9\" or \"1,0:3\"")]
pub(crate) struct BadRange {
    range: Box<str>,
}

/// What is read of an item.
pub(crate) fn read_value(node: NodeId, item: &ItemSpec) -> Result<ReadValueId, BadRange> {
    let index_range = match &item.index_range {
        None => NumericRange::None,
        Some(range) => range.parse().map_err(|_| BadRange { range: range.clone() })?,
    };
    let attribute_id = AttributeId::Value as u32;
    Ok(ReadValueId { node_id: node, attribute_id, index_range, ..ReadValueId::default() })
}

/// The request that creates an item.
pub(crate) fn create(
    spec: &DeviceSpec,
    at: usize,
    wanted: &Wanted,
    node: NodeId,
    publishing: Duration,
) -> Result<MonitoredItemCreateRequest, BadRange> {
    let item = &*wanted.item;
    let sampling = sample_every(spec, item);
    Ok(MonitoredItemCreateRequest {
        item_to_monitor: read_value(node, item)?,
        monitoring_mode: MonitoringMode::Reporting,
        requested_parameters: MonitoringParameters {
            client_handle: u32::try_from(at).unwrap_or(u32::MAX),
            sampling_interval: sampling.as_secs_f64() * 1000.0,
            filter: filter(item),
            queue_size: queue(sampling, publishing, item),
            discard_oldest: item.discard == Discard::Oldest,
        },
    })
}

/// The filter of an item; none where the server's own default is what is wanted, because small
/// servers know no filters.
fn filter(item: &ItemSpec) -> ExtensionObject {
    let (kind, value) = match item.deadband {
        ServerDeadband::None => (DeadbandType::None, 0.0),
        ServerDeadband::Absolute(value) => (DeadbandType::Absolute, value),
        ServerDeadband::Percent(value) => (DeadbandType::Percent, value),
    };
    let trigger = match item.trigger {
        Trigger::StatusValue if kind == DeadbandType::None => return ExtensionObject::null(),
        Trigger::StatusValue => DataChangeTrigger::StatusValue,
        Trigger::Status => DataChangeTrigger::Status,
        Trigger::StatusValueTimestamp => DataChangeTrigger::StatusValueTimestamp,
    };
    let filter = DataChangeFilter { trigger, deadband_type: kind as u32, deadband_value: value };
    ExtensionObject::from_message(filter)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::node::{Identifier, Namespace};
    use crate::spec::{Collect, EndpointUrl, Mode, Security, TrustSpec, UserSpec};

    fn spec(publish_every: Option<Duration>) -> DeviceSpec {
        DeviceSpec {
            name: "press".into(),
            url: EndpointUrl::parse("opc.tcp://plc").unwrap(),
            follow_advertised: false,
            security: Security::Protected { policy: None, mode: Mode::SignAndEncrypt },
            user: UserSpec::Anonymous,
            trust: TrustSpec::default(),
            collect: Collect::Subscribe,
            sample_every: Duration::from_secs(1),
            publish_every,
            timeout: Duration::from_secs(4),
            backoff: (Duration::from_millis(500), Duration::from_secs(30)),
            backfill: true,
            max_items: 1000,
            tags: Arc::new([]),
            subtrees: Arc::new([]),
        }
    }

    fn item(sample_every: Option<u64>) -> ItemSpec {
        ItemSpec {
            sample_every: sample_every.map(Duration::from_millis),
            queue: None,
            discard: Discard::Oldest,
            trigger: Trigger::StatusValue,
            deadband: ServerDeadband::None,
            index_range: None,
        }
    }

    fn wanted(id: u32, item: ItemSpec) -> Wanted {
        Wanted {
            tag: TagId(id),
            path: TagPath::new(format!("p/{id}")).unwrap(),
            node: NodeAddress::Id(Namespace::Index(0), Identifier::Number(id)),
            item: Arc::new(item),
        }
    }

    proptest! {
        #[test]
        fn each_item_is_in_one_group_of_its_interval(
            intervals in proptest::collection::vec(prop_oneof![Just(100_u64), 1_u64..100_000], 0..200),
        ) {
            let spec = spec(None);
            let all: Vec<Wanted> =
                intervals.iter().zip(0..).map(|(every, id)| wanted(id, item(Some(*every)))).collect();
            let groups = groups(&spec, &all);
            let mut members: Vec<usize> = groups.iter().flat_map(|g| g.members.clone()).collect();
            members.sort_unstable();
            prop_assert_eq!(members, (0..all.len()).collect::<Vec<_>>());
            for group in &groups {
                for at in &group.members {
                    let own = publish_every(&spec, &all[*at].item);
                    prop_assert!(group.publish_every <= own && own < 2 * group.publish_every + Duration::from_millis(1));
                }
            }
            let mut distinct: Vec<_> = groups.iter().map(|g| g.publish_every).collect();
            distinct.dedup();
            prop_assert!(distinct.len() <= 24);
        }

        #[test]
        fn a_subscription_lives_longer_than_three_keep_alives(millis in 1_u64..1_000_000) {
            let (keep_alive, lifetime) = counts(Duration::from_millis(millis));
            prop_assert!(keep_alive >= 1 && lifetime >= 3 * keep_alive);
        }
    }

    #[test]
    fn ten_thousand_equal_items_make_five_groups() {
        let all: Vec<Wanted> = (0..10_000).map(|id| wanted(id, item(Some(100)))).collect();
        let groups = groups(&spec(None), &all);
        assert_eq!(groups.len(), 5);
        assert!(groups.iter().all(|group| group.members.len() == MAX_GROUP));
        assert_eq!(polls(&spec(None), &all).len(), 1);
    }

    #[test]
    fn a_queue_holds_what_is_sampled_between_two_publications_or_in_two_seconds() {
        let spec = spec(Some(Duration::from_secs(1)));
        let of = |item: ItemSpec| {
            let wanted = wanted(7, item);
            create(&spec, 5, &wanted, NodeId::new(1, 7_u32), Duration::from_secs(1)).unwrap()
        };
        let request = of(item(Some(100)));
        assert_eq!(request.requested_parameters.queue_size, 20);
        assert_eq!(of(item(Some(1_000))).requested_parameters.queue_size, 10);
        assert_eq!(request.requested_parameters.client_handle, 5);
        assert!(request.requested_parameters.filter.is_null());
        assert_eq!(
            of(ItemSpec { queue: Some(1), ..item(None) }).requested_parameters.queue_size,
            1
        );
        let deadband = of(ItemSpec { deadband: ServerDeadband::Percent(2.0), ..item(None) });
        let filter = deadband.requested_parameters.filter;
        let filter = filter.inner_as::<DataChangeFilter>().unwrap();
        assert_eq!((filter.deadband_type, filter.deadband_value), (2, 2.0));
    }

    #[test]
    fn an_index_range_that_is_none_is_named() {
        let odd = ItemSpec { index_range: Some("9:0".into()), ..item(None) };
        let error = read_value(NodeId::null(), &odd).unwrap_err();
        assert!(error.to_string().starts_with("\"9:0\" is no index range"));
    }
}
