//! The tags of a device that do not stand below it in the file: those of its list, of its profile,
//! and of the profile's list.

use super::device::Begun;
use super::fields::{Checker, Fields, Table};
use super::list::{Item, List, MAX_LIST_BYTES};
use super::mistake::{Mistake, Place};
use super::piecemeal::tag_of;
use super::pieces::{Kind, pieces};
use super::profile::{Profile, Tags};
use super::size;
use super::tag::ReadTag;

/// How many mistakes of one list are kept while it is read; the first of them are told.
const KEPT_OF_A_LIST: usize = 1000;

impl Checker<'_> {
    /// The tags of a device that do not stand below it: those of its list, of its profile, and of
    /// the profile's list. `false` when a mistake keeps some of them from being known.
    pub(super) fn more_tags(
        &mut self,
        begun: &Begun,
        profiles: &[Profile<'_>],
        each: &mut dyn FnMut(&mut Self, ReadTag),
    ) -> bool {
        let fields = begun.fields();
        let mut known = true;
        let instead = self.lists.instead.filter(|instead| begun.name() == Some(instead.device));
        let list = if let Some(instead) = instead {
            let path = format!("{}.tag-list", fields.path);
            let (list, mut mistakes) = List::new(instead.file, path, instead.bytes.to_vec());
            self.mistakes.append(&mut mistakes);
            known = list.is_some();
            list
        } else {
            let list = self.list(fields);
            known &= list.is_some() || !fields.attempted("tag-list");
            list
        };
        if let Some(list) = &list {
            known &= self.rows(begun, list, None, true, each);
        }
        let Some(profile) = begun.profile().and_then(|index| profiles.get(index)) else {
            return known && !fields.attempted("profile");
        };
        self.tags_of_profile(begun, profile, each) && known && !profile.lost_tags
    }

    /// The tags of a profile, read for one device. `false` when a row of its list is none.
    pub(super) fn tags_of_profile(
        &mut self,
        begun: &Begun,
        profile: &Profile<'_>,
        each: &mut dyn FnMut(&mut Self, ReadTag),
    ) -> bool {
        let name = profile.name().unwrap_or_default();
        let path = |index: usize| format!("{}.tag[{index}]", profile.fields.path);
        match &profile.tags {
            Tags::Trees(tables) => {
                for (index, table) in tables {
                    let read = self.tag(path(*index), Table::Toml(table), begun, Some(name));
                    each(self, read);
                }
            }
            Tags::Text(text) => {
                let tags = pieces(text).filter(|piece| piece.kind == Kind::ProfileTag);
                for (index, piece) in tags.enumerate() {
                    let parsed = toml_span::parse(text.get(piece.range).unwrap_or_default()).ok();
                    let table = parsed.as_ref().and_then(|root| tag_of("profile", root));
                    let Some(table) = table else {
                        // Whoever reads the whole file says what it is.
                        let mistake = Mistake::new(path(index), Place::WholeFile, "not a tag");
                        self.mistakes.push(mistake);
                        return false;
                    };
                    let read = self.tag(path(index), Table::Toml(table), begun, Some(name));
                    each(self, read);
                }
            }
        }
        let Some(list) = &profile.list else { return true };
        let first = !profile.counted.replace(true);
        self.rows(begun, list, Some(name), first, each)
    }

    /// The list that `tag-list` of a table names; `None` without one, or with a mistake.
    pub(super) fn list(&mut self, fields: &Fields) -> Option<List> {
        let named = fields.file("tag-list")?;
        let file = self.directory.join(named);
        let bytes = match (self.lists.read)(&file) {
            Ok(bytes) => bytes,
            Err(error) => {
                let (message, legal) = match error.kind() {
                    std::io::ErrorKind::NotFound => (
                        format!("there is no file {}", file.display()),
                        "a CSV file; a relative path starts at the configuration file's directory",
                    ),
                    _ => (
                        format!("{} cannot be read: {error}", file.display()),
                        "a file that this user may read",
                    ),
                };
                self.refuse(fields, "tag-list", message, legal);
                return None;
            }
        };
        if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_LIST_BYTES) {
            let message =
                format!("{} is larger than {}", file.display(), size::format(MAX_LIST_BYTES));
            self.refuse(fields, "tag-list", message, "a tag list; is it the right file?");
            return None;
        }
        let (list, mut mistakes) = List::new(named, format!("{}.tag-list", fields.path), bytes);
        self.mistakes.append(&mut mistakes);
        list
    }

    /// The rows of a list as tags of a device. Beyond the first mistakes the others are counted,
    /// and only where `counts` is set. `false` when a row is none.
    fn rows(
        &mut self,
        begun: &Begun,
        list: &List,
        profile: Option<&str>,
        counts: bool,
        each: &mut dyn FnMut(&mut Self, ReadTag),
    ) -> bool {
        let before = self.mistakes.len();
        let (mut more, mut all) = (0, true);
        self.brief = false;
        list.each(|item| {
            match item {
                Item::Row(row) => {
                    let path = format!("{}[{}]", list.path, row.number());
                    let read = self.tag(path, Table::Row(&row), begun, profile);
                    each(self, read);
                }
                Item::Refused(mistake) => {
                    all = false;
                    self.mistakes.push(mistake.context(begun.fields().context.clone()));
                }
            }
            let most = before + KEPT_OF_A_LIST;
            more += self.mistakes.len().saturating_sub(most);
            self.mistakes.truncate(most.max(before));
            self.brief = self.mistakes.len() >= most;
            !self.stops || self.mistakes.is_empty()
        });
        self.brief = false;
        if more > 0 && counts {
            self.counted.push((list.name(), more));
        }
        all
    }
}
