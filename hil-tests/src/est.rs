//! An authority by other hands: EST, OCSP and a CRL, `est/est_server.py` in a process of its own.
//!
//! # Invariants
//! - Its ports stay its own while it is down, so that it can come back where it was.
//! - It is steered over a port of its own, so a fault of the EST side does not stop the steering.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::family::{Family, Process};
use crate::{tools, wait};

/// The authority, running or down.
#[derive(Debug)]
pub struct Est {
    family: Arc<Family>,
    directory: PathBuf,
    has_intermediate: bool,
    process: Option<Process>,
    starts: u32,
    description: Value,
    est: (TcpSocket, SocketAddr),
    web: (TcpSocket, SocketAddr),
}

/// A certificate that it made together with its key.
#[derive(Debug, Clone)]
pub struct Papers {
    /// The certificate, followed by those between it and the root.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Its serial number, hexadecimal.
    pub serial: String,
}

/// What the authority is asked to make together with a key.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The common name.
    pub name: String,
    /// The organisation; `Tidegate` when empty.
    pub organisation: String,
    /// Names and addresses of a server; without any, it is a client's.
    pub hosts: Vec<String>,
    /// How long it is valid; the authority's own lifetime when absent.
    pub lifetime: Option<Duration>,
    /// By the authority that nobody trusts.
    pub foreign: bool,
}

impl Est {
    /// Starts it, with a root of its own and all that it keeps below `directory`.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(family: &Arc<Family>, directory: &Path) -> anyhow::Result<Self> {
        Self::start_with(family, directory, false).await
    }

    /// [`Est::start`], signing by an authority below the root.
    ///
    /// # Errors
    /// As there.
    pub async fn start_below_root(family: &Arc<Family>, directory: &Path) -> anyhow::Result<Self> {
        Self::start_with(family, directory, true).await
    }

    async fn start_with(
        family: &Arc<Family>,
        directory: &Path,
        has_intermediate: bool,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let mut est = Self {
            family: Arc::clone(family),
            directory: directory.to_path_buf(),
            has_intermediate,
            process: None,
            starts: 0,
            description: Value::Null,
            est: held()?,
            web: held()?,
        };
        est.switch_on().await?;
        Ok(est)
    }

    /// Starts it again where it was, with what it knew.
    ///
    /// # Errors
    /// When it runs or does not come up.
    pub async fn switch_on(&mut self) -> anyhow::Result<()> {
        ensure!(self.process.is_none(), "the authority runs already");
        self.starts += 1;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("est/est_server.py");
        let mut command = self.family.command(tools::python()?);
        command.arg(script).arg("--dir").arg(&self.directory);
        command.arg("--est-port").arg(self.est.1.port().to_string());
        command.arg("--web-port").arg(self.web.1.port().to_string());
        if self.has_intermediate {
            command.arg("--intermediate");
        }
        let log = self.directory.join(format!("est-{}.log", self.starts));
        let mut process = Process::start(&self.family, "the authority", command, &log)?;
        self.description = wait::until(wait::SOON, "the authority says where it is", || {
            let (said, ended) = (process.printed_since(0), process.ended());
            async move {
                let said = said?;
                if let Some(status) = ended? {
                    bail!("the authority ended ({status}): {said}");
                }
                let line = said.split_once('\n').map(|(line, _)| line);
                line.map(|line| serde_json::from_str(line).context("no JSON")).transpose()
            }
        })
        .await?;
        self.process = Some(process);
        Ok(())
    }

    /// Ends it, without a goodbye.
    ///
    /// # Errors
    /// When it was down.
    pub fn switch_off(&mut self) -> anyhow::Result<()> {
        self.process.take().context("the authority is down already")?.kill9()
    }

    fn said(&self, key: &str) -> String {
        self.description[key].as_str().unwrap_or_default().to_owned()
    }

    /// Where EST is, as `[identity] est` has it.
    #[must_use]
    pub fn url(&self) -> String {
        self.said("est")
    }

    /// The root's certificate, PEM.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.said("root").into()
    }

    /// The SHA-256 of the root.
    #[must_use]
    pub fn pin(&self) -> String {
        self.said("pin")
    }

    /// The certificate of the authority that nobody trusts, PEM.
    #[must_use]
    pub fn foreign_root(&self) -> PathBuf {
        self.said("foreign").into()
    }

    /// The SHA-256 of a root that this authority never sends.
    #[must_use]
    pub fn foreign_pin(&self) -> String {
        self.said("foreign-pin")
    }

    /// Where OCSP is.
    #[must_use]
    pub fn ocsp_url(&self) -> String {
        format!("{}/ocsp", self.said("web"))
    }

    /// Changes what the server's head (`est_server.py`) lists under `/set`, for example
    /// `{"mode": "junk"}` or `{"lifetime": 30}`.
    ///
    /// # Errors
    /// When it does not know a word of it.
    pub async fn set(&self, wishes: Value) -> anyhow::Result<()> {
        self.post("/set", &wishes).await.map(drop)
    }

    /// How it answers enrolments from now on.
    ///
    /// # Errors
    /// When it is down.
    pub async fn behave(&self, mode: &str) -> anyhow::Result<()> {
        self.set(json!({ "mode": mode })).await
    }

    /// How long certificates live from now on.
    ///
    /// # Errors
    /// When it is down.
    pub async fn lifetime(&self, lifetime: Duration) -> anyhow::Result<()> {
        self.set(json!({ "lifetime": lifetime.as_secs_f64() })).await
    }

    /// A token of a single use.
    ///
    /// # Errors
    /// When it is down.
    pub async fn token(&self) -> anyhow::Result<String> {
        let made = self.post("/token", &json!({})).await?;
        Ok(made["token"].as_str().context("no token")?.to_owned())
    }

    /// Revokes a certificate, for OCSP, CRL and renewals.
    ///
    /// # Errors
    /// When it is down, or did not issue it.
    pub async fn revoke(&self, serial: &str) -> anyhow::Result<()> {
        let done = self.post("/revoke", &json!({ "serial": serial })).await?;
        ensure!(done["known"] == true, "{serial} was not issued by this authority");
        Ok(())
    }

    /// What was asked and answered, oldest first.
    ///
    /// # Errors
    /// When it is down.
    pub async fn log(&self) -> anyhow::Result<Vec<Value>> {
        let log = serde_json::from_slice(&self.ask("GET", "/log", b"").await?)?;
        Ok(log)
    }

    /// The enrolments and renewals that were granted, oldest first.
    ///
    /// # Errors
    /// When it is down.
    pub async fn granted(&self) -> anyhow::Result<Vec<Value>> {
        let all = self.log().await?.into_iter();
        Ok(all.filter(|one| one["serial"].is_string()).collect())
    }

    /// The list of revoked certificates, DER; `state` is `ok`, `expired`, `future`, `foreign`,
    /// `malformed` or `huge`.
    ///
    /// # Errors
    /// When it is down.
    pub async fn crl(&self, state: &str) -> anyhow::Result<Vec<u8>> {
        self.ask("GET", &format!("/crl?state={state}"), b"").await
    }

    /// The same as PEM.
    ///
    /// # Errors
    /// When it is down.
    pub async fn crl_pem(&self, state: &str) -> anyhow::Result<Vec<u8>> {
        self.ask("GET", &format!("/crl.pem?state={state}"), b"").await
    }

    /// Has a certificate made together with its key, into files named after `stem`.
    ///
    /// # Errors
    /// When it is down, or the files cannot be written.
    pub async fn issue(&self, stem: &str, wanted: &Wanted) -> anyhow::Result<Papers> {
        let kind = if wanted.hosts.is_empty() { "client" } else { "server" };
        let mut wish = json!({
            "name": wanted.name, "kind": kind, "hosts": wanted.hosts, "foreign": wanted.foreign,
        });
        if !wanted.organisation.is_empty() {
            wish["organisation"] = json!(wanted.organisation);
        }
        if let Some(lifetime) = wanted.lifetime {
            wish["lifetime"] = json!(lifetime.as_secs_f64());
        }
        let made = self.post("/issue", &wish).await?;
        let text = |key: &str| made[key].as_str().context("the authority made nothing");
        let cert = self.directory.join(format!("{stem}.pem"));
        let key = self.directory.join(format!("{stem}.key"));
        std::fs::write(&cert, text("cert")?)?;
        std::fs::write(&key, text("key")?)?;
        Ok(Papers { cert, key, serial: text("serial")?.to_owned() })
    }

    async fn post(&self, path: &str, wish: &Value) -> anyhow::Result<Value> {
        let body = serde_json::to_vec(wish)?;
        Ok(serde_json::from_slice(&self.ask("POST", path, &body).await?)?)
    }

    /// One request of HTTP/1.0, whose answer ends with the connection.
    async fn ask(&self, method: &str, path: &str, body: &[u8]) -> anyhow::Result<Vec<u8>> {
        ensure!(self.process.is_some(), "the authority is down");
        let mut stream = TcpStream::connect(self.web.1).await?;
        let head = format!("{method} {path} HTTP/1.0\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let (head, body) = answer.split_at(end.context("no answer")? + 4);
        let head = String::from_utf8_lossy(head);
        let status = head.split_whitespace().nth(1).unwrap_or_default();
        ensure!(status == "200", "{path}: {status} {}", String::from_utf8_lossy(body));
        Ok(body.to_vec())
    }
}

/// A port that others find taken and that a server started later may listen on: both ask for reuse,
/// and only the server listens.
fn held() -> anyhow::Result<(TcpSocket, SocketAddr)> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    let address = socket.local_addr()?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_comes_back_where_it_was_and_knows_what_it_issued() {
        let directory = tempfile::tempdir().unwrap();
        let family = Family::new().unwrap();
        let mut est = Est::start(&family, directory.path()).await.unwrap();
        let (url, pin, token) = (est.url(), est.pin(), est.token().await.unwrap());
        let wanted = Wanted { name: "P/g".to_owned(), ..Wanted::default() };
        let papers = est.issue("g", &wanted).await.unwrap();
        est.switch_off().unwrap();
        assert!(est.token().await.is_err());
        est.switch_on().await.unwrap();
        assert_eq!((est.url(), est.pin()), (url, pin));
        est.revoke(&papers.serial).await.unwrap();
        assert!(est.revoke("1234").await.is_err());
        assert!(!token.is_empty() && est.log().await.unwrap().is_empty());
        assert!(est.crl("ok").await.unwrap().len() > est.crl("malformed").await.unwrap().len());
        assert!(est.behave("junk").await.is_ok());
        assert!(est.set(json!({ "no-such": 1 })).await.is_err());
    }
}
