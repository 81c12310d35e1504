//! A gateway without a clock finds that no certificate is valid yet. It is the leaf that looks, by
//! the kernel's clock, so here the certificates lie in the future instead of the clock in the past.

use std::time::Duration;

use tidegate_hil_tests::hub::Certificates;
use tidegate_hil_tests::{Rig, Wishes, wait};

use crate::CATCH_UP;

/// Long enough that the refusal is told.
const NOT_YET: Duration = Duration::from_secs(12);

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_yet_valid_costs_nothing_but_time() {
    let wishes = Wishes {
        certificates: Certificates { begin_in: Some(NOT_YET), ..Certificates::default() },
        ..Wishes::default()
    };
    let mut rig = Rig::running_with(wishes).await.unwrap();
    assert_eq!(rig.messages_at_hub().await.unwrap(), 0);
    // The person who looks is told why.
    wait::until(wait::SOON, "the log says that the certificate is not yet valid", || {
        let log = rig.gateway.log();
        async move { Ok(log?.contains("not yet valid").then_some(())) }
    })
    .await
    .unwrap();
    rig.polls(10).await.unwrap();
    rig.verify_nothing_lost(CATCH_UP).await.unwrap();
    let status = rig.gateway.status().unwrap();
    let alarms = status["alarms"].to_string();
    assert!(!alarms.contains("certificate") && !alarms.contains("valid"), "{alarms}");
}
