//! A root that holds the units, the packages' and the image's own, and of everything that they name
//! as much as the checks look for.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::workspace::Workspace;

/// Where the packages' files are, in the workspace.
pub(super) const FOLDER: &str = "systemd";

/// Where the image's own units are, in the workspace: those of every image and of development's.
pub(super) const IMAGE_FOLDERS: [&str; 2] =
    ["image/root/usr/lib/systemd/system", "image/development/usr/lib/systemd/system"];

/// Where units are installed.
const INSTALLED: &str = "usr/lib/systemd/system";

/// Programs that the units start.
const PROGRAMS: [&str; 10] = [
    "usr/bin/tidegate",
    "usr/lib/tidegate/nats-server",
    "usr/lib/tidegate-image/boot-verdict",
    "usr/lib/tidegate-image/configuration-partition",
    "usr/lib/tidegate-image/grow-data",
    "usr/lib/tidegate-image/stick",
    "bin/rm",
    "bin/sh",
    "bin/systemctl",
    "bin/umount",
];

/// systemd's own units that ours name, or that it names for them.
const AROUND: [&str; 13] = [
    "basic.target",
    "dbus.service",
    "local-fs.target",
    "multi-user.target",
    "network.target",
    "paths.target",
    "rauc.service",
    "shutdown.target",
    "sysinit.target",
    "systemd-tmpfiles-setup.service",
    "systemd-udev-settle.service",
    "system.slice",
    "-.slice",
];

/// Every file of the folder, by its name.
pub(super) type Texts = BTreeMap<String, String>;

pub(super) struct Stage {
    pub(super) root: PathBuf,
    /// The packages' files.
    pub(super) texts: Texts,
    /// The image's own units.
    pub(super) image: Texts,
}

impl Stage {
    /// Makes it anew.
    pub(super) fn make(workspace: &Workspace) -> anyhow::Result<Self> {
        let texts = read(&workspace.root)?;
        let image = read_image(&workspace.root)?;
        let root = workspace.target.join("units-root");
        if root.exists() {
            fs::remove_dir_all(&root).with_context(|| format!("{} stays", root.display()))?;
        }
        let stage = Self { root, texts, image };
        for program in PROGRAMS {
            stage.write(program, "#!/bin/true\n", 0o755)?;
        }
        for unit in AROUND {
            stage.write(&format!("{INSTALLED}/{unit}"), stub(unit), 0o644)?;
        }
        for (unit, text) in stage.named() {
            stage.write(&format!("{INSTALLED}/{unit}"), text, 0o644)?;
        }
        Ok(stage)
    }

    /// The units among the files.
    pub(super) fn units(&self) -> impl Iterator<Item = &str> {
        self.named().map(|(name, _)| name.as_str())
    }

    fn named(&self) -> impl Iterator<Item = (&String, &String)> {
        self.texts.iter().chain(&self.image).filter(|(name, _)| is_unit(name))
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

/// As much of one of systemd's own units as it takes for systemd to load it.
fn stub(unit: &str) -> &'static str {
    if unit.ends_with(".service") {
        "[Service]\nType=oneshot\nExecStart=/bin/sh\n"
    } else {
        "[Unit]\n"
    }
}

/// Reads the packages' folder.
pub(super) fn read(workspace: &Path) -> anyhow::Result<Texts> {
    read_folder(workspace, FOLDER)
}

/// Reads the image's folders. A template gets an instance's name, as the checks ask for one.
pub(super) fn read_image(workspace: &Path) -> anyhow::Result<Texts> {
    let mut texts = Texts::new();
    for folder in IMAGE_FOLDERS {
        let units = read_folder(workspace, folder)?.into_iter();
        texts.extend(units.map(|(name, text)| (name.replace("@.", "@x."), text)));
    }
    Ok(texts)
}

fn read_folder(workspace: &Path, folder: &str) -> anyhow::Result<Texts> {
    let mut texts = Texts::new();
    let entries = fs::read_dir(workspace.join(folder))
        .with_context(|| format!("{folder} is not readable"))?;
    for entry in entries {
        let path = entry?.path();
        // Drop-ins for systemd's own units.
        if path.is_dir() {
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path)
            .with_context(|| format!("{folder}/{name} is not readable"))?;
        texts.insert(name, text);
    }
    Ok(texts)
}
