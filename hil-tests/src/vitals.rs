//! What a process takes of the machine, as the kernel counts it.

use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::family::Family;
use std::sync::Arc;

/// Processor time that it has used so far, in user and kernel mode.
///
/// # Errors
/// When it is gone.
pub fn cpu_time(id: u32) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    let (_, after) = stat.rsplit_once(") ").context("stat without a name")?;
    // From the third field on; user and system time are the 14th and the 15th.
    let mut fields = after.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let ticks = ticks().zip(ticks()).context("stat without times")?;
    // Linux counts for user space in hundredths of a second, whatever it does itself.
    Ok(Duration::from_millis((ticks.0 + ticks.1) * 10))
}

/// Memory that it holds now, and at most so far, in bytes.
///
/// # Errors
/// When it is gone.
pub fn memory(id: u32) -> anyhow::Result<(u64, u64)> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let bytes = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
    };
    bytes("VmRSS:").zip(bytes("VmHWM:")).context("status without memory")
}

/// How many files it has open.
///
/// # Errors
/// When it is gone.
pub fn open_files(id: u32) -> anyhow::Result<u64> {
    Ok(u64::try_from(std::fs::read_dir(format!("/proc/{id}/fd"))?.count())?)
}

/// Limits how many files a running process may have open; those that it has stay open.
///
/// # Errors
/// When the system refuses.
pub fn limit_open_files(family: &Arc<Family>, id: u32, most: u64) -> anyhow::Result<()> {
    let mut command = family.command("prlimit");
    command.args(["--pid", &id.to_string(), &format!("--nofile={most}:")]);
    let output = command.output()?;
    if !output.status.success() {
        bail!("prlimit: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_works_uses_time_memory_and_files() {
        let own = std::process::id();
        let before = cpu_time(own).unwrap();
        while cpu_time(own).unwrap() == before {}
        let (now, most) = memory(own).unwrap();
        assert!(now > 100_000 && most >= now);
        let open = open_files(own).unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(open_files(own).unwrap() > open);
        drop(file);
    }
}
