//! What several devices have in common.
//!
//! # Invariants
//! - A profile's own keys are read once, and what is wrong with them is told at the profile.
//! - Its tags are read for each device that uses it, because paths, intervals and limits are that
//!   device's; what is wrong with them for every device is told once.

use std::cell::Cell;
use std::collections::BTreeMap;

use toml_span::Value as Toml;

use super::device::{Begun, faster};
use super::fields::{Checker, Fields, Table};
use super::keys::{Family, Section};
use super::list::List;
use super::mistake::shorten;

/// One `[[profile]]`.
pub(super) struct Profile<'t> {
    pub(super) fields: Fields,
    pub(super) tls: Option<Fields>,
    pub(super) tags: Tags<'t>,
    pub(super) list: Option<List>,
    /// Whether a mistake keeps some of its tags from being known.
    pub(super) lost_tags: bool,
    /// Whether a device uses it.
    pub(super) used: Cell<bool>,
    /// Whether the mistakes of its list were counted.
    pub(super) counted: Cell<bool>,
}

/// The tags of a profile.
pub(super) enum Tags<'t> {
    /// With their numbers in the file.
    Trees(Vec<(usize, &'t Toml<'t>)>),
    /// The part of the file that they stand in, perhaps with other tables between them; parsed
    /// again for each device, because trees take twenty times the memory.
    Text(&'t str),
}

impl Profile<'_> {
    pub(super) fn name(&self) -> Option<&str> {
        self.fields.text("name")
    }
}

impl Checker<'_> {
    /// Every profile of the file.
    pub(super) fn profiles<'t>(&mut self, root: &'t Toml<'t>) -> Vec<Profile<'t>> {
        let mut out = Vec::new();
        let tables = self.tables(Section::Profile, &Fields::root(), root);
        for (index, table) in tables.into_iter().enumerate() {
            let start = table.span.start;
            let index = index + self.repaired.lost_headers("profile", 0..start);
            let mut profile = self.begin_profile(index, table);
            let tables = self.tables(Section::ProfileTag, &profile.fields, table);
            let numbered = tables.into_iter().enumerate().map(|(index, tag)| {
                let above = start..tag.span.start;
                (index + self.repaired.lost_headers("profile.tag", above), tag)
            });
            profile.tags = Tags::Trees(numbered.collect());
            profile.lost_tags |= self.repaired.lost_section("profile.tag");
            out.push(profile);
        }
        self.duplicate_profiles(&out);
        out
    }

    /// Reads the keys of one profile, and its list.
    pub(super) fn begin_profile<'t>(&mut self, index: usize, table: &Toml<'_>) -> Profile<'t> {
        let name = table.as_table().and_then(|t| t.get("name")).and_then(Toml::as_str);
        let context = name.map(|name| format!("profile {:?}", shorten(name)));
        let path = format!("profile[{index}]");
        let family = Table::Toml(table).text("protocol").and_then(Family::of);
        let tls = table.as_table().and_then(|table| table.get("tls")).and_then(|tls| {
            let (path, context) = (format!("{path}.tls"), context.clone());
            self.tls_of(family, Section::ProfileTls, path, tls, context)
        });
        let fields = self.fields(Section::Profile, path, Table::Toml(table), context, None, family);
        let list = self.list(&fields);
        let lost_tags = list.is_none() && fields.attempted("tag-list");
        let (used, counted) = (Cell::new(false), Cell::new(false));
        Profile { fields, tls, tags: Tags::Text(""), list, lost_tags, used, counted }
    }

    fn duplicate_profiles(&mut self, profiles: &[Profile<'_>]) {
        let mut first = BTreeMap::new();
        for profile in profiles {
            let Some(name) = profile.name() else { continue };
            let place = profile.fields.place("name");
            if let Some(other) = first.get(name) {
                let mistake = profile
                    .fields
                    .mistake("name", format!("another profile is called {name:?} already"))
                    .legal("a name that no other profile of this file has")
                    .other(Clone::clone(other), "first written here");
                self.mistakes.push(mistake);
            } else {
                first.insert(name, place);
            }
        }
    }

    /// Checks the profiles that no device uses, as far as that can be done without one.
    pub(super) fn unused_profiles(&mut self, profiles: &[Profile<'_>]) {
        for profile in profiles.iter().filter(|profile| !profile.used.get()) {
            let forbidden = self.forbidden(&profile.fields);
            let begun = Begun::unused(profile.fields.clone(), forbidden);
            let mut fastest = None;
            self.tags_of_profile(&begun, profile, &mut |_, tag| {
                fastest = faster(fastest.take(), &tag);
            });
            // Only for its mistakes; of what it may be for nobody knows.
            if begun.family().is_some() {
                let _ = self.device_spec(&begun, fastest);
            }
        }
    }
}
