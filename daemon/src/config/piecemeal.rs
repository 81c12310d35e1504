//! Reads a file without mistakes one table at a time, so that neither the tree of the file nor
//! what a report would need of each tag is ever held in memory as a whole.
//!
//! # Invariants
//! - A configuration from here is the one that reading the whole file gives.
//! - Whatever is wrong, or only unusual, gives `None`; reading the whole file then says what it is.

use std::collections::HashSet;
use std::path::Path;

use toml_span::Value as Toml;

use super::check::Sections;
use super::device::{Begun, device_of};
use super::fields::Checker;
use super::model::{Config, Device, Tag};
use super::overlap::meetings;
use super::pieces::{Kind, pieces};
use super::settings::Settings;
use super::syntax::Repaired;

/// A device whose tags are being read.
struct Open {
    begun: Begun,
    specs: Vec<tidegate_modbus::TagSpec>,
    tags: Vec<Tag>,
    may_overlap: Vec<bool>,
}

/// Reads a text that holds no mistake; `None` when it may hold one.
pub(super) fn read(directory: &Path, text: &str, settings: &Settings) -> Option<Config> {
    let nothing = Repaired::default();
    let mut checker = Checker::new(&nothing, settings);
    let sections = checker.sections_of(directory, text)?;
    let plant = sections.gateway.as_ref()?.plant.as_str().to_owned();
    let mut devices = Vec::new();
    let (mut names, mut paths) = (HashSet::new(), HashSet::new());
    let mut open: Option<Open> = None;
    for piece in pieces(text).filter(|piece| piece.kind != Kind::Rest) {
        let root = toml_span::parse(text.get(piece.range)?).ok()?;
        let device = only(&root, "device")?;
        match piece.kind {
            Kind::Rest => {}
            Kind::Device => {
                if let Some(open) = open.take() {
                    devices.push(checker.close(open)?);
                }
                let table = only_entry(device)?;
                // Tags as a list behind a key.
                if table.as_table()?.contains_key("tag") {
                    return None;
                }
                let begun = checker.begin_device(devices.len(), table, &plant);
                if !names.insert(begun.name()?.to_owned()) {
                    return None;
                }
                let (specs, tags, may_overlap) = (Vec::new(), Vec::new(), Vec::new());
                open = Some(Open { begun, specs, tags, may_overlap });
            }
            Kind::Tag => {
                let table = only_entry(only(device, "tag")?)?;
                let open = open.as_mut()?;
                let read = checker.tag(open.tags.len(), table, &open.begun);
                checker.fits_a_request(&read, open.begun.fields());
                let (spec, tag) = read.tag?;
                if !paths.insert(tag.path.clone()) {
                    return None;
                }
                open.specs.push(spec);
                open.tags.push(tag);
                open.may_overlap.push(read.allow_overlap);
            }
        }
        if !checker.mistakes.is_empty() {
            return None;
        }
    }
    if let Some(open) = open {
        devices.push(checker.close(open)?);
    }
    let config = sections.with(Some(devices))?;
    checker.mistakes.is_empty().then_some(config)
}

impl Checker<'_> {
    /// Everything but the devices: the other sections, put together again.
    fn sections_of(&mut self, directory: &Path, text: &str) -> Option<Sections> {
        let rest = pieces(text).filter(|piece| piece.kind == Kind::Rest);
        let rest = rest.filter_map(|piece| text.get(piece.range)).collect::<String>();
        let root = toml_span::parse(&rest).ok()?;
        if root.as_table()?.contains_key("device") {
            return None;
        }
        let sections = self.sections(&root, directory);
        self.mistakes.is_empty().then_some(sections)
    }

    fn close(&mut self, open: Open) -> Option<Device> {
        let Open { begun, specs, tags, may_overlap } = open;
        let each = specs.iter().zip(&may_overlap).enumerate();
        let each = each.map(|(index, (spec, allowed))| (index, spec, *allowed));
        if tags.is_empty() || !meetings(each).is_empty() {
            return None;
        }
        let spec = self.device_spec(&begun)?;
        self.mistakes.is_empty().then(|| device_of(spec, specs, tags))
    }
}

/// The value of a table that has this key and no other.
fn only<'t>(table: &'t Toml<'t>, key: &str) -> Option<&'t Toml<'t>> {
    let table = table.as_table()?;
    if table.len() == 1 { table.get(key) } else { None }
}

/// The one entry of a list.
fn only_entry<'t>(list: &'t Toml<'t>) -> Option<&'t Toml<'t>> {
    match list.as_array()?.as_slice() {
        [one] => Some(one),
        _ => None,
    }
}
