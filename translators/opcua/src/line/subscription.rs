//! Subscriptions of a session: made, filled, asked for what they have, moved and deleted.

use std::time::Duration;

use opcua::types::{
    CreateMonitoredItemsRequest, CreateSubscriptionRequest, DeleteSubscriptionsRequest,
    MonitoredItemCreateRequest, MonitoredItemCreateResult, NotificationMessage, PublishRequest,
    PublishResponse, RepublishRequest, StatusCode, SubscriptionAcknowledgement, TimestampsToReturn,
    TransferResult, TransferSubscriptionsRequest,
};

use super::limits::Limits;
use super::{Line, ServiceError, same_length, service};

/// How long a publish request waits: the server answers when it has something, or with a
/// keep-alive. What comes later than this would be lost to sequence numbers only.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(600);

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

impl Line {
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
