//! Who comes and goes at a hub, as its servers tell it.

use async_nats::{Message, Subscriber};
use futures_util::stream::{SelectAll, StreamExt as _};
use jiff::Timestamp;

use crate::system_account::{OperateError, System, connection};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// Somebody is let in.
    Connect,
    /// A connection ended.
    Disconnect,
}

/// One coming or going.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: EventKind,
    /// At which server.
    pub server: String,
    /// In which account.
    pub account: String,
    /// Who, as the server knows it.
    pub user: String,
    /// What it calls itself.
    pub name: String,
    /// From where.
    pub from: String,
    /// Why it ended, in the server's words; empty for who comes.
    pub why: String,
}

/// The events of all servers.
#[derive(Debug)]
pub struct Events(SelectAll<Subscriber>);

#[derive(Debug, serde::Deserialize)]
struct Told {
    timestamp: Timestamp,
    server: Named,
    client: Client,
    #[serde(default)]
    reason: String,
}

#[derive(Debug, serde::Deserialize)]
struct Named {
    name: String,
}

#[derive(Debug, serde::Deserialize)]
struct Client {
    #[serde(default)]
    host: String,
    #[serde(default)]
    acc: String,
    #[serde(default)]
    user: String,
    #[serde(default)]
    name: String,
}

impl System {
    /// Begins to listen. Every event from then on is in it, as long as the connection stands.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn events(&self) -> Result<Events, OperateError> {
        let mut all = SelectAll::new();
        for what in ["CONNECT", "DISCONNECT"] {
            let heard = self.client.subscribe(format!("$SYS.ACCOUNT.*.{what}")).await;
            all.push(heard.map_err(|error| connection("events", error))?);
        }
        self.client.flush().await.map_err(|error| connection("events", error))?;
        Ok(Events(all))
    }
}

impl Events {
    /// The next one; `None` once the connection is gone. What is no event is passed over.
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = event(&self.0.next().await?) {
                return Some(event);
            }
        }
    }
}

fn event(message: &Message) -> Option<Event> {
    let kind = match message.subject.rsplit('.').next()? {
        "CONNECT" => EventKind::Connect,
        "DISCONNECT" => EventKind::Disconnect,
        _ => return None,
    };
    told(kind, &message.payload)
}

fn told(kind: EventKind, payload: &[u8]) -> Option<Event> {
    let told: Told = serde_json::from_slice(payload).ok()?;
    Some(Event {
        at: told.timestamp,
        kind,
        server: told.server.name,
        account: told.client.acc,
        user: told.client.user,
        name: told.client.name,
        from: told.client.host,
        why: told.reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As nats-server 2.15.1 tells it, shortened.
    #[test]
    fn a_cut_connection_is_told_with_who_and_why() {
        let payload = br#"{"type":"io.nats.server.advisory.v1.client_disconnect",
            "timestamp":"2026-11-30T03:02:44.38789349Z","server":{"name":"hub-1","id":"N"},
            "client":{"start":"2026-11-30T03:02:05.513881202Z","host":"127.0.0.1","id":8,
            "acc":"GATEWAYS","user":"CN=PlantA/gw2,O=Tidegate","name":"PlantA/gw2"},
            "reason":"Kicked"}"#;
        let event = told(EventKind::Disconnect, payload).unwrap();
        assert_eq!(
            (event.user.as_str(), event.why.as_str()),
            ("CN=PlantA/gw2,O=Tidegate", "Kicked")
        );
        assert_eq!(told(EventKind::Disconnect, b"{}"), None);
    }
}
