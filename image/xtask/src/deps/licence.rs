//! Licence expressions as crates declare them: SPDX, and the older `A/B`. Pure.

/// Whether somebody who accepts `allowed` alone may use what is under `expression`.
///
/// `None` when the expression cannot be read.
pub(super) fn is_allowed(expression: &str, allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut reader = Reader { words: &words, at: 0, allowed };
    let verdict = reader.either()?;
    (reader.at == words.len()).then_some(verdict)
}

struct Reader<'a> {
    words: &'a [&'a str],
    at: usize,
    allowed: &'a dyn Fn(&str) -> bool,
}

impl Reader<'_> {
    fn take(&mut self, word: &str) -> bool {
        let is = self.words.get(self.at).is_some_and(|next| next.eq_ignore_ascii_case(word));
        self.at += usize::from(is);
        is
    }

    fn either(&mut self) -> Option<bool> {
        let mut verdict = self.all()?;
        while self.take("OR") {
            verdict |= self.all()?;
        }
        Some(verdict)
    }

    fn all(&mut self) -> Option<bool> {
        let mut verdict = self.one()?;
        while self.take("AND") {
            verdict &= self.one()?;
        }
        Some(verdict)
    }

    fn one(&mut self) -> Option<bool> {
        if self.take("(") {
            let verdict = self.either()?;
            return self.take(")").then_some(verdict);
        }
        let name = *self.words.get(self.at)?;
        let is_a_name = name.chars().all(|c| c.is_ascii_alphanumeric() || "-.+".contains(c));
        if !is_a_name || matches!(name, "OR" | "AND" | "WITH") {
            return None;
        }
        self.at += 1;
        if self.take("WITH") {
            let exception = *self.words.get(self.at)?;
            self.at += 1;
            return Some((self.allowed)(&format!("{name} WITH {exception}")));
        }
        Some((self.allowed)(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(expression: &str) -> Option<bool> {
        is_allowed(expression, &|name| ["MIT", "ISC", "Apache-2.0"].contains(&name))
    }

    #[test]
    fn one_of_several_is_enough_and_all_of_several_are_needed() {
        for (expression, verdict) in [
            ("MIT", true),
            ("GPL-3.0-only", false),
            ("GPL-3.0-only OR MIT", true),
            ("MIT/GPL-2.0", true),
            ("Apache-2.0 AND ISC", true),
            ("Apache-2.0 AND OpenSSL", false),
            ("(MIT OR GPL-2.0) AND Unicode-3.0", false),
            ("GPL-2.0 OR MIT AND ISC", true),
            ("Apache-2.0 WITH LLVM-exception", false),
            ("Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT", true),
        ] {
            assert_eq!(judged(expression), Some(verdict), "{expression}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_allowed_by_accident() {
        for expression in ["", "MIT OR", "(MIT", "MIT)", "MIT ISC", "OR MIT", "MIT; GPL"] {
            assert_eq!(judged(expression), None, "{expression}");
        }
    }
}
