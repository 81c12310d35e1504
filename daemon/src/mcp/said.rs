//! What an agent is told: rows in words, and what is missing before anything else.
//!
//! # Invariants
//! - `complete` is true only when every owner answered, nothing was cut, and nothing of the range is
//!   in a gap: an agent that reads one field cannot take a part for the whole.
//! - Short keys of the wire become words; what only the product's own readers need is left out.

use serde_json::{Map, Value, json};

use super::desk::Gathered;

/// Gaps that are listed; the rest is counted.
const GAPS: usize = 20;

/// The result of a tool. The error is what to tell when nobody answered.
pub(super) fn said(gathered: Gathered, limit: usize) -> Result<Value, String> {
    let Gathered { mut rows, summary, absent, refused } = gathered;
    if rows.is_empty() && !refused.is_empty() && absent.is_empty() && summary.sources.is_empty() {
        let texts = refused.iter().map(|(gateway, refusal)| {
            format!("{gateway} does not answer ({}): {refusal}", refusal.code.word())
        });
        return Err(texts.collect::<Vec<_>>().join("\n"));
    }
    let cut = rows.len() > limit;
    rows.truncate(limit);
    let gaps_left_off = summary.coverage.as_ref().map_or(0, |coverage| {
        coverage.gaps_left_off + coverage.gaps.len().saturating_sub(GAPS) as u64
    });
    let whole = summary.coverage.as_ref().is_none_or(|coverage| coverage.share >= 1.0);
    let is_partial = cut || summary.partial.is_some() || summary.next.is_some();
    let mut out = Map::new();
    let mut put = |key: &str, value: Value| out.insert(key.to_owned(), value);
    put("complete", json!(whole && !is_partial && absent.is_empty() && refused.is_empty()));
    if let Some(coverage) = summary.coverage {
        let gaps: Vec<_> = coverage.gaps.iter().take(GAPS).collect();
        let mut shown = json!({
            "from": coverage.from,
            "to": coverage.to,
            "share": coverage.share,
            "gaps": gaps,
        });
        if gaps_left_off > 0 {
            shown["gaps_left_off"] = json!(gaps_left_off);
        }
        put("coverage", shown);
    }
    if is_partial {
        let more = "there are more rows: ask for fewer tags, a shorter range, a wider step (every), \
                    or a higher limit";
        put("more", json!(more));
    }
    let named = |(gateway, why): &(String, String)| json!({ "gateway": gateway, "why": why });
    if !absent.is_empty() {
        put("absent", absent.iter().map(named).collect());
    }
    if !refused.is_empty() {
        let told = refused.iter().map(|(gateway, refusal)| {
            json!({ "gateway": gateway, "code": refusal.code.word(), "why": refusal.text })
        });
        put("refused", told.collect());
    }
    if !summary.notes.is_empty() {
        put("notes", json!(summary.notes));
    }
    put("row_count", json!(rows.len()));
    put("rows", rows.into_iter().map(|(gateway, row)| in_words(gateway, row)).collect());
    Ok(Value::Object(out))
}

/// A row with words for keys.
fn in_words(gateway: String, row: Value) -> Value {
    let Value::Object(row) = row else { return row };
    let mut out = Map::new();
    out.insert("gateway".to_owned(), Value::String(gateway));
    for (key, value) in row {
        let word = match key.as_str() {
            "v" => "value",
            "q" => "quality",
            "u" => "unit",
            "ts" => "time",
            "epoch" | "seq" | "acquired" | "status" => continue,
            other => other,
        };
        out.insert(word.to_owned(), value);
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use tidegate_query::{Code, Coverage, Gap, PartialCause, Refusal, Source, Summary};

    use super::*;

    fn answered(share: f64) -> Gathered {
        let source = Source { gateway: "P/g".into(), at: "2026-01-01T00:00:00Z".into(), rows: 1 };
        let gap = Gap {
            from: "2026-01-01T00:00:00Z".into(),
            to: "2026-01-01T00:10:00Z".into(),
            who: "press-1".into(),
            cause: "device-silent".into(),
            count: Some(600),
            open: false,
        };
        let coverage = Coverage {
            from: "2026-01-01T00:00:00Z".into(),
            to: "2026-01-01T01:00:00Z".into(),
            share,
            tags: 1,
            gaps: if share < 1.0 { vec![gap] } else { Vec::new() },
            gaps_left_off: 0,
        };
        let row = json!({ "path": "P/t", "epoch": "e", "seq": 1, "ts": "t", "v": 1, "q": "good", "u": "degC" });
        Gathered {
            rows: vec![("P/g".into(), row)],
            summary: Summary {
                sources: vec![source],
                coverage: Some(coverage),
                ..Summary::default()
            },
            ..Gathered::default()
        }
    }

    #[test]
    fn rows_are_told_in_words_with_unit_and_quality() {
        let told = said(answered(1.0), 10).unwrap();
        let row = json!({
            "gateway": "P/g", "path": "P/t", "time": "t", "value": 1, "quality": "good", "unit": "degC"
        });
        assert_eq!(told["rows"], json!([row]));
        assert_eq!(told["complete"], true);
    }

    #[test]
    fn whatever_is_missing_makes_it_incomplete() {
        assert_eq!(said(answered(0.9), 10).unwrap()["complete"], false);
        assert_eq!(said(answered(1.0), 0).unwrap()["complete"], false);
        let mut absent = answered(1.0);
        absent.absent.push(("P/h".into(), "offline".into()));
        let told = said(absent, 10).unwrap();
        assert_eq!(
            (&told["complete"], &told["absent"][0]["gateway"]),
            (&json!(false), &json!("P/h"))
        );
        let mut cut = answered(1.0);
        cut.summary.partial = Some(PartialCause::Deadline);
        assert_eq!(said(cut, 10).unwrap()["complete"], false);
    }

    #[test]
    fn owners_that_all_refuse_are_an_error_with_their_words() {
        let refusal = Refusal::new(Code::ReversedRange, "from 2 lies after to 1; swap them");
        let gathered = Gathered { refused: vec![("P/g".into(), refusal)], ..Gathered::default() };
        let text = said(gathered, 10).unwrap_err();
        assert!(text.contains("reversed-range") && text.contains("swap them"), "{text}");
    }
}
