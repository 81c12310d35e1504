//! The leaf's generated passwords are nowhere but in its own files.

use std::os::unix::fs::PermissionsExt as _;

use crate::common::Hub;
use crate::site::{Said, Site};

/// Every process with its arguments.
pub(crate) fn processes() -> Vec<(u32, String)> {
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let line = |pid: u32| {
        // One that ended meanwhile has no arguments.
        let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        (pid, String::from_utf8_lossy(&bytes).replace('\0', " "))
    };
    pids.map(line).collect()
}

#[tokio::test]
async fn passwords_are_in_no_log_status_or_argument() {
    let hub = Hub::start().await;
    let site = Site::at(&hub).await;
    let mut command = site.command("run");
    command.args(["--log", "trace"]);
    let log = site.path("run.log");
    let daemon = crate::site::Daemon::spawn(command, &log);
    crate::common::eventually("it answers", async || site.status()).await;
    site.delivers().await;
    let config = site.path("leaf/nats-server.conf");
    let mode = std::fs::metadata(&config).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "others may read the passwords: {mode:o}");
    let text = std::fs::read_to_string(config).unwrap();
    let passwords: Vec<_> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("password: \""))
        .map(|rest| rest.trim_end_matches('"').to_owned())
        .collect();
    assert_eq!(passwords.len(), 2);
    let own = site.dir.path().display().to_string();
    let mine: Vec<_> = processes().into_iter().filter(|(_, line)| line.contains(&own)).collect();
    assert!(mine.len() >= 2, "daemon and leaf: {mine:?}");
    let shown = [
        format!("{:?}", processes()),
        site.status().unwrap().to_string(),
        Said::of(site.command("tags").arg("--json")).out,
        Said::of(&mut site.command("status")).out,
    ];
    daemon.stop().await;
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "the whole log is looked at");
    for password in &passwords {
        for text in shown.iter().chain([&log]) {
            assert!(!text.contains(password), "a password is shown");
        }
    }
}
