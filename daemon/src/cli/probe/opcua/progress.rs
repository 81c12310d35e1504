//! One line on the terminal that says what is being done, once that takes long.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::cli::terminal::tame;
use crate::cli::watch::columns;

/// Progress is told when it takes longer than this.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is told anew.
const TICK: Duration = Duration::from_millis(200);

/// Runs something until it ends or Ctrl-C is pressed, which gives `None`; `doing` says what it does
/// just then.
pub(in crate::cli) async fn told<T>(
    work: impl Future<Output = T>,
    doing: impl Fn() -> String,
) -> Option<T> {
    let ended = tokio::select! {
        ended = work => Some(ended),
        _ = tokio::signal::ctrl_c() => None,
        never = tell(doing) => match never {},
    };
    clear();
    ended
}

async fn tell(doing: impl Fn() -> String) -> std::convert::Infallible {
    let terminal = io::stderr().is_terminal();
    let since = Instant::now();
    loop {
        sleep(TICK).await;
        if terminal && since.elapsed() >= PATIENCE {
            let seconds = since.elapsed().as_secs();
            say(&format!("{} ({seconds} s; Ctrl-C shows what is known)", doing()));
        }
    }
}

/// Says what is being done, over what was said before; only on a terminal.
pub(in crate::cli) fn say(line: &str) {
    if !io::stderr().is_terminal() {
        return;
    }
    // A line that wraps could not be drawn over.
    let line: String = tame(line).chars().take(columns().saturating_sub(1)).collect();
    // Whatever cannot be told is told at the end.
    let _ = write!(io::stderr(), "\r\x1b[K{line}");
    let _ = io::stderr().flush();
}

/// Takes it away.
pub(in crate::cli) fn clear() {
    if io::stderr().is_terminal() {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
}
