//! From rows to parts to whoever sends them, whatever happens in between.
//!
//! # Invariants
//! - An answer ends with exactly one part that says so: a summary or a refusal. That one needs no
//!   credit, and has the rows that were still waiting for some.
//! - A row that was not sent is not counted: the answer's `next` begins with it.

use std::ops::ControlFlow;

use tidegate_query::{Code, Out, Part, PartialCause, Refusal, Row, Summary, Watch as _};

use super::credit::Running;
use super::parts::{Fit, Packer};

/// What became of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) rows: u64,
    pub(super) outcome: Outcome,
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Whole,
    Partial(PartialCause),
    Refused(Code),
}

impl Outcome {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Whole => "answered",
            Self::Refused(code) => code.word(),
            Self::Partial(cause) => match cause {
                PartialCause::Rows => "cut-at-rows",
                PartialCause::Bytes => "cut-at-bytes",
                PartialCause::Deadline => "cut-at-deadline",
                PartialCause::Cancelled => "cancelled",
                PartialCause::Dropped => "record-dropped",
                _ => "partial",
            },
        }
    }
}

/// Answers a question: `produce` gives its rows, `send` takes each part and says whether there is
/// still anybody to send it. Blocks while there is no credit.
pub(super) fn answer(
    running: &Running,
    max_bytes: usize,
    send: &mut dyn FnMut(Part) -> bool,
    produce: impl FnOnce(&mut Out<'_>) -> Result<Summary, Refusal>,
) -> Told {
    let parted = running.is_parted();
    let mut packer = Packer::new(running.id.clone(), parted, max_bytes);
    let (mut too_long, mut gone) = (None, false);
    let result = produce(&mut |mut row: Row| {
        loop {
            if running.ended().is_some() {
                return ControlFlow::Break(());
            }
            let length = row.0.get().len();
            match packer.offer(row) {
                Fit::Taken => return ControlFlow::Continue(()),
                Fit::Never => {
                    too_long = Some(length);
                    return ControlFlow::Break(());
                }
                Fit::Full(_) if !parted => return ControlFlow::Break(()),
                Fit::Full(back) => {
                    if !running.spend() {
                        return ControlFlow::Break(());
                    }
                    if !send(packer.part()) {
                        gone = true;
                        return ControlFlow::Break(());
                    }
                    row = back;
                }
            }
        }
    });
    let rows = packer.taken;
    let mut last = packer.part();
    let outcome = match (result, too_long) {
        (Ok(_), Some(length)) => {
            let text = format!(
                "row of {length} bytes fits no message; leave its tag out, or raise \
                 query.max-part-bytes at the gateway"
            );
            let refusal = Refusal::new(Code::TooMuch, text);
            last.error = Some(refusal);
            Outcome::Refused(Code::TooMuch)
        }
        (Ok(mut summary), None) => {
            summary.rows = rows;
            for source in &mut summary.sources {
                source.rows = rows;
            }
            summary.took_ms = running.began.elapsed().as_secs_f64() * 1000.0;
            if summary.partial == Some(PartialCause::Bytes)
                && let Some(cause) = running.ended()
            {
                summary.partial = Some(cause);
            }
            Packer::fit(&mut summary);
            let partial = summary.partial;
            last.summary = Some(summary);
            partial.map_or(Outcome::Whole, Outcome::Partial)
        }
        (Err(refusal), _) => {
            let code = refusal.code;
            last.error = Some(refusal);
            Outcome::Refused(code)
        }
    };
    if !gone {
        send(last);
    }
    Told { rows, outcome }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use serde_json::value::RawValue;

    use super::*;
    use crate::recorder::SystemClock;

    fn running(credit: Option<u32>) -> Running {
        let within = Duration::from_secs(600);
        Running::new("q".into(), Instant::now(), within, credit, Arc::new(SystemClock)).unwrap()
    }

    fn row(n: u32, bytes: usize) -> Row {
        Row(RawValue::from_string(format!("[{n},\"{}\"]", "x".repeat(bytes))).unwrap())
    }

    /// Rows of 30 kB; `partial` and `next` as the record gives them.
    fn rows(count: u32) -> impl FnOnce(&mut Out<'_>) -> Result<Summary, Refusal> {
        move |out| {
            for n in 0..count {
                if out(row(n, 30_000)).is_break() {
                    let next = Some(n.to_string());
                    let partial = Some(PartialCause::Bytes);
                    return Ok(Summary { next, partial, ..Summary::default() });
                }
            }
            Ok(Summary::default())
        }
    }

    #[test]
    fn an_answer_without_credit_is_one_message_and_says_where_it_goes_on() {
        let mut parts = Vec::new();
        let told = answer(
            &running(None),
            128 << 10,
            &mut |p| {
                parts.push(p);
                true
            },
            rows(9),
        );
        assert_eq!(told, Told { rows: 3, outcome: Outcome::Partial(PartialCause::Bytes) });
        let [only] = &parts[..] else { panic!("{} parts", parts.len()) };
        let summary = only.summary.as_ref().unwrap();
        assert_eq!((only.rows.len(), summary.rows, summary.next.as_deref()), (3, 3, Some("3")));
    }

    #[test]
    fn parts_come_as_far_as_credit_lasts_and_the_last_one_needs_none() {
        let running = Arc::new(running(Some(2)));
        let (sender, parts) = std::sync::mpsc::channel();
        let (full, until_full) = std::sync::mpsc::channel();
        let other = Arc::clone(&running);
        let thread = std::thread::spawn(move || {
            let produce = move |out: &mut Out<'_>| {
                rows(9)(&mut |row| {
                    let seventh = row.0.get().starts_with("[6,");
                    if seventh && full.send(()).is_err() {
                        return ControlFlow::Break(());
                    }
                    out(row)
                })
            };
            answer(&other, 512 << 10, &mut |part| sender.send(part).is_ok(), produce)
        });
        let long = Duration::from_secs(60);
        assert_eq!(parts.recv_timeout(long).unwrap().rows.len(), 2);
        assert_eq!(parts.recv_timeout(long).unwrap().rows.len(), 2);
        // The third has its two rows and waits; cancelled, what it holds comes with the end.
        until_full.recv_timeout(long).unwrap();
        running.cancel();
        let last = parts.recv_timeout(long).unwrap();
        let summary = last.summary.unwrap();
        assert_eq!((last.part, last.rows.len(), summary.rows), (2, 2, 6));
        assert_eq!(
            (summary.partial, summary.next.as_deref()),
            (Some(PartialCause::Cancelled), Some("6"))
        );
        assert_eq!(thread.join().unwrap().rows, 6);
    }

    #[test]
    fn a_row_that_fits_no_message_ends_the_answer_with_a_remedy() {
        let mut parts = Vec::new();
        let told = answer(
            &running(None),
            128 << 10,
            &mut |p| {
                parts.push(p);
                true
            },
            |out| {
                assert!(out(row(0, 10)).is_continue() && out(row(1, 200_000)).is_break());
                Ok(Summary { partial: Some(PartialCause::Bytes), ..Summary::default() })
            },
        );
        assert_eq!(told.outcome, Outcome::Refused(Code::TooMuch));
        assert_eq!(parts[0].rows.len(), 1);
        assert!(parts[0].error.as_ref().unwrap().text.contains("max-part-bytes"));
    }

    #[test]
    fn nobody_left_to_send_it_ends_the_answer() {
        let mut sent = 0;
        let told = answer(
            &running(Some(9)),
            128 << 10,
            &mut |_| {
                sent += 1;
                false
            },
            rows(9),
        );
        assert_eq!((sent, told.rows), (1, 2));
    }
}
