//! Names of numbers as a person writes them: `0=stopped, 1=running`.

use std::sync::Arc;

use tidegate_modbus::States;

use super::mistake::{Place, shorten};
use super::value::{Illegal, Raw, Value, Wrong};

/// States of one value.
const MOST_STATES: usize = 256;
/// Characters of a state's name.
const LONGEST_STATE: usize = 64;

/// Reads `0=stopped, 1=running`; each mistake with the place of its entry.
pub(super) fn read(raw: Raw<'_>) -> Result<Value, Wrong> {
    let Some(text) = raw.text() else {
        let message = format!("expected text in quotes, found {}", raw.noun());
        return Err(vec![(None, Illegal::new(message, raw.shown()))]);
    };
    let mut names: Vec<(i64, Box<str>)> = Vec::new();
    let mut wrong = Vec::new();
    let mut at = 0;
    for entry in text.split([',', ';']) {
        let index = names.len() + wrong.len();
        let place = part_of(raw, text, at, entry);
        at += entry.len() + 1;
        match state(entry.trim()) {
            Ok((number, _)) if names.iter().any(|(other, _)| *other == number) => {
                let message = format!("{number} has a name already");
                wrong.push((place.map(|place| (index, place)), illegal_state(message, entry)));
            }
            Ok(found) => names.push(found),
            Err(message) => {
                wrong.push((place.map(|place| (index, place)), illegal_state(message, entry)));
            }
        }
        if index >= MOST_STATES {
            let message = format!("more than {MOST_STATES} states");
            wrong.push((None, Illegal::new(message, raw.shown())));
            break;
        }
    }
    if wrong.is_empty() { Ok(Value::States(Arc::new(States::new(names)))) } else { Err(wrong) }
}

fn illegal_state(message: String, entry: &str) -> Illegal {
    Illegal::new(message, format!("{:?}", shorten(entry.trim())))
}

fn state(entry: &str) -> Result<(i64, Box<str>), String> {
    let shown = shorten(entry);
    let Some((number, name)) = entry.split_once('=') else {
        return Err(if entry.is_empty() {
            "an entry between two commas is empty".to_owned()
        } else {
            format!("{shown:?} is not written NUMBER=NAME")
        });
    };
    let (number, name) = (number.trim(), name.trim());
    let parsed = number.parse::<i64>();
    let Ok(parsed) = parsed else {
        return Err(format!("{:?} in {shown:?} is no whole number", shorten(number)));
    };
    match name.chars().count() {
        0 => Err(format!("the name of {number} is empty")),
        1..=LONGEST_STATE if name.chars().any(char::is_control) => {
            Err(format!("the name of {number} holds a control character"))
        }
        1..=LONGEST_STATE => Ok((parsed, name.into())),
        n => Err(format!("the name of {number} has {n} characters")),
    }
}

/// Where a part of a text stands in the file; `None` where that cannot be told, because escapes
/// moved it or it stands in no file.
fn part_of(raw: Raw<'_>, whole: &str, at: usize, part: &str) -> Option<Place> {
    let Raw::Toml(value) = raw else { return None };
    if value.span.end.checked_sub(value.span.start) != Some(whole.len()) {
        return None;
    }
    let indent = part.len() - part.trim_start().len();
    let start = value.span.start + at + indent;
    Some(Place::File { start, end: start + part.trim().len().max(1) })
}
