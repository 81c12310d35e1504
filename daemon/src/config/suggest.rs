//! "Did you mean": the nearest of the legal words.

/// The legal word nearest to what was written, when it is near enough to be a slip: at most a
/// third of its letters, and never more than three.
pub(crate) fn nearest<'a>(
    written: &str,
    legal: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // A slip has about the length of the word; this also bounds the work on long input.
    const LONGEST: usize = 64;
    if written.is_empty() || written.len() > LONGEST {
        return None;
    }
    let folded = fold(written);
    legal
        .into_iter()
        .map(|word| (distance(&folded, &fold(word)), word))
        .filter(|&(distance, word)| distance <= (word.len() / 3).clamp(1, 3))
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, word)| word)
}

/// Case and the choice between `-` and `_` are the commonest slips: they cost nothing.
fn fold(word: &str) -> Vec<char> {
    word.chars().map(|c| if c == '_' { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, &x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &y) in b.iter().enumerate() {
            let mut best = (last[j] + usize::from(x != y)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && x == b[j - 1] && a[i - 1] == y {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDERS: [&str; 4] = ["abcd", "cdab", "badc", "dcba"];

    #[test]
    fn a_slip_finds_the_word_that_was_meant() {
        for (written, meant) in [
            ("pol-every-ms", "poll-every-ms"),
            ("poll_every_ms", "poll-every-ms"),
            ("Poll-Every-MS", "poll-every-ms"),
            ("polle-very-ms", "poll-every-ms"),
            ("adress", "address"),
            ("addr", "address"),
        ] {
            let legal = ["poll-every-ms", "address", "unit"];
            let found = nearest(written, legal);
            if written == "addr" {
                assert_eq!(found, None, "three letters short of seven is no slip");
            } else {
                assert_eq!(found, Some(meant), "{written}");
            }
        }
        assert_eq!(nearest("CDAB", ORDERS), Some("cdab"));
        assert_eq!(nearest("abdc", ORDERS), Some("abcd"));
    }

    #[test]
    fn a_word_far_from_all_gets_no_suggestion() {
        assert_eq!(nearest("little-endian", ORDERS), None);
        assert_eq!(nearest("", ORDERS), None);
        assert_eq!(nearest(&"x".repeat(100_000), ORDERS), None);
    }
}
