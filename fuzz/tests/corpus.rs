//! Every target over its corpus, and over mutations of it that are the same each time.
//!
//! `TIDEGATE_BLESS=1` writes the seeds into the corpus. `PROPTEST_CASES` makes it longer, as it
//! does property tests.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tidegate_fuzz::counting::{Counting, Memory, taken_by};
use tidegate_fuzz::mutate::{Random, mutate};
use tidegate_fuzz::{TARGETS, Target};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One input takes milliseconds; what takes this long on a loaded machine does not end.
const HANGS_AFTER: Duration = Duration::from_secs(60);

/// Git keeps all of them.
const LARGEST_CORPORA: u64 = 300 * 1000;

fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn target(name: &str) -> Target {
    *TARGETS.iter().find(|target| target.name == name).unwrap()
}

/// The inputs in the order of their names.
fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let directory = corpora().join(target.name);
    if std::env::var_os("TIDEGATE_BLESS").is_some() {
        std::fs::create_dir_all(&directory).unwrap();
        for (name, bytes) in (target.seeds)() {
            std::fs::write(directory.join(name), bytes).unwrap();
        }
    }
    let entries = std::fs::read_dir(&directory).unwrap_or_else(|error| {
        panic!("{}: {error}; TIDEGATE_BLESS=1 writes the seeds", directory.display())
    });
    let mut inputs: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (
                path.file_name().unwrap().to_string_lossy().into_owned(),
                std::fs::read(&path).unwrap(),
            )
        })
        .collect();
    inputs.sort();
    inputs
}

/// A mutation for each that a property test of this many cases would try.
fn mutations(target: &Target) -> u32 {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    let share: u32 = cases.unwrap_or(256);
    u32::try_from(u64::from(target.mutations) * u64::from(share) / 256).unwrap()
}

fn check(name: &str) {
    let target = target(name);
    let inputs = corpus(&target);
    assert!(!inputs.is_empty(), "{name} has no corpus");
    // Whatever a target builds once and keeps is not the input's memory.
    (target.run)(&inputs[0].1);
    let (sender, events) = mpsc::channel();
    let worker = std::thread::spawn(move || {
        let mut random = Random(20_260);
        let mutated = (0..mutations(&target)).map(|number| {
            let input = &inputs[random.below(inputs.len())].1;
            let other = &inputs[random.below(inputs.len())].1;
            (format!("mutation {number}"), mutate(input, other, target.words, &mut random))
        });
        let all = inputs.iter().cloned().chain(mutated);
        for (what, bytes) in all {
            if sender.send(Event::Begun(what, bytes.clone())).is_err() {
                return;
            }
            let mut panicked = false;
            let taken = taken_by(|| {
                panicked = catch_unwind(AssertUnwindSafe(|| (target.run)(&bytes))).is_err();
            });
            if sender.send(Event::Ended { panicked, taken, length: bytes.len() }).is_err() {
                return;
            }
        }
    });
    watch(&target, &events);
    worker.join().unwrap();
}

enum Event {
    Begun(String, Vec<u8>),
    Ended { panicked: bool, taken: Memory, length: usize },
}

fn watch(target: &Target, events: &mpsc::Receiver<Event>) {
    let mut last = (String::from("nothing"), Vec::new());
    let (mut runs, begun) = (0_u32, Instant::now());
    let mut highest = Memory { held: 0, largest: 0 };
    loop {
        match events.recv_timeout(HANGS_AFTER) {
            Ok(Event::Begun(what, bytes)) => last = (what, bytes),
            Ok(Event::Ended { panicked, taken, length }) => {
                runs += 1;
                if panicked {
                    fail(target, &last, "a promise is broken; see the panic above");
                }
                let most = (target.memory)(length);
                if taken.held > most.held || taken.largest > most.largest {
                    fail(target, &last, &format!("it took {taken:?}, allowed are {most:?}"));
                }
                highest.held = highest.held.max(taken.held);
                highest.largest = highest.largest.max(taken.largest);
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                fail(target, &last, &format!("it goes on for more than {HANGS_AFTER:?}"));
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    #[expect(clippy::print_stdout, reason = "shown on demand, to set the limits by")]
    {
        println!("{}: {runs} runs in {:?}, at most {highest:?}", target.name, begun.elapsed());
    }
}

/// Keeps the input, so that it can become a part of the corpus.
fn fail(target: &Target, (what, bytes): &(String, Vec<u8>), why: &str) -> ! {
    let name = format!("{}-{:08x}", target.name, fingerprint(bytes));
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&kept, bytes).unwrap();
    panic!(
        "{}, {what} ({} bytes): {why}\nkept as {}; mended, it belongs into fuzz/corpus/{}",
        target.name,
        bytes.len(),
        kept.display(),
        target.name
    );
}

fn fingerprint(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

macro_rules! targets {
    ($($test:ident: $target:literal),* $(,)?) => {
        $(#[test] fn $test() { check($target); })*

        #[test]
        fn every_target_is_tested() {
            let tested = [$($target),*];
            assert_eq!(TARGETS.iter().map(|it| it.name).collect::<Vec<_>>(), tested);
        }
    };
}

targets! {
    a_frame_is_read_as_described_or_named_for_what_it_is: "frame",
    a_harmed_journal_keeps_what_was_not_touched_and_recovers_once: "segments",
    a_configuration_is_checked_or_its_mistakes_are_told: "config",
    a_catalog_grows_and_contradicts_itself_never: "catalog",
    samples_come_back_bit_for_bit_or_not_at_all: "samples",
    a_modbus_value_is_one_that_was_answered: "modbus",
    a_line_never_makes_a_wrong_value_whatever_it_says: "rtu",
    every_question_on_the_control_socket_has_one_answer: "control",
    a_proof_is_balanced_only_when_everything_is_there: "proof",
    headers_and_records_come_back_as_they_were_read: "headers",
    any_bytes_of_a_line_are_told_in_words_and_none_is_left_out: "wording",
    a_tag_list_is_checked_or_its_mistakes_are_told: "taglist",
}

#[test]
fn the_corpora_stay_small() {
    let sizes = TARGETS.iter().flat_map(|target| std::fs::read_dir(corpora().join(target.name)));
    let all: u64 = sizes.flatten().map(|it| it.unwrap().metadata().unwrap().len()).sum();
    assert!(all <= LARGEST_CORPORA, "{all} bytes; minimise them with cargo xtask fuzz --minimise");
}

/// `TIDEGATE_FUZZ_INPUT=target=file`: one input by itself, for whoever mends what it found.
#[test]
fn one_input() {
    let Ok(asked) = std::env::var("TIDEGATE_FUZZ_INPUT") else { return };
    let (name, file) = asked.split_once('=').unwrap();
    (target(name).run)(&std::fs::read(file).unwrap());
}
