//! Where an answer continues.
//!
//! # Invariants
//! - A place names the question that it belongs to and the range as it was first understood; with
//!   another question it is stale.
//! - Whatever text an asker sends is a place or refused.

use tidegate_journal::{Epoch, FrameRef};

use crate::{Code, Refusal};

/// Where an answer continues, and the range that its first page had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Of the question, see [`mark_of`].
    pub mark: u64,
    /// From here (included), nanoseconds since 1970 UTC.
    pub from: i64,
    /// To here (excluded).
    pub to: i64,
    /// The first row that was not given.
    pub row: RowPlace,
}

/// The first row that was not given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RowPlace {
    /// A sample by its number.
    Sample {
        /// The frame that holds it.
        frame: FrameRef,
        /// Its sequence number.
        seq: u64,
    },
    /// A bucket, or a tag's state.
    Tag {
        /// The bucket's number since 1970; 0 for a state.
        step: i64,
        /// The tag's path.
        path: String,
    },
    /// A loss, by its place in the order of losses.
    Loss {
        /// When it began.
        from: i64,
        /// What tells it from others that began then.
        key: String,
    },
}

/// A number that is the same for the same question without limit and place.
pub(super) fn mark_of(question: &impl serde::Serialize) -> u64 {
    // FNV-1a: it tells mistakes apart, not attackers; a place opens nothing that a question could
    // not ask for.
    let bytes = serde_json::to_vec(question).unwrap_or_default();
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { mark, from, to, row } = self;
        write!(f, "1:{mark:016x}:{from}:{to}:")?;
        match row {
            RowPlace::Sample { frame, seq } => {
                write!(f, "s:{}:{}:{seq}", frame.epoch, frame.frame)
            }
            RowPlace::Tag { step, path } => write!(f, "t:{step}:{path}"),
            RowPlace::Loss { from, key } => write!(f, "l:{from}:{key}"),
        }
    }
}

impl Place {
    /// Reads what an answer said, for the question of this mark.
    ///
    /// # Errors
    /// When it is no place, or one of another question.
    pub(super) fn read(text: &str, mark: u64) -> Result<Self, Refusal> {
        match Self::parse(text) {
            Some(place) if place.mark == mark => Ok(place),
            Some(_) => Err(stale(
                "after: it is the continuation of another question; ask the same one, or begin anew without after",
            )),
            None => Err(stale(
                "after: it is no continuation of this gateway's; pass the \"next\" of the answer before unchanged",
            )),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.splitn(6, ':');
        fields.next().filter(|version| *version == "1")?;
        let mark = fields.next().filter(|it| it.len() == 16)?;
        let mark = u64::from_str_radix(mark, 16).ok()?;
        let from: i64 = fields.next()?.parse().ok()?;
        let to: i64 = fields.next()?.parse().ok().filter(|to| *to >= from)?;
        let (kind, rest) = (fields.next()?, fields.next()?);
        let row = match kind {
            "s" => {
                let mut fields = rest.split(':');
                let epoch: Epoch = fields.next()?.parse().ok()?;
                let frame = fields.next()?.parse().ok()?;
                let seq = fields.next()?.parse().ok()?;
                if fields.next().is_some() {
                    return None;
                }
                RowPlace::Sample { frame: FrameRef { epoch, frame }, seq }
            }
            "t" => {
                let (step, path) = rest.split_once(':')?;
                RowPlace::Tag { step: step.parse().ok()?, path: path.to_owned() }
            }
            "l" => {
                let (from, key) = rest.split_once(':')?;
                RowPlace::Loss { from: from.parse().ok()?, key: key.to_owned() }
            }
            _ => return None,
        };
        Some(Self { mark, from, to, row })
    }
}

pub(super) fn stale(text: &str) -> Refusal {
    Refusal::new(Code::StaleContinuation, text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row() -> impl Strategy<Value = RowPlace> {
        prop_oneof![
            (any::<[u8; 16]>(), any::<u64>(), any::<u64>()).prop_map(|(epoch, frame, seq)| {
                RowPlace::Sample { frame: FrameRef { epoch: Epoch(epoch), frame }, seq }
            }),
            (any::<i64>(), ".*").prop_map(|(step, path)| RowPlace::Tag { step, path }),
            (any::<i64>(), ".*").prop_map(|(from, key)| RowPlace::Loss { from, key }),
        ]
    }

    proptest! {
        #[test]
        fn a_place_survives_its_text_and_fits_its_question_alone(
            mark: u64, a: i64, b: i64, row in row(),
        ) {
            let place = Place { mark, from: a.min(b), to: a.max(b), row };
            let text = place.to_string();
            prop_assert_eq!(Place::read(&text, mark), Ok(place));
            prop_assert_eq!(
                Place::read(&text, mark ^ 1).unwrap_err().code,
                Code::StaleContinuation
            );
        }

        #[test]
        fn any_text_is_a_place_or_stale(text: String) {
            if let Err(refusal) = Place::read(&text, 0) {
                prop_assert_eq!(refusal.code, Code::StaleContinuation);
            }
        }
    }
}
