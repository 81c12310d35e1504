//! What a backup holds, and where each piece of it may go.
//!
//! ```text
//! manifest.json                  who, when, and which file is the configuration
//! files/etc/tidegate/…           each file under its absolute path
//! ```
//!
//! # Invariants
//! - A file keeps its absolute path, and goes only where the configuration inside of the same
//!   backup says that a file of the gateway belongs.
//! - Everything is checked before anything is written; a generation's `current` comes after the
//!   files that it points at.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::archive::{self, ArchiveError, Content, Entry, Writer};
use super::belongings::{Belonging, Kind};

/// The version of the layout.
const FORMAT: u32 = 1;
const MANIFEST: &str = "manifest.json";
const FILES: &str = "files";
/// One file of a backup: a tag list may have 64 MiB.
const LARGEST: u64 = 64 << 20;
/// The depth of folders that is followed: generations and trust folders have three.
const DEEPEST: usize = 6;
/// What an interrupted writer left, and a lock, belong to nobody.
const PASSING: [&str; 2] = [".unfinished-", ".lock"];

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Manifest {
    pub(crate) format: u32,
    /// `PLANT/NAME`.
    pub(crate) gateway: String,
    /// RFC 3339.
    pub(crate) made: String,
    pub(crate) version: String,
    /// The absolute path of the configuration.
    pub(crate) config: String,
}

/// Why there is no backup, or none can be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupError {
    #[error("cannot {doing} {path}", path = path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is not Unicode or not absolute; such a path cannot be kept", path = path.display())]
    Path { path: PathBuf },
    #[error("{path} is larger than any file of a gateway", path = path.display())]
    Large { path: PathBuf },
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error("this is no backup of a gateway: {why}")]
    Foreign { why: String },
    #[error("the backup is of format {format}, and this version reads {FORMAT}; take a newer one")]
    Newer { format: u32 },
    #[error("the backup holds {path}, which its configuration does not name", path = path.display())]
    Astray { path: PathBuf },
}

impl BackupError {
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}

/// What was taken along, and what was not there.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) files: Vec<PathBuf>,
    pub(crate) missing: Vec<PathBuf>,
}

/// A gateway's files as one archive.
pub(crate) fn pack(
    manifest: &Manifest,
    belongings: &[Belonging],
    time: u64,
) -> Result<(Zeroizing<Vec<u8>>, Taken), BackupError> {
    let mut writer = Writer::new(time);
    let mut taken = Taken::default();
    let text = serde_json::to_string_pretty(manifest).unwrap_or_default();
    writer.file(MANIFEST, text.as_bytes())?;
    for belonging in belongings {
        let there = match belonging.path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(BackupError::io("look at", &belonging.path)(error)),
            Ok(_) => true,
        };
        match belonging.kind {
            _ if !there => taken.missing.push(belonging.path.clone()),
            Kind::Folder => pack_folder(&belonging.path, DEEPEST, &mut writer, &mut taken)?,
            _ => pack_file(&belonging.path, &mut writer, &mut taken)?,
        }
    }
    Ok((writer.finish(), taken))
}

fn pack_folder(
    dir: &Path,
    deep: usize,
    writer: &mut Writer,
    taken: &mut Taken,
) -> Result<(), BackupError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(BackupError::io("list", dir))? {
        let entry = entry.map_err(BackupError::io("list", dir))?;
        let name = entry.file_name();
        if !PASSING.iter().any(|it| name.to_string_lossy().starts_with(it)) {
            paths.push(entry.path());
        }
    }
    // The same folder always gives the same archive, and links come last.
    paths.sort_by_key(|path| (path.is_symlink(), path.clone()));
    for path in paths {
        let kind = path.symlink_metadata().map_err(BackupError::io("look at", &path))?;
        if kind.is_symlink() {
            let target = fs::read_link(&path).map_err(BackupError::io("read", &path))?;
            let target = target.to_str().filter(|it| !it.contains('/'));
            // Only a link to a neighbour means the same on another device.
            let Some(target) = target else { return Err(BackupError::Path { path }) };
            writer.link(&name_of(&path)?, target)?;
            taken.files.push(path);
        } else if kind.is_dir() && deep > 0 {
            pack_folder(&path, deep - 1, writer, taken)?;
        } else if kind.is_file() {
            pack_file(&path, writer, taken)?;
        }
    }
    Ok(())
}

fn pack_file(path: &Path, writer: &mut Writer, taken: &mut Taken) -> Result<(), BackupError> {
    let length = fs::metadata(path).map_err(BackupError::io("look at", path))?.len();
    if length > LARGEST {
        return Err(BackupError::Large { path: path.to_owned() });
    }
    let content = Zeroizing::new(fs::read(path).map_err(BackupError::io("read", path))?);
    writer.file(&name_of(path)?, &content)?;
    taken.files.push(path.to_owned());
    Ok(())
}

/// The name in the archive of an absolute path.
fn name_of(path: &Path) -> Result<String, BackupError> {
    let inside = path.strip_prefix("/").ok().and_then(Path::to_str);
    inside.map_or_else(
        || Err(BackupError::Path { path: path.to_owned() }),
        |inside| Ok(format!("{FILES}/{inside}")),
    )
}

/// A backup that was read.
pub(crate) struct Backup {
    pub(crate) manifest: Manifest,
    /// By absolute path.
    pub(crate) entries: Vec<(PathBuf, Content)>,
}

impl Backup {
    /// Reads an archive.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, BackupError> {
        let foreign = |why: String| BackupError::Foreign { why };
        let mut entries = archive::read(bytes)?.into_iter();
        let first = entries.next();
        let Some(Entry { content: Content::File(text), .. }) =
            first.filter(|entry| entry.name == MANIFEST)
        else {
            return Err(foreign(format!("it does not begin with {MANIFEST}")));
        };
        let manifest: Manifest =
            serde_json::from_slice(&text).map_err(|error| foreign(error.to_string()))?;
        if manifest.format > FORMAT {
            return Err(BackupError::Newer { format: manifest.format });
        }
        let rooted = |entry: Entry| {
            let inside = entry.name.strip_prefix(FILES).filter(|inside| inside.starts_with('/'));
            let path = inside.map(PathBuf::from);
            path.map(|path| (path, entry.content)).ok_or_else(|| foreign(entry.name))
        };
        let entries = entries.map(rooted).collect::<Result<_, _>>()?;
        Ok(Self { manifest, entries })
    }

    /// The configuration in it.
    pub(crate) fn config(&self) -> Option<&[u8]> {
        self.file(Path::new(&self.manifest.config))
    }

    /// A file in it.
    pub(crate) fn file(&self, path: &Path) -> Option<&[u8]> {
        self.entries.iter().find_map(|(at, content)| match content {
            Content::File(bytes) if at == path => Some(bytes.as_slice()),
            _ => None,
        })
    }

    /// Checks that each piece belongs to something that the configuration names.
    pub(crate) fn check(&self, belongings: &[Belonging]) -> Result<(), BackupError> {
        for (path, content) in &self.entries {
            let is_its = |it: &&Belonging| match it.kind {
                Kind::Folder => path.starts_with(&it.path) && path != &it.path,
                _ => *path == it.path,
            };
            let belongs = belongings.iter().any(|it| is_its(&it));
            let leads_out = matches!(content, Content::Link(target) if target.contains('/') || target.starts_with('.'));
            if !belongs || leads_out {
                return Err(BackupError::Astray { path: path.clone() });
            }
        }
        Ok(())
    }
}

impl Manifest {
    pub(crate) fn new(gateway: String, made: String, config: &Path) -> Result<Self, BackupError> {
        let text = config.to_str().filter(|_| config.is_absolute());
        let config = text.ok_or_else(|| BackupError::Path { path: config.to_owned() })?;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(Self { format: FORMAT, gateway, made, version, config: config.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(config: &Path) -> Manifest {
        Manifest::new("P/g".to_owned(), "2027-01-15T08:00:00Z".to_owned(), config).unwrap()
    }

    fn belonging(path: PathBuf, kind: Kind) -> Belonging {
        Belonging { path, kind }
    }

    #[test]
    fn a_folder_is_taken_with_its_links_last_and_without_what_passes() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("identity");
        fs::create_dir_all(home.join("gen-1")).unwrap();
        fs::create_dir_all(home.join(".unfinished-gen-2")).unwrap();
        fs::write(home.join("gen-1/key.pem"), "key").unwrap();
        fs::write(home.join(".unfinished-gen-2/key.pem"), "half").unwrap();
        fs::write(home.join("zeta"), "z").unwrap();
        std::os::unix::fs::symlink("gen-1", home.join("current")).unwrap();
        let config = dir.path().join("t.toml");
        fs::write(&config, "x").unwrap();
        let all = [
            belonging(config.clone(), Kind::Text),
            belonging(home.clone(), Kind::Folder),
            belonging(dir.path().join("gone.pem"), Kind::Secret),
        ];
        let (bytes, taken) = pack(&manifest(&config), &all, 0).unwrap();
        assert_eq!(taken.missing, [dir.path().join("gone.pem")]);
        let backup = Backup::read(&bytes).unwrap();
        assert_eq!(backup.config(), Some(&b"x"[..]));
        let paths: Vec<_> = backup.entries.iter().map(|(path, _)| path.clone()).collect();
        assert_eq!(
            paths,
            [config, home.join("gen-1/key.pem"), home.join("zeta"), home.join("current")]
        );
        backup.check(&all).unwrap();
        let astray = backup.check(&all[..1]).unwrap_err();
        assert!(
            matches!(astray, BackupError::Astray { path } if path == home.join("gen-1/key.pem"))
        );
    }

    #[test]
    fn a_link_that_leads_elsewhere_is_neither_taken_nor_restored() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("pki");
        fs::create_dir(&home).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", home.join("x")).unwrap();
        let all = [belonging(home.clone(), Kind::Folder)];
        let packed = pack(&manifest(Path::new("/t.toml")), &all, 0);
        assert!(matches!(packed, Err(BackupError::Path { .. })));
        for target in ["/etc/passwd", ".."] {
            let entries = vec![(home.join("x"), Content::Link(target.to_owned()))];
            let backup = Backup { manifest: manifest(Path::new("/t.toml")), entries };
            assert!(matches!(backup.check(&all), Err(BackupError::Astray { .. })), "{target}");
        }
    }

    #[test]
    fn what_is_no_backup_or_a_newer_one_is_told_as_such() {
        let mut writer = Writer::new(0);
        writer.file("x", b"").unwrap();
        assert!(matches!(Backup::read(&writer.finish()), Err(BackupError::Foreign { .. })));
        let newer = Manifest { format: 2, ..manifest(Path::new("/t.toml")) };
        let mut writer = Writer::new(0);
        writer.file(MANIFEST, serde_json::to_string(&newer).unwrap().as_bytes()).unwrap();
        let error = Backup::read(&writer.finish()).err().unwrap();
        assert!(matches!(error, BackupError::Newer { format: 2 }), "{error}");
    }
}
