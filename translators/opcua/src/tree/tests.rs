use std::sync::atomic::Ordering;
use std::time::Duration;

use opcua::types::ExtensionObject;

use super::*;
use crate::node::NodeAddress;
use crate::services::fake::Fake;
use crate::spec::{Discard, ItemSpec, ServerDeadband, Trigger};

fn id(number: u32) -> NodeId {
    NodeId::new(2, number)
}

fn spec(include: &[&str], exclude: &[&str]) -> SubtreeSpec {
    let patterns = |texts: &[&str]| texts.iter().map(|text| Box::from(*text)).collect();
    SubtreeSpec {
        path: TagPath::new("Plant/Press").unwrap(),
        node: NodeAddress::parse("i=85").unwrap(),
        item: Arc::new(ItemSpec {
            sample_every: Some(Duration::from_secs(1)),
            queue: None,
            discard: Discard::Oldest,
            trigger: Trigger::StatusValue,
            deadband: ServerDeadband::None,
            index_range: None,
        }),
        include: patterns(include),
        exclude: patterns(exclude),
        max_tags: 100,
        max_depth: 5,
    }
}

fn namespaces() -> Namespaces {
    Namespaces::new(["", "urn:server", "urn:press"].map(str::to_owned))
}

const OBJECT: NodeClass = NodeClass::Object;
const VARIABLE: NodeClass = NodeClass::Variable;
const HAS: ReferenceTypeId = ReferenceTypeId::HasComponent;

/// 1 / Axis1 (10) / Position (11) with a unit; Position / Raw (12); Axis1 refers back to 1;
/// 1 / Axis2 (20) / Position (21); 1 / a/b (30), a variable; 1 / Position (11) by another way.
fn server() -> Fake {
    let mut fake = Fake::default();
    fake.put(&id(1), HAS, &id(10), (2, "Axis1"), OBJECT);
    fake.put(&id(10), HAS, &id(11), (2, "Position"), VARIABLE);
    fake.put(&id(11), HAS, &id(12), (2, "Raw"), VARIABLE);
    let property = ReferenceTypeId::HasProperty;
    fake.put(&id(11), property, &id(13), (0, "EngineeringUnits"), VARIABLE);
    fake.put(&id(10), ReferenceTypeId::Organizes, &id(1), (2, "Press"), OBJECT);
    fake.put(&id(1), HAS, &id(20), (2, "Axis2"), OBJECT);
    fake.put(&id(20), HAS, &id(21), (2, "Position"), VARIABLE);
    fake.put(&id(20), HAS, &id(11), (2, "Elsewhere"), VARIABLE);
    fake.put(&id(1), HAS, &id(30), (2, "a/b"), VARIABLE);
    fake.put(&id(1), ReferenceTypeId::HasNotifier, &id(20), (2, "Notifier"), OBJECT);
    let unit = EUInformation { display_name: "mm".into(), ..Default::default() };
    fake.set(&id(13), AttributeId::Value, ExtensionObject::from_message(unit));
    fake
}

async fn paths(spec: &SubtreeSpec) -> Vec<String> {
    let expansion = expand(&server(), &namespaces(), spec, &id(1)).await.unwrap();
    expansion.found.into_iter().map(|found| found.path.to_string()).collect()
}

#[tokio::test]
async fn everything_below_an_object_is_found_once_with_path_address_and_unit() {
    let fake = server();
    let expansion = expand(&fake, &namespaces(), &spec(&[], &[]), &id(1)).await.unwrap();
    let found: Vec<_> = expansion
        .found
        .iter()
        .map(|found| (found.path.as_str(), &*found.address, found.unit.as_deref()))
        .collect();
    assert_eq!(
        found,
        [
            ("Plant/Press/Axis1/Position", "nsu=urn:press;i=11", Some("mm")),
            ("Plant/Press/Axis1/Position/Raw", "nsu=urn:press;i=12", None),
            ("Plant/Press/Axis2/Position", "nsu=urn:press;i=21", None),
            ("Plant/Press/a%2Fb", "nsu=urn:press;i=30", None),
        ]
    );
    assert_eq!(expansion.notes, [""; 0]);
    assert_eq!(fake.reads.load(Ordering::Relaxed), 1, "all units at once");
}

#[tokio::test]
async fn patterns_choose_by_the_names_below_the_object() {
    assert_eq!(
        paths(&spec(&["*/Position"], &[])).await,
        ["Plant/Press/Axis1/Position", "Plant/Press/Axis2/Position"]
    );
    assert_eq!(
        paths(&spec(&["Axis?/**"], &["Axis2/**", "**/Raw"])).await,
        ["Plant/Press/Axis1/Position"]
    );
    let wrong = expand(&server(), &namespaces(), &spec(&["a**"], &[]), &id(1)).await;
    assert!(matches!(wrong, Err(TreeError::Pattern(_))));
}

#[tokio::test]
async fn a_subtree_with_too_many_variables_is_not_taken_and_says_the_numbers() {
    let few = SubtreeSpec { max_tags: 2, ..spec(&[], &[]) };
    let error = expand(&server(), &namespaces(), &few, &id(1)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "there are more than 2 variables below nsu=urn:press;i=1, 3 on the first 2 levels; narrow include and exclude, or raise max-tags"
    );
    let exact = SubtreeSpec { max_tags: 4, ..spec(&[], &[]) };
    assert_eq!(paths(&exact).await.len(), 4);
}

#[tokio::test]
async fn what_lies_deeper_than_allowed_is_noted_and_the_last_level_has_its_units() {
    let shallow = SubtreeSpec { max_depth: 2, ..spec(&[], &[]) };
    let expansion = expand(&server(), &namespaces(), &shallow, &id(1)).await.unwrap();
    assert_eq!(expansion.found.len(), 3);
    assert_eq!(expansion.found[0].unit.as_deref(), Some("mm"));
    let flat = SubtreeSpec { max_depth: 1, ..spec(&[], &[]) };
    let expansion = expand(&server(), &namespaces(), &flat, &id(1)).await.unwrap();
    assert_eq!(expansion.found.len(), 1);
    assert_eq!(expansion.notes.len(), 1, "{:?}", expansion.notes);
    assert!(expansion.notes[0].contains("on level 1 were not looked into"));
}

#[tokio::test]
async fn two_variables_of_one_path_are_named_and_one_of_them_is_left_out() {
    let mut fake = server();
    fake.put(&id(20), HAS, &id(22), (1, "Position"), VARIABLE);
    fake.put(&id(20), HAS, &id(200), (2, "Position"), VARIABLE);
    let expansion = expand(&fake, &namespaces(), &spec(&[], &[]), &id(1)).await.unwrap();
    let addresses: Vec<_> = expansion.found.iter().map(|found| &*found.address).collect();
    let kept = "nsu=urn:press;i=200";
    assert_eq!(addresses, ["nsu=urn:press;i=11", "nsu=urn:press;i=12", kept, "nsu=urn:press;i=30"]);
    assert!(
        expansion.notes[1].contains(&format!("{kept} and nsu=urn:press;i=21")),
        "{:?}",
        expansion.notes
    );
    assert!(
        expansion.notes[0].contains("nsu=urn:press;i=21 and nsu=urn:press;i=22"),
        "{:?}",
        expansion.notes
    );
}

#[tokio::test]
async fn a_tree_that_never_ends_in_depth_or_breadth_is_bounded() {
    let mut wide = Fake::default();
    for number in 10..300 {
        wide.put(&id(1), HAS, &id(number), (2, &format!("v{number}")), VARIABLE);
    }
    let error = expand(&wide, &namespaces(), &spec(&[], &[]), &id(1)).await.unwrap_err();
    assert!(matches!(error, TreeError::TooMany { max: 100, found: 290, levels: 1, .. }));

    let mut endless = server();
    endless.refused.insert(id(20), StatusCode::BadTooManyMatches);
    let error = expand(&endless, &namespaces(), &spec(&[], &[]), &id(1)).await.unwrap_err();
    assert!(error.to_string().contains("does not come to an end"), "{error}");

    let mut deep = Fake::default();
    for number in 1..1_000 {
        deep.put(&id(number), HAS, &id(number + 1), (2, "o"), OBJECT);
    }
    let spec = SubtreeSpec { max_depth: 50, ..spec(&[], &[]) };
    let expansion = expand(&deep, &namespaces(), &spec, &id(1)).await.unwrap();
    assert_eq!(deep.browses.load(Ordering::Relaxed), 50);
    assert_eq!(expansion.notes.len(), 1);
}

#[tokio::test]
async fn an_object_that_cannot_be_browsed_is_an_error_and_one_below_it_a_note() {
    let mut fake = server();
    fake.refused.insert(id(20), StatusCode::BadUserAccessDenied);
    let expansion = expand(&fake, &namespaces(), &spec(&[], &[]), &id(1)).await.unwrap();
    assert!(expansion.notes[0].contains("BadUserAccessDenied"), "{:?}", expansion.notes);
    fake.refused.insert(id(1), StatusCode::BadNodeIdUnknown);
    let error = expand(&fake, &namespaces(), &spec(&[], &[]), &id(1)).await.unwrap_err();
    assert!(matches!(error, TreeError::Refused { status: StatusCode::BadNodeIdUnknown, .. }));
}
