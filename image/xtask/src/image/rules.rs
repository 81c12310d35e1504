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
