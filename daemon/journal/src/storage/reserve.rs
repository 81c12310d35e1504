//! File descriptors kept back for the journal.
//!
//! # Invariants
//! - What else the process does with its descriptors, the journal can go on to its next segment:
//!   connections that take the last one must not cost a sample.
//! - What was given is taken back as soon as there is one.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

/// As many as the journal ever has open beside its lock: the segment that is written, the one
/// before while it is sealed, the spare, the cursor, the directory, and those that are read.
const KEPT: usize = 16;

/// Descriptors of the directory itself, which is there in any case.
#[derive(Debug)]
pub(super) struct Reserve {
    directory: PathBuf,
    kept: Mutex<Vec<File>>,
}

impl Reserve {
    /// Keeps as many as there are to be had.
    pub(super) fn of(directory: &Path) -> Self {
        let reserve = Self { directory: directory.to_owned(), kept: Mutex::default() };
        reserve.fill();
        reserve
    }

    /// Does what takes a descriptor; where there is none, one of the reserve's is given up for it.
    pub(super) fn run<T>(&self, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
        let mut outcome = open();
        // Another thread may be faster than this one: then it takes one more.
        while outcome.as_ref().err().is_some_and(is_exhausted) && self.kept().pop().is_some() {
            outcome = open();
        }
        self.fill();
        outcome
    }

    fn fill(&self) {
        let mut kept = self.kept();
        while kept.len() < KEPT {
            let Ok(descriptor) = File::open(&self.directory) else { return };
            kept.push(descriptor);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<File>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// No descriptor is left in the process, or in the system.
fn is_exhausted(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn refused(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(errno.raw_os_error())
    }

    #[test]
    fn one_is_given_up_for_each_refusal_and_all_are_taken_back() {
        let reserve = Reserve::of(Path::new("/"));
        let (tries, seen) = (Cell::new(0), Cell::new(0));
        let open = || {
            tries.set(tries.get() + 1);
            seen.set(reserve.kept().len());
            if tries.get() < 4 { Err(refused(Errno::MFILE)) } else { Ok(()) }
        };
        reserve.run(open).unwrap();
        assert_eq!((tries.get(), seen.get(), reserve.kept().len()), (4, KEPT - 3, KEPT));
    }

    #[test]
    fn an_empty_reserve_and_another_error_end_it() {
        let reserve = Reserve::of(Path::new("/"));
        let tries = Cell::new(0);
        let fail = |errno| {
            tries.set(tries.get() + 1);
            Err::<(), _>(refused(errno))
        };
        assert!(reserve.run(|| fail(Errno::NFILE)).is_err());
        assert_eq!(tries.replace(0), KEPT + 1);
        assert!(reserve.run(|| fail(Errno::ACCESS)).is_err());
        assert_eq!(tries.get(), 1);
    }
}
