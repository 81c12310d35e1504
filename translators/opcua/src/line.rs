//! One session, and what can be asked in it.
//!
//! # Invariants
//! - A [`Line`] never moves bytes by itself: whoever asks polls its [`Wire`] beside, with
//!   [`Wire::serve`].
//! - No request holds more than the server says it takes, nor more than is configured; a server
//!   that finds one too large without having said so is asked in smaller ones.
//! - The answer to a list has as many results as the list has entries, or is an error.
//! - A browse ends, whatever the server answers.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use opcua::client::AsyncSecureChannel;
use opcua::types::{
    AttributeId, BrowseDescription, BrowseNextRequest, BrowseRequest, BrowseResult, ByteString,
    CloseSessionRequest, CreateMonitoredItemsRequest, CreateSubscriptionRequest, DataValue,
    DeleteSubscriptionsRequest, ExtensionObject, HistoryReadRequest, HistoryReadResult,
    HistoryReadValueId, MonitoredItemCreateRequest, MonitoredItemCreateResult, NodeId,
    NotificationMessage, PublishRequest, PublishResponse, ReadRawModifiedDetails, ReadRequest,
    ReadValueId, ReferenceDescription, RepublishRequest, StatusCode, SubscriptionAcknowledgement,
    TimestampsToReturn, TransferResult, TransferSubscriptionsRequest, VariableId, Variant,
    ViewDescription,
};

use crate::connect::{ConnectError, Stage, Target, Ticket, header, words};
use crate::credentials::Credentials;
use crate::spec::DeviceSpec;
use crate::wire::Wire;

/// Rounds in which one node's references are fetched: with ten per answer still 20,000.
const MAX_ROUNDS: usize = 2_000;
/// The most references that the nodes of one request may have together.
const MAX_REFERENCES: usize = 200_000;
/// Answers without a reference, but with a promise of more, that are believed.
const MAX_EMPTY_ROUNDS: usize = 2;
/// How long a publish request waits: the server answers when it has something, or with a
/// keep-alive. What comes later than this would be lost to sequence numbers only.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(600);
/// How long a session may take to be closed.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
/// The most namespaces that a server may have.
const MAX_NAMESPACES: usize = 10_000;

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{service} failed: {}{}{detail}", words(*.status), if .detail.is_empty() { "" } else { ", " })]
pub(crate) struct ServiceError {
    /// The service as OPC UA names it.
    pub(crate) service: &'static str,
    pub(crate) status: StatusCode,
    pub(crate) detail: String,
    /// Whether the server answered at all.
    pub(crate) answered: bool,
}

impl ServiceError {
    /// Whether the session or its connection is gone.
    pub(crate) fn is_of_session(&self) -> bool {
        !self.answered && self.status != StatusCode::BadTimeout
            || matches!(
                self.status,
                StatusCode::BadSessionIdInvalid
                    | StatusCode::BadSessionClosed
                    | StatusCode::BadSessionNotActivated
                    | StatusCode::BadSecureChannelIdInvalid
                    | StatusCode::BadSecureChannelClosed
                    | StatusCode::BadSecureChannelTokenUnknown
                    | StatusCode::BadConnectionClosed
                    | StatusCode::BadServerHalted
                    | StatusCode::BadShutdown
            )
    }

    /// Whether fewer entries in one request may help.
    fn is_of_size(&self) -> bool {
        matches!(
            self.status,
            StatusCode::BadTooManyOperations
                | StatusCode::BadRequestTooLarge
                | StatusCode::BadResponseTooLarge
                | StatusCode::BadEncodingLimitsExceeded
                | StatusCode::BadTcpMessageTooLarge
        )
    }

    fn odd(service: &'static str, detail: impl Into<String>) -> Self {
        let status = StatusCode::BadUnexpectedError;
        Self { service, status, detail: detail.into(), answered: true }
    }
}

/// Sends a request and takes its response out of the envelope.
macro_rules! service {
    ($channel:expr, $name:ident, $request:expr, $timeout:expr) => {{
        use opcua::core::ResponseMessage;
        let failed = |status, detail: String, answered| {
            Err($crate::line::ServiceError { service: stringify!($name), status, detail, answered })
        };
        match $channel.send($request, $timeout).await {
            Ok(ResponseMessage::$name(answer)) => {
                let status = answer.response_header.service_result;
                if status.is_bad() { failed(status, String::new(), true) } else { Ok(*answer) }
            }
            Ok(ResponseMessage::ServiceFault(fault)) => {
                failed(fault.response_header.service_result, String::new(), true)
            }
            Ok(other) => {
                let detail = format!("answered with {}", other.type_name());
                failed(opcua::types::StatusCode::BadUnexpectedError, detail, true)
            }
            Err(error) => failed(error.status(), String::new(), false),
        }
    }};
}
pub(crate) use service;

/// What a server takes in one request; `usize::MAX` where it does not say.
#[derive(Debug)]
struct Limits {
    read: AtomicUsize,
    browse: AtomicUsize,
    items: AtomicUsize,
    history: AtomicUsize,
}

/// What a server made of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub(crate) id: u32,
    pub(crate) publish_every: Duration,
    /// Without a notification, it says so after this time.
    pub(crate) keep_alive: Duration,
    /// It is deleted when nobody asks for this time.
    pub(crate) lifetime: Duration,
}

/// A session that is logged on.
pub(crate) struct Line {
    channel: AsyncSecureChannel,
    target: Target,
    ticket: Ticket,
    timeout: Duration,
    handle: AtomicU32,
    limits: Limits,
}

/// What is left of a session whose connection is gone.
pub(crate) struct Remnant {
    target: Target,
    ticket: Ticket,
    limits: Limits,
}

impl Remnant {
    /// How long the server keeps the session.
    pub(crate) const fn timeout(&self) -> Duration {
        self.ticket.timeout
    }
}

impl Line {
    /// Connects and logs on.
    pub(crate) async fn connect(
        spec: &DeviceSpec,
        credentials: &dyn Credentials,
    ) -> Result<(Self, Wire), ConnectError> {
        let target = Target::find(spec, credentials).await?;
        Self::open(target, spec, credentials).await
    }

    /// Opens a channel and a session to a server that is known, and says what it made of the
    /// certificate that it saw.
    pub(crate) async fn open(
        target: Target,
        spec: &DeviceSpec,
        credentials: &dyn Credentials,
    ) -> Result<(Self, Wire), ConnectError> {
        let own = target.own().cloned();
        let opened = Box::pin(Self::enter(target, spec, credentials)).await;
        if let Some(own) = own {
            match &opened {
                Ok(_) => credentials.shown(&spec.name, &own, true),
                Err(error) if error.suspects_own_certificate() => {
                    credentials.shown(&spec.name, &own, false);
                }
                Err(_) => {}
            }
        }
        opened
    }

    async fn enter(
        target: Target,
        spec: &DeviceSpec,
        credentials: &dyn Credentials,
    ) -> Result<(Self, Wire), ConnectError> {
        let (channel, mut wire) = target.open(spec.timeout).await?;
        let name = format!("tidegate {}", spec.name);
        let work = async {
            let mut ticket = target.create_session(&channel, &name, spec.timeout).await?;
            target.activate(&channel, &mut ticket, spec, credentials).await?;
            Ok(ticket)
        };
        let ticket = said(wire.serve(work).await, &mut wire).await?;
        let limits = Limits::of(usize::try_from(spec.max_items).unwrap_or(usize::MAX));
        let timeout = spec.timeout;
        let line = Self { channel, target, ticket, timeout, handle: AtomicU32::new(10), limits };
        wire.serve(line.read_limits()).await.map_err(|error| {
            ConnectError::refused(Stage::Activate, error.status, &error.to_string())
        })?;
        Ok((line, wire))
    }

    /// Takes up a session on a new connection. Its subscriptions are then as they were.
    pub(crate) async fn resume(
        remnant: Remnant,
        spec: &DeviceSpec,
        credentials: &dyn Credentials,
    ) -> Result<(Self, Wire), (ConnectError, Remnant)> {
        let Remnant { target, mut ticket, limits } = remnant;
        let (channel, mut wire) = match target.open(spec.timeout).await {
            Ok(opened) => opened,
            Err(error) => return Err((error, Remnant { target, ticket, limits })),
        };
        let work = target.activate(&channel, &mut ticket, spec, credentials);
        let activated = wire.serve(work).await;
        if let Err(error) = said(activated, &mut wire).await {
            return Err((error, Remnant { target, ticket, limits }));
        }
        let (timeout, handle) = (spec.timeout, AtomicU32::new(10));
        Ok((Self { channel, target, ticket, timeout, handle, limits }, wire))
    }

    /// What is left when the connection is gone.
    pub(crate) fn remains(self) -> Remnant {
        Remnant { target: self.target, ticket: self.ticket, limits: self.limits }
    }

    fn header(&self, timeout: Duration) -> opcua::types::RequestHeader {
        header(&self.ticket.token, self.handle.fetch_add(1, Ordering::Relaxed), timeout)
    }

    /// Reads values or attributes.
    pub(crate) async fn read(
        &self,
        nodes: Vec<ReadValueId>,
        timestamps: TimestampsToReturn,
    ) -> Result<Vec<DataValue>, ServiceError> {
        let mut values = Vec::with_capacity(nodes.len());
        let mut rest = nodes.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(Limits::get(&self.limits.read).min(rest.len()));
            let request = ReadRequest {
                request_header: self.header(self.timeout),
                max_age: 0.0,
                timestamps_to_return: timestamps,
                nodes_to_read: Some(now.to_vec()),
            };
            match service!(self.channel, Read, request, self.timeout) {
                Ok(answer) => {
                    let results = answer.results.unwrap_or_default();
                    values.extend(same_length("Read", results, now.len())?);
                    rest = later;
                }
                Err(error) => Limits::shrink(&self.limits.read, now.len(), error)?,
            }
        }
        Ok(values)
    }

    /// Reads the values of nodes with both times.
    pub(crate) async fn read_values(
        &self,
        nodes: impl IntoIterator<Item = NodeId>,
    ) -> Result<Vec<DataValue>, ServiceError> {
        let nodes = nodes.into_iter().map(|node| attribute(node, AttributeId::Value)).collect();
        self.read(nodes, TimestampsToReturn::Both).await
    }

    /// Browses nodes to the end of their references. A node with too many, or with endless ones,
    /// gets those that were taken and the status `BadTooManyMatches`.
    pub(crate) async fn browse(
        &self,
        nodes: Vec<BrowseDescription>,
    ) -> Result<Vec<BrowseResult>, ServiceError> {
        let mut results = Vec::with_capacity(nodes.len());
        let mut rest = nodes.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(Limits::get(&self.limits.browse).min(rest.len()));
            let request = BrowseRequest {
                request_header: self.header(self.timeout),
                view: ViewDescription::default(),
                requested_max_references_per_node: 0,
                nodes_to_browse: Some(now.to_vec()),
            };
            match service!(self.channel, Browse, request, self.timeout) {
                Ok(answer) => {
                    let first = answer.results.unwrap_or_default();
                    let mut first = same_length("Browse", first, now.len())?;
                    self.browse_on(&mut first).await?;
                    results.append(&mut first);
                    rest = later;
                }
                Err(error) => Limits::shrink(&self.limits.browse, now.len(), error)?,
            }
        }
        Ok(results)
    }

    /// Fetches what browse results have promised.
    async fn browse_on(&self, results: &mut [BrowseResult]) -> Result<(), ServiceError> {
        let (mut rounds, mut empty) = (0, 0);
        loop {
            let taken: usize = (0..results.len()).map(|at| references(results, at)).sum();
            let mut open: Vec<(usize, ByteString)> = Vec::new();
            for (at, result) in results.iter_mut().enumerate() {
                if result.continuation_point.is_null_or_empty() {
                    continue;
                }
                let point = std::mem::take(&mut result.continuation_point);
                if taken >= MAX_REFERENCES || rounds >= MAX_ROUNDS || empty > MAX_EMPTY_ROUNDS {
                    result.status_code = StatusCode::BadTooManyMatches;
                    self.browse_next(vec![point], true).await?;
                } else {
                    open.push((at, point));
                }
            }
            if open.is_empty() {
                return Ok(());
            }
            rounds += 1;
            let before: usize = open.iter().map(|(at, _)| references(results, *at)).sum();
            let points = open.iter().map(|(_, point)| point.clone()).collect();
            let more = self.browse_next(points, false).await?;
            for ((at, _), more) in open.iter().zip(more) {
                let Some(result) = results.get_mut(*at) else { continue };
                if more.status_code.is_bad() {
                    result.status_code = more.status_code;
                    continue;
                }
                let to = result.references.get_or_insert_default();
                to.extend(more.references.unwrap_or_default());
                result.continuation_point = more.continuation_point;
            }
            let after: usize = open.iter().map(|(at, _)| references(results, *at)).sum();
            empty = if after == before { empty + 1 } else { 0 };
        }
    }

    async fn browse_next(
        &self,
        points: Vec<ByteString>,
        release: bool,
    ) -> Result<Vec<BrowseResult>, ServiceError> {
        let count = points.len();
        let request = BrowseNextRequest {
            request_header: self.header(self.timeout),
            release_continuation_points: release,
            continuation_points: Some(points),
        };
        let answer = service!(self.channel, BrowseNext, request, self.timeout)?;
        if release {
            return Ok(Vec::new());
        }
        same_length("BrowseNext", answer.results.unwrap_or_default(), count)
    }

    /// The server's namespaces by index.
    pub(crate) async fn namespaces(&self) -> Result<Vec<String>, ServiceError> {
        let node = VariableId::Server_NamespaceArray.into();
        let values = self
            .read(vec![attribute(node, AttributeId::Value)], TimestampsToReturn::Neither)
            .await?;
        let value = values.into_iter().next();
        let status = value.as_ref().and_then(|value| value.status).unwrap_or_default();
        let Some(Variant::Array(array)) = value.and_then(|value| value.value) else {
            let detail = format!("the server does not tell its namespaces ({})", words(status));
            return Err(ServiceError::odd("Read", detail));
        };
        let text = |value: Variant| match value {
            Variant::String(text) => text.value().clone().unwrap_or_default(),
            _ => String::new(),
        };
        Ok(array.values.into_iter().take(MAX_NAMESPACES).map(text).collect())
    }

    /// Asks what the server takes in one request. A server that does not say takes anything.
    async fn read_limits(&self) -> Result<(), ServiceError> {
        let nodes = [
            VariableId::Server_ServerCapabilities_OperationLimits_MaxNodesPerRead,
            VariableId::Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse,
            VariableId::Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall,
            VariableId::Server_ServerCapabilities_OperationLimits_MaxNodesPerHistoryReadData,
        ];
        let nodes = nodes.map(|node| attribute(node.into(), AttributeId::Value)).to_vec();
        let values = match self.read(nodes, TimestampsToReturn::Neither).await {
            Ok(values) => values,
            Err(error) if error.is_of_session() || !error.answered => return Err(error),
            Err(_) => return Ok(()),
        };
        let limits = &self.limits;
        let all = [&limits.read, &limits.browse, &limits.items, &limits.history];
        for (limit, value) in all.into_iter().zip(values) {
            let Some(Variant::UInt32(said @ 1..)) = value.value else { continue };
            limit.fetch_min(usize::try_from(said).unwrap_or(usize::MAX), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Creates a subscription.
    pub(crate) async fn create_subscription(
        &self,
        publish_every: Duration,
        keep_alive: u32,
        lifetime: u32,
    ) -> Result<Subscription, ServiceError> {
        let request = CreateSubscriptionRequest {
            request_header: self.header(self.timeout),
            requested_publishing_interval: publish_every.as_secs_f64() * 1000.0,
            requested_lifetime_count: lifetime,
            requested_max_keep_alive_count: keep_alive,
            max_notifications_per_publish: 0,
            publishing_enabled: true,
            priority: 0,
        };
        let answer = service!(self.channel, CreateSubscription, request, self.timeout)?;
        let every = answer.revised_publishing_interval / 1000.0;
        // A server that revises to nonsense is taken at its word as far as a clock can follow.
        let every = Duration::try_from_secs_f64(every.clamp(0.001, 86_400.0));
        let every = every.unwrap_or(publish_every);
        Ok(Subscription {
            id: answer.subscription_id,
            publish_every: every,
            keep_alive: every.saturating_mul(answer.revised_max_keep_alive_count.max(1)),
            lifetime: every.saturating_mul(answer.revised_lifetime_count.max(3)),
        })
    }

    /// Creates items; each has a result of its own.
    pub(crate) async fn create_items(
        &self,
        subscription: u32,
        items: Vec<MonitoredItemCreateRequest>,
    ) -> Result<Vec<MonitoredItemCreateResult>, ServiceError> {
        let mut results = Vec::with_capacity(items.len());
        let mut rest = items.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(Limits::get(&self.limits.items).min(rest.len()));
            let request = CreateMonitoredItemsRequest {
                request_header: self.header(self.timeout),
                subscription_id: subscription,
                timestamps_to_return: TimestampsToReturn::Both,
                items_to_create: Some(now.to_vec()),
            };
            match service!(self.channel, CreateMonitoredItems, request, self.timeout) {
                Ok(answer) => {
                    let created = answer.results.unwrap_or_default();
                    results.extend(same_length("CreateMonitoredItems", created, now.len())?);
                    rest = later;
                }
                Err(error) => Limits::shrink(&self.limits.items, now.len(), error)?,
            }
        }
        Ok(results)
    }

    /// Deletes subscriptions, whether they exist or not.
    pub(crate) async fn delete_subscriptions(&self, ids: Vec<u32>) -> Result<(), ServiceError> {
        if ids.is_empty() {
            return Ok(());
        }
        let request = DeleteSubscriptionsRequest {
            request_header: self.header(self.timeout),
            subscription_ids: Some(ids),
        };
        service!(self.channel, DeleteSubscriptions, request, self.timeout)?;
        Ok(())
    }

    /// Moves subscriptions of another session here.
    pub(crate) async fn transfer(
        &self,
        ids: Vec<u32>,
    ) -> Result<Vec<TransferResult>, ServiceError> {
        let count = ids.len();
        let request = TransferSubscriptionsRequest {
            request_header: self.header(self.timeout),
            subscription_ids: Some(ids),
            send_initial_values: true,
        };
        let answer = service!(self.channel, TransferSubscriptions, request, self.timeout)?;
        same_length("TransferSubscriptions", answer.results.unwrap_or_default(), count)
    }

    /// Asks for the next notification of any subscription, and confirms earlier ones.
    pub(crate) async fn publish(
        &self,
        acknowledged: Vec<SubscriptionAcknowledgement>,
    ) -> Result<PublishResponse, ServiceError> {
        let request = PublishRequest {
            // No hint: it is the server's to answer when it has something.
            request_header: self.header(Duration::ZERO),
            subscription_acknowledgements: Some(acknowledged),
        };
        service!(self.channel, Publish, request, PUBLISH_TIMEOUT)
    }

    /// Asks again for a notification that did not arrive.
    pub(crate) async fn republish(
        &self,
        subscription: u32,
        sequence: u32,
    ) -> Result<NotificationMessage, ServiceError> {
        let request = RepublishRequest {
            request_header: self.header(self.timeout),
            subscription_id: subscription,
            retransmit_sequence_number: sequence,
        };
        let answer = service!(self.channel, Republish, request, self.timeout)?;
        asked_for(answer.notification_message, sequence)
    }

    /// The most nodes in one history request.
    pub(crate) fn history_chunk(&self) -> usize {
        Limits::get(&self.limits.history)
    }

    /// Reads history; whoever asks goes on with the continuation points, or releases them.
    pub(crate) async fn history_read(
        &self,
        details: ReadRawModifiedDetails,
        nodes: Vec<HistoryReadValueId>,
        release: bool,
    ) -> Result<Vec<HistoryReadResult>, ServiceError> {
        let count = nodes.len();
        let request = HistoryReadRequest {
            request_header: self.header(self.timeout),
            history_read_details: ExtensionObject::from_message(details),
            timestamps_to_return: TimestampsToReturn::Both,
            release_continuation_points: release,
            nodes_to_read: Some(nodes),
        };
        let answer = service!(self.channel, HistoryRead, request, self.timeout)?;
        if release {
            return Ok(Vec::new());
        }
        same_length("HistoryRead", answer.results.unwrap_or_default(), count)
    }

    // Writes and method calls, when commands come, are services like those above, guarded by the
    // daemon's select-before-operate; until then this file builds neither request.

    /// Closes the session with its subscriptions, and the channel; does not wait for long.
    pub(crate) async fn close(&self) {
        let request = CloseSessionRequest {
            request_header: self.header(CLOSE_TIMEOUT),
            delete_subscriptions: true,
        };
        let _ = service!(self.channel, CloseSession, request, CLOSE_TIMEOUT);
        self.channel.close_channel().await;
    }
}

/// An attribute of a node, to be read.
pub(crate) fn attribute(node: NodeId, attribute: AttributeId) -> ReadValueId {
    ReadValueId { node_id: node, attribute_id: attribute as u32, ..ReadValueId::default() }
}

fn references(results: &[BrowseResult], at: usize) -> usize {
    let references: Option<&Vec<ReferenceDescription>> =
        results.get(at).and_then(|result| result.references.as_ref());
    references.map_or(0, Vec::len)
}

fn same_length<T>(
    service: &'static str,
    results: Vec<T>,
    asked: usize,
) -> Result<Vec<T>, ServiceError> {
    if results.len() == asked {
        return Ok(results);
    }
    let detail = format!("{} results for {asked} entries", results.len());
    Err(ServiceError::odd(service, detail))
}

/// Prefers what the server said when it closed the connection to the mere fact that it did.
async fn said<T>(outcome: Result<T, ConnectError>, wire: &mut Wire) -> Result<T, ConnectError> {
    let Err(error) = outcome else { return outcome };
    let is_bare = matches!(
        error.status,
        Some(StatusCode::BadConnectionClosed | StatusCode::BadCommunicationError)
    );
    if is_bare && let Ok(last) = tokio::time::timeout(Duration::ZERO, wire.closed()).await {
        return Err(ConnectError::refused(error.stage, last.status, &last.reason));
    }
    Err(error)
}

impl Limits {
    fn of(configured: usize) -> Self {
        let limit = || AtomicUsize::new(configured.max(1));
        Self { read: limit(), browse: limit(), items: limit(), history: limit() }
    }

    fn get(limit: &AtomicUsize) -> usize {
        limit.load(Ordering::Relaxed).max(1)
    }

    /// A request was too large: the next ones have half of it, until nothing is left to halve.
    fn shrink(limit: &AtomicUsize, was: usize, error: ServiceError) -> Result<(), ServiceError> {
        if was <= 1 || !error.is_of_size() {
            return Err(error);
        }
        limit.fetch_min(was / 2, Ordering::Relaxed);
        Ok(())
    }
}

/// The message, where it is the one that was asked for. Some servers (asyncua 2.1) answer "good"
/// with an empty one when they do not have it any more.
fn asked_for(
    message: NotificationMessage,
    sequence: u32,
) -> Result<NotificationMessage, ServiceError> {
    let is_empty = message.notification_data.as_ref().is_none_or(Vec::is_empty);
    if !is_empty && message.sequence_number == sequence {
        return Ok(message);
    }
    Err(ServiceError {
        service: "Republish",
        status: StatusCode::BadMessageNotAvailable,
        detail: format!("the answer to the request for notification {sequence} is not it"),
        answered: true,
    })
}

#[cfg(test)]
mod tests {
    use opcua::types::ExtensionObject;

    use super::*;

    fn error(status: StatusCode, answered: bool) -> ServiceError {
        ServiceError { service: "Read", status, detail: String::new(), answered }
    }

    #[test]
    fn a_request_that_is_too_large_is_halved_down_to_one_entry() {
        let limit = AtomicUsize::new(100);
        let too_many = || error(StatusCode::BadTooManyOperations, true);
        assert_eq!(Limits::shrink(&limit, 100, too_many()), Ok(()));
        assert_eq!(Limits::get(&limit), 50);
        assert_eq!(Limits::shrink(&limit, 1, too_many()), Err(too_many()));
        let other = error(StatusCode::BadTimeout, false);
        assert_eq!(Limits::shrink(&limit, 50, other.clone()), Err(other));
    }

    #[test]
    fn silence_is_not_yet_the_end_of_a_session_and_a_closed_channel_is() {
        assert!(!error(StatusCode::BadTimeout, false).is_of_session());
        assert!(error(StatusCode::BadConnectionClosed, false).is_of_session());
        assert!(error(StatusCode::BadSessionIdInvalid, true).is_of_session());
        assert!(!error(StatusCode::BadTooManyPublishRequests, true).is_of_session());
    }

    #[test]
    fn an_empty_or_another_notification_is_not_the_one_that_was_asked_for() {
        let message = |sequence_number, data| NotificationMessage {
            sequence_number,
            notification_data: data,
            ..NotificationMessage::default()
        };
        let data = || Some(vec![ExtensionObject::null()]);
        assert!(asked_for(message(7, data()), 7).is_ok());
        for other in [message(7, None), message(7, Some(Vec::new())), message(8, data())] {
            let error = asked_for(other, 7).unwrap_err();
            assert_eq!(error.status, StatusCode::BadMessageNotAvailable);
        }
    }
}
