//! The servers of a hub: what they run, and until when their certificates last.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::gather::Gathered;
use crate::system_account::{Answer, OperateError, System, unusable};

/// The question.
const VARZ: &str = "VARZ";

/// A server as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its name, permanent.
    pub name: String,
    /// Its id, another one after each start.
    pub id: String,
    /// Its version.
    pub version: String,
    /// When it took its configuration.
    pub config_loaded: Timestamp,
    /// The digest of its configuration, `sha256:…`; empty before 2.11.
    pub config_digest: String,
    /// The certificates that it shows, by listener.
    pub served: Vec<Served>,
}

/// A certificate that a server shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// Where: `client`, `leaf`, `cluster`, `websocket`.
    pub listener: &'static str,
    /// Until when it is valid.
    pub until: Timestamp,
}

#[derive(Debug, serde::Deserialize)]
struct Varz {
    #[serde(default)]
    version: String,
    config_load_time: Timestamp,
    #[serde(default)]
    config_digest: String,
}

impl System {
    /// Every server, those that are expected first asked for.
    ///
    /// # Errors
    /// When nobody answers, or with something else.
    pub async fn servers(&self, expected: &[String]) -> Result<Gathered<Server>, OperateError> {
        let gathered = self.gather(VARZ, &json!({}), expected).await?;
        let answers = gathered.answers.into_iter().map(server).collect::<Result<_, _>>()?;
        Ok(Gathered { answers, silent: gathered.silent })
    }

    /// One server again.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn server(&self, known: &Server) -> Result<Server, OperateError> {
        server(self.ask(&known.name, &known.id, VARZ, &Value::Null).await?)
    }

    /// Has a server read its configuration again. It answers once it has, or says why it refuses.
    ///
    /// # Errors
    /// When it refuses or does not answer.
    pub async fn reload(&self, server: &Server) -> Result<(), OperateError> {
        self.ask(&server.name, &server.id, "RELOAD", &Value::Null).await.map(drop)
    }
}

fn server(answer: Answer) -> Result<Server, OperateError> {
    let Answer { server, data, .. } = answer;
    let until = |listener, at: &str| {
        let text = data.pointer(at)?.pointer("/tls_cert_not_after")?.as_str()?;
        Some(Served { listener, until: text.parse().ok()? })
    };
    let served = [("client", ""), ("leaf", "/leaf"), ("cluster", "/cluster")];
    let served = served.into_iter().chain([("websocket", "/websocket")]);
    let served = served.filter_map(|(listener, at)| until(listener, at)).collect();
    let varz: Varz =
        serde_json::from_value(data).map_err(|source| unusable(&server.name, VARZ, source))?;
    Ok(Server {
        name: server.name,
        id: server.id,
        version: varz.version,
        config_loaded: varz.config_load_time,
        config_digest: varz.config_digest,
        served,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As nats-server 2.15.1 answers, shortened.
    #[test]
    fn a_server_says_what_it_runs_and_until_when_its_certificates_last() {
        let answer = json!({
            "server": {"name": "hub-1", "id": "NBYS", "ver": "2.15.1"},
            "data": {
                "version": "2.15.1",
                "config_load_time": "2026-11-30T03:02:05.011263102Z",
                "config_digest": "sha256:04b8",
                "tls_cert_not_after": "2026-12-02T02:56:54Z",
                "leaf": {"port": 17422, "tls_cert_not_after": "2026-12-01T02:56:54Z"},
                "cluster": {}, "websocket": {},
            },
        });
        let server = server(serde_json::from_value(answer).unwrap()).unwrap();
        assert_eq!(server.config_digest, "sha256:04b8");
        let served: Vec<_> =
            server.served.iter().map(|one| (one.listener, one.until.to_string())).collect();
        let expected = [("client", "2026-12-02T02:56:54Z"), ("leaf", "2026-12-01T02:56:54Z")];
        assert_eq!(served, expected.map(|(listener, until)| (listener, until.to_owned())));
    }
}
