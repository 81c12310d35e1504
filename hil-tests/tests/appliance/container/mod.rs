//! Packages in a booted container, between a PLC and a hub outside of it.
//!
//! Each scenario boots a system of its own, and ends with the oracle's judgement of everything that
//! was polled since it began.

mod bad_configuration;
mod footprint;
mod kills;
mod lifecycle;
mod upgrade;

use std::future::Future;
use std::time::Duration;

use anyhow::ensure;
use tidegate_hil_tests::authority::Authority;
use tidegate_hil_tests::container::Container;
use tidegate_hil_tests::installed::{self, Installed};
use tidegate_hil_tests::net::{self, Net};
use tidegate_hil_tests::oracle::Findings;
use tidegate_hil_tests::report::Report;
use tidegate_hil_tests::{Rig, Wishes, tools};

/// How long the record may take to catch up once everything is back.
const CATCH_UP: Duration = Duration::from_secs(60);

/// The gateway's name at the authority.
const GATEWAY: &str = "PlantA/gw-line3";

/// A booted system with the package on it, and all that it is between.
struct Stage {
    rig: Rig,
    authority: Authority,
    gateway: Installed,
    report: Report,
    is_over: bool,
    /// Last: the container's network ends with it.
    _net: Net,
}

impl Stage {
    /// The system is booted and bare; the package is not installed yet.
    async fn bare(net: Net, scenario: &str, wishes: Wishes) -> anyhow::Result<Self> {
        let report = Report::of(scenario);
        let identity = "token-file = \"credential:token\"".to_owned();
        let wishes = Wishes { identity: Some(identity), ..wishes };
        let (rig, authority) = Rig::without_gateway(&net, wishes).await?;
        let place = rig.path("machine")?;
        std::fs::create_dir_all(&place)?;
        let mut container = Container::of(&tools::debian_root()?, rig.family(), &net, &place)?;
        container.boot().await?;
        Ok(Self {
            rig,
            authority,
            gateway: Installed { container },
            report,
            is_over: false,
            _net: net,
        })
    }

    /// The package is installed, configured, enrolled with a token, and samples are at the hub.
    async fn running(net: Net, scenario: &str, wishes: Wishes) -> anyhow::Result<Self> {
        let stage = Self::bare(net, scenario, wishes).await?;
        stage.gateway.install(&installed::package()?)?;
        stage.commission().await?;
        Ok(stage)
    }

    /// Gives the installed gateway its configuration and a token, and waits for its samples.
    async fn commission(&self) -> anyhow::Result<()> {
        self.commission_with(&self.configuration()?).await
    }

    /// [`Stage::commission`], with another configuration of the same gateway.
    async fn commission_with(&self, configuration: &str) -> anyhow::Result<()> {
        self.gateway.give_credential("token", &self.authority.token(GATEWAY)?)?;
        self.begin_with(configuration).await
    }

    /// The configuration is put in place, the daemon started, and samples are at the hub.
    async fn begin_with(&self, configuration: &str) -> anyhow::Result<()> {
        self.gateway.configure(configuration)?;
        self.gateway.start().await?;
        let polled = self.rig.polls(5).await?;
        self.rig.hub_holds(polled, CATCH_UP).await
    }

    /// The oracle's judgement of everything that was polled since the beginning: what is missing was
    /// never on the disk, because nobody ran or because this machine was too slow, and is named.
    async fn verify(&mut self) -> anyhow::Result<Findings> {
        let (findings, claim) = self.rig.verify(CATCH_UP).await?;
        let ours = |cause: &str| ["not-running", "poll-overrun"].contains(&cause);
        let holes = findings.named_holes.iter().all(|(_, cause)| ours(cause));
        let losses = claim.losses.iter().all(|loss| ours(&loss.cause));
        ensure!(holes && losses, "lost for another reason: {findings:?}, {claim:?}");
        ensure!(claim.losses.iter().any(|loss| loss.cause == "not-running"), "{claim:?}");
        Ok(findings)
    }

    /// The end of a scenario that has passed.
    fn pass(mut self) {
        self.is_over = true;
    }

    /// The configuration that works.
    fn configuration(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.rig.gateway.config())?)
    }
}

impl Drop for Stage {
    #[expect(clippy::print_stderr, reason = "a failed scenario shows what its system has to say")]
    fn drop(&mut self) {
        if !self.is_over {
            self.report.fail();
            eprintln!("{}", self.gateway.container.story());
        }
    }
}

/// Runs a scenario inside networks of its own.
fn staged<F>(scenario: impl FnOnce(Net) -> F + Send + 'static)
where
    F: Future<Output = anyhow::Result<()>>,
{
    net::isolated(scenario).unwrap();
}
