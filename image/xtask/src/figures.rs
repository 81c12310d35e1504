//! Figures of what was built: a table for people, lines for the report.

/// What was found of something that a bound is promised for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Figure {
    /// Of what, with the architecture where it has one.
    pub(crate) what: String,
    /// The value with its unit.
    pub(crate) found: String,
    /// The bound with its unit; empty where none is promised.
    pub(crate) asked: String,
    /// Whether the bound holds; `None` where none is promised.
    pub(crate) holds: Option<bool>,
}

impl Figure {
    /// Bytes that must not be more than `most`, both shown in megabytes (10^6 bytes).
    pub(crate) fn bytes_at_most(what: impl Into<String>, found: u64, most: u64) -> Self {
        Self {
            what: what.into(),
            found: megabytes(found),
            asked: format!("<= {}", megabytes(most)),
            holds: Some(found <= most),
        }
    }

    /// Bytes that no bound is promised for.
    pub(crate) fn bytes(what: impl Into<String>, found: u64) -> Self {
        Self::told(what, megabytes(found))
    }

    /// Something that is only told.
    pub(crate) fn told(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self { what: what.into(), found: found.into(), asked: String::new(), holds: None }
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{:02} MB", bytes / 1_000_000, bytes % 1_000_000 / 10_000)
}

/// The figures as an aligned table.
pub(crate) fn table(figures: &[Figure]) -> String {
    let head = ["", "found", "asked", ""].map(str::to_owned);
    let mut rows = vec![head];
    rows.extend(figures.iter().map(|figure| {
        let verdict = match figure.holds {
            Some(true) => "holds",
            Some(false) => "MISSED",
            None => "",
        };
        [figure.what.clone(), figure.found.clone(), figure.asked.clone(), verdict.to_owned()]
    }));
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let widths = [width(0), width(1), width(2)];
    let mut text = String::new();
    for [what, found, asked, verdict] in &rows {
        let [a, b, c] = widths;
        let line = format!("{what:<a$}  {found:>b$}  {asked:>c$}  {verdict}");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_that_is_missed_stands_out() {
        let figures = [
            Figure::bytes_at_most("gateway, aarch64", 11_999_999, 12_000_000),
            Figure::bytes_at_most("gateway, x86_64", 12_000_001, 12_000_000),
            Figure::told("glibc of armv7", "2.34"),
        ];
        let expected = "                     found        asked
gateway, aarch64  11.99 MB  <= 12.00 MB  holds
gateway, x86_64   12.00 MB  <= 12.00 MB  MISSED
glibc of armv7        2.34
";
        assert_eq!(table(&figures), expected);
    }
}
