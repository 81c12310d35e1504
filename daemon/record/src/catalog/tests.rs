use super::*;

fn definition(path: &str) -> Definition {
    Definition {
        path: TagPath::new(path).unwrap(),
        kind: ValueKind::F64,
        unit: Some("degC".into()),
        device: "press-1".into(),
        address: "holding:100".into(),
        source: "modbus-tcp".into(),
    }
}

fn filled(count: usize) -> Catalog {
    let mut catalog = Catalog::new();
    for n in 0..count {
        catalog.define(definition(&format!("Plant/Line/Press/tag-{n}"))).unwrap();
    }
    catalog
}

#[test]
fn a_path_keeps_its_number_and_a_second_definition_changes_nothing() {
    let mut catalog = Catalog::new();
    let first = catalog.define(definition("a/b")).unwrap();
    assert_eq!(first, Defined::Written(TagId(1)));
    assert_eq!(catalog.define(definition("a/b")).unwrap(), Defined::Known(TagId(1)));
    assert_eq!(catalog.version(), 1);
    assert_eq!(catalog.define(definition("a/c")).unwrap().id(), TagId(2));
}

#[test]
fn a_changed_unit_is_a_new_version_under_the_same_number() {
    let mut catalog = filled(3);
    let id = catalog.id_of(&TagPath::new("Plant/Line/Press/tag-1").unwrap()).unwrap();
    let before = catalog.version();
    let changed = Definition { unit: Some("K".into()), ..definition("Plant/Line/Press/tag-1") };
    assert_eq!(catalog.define(changed).unwrap(), Defined::Written(id));
    let since: Vec<_> = catalog.changed_since(before).collect();
    assert_eq!(since.len(), 1);
    assert_eq!(since[0].unit.as_deref(), Some("K"));
    assert_eq!(catalog.len(), 3);
}

/// As a configuration describes a tag whose type only the server knows.
fn unknown(path: &str) -> Definition {
    Definition { kind: ValueKind::None, unit: None, ..definition(path) }
}

#[test]
fn what_was_learned_of_a_tag_outlives_a_restart_without_a_new_version() {
    let mut catalog = Catalog::new();
    catalog.define(unknown("a/b")).unwrap();
    let learned = catalog.define(definition("a/b")).unwrap();
    assert_eq!((learned, catalog.version()), (Defined::Written(TagId(1)), 2));
    let kept = postcard::to_stdvec(&catalog).unwrap();
    let mut catalog: Catalog = postcard::from_bytes(&kept).unwrap();
    for _ in 0..3 {
        assert_eq!(catalog.define(unknown("a/b")).unwrap(), Defined::Known(TagId(1)));
    }
    let entry = catalog.resolve(TagId(1)).unwrap();
    let kept = (entry.kind, entry.unit.as_deref(), catalog.version());
    assert_eq!(kept, (ValueKind::F64, Some("degC"), 2));
}

#[test]
fn a_definition_that_knows_better_replaces_what_was_learned() {
    let mut catalog = filled(1);
    let path = "Plant/Line/Press/tag-0";
    let unit = Definition { unit: Some("K".into()), ..unknown(path) };
    assert_eq!(catalog.define(unit).unwrap(), Defined::Written(TagId(1)));
    let entry = catalog.resolve(TagId(1)).unwrap();
    assert_eq!((entry.kind, entry.unit.as_deref()), (ValueKind::F64, Some("K")));
    let text = Definition { kind: ValueKind::Text, ..unknown(path) };
    assert_eq!(catalog.define(text).unwrap(), Defined::Written(TagId(1)));
    let entry = catalog.resolve(TagId(1)).unwrap();
    assert_eq!((entry.kind, entry.unit.as_deref()), (ValueKind::Text, None));
}

#[test]
fn another_address_or_device_takes_nothing_over_from_the_one_before() {
    let path = "Plant/Line/Press/tag-0";
    for other in [
        Definition { address: "holding:7".into(), ..unknown(path) },
        Definition { device: "press-2".into(), ..unknown(path) },
    ] {
        let mut catalog = filled(1);
        assert_eq!(catalog.define(other).unwrap(), Defined::Written(TagId(1)));
        let entry = catalog.resolve(TagId(1)).unwrap();
        assert_eq!((entry.kind, entry.unit.as_deref()), (ValueKind::None, None));
    }
}

#[test]
fn a_snapshot_in_several_bodies_rebuilds_the_catalog() {
    let catalog = filled(3000);
    let bodies = bodies(catalog.version(), catalog.entries(), true).unwrap();
    let bodies: Vec<_> = bodies.map(Result::unwrap).collect();
    assert!(bodies.len() > 2, "{}", bodies.len());
    assert!(bodies.iter().all(|b| b.len() <= crate::samples::MAX_BODY_BYTES));
    let mut read = Catalog::new();
    for (n, body) in bodies.iter().enumerate() {
        let part = CatalogPart::decode(body).unwrap();
        let place = part.snapshot.unwrap();
        assert_eq!((place.part as usize, place.of as usize), (n, bodies.len()));
        read.apply(&part).unwrap();
    }
    assert!(read.entries().eq(catalog.entries()));
    assert_eq!(read.version(), catalog.version());
}

#[test]
fn an_empty_catalog_has_a_snapshot_too() {
    let body = bodies(0, [], true).unwrap().next().unwrap().unwrap();
    let part = CatalogPart::decode(&body).unwrap();
    assert_eq!(part.snapshot, Some(Snapshot { part: 0, of: 1 }));
    assert!(bodies(0, [], false).unwrap().next().is_none());
}

#[test]
fn an_older_part_that_comes_late_changes_nothing() {
    let mut writer = filled(1);
    let old: Vec<_> = writer.entries().cloned().collect();
    let changed =
        Definition { address: "holding:7".into(), ..definition("Plant/Line/Press/tag-0") };
    writer.define(changed).unwrap();
    let new: Vec<_> = writer.entries().cloned().collect();
    let mut reader = Catalog::new();
    reader.apply(&CatalogPart { version: 2, snapshot: None, entries: new }).unwrap();
    assert_eq!(reader.apply(&CatalogPart { version: 1, snapshot: None, entries: old }), Ok(0));
    assert_eq!(reader.resolve(TagId(1)).unwrap().address.as_ref(), "holding:7");
    assert_eq!(reader.version(), 2);
}

fn entry(id: u32, path: &str) -> CatalogEntry {
    let d = definition(path);
    CatalogEntry {
        id: TagId(id),
        path: d.path,
        kind: d.kind,
        unit: d.unit,
        device: d.device,
        address: d.address,
        source: d.source,
    }
}

fn apply(catalog: &mut Catalog, version: u64, entry: CatalogEntry) -> Result<usize, CatalogError> {
    catalog.apply(&CatalogPart { version, snapshot: None, entries: vec![entry] })
}

#[test]
fn a_number_given_to_a_second_path_is_an_error() {
    let mut catalog = Catalog::new();
    apply(&mut catalog, 1, entry(4, "a")).unwrap();
    let error = apply(&mut catalog, 2, entry(4, "b")).unwrap_err();
    assert!(matches!(error, CatalogError::NumberTaken { id: TagId(4), .. }), "{error}");
    assert_eq!(catalog.resolve(TagId(4)).unwrap().path.as_str(), "a");
}

#[test]
fn a_path_given_a_second_number_is_an_error() {
    let mut catalog = Catalog::new();
    apply(&mut catalog, 1, entry(4, "a")).unwrap();
    let error = apply(&mut catalog, 2, entry(5, "a")).unwrap_err();
    assert!(matches!(error, CatalogError::PathTaken { .. }), "{error}");
}

#[test]
fn the_highest_number_is_the_last() {
    let mut catalog = Catalog::new();
    apply(&mut catalog, 1, entry(u32::MAX, "a")).unwrap();
    assert!(matches!(catalog.define(definition("b")), Err(CatalogError::Full { .. })));
}

#[test]
fn an_entry_with_endless_texts_is_refused() {
    let mut catalog = Catalog::new();
    let long = Definition { address: "x".repeat(MAX_ENTRY_BYTES).into(), ..definition("a") };
    assert!(matches!(catalog.define(long), Err(CatalogError::TooLarge { .. })));
}

#[test]
fn a_catalog_that_has_settled_knows_and_takes_what_it_did_before() {
    let mut catalog = filled(3);
    catalog.settle();
    let path = |text: &str| TagPath::new(text).unwrap();
    assert_eq!(catalog.id_of(&path("Plant/Line/Press/tag-1")), Some(TagId(2)));
    assert_eq!(catalog.id_of(&path("other")), None);
    let known = definition("Plant/Line/Press/tag-1");
    assert_eq!(catalog.define(known).unwrap(), Defined::Known(TagId(2)));
    catalog.settle();
    assert_eq!(catalog.define(definition("other")).unwrap(), Defined::Written(TagId(4)));
    catalog.settle();
    let error = apply(&mut catalog, 9, entry(7, "other")).unwrap_err();
    assert!(matches!(error, CatalogError::PathTaken { .. }), "{error}");
}

#[test]
fn a_known_tag_shares_the_texts_of_who_defines_it() {
    let mut catalog = filled(1);
    let again = definition("Plant/Line/Press/tag-0");
    let path = again.path.shared();
    catalog.define(again).unwrap();
    let kept = catalog.resolve(TagId(1)).unwrap().path.shared();
    assert!(std::sync::Arc::ptr_eq(&kept, &path));
}

#[test]
fn the_whole_catalog_survives_its_file() {
    let catalog = filled(20);
    let text = serde_json::to_string(&catalog).unwrap();
    assert_eq!(serde_json::from_str::<Catalog>(&text).unwrap(), catalog);
    let bytes = postcard::to_stdvec(&catalog).unwrap();
    assert_eq!(postcard::from_bytes::<Catalog>(&bytes).unwrap(), catalog);
}

#[test]
fn a_file_that_gives_one_number_twice_is_refused() {
    let text = serde_json::to_string(&filled(2)).unwrap().replace("tag-1", "tag-0");
    assert!(serde_json::from_str::<Catalog>(&text).is_err());
    let text = serde_json::to_string(&filled(2)).unwrap().replace("\"format\":1", "\"format\":2");
    let error = serde_json::from_str::<Catalog>(&text).unwrap_err().to_string();
    assert!(error.contains("format 2"), "{error}");
}

#[test]
fn entries_that_come_in_any_order_stand_by_number() {
    let orders = [[1, 2, 3, 4], [4, 3, 2, 1], [2, 4, 1, 3], [1, 3, 2, 4]];
    for order in orders {
        let mut catalog = Catalog::new();
        for id in order {
            apply(&mut catalog, u64::from(id), entry(id, &format!("t{id}"))).unwrap();
        }
        let ids: Vec<_> = catalog.entries().map(|entry| entry.id.0).collect();
        assert_eq!(ids, [1, 2, 3, 4], "{order:?}");
        for id in order {
            assert_eq!(catalog.resolve(TagId(id)).unwrap().path.as_str(), format!("t{id}"));
        }
        assert_eq!(catalog.resolve(TagId(9)), None);
        assert_eq!(catalog.define(definition("next")).unwrap().id(), TagId(5), "{order:?}");
    }
}
