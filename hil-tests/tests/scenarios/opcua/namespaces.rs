//! U5: namespaces whose order changes when the server restarts.

use tidegate_hil_tests::field::{Field, Site};
use tidegate_hil_tests::opcua::devices::OpcUaDevice;
use tidegate_hil_tests::opcua::{Make, OpcUaServer};

use super::{BACK, complete};
use crate::CATCH_UP;

async fn moved(make: Make) {
    let site = Site::new().unwrap();
    let mut server = OpcUaServer::start(&site, make, "server", &[]).await.unwrap();
    let device = OpcUaDevice::at("press", &server.url(), "").counters(0..5);
    let device = device.tag_at("n90000", "/Objects/Plant/Lines/L1/Press1/Speed", "");
    let mut field = Field::running(site, &device.alone()).await.unwrap();
    field.all_good(BACK).await.unwrap();
    for shift in ["2", "1"] {
        let site = field.site().unwrap();
        server.restart(site, &["--shift-namespaces", shift]).await.unwrap();
        field.all_good(BACK).await.unwrap();
    }
    let paths = field.paths().to_vec();
    match make {
        Make::Asyncua => complete(&mut field, &server, &paths).await.unwrap(),
        Make::NodeOpcua | Make::Hostile => field.judge(CATCH_UP).await.unwrap(),
    };
    server.was_only_read().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_asyncua_whose_namespaces_moved_gives_no_value_of_another_node() {
    moved(Make::Asyncua).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_opcua_whose_namespaces_moved_gives_no_value_of_another_node() {
    moved(Make::NodeOpcua).await;
}
