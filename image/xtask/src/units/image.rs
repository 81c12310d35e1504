//! What the image's own services must not be locked up with, because their work would not be seen.
//!
//! # Invariants
//! - A service that mounts or unmounts for others has the system's own mounts: with mounts of its
//!   own (systemd.exec(5): its mounts are not propagated back) rauc would find no stick, and what
//!   provisioning unmounts would stay. A command's `+` does not help: it is given mounts all the same.
//! - A service before `systemd-tmpfiles-setup.service` does not wait for it, as `PrivateTmp=` has it.
//! - Every service is gated, and none but the development shell keeps rights that nothing asks for.

use super::consistent::values;
use super::score::LIMITS;
use super::stage::Texts;

/// What mounts, or unmounts, for the whole system.
const MOUNTING: [&str; 3] =
    ["tidegate-configuration.service", "tidegate-provision.service", "tidegate-stick@x.service"];

/// What gives a service mounts of its own, by systemd.exec(5) and systemd 252's
/// `exec_needs_mount_namespace`. `ProtectKernelModules=` and `PrivateIPC=` are easily overlooked.
const OWN_MOUNTS: [&str; 29] = [
    "BindPaths",
    "BindReadOnlyPaths",
    "DynamicUser",
    "ExecPaths",
    "ExtensionDirectories",
    "ExtensionImages",
    "IPCNamespacePath",
    "InaccessiblePaths",
    "LogNamespace",
    "MountAPIVFS",
    "MountFlags",
    "MountImages",
    "NoExecPaths",
    "PrivateDevices",
    "PrivateIPC",
    "PrivateMounts",
    "PrivateTmp",
    "PrivateUsers",
    "ProcSubset",
    "ProtectControlGroups",
    "ProtectHome",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "ProtectProc",
    "ProtectSystem",
    "ReadOnlyPaths",
    "ReadWritePaths",
    "RootDirectory",
];

/// A shell of root's without a login; what could be locked of it would not be a shell of root's.
const OPEN: &str = "tidegate-development-shell.service";

/// Each of these stands in every other service.
const EVERYWHERE: [(&str, &str); 6] = [
    ("NoNewPrivileges", "yes"),
    ("AmbientCapabilities", ""),
    ("LimitCORE", "0"),
    ("RestrictNamespaces", "yes"),
    ("MemoryDenyWriteExecute", "yes"),
    ("SystemCallArchitectures", "native"),
];

/// Everything that cannot be as it is, in a sentence.
pub(super) fn check(texts: &Texts) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, text) in texts {
        if !LIMITS.iter().any(|limit| limit.unit == name) {
            wrong.push(format!("nothing is promised of {name}; add it to LIMITS"));
        }
        if MOUNTING.contains(&name.as_str()) {
            let own = OWN_MOUNTS.iter().filter(|key| values(text, key).next().is_some());
            wrong.extend(own.map(|key| {
                format!("{name} mounts for others, and {key}= would give it mounts of its own")
            }));
        }
        let waited_for = values(text, "Before").flat_map(str::split_whitespace);
        let is_early = waited_for.into_iter().any(|unit| unit == "systemd-tmpfiles-setup.service");
        if is_early && values(text, "PrivateTmp").next().is_some() {
            wrong.push(format!(
                "{name} is before systemd-tmpfiles-setup.service, which PrivateTmp= waits for"
            ));
        }
        if name != OPEN {
            let lacks = EVERYWHERE.iter().filter(|(key, is)| values(text, key).last() != Some(*is));
            wrong.extend(lacks.map(|(key, is)| format!("{name} lacks {key}={is}")));
        }
    }
    let missing = MOUNTING.iter().filter(|name| !texts.contains_key(**name));
    wrong.extend(missing.map(|name| format!("there is no {name}; correct MOUNTING")));
    wrong
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::stage;
    use super::*;

    fn shipped() -> Texts {
        stage::read_image(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).unwrap()
    }

    /// What is found after a line was added to a service.
    fn with(service: &str, line: &str) -> String {
        let mut texts = shipped();
        let text = texts.get_mut(service).unwrap();
        *text = text.replace("[Service]\n", &format!("[Service]\n{line}\n"));
        check(&texts).join("\n")
    }

    #[test]
    fn the_shipped_units_can_be_as_they_are() {
        assert_eq!(check(&shipped()), Vec::<String>::new());
    }

    #[test]
    fn a_lock_that_would_hide_a_mount_from_others_is_found() {
        for service in MOUNTING {
            let said = with(service, "ProtectKernelModules=yes");
            let expected = "and ProtectKernelModules= would give it mounts of its own";
            assert!(said.contains(service) && said.contains(expected), "{said}");
        }
        assert_eq!(with("tidegate-boot.service", "PrivateMounts=yes"), "");
    }

    #[test]
    fn a_lock_that_would_have_a_service_wait_for_what_waits_for_it_is_found() {
        let said = with("tidegate-reset.service", "PrivateTmp=yes");
        assert!(said.starts_with("tidegate-reset.service is before systemd-tmpfiles"), "{said}");
    }

    #[test]
    fn a_lock_that_is_taken_away_and_a_service_that_nobody_gates_are_found() {
        let mut texts = shipped();
        let text = texts["tidegate-boot.service"].replace("NoNewPrivileges=yes\n", "");
        texts.insert("tidegate-boot.service".to_owned(), text.clone());
        assert_eq!(check(&texts), ["tidegate-boot.service lacks NoNewPrivileges=yes"]);
        texts.insert("tidegate-new.service".to_owned(), text);
        assert!(check(&texts).join("\n").contains("nothing is promised of tidegate-new.service"));
    }
}
