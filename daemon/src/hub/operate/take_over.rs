//! Having the servers take their configuration over, and seeing that they did.

use futures_util::future::join_all;

use super::servers::Server;
use crate::causes::chain;
use crate::system_account::{OperateError, System};

/// What became of the configuration of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// The server runs it.
    Runs {
        /// The server.
        server: String,
    },
    /// The server answers, and runs something else: its file is another one.
    Other {
        /// The server.
        server: String,
    },
    /// The server refuses it, and runs what it ran before.
    Refused {
        /// The server.
        server: String,
        /// In its words.
        said: String,
    },
    /// The server says nothing.
    Silent {
        /// The server.
        server: String,
    },
}

impl Taken {
    /// Whether the server runs what it should.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        matches!(self, Self::Runs { .. })
    }

    /// The server's name.
    #[must_use]
    pub fn server(&self) -> &str {
        match self {
            Self::Runs { server }
            | Self::Other { server }
            | Self::Refused { server, .. }
            | Self::Silent { server } => server,
        }
    }

    /// What happened and what to do, as one sentence.
    #[must_use]
    pub fn sentence(&self, config: &str) -> String {
        match self {
            Self::Runs { server } => format!("{server} runs the new configuration"),
            Self::Other { server } => format!(
                "{server} runs another configuration; copy {config} to its machine and run this again"
            ),
            Self::Refused { server, said } => format!(
                "{server} refuses the configuration and keeps the one before: {said}; restart it if the change needs that"
            ),
            Self::Silent { server } => format!(
                "{server} does not answer; start it with {config}, or run this again once it does"
            ),
        }
    }
}

/// Reloads each server and compares what it then runs with the digest that it should have.
///
/// # Errors
/// When no server answers at all.
pub async fn take_over(
    system: &System,
    wanted: &[(String, String)],
) -> Result<Vec<Taken>, OperateError> {
    let expected: Vec<_> = wanted.iter().map(|(name, _)| name.clone()).collect();
    let servers = system.servers(&expected).await?;
    let taken = wanted.iter().map(async |(name, digest)| {
        let server = || name.clone();
        let Some(known) = servers.answers.iter().find(|one| one.name == *name) else {
            return Taken::Silent { server: server() };
        };
        match reloaded(system, known).await {
            Ok(now) if now.config_digest == *digest => Taken::Runs { server: server() },
            Ok(_) => Taken::Other { server: server() },
            Err(OperateError::Refused { said, .. }) => Taken::Refused { server: server(), said },
            Err(OperateError::Silent { .. }) => Taken::Silent { server: server() },
            Err(other) => Taken::Refused { server: server(), said: chain(&other) },
        }
    });
    Ok(join_all(taken).await)
}

async fn reloaded(system: &System, server: &Server) -> Result<Server, OperateError> {
    system.reload(server).await?;
    system.server(server).await
}
