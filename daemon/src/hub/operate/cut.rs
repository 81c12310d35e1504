//! Cutting every connection of a user, and seeing that none is left.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::connections::{Connection, Which};
use crate::system_account::{OperateError, System};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What was cut, and what could not be.
#[derive(Debug, Default)]
pub struct Cut {
    /// The connections that were cut.
    pub kicked: Vec<Connection>,
    /// Those that still stood when the time was over.
    pub standing: Vec<Connection>,
    /// Servers that did not say whom they hold.
    pub silent: Vec<String>,
    /// Servers that would not cut, and why.
    pub refused: Vec<String>,
}

impl Cut {
    /// Whether no server holds a connection of the user any more.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.standing.is_empty() && self.silent.is_empty()
    }
}

/// Cuts all connections of a user on all servers, and looks until two looks in a row find none, or
/// the time is over. The user should have been taken from the servers before: who is still admitted
/// comes back.
///
/// # Errors
/// When no server answers at all.
pub async fn cut(
    system: &System,
    expected: &[String],
    user: &str,
    within: Duration,
) -> Result<Cut, OperateError> {
    let until = Instant::now() + within;
    let mut cut = Cut::default();
    let mut clean = 0;
    loop {
        let found = system.connections(expected, Which::Open, Some(user)).await?;
        cut.silent = found.silent;
        cut.standing = found.answers;
        clean = if cut.is_gone() { clean + 1 } else { 0 };
        if clean == 2 || Instant::now() >= until {
            return Ok(cut);
        }
        cut.refused.clear();
        for connection in &cut.standing {
            match system.kick(connection).await {
                Ok(()) if cut.kicked.contains(connection) => {}
                Ok(()) => cut.kicked.push(connection.clone()),
                Err(error) => cut.refused.push(crate::causes::chain(&error)),
            }
        }
        sleep(LOOK_EVERY).await;
    }
}
