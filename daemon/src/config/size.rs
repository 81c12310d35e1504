//! Sizes in bytes as a person writes and reads them.

/// Units, largest first so that [`format`] finds the best one. SI units are powers of 1000, IEC
/// units powers of 1024.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1000),
    ("B", 1),
];

/// Reads `8 GiB`, `1.5 GB` or `4096`. Case does not matter; the unit does. `None` when it is no
/// size, or more bytes than 64 bits count.
#[must_use]
pub(crate) fn parse(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_');
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let unit = unit.trim_start();
    let factor = if unit.is_empty() {
        1
    } else {
        UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1
    };
    let number = number.replace('_', "");
    let (whole, fraction) = number.split_once('.').unwrap_or((&number, ""));
    // Nine places name every byte of a GB; more would only overflow.
    if whole.is_empty() || fraction.len() > 9 || (number.contains('.') && fraction.is_empty()) {
        return None;
    }
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let bytes = digits.checked_mul(u128::from(factor))? / scale;
    u64::try_from(bytes).ok()
}

/// Writes a size with the largest IEC unit of which it has at least one, with one decimal where
/// it is not whole.
#[must_use]
pub(crate) fn format(bytes: u64) -> String {
    for (name, factor) in UNITS.into_iter().filter(|(name, _)| name.ends_with("iB")) {
        if bytes >= factor {
            let tenths = u128::from(bytes) * 10 / u128::from(factor);
            return match tenths % 10 {
                0 => format!("{} {name}", tenths / 10),
                rest => format!("{}.{rest} {name}", tenths / 10),
            };
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read_with_si_and_iec_units() {
        for (text, bytes) in [
            ("8 GiB", 8 << 30),
            ("8GiB", 8 << 30),
            ("1.5 GB", 1_500_000_000),
            ("500 mb", 500_000_000),
            ("256 KiB", 256 << 10),
            ("4096", 4096),
            ("10_000 B", 10_000),
            ("0.5 KiB", 512),
        ] {
            assert_eq!(parse(text), Some(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "GiB",
            "8 Gib/s",
            "8 bananas",
            "-1 GiB",
            "1. GiB",
            ".5 GiB",
            "1.2.3 B",
            "99999999999 TiB",
            "1e3",
            "8 G",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_written_with_the_largest_fitting_unit() {
        assert_eq!(format(8 << 30), "8 GiB");
        assert_eq!(format(1_500_000_000), "1.3 GiB");
        assert_eq!(format(1023), "1023 B");
        assert_eq!(format(0), "0 B");
        assert_eq!(format(u64::MAX), "16777215.9 TiB");
    }

    proptest! {
        #[test]
        fn any_text_is_a_size_or_not_but_never_a_panic(text in "[0-9._ kKmMgGtTiIbB]{0,24}|.*") {
            let _ = parse(&text);
        }

        #[test]
        fn whole_units_survive_writing_and_reading(n in 1_u64..1023, shift in 0_u32..4) {
            let bytes = n << (10 * shift);
            prop_assert_eq!(parse(&format(bytes)), Some(bytes));
        }
    }
}
