//! Registers in every type and order, for a person who knows the value and not the type.
//!
//! # Invariants
//! - Each reading is one request, so no value is put together from two moments.
//! - A value that is not the same as in the reading before is marked.

use std::fmt::Write as _;

use tidegate_modbus::probe::Reply;
use tidegate_modbus::{Address, DataType, Order, interpretations};
use tidegate_translator::Value;

use crate::cli::terminal::{Align, Table, Tone};

/// Registers read from the one that is asked for: the longest number, and some text.
pub(super) const REGISTERS: u16 = 8;
/// Registers of the longest number; what follows is only read as text.
const LONGEST: usize = 4;
/// Bits read from the one that is asked for.
pub(super) const BITS: u16 = 16;

/// What a reading looks like: the raw cells, and each type in each order.
pub(super) fn lines(
    address: Address,
    reply: &Reply,
    before: Option<&Reply>,
    colour: bool,
) -> Vec<String> {
    let registers = match reply {
        Reply::Registers(registers) => registers,
        Reply::Bits(bits) => return bit_lines(address, bits, before, colour),
        Reply::Identity(_) => return Vec::new(),
    };
    let old = match before {
        Some(Reply::Registers(old)) if old.len() == registers.len() => Some(&old[..]),
        _ => None,
    };
    let mut raw = Table::new(&[
        ("ADDRESS", Align::Left),
        ("HEX", Align::Right),
        ("BINARY, BIT 15 FIRST", Align::Left),
        ("", Align::Left),
    ]);
    for (at, register) in registers.iter().enumerate() {
        let changed = old.is_some_and(|old| old.get(at) != Some(register));
        let offset = usize::from(address.offset) + at;
        let tone = if changed { Tone::Caution } else { Tone::Plain };
        let bits = format!("{register:016b}");
        let (high, low) = bits.split_at_checked(8).unwrap_or_default();
        raw.row([
            (format!("{}:{offset}", address.table.word()), Tone::Plain),
            (format!("{register:04x}"), tone),
            (format!("{high} {low}"), tone),
            (if changed { "changes" } else { "" }.to_owned(), Tone::Caution),
        ]);
    }
    let mut lines = raw.lines(0, colour);
    lines.push(String::new());
    lines.extend(values(registers, old, colour));
    lines
}

/// Types down, orders across; what reads the same as in an order before is left out.
fn values(registers: &[u16], old: Option<&[u16]>, colour: bool) -> Vec<String> {
    let ways = interpretations(registers);
    let old = old.map(interpretations).unwrap_or_default();
    let mut table = Table::new(&[
        ("TYPE", Align::Left),
        ("abcd", Align::Right),
        ("cdab", Align::Right),
        ("badc", Align::Right),
        ("dcba", Align::Right),
    ]);
    let mut kinds: Vec<DataType> = Vec::new();
    for way in &ways {
        if !kinds.contains(&way.kind) && !matches!(way.kind, DataType::Text(_)) {
            kinds.push(way.kind);
        }
    }
    let cell = |kind: DataType, order: Order| {
        let is_it = |way: &&tidegate_modbus::Interpretation| way.kind == kind && way.order == order;
        let Some(way) = ways.iter().find(is_it) else { return (String::new(), Tone::Faint) };
        // In the reading before, this order may have read the same as an earlier one.
        let was = old.iter().filter(|old| old.kind == kind);
        let same = was.clone().any(|old| old.decoded.value.is_same(&way.decoded.value));
        let changed = was.count() > 0 && !same;
        let text = shown(&way.decoded.value);
        if changed { (format!("{text} *"), Tone::Caution) } else { (text, Tone::Plain) }
    };
    for kind in kinds {
        let cells = Order::all().map(|order| cell(kind, order));
        table.row(std::iter::once((kind.word().to_owned(), Tone::Plain)).chain(cells));
    }
    let mut lines = table.lines(0, colour);
    for way in ways.iter().filter(|way| matches!(way.kind, DataType::Text(_))) {
        let text = crate::cli::terminal::tame(&shown(&way.decoded.value));
        lines.push(format!("text    {}  {text}", way.order));
    }
    let changes = lines.iter().any(|line| line.contains(" *"));
    if changes {
        lines.push("* is not what it was in the reading before".to_owned());
    }
    lines
}

fn bit_lines(address: Address, bits: &[bool], before: Option<&Reply>, colour: bool) -> Vec<String> {
    let old = match before {
        Some(Reply::Bits(old)) if old.len() == bits.len() => Some(old),
        _ => None,
    };
    let mut table =
        Table::new(&[("ADDRESS", Align::Left), ("VALUE", Align::Left), ("", Align::Left)]);
    for (at, bit) in bits.iter().enumerate() {
        let changed = old.is_some_and(|old| old.get(at) != Some(bit));
        let offset = usize::from(address.offset) + at;
        table.row([
            (format!("{}:{offset}", address.table.word()), Tone::Plain),
            (bit.to_string(), if changed { Tone::Caution } else { Tone::Plain }),
            (if changed { "changes" } else { "" }.to_owned(), Tone::Caution),
        ]);
    }
    table.lines(0, colour)
}

/// A value as short as it can be told from others.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::None => "–".to_owned(),
        Value::Bool(bit) => bit.to_string(),
        Value::I64(number) => number.to_string(),
        Value::U64(number) => number.to_string(),
        Value::F32(number) => float(f64::from(*number), number.to_string()),
        Value::F64(number) => float(*number, number.to_string()),
        Value::Text(text) | Value::Json(text) => format!("{text:?}"),
        Value::Bytes(bytes) => {
            let mut text = String::new();
            for byte in bytes {
                // Writing to a String cannot fail.
                let _ = write!(text, "{byte:02x}");
            }
            text
        }
    }
}

/// Numbers far from what a sensor tells are shown as such: nobody reads forty digits.
fn float(number: f64, exact: String) -> String {
    let far = number.is_finite() && number != 0.0 && !(1e-4..1e9).contains(&number.abs());
    if far { format!("{number:.3e}") } else { exact }
}

/// The readings as a program wants them.
pub(super) fn tree(address: Address, readings: &[Reply]) -> serde_json::Value {
    let last = readings.last();
    let ways = match last {
        Some(Reply::Registers(registers)) => {
            interpretations(registers.get(..LONGEST.min(registers.len())).unwrap_or(registers))
        }
        _ => Vec::new(),
    };
    let way = |way: &tidegate_modbus::Interpretation| {
        let (value, inexact) = tidegate_record::json::value_tree(&way.decoded.value);
        serde_json::json!({
            "type": way.kind.word(),
            "order": way.order.word(),
            "value": value,
            "inexact": inexact.map(|inexact| inexact.word()),
        })
    };
    let raw = |reply: &Reply| match reply {
        Reply::Registers(registers) => serde_json::json!(registers),
        Reply::Bits(bits) => serde_json::json!(bits),
        Reply::Identity(_) => serde_json::Value::Null,
    };
    serde_json::json!({
        "address": address.to_string(),
        "readings": readings.iter().map(raw).collect::<Vec<_>>(),
        "values": ways.iter().map(way).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use tidegate_modbus::Table as Cells;

    use super::*;

    fn address(table: Cells) -> Address {
        Address { table, offset: 100, bit: None }
    }

    #[test]
    fn a_person_finds_the_value_and_sees_that_it_changes() {
        // 72.3 as a float in cdab order, then 72.5.
        let before = Reply::Registers(vec![0x999A, 0x4290, 7, 0]);
        let now = Reply::Registers(vec![0x0000, 0x4291, 7, 0]);
        let first = lines(address(Cells::HoldingRegister), &before, None, false).join("\n");
        assert!(first.contains("72.3") && !first.contains('*'), "{first}");
        let second = lines(address(Cells::HoldingRegister), &now, Some(&before), false);
        let float = second.iter().find(|line| line.starts_with("float32")).unwrap();
        assert!(float.contains("72.5 *"), "{float}");
        assert!(
            second
                .iter()
                .any(|line| line.starts_with("holding:101  4291") && line.ends_with("changes"))
        );
        assert!(
            second
                .iter()
                .any(|line| line.starts_with("holding:102  0007") && !line.contains("changes"))
        );
    }

    #[test]
    fn numbers_that_no_sensor_tells_are_short() {
        assert_eq!(shown(&Value::F32(1.0e-38)), "1.000e-38");
        assert_eq!(shown(&Value::F64(-0.0)), "-0");
        assert_eq!(shown(&Value::F32(f32::NAN)), "NaN");
        assert_eq!(shown(&Value::F32(72.3)), "72.3");
    }

    #[test]
    fn bits_are_shown_one_by_one() {
        let (before, now) = (Reply::Bits(vec![true, false]), Reply::Bits(vec![true, true]));
        let shown = lines(address(Cells::Coil), &now, Some(&before), false);
        assert_eq!(shown, ["ADDRESS   VALUE", "coil:100  true", "coil:101  true   changes"]);
    }
}
