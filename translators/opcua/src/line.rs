//! One session, and what can be asked in it.
//!
//! # Invariants
//! - A [`Line`] never moves bytes by itself: whoever asks polls its [`Wire`] beside, with
//!   [`Wire::serve`].
//! - No request holds more than the server says it takes, nor more than is configured; a server
//!   that finds one too large without having said so is asked in smaller ones.
//! - The answer to a list has as many results as the list has entries, or is an error.

mod browse;
mod limits;
mod subscription;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use opcua::client::AsyncSecureChannel;
use opcua::types::{
    AttributeId, CloseSessionRequest, DataValue, ExtensionObject, HistoryReadRequest,
    HistoryReadResult, HistoryReadValueId, NodeId, ReadRawModifiedDetails, ReadRequest,
    ReadValueId, StatusCode, TimestampsToReturn, VariableId, Variant,
};

use crate::connect::{ConnectError, Stage, Target, Ticket, header, words};
use crate::credentials::Credentials;
use crate::spec::DeviceSpec;
use crate::wire::Wire;

use self::limits::Limits;
pub(crate) use self::subscription::Subscription;

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

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: StatusCode, answered: bool) -> ServiceError {
        ServiceError { service: "Read", status, detail: String::new(), answered }
    }

    #[test]
    fn silence_is_not_yet_the_end_of_a_session_and_a_closed_channel_is() {
        assert!(!error(StatusCode::BadTimeout, false).is_of_session());
        assert!(error(StatusCode::BadConnectionClosed, false).is_of_session());
        assert!(error(StatusCode::BadSessionIdInvalid, true).is_of_session());
        assert!(!error(StatusCode::BadTooManyPublishRequests, true).is_of_session());
    }
}
