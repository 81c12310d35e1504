//! What the demo tells: one line a second, aligned, in colour on a terminal only.

use std::io::{IsTerminal as _, Write as _};
use std::time::Instant;

/// Tells the story, on standard output or beside the JSON on standard error.
#[derive(Debug)]
pub(super) struct Narrator {
    begun: Instant,
    to_stderr: bool,
    colour: bool,
}

impl Narrator {
    pub(super) fn new(to_stderr: bool) -> Self {
        let terminal = if to_stderr {
            std::io::stderr().is_terminal()
        } else {
            std::io::stdout().is_terminal()
        };
        let colour = crate::cli::terminal::colour(terminal);
        Self { begun: Instant::now(), to_stderr, colour }
    }

    /// What happens now.
    pub(super) fn act(&self, text: &str) {
        let (bold, plain) = if self.colour { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        self.line(&format!("{bold}{text}{plain}"));
    }

    /// What can be seen of it.
    pub(super) fn see(&self, text: &str) {
        self.line(&format!("  {text}"));
    }

    /// Whatever stands by itself.
    pub(super) fn plain(&self, text: &str) {
        self.write(text);
    }

    fn line(&self, text: &str) {
        let seconds = self.begun.elapsed().as_secs_f64();
        self.write(&format!("{seconds:6.1} s  {text}\n"));
    }

    /// A reader that went away has seen enough; the demo plays on and cleans up.
    fn write(&self, text: &str) {
        let _ = if self.to_stderr {
            std::io::stderr().write_all(text.as_bytes())
        } else {
            std::io::stdout().write_all(text.as_bytes())
        };
    }
}
