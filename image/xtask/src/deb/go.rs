//! What a Go program is made of: its modules, from what the Go linker wrote into it.
//!
//! # Invariants
//! - Every module has a licence in `image/nats-server.toml`: one that has none is an error.
//! - A program built without modules (Debian's) says only its Go version; then the package's own
//!   word of what it was built with counts.

use anyhow::{Context as _, anyhow, bail, ensure};

use super::server::{Server, Source};

/// What comes before the build's own description.
const MAGIC: &[u8] = b"\xff Go buildinf:";
/// The description begins here, behind magic, size of pointers and flags.
const HEAD: usize = 32;
/// The flag that says the texts follow at once: so since Go 1.18.
const INLINE: u8 = 2;
/// How many bytes frame the list of modules on each side.
const FRAME: usize = 16;

/// One part of a Go program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Module {
    /// Its path, or `std` for Go's own library.
    pub(super) path: String,
    /// Its version, with `v` before it except that of Go.
    pub(super) version: String,
    /// SPDX.
    pub(super) licence: String,
    /// Whose it is.
    pub(super) copyright: String,
}

/// The modules of a bundled nats-server, itself first.
pub(super) fn modules(server: &Server) -> anyhow::Result<Vec<Module>> {
    let program = std::fs::read(&server.path)
        .with_context(|| format!("{} is not readable", server.path.display()))?;
    let (go, listed) = build_info(&program)
        .with_context(|| format!("{} is no Go program", server.path.display()))?;
    let known = Known::load()?;
    let mut found = match (&server.source, listed) {
        (_, listed) if !listed.is_empty() => listed,
        (Source::Debian(version, _), _) => built_using(&known, version, &server.built_using)?,
        (Source::Wheel(_), _) => bail!("{} does not say its modules", server.path.display()),
    };
    found.push(("std".to_owned(), go.trim_start_matches("go").to_owned()));
    found.into_iter().map(|(path, version)| known.module(&path, &version)).collect()
}

/// The Go version, and the main module with its dependencies as the program says them.
pub(crate) fn build_info(program: &[u8]) -> Option<(String, Vec<(String, String)>)> {
    let at = program.windows(MAGIC.len()).position(|window| window == MAGIC)?;
    let info = program.get(at..)?;
    if info.get(MAGIC.len() + 1)? & INLINE == 0 {
        return None;
    }
    let (go, rest) = text(info.get(HEAD..)?)?;
    let (framed, _) = text(rest)?;
    let list = framed.get(FRAME..framed.len().checked_sub(FRAME)?).unwrap_or_default();
    let list = String::from_utf8_lossy(list);
    let module = |line: &str| {
        let mut words = line.split('\t');
        let kind = words.next()?;
        let (path, version) = (words.next()?, words.next()?);
        let counts = (kind == "mod" || kind == "dep") && version.starts_with('v');
        counts.then(|| (path.to_owned(), version.to_owned()))
    };
    Some((String::from_utf8_lossy(go).into_owned(), list.lines().filter_map(module).collect()))
}

/// A text behind its length, and what follows.
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length = 0_usize;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return bytes.get(index + 1..)?.split_at_checked(length);
        }
    }
    None
}

/// Modules from Debian's `Static-Built-Using`, such as `golang-go.crypto (= 1:0.57.0-2)`.
fn built_using(known: &Known, version: &str, field: &str) -> anyhow::Result<Vec<(String, String)>> {
    ensure!(!field.is_empty(), "Debian's nats-server does not say what it was built with");
    let mut found = vec![(known.path_of("nats-server")?, format!("v{}", upstream(version)))];
    for part in field.split(',').map(str::trim) {
        let (source, rest) = part.split_once(" (= ").with_context(|| format!("{part:?}"))?;
        // The compiler itself: its version is in the program.
        if !source.starts_with("golang-1") {
            found.push((
                known.path_of(source)?,
                format!("v{}", upstream(rest.trim_end_matches(')'))),
            ));
        }
    }
    Ok(found)
}

/// `1:0.57.0+dfsg-2` → `0.57.0`
fn upstream(version: &str) -> &str {
    let version = version.split_once(':').map_or(version, |(_, rest)| rest);
    let version = version.rsplit_once('-').map_or(version, |(before, _)| before);
    version.split('+').next().unwrap_or(version)
}

/// `image/nats-server.toml`.
struct Known(toml_span::Value<'static>);

impl Known {
    fn load() -> anyhow::Result<Self> {
        let text = include_str!("../../../nats-server.toml");
        Ok(Self(toml_span::parse(text).map_err(|e| anyhow!("image/nats-server.toml: {e}"))?))
    }

    fn module(&self, path: &str, version: &str) -> anyhow::Result<Module> {
        let table = self.0.as_table().and_then(|all| all.get(path));
        let table = table.with_context(|| {
            format!("{path} in nats-server has no licence; read its own and write it into image/nats-server.toml")
        })?;
        let word = |key: &str| {
            let found = table.as_table().and_then(|t| t.get(key)).and_then(|v| v.as_str());
            found
                .map(str::to_owned)
                .with_context(|| format!("image/nats-server.toml: {path}: no {key}"))
        };
        Ok(Module {
            path: path.to_owned(),
            version: version.to_owned(),
            licence: word("licence")?,
            copyright: word("copyright")?,
        })
    }

    fn path_of(&self, debian: &str) -> anyhow::Result<String> {
        let all = self.0.as_table().context("image/nats-server.toml is empty")?;
        let found = all.iter().find(|(_, module)| {
            let name = module.as_table().and_then(|table| table.get("debian"));
            name.and_then(|name| name.as_str()) == Some(debian)
        });
        let found = found.map(|(path, _)| path.name.to_string());
        found.with_context(|| format!("image/nats-server.toml has no module of Debian's {debian}"))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A program that a Go linker might have written, with this list of modules.
    pub(crate) fn program(list: &str) -> Vec<u8> {
        let mut bytes = b"\x7fELF and code ".to_vec();
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[8, INLINE]);
        bytes.resize(bytes.len() + HEAD - MAGIC.len() - 2, 0);
        let framed = format!("{0}{list}{0}", "f".repeat(FRAME));
        for text in ["go1.27.2", &framed] {
            let length = u16::try_from(text.len()).unwrap();
            bytes.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
            bytes.push(u8::try_from(length >> 7).unwrap());
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes
    }

    #[test]
    fn modules_are_read_out_of_a_program() {
        let list = "path\tx\nmod\tgithub.com/nats-io/nats-server/v2\tv2.15.1\t\n\
            dep\tgolang.org/x/sys\tv0.48.0\th1:abc=\nbuild\tGOOS=linux\n";
        let (go, modules) = build_info(&program(list)).unwrap();
        assert_eq!(go, "go1.27.2");
        assert_eq!(modules[1], ("golang.org/x/sys".to_owned(), "v0.48.0".to_owned()));
        assert_eq!(modules.len(), 2);
        assert!(build_info(b"no such thing").is_none());
        let cut = program(list);
        assert!(build_info(&cut[..cut.len() - 40]).is_none());
    }

    #[test]
    fn what_debian_built_with_becomes_modules() {
        let field = "golang-1.27 (= 1.27.2-1), golang-go.crypto (= 1:0.57.0-2), \
            golang-github-klauspost-compress (= 1.20.0+ds1-1)";
        let found = built_using(&Known::load().unwrap(), "2.15.1-1", field).unwrap();
        let paths: Vec<_> = found.iter().map(|(p, v)| format!("{p} {v}")).collect();
        assert_eq!(
            paths,
            [
                "github.com/nats-io/nats-server/v2 v2.15.1",
                "golang.org/x/crypto v0.57.0",
                "github.com/klauspost/compress v1.20.0"
            ]
        );
    }

    #[test]
    fn a_module_without_a_licence_is_refused() {
        let error = Known::load().unwrap().module("example.org/new", "v1").unwrap_err();
        assert!(error.to_string().contains("example.org/new"), "{error}");
    }
}
