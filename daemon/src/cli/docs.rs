//! `tidegate internal-docs`: writes or compares the files that are printed from the code: the
//! configuration reference from the table of keys, the man pages from the arguments.

use std::io::{self, Write};
use std::path::PathBuf;

use super::man;
use crate::config::reference::{self, Generated};

/// Write or compare the generated documents.
#[derive(Debug, Clone, clap::Args)]
#[group(required = true, multiple = false)]
pub struct DocsArgs {
    /// Write the files below this directory (the repository's root).
    #[arg(long, value_name = "DIR")]
    pub write: Option<PathBuf>,
    /// Compare the files below this directory; exit code 1 when one is stale.
    #[arg(long, value_name = "DIR")]
    pub check: Option<PathBuf>,
}

/// Every generated file.
fn files() -> impl Iterator<Item = Generated> {
    reference::files().into_iter().chain(man::pages())
}

/// Runs it and returns the exit code: 0 done or equal, 1 stale, 73 not writable.
///
/// # Errors
/// When `out` or `err` cannot be written.
pub fn run(args: &DocsArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let mut code = 0;
    for file in files() {
        if let Some(root) = &args.write {
            let path = root.join(&file.path);
            let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
            match folder.and_then(|()| std::fs::write(&path, &file.content)) {
                Ok(()) => writeln!(out, "{}", path.display())?,
                Err(error) => {
                    writeln!(err, "error: {} cannot be written: {error}", path.display())?;
                    code = 73;
                }
            }
        } else if let Some(root) = &args.check {
            let path = root.join(&file.path);
            match std::fs::read_to_string(&path) {
                Ok(kept) if kept == file.content => {}
                Ok(_) => {
                    writeln!(err, "error: {} is stale", path.display())?;
                    code = 1;
                }
                Err(error) => {
                    writeln!(err, "error: {} cannot be read: {error}", path.display())?;
                    code = 1;
                }
            }
        }
    }
    if code == 1 {
        writeln!(err, "run `tidegate internal-docs --write DIR` and commit the result")?;
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_generated_files_in_the_repository_are_fresh() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned);
        if std::env::var_os("TIDEGATE_BLESS").is_some() {
            both(&DocsArgs { write: root.clone(), check: None });
        }
        assert_eq!(both(&DocsArgs { write: None, check: root }), (0, String::new()));
    }

    #[test]
    fn it_either_writes_or_compares() {
        use clap::Args as _;
        let docs = DocsArgs::augment_args(clap::Command::new("internal-docs"));
        let takes = |words: &[&str]| {
            let words = std::iter::once("internal-docs").chain(words.iter().copied());
            docs.clone().try_get_matches_from(words).is_ok()
        };
        assert!(takes(&["--check", "."]) && takes(&["--write", "."]));
        assert!(!takes(&[]) && !takes(&["--check", ".", "--write", "."]));
    }

    fn both(args: &DocsArgs) -> (u8, String) {
        let mut err = Vec::new();
        let code = run(args, &mut Vec::new(), &mut err).unwrap();
        (code, String::from_utf8(err).unwrap())
    }

    #[test]
    fn a_stale_file_is_named_and_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let root = Some(dir.path().to_owned());
        let write = DocsArgs { write: root.clone(), check: None };
        let check = DocsArgs { write: None, check: root };
        assert_eq!(both(&check).0, 1, "nothing is there yet");
        assert_eq!(both(&write).0, 0);
        assert_eq!(both(&check), (0, String::new()));
        std::fs::write(dir.path().join("docs/configuration.md"), "old").unwrap();
        let (code, text) = both(&check);
        assert_eq!(code, 1);
        assert!(text.contains("configuration.md is stale"), "{text}");
    }
}
