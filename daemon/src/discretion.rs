//! What the system may write down of a process that holds keys.
//!
//! # Invariants
//! - No core file of ours holds a key: the process is not dumpable (prctl(2)), which also keeps
//!   other processes of the same user from reading its memory, and its limit for core files is one
//!   byte.
//! - The limit is what a program inherits that this process becomes or starts, such as nats-server,
//!   which holds the same key; that it is not dumpable ends there. One byte and not none: Linux
//!   does not ask the limit before it pipes a core to a program, except for this value (core(5);
//!   read in `fs/coredump.c`).

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};

/// The limit that stops core files and pipes to programs alike.
const NO_CORE: u64 = 1;

/// Keeps this process's memory to itself, and core files from what it starts.
///
/// A system that refuses leaves a process that works all the same.
pub(crate) fn keep_memory_private() {
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    forgo_core_files();
}

/// Keeps core files from this process and what it becomes.
pub(crate) fn forgo_core_files() {
    // Nobody but root may raise a limit.
    let most = getrlimit(Resource::Core).maximum.map_or(NO_CORE, |most| most.min(NO_CORE));
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(most), maximum: Some(most) });
}
