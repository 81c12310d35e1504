//! The scripts and rules that the image ships, tried without an image.
//!
//! # Invariants
//! - GRUB's rules keep to the words that GRUB and sh share, but for `set`: here sh runs them.

use std::path::{Path, PathBuf};
use std::process::Command;

const GRUB: &str = include_str!("../../../grub/grub.cfg");

/// What GRUB's rules make of its words: the chosen slot, then the words as they are saved.
fn choose(words: &str) -> String {
    let (rules, _) = GRUB.split_once("set root=").unwrap();
    let rules: String = rules
        .lines()
        .map(|line| {
            let indent = line.len() - line.trim_start().len();
            let (indent, rest) = line.split_at(indent);
            format!("{indent}{}\n", rest.strip_prefix("set ").unwrap_or(rest))
        })
        .collect();
    let load = if words.is_empty() { "return 1".to_owned() } else { words.replace(';', "\n") };
    let script = format!(
        "regexp() {{ :; }}\nload_env() {{\n{load}\n}}\n\
         save_env() {{ echo \"$ORDER,$A_OK$A_TRY,$B_OK$B_TRY\" >&2; }}\n{rules}"
    );
    let output =
        Command::new("sh").args(["-ec", &script]).env("ORDER", "").env("cmdpath", "").output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8(output.stdout).unwrap();
    let slot = told.lines().last().unwrap().trim_start_matches("tidegate: slot ").to_owned();
    format!("{slot} {}", String::from_utf8(output.stderr).unwrap().trim())
}

fn words(order: &str, a: (u8, u8), b: (u8, u8)) -> String {
    format!("ORDER='{order}';A_OK={};A_TRY={};B_OK={};B_TRY={}", a.0, a.1, b.0, b.1)
}

#[test]
fn the_first_slot_of_the_order_starts_and_the_start_is_counted() {
    assert_eq!(choose(&words("A B", (1, 0), (1, 0))), "A, try 1 of 3 A B,11,10");
    assert_eq!(choose(&words("B A", (1, 0), (1, 0))), "B, try 1 of 3 B A,10,11");
    assert_eq!(choose(&words("B A", (1, 0), (1, 2))), "B, try 3 of 3 B A,10,13");
}

#[test]
fn after_three_starts_without_a_verdict_it_is_the_other_slots_turn() {
    assert_eq!(choose(&words("B A", (1, 0), (1, 3))), "A, try 1 of 3 B A,11,13");
}

#[test]
fn a_slot_that_may_not_start_is_passed_over() {
    assert_eq!(choose(&words("B A", (1, 0), (0, 0))), "A, try 1 of 3 B A,11,00");
}

#[test]
fn when_no_slot_has_tries_left_every_slot_begins_anew() {
    assert_eq!(choose(&words("B A", (1, 3), (1, 3))), "B, try 1 of 3 B A,10,11");
    assert_eq!(choose(&words("A B", (1, 3), (0, 0))), "A, try 1 of 3 A B,11,00");
    assert_eq!(choose(&words("A B", (0, 0), (0, 0))), "A, try 1 of 3 A B,11,10");
}

#[test]
fn without_readable_words_a_starts_and_nothing_is_saved() {
    assert_eq!(choose(""), "A, try 1 of 3 ");
}

#[test]
fn words_that_are_no_numbers_never_keep_the_machine_in_the_boot_loader() {
    let broken = "ORDER='A B';A_OK=1;A_TRY=x;B_OK=;B_TRY=9";
    assert_eq!(choose(broken), "A, try 1 of 3 A B,11,0");
}

fn scripts(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            scripts(&path, found);
        } else if std::fs::read_to_string(&path).is_ok_and(|text| text.starts_with("#!/bin/sh")) {
            found.push(path);
        }
    }
}

#[test]
fn every_shipped_script_is_one_that_sh_understands_and_can_be_started() {
    use std::os::unix::fs::PermissionsExt as _;

    let image = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    scripts(&image.join("root"), &mut found);
    found.push(image.join("initrd/init"));
    assert!(found.len() >= 6, "{found:?}");
    for script in found {
        let checked = Command::new("sh").arg("-n").arg(&script).status().unwrap();
        assert!(checked.success(), "{}", script.display());
        let mode = std::fs::metadata(&script).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{} cannot be started", script.display());
    }
}

/// The wrapper of grub-editenv as the image runs it, with Debian's own replaced by `real`.
fn editenv(folder: &Path, real: &str, arguments: &[&str]) -> bool {
    let wrapper = include_str!("../../../root/usr/local/bin/grub-editenv");
    let program = folder.join("real");
    std::fs::write(&program, format!("#!/bin/sh\n{real}\n")).unwrap();
    let script = wrapper.replace("/usr/bin/grub-editenv", &format!("'sh {}'", program.display()));
    let script = script.replace("\"$real\"", "$real");
    let mut command = Command::new("sh");
    command.args(["-c", &script, "grub-editenv"]).arg(folder.join("env")).args(arguments);
    command.status().unwrap().success()
}

#[test]
fn grubs_words_are_replaced_whole_and_the_copy_of_before_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    std::fs::write(folder.path().join("env"), "before").unwrap();
    assert!(editenv(folder.path(), "echo after > \"$1\"", &["set", "A=1"]));
    assert_eq!((read("env").as_str(), read("env.old").as_str()), ("after\n", "before"));
    // A writer that fails half-way leaves the words as they were.
    assert!(!editenv(folder.path(), ": > \"$1\"; exit 1", &["set", "A=2"]));
    assert_eq!((read("env").as_str(), read("env.old").as_str()), ("after\n", "before"));
    // Words that a power cut emptied come back from the copy before they are changed.
    std::fs::write(folder.path().join("env"), "").unwrap();
    assert!(editenv(folder.path(), "echo more >> \"$1\"", &["set", "A=3"]));
    assert_eq!(read("env"), "beforemore\n");
}

/// A machine made of a folder: the image's scripts see it as their root, and stubs note what they are
/// asked in `calls`.
struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    /// Booted from slot A with a build named `now`.
    fn new() -> Self {
        let machine = Self { folder: tempfile::tempdir().unwrap() };
        for folder in
            ["bin", "data/slots", "data/updates", "etc/tidegate", "run/tidegate-stick", "proc"]
        {
            std::fs::create_dir_all(machine.path(folder)).unwrap();
        }
        machine.write("proc/cmdline", "quiet rauc.slot=A tidegate.verity=now panic=10\n");
        machine.write("etc/tidegate/tidegate.toml", "");
        machine.stub("rauc", "");
        machine.stub("systemctl", "");
        machine.stub("mount", "");
        machine.stub("umount", "");
        machine.stub("tidegate", "echo 'nothing to do'");
        machine.stub("grub-editenv", "printf 'A_OK=1\\nB_OK=1\\n'");
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn stub(&self, name: &str, does: &str) {
        use std::os::unix::fs::PermissionsExt as _;

        let calls = self.path("calls");
        let text = format!("#!/bin/sh\necho \"{name} $*\" >> {}\n{does}\n", calls.display());
        let path = self.path("bin").join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs a script of `root/usr/lib/tidegate-image` and returns what it told.
    fn run(&self, script: &str, arguments: &[&str]) -> String {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let scripts = scripts.join("root/usr/lib/tidegate-image");
        let here = self.folder.path().display().to_string();
        let moved = |name: &str| {
            let text = std::fs::read_to_string(scripts.join(name)).unwrap();
            let text = text.replace("/usr/bin/tidegate", &format!("{here}/bin/tidegate"));
            let text = text.replace("/usr/lib/tidegate-image", &format!("{here}/bin"));
            ["/data/", "/etc/", "/run/", "/proc/cmdline"].iter().fold(text, |text, place| {
                // Only where a path begins.
                [" ", "\"", "<", "="].iter().fold(text, |text, before| {
                    text.replace(&format!("{before}{place}"), &format!("{before}{here}{place}"))
                })
            })
        };
        self.write("bin/slot", &moved("slot"));
        let path = format!("{here}/bin:{}", std::env::var("PATH").unwrap());
        let mut command = Command::new("sh");
        command.args(["-c", &moved(script), script]).args(arguments).env("PATH", path);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    }
}

#[test]
fn a_healthy_boot_is_marked_good_and_its_build_is_proven_from_then_on() {
    let machine = Machine::new();
    assert!(machine.run("boot-verdict", &[]).contains("tidegate-boot: slot=A good"));
    assert!(machine.read("calls").contains("rauc status mark-good"));
    assert_eq!(machine.read("data/slots/A"), "now\n");
}

#[test]
fn a_gateway_without_a_configuration_is_a_good_boot_and_is_not_asked() {
    let machine = Machine::new();
    std::fs::remove_file(machine.path("etc/tidegate/tidegate.toml")).unwrap();
    assert!(machine.run("boot-verdict", &[]).contains("good (not provisioned yet)"));
    assert!(!machine.read("calls").contains("tidegate appliance"));
}

#[test]
fn an_update_on_trial_that_is_not_healthy_goes_back_to_the_slot_that_was() {
    let machine = Machine::new();
    machine.stub("tidegate", "echo 'the leaf is down' >&2; exit 1");
    machine.write("data/slots/A", "the build before\n");
    machine.write("data/slots/B", "older\n");
    let told = machine.run("boot-verdict", &[]);
    assert!(told.contains("slot=A not healthy: the leaf is down"), "{told}");
    let calls = machine.read("calls");
    assert!(calls.contains("rauc status mark-bad\nsystemctl --no-block reboot"), "{calls}");
}

#[test]
fn a_proven_build_stays_and_so_does_one_with_nothing_to_go_back_to() {
    for (here, there) in [(Some("now\n"), Some("older\n")), (None, None)] {
        let machine = Machine::new();
        machine.stub("tidegate", "exit 1");
        for (slot, build) in [("A", here), ("B", there)] {
            if let Some(build) = build {
                machine.write(&format!("data/slots/{slot}"), build);
            }
        }
        assert!(machine.run("boot-verdict", &[]).contains("stays and is asked again"));
        let calls = machine.read("calls");
        assert!(!calls.contains("rauc") && !calls.contains("reboot"), "{calls}");
    }
}

#[test]
fn a_boot_that_lost_its_data_partition_is_not_healthy() {
    let machine = Machine::new();
    machine.write("run/tidegate-data-lost", "");
    assert!(machine.run("boot-verdict", &[]).contains("data partition could not be mounted"));
    assert!(!machine.read("calls").contains("mark-good"));
    machine.run("stick", &["/dev/x"]);
    assert!(!machine.read("calls").contains("provision"), "a token would be spent for nothing");
}

#[test]
fn a_bundle_on_a_stick_is_installed_once_and_the_machine_restarts_into_it() {
    let machine = Machine::new();
    machine.write("run/tidegate-stick/update.raucb", "");
    machine.stub("rauc", "[ \"$1\" != info ] || echo RAUC_MF_VERSION=2");
    let told = machine.run("stick", &["/dev/x"]);
    let installing = told.find("update: installing in slot B").unwrap();
    assert!(installing < told.find("update: installed in slot B").unwrap(), "{told}");
    assert!(told.ends_with("tidegate-stick: done\n"), "{told}");
    assert!(machine.read("run/tidegate-stick/tidegate-result.txt").contains("update: installed"));
    let calls = machine.read("calls");
    let umounted = calls.find("umount").unwrap();
    assert!(umounted < calls.find("systemctl --no-block reboot").unwrap(), "{calls}");
    assert!(calls.find("healthy --remember").unwrap() < calls.find("rauc install").unwrap());

    machine.write("calls", "");
    let told = machine.run("stick", &["/dev/x"]);
    assert!(told.contains("update: already taken (installed"), "{told}");
    assert!(!machine.read("calls").contains("rauc install"));
    assert!(!machine.read("calls").contains("reboot"));
}

#[test]
fn a_refused_bundle_is_told_with_the_reason_and_nothing_restarts() {
    let machine = Machine::new();
    machine.write("run/tidegate-stick/update.raucb", "");
    machine.stub(
        "rauc",
        "[ \"$1\" = install ] && echo 'LastError: signature verification failed'\nexit 1",
    );
    let told = machine.run("stick", &["/dev/x"]);
    assert!(told.contains("update: refused: signature verification failed"), "{told}");
    assert!(told.ends_with("tidegate-stick: done\n") && !machine.read("calls").contains("reboot"));
}

#[test]
fn what_was_provisioned_is_taken_at_once_and_a_reset_restarts() {
    for (told, call) in [
        ("changed", "systemctl --no-block reload-or-restart tidegate.service"),
        ("reset requested", "systemctl --no-block reboot"),
    ] {
        let machine = Machine::new();
        machine.stub("tidegate", &format!("echo '{told}'"));
        machine.run("stick", &["/dev/x"]);
        assert!(machine.read("calls").contains(call), "{told}");
    }
}
