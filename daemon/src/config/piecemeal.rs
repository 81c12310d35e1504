//! Reads a file without mistakes one table at a time, so that neither the tree of the file nor
//! what a report would need of each tag is ever held in memory as a whole.
//!
//! # Invariants
//! - A configuration from here is the one that reading the whole file gives.
//! - Whatever is wrong, or only unusual, gives `None`; reading the whole file then says what it is.

use std::collections::HashSet;
use std::path::Path;

use tidegate_translator::TagPath;
use toml_span::Value as Toml;

use super::check::{Loaded, Sections};
use super::device::{Begun, Fastest, Parts, device_of, faster, linked};
use super::fields::{Checker, Table};
use super::ingest::do_meet;
use super::keys::Family;
use super::link::Way;
use super::list::Source;
use super::model::Device;
use super::overlap::meetings;
use super::pieces::{Kind, pieces};
use super::profile::{Profile, Tags};
use super::settings::Settings;
use super::syntax::Repaired;
use super::tag::ReadTag;

/// A device whose tags are being read.
struct Open {
    begun: Begun,
    taken: Taken,
}

/// Its tags so far.
#[derive(Default)]
struct Taken {
    parts: Parts,
    /// Of the registers.
    may_overlap: Vec<bool>,
    fastest: Fastest,
}

impl Taken {
    /// Keeps what is kept of a tag; `false` when there is a mistake.
    fn take(&mut self, read: ReadTag, paths: &mut HashSet<TagPath>) -> bool {
        self.fastest = faster(self.fastest.take(), &read);
        if read.register().is_some() {
            self.may_overlap.push(read.allow_overlap);
        }
        let Some((understood, tag)) = read.tag else { return false };
        let is_new = paths.insert(tag.path.clone());
        self.parts.push(understood, tag);
        is_new
    }
}

/// The devices that are read, and what is compared between them.
#[derive(Default)]
struct Devices {
    done: Vec<Device>,
    ways: Vec<Option<Way>>,
    names: HashSet<String>,
    paths: HashSet<TagPath>,
}

/// Reads a text that holds no mistake; `None` when it may hold one.
pub(super) fn read(
    directory: &Path,
    text: &str,
    settings: &Settings,
    lists: &Source<'_>,
) -> Option<Loaded> {
    let nothing = Repaired::default();
    let mut checker = Checker::new(&nothing, settings, lists, directory);
    checker.stops = true;
    let sections = checker.sections_of(text)?;
    let plant = sections.gateway.as_ref()?.plant.as_str().to_owned();
    let profiles = checker.profiles_of(text)?;
    let mut devices = Devices::default();
    let mut open: Option<Open> = None;
    for piece in pieces(text) {
        match piece.kind {
            Kind::Rest | Kind::Profile | Kind::ProfileTag => continue,
            Kind::Device | Kind::Tag => {}
        }
        let root = toml_span::parse(text.get(piece.range)?).ok()?;
        if piece.kind == Kind::Device {
            if let Some(open) = open.take() {
                checker.close(open, &profiles, &mut devices)?;
            }
            let table = own_keys("device", &root)?;
            let begun = checker.begin_device(devices.done.len(), table, &plant, &profiles);
            if !devices.names.insert(begun.name()?.to_owned()) {
                return None;
            }
            open = Some(Open { begun, taken: Taken::default() });
        } else {
            let table = tag_of("device", &root)?;
            let open = open.as_mut()?;
            let path = format!("{}.tag[{}]", open.begun.fields().path, open.taken.parts.count());
            let read = checker.tag(path, Table::Toml(table), &open.begun, None);
            if !open.taken.take(read, &mut devices.paths) {
                return None;
            }
        }
        if !checker.mistakes.is_empty() {
            return None;
        }
    }
    if let Some(open) = open {
        checker.close(open, &profiles, &mut devices)?;
    }
    if do_meet(&devices.done) {
        return None;
    }
    checker.unused_profiles(&profiles);
    let links = checker.links(&devices.ways);
    if !checker.mistakes.is_empty() {
        return None;
    }
    let config = sections.with(Some(linked(devices.done, links)?))?;
    Some(Loaded { config, origins: checker.origins })
}

impl Checker<'_> {
    /// Everything but the devices: the other sections, put together again.
    fn sections_of(&mut self, text: &str) -> Option<Sections> {
        let rest = pieces(text).filter(|piece| piece.kind == Kind::Rest);
        let rest = rest.filter_map(|piece| text.get(piece.range)).collect::<String>();
        let root = toml_span::parse(&rest).ok()?;
        if root.as_table()?.keys().any(|key| matches!(&*key.name, "device" | "profile")) {
            return None;
        }
        let sections = self.sections(&root);
        self.mistakes.is_empty().then_some(sections)
    }

    /// The profiles; their tags stay text until a device takes them.
    fn profiles_of<'t>(&mut self, text: &'t str) -> Option<Vec<Profile<'t>>> {
        let mut profiles: Vec<Profile<'t>> = Vec::new();
        let mut names = HashSet::new();
        // Where the tags of the last profile begin.
        let mut begin = 0;
        for piece in pieces(text) {
            let source = text.get(piece.range.clone())?;
            match piece.kind {
                Kind::Rest | Kind::Device | Kind::Tag => {}
                Kind::Profile => {
                    let root = toml_span::parse(source).ok()?;
                    let table = own_keys("profile", &root)?;
                    let profile = self.begin_profile(profiles.len(), table);
                    if !names.insert(profile.name()?.to_owned()) {
                        return None;
                    }
                    profiles.push(profile);
                    begin = piece.range.end;
                }
                Kind::ProfileTag => {
                    profiles.last_mut()?.tags = Tags::Text(text.get(begin..piece.range.end)?);
                }
            }
        }
        self.mistakes.is_empty().then_some(profiles)
    }

    fn close(&mut self, open: Open, profiles: &[Profile<'_>], devices: &mut Devices) -> Option<()> {
        let Open { begun, mut taken } = open;
        let (paths, mut all) = (&mut devices.paths, true);
        let is_fed = begun.family() == Some(Family::Nats);
        let known = is_fed
            || self.more_tags(&begun, profiles, &mut |_, read| {
                all &= taken.take(read, paths);
            });
        let Taken { parts, may_overlap, fastest } = taken;
        let each = parts.registers.iter().zip(&may_overlap).enumerate();
        let each = each.map(|(index, (spec, allowed))| (index, spec, *allowed));
        let has_tags = is_fed || parts.count() > 0;
        if !known || !all || !has_tags || !meetings(each).is_empty() {
            return None;
        }
        let spec = self.device_spec(&begun, fastest)?;
        devices.ways.push(self.way_of(&begun));
        devices.done.push(device_of(spec, parts));
        self.mistakes.is_empty().then_some(())
    }
}

/// The table of a device or profile whose tags do not stand in it as a list.
fn own_keys<'t>(name: &str, root: &'t Toml<'t>) -> Option<&'t Toml<'t>> {
    let table = only_entry(only(root, name)?)?;
    (!table.as_table()?.contains_key("tag")).then_some(table)
}

/// The table of a tag that is parsed by itself.
pub(super) fn tag_of<'t>(of: &str, root: &'t Toml<'t>) -> Option<&'t Toml<'t>> {
    only_entry(only(only(root, of)?, "tag")?)
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
