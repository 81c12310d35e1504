//! A root that holds the units, and of everything that they name as much as the checks look for.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::workspace::Workspace;

/// Where the files are, in the workspace.
pub(super) const FOLDER: &str = "systemd";

/// Where units are installed.
const INSTALLED: &str = "usr/lib/systemd/system";

/// Programs that the units start.
const PROGRAMS: [&str; 5] =
    ["usr/bin/tidegate", "usr/lib/tidegate/nats-server", "bin/rm", "bin/sh", "bin/systemctl"];

/// systemd's own units that ours name, or that it names for them.
const AROUND: [&str; 9] = [
    "basic.target",
    "local-fs.target",
    "multi-user.target",
    "network.target",
    "paths.target",
    "shutdown.target",
    "sysinit.target",
    "system.slice",
    "-.slice",
];

/// Every file of the folder, by its name.
pub(super) type Texts = BTreeMap<String, String>;

pub(super) struct Stage {
    pub(super) root: PathBuf,
    pub(super) texts: Texts,
}

impl Stage {
    /// Makes it anew.
    pub(super) fn make(workspace: &Workspace) -> anyhow::Result<Self> {
        let texts = read(&workspace.root)?;
        let root = workspace.target.join("units-root");
        if root.exists() {
            fs::remove_dir_all(&root).with_context(|| format!("{} stays", root.display()))?;
        }
        let stage = Self { root, texts };
        for program in PROGRAMS {
            stage.write(program, "#!/bin/true\n", 0o755)?;
        }
        for unit in AROUND {
            stage.write(&format!("{INSTALLED}/{unit}"), "[Unit]\n", 0o644)?;
        }
        for unit in stage.units() {
            stage.write(&format!("{INSTALLED}/{unit}"), &stage.texts[unit], 0o644)?;
        }
        Ok(stage)
    }

    /// The units among the files.
    pub(super) fn units(&self) -> impl Iterator<Item = &str> {
        self.texts.keys().map(String::as_str).filter(|name| is_unit(name))
    }

    fn write(&self, below: &str, text: &str, mode: u32) -> anyhow::Result<()> {
        let path = self.root.join(below);
        let folder = path.parent().unwrap_or(&self.root);
        let made = fs::create_dir_all(folder)
            .and_then(|()| fs::write(&path, text))
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)));
        made.with_context(|| format!("{} cannot be written", path.display()))
    }
}

/// Whether systemd loads it.
pub(super) fn is_unit(name: &str) -> bool {
    [".service", ".path"].iter().any(|kind| name.ends_with(kind))
}

/// Reads the folder.
pub(super) fn read(workspace: &Path) -> anyhow::Result<Texts> {
    let folder = workspace.join(FOLDER);
    let mut texts = Texts::new();
    let entries = fs::read_dir(&folder).with_context(|| format!("{FOLDER} is not readable"))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path)
            .with_context(|| format!("{FOLDER}/{name} is not readable"))?;
        texts.insert(name, text);
    }
    Ok(texts)
}
