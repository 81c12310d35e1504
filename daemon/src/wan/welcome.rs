//! What a hub says to whoever connects as a leaf: its limits first, and what one may do, once one
//! has said who one is.
//!
//! # Invariants
//! - The name of the connection ends in [`PROBE`], so that whoever lists a hub's leaf nodes knows
//!   that it is none.
//! - Nothing is subscribed and nothing is published.

use serde::Deserialize;
use serde_json::json;

use super::conversation::Conversation;
use super::rights::{Permitted, Rights};
use super::{Access, WayError};
use crate::config::{HubScheme, HubUrl};

/// What the names of such connections end with.
pub const PROBE: &str = " probe";

/// What a hub says first, to anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// The largest message, in bytes.
    pub max_payload: usize,
    /// The name of the server.
    pub server: String,
}

/// What a hub says to a leaf that it admits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// What it said first.
    pub greeting: Greeting,
    /// What the leaf may do.
    pub rights: Rights,
}

/// The words of nats-server's INFO that count here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Info {
    max_payload: usize,
    server_name: String,
    tls_required: bool,
    connect_info: bool,
    /// What the leaf may import: hear.
    import: Option<Permitted>,
    /// What it may export: send.
    export: Option<Permitted>,
}

impl Access {
    /// What a hub says to anybody. Of `tls://` it is not known whose word it is; of `wss://` it is.
    ///
    /// # Errors
    /// When there is no way to it, or it is no hub. To be dropped when it takes too long.
    pub async fn greeting(&self, url: &HubUrl) -> Result<Greeting, WayError> {
        let mut conversation = self.dial(url).await?;
        Ok(greeting(&info(&mut conversation).await?))
    }

    /// Says who we are, under a name for the hub's lists, and hears what we may do.
    ///
    /// # Errors
    /// When there is no way to the hub, or it does not admit us. To be dropped when it takes too
    /// long.
    pub async fn welcome(&self, url: &HubUrl, name: &str) -> Result<Welcome, WayError> {
        let mut conversation = self.dial(url).await?;
        let first = info(&mut conversation).await?;
        if url.scheme == HubScheme::Tls {
            if !first.tls_required {
                return Err(conversation.foreign("it asks for no TLS"));
            }
            let io = self.encrypt(conversation.into_io()?, url).await?;
            conversation = Conversation::plain(io, url);
        }
        let connect = json!({
            "name": format!("{name}{PROBE}"),
            "tls_required": url.scheme.is_tls(),
            "headers": true,
            "compression": "not supported",
            "version": "2.15.0",
            "proto": 1,
        });
        let hello = format!("CONNECT {connect}\r\nPING\r\n");
        conversation.send(hello.as_bytes()).await?;
        let mut rights = None;
        loop {
            let line = conversation.line().await?;
            if line.starts_with(b"INFO ") {
                let info = parse(&line, &conversation)?;
                // A hub that was told who we are says what we may; another word changes its URLs.
                if info.connect_info || rights.is_none() {
                    rights = Some(Rights {
                        publish: info.export.unwrap_or_default(),
                        subscribe: info.import.unwrap_or_default(),
                    });
                }
            } else if let Some(said) = line.strip_prefix(b"-ERR") {
                let said = String::from_utf8_lossy(said);
                let said: String = said.chars().filter(|c| !c.is_control()).take(200).collect();
                return Err(WayError::Refused { said: said.trim().trim_matches('\'').to_owned() });
            } else if line == b"PONG" {
                // It answers what comes after our name, so it admits us.
                let rights = rights.unwrap_or_default();
                return Ok(Welcome { greeting: greeting(&first), rights });
            }
        }
    }
}

fn greeting(info: &Info) -> Greeting {
    let printable = info.server_name.chars().filter(|c| !c.is_control()).take(120);
    Greeting { max_payload: info.max_payload, server: printable.collect() }
}

async fn info(conversation: &mut Conversation) -> Result<Info, WayError> {
    let line = conversation.line().await?;
    parse(&line, conversation)
}

fn parse(line: &[u8], conversation: &Conversation) -> Result<Info, WayError> {
    let json = line.strip_prefix(b"INFO ").ok_or_else(|| conversation.foreign("no INFO"))?;
    serde_json::from_slice(json).map_err(|_| conversation.foreign("its INFO is no JSON"))
}
