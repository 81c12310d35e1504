//! Changes of the disk that a power cut leaves done or not done.
//!
//! # Invariants
//! - A file is written under a name that nobody looks at, synced, renamed, and its folder synced.
//! - Each step goes through a [`Step`], so that a test can stop at any of them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::generations::StoreError;
use crate::owner::adopt;

/// What is being written bears this until it has a name; removed at the next opening.
pub(crate) const UNFINISHED: &str = ".unfinished-";

/// Does one thing to the disk, and says what and where when it fails.
pub(crate) type Step<'a> = dyn FnMut(&'static str, &Path, &mut dyn FnMut() -> io::Result<()>) -> Result<(), StoreError>
    + 'a;

/// Told of each step before it is done; refuses it in tests.
pub(crate) type Before<'a> = dyn FnMut(&'static str) -> io::Result<()> + 'a;

/// The steps, each told to `before`.
pub(crate) fn steps<'a>(
    before: &'a mut Before<'_>,
) -> impl FnMut(&'static str, &Path, &mut dyn FnMut() -> io::Result<()>) -> Result<(), StoreError> + 'a
{
    |doing, path, act| before(doing).and_then(|()| act()).map_err(io_at(doing, path))
}

/// Makes a folder for its owner alone, with `files` in it, under a name that it does not have yet.
pub(crate) fn write_folder(
    home: &Path,
    files: &[(&str, &[u8])],
    step: &mut Step<'_>,
) -> Result<(), StoreError> {
    let (above, draft) = draft_of(home);
    if draft.symlink_metadata().is_ok() {
        remove(&draft)?;
    }
    step("make", &draft, &mut || DirBuilder::new().mode(0o700).create(&draft))?;
    for (name, content) in files {
        let path = draft.join(name);
        step("write", &path, &mut || write_private(&path, content))?;
        adopt(&path, &above);
    }
    adopt(&draft, &above);
    step("sync", &draft, &mut || sync(&draft))?;
    step("name", home, &mut || fs::rename(&draft, home))?;
    step("sync", &above, &mut || sync(&above))
}

/// Writes a file for its owner alone, or replaces it.
pub(crate) fn write_file(
    path: &Path,
    content: &[u8],
    step: &mut Step<'_>,
) -> Result<(), StoreError> {
    let (above, draft) = draft_of(path);
    if draft.symlink_metadata().is_ok() {
        remove(&draft)?;
    }
    step("write", &draft, &mut || write_private(&draft, content))?;
    adopt(&draft, &above);
    step("name", path, &mut || fs::rename(&draft, path))?;
    step("sync", &above, &mut || sync(&above))
}

/// Makes a link, or points an existing one elsewhere.
pub(crate) fn write_link(link: &Path, target: &str, step: &mut Step<'_>) -> Result<(), StoreError> {
    let (above, draft) = draft_of(link);
    if draft.symlink_metadata().is_ok() {
        remove(&draft)?;
    }
    step("link", &draft, &mut || std::os::unix::fs::symlink(target, &draft))?;
    step("switch", link, &mut || fs::rename(&draft, link))?;
    step("sync", &above, &mut || sync(&above))
}

/// Clears what interrupted writing left in a folder.
pub(crate) fn clear_drafts(dir: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(dir).map_err(io_at("list", dir))? {
        let entry = entry.map_err(io_at("list", dir))?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// A file's bytes, wiped when dropped; `None` where there is no such file.
pub(crate) fn read_file(path: &Path, most: u64) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(io_at("look at", path))?,
    };
    // A pipe would never end, and opening it might never begin.
    if !metadata.is_file() {
        return Err(StoreError::NotAFile { path: path.to_owned() });
    }
    let too_large = || StoreError::TooLarge { path: path.to_owned(), most };
    if metadata.len() > most {
        return Err(too_large());
    }
    // One allocation, so that no part of a secret stays behind.
    let length = usize::try_from(metadata.len().saturating_add(1)).unwrap_or_default();
    let mut bytes = Zeroizing::new(Vec::with_capacity(length));
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(io_at("open", path))?,
    };
    file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(io_at("read", path))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= most) {
        Ok(Some(bytes))
    } else {
        Err(too_large())
    }
}

/// Removes a file and syncs its folder; whether there was one.
pub(crate) fn remove_file(path: &Path, step: &mut Step<'_>) -> Result<bool, StoreError> {
    if path.symlink_metadata().is_err() {
        return Ok(false);
    }
    step("remove", path, &mut || fs::remove_file(path))?;
    let (above, _) = draft_of(path);
    step("sync", &above, &mut || sync(&above))?;
    Ok(true)
}

/// Writes zeros over a file's bytes and removes it; whether there was one. Flash and file systems
/// that copy on writing may keep the former bytes elsewhere: only the authority's revocation makes
/// a key worthless.
pub(crate) fn shred(path: &Path, step: &mut Step<'_>) -> Result<bool, StoreError> {
    let length = match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other.map_err(io_at("look at", path))?,
    };
    if length.is_file() {
        step("overwrite", path, &mut || overwrite(path, length.len()))?;
    }
    remove_file(path, step)
}

fn overwrite(path: &Path, length: u64) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    io::copy(&mut io::repeat(0).take(length), &mut file)?;
    file.sync_all()
}

/// Removes a file, a link, or a folder with all that is in it.
pub(crate) fn remove(path: &Path) -> Result<(), StoreError> {
    let is_dir = path.symlink_metadata().map_err(io_at("look at", path))?.is_dir();
    if is_dir { fs::remove_dir_all(path) } else { fs::remove_file(path) }
        .map_err(io_at("remove", path))
}

pub(crate) fn io_at(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { doing, path, source }
}

pub(crate) fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// The folder that a path is in, and where it is written before it has its name.
fn draft_of(path: &Path) -> (PathBuf, PathBuf) {
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    let above = above.unwrap_or(Path::new(".")).to_owned();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = above.join(format!("{UNFINISHED}{name}"));
    (above, draft)
}
