//! Threads that run when nobody else wants to.
//!
//! # Invariants
//! - A thread lowers itself and never rises again. Linux keeps the priority of each thread apart
//!   (setpriority(2), "C library/kernel differences"), and the disk's follows it (ioprio_set(2)).

use std::thread::JoinHandle;

/// Takes questions and answers from memory: behind collection, before everything that reads the disk.
pub(super) const ASIDE: i32 = 5;
/// Reads the record: a sixty-eighth of a share where collection wants the processor as well.
pub(super) const LAST: i32 = 19;

/// Starts a thread with this priority.
///
/// # Errors
/// When the system has no room for one.
pub(super) fn spawn<T: Send + 'static>(
    name: &str,
    nice: i32,
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<JoinHandle<T>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        // A system that refuses leaves a thread that works all the same.
        let _ = rustix::process::setpriority_process(None, nice);
        work()
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_the_thread_itself_is_lowered() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let before = nice();
        let lowered = super::spawn("test", super::LAST, nice).unwrap().join().unwrap();
        assert_eq!((lowered, nice()), (super::LAST, before));
    }
}
