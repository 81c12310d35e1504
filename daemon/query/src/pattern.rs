//! Which tags are asked for.
//!
//! A pattern without `*` means that path and everything below it. `*` stands for any characters
//! within a segment, `**` for any characters at all.

/// A pattern over tag paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    parts: Vec<Piece>,
    prefix: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Char(char),
    InSegment,
    Anything,
}

impl Pattern {
    /// The pattern that matches every path.
    #[must_use]
    pub fn all() -> Self {
        Self { parts: vec![Piece::Anything], prefix: false }
    }

    /// Reads a pattern. Every text is one; characters beyond the longest path match nothing.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let text = text.trim_end_matches('/');
        let mut parts: Vec<Piece> = Vec::new();
        for c in text.chars().take(tidegate_translator::MAX_PATH_BYTES + 1) {
            match (c, parts.last()) {
                ('*', Some(Piece::InSegment)) => {
                    parts.pop();
                    parts.push(Piece::Anything);
                }
                ('*', Some(Piece::Anything)) => {}
                ('*', _) => parts.push(Piece::InSegment),
                (c, _) => parts.push(Piece::Char(c)),
            }
        }
        let prefix = !text.contains('*');
        Self { parts, prefix }
    }

    /// Whether a path is meant. Time is bounded by pattern length times path length.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        if self.prefix {
            return self.is_prefix_of(path);
        }
        self.after(path.chars()).last().copied().unwrap_or(false)
    }

    /// `live[i]`: the first `i` pieces can have matched everything that was read.
    fn after(&self, chars: impl Iterator<Item = char>) -> Vec<bool> {
        let mut live = vec![false; self.parts.len() + 1];
        live[0] = true;
        self.skip_stars(&mut live);
        for c in chars {
            let mut next = vec![false; live.len()];
            for (i, piece) in self.parts.iter().enumerate().filter(|(i, _)| live[*i]) {
                match piece {
                    Piece::Char(want) if *want == c => next[i + 1] = true,
                    Piece::Anything => next[i] = true,
                    Piece::InSegment if c != '/' => next[i] = true,
                    _ => {}
                }
            }
            self.skip_stars(&mut next);
            live = next;
        }
        live
    }

    /// Whether a path at `prefix` or below it could be meant.
    #[must_use]
    pub fn reaches(&self, prefix: &str) -> bool {
        if self.prefix {
            // The path that is meant lies below the prefix, or what is below it includes the prefix.
            return self.is_prefix_of(prefix) || self.lies_below(prefix);
        }
        self.matches(prefix) || self.survives(prefix.chars().chain(['/']))
    }

    fn lies_below(&self, prefix: &str) -> bool {
        let mut parts = self.parts.iter();
        let begins = prefix.chars().all(|c| parts.next() == Some(&Piece::Char(c)));
        begins && matches!(parts.next(), None | Some(Piece::Char('/')))
    }

    /// Whether what begins with these characters can still match.
    fn survives(&self, chars: impl Iterator<Item = char>) -> bool {
        self.after(chars).contains(&true)
    }

    fn skip_stars(&self, live: &mut [bool]) {
        for (i, piece) in self.parts.iter().enumerate() {
            if live[i] && !matches!(piece, Piece::Char(_)) {
                live[i + 1] = true;
            }
        }
    }

    fn is_prefix_of(&self, path: &str) -> bool {
        let mut chars = path.chars();
        let fits = self.parts.iter().all(|p| chars.next().map(Piece::Char) == Some(*p));
        fits && (self.parts.is_empty() || matches!(chars.next(), None | Some('/')))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_pattern_means_the_path_and_what_is_below() {
        let pattern = Pattern::new("PlantA/Line3");
        assert!(pattern.matches("PlantA/Line3") && pattern.matches("PlantA/Line3/x/y"));
        assert!(!pattern.matches("PlantA/Line30") && !pattern.matches("PlantA"));
        assert!(Pattern::new("PlantA/Line3/").matches("PlantA/Line3/x"));
        assert!(Pattern::new("").matches("anything"));
    }

    #[test]
    fn one_star_stays_in_its_segment_and_two_do_not() {
        let one = Pattern::new("PlantA/*/temp*");
        assert!(one.matches("PlantA/Line3/temperature"));
        assert!(!one.matches("PlantA/Line3/Press/temperature"));
        let two = Pattern::new("**/temp*");
        assert!(two.matches("PlantA/Line3/Press/temperature") && !two.matches("temperature"));
        assert!(Pattern::new("**").matches("a/b") && Pattern::all().matches("a/b"));
    }

    #[test]
    fn a_pattern_reaches_what_could_lie_below_a_prefix() {
        for (pattern, prefix, reaches) in [
            ("PlantA/Line3", "PlantA", true),
            ("PlantA", "PlantA/Line3", true),
            ("PlantA/Line3", "PlantA/Line30", false),
            ("PlantA/Line30", "PlantA/Line3", false),
            ("PlantA/*/temp", "PlantA/Line3", true),
            ("PlantA/*/temp", "PlantA/Line3/Press", false),
            ("**/temp", "PlantB", true),
            ("PlantA/**", "PlantB", false),
            ("PlantA/**", "PlantA", true),
            ("", "PlantA", true),
        ] {
            assert_eq!(Pattern::new(pattern).reaches(prefix), reaches, "{pattern} {prefix}");
        }
    }

    #[test]
    fn a_pattern_of_stars_takes_no_longer_than_its_length_times_the_path() {
        let pattern = Pattern::new(&"*a".repeat(250));
        assert!(!pattern.matches(&"a".repeat(249)));
        assert!(pattern.matches(&"a".repeat(512)));
    }
}
