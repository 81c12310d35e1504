//! Errors for people: the whole chain of causes in one line.

use std::error::Error;
use std::fmt::Write as _;

/// The error and each of its sources, joined by `: `. Messages here never repeat their source; what
/// a library's message repeats is said once.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let said = source.to_string();
        if !text.ends_with(&said) {
            // Writing to a String cannot fail.
            let _ = write!(text, ": {said}");
        }
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the tank overflows")]
    struct Overflow(#[source] std::fmt::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("no water: {0}")]
    struct Repeating(#[source] std::fmt::Error);

    #[test]
    fn a_library_that_repeats_its_source_is_not_repeated() {
        let said = chain(&Repeating(std::fmt::Error));
        assert_eq!(said, format!("no water: {}", std::fmt::Error));
    }

    #[test]
    fn each_cause_is_said_once() {
        let said = chain(&Overflow(std::fmt::Error));
        assert_eq!(said, format!("the tank overflows: {}", std::fmt::Error));
    }
}
