//! `image/targets.toml`: what each architecture needs, and the bounds that its programs keep.

use anyhow::{Context as _, anyhow};

use super::elf::Glibc;
use crate::arch::Arch;

/// What a release is built with, and its bounds.
#[derive(Debug)]
pub(crate) struct Targets {
    /// How large the gateway's program may be, stripped, in bytes.
    pub(crate) gateway_bytes: u64,
    /// From where on a larger one is refused.
    pub(crate) gateway_limit: u64,
    /// The newest C library that a program may ask for.
    pub(crate) glibc: Glibc,
    of: Vec<(Arch, Target)>,
    libraries: Vec<Library>,
}

/// What one architecture needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// How the names of its GNU tools begin, without the dash.
    pub(crate) gnu: String,
    /// Debian's packages of its C compiler and its C library.
    pub(crate) packages: Vec<String>,
    /// The program that runs its programs here; `None` where the machine does.
    pub(crate) emulator: Option<String>,
    /// What the compiler is told beside.
    pub(crate) flags: Vec<String>,
}

/// A package of Rust's standard library.
#[derive(Debug, PartialEq, Eq)]
struct Library {
    version: String,
    debian: String,
    sha256: String,
}

impl Targets {
    /// The targets of this source tree.
    pub(crate) fn load() -> anyhow::Result<Self> {
        parse(include_str!("../../../targets.toml")).context("image/targets.toml")
    }

    /// What `arch` needs.
    pub(crate) fn of(&self, arch: Arch) -> anyhow::Result<&Target> {
        let found = self.of.iter().find(|(known, _)| *known == arch).map(|(_, target)| target);
        found.with_context(|| format!("image/targets.toml has no table {}", arch.word()))
    }

    /// The SHA-256 of the standard library's package for `arch`, as `version` of it.
    pub(crate) fn library(&self, version: &str, arch: Arch) -> Option<&str> {
        let wanted = |l: &&Library| l.version == version && l.debian == arch.debian();
        self.libraries.iter().find(wanted).map(|library| library.sha256.as_str())
    }
}

fn parse(text: &str) -> anyhow::Result<Targets> {
    let tree = toml_span::parse(text).map_err(|error| anyhow!("{error}"))?;
    let at = |pointer: &str| tree.pointer(pointer).with_context(|| format!("nothing at {pointer}"));
    let bytes = |key: &str| {
        let bytes = at(&format!("/bounds/{key}"))?.as_integer().unwrap_or_default();
        u64::try_from(bytes).with_context(|| format!("bounds.{key}"))
    };
    let glibc = at("/bounds/glibc")?.as_str().unwrap_or_default();
    let mut of = Vec::new();
    for arch in Arch::ALL {
        let word = arch.word();
        of.push((arch, target(at(&format!("/{word}"))?).with_context(|| word.to_owned())?));
    }
    let mut libraries = Vec::new();
    for (version, packages) in at("/standard-library")?.as_table().into_iter().flatten() {
        for (debian, sha256) in packages.as_table().into_iter().flatten() {
            let sha256 = sha256.as_str().unwrap_or_default().to_owned();
            if sha256.len() != 64 || !sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(anyhow!(
                    "{} of {}: {sha256:?} is no SHA-256",
                    debian.name,
                    version.name
                ));
            }
            let (version, debian) = (version.name.to_string(), debian.name.to_string());
            libraries.push(Library { version, debian, sha256 });
        }
    }
    Ok(Targets {
        gateway_bytes: bytes("gateway")?,
        gateway_limit: bytes("gateway-limit")?,
        glibc: Glibc::parse(glibc).with_context(|| format!("bounds.glibc: {glibc:?}"))?,
        of,
        libraries,
    })
}

fn target(table: &toml_span::Value<'_>) -> anyhow::Result<Target> {
    let word = |key: &str| {
        let pointer = format!("/{key}");
        table.pointer(&pointer).and_then(toml_span::Value::as_str).map(str::to_owned)
    };
    let words = |key: &str| -> Option<Vec<String>> {
        let listed = table.pointer(&format!("/{key}"))?.as_array()?.iter();
        Some(listed.filter_map(|word| word.as_str().map(str::to_owned)).collect())
    };
    Ok(Target {
        gnu: word("gnu").context("no gnu")?,
        packages: words("packages").context("no packages")?,
        emulator: word("emulator"),
        flags: words("flags").unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_targets_are_whole() {
        let targets = Targets::load().unwrap();
        assert_eq!(targets.gateway_bytes, 12_000_000);
        for arch in Arch::ALL {
            let target = targets.of(arch).unwrap();
            assert_eq!(target.emulator.is_none(), arch == Arch::X86_64);
            assert!(!target.packages.is_empty());
        }
        let version = targets.libraries[0].version.clone();
        assert!(targets.library(&version, Arch::Armv7).is_some());
        assert_eq!(targets.library("1.0", Arch::Armv7), None);
    }

    #[test]
    fn cargo_links_and_runs_with_the_same_programs() {
        let config = include_str!("../../../../.cargo/config.toml");
        let config = toml_span::parse(config).unwrap();
        let targets = Targets::load().unwrap();
        for arch in [Arch::Aarch64, Arch::Armv7] {
            let target = targets.of(arch).unwrap();
            let at = |key: &str| {
                let pointer = format!("/target/{}/{key}", arch.triple());
                config.pointer(&pointer).and_then(|v| v.as_str()).unwrap().to_owned()
            };
            assert_eq!(at("linker"), format!("{}-gcc", target.gnu));
            assert_eq!(Some(at("runner/0")), target.emulator);
            assert_eq!(at("runner/2"), format!("/usr/{}", target.gnu));
        }
    }

    #[test]
    fn a_library_without_a_whole_hash_is_refused() {
        let text = include_str!("../../../targets.toml").replace("02419380801b9f61", "");
        let error = parse(&text).unwrap_err().to_string();
        assert!(error.contains("arm64") && error.contains("SHA-256"), "{error}");
    }

    #[test]
    fn an_architecture_without_a_table_is_named() {
        let text = include_str!("../../../targets.toml").replace("[armv7]", "[armv6]");
        assert!(parse(&text).unwrap_err().to_string().contains("/armv7"));
    }
}
