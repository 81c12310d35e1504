//! The words for types and orders, in files and on screens. They stand here and nowhere else.

use std::fmt;

use crate::spec::{DataType, Forbidden, Order};

impl DataType {
    /// Every type, in the order in which a person looks for one; texts are of `text` bytes, and
    /// left out when that is 0.
    pub fn all(text: u16) -> impl Iterator<Item = Self> {
        let all = [
            Self::Bool,
            Self::Int16,
            Self::Uint16,
            Self::Bcd16,
            Self::Int32,
            Self::Uint32,
            Self::Float32,
            Self::Bcd32,
            Self::Int64,
            Self::Uint64,
            Self::Float64,
            Self::Bcd64,
            Self::Text(text),
        ];
        all.into_iter().filter(|kind| *kind != Self::Text(0))
    }

    /// The word that stands in a file; all texts have the same one, and their length beside it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int16 => "int16",
            Self::Uint16 => "uint16",
            Self::Int32 => "int32",
            Self::Uint32 => "uint32",
            Self::Int64 => "int64",
            Self::Uint64 => "uint64",
            Self::Float32 => "float32",
            Self::Float64 => "float64",
            Self::Bcd16 => "bcd16",
            Self::Bcd32 => "bcd32",
            Self::Bcd64 => "bcd64",
            Self::Text(_) => "text",
        }
    }

    /// The type with this word; `text` is the length in bytes that a text has.
    #[must_use]
    pub fn parse(word: &str, text: u16) -> Option<Self> {
        if word == Self::Text(text).word() {
            return Some(Self::Text(text));
        }
        Self::all(0).find(|kind| kind.word() == word)
    }

    /// Whether its values are whole numbers: those can have states.
    #[must_use]
    pub const fn is_whole(self) -> bool {
        match self {
            Self::Bool
            | Self::Int16
            | Self::Uint16
            | Self::Int32
            | Self::Uint32
            | Self::Int64
            | Self::Uint64
            | Self::Bcd16
            | Self::Bcd32
            | Self::Bcd64 => true,
            Self::Float32 | Self::Float64 | Self::Text(_) => false,
        }
    }

    /// Whether a value can travel in this order: texts only with their registers in order.
    #[must_use]
    pub const fn travels_in(self, order: Order) -> bool {
        !matches!(self, Self::Text(_)) || !order.swaps_words()
    }
}

/// The word, and of a text also its length.
impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(bytes) => write!(f, "text of {bytes} bytes"),
            _ => f.write_str(self.word()),
        }
    }
}

impl Order {
    /// All four, Modbus' own first.
    pub fn all() -> impl Iterator<Item = Self> {
        [Self::Abcd, Self::Cdab, Self::Badc, Self::Dcba].into_iter()
    }

    /// The word that stands in a file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Abcd => "abcd",
            Self::Cdab => "cdab",
            Self::Badc => "badc",
            Self::Dcba => "dcba",
        }
    }

    /// The order with this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::all().find(|order| order.word() == word)
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// As it stands in a file: `holding:100-199`, `coil:5`; 0-based.
impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.table.word(), self.first)?;
        if self.last == self.first { Ok(()) } else { write!(f, "-{}", self.last) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Table;

    #[test]
    fn every_word_reads_back_as_what_it_was_written_for() {
        for kind in DataType::all(7) {
            assert_eq!(DataType::parse(kind.word(), 7), Some(kind));
        }
        for order in Order::all() {
            assert_eq!(Order::parse(order.word()), Some(order));
        }
        assert_eq!(DataType::parse("int17", 7), None);
        assert_eq!(Order::parse("ABCD"), None, "words are written in one way");
        assert_eq!(DataType::all(0).count() + 1, DataType::all(1).count());
    }

    #[test]
    fn a_forbidden_range_is_told_as_it_stands_in_a_file() {
        let range = |first, last| Forbidden { table: Table::HoldingRegister, first, last };
        assert_eq!(range(100, 199).to_string(), "holding:100-199");
        assert_eq!(range(5, 5).to_string(), "holding:5");
    }
}
