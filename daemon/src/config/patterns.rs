//! Patterns over browse names, and index ranges, as far as their form goes.
//!
//! # Invariants
//! - What is legal here is understood by the translator, and can stand in a cell of a tag list.

use tidegate_opcua::Pattern;

use super::mistake::shorten;
use super::value::Illegal;

/// How a pattern is written.
const LEGAL: &str = "names with one '/' between them, such as \"Axis?/Position\"";
/// Characters of a pattern.
const LONGEST: usize = 512;
/// Dimensions of an array: OPC UA knows no limit, and nobody has more.
const MOST_DIMENSIONS: usize = 8;

/// Checks a pattern over the browse names below an object.
pub(super) fn pattern(text: &str) -> Result<Box<str>, Illegal> {
    let shown = || format!("{:?}", shorten(text));
    let refuse = |why: &str, legal: &str| {
        let mut illegal = Illegal::new(format!("{} {why}", shown()), shown());
        illegal.legal = Some(legal.to_owned());
        Err(illegal)
    };
    if text.chars().count() > LONGEST {
        return refuse("is longer than 512 characters", "a shorter pattern; `**` takes any levels");
    }
    if text.chars().any(char::is_control) {
        return refuse("holds a control character", "`?` in the place of it");
    }
    if text.contains(';') {
        return refuse("holds a semicolon, which separates patterns", "`?` in the place of it");
    }
    if let Err(error) = Pattern::parse(text) {
        // Each of these messages ends with its remedy.
        let error = error.to_string();
        let (message, legal) = error.rsplit_once("; ").unwrap_or((&error, LEGAL));
        let mut illegal = Illegal::new(message, shown());
        illegal.legal = Some(legal.to_owned());
        return Err(illegal);
    }
    Ok(text.into())
}

/// Checks a part of an array, or says what is wrong with it.
pub(super) fn index_range(text: &str) -> Result<(), &'static str> {
    const FORM: &str = "is no index range";
    // A plus sign is no digit.
    let number = |text: &str| -> Result<u32, &'static str> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten().ok_or(FORM)
    };
    if text.split(',').count() > MOST_DIMENSIONS {
        return Err("has more than 8 dimensions");
    }
    for dimension in text.split(',') {
        match dimension.split_once(':') {
            None => drop(number(dimension)?),
            Some((first, last)) if number(first)? < number(last)? => {}
            Some(_) => return Err("ends before it begins; one element is written alone"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_names_and_wildcards_between_slashes() {
        for legal in ["*", "**", "Axis?/*", "**/Temperature", "a/**/b c", "ü*"] {
            assert_eq!(pattern(legal).as_deref(), Ok(legal));
        }
        for illegal in
            ["", "/", "/a", "a/", "a//b", "a**", "**b/c", "a;b", "a\tb", &"x".repeat(513)]
        {
            assert!(pattern(illegal).is_err(), "{illegal:?}");
        }
    }

    #[test]
    fn index_ranges_are_what_the_specification_has() {
        for legal in ["0", "3", "0:9", "1,0:3", "0:1,2:3,4"] {
            assert_eq!(index_range(legal), Ok(()), "{legal}");
        }
        for illegal in [
            "",
            ":",
            "1:",
            ":1",
            "a",
            "3:3",
            "4:3",
            "+1",
            "1,",
            "-1",
            "4294967296",
            "1:2:3",
            "1 :2",
        ] {
            assert!(index_range(illegal).is_err(), "{illegal:?}");
        }
        assert!(index_range("1,1,1,1,1,1,1,1,1").is_err());
    }
}
