//! Files that systemd hands to the service as credentials (systemd.exec(5), "Credentials"), written
//! `credential:NAME` wherever the configuration names a file.
//!
//! # Invariants
//! - What is named is one file in the folder of the credentials; no name leads out of it.
//! - The credentials themselves are read where other files are read, each time anew.

use std::path::{Path, PathBuf};

/// What the value of such a file begins with.
const PREFIX: &str = "credential:";

/// Where systemd says that the credentials of a unit are.
pub(crate) const VARIABLE: &str = "CREDENTIALS_DIRECTORY";

/// Where those of the service are, for a command of root's beside the daemon.
const OF_THE_SERVICE: &str = "/run/credentials/tidegate.service";

/// systemd puts the name of a folder's credential before each file of it. These are the folders that
/// `tidegate.service` names; what was sealed goes before what lies there readable.
const FOLDERS: [&str; 2] = ["sealed", "plain"];

/// systemd takes 255 bytes with the folder's name before it.
const MAX_NAME: usize = 200;

/// A credential, by its name; an error when the name is none. `None` for any other file.
pub(super) fn read(text: &str) -> Option<Result<String, ()>> {
    let name = text.strip_prefix(PREFIX)?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_name = (1..=MAX_NAME).contains(&name.len()) && name.chars().all(is_plain);
    Some(if is_name && !name.starts_with('.') { Ok(name.to_owned()) } else { Err(()) })
}

/// What a legal one looks like.
pub(super) const LEGAL: &str =
    "\"credential:NAME\", with letters, digits, '-', '_' and '.' in NAME";

/// The file of a credential: the one of that very name, or that of a folder's file, or, where there
/// is none of them, where the first would be.
pub(crate) fn find(
    directory: Option<&Path>,
    name: &str,
    is_there: &dyn Fn(&Path) -> bool,
) -> PathBuf {
    let directory = directory.unwrap_or(Path::new(OF_THE_SERVICE));
    let own = directory.join(name);
    let of_folders = FOLDERS.iter().map(|folder| directory.join(format!("{folder}_{name}")));
    let mut all = std::iter::once(own.clone()).chain(of_folders);
    all.find(|path| is_there(path)).unwrap_or(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_path() {
        assert_eq!(read("hub.key"), None);
        assert_eq!(read("./credential:x"), None);
        assert_eq!(read("credential:hub-key_2.pem"), Some(Ok("hub-key_2.pem".to_owned())));
        let long = format!("credential:{}", "n".repeat(MAX_NAME + 1));
        for text in ["credential:", "credential:../x", "credential:a/b", "credential:.", &long] {
            assert_eq!(read(text), Some(Err(())), "{text}");
        }
    }

    #[test]
    fn a_credential_of_its_own_goes_before_those_of_folders_and_a_sealed_one_before_a_readable_one()
    {
        let found = |there: &[&str]| {
            let there: Vec<String> = there.iter().map(|name| format!("/c/{name}")).collect();
            let is_there = |path: &Path| there.iter().any(|known| path == Path::new(known));
            find(Some(Path::new("/c")), "token", &is_there)
        };
        assert_eq!(found(&["plain_token", "sealed_token", "token"]), Path::new("/c/token"));
        assert_eq!(found(&["plain_token", "sealed_token"]), Path::new("/c/sealed_token"));
        assert_eq!(found(&["plain_token"]), Path::new("/c/plain_token"));
        assert_eq!(found(&[]), Path::new("/c/token"));
    }

    #[test]
    fn outside_of_the_service_they_are_looked_for_where_the_service_has_them() {
        let found = find(None, "token", &|path| path.ends_with("plain_token"));
        assert_eq!(found, Path::new("/run/credentials/tidegate.service/plain_token"));
    }
}
