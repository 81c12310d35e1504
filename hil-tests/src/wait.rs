//! Waiting for a condition with a deadline.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::bail;

/// How long a scenario waits for what should take a second or two; generous, because test
/// machines are shared.
pub const SOON: Duration = Duration::from_secs(20);

/// Asks until there is an answer.
///
/// # Errors
/// When there is none within `patience`; the error says what was awaited.
pub async fn until<T, F>(
    patience: Duration,
    what: &str,
    mut ask: impl FnMut() -> F,
) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<Option<T>>>,
{
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        if begun.elapsed() > patience {
            bail!("{what}: not within {patience:?}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
