//! What a session tells of its server: state, build, namespaces, limits, subscriptions, history.
//!
//! # Invariants
//! - What cannot be read is named and stops nothing.
//! - The subscription that is tried is deleted again.

use std::cell::RefCell;
use std::time::Duration;

use opcua::types::{
    AttributeId, DataValue, DateTime, MonitoredItemCreateRequest, MonitoringMode,
    MonitoringParameters, NodeId, StatusCode, TimestampsToReturn, VariableId, Variant,
};
use tokio::time::{Instant, timeout};

use super::findings::{Findings, SessionFindings, Subscribed};
use super::survey::clock;
use crate::line::{Line, ServiceError, attribute};

/// What is asked of the subscription that is tried.
const EVERY: Duration = Duration::from_millis(250);
/// How long its first value may take beyond two publishing intervals.
const PATIENCE: Duration = Duration::from_secs(4);

/// What a server takes, and under which name it says so.
const LIMITS: [(&str, VariableId); 14] = [
    (
        "MaxNodesPerRead",
        VariableId::Server_ServerCapabilities_OperationLimits_MaxNodesPerRead,
    ),
    (
        "MaxNodesPerBrowse",
        VariableId::Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse,
    ),
    (
        "MaxMonitoredItemsPerCall",
        VariableId::Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall,
    ),
    (
        "MaxNodesPerHistoryReadData",
        VariableId::Server_ServerCapabilities_OperationLimits_MaxNodesPerHistoryReadData,
    ),
    (
        "MaxNodesPerTranslateBrowsePathsToNodeIds",
        VariableId::Server_ServerCapabilities_OperationLimits_MaxNodesPerTranslateBrowsePathsToNodeIds,
    ),
    (
        "MaxBrowseContinuationPoints",
        VariableId::Server_ServerCapabilities_MaxBrowseContinuationPoints,
    ),
    ("MaxArrayLength", VariableId::Server_ServerCapabilities_MaxArrayLength),
    ("MaxStringLength", VariableId::Server_ServerCapabilities_MaxStringLength),
    ("MaxByteStringLength", VariableId::Server_ServerCapabilities_MaxByteStringLength),
    ("MaxSessions", VariableId::Server_ServerCapabilities_MaxSessions),
    ("MaxSubscriptions", VariableId::Server_ServerCapabilities_MaxSubscriptions),
    ("MaxMonitoredItems", VariableId::Server_ServerCapabilities_MaxMonitoredItems),
    (
        "MaxSubscriptionsPerSession",
        VariableId::Server_ServerCapabilities_MaxSubscriptionsPerSession,
    ),
    (
        "MaxMonitoredItemsPerSubscription",
        VariableId::Server_ServerCapabilities_MaxMonitoredItemsPerSubscription,
    ),
];

/// Asks; each answer is in the findings as soon as it is there.
pub(super) async fn ask(line: &Line, findings: &RefCell<Findings>) {
    let doing = |what| findings.borrow_mut().doing = what;
    let note = |edit: &mut dyn FnMut(&mut SessionFindings)| {
        edit(findings.borrow_mut().session.get_or_insert_default());
    };
    let missing = |what: &str, error: &ServiceError| {
        note(&mut |session| session.unread.push(format!("{what}: {error}")));
    };

    doing("reading the state of the server");
    let since = Instant::now();
    match status(line).await {
        Ok((values, now)) => {
            let took = since.elapsed();
            if let Some(Variant::DateTime(time)) = value(&values, 0)
                && !time.is_null()
            {
                findings.borrow_mut().clock = Some(clock(time, &now, took));
            }
            note(&mut |session| tell(session, &values));
        }
        Err(error) => missing("the state of the server", &error),
    }

    doing("reading its namespaces");
    match line.namespaces().await {
        Ok(namespaces) => note(&mut |session| session.namespaces.clone_from(&namespaces)),
        Err(error) => missing("namespaces", &error),
    }

    doing("reading its limits");
    match read(line, LIMITS.map(|(_, node)| node.into())).await {
        Ok(values) => {
            let limits = LIMITS.iter().zip(&values).filter_map(|((name, _), value)| {
                let limit = match value.value {
                    Some(Variant::UInt32(limit)) => limit,
                    Some(Variant::UInt16(limit)) => limit.into(),
                    _ => return None,
                };
                Some((*name, limit))
            });
            let limits: Vec<_> = limits.collect();
            note(&mut |session| session.limits.clone_from(&limits));
        }
        Err(error) => missing("limits", &error),
    }
    let history = VariableId::HistoryServerCapabilities_AccessHistoryDataCapability;
    if let Ok(values) = read(line, [history.into()]).await
        && let Some(Variant::Boolean(keeps)) = value(&values, 0)
    {
        note(&mut |session| session.history = Some(*keeps));
    }

    doing("trying a subscription");
    let subscribed = subscribe(line).await;
    note(&mut |session| session.subscription = Some(subscribed.clone()));
}

async fn read(
    line: &Line,
    nodes: impl IntoIterator<Item = NodeId>,
) -> Result<Vec<DataValue>, ServiceError> {
    let nodes = nodes.into_iter().map(|node| attribute(node, AttributeId::Value)).collect();
    line.read(nodes, TimestampsToReturn::Neither).await
}

async fn status(line: &Line) -> Result<(Vec<DataValue>, DateTime), ServiceError> {
    let nodes = [
        VariableId::Server_ServerStatus_CurrentTime,
        VariableId::Server_ServerStatus_StartTime,
        VariableId::Server_ServerStatus_State,
        VariableId::Server_ServerStatus_BuildInfo_ManufacturerName,
        VariableId::Server_ServerStatus_BuildInfo_ProductName,
        VariableId::Server_ServerStatus_BuildInfo_SoftwareVersion,
        VariableId::Server_ServerStatus_BuildInfo_BuildNumber,
    ];
    let values = read(line, nodes.map(Into::into)).await?;
    Ok((values, DateTime::now()))
}

fn value(values: &[DataValue], at: usize) -> Option<&Variant> {
    values.get(at).and_then(|value| value.value.as_ref())
}

fn tell(session: &mut SessionFindings, values: &[DataValue]) {
    let text = |at| match value(values, at) {
        Some(Variant::String(text)) => Some(text.as_ref().to_owned()).filter(|t| !t.is_empty()),
        _ => None,
    };
    session.started = match value(values, 1) {
        Some(Variant::DateTime(time)) if !time.is_null() => Some(time.to_rfc3339()),
        _ => None,
    };
    session.state = match value(values, 2) {
        Some(Variant::Int32(state)) => Some(state_word(*state)),
        _ => None,
    };
    session.build.manufacturer = text(3);
    session.build.product = text(4);
    session.build.version = text(5);
    session.build.number = text(6);
}

/// OPC 10000-5, 12.6.
fn state_word(state: i32) -> String {
    let words = [
        "Running",
        "Failed",
        "NoConfiguration",
        "Suspended",
        "Shutdown",
        "Test",
        "CommunicationFault",
        "Unknown",
    ];
    let word = usize::try_from(state).ok().and_then(|state| words.get(state));
    word.map_or_else(|| format!("state {state}"), |word| (*word).to_owned())
}

/// Subscribes to the server's clock and waits for it to strike.
async fn subscribe(line: &Line) -> Result<Subscribed, String> {
    let said = |error: ServiceError| error.to_string();
    let since = Instant::now();
    let subscription = line.create_subscription(EVERY, 10, 60).await.map_err(said)?;
    let id = subscription.id;
    let tried = async {
        let item = MonitoredItemCreateRequest {
            item_to_monitor: attribute(
                VariableId::Server_ServerStatus_CurrentTime.into(),
                AttributeId::Value,
            ),
            monitoring_mode: MonitoringMode::Reporting,
            requested_parameters: MonitoringParameters {
                client_handle: 1,
                sampling_interval: EVERY.as_secs_f64() * 1000.0,
                queue_size: 1,
                discard_oldest: true,
                ..MonitoringParameters::default()
            },
        };
        let created = line.create_items(id, vec![item]).await.map_err(said)?;
        let Some(created) = created.first() else { return Err("no item was created".to_owned()) };
        if created.status_code.is_bad() {
            return Err(format!("the item was refused with {}", created.status_code));
        }
        let patience = subscription.publish_every.saturating_mul(2).saturating_add(PATIENCE);
        let until = since + patience;
        let mut acknowledged = Vec::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let answer = match timeout(left, line.publish(std::mem::take(&mut acknowledged))).await
            {
                Err(_) => return Err(format!("no value came within {patience:.1?}")),
                Ok(answer) => answer.map_err(said)?,
            };
            if answer.subscription_id == id
                && answer.notification_message.notification_data.iter().flatten().next().is_some()
            {
                break;
            }
        }
        let sample = Duration::try_from_secs_f64(created.revised_sampling_interval / 1000.0);
        Ok(Subscribed {
            publish_every: subscription.publish_every,
            sample_every: sample.unwrap_or_default(),
            first_after: since.elapsed(),
        })
    };
    let tried = tried.await;
    let deleted = line.delete_subscriptions(vec![id]).await;
    match (tried, deleted) {
        (Ok(_), Err(error)) if error.status != StatusCode::BadNoSubscription => {
            Err(format!("it works, but cannot be deleted: {error}"))
        }
        (tried, _) => tried,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_tells_its_state_by_the_specifications_word() {
        assert_eq!(state_word(0), "Running");
        assert_eq!(state_word(-1), "state -1");
        assert_eq!(state_word(9), "state 9");
    }

    #[test]
    fn what_a_server_leaves_out_is_not_told() {
        let value = |variant: Variant| DataValue { value: Some(variant), ..DataValue::null() };
        let mut session = SessionFindings::default();
        let values = [value(Variant::Empty), value(Variant::Empty), value(Variant::Int32(1))];
        tell(&mut session, &values);
        assert_eq!(session.state.as_deref(), Some("Failed"));
        assert_eq!((session.started, session.build.product), (None, None));
    }
}
