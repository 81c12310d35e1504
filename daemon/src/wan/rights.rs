//! What a hub permits, and what of it is missing. Pure.
//!
//! A hub tells each leaf what it may publish and hear, when the leaf has said who it is; where it
//! tells nothing, everything is permitted. nats-server refuses silently whatever is not (measured
//! with 2.15.1), so this is the only place to learn it from.
//!
//! # Invariants
//! - A need counts as met only when every subject that it stands for is permitted.

use std::fmt;

use serde::Deserialize;

/// Subjects that are permitted, and those that are not although they are among them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Permitted {
    allow: Option<Vec<String>>,
    deny: Option<Vec<String>>,
}

impl Permitted {
    /// Whether each subject that `subject` stands for is permitted.
    fn covers(&self, subject: &str) -> bool {
        let allow = self.allow.as_deref().filter(|list| !list.is_empty());
        let allowed = allow.is_none_or(|list| list.iter().any(|one| covers(one, subject)));
        let denied = self.deny.iter().flatten().any(|one| overlap(one, subject));
        allowed && !denied
    }
}

/// What a hub permits a leaf.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights {
    /// What the leaf may send.
    pub publish: Permitted,
    /// What the leaf may ask for.
    pub subscribe: Permitted,
}

/// Something that a gateway must be permitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// Whether it is sent; heard otherwise.
    pub publish: bool,
    /// The subject, which may stand for many.
    pub subject: String,
    /// What for, for people.
    pub what: &'static str,
}

impl Need {
    /// To send on a subject.
    pub fn publish(subject: impl Into<String>, what: &'static str) -> Self {
        Self { publish: true, subject: subject.into(), what }
    }

    /// To hear a subject.
    pub fn subscribe(subject: impl Into<String>, what: &'static str) -> Self {
        Self { publish: false, subject: subject.into(), what }
    }
}

/// A need that is not met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing(pub Need);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.0.publish { "publish" } else { "subscribe" };
        write!(f, "{verb} {} ({})", self.0.subject, self.0.what)
    }
}

impl Rights {
    /// The needs that are not met, in their order.
    #[must_use]
    pub fn missing(&self, needs: &[Need]) -> Vec<Missing> {
        let met = |need: &&Need| {
            let permitted = if need.publish { &self.publish } else { &self.subscribe };
            permitted.covers(&need.subject)
        };
        needs.iter().filter(|need| !met(need)).cloned().map(Missing).collect()
    }
}

/// Whether every subject of `inner` is one of `outer`; both may have wildcards.
fn covers(outer: &str, inner: &str) -> bool {
    let (mut outer, mut inner) = (outer.split('.'), inner.split('.'));
    loop {
        match (outer.next(), inner.next()) {
            (None, None) | (Some(">"), Some(_)) => return true,
            (Some("*"), Some(token)) if token != ">" => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

/// Whether some subject is one of both.
fn overlap(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('.'), other.split('.'));
    loop {
        match (one.next(), other.next()) {
            (None, None) | (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (Some(a), Some(b)) if a == "*" || b == "*" || a == b => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn permitted(allow: &[&str], deny: &[&str]) -> Permitted {
        let list = |texts: &[&str]| Some(texts.iter().map(|&text| text.to_owned()).collect());
        Permitted { allow: list(allow), deny: list(deny) }
    }

    #[test]
    fn a_wildcard_is_covered_by_one_that_is_as_wide() {
        for (outer, inner, yes) in [
            ("tide.P.g.*.frames", "tide.P.g.*.frames", true),
            ("tide.P.g.>", "tide.P.g.*.frames", true),
            ("tide.P.*.*.frames", "tide.P.g.*.frames", true),
            ("tide.P.g.x.frames", "tide.P.g.*.frames", false),
            ("tide.P.h.*.frames", "tide.P.g.*.frames", false),
            ("uns.P.>", "uns.P", false),
            ("uns.P.*", "uns.P.>", false),
            ("uns.P.>", "uns.P.>", true),
            (">", "a.b.>", true),
            ("a.*", "a", false),
            ("a", "a.b", false),
        ] {
            assert_eq!(covers(outer, inner), yes, "{outer} {inner}");
        }
    }

    #[test]
    fn what_is_missing_is_named_with_what_it_is_for() {
        let rights = Rights {
            publish: permitted(&["tide.P.g.*.frames", "uns.P.>"], &["uns.P.line4.*"]),
            subscribe: permitted(&["_INBOX.P.g.>"], &[]),
        };
        let needs = [
            Need::publish("tide.P.g.*.frames", "the record"),
            Need::publish("tideinfo.TIDE", "the stream's state"),
            Need::publish("uns.P.line3.>", "live values"),
            Need::publish("uns.P.line4.>", "live values"),
            Need::subscribe("_INBOX.P.g.>", "answers"),
            Need::subscribe("tide.P.g.q.>", "questions"),
        ];
        let missing: Vec<_> = rights.missing(&needs).iter().map(ToString::to_string).collect();
        assert_eq!(
            missing,
            [
                "publish tideinfo.TIDE (the stream's state)",
                "publish uns.P.line4.> (live values)",
                "subscribe tide.P.g.q.> (questions)"
            ]
        );
        assert!(Rights::default().missing(&needs).is_empty(), "no word is no limit");
        assert!(!permitted(&[], &["uns.>"]).covers("uns.P.>"));
    }

    /// Subjects of at most four parts over a small alphabet, with and without wildcards.
    fn subject() -> impl Strategy<Value = String> {
        let token = prop_oneof![Just("a"), Just("b"), Just("*")];
        (prop::collection::vec(token, 1..4), any::<bool>()).prop_map(|(mut tokens, open)| {
            if open {
                tokens.push(">");
            }
            tokens.join(".")
        })
    }

    fn literals() -> Vec<String> {
        let mut all = vec![String::new()];
        let mut out = Vec::new();
        for _ in 0..5 {
            all = all
                .iter()
                .flat_map(|front| ["a", "b", "c"].map(|t| format!("{front}.{t}")))
                .collect();
            out.extend(all.iter().map(|text| text.trim_start_matches('.').to_owned()));
        }
        out
    }

    proptest! {
        #[test]
        fn covering_and_overlapping_are_what_the_single_subjects_say(a in subject(), b in subject()) {
            let literals = literals();
            let of = |pattern: &str| -> Vec<&String> {
                literals.iter().filter(|one| covers(pattern, one)).collect()
            };
            let (in_a, in_b) = (of(&a), of(&b));
            prop_assert_eq!(covers(&a, &b), in_b.iter().all(|one| in_a.contains(one)));
            prop_assert_eq!(overlap(&a, &b), in_b.iter().any(|one| in_a.contains(one)));
        }
    }
}
