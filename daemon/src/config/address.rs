//! Register addresses as a person writes them.

use tidegate_modbus::{Address, Forbidden, Table};

use super::suggest;

/// The words for the tables.
const TABLES: [(&str, Table); 4] = [
    ("coil", Table::Coil),
    ("discrete", Table::DiscreteInput),
    ("input", Table::InputRegister),
    ("holding", Table::HoldingRegister),
];

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddressError {
    /// No colon, and not five or six digits either.
    #[error("the address names no table")]
    Shape {
        /// A way to write it that may have been meant.
        suggestion: Option<String>,
    },
    /// A word that is no table.
    #[error("there is no table {table:?}")]
    Table {
        /// The word.
        table: String,
        /// The whole address with the nearest table.
        suggestion: Option<String>,
    },
    /// No number where one must stand.
    #[error("{number:?} is no register number")]
    Number {
        /// What stands there.
        number: String,
    },
    /// A number that no register has.
    #[error("number {number} is outside {first} to {last}")]
    Range {
        /// The number.
        number: u32,
        /// The first that exists, by the device's address base.
        first: u32,
        /// The last that exists.
        last: u32,
    },
    /// A bit that no register has.
    #[error("{bit:?} is no bit of a register")]
    Bit {
        /// What stands there.
        bit: String,
    },
    /// A bit of what is one bit already.
    #[error("a {table} is one bit already")]
    BitOfBit {
        /// Which table.
        table: &'static str,
    },
    /// A bit where whole registers are meant.
    #[error("a range is of whole registers, not of their bits")]
    BitOfRange,
    /// A range that ends elsewhere than it begins, or before.
    #[error("the range does not end after its beginning")]
    Backwards,
}

impl AddressError {
    pub(crate) fn suggestion(&self) -> Option<&str> {
        match self {
            Self::Shape { suggestion } | Self::Table { suggestion, .. } => suggestion.as_deref(),
            _ => None,
        }
    }

    pub(crate) fn legal(&self) -> String {
        match self {
            Self::Shape { .. } | Self::Number { .. } => super::keys::Kind::Address.legal(),
            Self::Table { .. } => "coil, discrete, input or holding".to_owned(),
            Self::Range { first, last, .. } => format!("{first} to {last}"),
            Self::Bit { .. } => "bit 0, the least significant, to 15".to_owned(),
            Self::BitOfBit { table } => format!("\"{table}:NUMBER\" without a bit"),
            Self::BitOfRange | Self::Backwards => {
                "\"holding:100-199\", \"coil:5\" or \"40101-40200\"".to_owned()
            }
        }
    }
}

/// Reads `holding:100`, `holding:10.3` or `40001`. `base` is the number of the first register.
pub(crate) fn parse(text: &str, base: u16) -> Result<Address, AddressError> {
    let text = text.trim();
    let (table, rest, first, last) = match text.split_once(':') {
        Some((word, rest)) => {
            let found = TABLES.iter().find(|(name, _)| *name == word.trim());
            let Some((_, table)) = found else {
                let near = suggest::nearest(word.trim(), TABLES.iter().map(|(name, _)| *name));
                let suggestion = near.map(|near| format!("{near}:{}", rest.trim()));
                return Err(AddressError::Table { table: word.trim().to_owned(), suggestion });
            };
            let base = u32::from(base);
            (*table, rest.trim(), base, base + u32::from(u16::MAX))
        }
        None => numbered(text)?,
    };
    let (number, bit) = match rest.split_once('.') {
        Some((number, bit)) => (number, Some(bit)),
        None => (rest, None),
    };
    let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let Some(number) = number.parse::<u32>().ok().filter(|_| digits) else {
        return Err(AddressError::Number { number: number.to_owned() });
    };
    let out_of_range = AddressError::Range { number, first, last };
    if number > last {
        return Err(out_of_range);
    }
    let offset = number.checked_sub(first).ok_or_else(|| out_of_range.clone())?;
    let offset = u16::try_from(offset).map_err(|_| out_of_range)?;
    let bit = match bit {
        None => None,
        Some(_) if table.holds_bits() => {
            return Err(AddressError::BitOfBit { table: table.word() });
        }
        Some(bit) => {
            let digits =
                !bit.is_empty() && bit.len() <= 2 && bit.bytes().all(|b| b.is_ascii_digit());
            let legal = bit.parse().ok().filter(|bit: &u8| digits && *bit <= 15);
            Some(legal.ok_or_else(|| AddressError::Bit { bit: bit.to_owned() })?)
        }
    };
    Ok(Address { table, offset, bit })
}

/// Reads `holding:100-199`, `coil:5` or `40101-40200`.
pub(crate) fn parse_range(text: &str, base: u16) -> Result<Forbidden, AddressError> {
    let text = text.trim();
    let (first, last) = match text.split_once('-') {
        None => (parse(text, base)?, parse(text, base)?),
        Some((first, last)) => {
            // The table is written once: `holding:100-199`.
            let last = match first.split_once(':') {
                Some((table, _)) if !last.contains(':') => format!("{table}:{}", last.trim()),
                _ => last.to_owned(),
            };
            (parse(first, base)?, parse(&last, base)?)
        }
    };
    if first.bit.is_some() || last.bit.is_some() {
        return Err(AddressError::BitOfRange);
    }
    if first.table != last.table || first.offset > last.offset {
        return Err(AddressError::Backwards);
    }
    Ok(Forbidden { table: first.table, first: first.offset, last: last.offset })
}

/// `40001` or `400001`: the first digit is the table, the rest counts from 1.
fn numbered(text: &str) -> Result<(Table, &str, u32, u32), AddressError> {
    let digits = text.split('.').next().unwrap_or_default();
    let shape = || {
        let bare = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        AddressError::Shape { suggestion: bare.then(|| format!("holding:{text}")) }
    };
    let last = match digits.len() {
        5 => 9999,
        6 => 65536,
        _ => return Err(shape()),
    };
    let table = match digits.as_bytes().first() {
        Some(b'0') => Table::Coil,
        Some(b'1') => Table::DiscreteInput,
        Some(b'3') => Table::InputRegister,
        Some(b'4') => Table::HoldingRegister,
        _ => return Err(shape()),
    };
    Ok((table, text.get(1..).unwrap_or_default(), 1, last))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn at(table: Table, offset: u16, bit: Option<u8>) -> Address {
        Address { table, offset, bit }
    }

    #[test]
    fn addresses_are_read_in_both_styles() {
        for (text, base, address) in [
            ("holding:100", 0, at(Table::HoldingRegister, 100, None)),
            ("holding:100", 1, at(Table::HoldingRegister, 99, None)),
            ("holding:10.3", 0, at(Table::HoldingRegister, 10, Some(3))),
            ("input:65535", 0, at(Table::InputRegister, 65535, None)),
            ("input:65536", 1, at(Table::InputRegister, 65535, None)),
            ("coil:5", 0, at(Table::Coil, 5, None)),
            ("discrete: 3", 0, at(Table::DiscreteInput, 3, None)),
            ("40001", 0, at(Table::HoldingRegister, 0, None)),
            ("40001.15", 1, at(Table::HoldingRegister, 0, Some(15))),
            ("365536", 0, at(Table::InputRegister, 65535, None)),
            ("00001", 0, at(Table::Coil, 0, None)),
            ("10010", 0, at(Table::DiscreteInput, 9, None)),
        ] {
            assert_eq!(parse(text, base), Ok(address), "{text} with base {base}");
        }
    }

    #[test]
    fn what_is_no_address_says_why() {
        for (text, base, why) in [
            ("holding:65536", 0, "number 65536 is outside 0 to 65535"),
            ("holding:0", 1, "number 0 is outside 1 to 65536"),
            ("40000", 0, "number 0 is outside 1 to 9999"),
            ("465537", 0, "number 65537 is outside 1 to 65536"),
            ("holding:10.16", 0, "\"16\" is no bit of a register"),
            ("holding:10.+1", 0, "\"+1\" is no bit of a register"),
            ("coil:5.1", 0, "a coil is one bit already"),
            ("hold:5", 0, "there is no table \"hold\""),
            ("holding:", 0, "\"\" is no register number"),
            ("holding:-1", 0, "\"-1\" is no register number"),
            ("100", 0, "the address names no table"),
            ("20001", 0, "the address names no table"),
            ("", 0, "the address names no table"),
        ] {
            assert_eq!(parse(text, base).unwrap_err().to_string(), why, "{text}");
        }
        let near = parse("holdin:5", 0).unwrap_err();
        assert_eq!(near.suggestion(), Some("holding:5"));
    }

    #[test]
    fn ranges_are_read_in_both_styles() {
        let holding = |first, last| Forbidden { table: Table::HoldingRegister, first, last };
        for (text, base, range) in [
            ("holding:100-199", 0, holding(100, 199)),
            ("holding:100 - 199", 1, holding(99, 198)),
            ("holding:7", 0, holding(7, 7)),
            ("holding:7-holding:8", 0, holding(7, 8)),
            ("40101-40200", 0, holding(100, 199)),
        ] {
            assert_eq!(parse_range(text, base), Ok(range), "{text}");
        }
        for text in ["holding:9-8", "holding:1-coil:2", "40001-30002", "holding:1.2-3", "x", "1-2"]
        {
            assert!(parse_range(text, 0).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_range_or_not_but_never_a_panic(text in ".{0,30}", base in 0_u16..2) {
            let _ = parse_range(&text, base);
        }

        #[test]
        fn any_text_is_an_address_or_not_but_never_a_panic(text in ".{0,30}", base in 0_u16..2) {
            let _ = parse(&text, base);
        }
    }
}
