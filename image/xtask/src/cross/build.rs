//! One release build of one variant, in any directory, so that the bytes do not depend on it.
//!
//! # Invariants
//! - What names this machine is renamed: the sources, the target directory, cargo's registry and
//!   the compiler's own sources.
//! - The symbols are split off into a file of their own, which reads a field's backtrace.
//! - A finished file is put in place whole, by a rename.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use super::targets::Target;
use super::toolchain::{Route, Toolchain};
use crate::arch::Arch;
use crate::shell;

/// What a program is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Variant {
    /// What runs on gateways
    Gateway,
    /// The same commands with everything for people, for engineers and hubs
    Tools,
}

impl Variant {
    /// The file's name among the artefacts.
    pub(crate) const fn file(self) -> &'static str {
        match self {
            Self::Gateway => "tidegate",
            Self::Tools => "tidegate-tools",
        }
    }
}

/// Where a build happens.
#[derive(Debug)]
pub(crate) struct Place {
    /// The workspace's sources.
    pub(crate) root: PathBuf,
    /// Its own target directory.
    pub(crate) target: PathBuf,
    /// Cargo's home, with the registry of sources.
    pub(crate) cargo_home: PathBuf,
}

/// Builds, and returns the program with its symbols.
pub(crate) fn build(
    place: &Place,
    toolchain: &Toolchain,
    arch: Arch,
    target: &Target,
    variant: Variant,
    epoch: &str,
) -> anyhow::Result<PathBuf> {
    let mut cargo = Command::new(&toolchain.cargo);
    cargo.current_dir(&place.root).args([
        "build",
        "--locked",
        "--release",
        "--package",
        "tidegate",
    ]);
    cargo.args(["--bin", "tidegate", "--target", arch.triple()]);
    if variant == Variant::Gateway {
        cargo.arg("--no-default-features");
    }
    for (name, _) in std::env::vars_os() {
        // What cargo set for this program, and what a person set for other builds.
        let text = name.to_string_lossy();
        let foreign = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_PROFILE_", "CARGO_BUILD_R"];
        if foreign.iter().any(|start| text.starts_with(start)) || text.ends_with("RUSTFLAGS") {
            cargo.env_remove(&name);
        }
    }
    cargo.env_remove("RUSTC").env_remove("RUSTC_WRAPPER").env_remove("RUSTC_WORKSPACE_WRAPPER");
    cargo.env("CARGO_HOME", &place.cargo_home).env("CARGO_TARGET_DIR", &place.target);
    // Stripped afterwards, to keep the symbols.
    cargo.env("CARGO_PROFILE_RELEASE_STRIP", "false").env("SOURCE_DATE_EPOCH", epoch);
    if let Some(rustc) = &toolchain.rustc {
        cargo.env("RUSTC", rustc);
    }
    if toolchain.route == Route::Cross {
        // It sets up toolchains: those of this machine are left alone.
        cargo.env("RUSTUP_HOME", place.target.join("rustup-home"));
        cargo.env("CARGO_HOME", place.target.join("cargo-home"));
    } else {
        cargo.env("CARGO_ENCODED_RUSTFLAGS", flags(place, toolchain, &target.flags));
        let c_flags = format!("CFLAGS_{}", arch.triple().replace('-', "_"));
        cargo.env(c_flags, c_flags_of(&registry(place)));
    }
    let what = format!("build {} for {}", variant.file(), arch.word());
    shell::run(&what, &mut cargo)?;
    let built = place.target.join(arch.triple()).join("release").join("tidegate");
    ensure!(built.exists(), "cargo built no {}", built.display());
    Ok(built)
}

/// The compiler's flags, as cargo takes them from its environment. Later ones win.
fn flags(place: &Place, toolchain: &Toolchain, more: &[String]) -> OsString {
    let rename = |from: &Path, to: &str| {
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(from);
        flag.push("=");
        flag.push(to);
        flag
    };
    let mut flags = vec![
        rename(&place.root, "/tidegate"),
        rename(&place.target, "/target"),
        rename(&registry(place), "/crates"),
    ];
    if let Some(sources) = &toolchain.sources {
        flags.push(rename(sources, "/rustc"));
    }
    if let Some(sysroot) = &toolchain.sysroot {
        let mut flag = OsString::from("--sysroot=");
        flag.push(sysroot);
        flags.push(flag);
    }
    flags.extend(more.iter().map(OsString::from));
    flags.join("\u{1f}".as_ref())
}

/// The C compiler's flags: it names its directory by the place that links lead to.
fn c_flags_of(registry: &Path) -> String {
    let real = std::fs::canonicalize(registry).unwrap_or_else(|_| registry.to_owned());
    [registry, &real].map(|path| format!("-ffile-prefix-map={}=/crates", path.display())).join(" ")
}

fn registry(place: &Place) -> PathBuf {
    place.cargo_home.join("registry").join("src")
}

/// Splits a program into the one that is shipped and its symbols, beside it as `NAME.debug`.
pub(crate) fn split(built: &Path, gnu: &str, shipped: &Path) -> anyhow::Result<()> {
    let folder = shipped.parent().context("a program lies in a folder")?;
    std::fs::create_dir_all(folder)
        .with_context(|| format!("{} cannot be made", folder.display()))?;
    let objcopy = |options: &[&str], to: &Path| {
        let scratch = to.with_extension("new");
        let mut command = Command::new(format!("{gnu}-objcopy"));
        command.args(options).arg(built).arg(&scratch);
        shell::run(&format!("write {}", to.display()), &mut command)?;
        std::fs::rename(&scratch, to)
            .with_context(|| format!("{} cannot be put in place", to.display()))
    };
    objcopy(&["--strip-all"], shipped)?;
    objcopy(&["--only-keep-debug"], &shipped.with_extension("debug"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_that_a_link_leads_to_is_renamed_for_the_c_compiler_as_well() {
        let directory = tempfile::tempdir().unwrap();
        let (real, link) = (directory.path().join("real"), directory.path().join("link"));
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let flags = c_flags_of(&link);
        for path in [&real, &link] {
            let path =
                path.parent().unwrap().canonicalize().unwrap().join(path.file_name().unwrap());
            assert!(flags.contains(&format!("={}=/crates", path.display())), "{flags}");
        }
    }

    #[test]
    fn nothing_of_the_place_is_left_unnamed_in_the_flags() {
        let place = Place {
            root: "/home/a/tidegate".into(),
            target: "/home/a/tidegate/target/cross".into(),
            cargo_home: "/home/a/.cargo".into(),
        };
        let toolchain = Toolchain {
            route: Route::Debian,
            cargo: "/usr/bin/cargo".into(),
            rustc: Some("/usr/bin/rustc".into()),
            sources: Some("/usr/lib/rustlib/src/rust".into()),
            sysroot: Some("/home/a/tidegate/target/tools/std/usr".into()),
            version: String::new(),
        };
        let flags = flags(&place, &toolchain, &["-Cx=y".to_owned()]).into_string().unwrap();
        let flags: Vec<_> = flags.split('\u{1f}').collect();
        assert_eq!(
            flags,
            [
                "--remap-path-prefix=/home/a/tidegate=/tidegate",
                "--remap-path-prefix=/home/a/tidegate/target/cross=/target",
                "--remap-path-prefix=/home/a/.cargo/registry/src=/crates",
                "--remap-path-prefix=/usr/lib/rustlib/src/rust=/rustc",
                "--sysroot=/home/a/tidegate/target/tools/std/usr",
                "-Cx=y",
            ]
        );
    }
}
