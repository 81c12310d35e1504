//! Who is connected to a hub, and who was until lately.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::gather::Gathered;
use crate::system_account::{Answer, OperateError, System, unusable};

/// The question.
const CONNZ: &str = "CONNZ";

/// Connections in one answer: about 900 bytes each, so that an answer fits a message.
const PAGE: usize = 512;

/// At most so many connections of one server are read.
const MOST: usize = 100_000;

/// Which connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those that stand.
    Open,
    /// The last ten thousand that ended, as far as the server has run since.
    Closed,
}

/// A connection of a gateway or a person to one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// The server's name.
    pub server: String,
    /// The server's id.
    pub server_id: String,
    /// Its number there.
    pub cid: u64,
    /// Whether it is a leaf link; a person or program otherwise.
    pub is_leaf: bool,
    /// The account; empty when none was reached.
    pub account: String,
    /// Who it is for the server: the certificate's subject, or a user name. Empty when it was
    /// refused.
    pub user: String,
    /// What it calls itself.
    pub name: String,
    /// Its address and port.
    pub from: String,
    /// Since when.
    pub since: Timestamp,
    /// The SHA-256 of its certificate in hexadecimal; empty without one.
    pub certificate: String,
    /// The round trip, as the server writes it.
    pub rtt: String,
    /// Bytes that it sent to the server.
    pub sent: u64,
    /// The program's version.
    pub version: String,
    /// How it ended, for one that did.
    pub end: Option<End>,
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// When.
    pub at: Timestamp,
    /// Why, in the server's words.
    pub why: String,
}

#[derive(Debug, serde::Deserialize)]
struct Connz {
    #[serde(default)]
    total: usize,
    #[serde(default)]
    connections: Vec<Conn>,
}

#[derive(Debug, serde::Deserialize)]
struct Conn {
    cid: u64,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    ip: String,
    #[serde(default)]
    port: u16,
    start: Timestamp,
    #[serde(default)]
    rtt: String,
    #[serde(default)]
    in_bytes: u64,
    #[serde(default)]
    name: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    tls_peer_certs: Vec<Peer>,
    #[serde(default)]
    authorized_user: String,
    #[serde(default)]
    account: String,
    stop: Option<Timestamp>,
    #[serde(default)]
    reason: String,
}

#[derive(Debug, Default, serde::Deserialize)]
struct Peer {
    #[serde(default)]
    cert_sha256: String,
}

impl System {
    /// The connections of every server; of one user with `user`, known as the server knows it.
    ///
    /// # Errors
    /// When nobody answers, or with something else.
    pub async fn connections(
        &self,
        expected: &[String],
        which: Which,
        user: Option<&str>,
    ) -> Result<Gathered<Connection>, OperateError> {
        let first = self.gather(CONNZ, &question(which, user, 0), expected).await?;
        let mut all = Vec::new();
        for answer in first.answers {
            let (name, id) = (answer.server.name.clone(), answer.server.id.clone());
            let (mut total, mut page) = page(answer)?;
            let mut read = 0;
            loop {
                // Connections that end while pages are turned leave none out of the next look.
                read += page.len();
                let is_last = page.is_empty() || read >= total.min(MOST);
                all.extend(page.into_iter().filter(|one| user.is_none_or(|user| one.user == user)));
                if is_last {
                    break;
                }
                let asked = self.ask(&name, &id, CONNZ, &question(which, user, read)).await?;
                (total, page) = self::page(asked)?;
            }
        }
        Ok(Gathered { answers: all, silent: first.silent })
    }

    /// Cuts a connection. One that is gone meanwhile is as good as cut.
    ///
    /// # Errors
    /// When its server refuses or does not answer.
    pub async fn kick(&self, connection: &Connection) -> Result<(), OperateError> {
        let Connection { server, server_id, cid, .. } = connection;
        match self.ask(server, server_id, "KICK", &json!({ "cid": cid })).await {
            Err(OperateError::Refused { said, .. }) if said.contains("no such client") => Ok(()),
            other => other.map(drop),
        }
    }
}

fn question(which: Which, user: Option<&str>, offset: usize) -> Value {
    let state = match which {
        Which::Open => 0,
        Which::Closed => 1,
    };
    let mut question = json!({ "auth": true, "state": state, "limit": PAGE, "offset": offset });
    if let Some(user) = user {
        question["user"] = user.into();
    }
    question
}

fn page(answer: Answer) -> Result<(usize, Vec<Connection>), OperateError> {
    let Answer { server, data, .. } = answer;
    let connz: Connz =
        serde_json::from_value(data).map_err(|source| unusable(&server.name, CONNZ, source))?;
    let connections = connz.connections.into_iter().map(|conn| Connection {
        server: server.name.clone(),
        server_id: server.id.clone(),
        cid: conn.cid,
        is_leaf: conn.kind == "Leafnode",
        account: conn.account,
        user: conn.authorized_user,
        name: conn.name,
        from: format!("{}:{}", conn.ip, conn.port),
        since: conn.start,
        certificate: conn.tls_peer_certs.into_iter().next().unwrap_or_default().cert_sha256,
        rtt: conn.rtt,
        sent: conn.in_bytes,
        version: conn.version,
        end: conn.stop.map(|at| End { at, why: conn.reason }),
    });
    Ok((connz.total, connections.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As nats-server 2.15.1 answers.
    #[test]
    fn a_connection_is_known_by_what_the_server_saw() {
        let answer = json!({
            "server": {"name": "hub-1", "id": "NBYS"},
            "data": {"num_connections": 2, "total": 2, "connections": [
                {"cid": 8, "kind": "Leafnode", "ip": "127.0.0.1", "port": 59590,
                 "start": "2026-11-30T03:02:05.513881202Z", "rtt": "363µs", "in_bytes": 7,
                 "name": "PlantB/liar", "version": "2.15.1",
                 "tls_peer_certs": [{"subject": "CN=PlantA/gw2,O=Tidegate", "cert_sha256": "aca2"}],
                 "authorized_user": "CN=PlantA/gw2,O=Tidegate", "account": "GATEWAYS"},
                {"cid": 14, "kind": "Leafnode", "ip": "127.0.0.1", "port": 50078,
                 "start": "2026-11-30T03:02:45.388753738Z", "name": "PlantA/gw3",
                 "stop": "2026-11-30T03:02:45.392737167Z", "reason": "Authentication Failure"},
            ]},
        });
        let (total, found) = page(serde_json::from_value(answer).unwrap()).unwrap();
        assert_eq!((total, found.len()), (2, 2));
        assert_eq!(found[0].user, "CN=PlantA/gw2,O=Tidegate");
        assert_eq!((found[0].certificate.as_str(), found[0].is_leaf), ("aca2", true));
        assert_eq!(found[0].end, None);
        assert_eq!(found[1].user, "");
        assert_eq!(found[1].end.as_ref().unwrap().why, "Authentication Failure");
    }

    #[test]
    fn an_answer_without_its_times_is_said_to_be_unusable() {
        let answer = json!({
            "server": {"name": "hub-1", "id": "N"}, "data": {"connections": [{"cid": 1}]},
        });
        let error = page(serde_json::from_value(answer).unwrap()).unwrap_err();
        assert!(error.to_string().contains("server hub-1 answered CONNZ"), "{error}");
    }
}
