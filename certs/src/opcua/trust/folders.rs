//! The folders of certificates, as people fill them.
//!
//! # Invariants
//! - A file of any name is looked at unless it begins with a dot; DER and PEM are told apart by
//!   what is in them.
//! - What cannot be read is passed over and remarked, except a folder as a whole: then nothing is
//!   known about whom to trust.
//! - No file is read further, and no folder longer, than a bound.
//! - A file is written under another name, synced and renamed: nobody sees half a certificate.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};

use crate::opcua::certificate::{Certificate, tame};
use crate::owner::{adopt, make_folder};

/// Ten certificates with RSA-4096 keys are 25 kB.
pub(super) const MAX_FILE: u64 = 64 << 10;
/// An authority that has withdrawn twenty thousand certificates is not a plant's.
pub(super) const MAX_LIST: u64 = 1 << 20;
/// More certificates than a gateway has servers and authorities.
const MAX_FILES: usize = 1_000;
/// How many certificates that were shown and not accepted are kept.
pub(super) const MAX_KEPT: usize = 100;
/// What a person refused: kept until a person approves it.
pub(super) const REFUSED: &str = ".rejected.der";
/// The longest part of a file name that comes out of a certificate.
const MAX_NAME: usize = 64;

/// A folder that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {path}", path = path.display())]
pub struct FolderError {
    /// What was tried.
    pub doing: &'static str,
    /// On what.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

pub(super) fn error_at(
    doing: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> FolderError + use<> {
    let path = path.to_owned();
    move |source| FolderError { doing, path, source }
}

/// A certificate and the file that it stands in.
#[derive(Debug, Clone)]
pub(super) struct Filed {
    pub(super) path: PathBuf,
    pub(super) certificate: Certificate,
    /// Whether the file holds nothing else.
    pub(super) alone: bool,
}

/// The certificates of a folder, and what is to be said about the rest. No folder is an empty one.
pub(super) fn certificates(
    dir: &Path,
    wanted: impl Fn(&str) -> bool,
) -> Result<(Vec<Filed>, Vec<String>), FolderError> {
    let (mut found, mut remarks) = (Vec::new(), Vec::new());
    for path in files(dir, wanted)? {
        match read(&path, MAX_FILE).and_then(|bytes| certificates_in(&bytes)) {
            Ok(all) => {
                let alone = all.len() == 1;
                found.extend(all.into_iter().map(|certificate| Filed {
                    path: path.clone(),
                    certificate,
                    alone,
                }));
            }
            Err(why) => remarks.push(format!("{} is passed over: {why}", shown(&path))),
        }
    }
    Ok((found, remarks))
}

/// The paths in a folder that are looked at, in the order of their names.
pub(super) fn files(
    dir: &Path,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<PathBuf>, FolderError> {
    let listing = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(error_at("list", dir))?,
    };
    let mut files = Vec::new();
    for entry in listing {
        let name = entry.map_err(error_at("list", dir))?.file_name();
        let text = name.to_string_lossy();
        if text.starts_with('.') || !wanted(&text) {
            continue;
        }
        if files.len() == MAX_FILES {
            let source = io::Error::other(format!("more than {MAX_FILES} files; remove some"));
            return Err(FolderError { doing: "read all of", path: dir.to_owned(), source });
        }
        files.push(dir.join(name));
    }
    files.sort_unstable();
    Ok(files)
}

/// A file's content, or why there is none.
pub(super) fn read(path: &Path, max: u64) -> Result<Vec<u8>, String> {
    let told = |error: io::Error| error.to_string();
    // A pipe would never end, and opening it might never begin.
    if !fs::metadata(path).map_err(told)?.is_file() {
        return Err("it is not a file".to_owned());
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(told)?.take(max + 1).read_to_end(&mut bytes).map_err(told)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= max) {
        Ok(bytes)
    } else {
        Err(format!("it is larger than {} KiB", max >> 10))
    }
}

/// Every certificate of a file's content; at least one.
pub(super) fn certificates_in(bytes: &[u8]) -> Result<Vec<Certificate>, String> {
    if is_der(bytes) {
        return Certificate::read(bytes)
            .map(|certificate| vec![certificate])
            .map_err(|_| "it is no X.509 certificate".to_owned());
    }
    let mut found = Vec::new();
    for der in CertificateDer::pem_slice_iter(bytes) {
        let der = der.map_err(|_| "its PEM text is broken".to_owned())?;
        found
            .push(Certificate::read(&der).map_err(|_| "it holds no X.509 certificate".to_owned())?);
    }
    if found.is_empty() { Err("it holds no certificate".to_owned()) } else { Ok(found) }
}

/// Every revocation list of a file's content, DER, unread; at least one.
pub(super) fn lists_in(bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    if is_der(bytes) {
        return Ok(vec![bytes.to_vec()]);
    }
    let found: Vec<Vec<u8>> = CertificateRevocationListDer::pem_slice_iter(bytes)
        .map(|der| der.map(|der| der.to_vec()))
        .collect::<Result<_, _>>()
        .map_err(|_| "its PEM text is broken".to_owned())?;
    if found.is_empty() { Err("it holds no revocation list".to_owned()) } else { Ok(found) }
}

fn is_der(bytes: &[u8]) -> bool {
    // A SEQUENCE, which both begin with; a text would begin with a zero.
    bytes.first() == Some(&0x30) && bytes.get(1).is_some_and(|byte| !byte.is_ascii_graphic())
}

/// The name of a certificate's file: nothing in it comes from the server but letters, digits,
/// points, dashes and underscores.
pub(super) fn file_name(certificate: &Certificate, suffix: &str) -> String {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let name: String = certificate
        .common_name
        .chars()
        .take(MAX_NAME)
        .map(|c| if legal(c) { c } else { '_' })
        .collect();
    // What a server calls itself must not make the file one that a person refused.
    let name = name.trim_end_matches(".rejected");
    format!("{}-{name}{suffix}", certificate.thumbprint.short())
}

/// Writes a file of a folder whole or not at all, making the folder if need be.
pub(super) fn write(dir: &Path, name: &str, content: &[u8]) -> Result<PathBuf, FolderError> {
    static DRAFTS: AtomicU64 = AtomicU64::new(0);
    make_folder(dir).map_err(error_at("make", dir))?;
    let path = dir.join(name);
    let count = DRAFTS.fetch_add(1, Ordering::Relaxed);
    let draft = dir.join(format!(".unfinished-{}-{count}", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(&draft)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        .map(|()| adopt(&draft, dir))
        .and_then(|()| fs::rename(&draft, &path))
        .and_then(|()| sync(dir));
    if let Err(error) = written {
        let _ = fs::remove_file(&draft);
        return Err(error_at("write", &path)(error));
    }
    Ok(path)
}

pub(super) fn remove(path: &Path) -> Result<(), FolderError> {
    fs::remove_file(path).map_err(error_at("remove", path))?;
    path.parent().map_or(Ok(()), sync).map_err(error_at("sync", path))
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Keeps a certificate that was shown and not accepted, and lets the oldest of too many go.
pub(super) fn keep(dir: &Path, certificate: &Certificate) -> Result<PathBuf, FolderError> {
    let name = file_name(certificate, ".der");
    let path = dir.join(&name);
    // Each attempt to connect comes by here: flash is written once.
    if read(&path, MAX_FILE).is_ok_and(|known| known == certificate.der.as_ref()) {
        return Ok(path);
    }
    let path = write(dir, &name, &certificate.der)?;
    prune(dir, &path)?;
    Ok(path)
}

/// Lets go of a certificate that was kept and is accepted by now. What stays only waits in vain.
pub(super) fn forget(dir: &Path, certificate: &Certificate) {
    let _ = fs::remove_file(dir.join(file_name(certificate, ".der")));
}

/// Removes the oldest files beyond the bound, never `newest` nor what a person refused.
fn prune(dir: &Path, newest: &Path) -> Result<(), FolderError> {
    let mut old = Vec::new();
    for entry in fs::read_dir(dir).map_err(error_at("list", dir))? {
        let entry = entry.map_err(error_at("list", dir))?;
        let path = entry.path();
        if path == newest || entry.file_name().to_string_lossy().ends_with(REFUSED) {
            continue;
        }
        // Gone or unreadable: another connection prunes too.
        if let Ok(data) = entry.metadata()
            && data.is_file()
        {
            old.push((data.modified().ok(), path));
        }
    }
    old.sort_unstable();
    let surplus = (old.len() + 1).saturating_sub(MAX_KEPT);
    for (_, path) in old.into_iter().take(surplus) {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error_at("remove", &path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// A path as a message holds it.
pub(super) fn shown(path: &Path) -> String {
    tame_path(&path.display().to_string())
}

fn tame_path(text: &str) -> String {
    // Paths may be longer than names are shown, and their end says most.
    text.split('/').map(tame).collect::<Vec<_>>().join("/")
}
