//! What a tag costs in memory, counted in bytes that were asked of the allocator: the same on
//! every run and every machine. The design allows 40 MiB for a daemon of 50,000 tags.
//!
//! One test, because a second one would allocate beside it.

#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use peak_alloc::PeakAlloc;
use tidegate::config::{self, Config};
use tidegate::live::{LiveQueue, LiveTag};
use tidegate::observe::state::{Alive, Board, DeviceMeta, TagMeta};
use tidegate_record::catalog::{Catalog, Definition};
use tidegate_translator::{Clock, Sample, TagId, Timestamp, Value, ValueKind};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

struct NoClock;

impl Clock for NoClock {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }
}

/// A configuration as people write it: 40 bytes of path, a unit, a deadband.
fn text(devices: usize, tags: usize) -> String {
    let mut text = "[gateway]\nplant = \"PlantA\"\nname = \"gw\"\n".to_owned();
    for device in 0..devices {
        let _ = write!(
            text,
            "\n[[device]]\nname = \"press-{device}\"\nprotocol = \"modbus-tcp\"\n\
             address = \"192.0.2.10\"\nbase-path = \"PlantA/Line3/Press{device}\"\n"
        );
        for tag in 0..tags {
            let _ = write!(
                text,
                "\n[[device.tag]]\npath = \"zone{}/temperature{tag:05}\"\naddress = \"holding:{}\"\n\
                 type = \"uint32\"\nunit = \"degC\"\ndeadband = 0.1\n",
                tag / 100,
                2 * tag
            );
        }
    }
    text
}

/// The same tags in a profile that the device uses.
fn profile_text(tags: usize) -> String {
    let text = text(1, tags);
    let (head, rest) = text.split_once("\n[[device.tag]]").unwrap();
    let tags = format!("\n[[device.tag]]{rest}").replace("[[device.tag]]", "[[profile.tag]]");
    format!("{head}profile = \"press\"\n[[profile]]\nname = \"press\"\n{tags}")
}

/// A device without tags, and the same ones as a list.
fn list(tags: usize) -> (String, String) {
    let text = text(1, 0);
    let mut list = "path,address,type,unit,deadband\n".to_owned();
    for tag in 0..tags {
        let (zone, address) = (tag / 100, 2 * tag);
        let _ = writeln!(list, "zone{zone}/temperature{tag:05},holding:{address},uint32,degC,0.1");
    }
    (text, list)
}

fn load_list(text: &str, list: &str) -> Config {
    let file = Path::new("press-0.csv");
    let instead = config::Instead { device: "press-0", file, bytes: list.as_bytes() };
    config::parse_with_list(Path::new("/etc/tidegate/tidegate.toml"), text, instead).unwrap().config
}

/// What `make` leaves allocated for each tag, and what it took at most.
fn per_tag<T>(tags: usize, make: impl FnOnce() -> T) -> (T, usize, usize) {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let made = make();
    let kept = ALLOCATOR.current_usage().saturating_sub(before);
    let peak = ALLOCATOR.peak_usage().saturating_sub(before);
    (made, kept / tags, peak / tags)
}

fn load(text: &str) -> Config {
    config::parse(Path::new("/etc/tidegate/tidegate.toml"), text, Vec::new(), &[]).unwrap()
}

/// Every tag with its device and the number that the catalog would give it.
fn numbered(config: &Config) -> impl Iterator<Item = (TagId, Arc<str>, &config::Tag)> {
    let each = config.devices.iter().flat_map(|device| {
        let name: Arc<str> = device.name().into();
        device.tags.iter().map(move |tag| (Arc::clone(&name), tag))
    });
    (1..).map(TagId).zip(each).map(|(id, (device, tag))| (id, device, tag))
}

fn board(config: &Config) -> Board {
    let board = Board::new(config.gateway.clone(), Arc::new(NoClock));
    let devices = config.devices.iter().map(|device| DeviceMeta {
        name: device.name().into(),
        alive: Alive::ByData(Duration::from_secs(3)),
    });
    let tags = numbered(config).map(|(id, device, tag)| TagMeta {
        id,
        path: tag.path.clone(),
        unit: tag.manner.unit.clone(),
        device,
        fresh_for: Some(Duration::from_secs(3)),
    });
    board.configure(devices, tags);
    board
}

fn catalog(config: &Config) -> Catalog {
    let mut catalog = Catalog::new();
    for (_, device, tag) in numbered(config) {
        let definition = Definition {
            path: tag.path.clone(),
            kind: ValueKind::U64,
            unit: tag.manner.unit.clone(),
            device: Arc::clone(&device),
            address: Arc::clone(&tag.address),
            source: device,
        };
        catalog.define(definition).unwrap();
    }
    catalog.settle();
    catalog
}

fn live(config: &Config, board: Arc<Board>) -> LiveQueue {
    let queue = LiveQueue::new(board);
    queue.set_tags(numbered(config).map(|(id, device, tag)| LiveTag {
        id,
        path: tag.path.clone(),
        device,
        manner: Arc::clone(&tag.manner),
        on_change: false,
    }));
    queue
}

/// Whatever the tags are written in.
#[expect(clippy::print_stdout, reason = "shown on demand, to set the limits by")]
fn each_way_of_writing_tags(tags: usize) {
    let text = text(1, tags);
    let profile = profile_text(tags);
    let (file, list) = list(tags);
    let (expected, ..) = per_tag(tags, || load(&text));
    let (from_profile, profile_kept, profile_peak) = per_tag(tags, || load(&profile));
    let (from_list, list_kept, list_peak) = per_tag(tags, || load_list(&file, &list));
    assert_eq!(from_profile, expected);
    assert_eq!(from_list, expected);
    println!(
        "1 x {tags}: profile {profile_kept} (peak {profile_peak}), list {list_kept} (peak {list_peak})"
    );
    for (what, found, most) in [
        ("profile, kept", profile_kept, KEPT),
        ("profile, at most", profile_peak, PEAK),
        ("list, kept", list_kept, KEPT),
        // The text of the list is in it.
        ("list, at most", list_peak, PEAK + list.len() / tags),
    ] {
        assert!(found <= most, "{what}: {found} bytes per tag, more than {most}");
    }
}

/// What is kept of a tag, and what it takes while the configuration is read. Measured on 29 November
/// 2026: a few bytes more than in the version before, for the interval, range and names that a tag
/// can have.
const KEPT: usize = 196;
const PEAK: usize = 420;

#[test]
fn a_tag_costs_no_more_memory_than_it_did() {
    each_way_of_writing_tags(5_000);
    for (devices, each) in [(1, 5_000), (50, 100)] {
        let tags = devices * each;
        let text = text(devices, each);
        let (config, kept, peak) = per_tag(tags, || load(&text));
        let (again, _, _) = per_tag(tags, || load(&text));
        assert_eq!(config, again);
        drop(again);
        let (catalog, catalog_kept, catalog_peak) = per_tag(tags, || catalog(&config));
        let (board, board_kept, board_peak) = per_tag(tags, || Arc::new(board(&config)));
        let (live, live_kept, live_peak) = per_tag(tags, || live(&config, Arc::clone(&board)));
        let samples: Vec<_> = (1..)
            .map(|id| Sample::good(TagId(id), Timestamp(0), Value::U64(1)))
            .take(tags)
            .collect();
        let ((), readings_kept, _) = per_tag(tags, || board.note_samples(&samples));
        let copies: Vec<Config> = (0..4).map(|_| config.clone()).collect();
        let (_, copy_kept, _) = per_tag(tags, || config.clone());
        println!(
            "{devices} x {each}: config {kept} (peak {peak}), catalog {catalog_kept} \
             (peak {catalog_peak}), status {board_kept} (peak {board_peak}), live {live_kept} \
             (peak {live_peak}), readings {readings_kept}, copy {copy_kept}"
        );
        // A few bytes above what was measured on 21 November 2026 with the standard library of
        // Rust 1.95; the growth of lists and tables makes the peaks.
        for (what, found, most) in [
            ("configuration, kept", kept, KEPT),
            ("configuration, at most", peak, PEAK),
            ("catalog, kept", catalog_kept, 125),
            ("catalog, at most", catalog_peak, 310),
            ("status, kept", board_kept, 110),
            ("status, at most", board_peak, 260),
            ("live values, kept", live_kept, 75),
            ("live values, at most", live_peak, 190),
            ("readings, kept", readings_kept, 1),
            ("another holder of the configuration", copy_kept, 1),
        ] {
            assert!(found <= most, "{what}: {found} bytes per tag, more than {most}");
        }
        drop((catalog, live, copies));
    }
}
