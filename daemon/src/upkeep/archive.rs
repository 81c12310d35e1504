//! Archives in the tar format that every system reads (POSIX.1-1988, `ustar`), as far as it is
//! needed: regular files and links.
//!
//! # Invariants
//! - What is written is read back the same, here and by `tar`.
//! - Any bytes are an archive or an error: sizes are checked before anything is taken, and a name
//!   is relative and has no `..` in it.

use zeroize::Zeroizing;

const BLOCK: usize = 512;
/// The most entries that are read: an identity, and a file per device.
const MOST_ENTRIES: usize = 20_000;
const NAME: std::ops::Range<usize> = 0..100;
const MODE: std::ops::Range<usize> = 100..108;
const SIZE: std::ops::Range<usize> = 124..136;
const MTIME: std::ops::Range<usize> = 136..148;
const CHECKSUM: std::ops::Range<usize> = 148..156;
const KIND: usize = 156;
const TARGET: std::ops::Range<usize> = 157..257;
const MAGIC: std::ops::Range<usize> = 257..265;
const PREFIX: std::ops::Range<usize> = 345..500;

/// One file or link of an archive.
#[derive(PartialEq, Eq)]
pub(crate) struct Entry {
    /// A relative path with `/`.
    pub(crate) name: String,
    pub(crate) content: Content,
}

/// What an entry is.
#[derive(PartialEq, Eq)]
pub(crate) enum Content {
    /// A file, which may be secret.
    File(Zeroizing<Vec<u8>>),
    /// A link, and what it points at.
    Link(String),
}

/// Why there is no archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ArchiveError {
    #[error("the path {name:?} is too long for an archive; 255 bytes are the most")]
    LongName { name: String },
    #[error("{name:?} is too large for an archive")]
    Large { name: String },
    #[error("no archive of ours: {what} at byte {at}")]
    Foreign { what: &'static str, at: usize },
}

/// Writes an archive in memory. Files are for their owner alone when they are unpacked.
#[derive(Default)]
pub(crate) struct Writer {
    bytes: Zeroizing<Vec<u8>>,
    /// Seconds since 1970 that every entry bears.
    time: u64,
}

impl Writer {
    pub(crate) fn new(time: u64) -> Self {
        Self { time, ..Self::default() }
    }

    pub(crate) fn file(&mut self, name: &str, content: &[u8]) -> Result<(), ArchiveError> {
        let head = self.head(name, b'0', content.len(), "")?;
        // Growing by itself would leave copies behind that nobody wipes.
        let padded = content.len().next_multiple_of(BLOCK);
        let needed = self.bytes.len() + BLOCK + padded;
        if self.bytes.capacity() < needed {
            let mut larger = Zeroizing::new(Vec::with_capacity(needed.next_power_of_two()));
            larger.extend_from_slice(&self.bytes);
            self.bytes = larger;
        }
        self.bytes.extend_from_slice(&head);
        self.bytes.extend_from_slice(content);
        self.bytes.resize(needed, 0);
        Ok(())
    }

    pub(crate) fn link(&mut self, name: &str, target: &str) -> Result<(), ArchiveError> {
        let head = self.head(name, b'2', 0, target)?;
        self.bytes.extend_from_slice(&head);
        Ok(())
    }

    /// The whole archive.
    pub(crate) fn finish(mut self) -> Zeroizing<Vec<u8>> {
        let length = self.bytes.len() + 2 * BLOCK;
        self.bytes.resize(length, 0);
        self.bytes
    }

    fn head(
        &self,
        name: &str,
        kind: u8,
        size: usize,
        target: &str,
    ) -> Result<[u8; BLOCK], ArchiveError> {
        let long = || ArchiveError::LongName { name: name.to_owned() };
        let (prefix, last) = split(name).ok_or_else(long)?;
        if target.len() > TARGET.len() {
            return Err(long());
        }
        let mut head = [0_u8; BLOCK];
        let mut put = |at: std::ops::Range<usize>, text: &str| {
            head[at.start..at.start + text.len()].copy_from_slice(text.as_bytes());
        };
        put(NAME, last);
        put(MODE, if kind == b'2' { "0000777\0" } else { "0000600\0" });
        // Owner and group: whoever unpacks it.
        put(108..116, "0000000\0");
        put(116..124, "0000000\0");
        let size = format!("{size:011o}\0");
        if size.len() > SIZE.len() {
            return Err(ArchiveError::Large { name: name.to_owned() });
        }
        put(SIZE, &size);
        // Eleven octal digits last until the year 2242.
        put(MTIME, &format!("{:011o}\0", self.time.min(0o77_777_777_777)));
        put(CHECKSUM, "        ");
        put(TARGET, target);
        put(MAGIC, "ustar\u{0}00");
        put(PREFIX, prefix);
        head[KIND] = kind;
        let sum = checksum(&head);
        head[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        Ok(head)
    }
}

/// The two fields of a name, the second of at most 100 bytes.
fn split(name: &str) -> Option<(&str, &str)> {
    if name.len() <= NAME.len() {
        return Some(("", name));
    }
    let cuts = name.match_indices('/').map(|(at, _)| at);
    let fits = |at: &usize| *at <= PREFIX.len() && name.len() - at - 1 <= NAME.len();
    let at = cuts.filter(|at| *at > 0).find(fits)?;
    Some((&name[..at], &name[at + 1..]))
}

/// The sum of a head's bytes, its own field counted as blanks.
fn checksum(head: &[u8; BLOCK]) -> u32 {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    sum(&head[..CHECKSUM.start]) + 8 * u32::from(b' ') + sum(&head[CHECKSUM.end..])
}

/// Reads an archive.
pub(crate) fn read(bytes: &[u8]) -> Result<Vec<Entry>, ArchiveError> {
    let mut entries = Vec::new();
    let mut at = 0;
    loop {
        let foreign = |what| ArchiveError::Foreign { what, at };
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(head) = rest.first_chunk::<BLOCK>() else { return Err(foreign("it ends early")) };
        if head.iter().all(|byte| *byte == 0) {
            return Ok(entries);
        }
        if octal(&head[CHECKSUM]) != Some(u64::from(checksum(head))) {
            return Err(foreign("a head whose sum is wrong"));
        }
        let size = octal(&head[SIZE]).and_then(|size| usize::try_from(size).ok());
        let size = size.ok_or_else(|| foreign("a size that is no number"))?;
        let text = |range: std::ops::Range<usize>| {
            let field = &head[range];
            let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
            std::str::from_utf8(&field[..end]).map(str::to_owned)
        };
        let not_text = |_| foreign("a name that is no text");
        let (prefix, last) = (text(PREFIX).map_err(not_text)?, text(NAME).map_err(not_text)?);
        let name = if prefix.is_empty() { last } else { format!("{prefix}/{last}") };
        if !is_relative(&name) {
            return Err(foreign("a name that leads elsewhere"));
        }
        let body = &rest[BLOCK..];
        let content = match head[KIND] {
            b'0' | 0 => {
                let content = body.get(..size).ok_or_else(|| foreign("it ends early"))?;
                Content::File(Zeroizing::new(content.to_vec()))
            }
            b'2' if size == 0 => Content::Link(text(TARGET).map_err(not_text)?),
            _ => return Err(foreign("what is neither a file nor a link")),
        };
        entries.push(Entry { name, content });
        if entries.len() > MOST_ENTRIES {
            return Err(foreign("too many entries"));
        }
        // Cannot overflow: `size` bytes of it are there.
        at += BLOCK + size.next_multiple_of(BLOCK);
    }
}

/// Octal digits, ended by a blank or a zero.
fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?;
    let digits = text.trim_matches(['\0', ' ']);
    u64::from_str_radix(digits, 8).ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether it names something below, and nothing else.
fn is_relative(name: &str) -> bool {
    !name.is_empty()
        && !name.contains('\\')
        && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn file(name: &str, content: &[u8]) -> Entry {
        Entry { name: name.to_owned(), content: Content::File(Zeroizing::new(content.to_vec())) }
    }

    fn written() -> Zeroizing<Vec<u8>> {
        let mut writer = Writer::new(1_800_000_000);
        writer.file("a/key.pem", b"secret").unwrap();
        writer.file("empty", b"").unwrap();
        writer.file("block", &[7; BLOCK]).unwrap();
        writer.file(&long(), b"x").unwrap();
        writer.link("a/current", "gen-1").unwrap();
        writer.finish()
    }

    fn long() -> String {
        format!("{}/{}", "d".repeat(99), "f".repeat(99))
    }

    #[test]
    fn what_is_written_is_read_back() {
        let entries = read(&written()).unwrap();
        let link =
            Entry { name: "a/current".to_owned(), content: Content::Link("gen-1".to_owned()) };
        let wanted = [
            file("a/key.pem", b"secret"),
            file("empty", b""),
            file("block", &[7; BLOCK]),
            file(&long(), b"x"),
            link,
        ];
        assert!(entries == wanted);
    }

    #[test]
    fn tar_unpacks_it_and_gives_files_to_the_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("x.tar"), &*written()).unwrap();
        let unpacked =
            Command::new("tar").args(["-xf", "x.tar"]).current_dir(&dir).status().unwrap();
        assert!(unpacked.success());
        let path = dir.path().join("a/key.pem");
        assert_eq!(std::fs::read(&path).unwrap(), b"secret");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(
            std::fs::read_link(dir.path().join("a/current")).unwrap().to_str(),
            Some("gen-1")
        );
        assert_eq!(std::fs::read(dir.path().join(long())).unwrap(), b"x");
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["/etc/passwd", "../x", "a/../b", "a//b", "a/./b", "a\\b"] {
            let mut writer = Writer::new(0);
            writer.file(name, b"").unwrap();
            assert!(read(&writer.finish()).is_err(), "{name}");
        }
        let name = "x".repeat(120);
        assert!(matches!(Writer::new(0).file(&name, b""), Err(ArchiveError::LongName { .. })));
    }

    #[test]
    fn an_archive_that_was_cut_or_changed_is_refused() {
        let whole = written();
        for length in [0, 1, BLOCK, BLOCK + 3, 2 * BLOCK] {
            assert!(read(&whole[..length]).is_err(), "{length}");
        }
        let mut changed = whole.clone();
        changed[3] ^= 1;
        assert!(read(&changed).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_archive_or_an_error(mut bytes: Vec<u8>, at in 0_usize..3_000, by: u8) {
            let _ = read(&bytes);
            bytes = written().to_vec();
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= by;
            }
            let _ = read(&bytes);
        }
    }
}
