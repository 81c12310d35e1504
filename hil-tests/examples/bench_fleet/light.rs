//! An uplink without a daemon: one leaf link, spoken by hand over mutual TLS, that sends messages
//! one after the other as the uplink does, each with the expected sequence.
//!
//! # Invariants
//! - The next message is sent when the one before it was acknowledged; an answer that is no
//!   acknowledgement ends the uplink.
//! - What the hub tells of its subscriptions is counted, as a leaf would have to keep it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tidegate_hil_tests::hub::Credentials;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// How many questions a gateway answers, each with a subscription of its own.
pub(crate) const QUESTIONS: usize = 8;

/// What an uplink does at present.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    /// Nothing but holding its link.
    Idle,
    /// A message of so many bytes, again after so long.
    Every(Duration, usize),
    /// Messages of so many bytes as fast as they are acknowledged.
    FlatOut(usize),
    /// The end.
    Over,
}

/// What became of an uplink's messages.
#[derive(Debug, Default)]
pub(crate) struct Delivered {
    /// How long each acknowledgement took, and when it came.
    pub(crate) acks: Vec<(Instant, Duration)>,
    /// How many subscriptions the hub has told of.
    pub(crate) subscriptions: usize,
}

/// One uplink.
pub(crate) struct Light {
    stream: BufReader<TlsStream<TcpStream>>,
    id: String,
    frames: String,
    inbox: String,
    last: u64,
    told: HashSet<String>,
}

impl Light {
    /// Links as `id`.
    pub(crate) async fn linked(
        hub: SocketAddr,
        id: &str,
        credentials: &Credentials,
    ) -> anyhow::Result<Self> {
        let mut plain = BufReader::new(TcpStream::connect(hub).await?);
        let mut greeting = String::new();
        plain.read_line(&mut greeting).await?;
        ensure!(greeting.starts_with("INFO "), "no greeting: {greeting}");
        let name = ServerName::from(hub.ip());
        let connector = TlsConnector::from(Arc::new(config(credentials)?));
        let stream = connector.connect(name, plain.into_inner()).await?;
        let dotted = id.replace('/', ".");
        let mut light = Self {
            stream: BufReader::new(stream),
            id: id.to_owned(),
            frames: format!("tide.{dotted}.000102030405060708090a0b0c0d0e0f.frames"),
            inbox: format!("_INBOX.{dotted}.record.light"),
            last: 0,
            told: HashSet::new(),
        };
        light.introduce(&dotted).await?;
        Ok(light)
    }

    async fn introduce(&mut self, dotted: &str) -> anyhow::Result<()> {
        let who = serde_json::json!({
            "tls_required": true, "server_id": self.id, "name": self.id, "headers": true,
            "version": "2.15.1", "compression": "not supported",
        });
        let mut text = format!("CONNECT {who}\r\nLS+ {}\r\n", self.inbox);
        for number in 0..QUESTIONS {
            text.push_str(&format!("LS+ tide.{dotted}.q.question-{number}\r\n"));
        }
        text.push_str("PING\r\n");
        self.stream.write_all(text.as_bytes()).await?;
        self.stream.flush().await?;
        while self.heard().await? != Heard::Pong {}
        Ok(())
    }

    /// Until it is over, or something is not as it should be.
    ///
    /// `turn` is its place among all of them, from 0 to 1: what is done every so often begins there.
    pub(crate) async fn run(
        mut self,
        mut pace: watch::Receiver<Pace>,
        turn: f64,
    ) -> anyhow::Result<Delivered> {
        let mut delivered = Delivered::default();
        let mut before = Pace::Idle;
        loop {
            let now = *pace.borrow_and_update();
            let is_new = std::mem::replace(&mut before, now) != now;
            if let (Pace::Every(pause, _), true) = (now, is_new) {
                let begin = Instant::now() + pause.mul_f64(turn);
                while self.listen(&mut pace, Some(begin)).await? {}
            }
            let (pause, bytes) = match now {
                Pace::Over => break,
                Pace::Idle => {
                    self.listen(&mut pace, None).await?;
                    continue;
                }
                Pace::Every(pause, bytes) => (pause, bytes),
                Pace::FlatOut(bytes) => (Duration::ZERO, bytes),
            };
            let begun = Instant::now();
            self.deliver(bytes).await.with_context(|| self.id.clone())?;
            delivered.acks.push((Instant::now(), begun.elapsed()));
            while !pause.is_zero() && self.listen(&mut pace, Some(begun + pause)).await? {}
        }
        delivered.subscriptions = self.told.len();
        Ok(delivered)
    }

    /// Takes in what the hub says next; `false` when it is time for something else.
    async fn listen(
        &mut self,
        pace: &mut watch::Receiver<Pace>,
        until: Option<Instant>,
    ) -> anyhow::Result<bool> {
        let end = async {
            match until {
                Some(until) => tokio::time::sleep_until(until.into()).await,
                None => std::future::pending().await,
            }
        };
        // Nothing is taken out of the buffer in here, so nothing is lost when it is left.
        tokio::select! {
            () = end => return Ok(false),
            changed = pace.changed() => {
                changed?;
                return Ok(false);
            }
            there = self.stream.fill_buf() => ensure!(!there?.is_empty(), "the hub hung up"),
        }
        self.heard().await?;
        Ok(true)
    }

    async fn deliver(&mut self, bytes: usize) -> anyhow::Result<()> {
        let header =
            format!("NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: {}\r\n\r\n", self.last);
        let total = header.len() + bytes;
        let (frames, inbox) = (&self.frames, &self.inbox);
        let line = format!("HMSG {frames} {inbox} {} {total}\r\n", header.len());
        let mut message = Vec::with_capacity(line.len() + total + 2);
        message.extend_from_slice(line.as_bytes());
        message.extend_from_slice(header.as_bytes());
        // As a frame: nothing in it can be compressed.
        let mut dice = self.last.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        message.extend((0..bytes).map(|_| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            dice.to_le_bytes()[3]
        }));
        message.extend_from_slice(b"\r\n");
        self.stream.write_all(&message).await?;
        self.stream.flush().await?;
        loop {
            if let Heard::Answer(answer) = self.heard().await? {
                let answer: serde_json::Value = serde_json::from_slice(&answer)?;
                self.last = answer["seq"].as_u64().with_context(|| format!("refused: {answer}"))?;
                return Ok(());
            }
        }
    }

    /// The next thing that the hub says. It must not be left in the middle.
    async fn heard(&mut self) -> anyhow::Result<Heard> {
        let line = loop {
            let buffered = self.stream.fill_buf().await?;
            ensure!(!buffered.is_empty(), "the hub hung up");
            let mut line = String::new();
            self.stream.read_line(&mut line).await?;
            if !line.trim().is_empty() {
                break line;
            }
        };
        let mut words = line.split_whitespace();
        let verb = words.next().unwrap_or_default();
        match verb {
            "PING" => {
                self.stream.write_all(b"PONG\r\n").await?;
                self.stream.flush().await?;
            }
            "PONG" => return Ok(Heard::Pong),
            "LS+" => drop(self.told.insert(words.next().unwrap_or_default().to_owned())),
            "LS-" => drop(self.told.remove(words.next().unwrap_or_default())),
            "LMSG" | "HMSG" => {
                let sizes: Vec<usize> = words.rev().map_while(|word| word.parse().ok()).collect();
                let total = *sizes.first().context("a message without its size")?;
                let header = if verb == "HMSG" { sizes.get(1).copied().unwrap_or(0) } else { 0 };
                let mut body = vec![0; total + 2];
                self.stream.read_exact(&mut body).await?;
                let body = body.get(header..total).context("a header beyond the message")?;
                return Ok(Heard::Answer(body.to_vec()));
            }
            "-ERR" => bail!("the hub refuses: {}", line.trim()),
            _ => {}
        }
        Ok(Heard::Other)
    }
}

#[derive(Debug, PartialEq)]
enum Heard {
    Pong,
    Answer(Vec<u8>),
    Other,
}

fn config(credentials: &Credentials) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&credentials.ca)?)?;
    let chain = vec![CertificateDer::from_pem_file(&credentials.cert)?];
    let key = PrivateKeyDer::from_pem_file(&credentials.key)?;
    let builder = ClientConfig::builder().with_root_certificates(roots);
    Ok(builder.with_client_auth_cert(chain, key)?)
}
