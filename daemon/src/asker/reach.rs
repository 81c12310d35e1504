//! Where somebody asks: at a gateway's own leaf, or at a hub.
//!
//! # Invariants
//! - Which of the two it is, the server says: a leaf has the name of its gateway, `PLANT/NAME`, and a
//!   hub's name has no slash.
//! - At a leaf, answers are heard below the inbox of that gateway's applications: no other crosses
//!   the hub.

use async_nats::Client;

use crate::hubread::{Access, AccessError, Login, READER_STREAM};
use crate::names::{GatewayId, Name};
use crate::subjects;

/// The leaf of this machine, where nobody names another server.
const OWN_LEAF: &str = "nats://127.0.0.1:4222";

/// Options to reach a leaf or a hub.
#[derive(Debug, Clone, clap::Args)]
pub struct ReachArgs {
    /// Where to ask: a gateway's leaf or a hub's client address; nats://127.0.0.1:4222, the leaf of
    /// this machine, otherwise
    #[arg(long, value_name = "URL", env = "TIDEGATE_SERVER")]
    pub server: Option<String>,
    /// As whom.
    #[command(flatten)]
    pub login: Login,
    /// The stream that collects frames at the hub
    #[arg(long, value_name = "NAME", default_value = READER_STREAM, value_parser = |name: &str| Name::new(name))]
    pub stream: Name,
}

impl ReachArgs {
    /// The same options for whoever reads a hub's record.
    #[must_use]
    pub fn access(&self) -> Access {
        Access {
            server: self
                .server
                .clone()
                .or_else(|| self.login.context.is_none().then(|| OWN_LEAF.to_owned())),
            login: self.login.clone(),
            stream: self.stream.clone(),
        }
    }
}

/// Where somebody asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// At the leaf of this gateway.
    Leaf(GatewayId),
    /// At a hub of this name.
    Hub(String),
}

/// Why nothing can be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskerError {
    /// No connection.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The connection ended.
    #[error("the connection to {server} ended; ask again")]
    Ended {
        /// Where to.
        server: String,
    },
    /// More owners than one question may have.
    #[error(
        "{count} gateways are meant, at most {most} can be asked at once; narrow the pattern, or name some with --gateway"
    )]
    TooMany {
        /// How many.
        count: usize,
        /// The most.
        most: usize,
    },
}

/// A connection by which gateways can be asked.
#[derive(Debug, Clone)]
pub struct Asker {
    pub(super) client: Client,
    pub(super) place: Place,
    pub(super) stream: Name,
}

impl Asker {
    /// Connects once, and finds out whose server it is.
    ///
    /// # Errors
    /// When a file cannot be read or no connection comes about.
    pub async fn connect(reach: &ReachArgs) -> Result<Self, AskerError> {
        let access = reach.access();
        let client = access.connect().await?;
        let server = client.server_info().server_name;
        let stream = reach.stream.clone();
        let Ok(gateway) = server.parse::<GatewayId>() else {
            return Ok(Self { client, place: Place::Hub(server), stream });
        };
        let client = access.connect_hearing(subjects::apps_inbox(&gateway)).await?;
        Ok(Self { client, place: Place::Leaf(gateway), stream })
    }

    /// Where it asks.
    #[must_use]
    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// Brings on its way what was said last, such as that somebody stopped listening.
    pub async fn finish(self) {
        // Nobody is left to tell when the connection is gone.
        let _ = tokio::time::timeout(std::time::Duration::from_secs(1), self.client.flush()).await;
    }

    /// The subject of one operation of a gateway, from here.
    pub(super) fn subject(&self, gateway: &GatewayId, op: tidegate_query::Op) -> String {
        match &self.place {
            Place::Leaf(own) if own == gateway => subjects::question(gateway, op.token()),
            _ => subjects::ask_for(gateway, op.token()),
        }
    }
}
