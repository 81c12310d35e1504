//! Which columns the rows of each kind have, and what is in them.

use std::borrow::Cow;

/// What the rows of a sheet are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Samples, as `tidegate tap` and `history` without buckets give them.
    Samples,
    /// Samples with their age at a moment (`history` with `at`).
    At,
    /// Buckets of time.
    Buckets,
    /// Losses.
    Losses,
    /// Tags of the catalog.
    Tags,
    /// Latest values.
    Latest,
    /// Fresh readings.
    Read,
    /// Anything else: the columns are the keys of the first row.
    Any,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Any value of a tag: several columns in Parquet, one of each type.
    Value,
    /// A number of a tag that was computed from its samples.
    Number,
    /// A number that need not be exact.
    Float,
    /// A count that is never negative.
    Count,
    /// An instant.
    Time,
    /// Text.
    Text,
    /// Yes or no.
    Bool,
}

/// One column.
#[derive(Debug, Clone)]
pub(super) struct Column {
    /// The key in the JSON row, and the name in CSV and Parquet.
    pub(super) key: Cow<'static, str>,
    pub(super) kind: Kind,
    /// Its title in a table; none: a table is too narrow for it.
    pub(super) title: Option<Cow<'static, str>>,
}

impl Column {
    const fn shown(key: &'static str, kind: Kind, title: &'static str) -> Self {
        Self { key: Cow::Borrowed(key), kind, title: Some(Cow::Borrowed(title)) }
    }

    const fn hidden(key: &'static str, kind: Kind) -> Self {
        Self { key: Cow::Borrowed(key), kind, title: None }
    }

    /// A column that was found in a row.
    pub(super) fn found(key: String, kind: Kind) -> Self {
        let title = key.to_uppercase().replace('_', " ");
        Self { key: Cow::Owned(key), kind, title: Some(Cow::Owned(title)) }
    }

    /// Whether a row's key is this column.
    pub(super) fn is(&self, key: &str) -> bool {
        // The latest values of `tidegate tags` spell the unit out.
        self.key == key || (self.key == "u" && key == "unit")
    }
}

impl Shape {
    pub(super) fn columns(self, gateway: bool, corrected: bool) -> Vec<Column> {
        use Kind::{Bool, Count, Float, Number, Text, Time, Value};
        let (shown, hidden) = (Column::shown, Column::hidden);
        let mut columns = Vec::new();
        if gateway {
            columns.push(shown("gateway", Text, "GATEWAY"));
        }
        match self {
            Self::Samples | Self::At => {
                columns.push(shown("ts", Time, "TIME"));
                if corrected {
                    columns.push(shown("corrected", Time, "CORRECTED"));
                }
                columns.push(shown("path", Text, "PATH"));
                columns.push(shown("v", Value, "VALUE"));
                columns.push(shown("u", Text, "UNIT"));
                columns.push(shown("q", Text, "QUALITY"));
                columns.push(hidden("why", Text));
                if self == Self::At {
                    columns.push(shown("age_ms", Count, "AGE MS"));
                }
                columns.extend([
                    hidden("status", Count),
                    hidden("note", Text),
                    hidden("source", Time),
                    hidden("server", Time),
                    hidden("acquired", Time),
                    hidden("epoch", Text),
                    hidden("seq", Count),
                    hidden("tag", Count),
                ]);
            }
            Self::Buckets => columns.extend([
                shown("from", Time, "FROM"),
                hidden("to", Time),
                shown("path", Text, "PATH"),
                shown("count", Count, "COUNT"),
                shown("good", Count, "GOOD"),
                shown("min", Number, "MIN"),
                shown("max", Number, "MAX"),
                shown("avg", Float, "AVG"),
                shown("last", Value, "LAST"),
                hidden("last_ts", Time),
                shown("u", Text, "UNIT"),
            ]),
            Self::Losses => columns.extend([
                shown("from", Time, "FROM"),
                shown("to", Time, "TO"),
                shown("ledger", Text, "LEDGER"),
                shown("who", Text, "WHO"),
                shown("cause", Text, "CAUSE"),
                shown("count", Count, "COUNT"),
                shown("open", Bool, "OPEN"),
                hidden("first_seq", Count),
                hidden("end_seq", Count),
                hidden("epoch", Text),
            ]),
            Self::Tags => columns.extend([
                shown("path", Text, "PATH"),
                shown("kind", Text, "KIND"),
                shown("u", Text, "UNIT"),
                shown("device", Text, "DEVICE"),
                shown("address", Text, "ADDRESS"),
                shown("source", Text, "SOURCE"),
            ]),
            Self::Latest | Self::Read => {
                columns.extend([
                    shown("path", Text, "PATH"),
                    shown("v", Value, "VALUE"),
                    shown("u", Text, "UNIT"),
                    shown("q", Text, "QUALITY"),
                    hidden("why", Text),
                    shown("ts", Time, "TIME"),
                ]);
                if self == Self::Latest {
                    columns.extend([shown("age_ms", Count, "AGE MS"), hidden("device", Text)]);
                } else {
                    columns.push(hidden("fresh", Bool));
                }
            }
            Self::Any => {}
        }
        columns
    }
}
