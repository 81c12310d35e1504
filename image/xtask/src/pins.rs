//! `image/pins.toml`: what is fetched, by version and SHA-256.

use anyhow::{Context as _, anyhow};

/// The pins of nats-server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NatsServer {
    /// The version that is fetched.
    pub(crate) version: String,
    /// The lowest version that serves.
    pub(crate) minimum: Version,
    /// Operating system and architecture → SHA-256 of the wheel.
    pub(crate) wheels: Vec<(String, String)>,
    /// The same server as Debian built it.
    pub(crate) debian: DebianBuild,
}

/// A program from Debian's pool.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DebianBuild {
    /// The version of the package.
    pub(crate) version: String,
    /// Its folder on every mirror.
    pub(crate) pool: String,
    /// Debian's word for the architecture → SHA-256 of the package.
    pub(crate) packages: Vec<(String, String)>,
}

impl DebianBuild {
    /// The package for an architecture: its file's name and SHA-256.
    pub(crate) fn package_for(&self, architecture: &str) -> Option<(String, &str)> {
        let (_, hash) = self.packages.iter().find(|(name, _)| name == architecture)?;
        Some((format!("nats-server_{}_{architecture}.deb", self.version), hash))
    }
}

impl NatsServer {
    /// The pins of this source tree.
    pub(crate) fn load() -> anyhow::Result<Self> {
        parse(include_str!("../../pins.toml")).context("image/pins.toml")
    }

    /// The SHA-256 of the wheel for a platform such as `linux-x86_64`.
    pub(crate) fn wheel_for(&self, platform: &str) -> Option<&str> {
        self.wheels.iter().find(|(name, _)| name == platform).map(|(_, hash)| hash.as_str())
    }
}

/// The version of cargo-deb that packs.
pub(crate) fn cargo_deb() -> anyhow::Result<String> {
    let tree = toml_span::parse(include_str!("../../pins.toml")).map_err(|e| anyhow!("{e}"))?;
    let version = tree.pointer("/cargo-deb/version").and_then(toml_span::Value::as_str);
    version.map(str::to_owned).context("image/pins.toml: no text at /cargo-deb/version")
}

/// The platform that this program runs on, as the pins write it.
pub(crate) fn this_platform() -> String {
    format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH)
}

fn parse(text: &str) -> anyhow::Result<NatsServer> {
    let tree = toml_span::parse(text).map_err(|error| anyhow!("{error}"))?;
    let word = |pointer: &str| {
        let found = tree.pointer(pointer).and_then(toml_span::Value::as_str);
        found.with_context(|| format!("no text at {pointer}"))
    };
    let hashes = |pointer: &str, besides: &[&str]| {
        let table = tree.pointer(pointer).and_then(toml_span::Value::as_table);
        let mut pinned = Vec::new();
        for (name, hash) in table.with_context(|| format!("no table at {pointer}"))? {
            if besides.contains(&name.name.as_ref()) {
                continue;
            }
            let hash = hash.as_str().unwrap_or_default();
            if hash.len() != 64 || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(anyhow!("{}: {hash:?} is no SHA-256", name.name));
            }
            pinned.push((name.name.to_string(), hash.to_owned()));
        }
        Ok(pinned)
    };
    let minimum = word("/nats-server/minimum")?;
    Ok(NatsServer {
        version: word("/nats-server/version")?.to_owned(),
        minimum: Version::parse(minimum).with_context(|| format!("{minimum:?} is no version"))?,
        wheels: hashes("/nats-server/wheel", &[])?,
        debian: DebianBuild {
            version: word("/nats-server/debian/version")?.to_owned(),
            pool: word("/nats-server/debian/pool")?.to_owned(),
            packages: hashes("/nats-server/debian", &["version", "pool"])?,
        },
    })
}

/// Major, minor and patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u32, pub(crate) u32, pub(crate) u32);

impl Version {
    /// Reads `2.15.1`, also after a `v` and before a suffix such as `-RC.1`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim().trim_start_matches('v');
        let mut parts = text.split(['.', '-', '+']).map(str::parse);
        Some(Self(parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?))
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_pins_are_whole() {
        let pins = NatsServer::load().unwrap();
        assert!(Version::parse(&pins.version).unwrap() >= pins.minimum);
        assert!(pins.wheel_for("linux-x86_64").is_some());
        assert!(pins.wheel_for("linux-aarch64").is_some());
        assert_eq!(pins.wheel_for("plan9-mips"), None);
        for arch in crate::arch::Arch::ALL {
            let (file, _) = pins.debian.package_for(arch.debian()).unwrap();
            assert!(file.contains(&pins.version), "{file} is another release");
        }
        assert!(Version::parse(&cargo_deb().unwrap()).is_some());
    }

    #[test]
    fn a_hash_of_the_wrong_length_is_refused() {
        let text =
            "[nats-server]\nversion = '1.2.3'\nminimum = '1.0.0'\n[nats-server.wheel]\nx = 'ab'\n";
        assert!(parse(text).unwrap_err().to_string().contains("SHA-256"));
        let text = text.replace("'ab'", &format!("'{}'", "a".repeat(64)))
            + "[nats-server.debian]\nversion = '1.2.3-1'\npool = 'p'\namd64 = 'ab'\n";
        assert!(parse(&text).unwrap_err().to_string().contains("amd64"));
    }

    #[test]
    fn versions_compare_as_numbers() {
        let version = |text| Version::parse(text).unwrap();
        assert!(version("v2.15.1") > version("2.9.10"));
        assert_eq!(version("2.14.0-RC.1"), Version(2, 14, 0));
        assert_eq!(Version::parse("2.x"), None);
    }
}
