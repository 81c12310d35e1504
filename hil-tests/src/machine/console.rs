//! A text console of a system under test: everything that it says is kept, and a shell behind it can
//! be told commands.
//!
//! # Invariants
//! - A reader is always connected, so nothing that is said gets lost, and all of it is in a file too.
//! - What a command prints is found between two marks that its own echo does not contain.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::task::JoinHandle;

use crate::wait;

/// How long a shell may take to answer an empty command, on a machine that is emulated beside other
/// work.
const TO_ANSWER: Duration = Duration::from_secs(60);

/// A console that is listened to.
pub struct Console {
    heard: Arc<Mutex<String>>,
    write: Box<dyn AsyncWrite + Send + Unpin>,
    reader: JoinHandle<()>,
    commands: u32,
}

/// What a command came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// Everything that it printed.
    pub printed: String,
}

impl std::fmt::Debug for Console {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Console").field("commands", &self.commands).finish_non_exhaustive()
    }
}

impl Console {
    /// Connects to the socket of an emulated port; what it says is appended to `log`.
    ///
    /// # Errors
    /// When nobody listens there soon.
    pub async fn at(socket: &Path, log: &Path) -> anyhow::Result<Self> {
        let (read, write) = super::connect(socket).await?.into_split();
        Self::over(read, write, log)
    }

    /// Listens to any pair of directions, such as a serial port.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub fn over(
        read: impl AsyncRead + Send + Unpin + 'static,
        write: impl AsyncWrite + Send + Unpin + 'static,
        log: &Path,
    ) -> anyhow::Result<Self> {
        let file = std::fs::File::options().create(true).append(true).open(log)?;
        let heard = Arc::new(Mutex::new(String::new()));
        let reader = tokio::spawn(listen(read, Arc::clone(&heard), file));
        Ok(Self { heard, write: Box::new(write), reader, commands: 0 })
    }

    /// How much has been said by now: where [`Console::says_since`] begins.
    #[must_use]
    pub fn mark(&self) -> usize {
        self.text().len()
    }

    /// Everything that was said since a mark.
    #[must_use]
    pub fn said_since(&self, mark: usize) -> String {
        self.text().get(mark..).unwrap_or_default().to_owned()
    }

    /// Waits until it has said one of these since a mark; returns the whole line, and the mark behind
    /// it.
    ///
    /// # Errors
    /// When it has not within `patience`; the error holds the end of what it said.
    pub async fn says_since(
        &self,
        mark: usize,
        words: &[&str],
        patience: Duration,
    ) -> anyhow::Result<(String, usize)> {
        let what = format!("the console says {words:?}");
        let found = wait::until(patience, &what, || {
            let line = line_with(self.text().get(mark..).unwrap_or_default(), words);
            async move { Ok(line.map(|(line, end)| (line, mark + end))) }
        })
        .await;
        found.with_context(|| format!("it said at last: {}", tail(&self.said_since(mark))))
    }

    /// Has the shell behind it run a command, and waits for its end.
    ///
    /// # Errors
    /// When no shell answers, or the command takes longer than `patience`.
    pub async fn run(&mut self, command: &str, patience: Duration) -> anyhow::Result<Ran> {
        ensure!(!command.contains('\n'), "{command:?} is more than one line");
        self.commands += 1;
        let nonce = self.commands;
        let mark = self.mark();
        let line = format!("\necho TG'-BEGIN-'{nonce}; {command}\necho TG'-END-'$?-{nonce}\n");
        self.write.write_all(line.as_bytes()).await?;
        self.write.flush().await?;
        let what = format!("{command:?} ends");
        wait::until(patience, &what, || {
            let ran = ran_in(self.text().get(mark..).unwrap_or_default(), nonce);
            async move { Ok(ran) }
        })
        .await
        .with_context(|| format!("it said: {}", tail(&self.said_since(mark))))
    }

    /// Has a shell answer, whatever it takes until there is one.
    ///
    /// # Errors
    /// When none does within `patience`.
    pub async fn shell_answers(&mut self, patience: Duration) -> anyhow::Result<()> {
        let begun = std::time::Instant::now();
        loop {
            match self.run("stty -echo", TO_ANSWER.min(patience)).await {
                Ok(_) => return Ok(()),
                Err(error) if begun.elapsed() > patience => return Err(error),
                Err(_) => {}
            }
        }
    }

    fn text(&self) -> MutexGuard<'_, String> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn listen(
    mut from: impl AsyncRead + Unpin,
    heard: Arc<Mutex<String>>,
    mut log: std::fs::File,
) {
    let mut chunk = [0; 4096];
    while let Ok(size @ 1..) = from.read(&mut chunk).await {
        let bytes = &chunk[..size];
        // A log that cannot be written shows in the scenario that needs it.
        let _ = std::io::Write::write_all(&mut log, bytes);
        let text = String::from_utf8_lossy(bytes);
        heard.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
    }
}

/// The first whole line with one of these words, and where it ends.
#[must_use]
pub fn line_with(text: &str, words: &[&str]) -> Option<(String, usize)> {
    let mut end = 0;
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        end += line.len();
        if words.iter().any(|word| line.contains(word)) {
            return Some((line.trim().to_owned(), end));
        }
    }
    None
}

/// What is between the marks of a command, and the code in the second one.
fn ran_in(text: &str, nonce: u32) -> Option<Ran> {
    let begin = format!("TG-BEGIN-{nonce}");
    let (_, after) = text.split_once(&begin)?;
    let (_, after) = after.split_once('\n')?;
    let end = format!("-{nonce}");
    let mut printed = String::new();
    for line in after.split_inclusive('\n') {
        let (before, mark) = line.split_once("TG-END-").unwrap_or((line, ""));
        let code = mark.trim_end().strip_suffix(&end).and_then(|code| code.parse().ok());
        let is_echo = line.contains("TG'-END-'");
        if !is_echo {
            printed.push_str(before);
        }
        if let Some(code) = code {
            return Some(Ran { code, printed: printed.replace('\r', "") });
        }
    }
    None
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_counts_once_it_is_whole() {
        assert_eq!(line_with("a\r\nslot=A goo", &["slot="]), None);
        let text = "a\r\nslot=A good\r\nmore\n";
        let (line, end) = line_with(text, &["x", "slot="]).unwrap();
        assert_eq!((line.as_str(), &text[end..]), ("slot=A good", "more\n"));
    }

    #[test]
    fn what_a_command_prints_is_told_from_its_echo() {
        let text = "# echo TG'-BEGIN-'7; ls; false\r\nTG-BEGIN-7\r\n# echo TG'-END-'$?-7\r\nfile\r\n\
                    half TG-END-1-7\r\n";
        let ran = Ran { code: 1, printed: "file\nhalf ".to_owned() };
        assert_eq!(ran_in(text, 7), Some(ran));
        assert_eq!(ran_in(text, 8), None);
        assert_eq!(ran_in(&text[..60], 7), None);
    }

    #[tokio::test]
    async fn a_shell_is_told_commands_and_everything_it_said_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let mut command = tokio::process::Command::new("sh");
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut shell = command.kill_on_drop(true).spawn().unwrap();
        let (read, write) = (shell.stdout.take().unwrap(), shell.stdin.take().unwrap());
        let mut console = Console::over(read, write, &log).unwrap();
        let ran = console.run("printf one; exit_of() { return 3; }; exit_of", wait::SOON).await;
        assert_eq!(ran.unwrap(), Ran { code: 3, printed: "one".to_owned() });
        let mark = console.mark();
        console.run("echo slot=A good", wait::SOON).await.unwrap();
        let (line, _) = console.says_since(mark, &["slot="], wait::SOON).await.unwrap();
        assert_eq!(line, "slot=A good");
        let error = console.says_since(console.mark(), &["slot="], Duration::ZERO).await;
        assert!(format!("{:#}", error.unwrap_err()).contains("the console says"));
        assert!(std::fs::read_to_string(&log).unwrap().contains("slot=A good"));
    }
}
