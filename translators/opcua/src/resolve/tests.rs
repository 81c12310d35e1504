use std::sync::atomic::Ordering;

use opcua::types::{NodeClass, ReferenceTypeId};

use super::*;
use crate::services::fake::Fake;

fn id(number: u32) -> NodeId {
    NodeId::new(2, number)
}

/// Objects / Press 1 (1) / Axis (2), Axis of another namespace (3), Twin (4), Twin (5) / Speed (6).
fn server() -> (Fake, Namespaces) {
    let mut fake = Fake::default();
    let (root, objects): (NodeId, NodeId) =
        (ObjectId::RootFolder.into(), ObjectId::ObjectsFolder.into());
    let (organizes, has) = (ReferenceTypeId::Organizes, ReferenceTypeId::HasComponent);
    let object = NodeClass::Object;
    fake.put(&root, organizes, &objects, (0, "Objects"), object);
    fake.put(&objects, organizes, &id(1), (2, "Press 1"), object);
    // Two references to one node are no ambiguity.
    fake.put(&objects, has, &id(1), (2, "Press 1"), object);
    fake.put(&id(1), has, &id(2), (2, "Axis"), object);
    fake.put(&id(1), has, &id(3), (1, "Axis"), object);
    fake.put(&id(1), has, &id(4), (2, "Twin"), object);
    fake.put(&id(1), has, &id(5), (2, "Twin"), object);
    fake.put(&id(2), has, &id(6), (2, "Speed"), NodeClass::Variable);
    (fake, Namespaces::new(["", "urn:server", "urn:press"].map(str::to_owned)))
}

async fn resolved(texts: &[&str]) -> Vec<Result<NodeId, String>> {
    let (fake, namespaces) = server();
    let addresses: Vec<_> = texts.iter().map(|text| NodeAddress::parse(text).unwrap()).collect();
    let addresses: Vec<_> = addresses.iter().collect();
    let resolved = resolve(&fake, &namespaces, &addresses).await.unwrap();
    resolved.into_iter().map(|found| found.map_err(|error| error.to_string())).collect()
}

#[tokio::test]
async fn an_address_leads_to_its_node_in_this_session() {
    let found = resolved(&[
        "nsu=urn:press;i=2",
        "ns=7;i=2",
        "i=85",
        "/Objects/Press 1",
        "/0:Objects/2:Press 1/{urn:press}Axis/Speed",
        "/Objects/Press 1/1:Axis",
    ])
    .await;
    let wanted = [id(2), NodeId::new(7, 2u32), NodeId::new(0, 85u32), id(1), id(6), id(3)];
    assert_eq!(found, wanted.map(Ok));
}

#[tokio::test]
async fn an_address_that_leads_nowhere_says_where_it_ends() {
    let found = resolved(&[
        "nsu=urn:pres;i=2",
        "/Objects/Press 2/Axis",
        "/Objects/press 1",
        "/Objects/Press 1/Axis/Speed",
        "/Objects/Press 1/Twin",
        "/Objects/Press 1/{urn:other}Axis",
        "/Objects/Press 1/{urn:press}Axis/Speed/Unit",
    ])
    .await;
    let says = [
        "the server has no namespace \"urn:pres\"; it has \"urn:server\", \"urn:press\"",
        "there is no \"Press 2\" below \"/Objects\"; there is \"Press 1\"",
        "there is no \"press 1\" below \"/Objects\"; there is \"Press 1\"",
        "\"Axis\" below \"/Objects/Press 1\" is the name of several nodes; write one of \"{urn:press}Axis\", \"{urn:server}Axis\"",
        "\"Twin\" below \"/Objects/Press 1\" is the name of several nodes; write one of \"nsu=urn:press;i=4\", \"nsu=urn:press;i=5\"",
        "the server has no namespace \"urn:other\"; it has \"urn:server\", \"urn:press\"",
        "there is no \"Unit\" below \"/Objects/Press 1/{urn:press}Axis/Speed\"; there is nothing",
    ];
    assert_eq!(found, says.map(|text| Err(text.to_owned())));
}

#[tokio::test]
async fn paths_advance_together_one_round_a_name() {
    let (fake, namespaces) = server();
    let paths: Vec<_> =
        (0..500).map(|_| NodeAddress::parse("/Objects/Press 1/2:Axis/Speed").unwrap()).collect();
    let paths: Vec<_> = paths.iter().collect();
    let found = resolve(&fake, &namespaces, &paths).await.unwrap();
    assert!(found.iter().all(|found| *found == Ok(id(6))));
    assert_eq!(fake.browses.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn a_server_that_does_not_tell_is_named_with_its_status() {
    let (mut fake, namespaces) = server();
    fake.refused.insert(id(2), StatusCode::BadUserAccessDenied);
    let address = NodeAddress::parse("/Objects/Press 1/2:Axis/Force").unwrap();
    let found = resolve(&fake, &namespaces, &[&address]).await.unwrap().remove(0).unwrap_err();
    assert_eq!(found.status(), StatusCode::BadUserAccessDenied);
    assert!(found.to_string().contains("BadUserAccessDenied (0x801f0000)"), "{found}");
}
