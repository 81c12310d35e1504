//! Journals as earlier versions left them, kept as text that changes can be read in.
//!
//! ```text
//! # a comment
//! served {"n": 1, "t": 1767225600000000000}
//! file seg-00000000000000000000.tgj 4194304
//! 1000 54474652…
//! ```
//!
//! `served` is a line of the PLC's history; `file` begins a file of so many bytes, all zero but for
//! the lines that follow: offset and content, both in hexadecimal.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::Context as _;

/// Bytes in a line.
const LINE: usize = 48;

/// Packs a journal and the history of the PLC whose values are in it.
///
/// # Errors
/// When the directory cannot be read.
pub fn pack(about: &str, journal: &Path, history: &str) -> anyhow::Result<String> {
    let mut text = format!("# {about}\n");
    for line in history.lines() {
        writeln!(text, "served {line}")?;
    }
    let mut names: Vec<_> = fs::read_dir(journal)?.collect::<Result<_, _>>()?;
    names.sort_unstable_by_key(fs::DirEntry::file_name);
    for entry in names {
        let content = fs::read(entry.path())?;
        writeln!(text, "file {} {}", entry.file_name().to_string_lossy(), content.len())?;
        for (number, line) in content.chunks(LINE).enumerate() {
            if line.iter().any(|byte| *byte != 0) {
                write!(text, "{:x} ", number * LINE)?;
                for byte in line {
                    write!(text, "{byte:02x}")?;
                }
                text.push('\n');
            }
        }
    }
    Ok(text)
}

/// Unpacks a journal into a directory, and returns the history of the PLC.
///
/// # Errors
/// When the text is not what [`pack`] writes, or the directory cannot be written.
pub fn unpack(text: &str, journal: &Path) -> anyhow::Result<String> {
    fs::create_dir_all(journal)?;
    let mut history = String::new();
    let mut file = None;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (word, rest) = line.split_once(' ').with_context(|| format!("line {line}"))?;
        match word {
            "served" => history.extend([rest, "\n"]),
            "file" => {
                let (name, bytes) = rest.split_once(' ').with_context(|| format!("line {line}"))?;
                let fresh = fs::File::create(journal.join(name))?;
                fresh.set_len(bytes.parse()?)?;
                file = Some(fresh);
            }
            offset => {
                let file = file.as_ref().context("content without a file")?;
                file.write_all_at(&bytes_of(rest)?, u64::from_str_radix(offset, 16)?)?;
            }
        }
    }
    Ok(history)
}

fn bytes_of(hex: &str) -> anyhow::Result<Vec<u8>> {
    let byte = |pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?);
    hex.as_bytes().chunks(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_is_unpacked() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut sparse = vec![0; 10_000];
        sparse[4_999..5_100].fill(7);
        fs::write(from.path().join("a"), &sparse).unwrap();
        fs::write(from.path().join("b"), "").unwrap();
        let text = pack("two files", from.path(), "{\"n\": 1}\n").unwrap();
        assert!(text.len() < 500, "{text}");
        assert_eq!(unpack(&text, to.path()).unwrap(), "{\"n\": 1}\n");
        assert_eq!(fs::read(to.path().join("a")).unwrap(), sparse);
        assert_eq!(fs::read(to.path().join("b")).unwrap(), b"");
    }
}
