//! Patterns over the browse names below an object: `*/Temperature`, `Axis?/**`.
//!
//! `?` stands for one character and `*` for any number of them within one name; `**` alone between
//! slashes stands for any number of names, none as well. Everything else stands for itself, upper
//! and lower case apart.
//!
//! # Invariants
//! - Time to match is bounded by the product of both lengths, whatever is written.

/// A pattern over paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<Level>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Level {
    /// `**`
    Any,
    /// The characters of one name.
    One(Vec<char>),
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing, or nothing between two slashes.
    #[error(
        "pattern {text:?} has an empty name in it; write it like \"Axis?/**\" or \"*/Temperature\""
    )]
    Empty {
        /// The text that was given.
        text: String,
    },
    /// `**` within a name.
    #[error(
        "pattern {text:?} has \"**\" within a name; write it alone between slashes, like \"Axis1/**\""
    )]
    Stars {
        /// The text that was given.
        text: String,
    },
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When a name in it is empty, or `**` does not stand alone.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let levels = text.split('/').map(|name| match name {
            "" => Err(PatternError::Empty { text: text.to_owned() }),
            "**" => Ok(Level::Any),
            name if name.contains("**") => Err(PatternError::Stars { text: text.to_owned() }),
            name => Ok(Level::One(name.chars().collect())),
        });
        levels.collect::<Result<_, _>>().map(Self)
    }

    /// Whether it stands for a path of these names.
    #[must_use]
    pub fn matches(&self, path: &[impl AsRef<str>]) -> bool {
        matching(
            &self.0,
            path,
            |level| matches!(level, Level::Any),
            |level, name| match level {
                Level::Any => false,
                Level::One(pattern) => {
                    let name: Vec<char> = name.as_ref().chars().collect();
                    matching(pattern, &name, |c| *c == '*', |p, c| *p == '?' || p == c)
                }
            },
        )
    }
}

/// Whether a sequence fits a pattern of which some parts stand for any number of members. Only the
/// last such part need be tried again: what fits before it fits however much it takes.
fn matching<P, T>(
    pattern: &[P],
    sequence: &[T],
    is_any: impl Fn(&P) -> bool,
    fits: impl Fn(&P, &T) -> bool,
) -> bool {
    let (mut at, mut of) = (0, 0);
    // Where the last such part stands, and from which member on it has not been tried.
    let mut last: Option<(usize, usize)> = None;
    while let Some(member) = sequence.get(at) {
        match pattern.get(of) {
            Some(part) if is_any(part) => {
                last = Some((of, at));
                of += 1;
            }
            Some(part) if fits(part, member) => {
                at += 1;
                of += 1;
            }
            _ => match last {
                None => return false,
                Some((any, from)) => {
                    last = Some((any, from + 1));
                    at = from + 1;
                    of = any + 1;
                }
            },
        }
    }
    pattern.iter().skip(of).all(is_any)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        let names: Vec<&str> = path.split('/').collect();
        Pattern::parse(pattern).unwrap().matches(&names)
    }

    #[test]
    fn stars_and_question_marks_stand_for_what_they_should() {
        for (pattern, fitting, others) in [
            (
                "*/Temperature",
                ["A/Temperature", "é/Temperature"],
                ["Temperature", "A/B/Temperature"],
            ),
            ("Axis?/**", ["Axis1/Position", "Axis2/a/b/c"], ["Axis10/Position", "axis1/Position"]),
            ("**", ["a", "a/b/c"], ["", ""]),
            ("**/Unit", ["Unit", "a/b/Unit"], ["Unit/a", "a/Units"]),
            ("a/**/b/**/c", ["a/b/c", "a/x/b/b/y/c"], ["a/c", "a/b/c/d"]),
            ("*a*b*", ["xaxbx", "ab"], ["ba", "a/b"]),
            ("a.b[0]", ["a.b[0]", "a.b[0]"], ["axb0", "a.b0"]),
        ] {
            for path in fitting {
                assert!(matches(pattern, path), "{pattern} {path}");
            }
            for path in others {
                assert!(path.is_empty() || !matches(pattern, path), "{pattern} {path}");
            }
        }
    }

    #[test]
    fn a_pattern_that_means_nothing_is_refused() {
        for text in ["", "a//b", "/a", "a/"] {
            assert!(matches!(Pattern::parse(text), Err(PatternError::Empty { .. })), "{text:?}");
        }
        for text in ["a**", "**a", "a/***"] {
            assert!(matches!(Pattern::parse(text), Err(PatternError::Stars { .. })), "{text:?}");
        }
    }

    #[test]
    fn many_stars_cost_no_more_than_the_product_of_both_lengths() {
        let pattern = format!("{}b", "*a".repeat(200));
        assert!(!matches(&pattern, &"a".repeat(20_000)));
        let pattern = format!("{}b", "**/a/".repeat(200));
        assert!(!matches(&pattern, &format!("{}a", "a/".repeat(5_000))));
    }

    /// The same by trying everything.
    fn slowly(pattern: &[char], text: &[char]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, rest) => rest.is_none(),
            (Some(('*', after)), rest) => {
                slowly(after, text) || rest.is_some_and(|(_, rest)| slowly(pattern, rest))
            }
            (Some((p, after)), Some((c, rest))) => (*p == '?' || p == c) && slowly(after, rest),
            (Some(_), None) => false,
        }
    }

    proptest! {
        #[test]
        fn a_name_fits_exactly_when_trying_everything_says_so(
            pattern in "[ab?]{0,3}(\\*[ab?]{1,3}){0,3}\\*?", name in "[abc]{0,8}",
        ) {
            prop_assume!(!pattern.is_empty() && !name.is_empty());
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(matches(&pattern, &name), slowly(&chars(&pattern), &chars(&name)));
        }
    }
}
