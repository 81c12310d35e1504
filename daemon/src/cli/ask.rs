//! Asking a person: yes or no, and secrets that do not show.
//!
//! # Invariants
//! - Only a terminal is asked; where there is none, nobody has agreed to anything.
//! - A secret comes from a file, from standard input, or unseen from the terminal, never from the
//!   arguments: those are in every list of processes.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;

use rustix::termios::{self, LocalModes, OptionalActions};
use zeroize::Zeroizing;

/// The longest secret, in bytes.
const LONGEST: u64 = 4 << 10;

/// The first line of a file, or of standard input where that is `-`.
///
/// # Errors
/// When it cannot be read, is empty, too long, or not text.
pub(super) fn secret_from(file: &Path) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    if file == Path::new("-") {
        io::stdin().lock().take(LONGEST + 1).read_to_string(&mut text)?;
    } else {
        File::open(file)?.take(LONGEST + 1).read_to_string(&mut text)?;
    }
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() || u64::try_from(text.len()).is_ok_and(|length| length > LONGEST) {
        let what = "it must hold one line of at most 4096 bytes";
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    Ok(Zeroizing::new(line.to_owned()))
}

/// Asks the terminal for a secret; `None` where there is no terminal.
///
/// # Errors
/// When the terminal cannot be read.
pub(super) fn secret(prompt: &str) -> io::Result<Option<Zeroizing<String>>> {
    let Some(mut terminal) = terminal() else { return Ok(None) };
    let before = termios::tcgetattr(&terminal)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    write!(terminal, "{prompt}: ")?;
    termios::tcsetattr(&terminal, OptionalActions::Flush, &silent)?;
    let line = line(&terminal);
    termios::tcsetattr(&terminal, OptionalActions::Now, &before)?;
    writeln!(terminal)?;
    line.map(Some)
}

/// Whether a person at the terminal says yes; `None` where nobody can be asked.
///
/// # Errors
/// When the terminal cannot be read.
pub(super) fn agreed(question: &str) -> io::Result<Option<bool>> {
    let Some(mut terminal) = terminal() else { return Ok(None) };
    write!(terminal, "{question} [y/N] ")?;
    let line = line(&terminal)?;
    Ok(Some(matches!(line.trim(), "y" | "Y" | "yes")))
}

fn terminal() -> Option<File> {
    OpenOptions::new().read(true).write(true).open("/dev/tty").ok()
}

fn line(terminal: &File) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    BufReader::new(terminal.take(LONGEST)).read_line(&mut text)?;
    Ok(Zeroizing::new(text.trim_end_matches(['\n', '\r']).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_the_first_line_of_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, "three words here\r\n# a comment\n").unwrap();
        assert_eq!(secret_from(&file).unwrap().as_str(), "three words here");
        for junk in [&b""[..], b"\nx", &[b'x'; 5000], b"\xff"] {
            std::fs::write(&file, junk).unwrap();
            assert!(secret_from(&file).is_err());
        }
    }
}
