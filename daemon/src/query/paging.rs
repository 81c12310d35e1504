//! Which tags of the status a question means, a page at a time.
//!
//! # Invariants
//! - The status is locked for a few hundred tags at a time, and never while patterns are compared.
//! - Tags come in the order of their paths, each once, however many patterns mean it.

use tidegate_query::{Code, Pattern, Refusal, Watch};
use tidegate_translator::{TagId, TagPath};

use crate::observe::state::Board;

/// The most patterns of one question: each is compared with each tag.
pub(super) const MAX_PATTERNS: usize = 64;
/// Tags that are taken from the status at a time.
const PAGE: usize = 256;

/// What a question means by its patterns.
#[derive(Debug)]
pub(super) struct Wanted {
    patterns: Vec<Pattern>,
    /// What their paths begin with, in order; none begins with another.
    prefixes: Vec<String>,
    is_plain: bool,
}

impl Wanted {
    /// Everything, without patterns.
    ///
    /// # Errors
    /// When there are too many.
    pub(super) fn new(patterns: &[String]) -> Result<Self, Refusal> {
        if patterns.len() > MAX_PATTERNS {
            let text = format!("{} patterns; at most {MAX_PATTERNS} in a question", patterns.len());
            return Err(Refusal::new(Code::TooMuch, text));
        }
        let mut prefixes: Vec<String> = patterns.iter().map(|text| literal(text)).collect();
        if patterns.is_empty() {
            prefixes.push(String::new());
        }
        prefixes.sort_unstable();
        prefixes.dedup_by(|later, earlier| later.starts_with(earlier.as_str()));
        let is_plain = !patterns.is_empty() && patterns.iter().all(|text| !text.contains('*'));
        let patterns = patterns.iter().map(|text| Pattern::new(text)).collect();
        Ok(Self { patterns, prefixes, is_plain })
    }

    /// Whether finding its tags takes microseconds: there is nothing to compare but beginnings.
    pub(super) const fn is_plain(&self) -> bool {
        self.is_plain
    }

    fn means(&self, path: &TagPath) -> bool {
        self.patterns.is_empty() || self.patterns.iter().any(|p| p.matches(path.as_str()))
    }

    /// Calls `each` with a few tags at a time, those after the path `after`, until it returns
    /// `false` or the watch ends.
    pub(super) fn visit(
        &self,
        board: &Board,
        after: Option<&str>,
        watch: &dyn Watch,
        each: &mut dyn FnMut(Vec<(TagId, TagPath)>) -> bool,
    ) {
        for prefix in &self.prefixes {
            let mut last = after.map(str::to_owned);
            loop {
                let page = board.paths(prefix, last.as_deref(), PAGE);
                let Some((_, end)) = page.last() else { break };
                last = Some(end.to_string());
                let is_end = page.len() < PAGE;
                let mut meant = Vec::new();
                for (id, path) in page {
                    if watch.ended().is_some() {
                        return;
                    }
                    if self.means(&path) {
                        meant.push((id, path));
                    }
                }
                if !meant.is_empty() && !each(meant) {
                    return;
                }
                if is_end {
                    break;
                }
            }
        }
    }
}

/// What every path begins with that a pattern means.
fn literal(pattern: &str) -> String {
    let end = pattern.find('*').unwrap_or(pattern.len());
    let (literal, _) = pattern.split_at(end);
    literal.trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidegate_query::PartialCause;
    use tidegate_translator::TagPath;

    use super::*;
    use crate::observe::state::TagMeta;
    use crate::recorder::SystemClock;

    struct Patient(Option<PartialCause>);

    impl Watch for Patient {
        fn now(&self) -> i64 {
            0
        }

        fn ended(&self) -> Option<PartialCause> {
            self.0
        }
    }

    fn board(tags: u32) -> Board {
        let board = Board::new("P/g".parse().unwrap(), Arc::new(SystemClock));
        let meta = |id| TagMeta {
            id: TagId(id),
            path: TagPath::new(format!("P/L{}/t{id:04}", id % 3)).unwrap(),
            unit: None,
            device: "d".into(),
            fresh_for: None,
        };
        board.configure([], (1..=tags).map(meta));
        board
    }

    fn found(board: &Board, patterns: &[&str], after: Option<&str>) -> Vec<String> {
        let patterns: Vec<_> = patterns.iter().map(ToString::to_string).collect();
        let mut out = Vec::new();
        let wanted = Wanted::new(&patterns).unwrap();
        wanted.visit(board, after, &Patient(None), &mut |page| {
            out.extend(page.into_iter().map(|(_, path)| path.to_string()));
            true
        });
        out
    }

    #[test]
    fn tags_come_in_order_and_once_whatever_patterns_mean_them() {
        let board = board(1000);
        let all = found(&board, &[], None);
        assert_eq!(all.len(), 1000);
        assert!(all.is_sorted());
        assert_eq!(found(&board, &["**"], None), all);
        assert_eq!(found(&board, &["P/L1", "P/**", "P/L2/t0002"], None), all);
        assert_eq!(
            found(&board, &["P/L2/t0002", "P/L1/t0001"], None),
            ["P/L1/t0001", "P/L2/t0002"]
        );
        assert_eq!(
            found(&board, &["*/L1/t000*"], None),
            ["P/L1/t0001", "P/L1/t0004", "P/L1/t0007"]
        );
        assert_eq!(
            found(&board, &["P/L1/t0001", "P/L1/t0004"], Some("P/L1/t0001")),
            ["P/L1/t0004"]
        );
        assert!(found(&board, &["P/L1/t00"], None).is_empty());
    }

    #[test]
    fn nothing_is_compared_any_more_when_the_question_has_ended() {
        let board = board(10);
        let mut pages = 0;
        let wanted = Wanted::new(&[]).unwrap();
        wanted.visit(&board, None, &Patient(Some(PartialCause::Cancelled)), &mut |_| {
            pages += 1;
            true
        });
        assert_eq!(pages, 0);
    }

    #[test]
    fn too_many_patterns_are_refused() {
        let patterns = vec!["**a".to_owned(); MAX_PATTERNS + 1];
        assert_eq!(Wanted::new(&patterns).unwrap_err().code, Code::TooMuch);
    }
}
