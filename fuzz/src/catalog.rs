//! Catalog frames, and the catalog that they build.

use tidegate_record::Catalog;
use tidegate_record::catalog::{CatalogPart, Definition, MAX_ENTRY_BYTES, MAX_TAGS, bodies};
use tidegate_record::samples::MAX_BODY_BYTES;
use tidegate_translator::{TagPath, ValueKind};

use crate::chain::tags;
use crate::recipe::Recipe;
use crate::{KIB, MIB, Target, at_most, seed};

pub(crate) const TARGET: Target = Target {
    name: "catalog",
    run,
    seeds,
    words: &[b"PlantA/Press/t1", b"/", b"press-1", b"holding:1", b"modbus"],
    // serde takes at most 1 MiB for a length that is merely claimed.
    memory: |length| at_most(2 * MIB + 64 * KIB + 60 * length),
    mutations: 8000,
};

fn run(bytes: &[u8]) {
    let Some((mode, rest)) = bytes.split_first() else { return };
    let catalog = match mode % 3 {
        0 => of_parts(rest.chunks(rest.len().max(1))),
        1 => of_parts(rest.split(|byte| *byte == 0xfe)),
        _ => of_definitions(&mut Recipe(rest)),
    };
    sound(&catalog);
}

/// Applies what parses, whatever the order and whatever it contradicts.
fn of_parts<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Catalog {
    let mut catalog = Catalog::new();
    for body in parts {
        let Ok(part) = CatalogPart::decode(body) else { continue };
        let written = part.encode().expect("what was read can be written");
        assert_eq!(CatalogPart::decode(&written).as_ref(), Ok(&part));
        let before = catalog.version();
        match catalog.apply(&part) {
            Ok(_) => {
                let whole = catalog.clone();
                assert_eq!(catalog.apply(&part), Ok(0), "a part that is applied twice");
                assert_eq!(catalog, whole);
                assert_eq!(catalog.version(), before.max(part.version));
            }
            Err(refused) => assert!(!refused.to_string().is_empty()),
        }
    }
    catalog
}

fn of_definitions(recipe: &mut Recipe<'_>) -> Catalog {
    const KINDS: [ValueKind; 3] = [ValueKind::None, ValueKind::F64, ValueKind::Json];
    let mut catalog = Catalog::new();
    while !recipe.is_empty() && catalog.len() < 300 {
        let mut text = || {
            let times = 1 + usize::from(recipe.byte() % 3) * 700;
            String::from_utf8_lossy(recipe.bytes(12)).repeat(times)
        };
        let (path, unit, device, address) = (text(), text(), text(), text());
        let Ok(path) = TagPath::new(path) else { continue };
        let kind = KINDS[recipe.choice(3)];
        let definition = Definition {
            path: path.clone(),
            kind,
            unit: (!unit.is_empty()).then(|| unit.into()),
            device: device.into(),
            address: address.into(),
            source: "s".into(),
        };
        let known = catalog.id_of(&path);
        match catalog.define(definition) {
            Ok(defined) => {
                assert!(known.is_none_or(|known| known == defined.id()), "a path keeps its number");
                assert_eq!(catalog.id_of(&path), Some(defined.id()));
            }
            Err(refused) => assert!(!refused.to_string().is_empty()),
        }
    }
    catalog
}

/// One number for one path, bounded entries, and a snapshot that builds the same again.
fn sound(catalog: &Catalog) {
    assert!(catalog.len() <= MAX_TAGS);
    for entry in catalog.entries() {
        assert_eq!(catalog.id_of(&entry.path), Some(entry.id));
        assert_eq!(catalog.resolve(entry.id), Some(entry));
        assert!(entry.path.as_str().len() + entry.device.len() <= MAX_ENTRY_BYTES);
    }
    let mut again = Catalog::new();
    for body in bodies(catalog.version(), catalog.entries(), true).expect("a snapshot") {
        let body = body.expect("a part");
        assert!(body.len() <= MAX_BODY_BYTES, "{} bytes fit no frame", body.len());
        again.apply(&CatalogPart::decode(&body).expect("its own part")).expect("no contradiction");
    }
    assert!(again.entries().eq(catalog.entries()));
    assert_eq!(again.version(), catalog.version());
}

fn seeds() -> Vec<(String, Vec<u8>)> {
    let catalog = tags();
    let whole = bodies(catalog.version(), catalog.entries(), true).unwrap().next();
    let changes = bodies(99, catalog.entries().take(2), false).unwrap().next();
    let (whole, changes) = (whole.unwrap().unwrap(), changes.unwrap().unwrap());
    let definitions =
        b"\x02\0\x03A/b\0\x01K\0\x01d\0\x01a\0\0\x01\x03A/c\x02\x01K\0\x01d\0\x01a\0\0";
    vec![
        seed("snapshot", [&[0], whole.as_slice()].concat()),
        seed("changes", [&[0], changes.as_slice()].concat()),
        seed("both", [&[1], whole.as_slice(), &[0xfe], changes.as_slice()].concat()),
        seed("definitions", definitions.as_slice()),
    ]
}
