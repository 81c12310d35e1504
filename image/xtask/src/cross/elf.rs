//! What a program says of itself in its ELF file: for which machine it is, which C library it
//! asks for, and how it may be loaded.
//!
//! # Invariants
//! - Every offset comes from the file and is checked against its length: a damaged file is told
//!   as such and never reads beyond its end.
//! - Only what this project makes is read: little-endian, with section headers.

use std::fmt;

use anyhow::Context as _;

use crate::arch::Arch;

/// A version of the GNU C library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Glibc(u32, u32, u32);

impl Glibc {
    /// Reads `2.34` or `2.2.5`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.').map(|part| part.parse::<u32>().ok());
        let version = Self(parts.next()??, parts.next()??, parts.next().unwrap_or(Some(0))?);
        parts.next().is_none().then_some(version)
    }
}

impl fmt::Display for Glibc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self(major, minor, 0) => write!(f, "{major}.{minor}"),
            Self(major, minor, patch) => write!(f, "{major}.{minor}.{patch}"),
        }
    }
}

/// What was read of one program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    /// For which machine it is; `None` for one that this project makes nothing for.
    pub(crate) arch: Option<Arch>,
    /// The newest version of the C library that it asks for; `None` when it asks for none.
    pub(crate) glibc: Option<Glibc>,
    /// The shared libraries that it needs, in order.
    pub(crate) libraries: Vec<String>,
    /// Whether it can be loaded anywhere in memory.
    pub(crate) is_position_independent: bool,
    /// Whether its table of symbols is gone.
    pub(crate) is_stripped: bool,
}

/// Reads a program.
///
/// # Errors
/// When it is no ELF file of a known form, or cut short.
pub(crate) fn read(bytes: &[u8]) -> anyhow::Result<Program> {
    File::open(bytes).and_then(|file| file.program()).context("no whole ELF file, little-endian")
}

/// `e_machine` of the ELF specification's supplements.
const MACHINES: [(u64, Arch); 3] = [(62, Arch::X86_64), (183, Arch::Aarch64), (40, Arch::Armv7)];
/// `ET_DYN`: position-independent.
const SHARED: u64 = 3;
/// `SHT_SYMTAB`.
const SYMBOLS: u64 = 2;
/// `SHT_DYNAMIC`.
const DYNAMIC: u64 = 6;
/// `SHT_GNU_verneed`.
const NEEDED_VERSIONS: u64 = 0x6fff_fffe;
/// `DT_NEEDED`.
const NEEDED: u64 = 1;

struct File<'a> {
    bytes: &'a [u8],
    wide: bool,
    sections: Vec<Section>,
}

#[derive(Clone, Copy)]
struct Section {
    kind: u64,
    offset: u64,
    size: u64,
    link: u64,
    info: u64,
}

impl<'a> File<'a> {
    fn open(bytes: &'a [u8]) -> Option<Self> {
        let wide = match bytes.get(..6)? {
            [0x7f, b'E', b'L', b'F', 1, 1] => false,
            [0x7f, b'E', b'L', b'F', 2, 1] => true,
            _ => return None,
        };
        let mut file = Self { bytes, wide, sections: Vec::new() };
        let (table, shape) = if wide { (file.word(0x28)?, 0x3a) } else { (file.word(0x20)?, 0x2e) };
        let (each, count) = (file.number(shape, 2)?, file.number(shape + 2, 2)?);
        for index in 0..count {
            let start = table.checked_add(each.checked_mul(index)?)?;
            bytes.get(..usize::try_from(start.checked_add(each)?).ok()?)?;
            let section = file.section(start)?;
            file.sections.push(section);
        }
        Some(file)
    }

    fn section(&self, start: u64) -> Option<Section> {
        let kind = self.number(start.checked_add(4)?, 4)?;
        let at = |wide: u64, narrow: u64| start.checked_add(if self.wide { wide } else { narrow });
        Some(Section {
            kind,
            offset: self.word(at(0x18, 0x10)?)?,
            size: self.word(at(0x20, 0x14)?)?,
            link: self.number(at(0x28, 0x18)?, 4)?,
            info: self.number(at(0x2c, 0x1c)?, 4)?,
        })
    }

    fn program(&self) -> Option<Program> {
        let machine = self.number(0x12, 2)?;
        Some(Program {
            arch: MACHINES.iter().find(|(number, _)| *number == machine).map(|(_, arch)| *arch),
            glibc: self.glibc()?,
            libraries: self.libraries()?,
            is_position_independent: self.number(0x10, 2)? == SHARED,
            is_stripped: self.sections.iter().all(|section| section.kind != SYMBOLS),
        })
    }

    /// The newest `GLIBC_…` of all that is needed of all libraries.
    fn glibc(&self) -> Option<Option<Glibc>> {
        let mut newest = None;
        for section in self.of_kind(NEEDED_VERSIONS) {
            let strings = self.strings_of(section)?;
            let mut file = section.offset;
            for _ in 0..section.info {
                let mut version = file.checked_add(self.number(file.checked_add(8)?, 4)?)?;
                for _ in 0..self.number(file.checked_add(2)?, 2)? {
                    let name = self.text(strings, self.number(version.checked_add(8)?, 4)?)?;
                    newest = newest.max(name.strip_prefix("GLIBC_").and_then(Glibc::parse));
                    version = version.checked_add(self.number(version.checked_add(12)?, 4)?)?;
                }
                file = file.checked_add(self.number(file.checked_add(12)?, 4)?)?;
            }
        }
        Some(newest)
    }

    fn libraries(&self) -> Option<Vec<String>> {
        let word = if self.wide { 8 } else { 4 };
        let mut libraries = Vec::new();
        for section in self.of_kind(DYNAMIC) {
            let strings = self.strings_of(section)?;
            for index in 0..section.size / (2 * word) {
                let entry = section.offset.checked_add(index.checked_mul(2 * word)?)?;
                if self.word(entry)? == NEEDED {
                    libraries.push(self.text(strings, self.word(entry.checked_add(word)?)?)?);
                }
            }
        }
        Some(libraries)
    }

    fn of_kind(&self, kind: u64) -> impl Iterator<Item = Section> {
        self.sections.iter().copied().filter(move |section| section.kind == kind)
    }

    fn strings_of(&self, section: Section) -> Option<Section> {
        self.sections.get(usize::try_from(section.link).ok()?).copied()
    }

    fn text(&self, strings: Section, at: u64) -> Option<String> {
        let start = usize::try_from(strings.offset.checked_add(at)?).ok()?;
        let rest = self.bytes.get(start..)?;
        let length = rest.iter().position(|byte| *byte == 0)?;
        String::from_utf8(rest[..length].to_vec()).ok()
    }

    /// An address or a size of this file's width.
    fn word(&self, at: u64) -> Option<u64> {
        self.number(at, if self.wide { 8 } else { 4 })
    }

    fn number(&self, at: u64, width: usize) -> Option<u64> {
        let start = usize::try_from(at).ok()?;
        let bytes = self.bytes.get(start..start.checked_add(width)?)?;
        Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This test's own program: whatever built it, it is whole.
    fn own() -> Vec<u8> {
        std::fs::read(std::env::current_exe().unwrap()).unwrap()
    }

    #[test]
    fn a_program_of_this_machine_is_read() {
        let program = read(&own()).unwrap();
        let arch = Arch::ALL.into_iter().find(|arch| arch.word() == std::env::consts::ARCH);
        assert_eq!(program.arch, arch);
        assert!(program.glibc >= Glibc::parse("2.14"), "{program:?}");
        assert!(program.libraries.iter().any(|name| name.starts_with("libc.so")), "{program:?}");
        assert!(program.is_position_independent);
        assert!(!program.is_stripped, "a development build keeps its symbols");
    }

    #[test]
    fn a_file_that_is_cut_short_anywhere_in_its_tables_is_refused() {
        let whole = own();
        for length in [0, 5, 6, 0x2f, 0x40, whole.len() / 2, whole.len() - 1] {
            assert!(read(&whole[..length]).is_err(), "{length} of {}", whole.len());
        }
    }

    #[test]
    fn bytes_that_point_beyond_the_file_are_refused() {
        let mut bytes = own();
        bytes[0x28..0x30].fill(0xff);
        assert!(read(&bytes).is_err());
        assert!(read(b"#!/bin/sh\nexit 0\n").is_err());
    }

    #[test]
    fn versions_of_the_library_compare_as_numbers() {
        let version = |text| Glibc::parse(text).unwrap();
        assert!(version("2.34") > version("2.4"));
        assert!(version("2.2.5") > version("2.2"));
        assert_eq!(version("2.34").to_string(), "2.34");
        assert_eq!(version("2.2.5").to_string(), "2.2.5");
        for text in ["", "2", "2.x", "2.1.1.1", "PRIVATE"] {
            assert_eq!(Glibc::parse(text), None, "{text}");
        }
    }
}
