//! Licences and known vulnerabilities of everything that is built in.

use anyhow::bail;

use crate::workspace::Workspace;

pub(crate) fn run(_workspace: &Workspace) -> anyhow::Result<()> {
    bail!("cannot be done yet")
}
