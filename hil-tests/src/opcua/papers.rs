//! Certificates for OPC UA, made by `plc/opcua_papers.py`: RSA, which the rig's other papers are not.

use std::path::{Path, PathBuf};

use anyhow::ensure;

use crate::field::Site;
use crate::papers::Paper;
use crate::tools;

/// A folder of certificates with their keys.
#[derive(Debug)]
pub struct OpcUaPapers {
    directory: PathBuf,
}

impl OpcUaPapers {
    /// An empty one.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(site: &Site) -> anyhow::Result<Self> {
        let directory = site.path("papers");
        std::fs::create_dir_all(&directory)?;
        Ok(Self { directory })
    }

    /// A certificate with these options of `plc/opcua_papers.py`; returns its SHA-256.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn issue(&self, site: &Site, name: &str, options: &[&str]) -> anyhow::Result<String> {
        let mut command = site.family.command(tools::python()?);
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("plc/opcua_papers.py"));
        command.arg("--out").arg(&self.directory).args(["--name", name]).args(options);
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{name} was not issued: {said}");
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// Where a certificate and its key are.
    #[must_use]
    pub fn paper(&self, name: &str) -> Paper {
        Paper { cert: self.file(name, "pem"), key: self.file(name, "key") }
    }

    /// A file of it: `pem`, `der`, `key` or `crl`.
    #[must_use]
    pub fn file(&self, name: &str, kind: &str) -> PathBuf {
        self.directory.join(format!("{name}.{kind}"))
    }

    /// The options of a server that shows this one.
    #[must_use]
    pub fn shown(&self, name: &str) -> [String; 4] {
        let path = |kind| self.file(name, kind).to_string_lossy().into_owned();
        ["--cert".to_owned(), path("pem"), "--key".to_owned(), path("key")]
    }
}
