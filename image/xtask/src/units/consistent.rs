//! The files in `systemd/` agree with each other: what one names, another makes.
//!
//! # Invariants
//! - A user that a unit runs as is made by sysusers, a folder that it needs by tmpfiles.
//! - What can be enabled is named by the preset, and nothing else is.
//! - No service gives up, dumps its memory, or keeps a right of root's.
//! - A command may be executed where it is started, and its variables are where systemd sees them.

use std::collections::BTreeSet;
use std::path::Path;

use super::score::LIMITS;
use super::stage::{Texts, is_unit};

/// Each of these stands in every service.
const EVERYWHERE: [(&str, &str); 6] = [
    ("StartLimitIntervalSec", "0"),
    ("NoNewPrivileges", "yes"),
    ("CapabilityBoundingSet", ""),
    ("LimitCORE", "0"),
    ("ProtectSystem", "strict"),
    ("SystemCallArchitectures", "native"),
];

/// Folders that systemd or the system makes.
const GIVEN: [&str; 1] = ["/var/lib"];

/// Every contradiction, in a sentence.
pub(super) fn check(texts: &Texts) -> Vec<String> {
    let mut wrong = Vec::new();
    let made = made_folders(texts);
    let users = users(texts);
    for (name, text) in texts.iter().filter(|(name, _)| is_unit(name)) {
        for folder in named_folders(text) {
            if !made.contains(folder) && !GIVEN.contains(&folder) {
                wrong
                    .push(format!("{name} needs {folder}, and tidegate.tmpfiles does not make it"));
            }
        }
        if !name.ends_with(".service") {
            continue;
        }
        for user in values(text, "User") {
            if !users.contains(user) {
                wrong
                    .push(format!("{name} runs as {user}, and tidegate.sysusers does not make it"));
            }
        }
        if values(text, "User").next().is_none() {
            wrong.push(format!("{name} runs as root; give it User="));
        }
        for (key, value) in EVERYWHERE {
            if values(text, key).last() != Some(value) {
                wrong.push(format!("{name} lacks {key}={value}"));
            }
        }
        wrong.extend(commands(text).into_iter().map(|said| format!("{name}: {said}")));
        if !LIMITS.iter().any(|limit| limit.unit == name) {
            wrong.push(format!("nothing is promised of {name}; add it to LIMITS"));
        }
    }
    wrong.extend(presets(texts));
    wrong
}

/// What is wrong with the commands of a service.
fn commands(text: &str) -> Vec<String> {
    let is_shut = values(text, "NoExecPaths").any(|paths| paths == "/");
    let open: Vec<&str> = values(text, "ExecPaths").flat_map(str::split_whitespace).collect();
    let may_run =
        |program: &str| !is_shut || open.iter().any(|path| Path::new(program).starts_with(path));
    let mut wrong = Vec::new();
    for key in ["ExecStart", "ExecStartPre", "ExecReload", "ExecStop"] {
        for command in values(text, key) {
            let program = command.split_whitespace().next().unwrap_or_default();
            // With a plus the command stands outside of the locks.
            if !program.starts_with('+') && !may_run(program) {
                wrong.push(format!("{key} runs {program}, which ExecPaths shuts out"));
            }
            // systemd.service(5): `$NAME` is a variable as a word of its own only.
            let is_quoted = command.contains('\'');
            let is_lost = |word: &str| word.contains("=$") && !word.contains("${");
            if !is_quoted && let Some(word) = command.split_whitespace().find(|word| is_lost(word))
            {
                wrong.push(format!("{key} passes {word} on as it is; write ${{…}}"));
            }
        }
    }
    wrong
}

fn presets(texts: &Texts) -> Vec<String> {
    let preset = texts.get("90-tidegate.preset").map_or("", String::as_str);
    let enabled: BTreeSet<&str> =
        preset.lines().filter_map(|line| line.strip_prefix("enable ")).map(str::trim).collect();
    let can_be: BTreeSet<&str> = texts
        .iter()
        .filter(|(name, text)| is_unit(name) && text.lines().any(|line| line == "[Install]"))
        .map(|(name, _)| name.as_str())
        .collect();
    let differ = enabled.symmetric_difference(&can_be);
    differ.map(|unit| format!("{unit} has [Install] or stands in the preset, not both")).collect()
}

/// What is written behind a key, in order.
pub(super) fn values<'t>(text: &'t str, key: &'t str) -> impl Iterator<Item = &'t str> {
    text.lines().filter_map(move |line| line.strip_prefix(key)?.strip_prefix('='))
}

/// Folders that must be there before a unit of this text starts.
fn named_folders(text: &str) -> impl Iterator<Item = &str> {
    let credentials = ["LoadCredential", "LoadCredentialEncrypted"]
        .into_iter()
        .flat_map(|key| values(text, key))
        .filter_map(|value| value.split_once(':').map(|(_, path)| path));
    let files = ["PathChanged", "PathExists", "ConditionPathExists"]
        .into_iter()
        .flat_map(|key| values(text, key))
        .filter_map(|path| path.rsplit_once('/').map(|(folder, _)| folder));
    let written = ["ReadWritePaths", "RequiresMountsFor", "WorkingDirectory"]
        .into_iter()
        .flat_map(|key| values(text, key))
        .flat_map(str::split_whitespace)
        .map(|path| path.trim_start_matches('-'));
    credentials.chain(files).chain(written)
}

fn rows<'t>(texts: &'t Texts, file: &str) -> impl Iterator<Item = Vec<&'t str>> {
    let text = texts.get(file).map_or("", String::as_str);
    text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split_whitespace().collect())
}

fn made_folders(texts: &Texts) -> BTreeSet<&str> {
    let rows = rows(texts, "tidegate.tmpfiles").filter(|row| row.first() == Some(&"d"));
    rows.filter_map(|row| row.get(1).copied()).collect()
}

fn users(texts: &Texts) -> BTreeSet<&str> {
    let rows = rows(texts, "tidegate.sysusers").filter(|row| row.first() == Some(&"u"));
    rows.filter_map(|row| row.get(1).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::stage;
    use super::*;

    fn shipped() -> Texts {
        let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
        stage::read(&xtask.join("../..")).unwrap()
    }

    /// What is found after `from` became `to` in one file.
    fn after(file: &str, from: &str, to: &str) -> String {
        let mut texts = shipped();
        let text = texts.get_mut(file).unwrap();
        assert!(text.contains(from), "{file} has no {from:?}");
        *text = text.replace(from, to);
        check(&texts).join("\n")
    }

    #[test]
    fn the_shipped_files_agree() {
        assert_eq!(check(&shipped()), Vec::<String>::new());
    }

    #[test]
    fn what_is_named_and_not_made_is_found() {
        let tmpfiles = "tidegate.tmpfiles";
        let said = after(tmpfiles, "d /var/lib/tidegate/leaf/jetstream", "#");
        assert!(said.contains("tidegate-leaf.service needs /var/lib/tidegate/leaf/jetstream"));
        let said = after(tmpfiles, "/etc/tidegate/credentials.encrypted", "/etc/tidegate/x");
        assert!(said.contains("tidegate.service needs /etc/tidegate/credentials.encrypted"));
        let said = after("tidegate.sysusers", "u tidegate-leaf", "u tidegate-lea");
        assert!(said.contains("tidegate-leaf.service runs as tidegate-leaf"), "{said}");
    }

    #[test]
    fn a_lock_that_is_taken_away_is_found() {
        let said = after("tidegate.service", "StartLimitIntervalSec=0", "");
        assert_eq!(said, "tidegate.service lacks StartLimitIntervalSec=0");
        let said = after("tidegate-leaf.service", "CapabilityBoundingSet=", "#");
        assert_eq!(said, "tidegate-leaf.service lacks CapabilityBoundingSet=");
        let said = after("tidegate-leaf-restart.service", "User=tidegate\n", "");
        assert_eq!(said, "tidegate-leaf-restart.service runs as root; give it User=");
    }

    #[test]
    fn a_command_that_could_not_run_as_it_stands_is_found() {
        let said = after("tidegate.service", "ExecReload=+/bin/sh", "ExecReload=/bin/sh");
        assert_eq!(said, "tidegate.service: ExecReload runs /bin/sh, which ExecPaths shuts out");
        let said = after("tidegate-leaf.service", "${MAINPID}", "$MAINPID");
        assert!(said.contains("passes reload=$MAINPID on as it is"), "{said}");
    }

    #[test]
    fn what_can_be_enabled_and_is_not_named_by_the_preset_is_found() {
        let said = after("90-tidegate.preset", "enable tidegate-leaf.path\n", "");
        assert!(said.contains("tidegate-leaf.path has [Install]"), "{said}");
        let said = after("tidegate-leaf-restart.path", "[Install]", "");
        assert!(said.contains("tidegate-leaf-restart.path has [Install]"), "{said}");
    }

    #[test]
    fn the_drain_fits_into_the_time_that_a_stop_may_take() {
        // The daemon's `DrainPolicy`: 5 + 10 + 5 + 1 s, and a second for its threads.
        let texts = shipped();
        let stop = values(&texts["tidegate.service"], "TimeoutStopSec").next().unwrap();
        assert!(stop.parse::<u32>().unwrap() > 22);
    }
}
