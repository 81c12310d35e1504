//! The rig put together, and what every scenario asks of it.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::authority::Authority;
use crate::family::Family;
use crate::gateway::{BASE_PATH, DEVICE, Gateway, Settings, Wishes};
use crate::hub::Hub;
use crate::net::{self, Net};
use crate::oracle::{self, Claim, Findings, Tags};
use crate::plc::Plc;
use crate::wan::Wan;
use crate::{reader, remains, stream, vitals, wait};

const GATEWAY: &str = "PlantA/gw-line3";

/// How far the PLC's and the record's idea of a moment may differ: a poll, its time-out under
/// load, and the schedule.
const SLACK: Duration = Duration::from_secs(1);

/// How long an outage lasts: as given, ten times that under `cargo xtask long`.
#[must_use]
pub fn outage(short: Duration) -> Duration {
    if is_long() { short * 10 } else { short }
}

/// Whether this is the long run: `cargo xtask long`.
#[must_use]
pub fn is_long() -> bool {
    std::env::var_os("TIDEGATE_RIG_LONG").is_some()
}

/// A counting PLC, a cable, a gateway, a wide-area link and a hub.
#[derive(Debug)]
pub struct Rig {
    /// The PLC.
    pub plc: Plc,
    /// Between PLC and gateway.
    pub cable: Wan,
    /// Between the gateway's leaf and the hub.
    pub wan: Wan,
    /// The same for each further server of a hub that is a cluster.
    pub more_wans: Vec<Wan>,
    /// The hub.
    pub hub: Hub,
    /// The gateway.
    pub gateway: Gateway,
    settings: Settings,
    family: Arc<Family>,
    /// Last, so that it is removed when nobody writes into it any more.
    directory: Option<TempDir>,
}

impl Rig {
    /// Everything runs: PLC on, gateway started, link open.
    ///
    /// # Errors
    /// When a part does not come up.
    pub async fn running() -> anyhow::Result<Self> {
        Self::running_with(Wishes::default()).await
    }

    /// [`Rig::running`], with a gateway that is configured otherwise than usual.
    ///
    /// # Errors
    /// When a part does not come up.
    pub async fn running_with(wishes: Wishes) -> anyhow::Result<Self> {
        let mut rig = Self::idle(wishes).await?;
        rig.switch_plc_on().await?;
        rig.gateway.start().await?;
        Ok(rig)
    }

    /// Hub and link are up; the PLC is off and the gateway not started.
    ///
    /// # Errors
    /// When a part does not come up.
    pub async fn with_plc_off() -> anyhow::Result<Self> {
        Self::idle(Wishes::default()).await
    }

    /// [`Rig::running`] with a hub of three servers, whose stream has three replicas, and a link to
    /// each of them.
    ///
    /// # Errors
    /// When a part does not come up.
    pub async fn running_on_cluster() -> anyhow::Result<Self> {
        Self::running_on_cluster_with(Wishes::default()).await
    }

    /// [`Rig::running_on_cluster`], with a gateway that is configured otherwise than usual.
    ///
    /// # Errors
    /// When a part does not come up.
    pub async fn running_on_cluster_with(wishes: Wishes) -> anyhow::Result<Self> {
        let (directory, family) = Self::place()?;
        let hub = Hub::start_cluster(&family, &directory.path().join("hub"), &[GATEWAY]).await?;
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let mut rig = Self::around(directory, family, hub, (here, here), wishes).await?;
        rig.switch_plc_on().await?;
        rig.gateway.start().await?;
        Ok(rig)
    }

    async fn idle(wishes: Wishes) -> anyhow::Result<Self> {
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Self::idle_at(here, here, wishes).await
    }

    /// [`Rig::running_with`], with the gateway on the far side of networks of its own. The shaping
    /// is the network's; `wan` only leads to the hub.
    ///
    /// # Errors
    /// When a part does not come up.
    pub async fn running_across(net: &Net, mut wishes: Wishes) -> anyhow::Result<Self> {
        wishes.around = [net.at_gateway(), wishes.around].concat();
        wishes.certificates.hosts.push(net::HUB.to_string());
        let mut rig = Self::idle_at(net::HUB, net::PLC, wishes).await?;
        rig.switch_plc_on().await?;
        rig.gateway.start().await?;
        Ok(rig)
    }

    /// Everything but the gateway, which is installed on a machine of its own inside `net` and looked
    /// after by the scenario: the PLC is on, the hub shows a certificate of an authority that serves
    /// EST beside it. [`Rig::gateway`] only has the configuration that the machine is to be given.
    ///
    /// # Errors
    /// When a part does not come up.
    pub async fn without_gateway(
        _inside: &Net,
        mut wishes: Wishes,
    ) -> anyhow::Result<(Self, Authority)> {
        wishes.certificates.hosts.push(net::HUB.to_string());
        let (directory, family) = Self::place()?;
        let place = directory.path().join("hub");
        let mut hub =
            Hub::start_certified(&family, &place, &[GATEWAY], &wishes.certificates).await?;
        let listen = (net::HUB, 0).into();
        let authority = Authority::serving(&family, directory.path(), listen).await?;
        authority.certify(hub.config())?;
        hub.kill9()?;
        hub.start_again().await?;
        let (url, pin) = (authority.url(), authority.pin());
        let more = wishes.identity.take().unwrap_or_default();
        wishes.identity = Some(format!("est = \"{url}\"\nca-pins = [\"{pin}\"]\n{more}"));
        wishes.elsewhere = true;
        let at = (net::HUB, net::PLC);
        let mut rig = Self::around(directory, family, hub, at, wishes).await?;
        rig.switch_plc_on().await?;
        Ok((rig, authority))
    }

    async fn idle_at(hub_at: IpAddr, plc_at: IpAddr, wishes: Wishes) -> anyhow::Result<Self> {
        let (directory, family) = Self::place()?;
        let place = directory.path().join("hub");
        let hub = Hub::start_certified(&family, &place, &[GATEWAY], &wishes.certificates).await?;
        Self::around(directory, family, hub, (hub_at, plc_at), wishes).await
    }

    fn place() -> anyhow::Result<(TempDir, Arc<Family>)> {
        let directory = tempfile::Builder::new().prefix("tidegate-rig-").tempdir()?;
        Ok((directory, Family::new()?))
    }

    /// Everything but the hub; what the gateway connects to is at these addresses.
    async fn around(
        directory: TempDir,
        family: Arc<Family>,
        hub: Hub,
        (hub_at, plc_at): (IpAddr, IpAddr),
        wishes: Wishes,
    ) -> anyhow::Result<Self> {
        let first = if wishes.certificates.websocket { hub.websockets()? } else { hub.leafs()? };
        let wan = Wan::open_at(hub_at, first).await?;
        let mut more_wans = Vec::new();
        for at in 1..hub.servers() {
            more_wans.push(Wan::open_at(hub_at, hub.leafs_of(at)?).await?);
        }
        if wishes.second_way {
            more_wans.push(Wan::open_at(hub_at, first).await?);
        }
        let cable = Wan::to_nowhere_at(plc_at).await?;
        let settings = Settings {
            gateway: GATEWAY.to_owned(),
            hubs: [&wan].into_iter().chain(&more_wans).map(Wan::address).collect(),
            credentials: hub.credentials(GATEWAY)?,
            stream: hub.stream()?.to_owned(),
            domain: hub.domain()?.to_owned(),
            plc: cable.address(),
            wishes,
        };
        let own = directory.path().join("gateway");
        let gateway = match settings.wishes.elsewhere {
            true => Gateway::elsewhere(&family, &own, &settings)?,
            false => Gateway::configured(&family, &own, &settings)?,
        };
        let plc = Plc::off(&family, directory.path());
        let directory = Some(directory);
        Ok(Self { plc, cable, wan, more_wans, hub, gateway, settings, family, directory })
    }

    /// Switches the PLC on and plugs the cable in.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn switch_plc_on(&mut self) -> anyhow::Result<()> {
        let address = self.plc.switch_on().await?;
        self.cable.lead_to(address).await?;
        self.cable.restore().await
    }

    /// Switches the PLC off: connecting to it is refused.
    ///
    /// # Errors
    /// When it was off.
    pub async fn switch_plc_off(&mut self) -> anyhow::Result<()> {
        self.plc.switch_off()?;
        self.cable.cut_closed().await
    }

    /// Starts the killed hub again and leads the link to it.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_hub_again(&mut self) -> anyhow::Result<()> {
        self.hub.start_again().await?;
        self.wan.lead_to(self.hub.leafs()?).await
    }

    /// Limits how many files the running daemon may have open.
    ///
    /// # Errors
    /// When it is down.
    pub fn limit_open_files(&self, most: u64) -> anyhow::Result<()> {
        vitals::limit_open_files(&self.family, self.gateway.pid()?, most)
    }

    /// Starts a killed server of the hub's cluster again and leads its link to it.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_hub_node_again(&mut self, at: usize) -> anyhow::Result<()> {
        self.hub.start_node(at).await?;
        let leafs = self.hub.leafs_of(at)?;
        match at.checked_sub(1) {
            None => self.wan.lead_to(leafs).await,
            Some(more) => self.more_wans[more].lead_to(leafs).await,
        }
    }

    /// The largest value that the PLC has served.
    ///
    /// # Errors
    /// When its history cannot be read.
    pub fn served(&self) -> anyhow::Result<u64> {
        Ok(self.plc.history()?.last().map_or(0, |served| served.n))
    }

    /// Waits until the gateway has polled this many values more.
    ///
    /// # Errors
    /// When it does not.
    pub async fn polls(&self, more: u64) -> anyhow::Result<u64> {
        let target = self.served()? + more;
        let what = format!("the gateway polls {more} times");
        wait::until(wait::SOON, &what, || {
            let served = self.served();
            async move { served.map(|served| (served >= target).then_some(served)) }
        })
        .await
    }

    /// Who keeps the rig's processes.
    #[must_use]
    pub const fn family(&self) -> &Arc<Family> {
        &self.family
    }

    /// A place for files of a scenario.
    ///
    /// # Errors
    /// When the rig is gone.
    pub fn path(&self, name: &str) -> anyhow::Result<PathBuf> {
        Ok(self.directory.as_ref().context("the rig is gone")?.path().join(name))
    }

    /// The paths of the tags that count.
    #[must_use]
    pub fn tags() -> Tags {
        Tags { counter: format!("{BASE_PATH}/counter"), triple: format!("{BASE_PATH}/triple") }
    }

    /// Waits until the hub holds a value of the counter at least this large.
    ///
    /// # Errors
    /// When it does not within `patience`.
    pub async fn hub_holds(&self, n: u64, patience: Duration) -> anyhow::Result<()> {
        self.tap(n, patience).await.map(|_samples| ())
    }

    /// Everything at the hub, once both counting tags have reached this poll.
    async fn tap(&self, n: u64, patience: Duration) -> anyhow::Result<Vec<oracle::Sample>> {
        let Tags { counter, triple } = Self::tags();
        let url = self.hub.reader_url()?;
        let goals = [(counter, n), (triple, n * 3)];
        reader::tap_until(&self.family, &url, self.gateway.id(), patience, &goals).await
    }

    /// The times of every value of the counter at the hub.
    ///
    /// # Errors
    /// When the hub cannot be read.
    pub async fn times(&self) -> anyhow::Result<Vec<reader::Times>> {
        let (url, counter) = (self.hub.reader_url()?, Self::tags().counter);
        reader::times_of(&self.family, &url, GATEWAY, &counter).await
    }

    /// How many messages have reached the hub: what must stand still while the link is cut.
    ///
    /// # Errors
    /// When the hub is down.
    pub async fn messages_at_hub(&self) -> anyhow::Result<u64> {
        stream::taken_in(&self.hub.admin_url()?, self.hub.stream()?).await
    }

    /// How many bytes the hub's stream holds.
    ///
    /// # Errors
    /// When the hub is down.
    pub async fn bytes_at_hub(&self) -> anyhow::Result<u64> {
        stream::bytes(&self.hub.admin_url()?, self.hub.stream()?).await
    }

    /// The hub's stream as it is: subject and payload of every message.
    ///
    /// # Errors
    /// When the hub is down.
    pub async fn messages(&self) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
        stream::messages(&self.hub.admin_url()?, self.hub.stream()?).await
    }

    /// Sits out an outage of the wide-area link and makes sure that it was one.
    ///
    /// # Errors
    /// When something reached the hub nevertheless, or the gateway stopped polling.
    pub async fn sit_out(&self, short: Duration) -> anyhow::Result<()> {
        // What had already passed the link may still arrive.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let before = self.messages_at_hub().await?;
        let polled = self.served()?;
        tokio::time::sleep(outage(short)).await;
        let after = self.messages_at_hub().await?;
        ensure!(before == after, "the link is cut, but {before} messages became {after}");
        ensure!(self.served()? > polled, "the gateway stopped polling during the outage");
        Ok(())
    }

    /// The end of every scenario: waits until everything served so far is at the hub, then judges
    /// the values, checks the raw stream for repeated frames, and compares with the binary's own
    /// proof.
    ///
    /// # Errors
    /// When anything is missing that no loss names, doubled or out of order, and above all when
    /// the proof says balanced nevertheless.
    pub async fn verify(&mut self, patience: Duration) -> anyhow::Result<(Findings, Claim)> {
        self.gateway.must_be_running()?;
        // One poll further, so that what is judged was followed by something.
        let upto = self.polls(2).await?;
        let samples = self.tap(upto, patience).await?;
        let url = self.hub.reader_url()?;
        let mut claim = reader::prove(&self.family, &url, self.gateway.id()).await?;
        claim.keep_losses_of(DEVICE, BASE_PATH);
        let history = self.plc.history()?;
        let slack = i64::try_from(SLACK.as_nanos())?;
        let findings = oracle::judge(&history, &samples, &Self::tags(), &claim.losses, slack);
        if findings.contradict(&claim) {
            bail!("prove contradicts the values: {claim:?} against {findings:?}");
        }
        ensure!(findings.is_clean(), "the values are not whole: {findings:?} with {claim:?}");
        ensure!(
            claim.is_balanced() && claim.exit_ok,
            "the values are whole, but prove does not say so: {claim:?}"
        );
        let messages = self.messages().await?;
        let frames = stream::count_distinct_frames(&messages)?;
        ensure!(frames > 0, "the stream holds no frame");
        Ok((findings, claim))
    }

    /// [`Rig::verify`], and nothing may be missing at all, named or not.
    ///
    /// # Errors
    /// As there, and when a single value that was served is missing.
    pub async fn verify_nothing_lost(&mut self, patience: Duration) -> anyhow::Result<()> {
        let (findings, _) = self.verify(patience).await?;
        ensure!(findings.named_holes.is_empty(), "lost, though named: {findings:?}");
        Ok(())
    }

    /// What the hub holds and what `prove` says of it, once everything served so far is there.
    /// Nothing is judged yet but what must never be.
    ///
    /// # Errors
    /// When it does not arrive, or the proof says balanced and the values say otherwise.
    pub async fn account(&mut self, patience: Duration) -> anyhow::Result<Account> {
        self.gateway.must_be_running()?;
        let upto = self.polls(2).await?;
        let samples = self.tap(upto, patience).await?;
        self.judge(samples, &self.hub).await
    }

    /// [`Rig::account`], of everything that the hub ever had and that a stream of its own has kept,
    /// as it would be at a hub that lets nothing go.
    ///
    /// # Errors
    /// As there.
    pub async fn account_of_archive(
        &mut self,
        archive: &str,
        patience: Duration,
    ) -> anyhow::Result<Account> {
        self.gateway.must_be_running()?;
        let upto = self.polls(2).await?;
        let other = self.another_hub().await?;
        let (url, name) = (other.admin_url()?, other.stream()?);
        let counter = Self::tags().counter;
        let samples = wait::until(patience, "the archive holds everything", || async {
            let kept = stream::messages(&self.hub.admin_url()?, archive).await?;
            stream::put(&url, name, &kept).await?;
            let samples = reader::tap_once(&self.family, &other.reader_url()?, GATEWAY).await?;
            let is_there = |one: &oracle::Sample| {
                one.path == counter && one.value.is_some_and(|value| value >= upto)
            };
            Ok(samples.iter().any(is_there).then_some(samples))
        })
        .await?;
        self.judge(samples, &other).await
    }

    #[expect(clippy::print_stderr, reason = "a failed scenario shows what it was judged by")]
    async fn judge(&self, samples: Vec<oracle::Sample>, hub: &Hub) -> anyhow::Result<Account> {
        let report = self.prove_at(hub).await?;
        let mut claim = reader::claim(&report.0, report.1)?;
        claim.keep_losses_of(DEVICE, BASE_PATH);
        let report = report.0;
        let history = self.plc.history()?;
        let slack = i64::try_from(SLACK.as_nanos())?;
        let mut findings = oracle::judge(&history, &samples, &Self::tags(), &claim.losses, slack);
        let unexplained = oracle::explain(&mut findings, &reader::sequenced(&report)?);
        let account = Account { samples, report, claim, findings };
        eprintln!("{}, {:?}", account.claim.verdict, account.findings);
        if account.findings.contradict(&account.claim) {
            bail!("prove contradicts the values: {}", account.short());
        }
        ensure!(unexplained.is_empty(), "named as lost and at the hub: {unexplained:?}");
        Ok(account)
    }

    /// What `prove` says of this gateway at some hub, and whether its exit code was 0.
    ///
    /// # Errors
    /// When it says nothing.
    pub async fn prove_at(&self, hub: &Hub) -> anyhow::Result<(Value, bool)> {
        reader::report(&self.family, &hub.reader_url()?, self.gateway.id(), None).await
    }

    /// [`Rig::prove_at`], with the lab's authority vouching for signatures.
    ///
    /// # Errors
    /// When the hub is down or the proof prints no JSON.
    pub async fn prove_signed_at(&self, hub: &Hub) -> anyhow::Result<(Value, bool)> {
        let authority = self.hub.credentials(self.gateway.id())?.ca;
        let url = hub.reader_url()?;
        reader::report(&self.family, &url, self.gateway.id(), Some(&authority)).await
    }

    /// Another hub that admits the same gateway and is empty.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn another_hub(&self) -> anyhow::Result<Hub> {
        let directory = self.directory.as_ref().context("the rig is gone")?;
        Hub::start(&self.family, &directory.path().join("hub-2"), &[GATEWAY]).await
    }

    /// A second gateway, freshly installed, with the name and the certificate of the first.
    ///
    /// # Errors
    /// When it cannot be configured.
    pub fn twin(&self) -> anyhow::Result<Gateway> {
        let directory = self.directory.as_ref().context("the rig is gone")?;
        Gateway::configured(&self.family, &directory.path().join("gateway-2"), &self.settings)
    }

    /// What another hub holds now, judged like [`Rig::account`].
    ///
    /// # Errors
    /// When it cannot be read, or the proof says balanced and the values say otherwise.
    pub async fn account_at(&self, hub: &Hub) -> anyhow::Result<Account> {
        let samples = reader::tap_once(&self.family, &hub.reader_url()?, GATEWAY).await?;
        self.judge(samples, hub).await
    }

    /// A gateway of the same name in front of another hub, without a PLC: what it delivers is what
    /// it has on disk.
    ///
    /// # Errors
    /// When it cannot be configured.
    pub fn successor(&self, hub: &Hub, name: &str, wishes: Wishes) -> anyhow::Result<Gateway> {
        let directory = self.directory.as_ref().context("the rig is gone")?;
        let settings = Settings {
            gateway: GATEWAY.to_owned(),
            hubs: vec![hub.leafs()?],
            credentials: hub.credentials(GATEWAY)?,
            stream: hub.stream()?.to_owned(),
            domain: hub.domain()?.to_owned(),
            // Nobody listens there.
            plc: ([127, 0, 0, 1], 1).into(),
            wishes,
        };
        Gateway::configured(&self.family, &directory.path().join(name), &settings)
    }
}

/// The hub's copy, the proof, and the judgement.
#[derive(Debug)]
pub struct Account {
    /// Everything at the hub, in its order.
    pub samples: Vec<oracle::Sample>,
    /// The whole JSON of `prove`.
    pub report: Value,
    /// What it comes to.
    pub claim: Claim,
    /// The oracle's judgement.
    pub findings: Findings,
}

impl Account {
    /// For a failed scenario: everything but the samples.
    #[must_use]
    pub fn short(&self) -> String {
        format!("{} samples, {:?}, {:#}", self.samples.len(), self.findings, self.report)
    }

    /// The causes of all sequenced losses.
    #[must_use]
    pub fn sequenced_causes(&self) -> Vec<String> {
        let losses = reader::sequenced(&self.report).unwrap_or_default();
        losses.into_iter().map(|loss| loss.cause).collect()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let logs = ["hub/hub.log", "gateway.log"];
        remains::show_if_failing(&mut self.directory, &logs);
    }
}

/// The first live value of the counter that a subscriber at the hub sees, and those after it.
///
/// # Errors
/// When fewer than `count` arrive soon.
pub async fn live_values(rig: &Rig, count: usize) -> anyhow::Result<Vec<u64>> {
    use futures_util::StreamExt as _;

    let client = stream::connect(&rig.hub.reader_url()?).await?;
    let subject = format!("uns.{}", Rig::tags().counter.replace('/', "."));
    let mut subscription = client.subscribe(subject).await?;
    client.flush().await?;
    let mut values = Vec::new();
    while values.len() < count {
        let next = tokio::time::timeout(wait::SOON, subscription.next()).await;
        let message = next.context("no live value soon")?.context("the hub hung up")?;
        let value: serde_json::Value = serde_json::from_slice(&message.payload)?;
        let number = value["v"].as_u64().or_else(|| value["v"].as_str()?.parse().ok());
        values.push(number.with_context(|| format!("live value {value}"))?);
    }
    Ok(values)
}
