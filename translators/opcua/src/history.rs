//! Filling a gap from the server's own history.
//!
//! # Invariants
//! - Only nodes that say that their history can be read are asked for it.
//! - Rounds and values are bounded; what exceeds them is not complete, and said to be so.
//! - The span is by the server's clock at both ends, and its ends are not in it.

use opcua::types::{
    AttributeId, ByteString, DataValue, DateTime, HistoryData, HistoryReadValueId, NodeId,
    ReadRawModifiedDetails, StatusCode, TimestampsToReturn, Variant,
};

use crate::line::{Line, ServiceError, attribute};

/// The bit of an access level that says that history can be read (Part 3, 8.57).
const HISTORY_READ: u8 = 0x04;
/// The most values that are fetched for one gap.
const MAX_VALUES: usize = 200_000;
/// Values of one node in one answer.
const PER_ROUND: u32 = 1_000;
/// Answers for one chunk of nodes.
const MAX_ROUNDS: usize = 500;

/// What history has of a gap.
#[derive(Debug, Default)]
pub(crate) struct Filled {
    /// The values of each item, oldest first.
    pub(crate) values: Vec<(usize, Vec<DataValue>)>,
    /// Whether every item has a history and all of it was read.
    pub(crate) complete: bool,
}

/// Reads what happened to the nodes after `from` and before `to`.
pub(crate) async fn fill(
    line: &Line,
    nodes: Vec<(usize, NodeId)>,
    from: DateTime,
    to: DateTime,
) -> Result<Filled, ServiceError> {
    let level = |node: &NodeId| attribute(node.clone(), AttributeId::AccessLevel);
    let levels = nodes.iter().map(|(_, node)| level(node)).collect();
    let levels = line.read(levels, TimestampsToReturn::Neither).await?;
    let asked = nodes.len();
    let keeps = |value: &DataValue| match value.value {
        Some(Variant::Byte(level)) => level & HISTORY_READ != 0,
        _ => false,
    };
    let nodes: Vec<_> =
        nodes.into_iter().zip(levels).filter(|(_, level)| keeps(level)).map(|(n, _)| n).collect();
    let mut filled = Filled { values: Vec::new(), complete: nodes.len() == asked };
    let mut left = MAX_VALUES;
    for chunk in nodes.chunks(line.history_chunk().max(1)) {
        let (values, complete) = read_chunk(line, chunk, from, to, &mut left).await?;
        filled.complete &= complete;
        filled.values.extend(values);
    }
    Ok(filled)
}

async fn read_chunk(
    line: &Line,
    nodes: &[(usize, NodeId)],
    from: DateTime,
    to: DateTime,
    left: &mut usize,
) -> Result<(Vec<(usize, Vec<DataValue>)>, bool), ServiceError> {
    let details = || ReadRawModifiedDetails {
        is_read_modified: false,
        start_time: from,
        end_time: to,
        num_values_per_node: PER_ROUND,
        return_bounds: false,
    };
    let mut values: Vec<(usize, Vec<DataValue>)> =
        nodes.iter().map(|(at, _)| (*at, Vec::new())).collect();
    let mut complete = true;
    let mut open: Vec<(usize, ByteString)> =
        (0..nodes.len()).map(|place| (place, ByteString::null())).collect();
    for round in 0.. {
        let request = |(place, point): &(usize, ByteString)| HistoryReadValueId {
            node_id: nodes.get(*place).map(|(_, node)| node.clone()).unwrap_or_default(),
            continuation_point: point.clone(),
            ..HistoryReadValueId::default()
        };
        let requests = open.iter().map(request).collect();
        if round >= MAX_ROUNDS || *left == 0 {
            // The server need not keep what is not fetched.
            line.history_read(details(), requests, true).await?;
            complete = false;
            break;
        }
        let results = line.history_read(details(), requests, false).await?;
        let mut next = Vec::new();
        for ((place, _), result) in open.iter().zip(results) {
            if result.status_code.is_bad() && result.status_code != StatusCode::BadNoData {
                complete = false;
                continue;
            }
            let data = result.history_data.into_inner_as::<HistoryData>();
            let mut data = data.and_then(|data| data.data_values).unwrap_or_default();
            let inside =
                |value: &DataValue| value.source_timestamp.is_none_or(|at| from < at && at < to);
            data.retain(inside);
            data.truncate(*left);
            *left -= data.len();
            if let Some((_, to)) = values.get_mut(*place) {
                to.extend(data);
            }
            if !result.continuation_point.is_null_or_empty() {
                next.push((*place, result.continuation_point));
            }
        }
        if next.is_empty() {
            break;
        }
        open = next;
    }
    values.retain(|(_, values)| !values.is_empty());
    Ok((values, complete))
}
