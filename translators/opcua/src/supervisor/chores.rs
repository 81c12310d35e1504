//! What a session asks of the server beside the publishing: each chore is one future, and its end
//! is an event.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use opcua::types::{
    DataValue, DateTime, MonitoredItemCreateRequest, MonitoredItemCreateResult, NodeId,
    NotificationMessage, ReadValueId, StatusCode, TimestampsToReturn, TransferResult, VariableId,
};
use tidegate_translator::Timestamp;

use crate::book::TagBook;
use crate::history::{Filled, fill};
use crate::items::Wanted;
use crate::line::{Line, ServiceError, Subscription};
use crate::node::NodeAddress;
use crate::prepare::{Place, Prepared, find_again, prepare};
use crate::sequence::Missing;
use crate::spec::DeviceSpec;
use crate::types::DataTypes;

/// Something to ask.
pub(crate) enum Chore {
    /// Whether the server is alive.
    KeepAlive,
    /// Namespaces, nodes, types, subtrees.
    Prepare,
    /// Subscriptions of a session that is over, by id.
    Transfer(Vec<u32>),
    /// A subscription for a group.
    Create { group: usize, publish_every: Duration, keep_alive: u32, lifetime: u32 },
    /// Items of a group's subscription, with their places.
    Items { group: usize, subscription: u32, items: Vec<(usize, MonitoredItemCreateRequest)> },
    /// Subscriptions that are of no use any more.
    Delete(Vec<u32>),
    /// Notifications that did not arrive.
    Republish { subscription: u32, missing: Missing, span: Span },
    /// The present values of items.
    Refresh(Vec<(usize, ReadValueId)>),
    /// The values of items for somebody who asks.
    Fresh(Vec<(usize, ReadValueId)>),
    /// The values of a poll group.
    Poll { group: usize, items: Vec<(usize, ReadValueId)> },
    /// What history has.
    Fill { nodes: Vec<(usize, NodeId)>, gap: Gap, span: Span },
    /// Addresses that were not found before.
    Resolve(Vec<(usize, NodeAddress)>),
    /// Types of which values came unannounced.
    Learn { types: DataTypes, encodings: Vec<NodeId> },
}

/// What is filled, to be told as lost when it cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gap {
    /// An absence of the server, as the ledger knows it.
    Absence,
    /// Notifications that the server does not have any more.
    Notifications,
}

/// A time from which nothing came.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Span {
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
    /// The same by the server's clock, as far as it told.
    pub(crate) server: (DateTime, DateTime),
}

/// What came of a chore.
pub(crate) enum Done {
    KeepAlive(Result<Vec<DataValue>, ServiceError>),
    Prepare(Result<Box<Prepared>, ServiceError>),
    Transfer(Vec<u32>, Result<Vec<TransferResult>, ServiceError>),
    Create {
        group: usize,
        result: Result<Subscription, ServiceError>,
    },
    Items {
        group: usize,
        places: Vec<usize>,
        result: Result<Vec<MonitoredItemCreateResult>, ServiceError>,
    },
    Delete(Result<(), ServiceError>),
    Republish {
        subscription: u32,
        missing: Missing,
        span: Span,
        results: Vec<Result<NotificationMessage, ServiceError>>,
    },
    Refresh {
        places: Vec<usize>,
        result: Result<Vec<DataValue>, ServiceError>,
    },
    Fresh {
        places: Vec<usize>,
        result: Result<Vec<DataValue>, ServiceError>,
    },
    Poll {
        group: usize,
        places: Vec<usize>,
        result: Result<Vec<DataValue>, ServiceError>,
    },
    Fill {
        gap: Gap,
        span: Span,
        result: Result<Filled, ServiceError>,
    },
    Resolve {
        places: Vec<usize>,
        result: Result<Vec<Place>, ServiceError>,
    },
    Learn {
        types: DataTypes,
        result: Result<bool, ServiceError>,
    },
}

/// What chores need beside the session.
#[derive(Clone)]
pub(crate) struct Means {
    pub(crate) spec: Arc<DeviceSpec>,
    pub(crate) configured: Arc<[Wanted]>,
    pub(crate) book: Arc<dyn TagBook>,
}

/// Begins a chore.
pub(crate) fn begin<'a>(line: &'a Line, means: &'a Means, chore: Chore) -> BoxFuture<'a, Done> {
    match chore {
        Chore::KeepAlive => async move {
            let state = VariableId::Server_ServerStatus_State.into();
            Done::KeepAlive(line.read_values([state]).await)
        }
        .boxed(),
        Chore::Prepare => async move {
            let configured = Arc::clone(&means.configured);
            let prepared = prepare(line, &means.spec, configured, &*means.book).await;
            Done::Prepare(prepared.map(Box::new))
        }
        .boxed(),
        Chore::Transfer(ids) => {
            async move { Done::Transfer(ids.clone(), line.transfer(ids).await) }.boxed()
        }
        Chore::Create { group, publish_every, keep_alive, lifetime } => async move {
            let result = line.create_subscription(publish_every, keep_alive, lifetime).await;
            Done::Create { group, result }
        }
        .boxed(),
        Chore::Items { group, subscription, items } => async move {
            let (places, requests): (Vec<_>, Vec<_>) = items.into_iter().unzip();
            let result = line.create_items(subscription, requests).await;
            Done::Items { group, places, result }
        }
        .boxed(),
        Chore::Delete(ids) => {
            async move { Done::Delete(line.delete_subscriptions(ids).await) }.boxed()
        }
        Chore::Republish { subscription, missing, span } => async move {
            let mut results = Vec::new();
            for number in missing.numbers() {
                let result = line.republish(subscription, number).await;
                let is_over = matches!(
                    &result,
                    Err(error) if error.status != StatusCode::BadMessageNotAvailable
                );
                results.push(result);
                if is_over {
                    break;
                }
            }
            Done::Republish { subscription, missing, span, results }
        }
        .boxed(),
        Chore::Refresh(items) => async move {
            let (places, nodes): (Vec<_>, Vec<_>) = items.into_iter().unzip();
            let result = line.read(nodes, TimestampsToReturn::Both).await;
            Done::Refresh { places, result }
        }
        .boxed(),
        Chore::Fresh(items) => async move {
            let (places, nodes): (Vec<_>, Vec<_>) = items.into_iter().unzip();
            let result = line.read(nodes, TimestampsToReturn::Both).await;
            Done::Fresh { places, result }
        }
        .boxed(),
        Chore::Poll { group, items } => async move {
            let (places, nodes): (Vec<_>, Vec<_>) = items.into_iter().unzip();
            let result = line.read(nodes, TimestampsToReturn::Both).await;
            Done::Poll { group, places, result }
        }
        .boxed(),
        Chore::Fill { nodes, gap, span } => async move {
            let (from, to) = span.server;
            Done::Fill { gap, span, result: fill(line, nodes, from, to).await }
        }
        .boxed(),
        Chore::Resolve(items) => async move {
            let (places, addresses): (Vec<_>, Vec<_>) = items.into_iter().unzip();
            Done::Resolve { places, result: find_again(line, &addresses).await }
        }
        .boxed(),
        Chore::Learn { mut types, encodings } => async move {
            let result = types.learn(line, encodings).await;
            Done::Learn { types, result }
        }
        .boxed(),
    }
}
