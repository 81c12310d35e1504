//! What a finished program is found to be: its size, what it needs, and whether it works.
//!
//! # Invariants
//! - A program for another machine, with a fixed address, with symbols or for a newer C library is
//!   refused. One that is larger than wished for is told, and refused only beyond the limit.

use std::path::Path;

use anyhow::{Context as _, ensure};

use super::build::Variant;
use super::targets::Targets;
use super::{elf, essential, read};
use crate::arch::Arch;
use crate::figures::Figure;
use crate::workspace::Workspace;

/// Who judges the programs of one architecture.
#[derive(Clone, Copy)]
pub(crate) struct Judge<'a> {
    pub(crate) workspace: &'a Workspace,
    pub(crate) targets: &'a Targets,
    pub(crate) arch: Arch,
}

impl Judge<'_> {
    /// What was found of a program, after it did its essential work.
    pub(crate) fn figures(self, variant: Variant, shipped: &Path) -> anyhow::Result<Vec<Figure>> {
        let bytes = read(shipped)?;
        let mut figures = self
            .measure(variant, &bytes)
            .with_context(|| format!("{} is not as it must be", shipped.display()))?;
        let program = essential::Program::new(shipped, self.targets.of(self.arch)?)?;
        let samples = essential::test(self.workspace, &program)?;
        let what = format!("{}, tried out", self.named(variant));
        figures.push(Figure::told(what, format!("{samples} samples")));
        Ok(figures)
    }

    fn measure(self, variant: Variant, bytes: &[u8]) -> anyhow::Result<Vec<Figure>> {
        let program = elf::read(bytes)?;
        let word = self.arch.word();
        ensure!(program.arch == Some(self.arch), "it is for {:?}, not for {word}", program.arch);
        ensure!(program.is_position_independent, "it has a fixed address; link it as one without");
        ensure!(program.is_stripped, "it still has its symbols; strip it");
        let floor = self.targets.glibc;
        let asked = program.glibc.context("it asks for no C library")?;
        ensure!(asked <= floor, "it asks for the C library {asked}, promised is {floor}");
        let (size, named) = (u64::try_from(bytes.len())?, self.named(variant));
        let size = match variant {
            Variant::Gateway => {
                let limit = self.targets.gateway_limit;
                ensure!(size <= limit, "it has {size} bytes; the limit is {limit}");
                Figure::bytes_at_most(&*named, size, self.targets.gateway_bytes)
            }
            Variant::Tools => Figure::bytes(&*named, size),
        };
        let asked = Figure {
            what: format!("{named}, C library"),
            found: asked.to_string(),
            asked: format!("<= {floor}"),
            holds: Some(true),
        };
        let libraries = Figure::told(format!("{named}, libraries"), program.libraries.join(" "));
        Ok(vec![size, asked, libraries])
    }

    /// A variant as the table names it.
    pub(crate) fn named(self, variant: Variant) -> String {
        format!("{}, {}", variant.file(), self.arch.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_for_another_machine_or_with_symbols_is_refused() {
        let own = read(&std::env::current_exe().unwrap()).unwrap();
        let own_arch = elf::read(&own).unwrap().arch;
        let workspace = Workspace {
            root: "/nowhere".into(),
            target: "/nowhere/target".into(),
            packages: Vec::new(),
        };
        let targets = Targets::load().unwrap();
        for arch in Arch::ALL {
            let judge = Judge { workspace: &workspace, targets: &targets, arch };
            let refused = judge.measure(Variant::Gateway, &own).unwrap_err().to_string();
            let expected = if own_arch == Some(arch) { "strip it" } else { "not for" };
            assert!(refused.contains(expected), "{refused}");
        }
    }
}
