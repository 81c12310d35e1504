//! What the C library's allocator may keep of memory that was given back.
//!
//! glibc gives threads heaps of their own, returns only the end of a heap to the system, and moves
//! larger and larger blocks into the heaps once such a block was freed. A reload of thousands of
//! tags, read by one thread and applied by others, so leaves holes of megabytes in each heap. One
//! heap for all threads, with large blocks outside of it, holds what is in use and little more.
//!
//! The allocator takes its settings from the environment, once, when a process starts. Hence the
//! daemon starts itself again with them: the same process to whoever watches it, some
//! milliseconds later.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// One heap; blocks from 64 KiB on stand alone; 64 KiB that are free at the heap's end are
/// returned.
const SETTINGS: [(&str, &str); 3] = [
    ("MALLOC_ARENA_MAX", "1"),
    ("MALLOC_MMAP_THRESHOLD_", "65536"),
    ("MALLOC_TRIM_THRESHOLD_", "65536"),
];

/// Starts this program again with the settings that the environment does not name yet. Returns
/// where it names them all, where the C library is another one, and where the system refuses:
/// then the daemon takes more memory, and nothing else is different.
pub(super) fn settle() {
    if !cfg!(target_env = "gnu") {
        return;
    }
    let missing = missing(std::env::var_os);
    if missing.is_empty() {
        return;
    }
    let Ok(binary) = std::env::current_exe() else { return };
    let mut arguments = std::env::args_os();
    let mut command = Command::new(binary);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    let _ = command.args(arguments).envs(missing).exec();
}

/// What the environment does not name; whatever somebody set stays as it is.
fn missing(set: impl Fn(&'static str) -> Option<OsString>) -> Vec<(&'static str, &'static str)> {
    SETTINGS.into_iter().filter(|(name, _)| set(name).is_none()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_set_stays_and_a_second_start_needs_none() {
        let mut environment = vec![("MALLOC_ARENA_MAX", "4")];
        let added = |environment: &[(&str, &str)]| {
            missing(|name| {
                environment.iter().find(|(known, _)| *known == name).map(|(_, set)| set.into())
            })
        };
        let first = added(&environment);
        assert_eq!(first, SETTINGS[1..]);
        environment.extend(first);
        assert_eq!(added(&environment), []);
    }
}
