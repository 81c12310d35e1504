//! The hub's name stops being known, and later stands for another address.

use std::time::Duration;

use tidegate_hil_tests::hub::Certificates;
use tidegate_hil_tests::net::isolated;
use tidegate_hil_tests::wait::{self, until};
use tidegate_hil_tests::{Rig, Wishes};

use crate::CATCH_UP;

const NAME: &str = "hub.tidegate.test";

#[test]
fn a_hub_whose_name_is_gone_and_then_has_another_address_is_found_again() {
    isolated(|net| async move {
        let names = tempfile::tempdir()?;
        let hosts = names.path().join("hosts");
        let write = |line: &str| std::fs::write(&hosts, format!("127.0.0.1 localhost\n{line}\n"));
        write(&format!("10.77.0.2 {NAME}"))?;
        // Names of its own, which go with the daemon: no name server is asked.
        let own_names = r#"mount --bind "$1" /etc/hosts && mount --bind "$2" /etc/resolv.conf &&
            shift 2 && exec "$@""#;
        let nobody = names.path().join("resolv.conf");
        std::fs::write(&nobody, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")?;
        let mut around: Vec<String> =
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", own_names, "sh"]
                .map(str::to_owned)
                .to_vec();
        around.extend([&hosts, &nobody].map(|path| path.display().to_string()));
        let wishes = Wishes {
            around,
            hub_host: Some(NAME.to_owned()),
            certificates: Certificates { hosts: vec![NAME.to_owned()], ..Certificates::default() },
            ..Wishes::default()
        };
        let mut rig = Rig::running_across(&net, wishes).await?;
        let delivered = rig.polls(10).await?;
        rig.hub_holds(delivered, CATCH_UP).await?;
        let url = rig.gateway.status()?["link"]["hub_url"].clone();
        anyhow::ensure!(url.as_str().is_some_and(|url| url.contains(NAME)), "hub_url is {url}");

        // The name is gone, and what was connected is cut.
        write("")?;
        rig.wan.cut_closed().await?;
        until(wait::SOON, "the status names the name", || {
            let status = rig.gateway.status();
            async move {
                let why = status?["link"]["why"].as_str().unwrap_or_default().to_owned();
                Ok((why.contains(NAME) && why.contains("lookup")).then_some(why))
            }
        })
        .await?;
        rig.sit_out(Duration::from_secs(3)).await?;

        // The hub has moved, and its name comes after it.
        net.run_here("ip address add 10.77.0.3/24 dev wan1")?;
        rig.wan.move_to("10.77.0.3".parse()?).await?;
        write(&format!("10.77.0.3 {NAME}"))?;
        rig.wan.restore().await?;
        rig.verify_nothing_lost(CATCH_UP).await
    })
    .unwrap();
}
