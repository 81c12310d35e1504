//! `tidegate tags --watch` on a terminal: one screen that is drawn over, with keys to move in it.
//!
//! # Invariants
//! - A frame is as large as the terminal: no line wraps and nothing scrolls away.
//! - Nothing is cleared before it is drawn over, so nothing flickers.
//! - The terminal is as before when this ends, an error or a panic included.
//! - A value that nobody vouches for never looks like one that somebody does.

use std::io::{self, Read as _, Write};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{self, LocalModes, OptionalActions, Termios};

use super::terminal::{self, Align, Table, Tone, age, tame};
use crate::observe::state::TagReport;

/// The size of a terminal that does not tell its own.
const USUAL: Size = Size { columns: 80, rows: 24 };
/// The longest value in a row; of a longer one the beginning is shown.
const MAX_VALUE: usize = 24;

/// Columns and rows of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size {
    columns: usize,
    rows: usize,
}

/// What a person wants to see.
#[derive(Debug, Default)]
pub(super) struct View {
    top: usize,
    only_bad: bool,
    page: usize,
    shown: usize,
}

/// What a person may press.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    OnlyBad,
    Quit,
}

/// A terminal that is drawn on, until this is dropped.
pub(super) struct Canvas {
    before: Option<Termios>,
    colour: bool,
}

impl Canvas {
    /// Takes the terminal over. Keys work where standard input is the terminal, too.
    pub(super) fn open(colour: bool) -> io::Result<Self> {
        let stdin = io::stdin();
        let before = termios::tcgetattr(&stdin).ok();
        if let Some(before) = &before {
            let mut keys = before.clone();
            // Ctrl-C comes as a key, so that the terminal is always given back.
            keys.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
            termios::tcsetattr(&stdin, OptionalActions::Now, &keys)?;
        }
        // The other screen, so that what was there before comes back; no cursor.
        write!(io::stdout(), "\x1b[?1049h\x1b[?25l\x1b[H\x1b[2J")?;
        Ok(Self { before, colour })
    }

    /// Draws the tags; `trouble` says why they are not of now.
    pub(super) fn draw(
        &self,
        view: &mut View,
        tags: &[TagReport],
        title: &str,
        trouble: Option<&str>,
    ) -> io::Result<()> {
        let mut text = String::from("\x1b[H");
        let lines = view.frame(tags, title, trouble, size(), self.colour);
        for (at, line) in lines.iter().enumerate() {
            // No line feed behind the last row: that would scroll.
            let end = if at + 1 < lines.len() { "\x1b[K\r\n" } else { "\x1b[K" };
            text.push_str(line);
            text.push_str(end);
        }
        text.push_str("\x1b[J");
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// Waits for `patience`, or until a key changes the view. `false` when the person has seen
    /// enough.
    pub(super) fn wait(&self, view: &mut View, patience: Duration) -> io::Result<Wait> {
        let until = Instant::now() + patience;
        if self.before.is_none() {
            std::thread::sleep(patience);
            return Ok(Wait::Over);
        }
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Wait::Over);
            }
            let stdin = io::stdin();
            let mut watched = [PollFd::new(&stdin, PollFlags::IN)];
            let timeout = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
            match poll(&mut watched, Some(&timeout)) {
                Ok(0) => return Ok(Wait::Over),
                Ok(_) => {}
                // A window that changed its size: draw at once.
                Err(error) if error == rustix::io::Errno::INTR => return Ok(Wait::Moved),
                Err(error) => return Err(error.into()),
            }
            let mut bytes = [0; 64];
            let count = stdin.lock().read(&mut bytes)?;
            if count == 0 {
                return Ok(Wait::Quit);
            }
            let pressed = keys(bytes.get(..count).unwrap_or_default());
            if pressed.contains(&Key::Quit) {
                return Ok(Wait::Quit);
            }
            if !pressed.is_empty() {
                pressed.into_iter().for_each(|key| view.press(key));
                return Ok(Wait::Moved);
            }
        }
    }
}

impl Drop for Canvas {
    fn drop(&mut self) {
        // Nobody is left to tell when the terminal is gone.
        let _ = write!(io::stdout(), "\x1b[?25h\x1b[?1049l");
        let _ = io::stdout().flush();
        if let Some(before) = &self.before {
            let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// Its time is over.
    Over,
    /// The same tags are to be drawn in another way.
    Moved,
    /// The person has seen enough.
    Quit,
}

/// The width of the terminal.
pub(super) fn columns() -> usize {
    size().columns
}

fn size() -> Size {
    match termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            Size { columns: size.ws_col.into(), rows: size.ws_row.into() }
        }
        _ => USUAL,
    }
}

/// The keys in what a terminal sent.
fn keys(mut bytes: &[u8]) -> Vec<Key> {
    const SEQUENCES: [(&[u8], Key); 20] = [
        (b"\x1b[A", Key::Up),
        (b"\x1bOA", Key::Up),
        (b"k", Key::Up),
        (b"\x1b[B", Key::Down),
        (b"\x1bOB", Key::Down),
        (b"j", Key::Down),
        (b"\x1b[5~", Key::PageUp),
        (b"\x1b[6~", Key::PageDown),
        (b" ", Key::PageDown),
        (b"\x1b[H", Key::First),
        (b"\x1bOH", Key::First),
        (b"\x1b[1~", Key::First),
        (b"g", Key::First),
        (b"\x1b[F", Key::Last),
        (b"\x1bOF", Key::Last),
        (b"\x1b[4~", Key::Last),
        (b"G", Key::Last),
        (b"b", Key::OnlyBad),
        (b"q", Key::Quit),
        (b"\x03", Key::Quit),
    ];
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let known = SEQUENCES.iter().find(|(sequence, _)| bytes.starts_with(sequence));
        let length = known.map_or(1, |(sequence, _)| sequence.len());
        found.extend(known.map(|(_, key)| *key));
        bytes = bytes.get(length..).unwrap_or_default();
    }
    found
}

impl View {
    fn press(&mut self, key: Key) {
        let last = self.shown.saturating_sub(self.page);
        self.top = match key {
            Key::Up => self.top.saturating_sub(1),
            Key::Down => self.top + 1,
            Key::PageUp => self.top.saturating_sub(self.page),
            Key::PageDown => self.top + self.page,
            Key::First => 0,
            Key::Last => last,
            Key::OnlyBad => {
                self.only_bad = !self.only_bad;
                0
            }
            Key::Quit => self.top,
        };
        if key != Key::OnlyBad {
            self.top = self.top.min(last);
        }
    }

    /// The lines of one screen.
    fn frame(
        &mut self,
        tags: &[TagReport],
        title: &str,
        trouble: Option<&str>,
        size: Size,
        colour: bool,
    ) -> Vec<String> {
        let is = |word: &str| tags.iter().filter(|tag| tag.q == word).count();
        let (good, uncertain) = (is("good"), is("uncertain"));
        let bad = tags.len() - good - uncertain;
        let shown: Vec<&TagReport> =
            tags.iter().filter(|tag| !self.only_bad || tag.q != "good").collect();
        // Head, column names, foot.
        self.page = size.rows.saturating_sub(3).max(1);
        self.shown = shown.len();
        self.top = self.top.min(shown.len().saturating_sub(self.page));
        let counted = |count: usize, word: &str, tone: Tone| {
            let tone = if count == 0 { Tone::Faint } else { tone };
            (format!("{count} {word}"), tone)
        };
        let head = match trouble {
            Some(trouble) => fit(&tame(trouble), size.columns, Tone::Wrong, colour),
            None => spans(
                &[
                    (format!("{} ", tame(title)), Tone::Strong),
                    counted(good, "good", Tone::Good),
                    counted(uncertain, "uncertain", Tone::Caution),
                    counted(bad, "bad", Tone::Wrong),
                ],
                size.columns,
                colour,
            ),
        };
        let page: Vec<&TagReport> = shown.iter().skip(self.top).take(self.page).copied().collect();
        let mut lines = vec![head];
        lines.extend(rows(&page, size.columns, trouble.is_some(), colour));
        lines.truncate(size.rows.saturating_sub(1).max(1));
        while lines.len() + 1 < size.rows {
            lines.push(String::new());
        }
        let place = match shown.len() {
            0 if self.only_bad => "all are good".to_owned(),
            0 => "no tag".to_owned(),
            all => format!("{}-{} of {all}", self.top + 1, self.top + page.len()),
        };
        let filter = if self.only_bad { "b all" } else { "b only what is not good" };
        let foot = format!("{place}  ↑ ↓ PgUp PgDn  {filter}  q quit");
        lines.push(fit(&foot, size.columns, Tone::Faint, colour));
        lines
    }
}

/// The page as a table that fits into the width: the front of long paths gives way, because their
/// ends tell them apart.
fn rows(tags: &[&TagReport], columns: usize, is_old: bool, colour: bool) -> Vec<String> {
    let build = |longest: usize| {
        let mut table = Table::new(&[
            ("TAG", Align::Left),
            ("VALUE", Align::Right),
            ("UNIT", Align::Left),
            ("AGE", Align::Right),
            ("QUALITY", Align::Left),
        ]);
        for tag in tags {
            table.row(cells(tag, longest, is_old));
        }
        table
    };
    let widest = |lines: &[String]| lines.iter().map(|line| line.chars().count()).max();
    let longest = tags.iter().map(|tag| tame(&tag.path).chars().count()).max().unwrap_or(0);
    let over = widest(&build(longest).lines(0, false)).unwrap_or(0).saturating_sub(columns);
    let longest = longest.saturating_sub(over).max(8);
    let table = build(longest);
    if widest(&table.lines(0, false)).unwrap_or(0) <= columns {
        return table.lines(0, colour);
    }
    // A terminal too narrow for the rest: cut, and without colour, whose codes must stay whole.
    table.lines(0, false).iter().map(|line| line.chars().take(columns).collect()).collect()
}

/// Path, value, unit, age, quality.
fn cells(tag: &TagReport, longest: usize, is_old: bool) -> [(String, Tone); 5] {
    let (quality, tone) = terminal::quality(&tag.q, tag.why.as_deref());
    let tone = if is_old { Tone::Faint } else { tone };
    let value_tone = match tag.q.as_str() {
        _ if is_old => Tone::Faint,
        "good" => Tone::Strong,
        "uncertain" => Tone::Caution,
        _ => Tone::Faint,
    };
    let path = tame(&tag.path);
    let too_long = path.chars().count().saturating_sub(longest);
    let path = if too_long == 0 {
        path
    } else {
        std::iter::once('…').chain(path.chars().skip(too_long + 1)).collect()
    };
    let value = terminal::cut(tame(&terminal::value(&tag.v)), MAX_VALUE);
    let reading = tag.age_ms.map(|ms| age(Duration::from_millis(ms)));
    let age_tone = if tag.why.as_deref() == Some("stale") { Tone::Wrong } else { Tone::Plain };
    [
        (path, Tone::Plain),
        (value, value_tone),
        (tag.unit.clone().unwrap_or_default(), Tone::Plain),
        (reading.unwrap_or_else(|| "never".to_owned()), age_tone),
        (quality, tone),
    ]
}

/// A text cut to the width.
fn fit(text: &str, columns: usize, tone: Tone, colour: bool) -> String {
    let cut: String = text.chars().take(columns).collect();
    tone.paint(&cut, colour)
}

/// Texts beside each other, cut to the width.
fn spans(texts: &[(String, Tone)], columns: usize, colour: bool) -> String {
    let mut left = columns;
    let mut line = String::new();
    for (text, tone) in texts {
        if !line.is_empty() && left > 1 {
            line.push_str("  ");
            left -= 2;
        }
        line.push_str(&fit(text, left, *tone, colour));
        left = left.saturating_sub(text.chars().count());
    }
    line
}

#[cfg(test)]
mod tests {
    use tidegate_translator::{Reason, Sample, TagId, Timestamp, Value};

    use super::*;
    use crate::observe::state::Pattern;
    use crate::observe::state::tests::board;

    const SIZE: Size = Size { columns: 60, rows: 10 };

    fn tag(path: String, q: &str, why: Option<&str>) -> TagReport {
        TagReport {
            path,
            device: "d".into(),
            unit: Some("degC".into()),
            v: 72.3.into(),
            q: q.into(),
            why: why.map(str::to_owned),
            time: None,
            age_ms: Some(400),
        }
    }

    fn many(count: usize) -> Vec<TagReport> {
        let one = |at| {
            let (q, why) = if at % 5 == 4 { ("bad", Some("timeout")) } else { ("good", None) };
            tag(format!("PlantA/Line3/Press1/temperature-{at:02}"), q, why)
        };
        (0..count).map(one).collect()
    }

    fn frame(view: &mut View, tags: &[TagReport], size: Size) -> Vec<String> {
        view.frame(tags, "PlantA", None, size, false)
    }

    #[test]
    fn a_frame_fills_the_screen_and_no_line_is_wider() {
        for (columns, rows) in [(80, 24), (60, 10), (30, 5), (12, 3), (200, 60), (1, 1)] {
            let size = Size { columns, rows };
            for count in [0, 3, 53] {
                let lines = frame(&mut View::default(), &many(count), size);
                assert_eq!(lines.len(), rows.max(2), "{size:?} {count}");
                let widest = lines.iter().map(|line| line.chars().count()).max().unwrap();
                assert!(widest <= columns, "{size:?}: {lines:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn value_age_and_quality_of_each_tag_are_visible() {
        let board = board();
        board.note_samples(&[
            Sample::good(TagId(1), Timestamp(0), Value::F32(72.3)),
            Sample::bad(TagId(2), Timestamp(0), Reason::Timeout, 0),
        ]);
        let tags = board.tags(&Pattern::all(), None, 100).tags;
        let lines = frame(&mut View::default(), &tags, Size { columns: 80, rows: 7 });
        assert_eq!(
            lines,
            [
                "PlantA   1 good  0 uncertain  2 bad",
                "TAG                        VALUE  UNIT    AGE  QUALITY",
                "PlantA/Press1/running          –  degC  0.0 s  bad (timeout)",
                "PlantA/Press1/temperature   72.3  degC  0.0 s  good",
                "PlantA/Press2/temperature      –  degC  never  bad (not-connected)",
                "",
                "1-3 of 3  ↑ ↓ PgUp PgDn  b only what is not good  q quit",
            ]
        );
    }

    #[test]
    fn keys_move_through_more_tags_than_lines_and_never_beyond() {
        let (mut view, tags) = (View::default(), many(53));
        let foot = |view: &mut View| frame(view, &tags, SIZE).pop().unwrap();
        assert!(foot(&mut view).starts_with("1-7 of 53"));
        for (key, place) in [
            (Key::Down, "2-8 of"),
            (Key::PageDown, "9-15 of"),
            (Key::Last, "47-53 of"),
            (Key::Down, "47-53 of"),
            (Key::PageUp, "40-46 of"),
            (Key::First, "1-7 of"),
            (Key::Up, "1-7 of"),
            (Key::OnlyBad, "1-7 of 10"),
        ] {
            view.press(key);
            assert!(foot(&mut view).starts_with(place), "{key:?}: {}", foot(&mut view));
        }
        // Fewer tags than before: the view comes back.
        view.press(Key::Last);
        assert!(frame(&mut view, &many(3), SIZE).pop().unwrap().starts_with("all are good"));
    }

    #[test]
    fn long_paths_keep_their_ends_and_long_values_their_beginnings() {
        let mut long = tag(format!("{}/temperature", "x".repeat(300)), "good", None);
        long.v = "y".repeat(300).into();
        let lines = frame(&mut View::default(), &[long], Size { columns: 70, rows: 5 });
        assert!(lines[2].starts_with("…") && lines[2].contains("x/temperature  yyy"), "{lines:?}");
        assert!(lines[2].ends_with("good"), "{lines:?}");
    }

    #[test]
    fn what_is_not_good_does_not_look_good() {
        let mut view = View::default();
        let tags = [tag("a".into(), "bad", Some("stale")), tag("b".into(), "good", None)];
        let lines = view.frame(&tags, "t", None, SIZE, true);
        assert!(!lines[2].contains("\x1b[1m72.3") && lines[3].contains("\x1b[1m72.3"), "{lines:?}");
        assert!(lines[2].contains("\x1b[31mbad (stale)"), "{lines:?}");
        let lines = view.frame(&tags, "t", Some("no tidegate answers"), SIZE, true);
        assert!(lines[0].contains("no tidegate answers"));
        assert!(!lines[3].contains("\x1b[1m72.3") && !lines[3].contains("\x1b[32m"), "{lines:?}");
    }

    #[test]
    fn keys_are_told_from_each_other_and_the_rest_is_ignored() {
        let pressed = keys(b"\x1b[A\x1b[6~xjq\x1bOF\x03\x1b[99~");
        let expected = [Key::Up, Key::PageDown, Key::Down, Key::Quit, Key::Last, Key::Quit];
        assert_eq!(pressed, expected);
    }
}
