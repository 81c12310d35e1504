//! Subjects of messages and paths of tags.
//!
//! # Invariants
//! - Each part of a subject is a segment of the path as it stands, so the way back is as plain.
//! - What is left out in front is the same in every subject of a device, so that no two meet.

use tidegate_translator::{PathError, TagPath};

use crate::DeviceSpec;

/// The segment below the base path under which identifiers are recorded.
pub const IDS: &str = "_ids";

/// A subject that applications publish on, wildcards included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject<'s>(pub &'s str);

/// Why a subject is no tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// A character that has another meaning in a path or in a live value's subject.
    #[error("part {part:?} of subject {subject:?} holds {character:?}; publish without it")]
    Character {
        /// The subject.
        subject: String,
        /// Its part.
        part: String,
        /// What it holds.
        character: char,
    },
    /// The name that identifiers are recorded under.
    #[error("subject {subject:?} would be the tag of identifiers; publish under another name")]
    Reserved {
        /// The subject.
        subject: String,
    },
    /// Too long, with the base path.
    #[error("subject {subject:?} makes no path")]
    Path {
        /// The subject.
        subject: String,
        /// Why.
        #[source]
        source: PathError,
    },
}

impl<'s> Subject<'s> {
    fn parts(self) -> impl Iterator<Item = &'s str> {
        self.0.split('.')
    }

    /// Whether some subject is both this one and the other one, wildcards considered.
    #[must_use]
    pub fn meets(self, other: Self) -> bool {
        let (mut own, mut others) = (self.parts(), other.parts());
        loop {
            match (own.next(), others.next()) {
                (None, None) | (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
                (None, Some(_)) | (Some(_), None) => return false,
                (Some(a), Some(b)) if a == b || a == "*" || b == "*" => {}
                (Some(_), Some(_)) => return false,
            }
        }
    }

    /// The first `count` parts where they stand in every subject that matches; `None` when it has
    /// fewer, or one of them is a wildcard.
    #[must_use]
    pub fn fixed(self, count: usize) -> Option<Vec<&'s str>> {
        let parts: Vec<_> = self.parts().take(count).collect();
        let is_fixed = parts.len() == count && !parts.iter().any(|part| matches!(*part, "*" | ">"));
        is_fixed.then_some(parts)
    }
}

/// The path of the tag that messages on a subject belong to.
///
/// # Errors
/// When no path can be made of it.
pub(crate) fn path_of(spec: &DeviceSpec, subject: &str) -> Result<TagPath, SubjectError> {
    let mut path = spec.base_path.as_str().to_owned();
    for (place, part) in Subject(subject).parts().skip(spec.skip_parts).enumerate() {
        if let Some(character) = part.chars().find(|c| !fits(*c)) {
            let (subject, part) = (subject.to_owned(), part.to_owned());
            return Err(SubjectError::Character { subject, part, character });
        }
        if place == 0 && part == IDS {
            return Err(SubjectError::Reserved { subject: subject.to_owned() });
        }
        path.push('/');
        path.push_str(part);
    }
    TagPath::new(path).map_err(|source| SubjectError::Path { subject: subject.to_owned(), source })
}

/// The path below another one; `None` where the name cannot be a segment.
pub(crate) fn below(path: &TagPath, name: &str) -> Option<TagPath> {
    let is_segment = !name.is_empty() && name.chars().all(|c| c != '/' && !c.is_control());
    is_segment.then(|| TagPath::new(format!("{path}/{name}")).ok()).flatten()
}

/// Whether a path or the subject of a live value would need an escape for it.
fn fits(c: char) -> bool {
    !(matches!(c, '/' | '%' | '$' | '*' | '>') || c.is_control() || c.is_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::tests::spec;

    #[test]
    fn wildcards_meet_where_one_subject_matches_both() {
        let meets = |a, b| {
            assert_eq!(Subject(a).meets(Subject(b)), Subject(b).meets(Subject(a)), "{a} {b}");
            Subject(a).meets(Subject(b))
        };
        for (a, b) in [("a.b", "a.b"), ("a.*", "a.b"), ("a.>", "a.b.c"), ("a.*.c", "a.b.*")] {
            assert!(meets(a, b), "{a} {b}");
        }
        for (a, b) in
            [("a.b", "a.c"), ("a.*", "a"), ("a.>", "a"), ("a.*", "a.b.c"), ("a.b.>", "a.*")]
        {
            assert!(!meets(a, b), "{a} {b}");
        }
    }

    #[test]
    fn what_is_left_out_must_stand_there() {
        assert_eq!(Subject("a.b.>").fixed(2), Some(vec!["a", "b"]));
        assert_eq!(Subject("a.b.>").fixed(3), None);
        assert_eq!(Subject("a.*.c").fixed(2), None);
        assert_eq!(Subject("a").fixed(2), None);
        assert_eq!(Subject("a.b").fixed(2), Some(vec!["a", "b"]));
    }

    #[test]
    fn a_subject_is_the_path_below_the_base() {
        let mut spec = spec();
        let path = |spec: &DeviceSpec, subject: &str| {
            path_of(spec, subject).map(|path| path.as_str().to_owned())
        };
        let subject = "fleet.prod.veh.VID-001.state.position";
        assert_eq!(
            path(&spec, subject).as_deref(),
            Ok("Fleet/V1/fleet/prod/veh/VID-001/state/position")
        );
        spec.skip_parts = 4;
        assert_eq!(path(&spec, subject).as_deref(), Ok("Fleet/V1/state/position"));
        spec.skip_parts = 6;
        assert_eq!(path(&spec, subject).as_deref(), Ok("Fleet/V1"));
    }

    #[test]
    fn what_could_meet_another_path_or_names_nothing_is_refused() {
        let mut spec = spec();
        spec.skip_parts = 1;
        for subject in ["a.b/c", "a.b%2F", "a.$x", "a.b c", "a.", "a._ids", "a._ids.b"] {
            assert!(path_of(&spec, subject).is_err(), "{subject}");
        }
        assert!(path_of(&spec, "a.b._ids").is_ok());
        assert!(path_of(&spec, &format!("a.{}", "x".repeat(600))).is_err());
    }
}
