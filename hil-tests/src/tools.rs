//! Where the programs are that the rig starts. None is looked for in vain: what is missing is
//! named together with the command that provides it.

use std::path::{Path, PathBuf};

use anyhow::bail;

/// The gateway's binary.
///
/// # Errors
/// When it has not been built.
pub fn gateway() -> anyhow::Result<PathBuf> {
    find("TIDEGATE_BIN", "debug/tidegate", "cargo build --package tidegate")
}

/// The nats-server: the one that was fetched, else the one on PATH, as `cargo xtask setup` chooses.
///
/// # Errors
/// When there is none.
pub fn nats_server() -> anyhow::Result<PathBuf> {
    let fetched = find("TIDEGATE_NATS_SERVER", "tools/nats-server", "cargo xtask setup");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut on_path = std::env::split_paths(&path).map(|dir| dir.join("nats-server"));
    fetched.or_else(|missing| on_path.find(|program| program.exists()).ok_or(missing))
}

/// The folder with the packages and images of this machine's architecture.
///
/// # Errors
/// When nothing has been built.
pub fn appliance() -> anyhow::Result<PathBuf> {
    find("TIDEGATE_APPLIANCE", "appliance/x86_64", "cargo xtask deb x86_64")
}

/// A root of Debian that boots in a container.
///
/// # Errors
/// When it has not been made.
pub fn debian_root() -> anyhow::Result<PathBuf> {
    find("TIDEGATE_DEBIAN_ROOT", "tools/debian-root", "cargo xtask appliance")
}

/// A Python interpreter with pymodbus and asyncua.
///
/// # Errors
/// When it has not been set up.
pub fn python() -> anyhow::Result<PathBuf> {
    find("TIDEGATE_PYTHON", "tools/venv/bin/python3", "cargo xtask setup")
}

/// The libmodbus server, `plc/libmodbus_plc.c`.
///
/// # Errors
/// When it has not been built.
pub fn libmodbus_plc() -> anyhow::Result<PathBuf> {
    find("TIDEGATE_LIBMODBUS_PLC", "tools/libmodbus_plc", "cargo xtask setup")
}

/// Where jsmodbus is installed.
///
/// # Errors
/// When it has not been set up.
pub fn jsmodbus() -> anyhow::Result<PathBuf> {
    find("TIDEGATE_JSMODBUS", "tools/jsmodbus", "cargo xtask setup")
}

/// Where node-opcua is installed.
///
/// # Errors
/// When it has not been set up.
pub fn node_opcua() -> anyhow::Result<PathBuf> {
    find("TIDEGATE_NODE_OPCUA", "tools/node_opcua", "cargo xtask setup")
}

/// Where the official client of the Model Context Protocol is installed.
///
/// # Errors
/// When it has not been set up.
pub fn agent() -> anyhow::Result<PathBuf> {
    find("TIDEGATE_AGENT", "tools/agent", "cargo xtask setup")
}

/// A disk or an update that emulated machines are tried with, by the image's architecture and the
/// file's name.
///
/// # Errors
/// When it has not been made.
pub fn image(arch: &str, name: &str) -> anyhow::Result<PathBuf> {
    let named = std::env::var_os("TIDEGATE_IMAGES").filter(|named| !named.is_empty());
    let folder = named.map_or_else(|| target().join("appliance"), PathBuf::from);
    let file = folder.join(arch).join("machine").join(name);
    if !file.exists() {
        bail!("{} is missing; run: cargo xtask machine (or set TIDEGATE_IMAGES)", file.display());
    }
    Ok(file)
}

/// The library that gives one process another wall clock.
///
/// # Errors
/// When it is not installed.
pub fn faketime() -> anyhow::Result<PathBuf> {
    let named = std::env::var_os("TIDEGATE_FAKETIME").filter(|named| !named.is_empty());
    if let Some(named) = named.map(PathBuf::from) {
        return if named.exists() { Ok(named) } else { bail!("{} is missing", named.display()) };
    }
    // Debian and its kin have a directory for each architecture; others have one for all.
    let roots = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib"].map(PathBuf::from);
    let each = roots.iter().filter_map(|root| std::fs::read_dir(root).ok()).flatten().flatten();
    let places = roots.iter().cloned().chain(each.map(|entry| entry.path()));
    let mut found = places.flat_map(|place| {
        ["faketime/libfaketimeMT.so.1", "libfaketimeMT.so.1"].map(|name| place.join(name))
    });
    match found.find(|library| library.exists()) {
        Some(library) => Ok(library),
        None => bail!(
            "libfaketimeMT.so.1 is missing; run: cargo xtask setup, or install libfaketime (or set \
             TIDEGATE_FAKETIME to the library)"
        ),
    }
}

fn find(variable: &str, in_target: &str, remedy: &str) -> anyhow::Result<PathBuf> {
    let named = std::env::var_os(variable).filter(|named| !named.is_empty());
    let place = named.map_or_else(|| target().join(in_target), PathBuf::from);
    if !place.exists() {
        bail!("{} is missing; run: {remedy} (or set {variable})", place.display());
    }
    Ok(place)
}

/// The target directory: this test's own program lies in it, wherever it was moved by settings.
fn target() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let marked = own.ancestors().find(|directory| directory.join("CACHEDIR.TAG").exists());
    marked
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_remedy() {
        let error = find("TIDEGATE_NO_SUCH_VARIABLE", "no/such/tool", "cargo xtask setup");
        let error = error.unwrap_err().to_string();
        assert!(error.contains("no/such/tool") && error.contains("cargo xtask setup"), "{error}");
    }
}
