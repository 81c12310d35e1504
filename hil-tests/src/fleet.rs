//! Many gateways on one hub: real daemons with a leaf process each, which read one value a second
//! of the same PLC.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use crate::family::Family;
use crate::gateway::{Gateway, Settings, Wishes};
use crate::hub::Hub;
use crate::operator;
use crate::plc::Plc;
use crate::stream;

/// How long a fleet may take to be there, on a machine that has other work.
const TO_COME_UP: Duration = Duration::from_secs(120);

/// A hub of three servers, and its gateways.
#[derive(Debug)]
pub struct Fleet {
    /// The hub.
    pub hub: Hub,
    /// The gateways.
    pub gateways: Vec<Gateway>,
    _plc: Plc,
    /// Last, so that it is removed when nobody writes into it any more.
    _directory: TempDir,
}

impl Fleet {
    /// So many gateways, started and linked.
    ///
    /// # Errors
    /// When a part does not come up.
    pub async fn running(size: usize) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("tidegate-fleet-").tempdir()?;
        let family = Family::new()?;
        let names: Vec<_> = (0..size).map(|number| format!("PlantA/gw-{number}")).collect();
        let admitted: Vec<_> = names.iter().map(String::as_str).collect();
        let place = directory.path().join("hub");
        let change = |text: &str, _: usize| operator::admitted(text);
        let hub = Hub::start_cluster_as(&family, &place, &admitted, change).await?;
        let mut plc = Plc::off(&family, directory.path());
        let plc_at = plc.switch_on().await?;
        let leafs = (0..hub.servers()).map(|at| hub.leafs_of(at)).collect::<Result<Vec<_>, _>>()?;
        let mut gateways = Vec::new();
        for name in &names {
            let settings = Settings {
                gateway: name.clone(),
                hubs: leafs.clone(),
                credentials: hub.credentials(name)?,
                stream: hub.stream()?.to_owned(),
                domain: hub.domain()?.to_owned(),
                plc: plc_at,
                wishes: Wishes { devices: Some(one_tag(name, plc_at)), ..Wishes::default() },
            };
            let place = directory.path().join(name.replace('/', "-"));
            let mut gateway = Gateway::configured(&family, &place, &settings)?;
            gateway.launch()?;
            gateways.push(gateway);
        }
        let fleet = Self { hub, gateways, _plc: plc, _directory: directory };
        fleet.each_delivers_beyond(&BTreeMap::new(), |_| true).await?;
        Ok(fleet)
    }

    /// How many messages the hub has of each gateway.
    ///
    /// # Errors
    /// When the hub does not say.
    pub async fn delivered(&self) -> anyhow::Result<BTreeMap<String, usize>> {
        let mut of_each = BTreeMap::new();
        let subjects = stream::subjects(&self.hub.admin_url()?, self.hub.stream()?).await?;
        for (subject, count) in subjects {
            let mut tokens = subject.split('.').skip(1);
            let plant = tokens.next().context("no plant in the subject")?;
            let name = tokens.next().context("no gateway in the subject")?;
            *of_each.entry(format!("{plant}/{name}")).or_default() += count;
        }
        Ok(of_each)
    }

    /// Waits until the hub has more of each gateway that counts than it had.
    ///
    /// # Errors
    /// When it has not soon; the error names who is missing.
    pub async fn each_delivers_beyond(
        &self,
        before: &BTreeMap<String, usize>,
        counts: impl Fn(&str) -> bool,
    ) -> anyhow::Result<()> {
        let had = |of: &BTreeMap<String, usize>, id: &str| of.get(id).copied().unwrap_or(0);
        let ids = self.gateways.iter().map(Gateway::id).filter(|id| counts(id));
        let mut missing: Vec<_> = ids.collect();
        let begun = Instant::now();
        loop {
            let now = self.delivered().await?;
            missing.retain(|id| had(&now, id) <= had(before, id));
            if missing.is_empty() {
                return Ok(());
            }
            ensure!(begun.elapsed() < TO_COME_UP, "nothing new of {missing:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// One value a second.
fn one_tag(gateway: &str, plc: SocketAddr) -> String {
    format!(
        r#"
[[device]]
name = "press"
protocol = "modbus-tcp"
address = "{plc}"
unit = 1
poll-every-ms = 1000
base-path = "{gateway}"

[[device.tag]]
path = "counter"
address = "holding:100"
type = "uint64"
"#
    )
}
