//! Signed updates, and the keys that sign them.
//!
//! # Invariants
//! - Development keys are made in the target directory and nowhere else; production keys are a folder
//!   that is named, and are only read.
//! - A bundle says for which gateways it is; another architecture refuses it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::slot::Slot;
use super::tools;
use crate::shell;
use crate::workspace::Workspace;

/// Ten years: a bundle's signature is judged by when it was made, a keyring is replaced by updates.
const DAYS: &str = "3650";

/// The files of a folder of keys.
pub(super) struct Keys {
    /// Certificates that gateways trust (`keyring.pem`).
    pub(super) keyring: PathBuf,
    /// The signer's certificate (`signer.pem`).
    certificate: PathBuf,
    /// The signer's key, or what names it in a hardware token (`signer.key`).
    key: PathBuf,
}

impl Keys {
    /// The keys of a folder, or development keys where none is named.
    pub(super) fn provide(workspace: &Workspace, named: Option<&Path>) -> anyhow::Result<Self> {
        let folder = match named {
            Some(folder) => folder.to_owned(),
            None => workspace.target.join("appliance").join("keys"),
        };
        let keys = Self {
            keyring: folder.join("keyring.pem"),
            certificate: folder.join("signer.pem"),
            key: folder.join("signer.key"),
        };
        let missing =
            [&keys.keyring, &keys.certificate, &keys.key].into_iter().find(|file| !file.exists());
        match (missing, named) {
            (None, _) => Ok(keys),
            (Some(missing), Some(_)) => bail!(
                "{} is missing; a folder of keys holds keyring.pem, signer.pem and signer.key",
                missing.display()
            ),
            (Some(_), None) => keys.make(&folder).map(|()| keys),
        }
    }

    /// Makes an authority for development and a signer of it.
    fn make(&self, folder: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(folder)?;
        shell::say(
            "making development keys for updates; gateways with them take anybody's who has them",
        );
        let authority = folder.join("authority.key");
        let mut command = openssl(&["req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt"]);
        command.args(["ec_paramgen_curve:P-256", "-days", DAYS, "-subj"]);
        command.arg("/O=Tidegate development/CN=Updates of development images");
        command.args(["-addext", "basicConstraints=critical,CA:true"]);
        command.args(["-addext", "keyUsage=critical,keyCertSign,cRLSign"]);
        command.arg("-keyout").arg(&authority).arg("-out").arg(&self.keyring);
        shell::run("make the development authority", &mut command)?;

        let request = folder.join("signer.csr");
        let mut command = openssl(&["req", "-new", "-nodes", "-newkey", "ec", "-pkeyopt"]);
        command.args(["ec_paramgen_curve:P-256", "-subj", "/O=Tidegate development/CN=Signer"]);
        command.arg("-keyout").arg(&self.key).arg("-out").arg(&request);
        shell::run("make the signer's key", &mut command)?;

        let extensions = folder.join("signer.ext");
        std::fs::write(
            &extensions,
            "basicConstraints=critical,CA:false\nkeyUsage=critical,digitalSignature\n\
             extendedKeyUsage=codeSigning,emailProtection\n",
        )?;
        let mut command = openssl(&["x509", "-req", "-days", DAYS, "-CAcreateserial"]);
        command
            .arg("-in")
            .arg(&request)
            .arg("-CA")
            .arg(&self.keyring)
            .arg("-CAkey")
            .arg(&authority);
        command.arg("-extfile").arg(&extensions).arg("-out").arg(&self.certificate);
        shell::run("sign the signer's certificate", &mut command)
    }
}

fn openssl(arguments: &[&str]) -> std::process::Command {
    let mut command = tools::command("openssl");
    command.args(arguments).stderr(std::process::Stdio::null());
    command
}

/// Packs both files of a slot as a signed bundle.
pub(super) fn pack(
    slot: &Slot,
    keys: &Keys,
    compatible: &str,
    version: &str,
    work: &Path,
    to: &Path,
) -> anyhow::Result<()> {
    let folder = work.join("bundle");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    for (file, name) in [(&slot.root, "rootfs.img"), (&slot.boot, "boot.img")] {
        let to = folder.join(name);
        if std::fs::hard_link(file, &to).is_err() {
            std::fs::copy(file, &to).with_context(|| format!("{name} not copied"))?;
        }
    }
    std::fs::write(folder.join("manifest.raucm"), manifest(compatible, version))?;
    // rauc refuses to write over a bundle.
    let part = to.with_extension("raucb.part");
    let _ = std::fs::remove_file(&part);
    let mut command = tools::command("rauc");
    command.arg("bundle").arg("--cert").arg(&keys.certificate).arg("--key").arg(&keys.key);
    command.arg("--keyring").arg(&keys.keyring).arg(&folder).arg(&part);
    shell::run("sign the update", &mut command)?;
    std::fs::rename(&part, to).with_context(|| format!("{} not made", to.display()))?;
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

fn manifest(compatible: &str, version: &str) -> String {
    format!(
        "[update]\ncompatible={compatible}\nversion={version}\n\n[bundle]\nformat=verity\n\n\
         [image.rootfs]\nfilename=rootfs.img\n\n[image.boot]\nfilename=boot.img\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_brings_the_root_together_with_what_starts_it() {
        let text = manifest("tidegate-x86_64", "1");
        assert!(text.contains("compatible=tidegate-x86_64") && text.contains("format=verity"));
        assert!(text.contains("[image.rootfs]") && text.contains("[image.boot]"));
    }
}
