//! The field: a gateway in front of devices of any kind and number, a hub behind it, and a judge
//! that looks at every value wherever it shows.
//!
//! # Invariants
//! - Every value that the gateway gives away is judged: those that a subscriber at the hub saw
//!   live, those that `tidegate tags` showed, and those of the record at the hub.
//! - What a tag must hold is known from its name ([`truth`]), never from the product.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::family::{Family, Process};
use crate::gateway::{Gateway, Settings, Wishes};
use crate::hub::{Credentials, Hub};
use crate::oracle::NamedLoss;
use crate::{clock, reader, stream, tools, wait};

pub mod truth;

use truth::{Exceptions, Reading};

/// The gateway's name in the plant.
pub const GATEWAY: &str = "PlantA/gw-field";

/// Where everything of a scenario is kept, before anything runs.
#[derive(Debug)]
pub struct Site {
    /// Who ends everything.
    pub family: Arc<Family>,
    directory: TempDir,
}

impl Site {
    /// An empty place.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn new() -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("tidegate-field-").tempdir()?;
        Ok(Self { family: Family::new()?, directory })
    }

    /// A file or link in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// What the devices are: the `[[device]]` tables of the configuration.
#[derive(Debug, Clone, Default)]
pub struct Devices {
    text: String,
    paths: Vec<String>,
}

/// Polled every 100 ms, with 300 ms for each answer and short rests after faults, so that a scenario
/// shows in seconds what a plant shows in hours. A scenario's own keys win.
const USUAL: [(&str, &str); 5] = [
    ("poll-every-ms", "100"),
    ("timeout-ms", "300"),
    ("retry-after-ms", "100"),
    ("retry-at-most-ms", "500"),
    ("max-gap", "0"),
];

impl Devices {
    /// Nothing to poll.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// A device more. `way` are the keys that lead to it, `keys` further ones, both as lines of
    /// TOML; tags are named after their place.
    ///
    /// # Errors
    /// When a tag is not.
    pub fn with(self, name: &str, way: &str, keys: &str, tags: &[&str]) -> anyhow::Result<Self> {
        let text: anyhow::Result<String> =
            tags.iter().map(|tag| truth::configuration(tag)).collect();
        Ok(self.with_text(name, way, keys, tags, &text?))
    }

    /// A device more, whose tags stand in `text` and have these names.
    #[must_use]
    pub fn with_text(self, name: &str, way: &str, keys: &str, tags: &[&str], text: &str) -> Self {
        let base = base_path(name);
        let written = format!("\n{way}\n{keys}");
        let mut table = format!("{way}\n");
        for (key, value) in USUAL {
            if !written.contains(&format!("\n{key} ")) {
                // Writing to a String cannot fail.
                let _ = writeln!(table, "{key} = {value}");
            }
        }
        table.push_str(keys);
        let paths = tags.iter().map(|tag| format!("{base}/{tag}")).collect();
        self.with_table(name, &table, text, paths)
    }

    /// A device more, whose keys and tags stand in `keys` and `tags`, and whose tags have these paths.
    #[must_use]
    pub fn with_table(mut self, name: &str, keys: &str, tags: &str, paths: Vec<String>) -> Self {
        let base = base_path(name);
        let _ = writeln!(self.text, "\n[[device]]\nname = {name:?}\nbase-path = {base:?}\n{keys}");
        self.text.push_str(tags);
        self.paths.extend(paths);
        self
    }

    /// The paths of all tags.
    #[must_use]
    pub fn paths(&self) -> &[String] {
        &self.paths
    }
}

/// What the path of each tag of a device begins with.
#[must_use]
pub fn base_path(device: &str) -> String {
    format!("PlantA/{device}")
}

/// A gateway among its devices, and its hub.
#[derive(Debug)]
pub struct Field {
    /// The gateway.
    pub gateway: Gateway,
    hub: Option<Hub>,
    /// What tags must hold that are not named after their place.
    pub exceptions: Exceptions,
    paths: Vec<String>,
    live: Arc<Mutex<Vec<Reading>>>,
    shown: Option<Process>,
    subscriber: Option<tokio::task::JoinHandle<()>>,
    /// Last, so that it is removed when nobody writes into it any more.
    site: Option<Site>,
}

impl Field {
    /// Everything runs, and every value is looked at from the first on.
    ///
    /// # Errors
    /// When a part does not come up.
    pub async fn running(site: Site, devices: &Devices) -> anyhow::Result<Self> {
        Self::running_with(site, devices, Wishes::default()).await
    }

    /// [`Field::running`], with a gateway that is configured otherwise than usual.
    ///
    /// # Errors
    /// When a part does not come up.
    pub async fn running_with(
        site: Site,
        devices: &Devices,
        wishes: Wishes,
    ) -> anyhow::Result<Self> {
        let mut field = Self::idle(site, devices, wishes).await?;
        field.start().await?;
        Ok(field)
    }

    /// The hub runs and the gateway is configured; nothing looks at values yet.
    ///
    /// # Errors
    /// When a part does not come up.
    pub async fn idle(site: Site, devices: &Devices, wishes: Wishes) -> anyhow::Result<Self> {
        let hub = Hub::start(&site.family, &site.path("hub"), &[GATEWAY]).await?;
        let settings = Settings {
            gateway: GATEWAY.to_owned(),
            hubs: vec![hub.leafs()?],
            credentials: hub.credentials(GATEWAY)?,
            stream: hub.stream()?.to_owned(),
            domain: hub.domain()?.to_owned(),
            plc: ([127, 0, 0, 1], 1).into(),
            wishes,
        };
        let live = Arc::default();
        let subscriber = watch_live(&hub, Arc::clone(&live)).await?;
        Self::configured(site, devices, settings, Some(hub), live, Some(subscriber))
    }

    /// The gateway is configured without a hub, for what shows in its status and its latest values.
    ///
    /// # Errors
    /// When its files cannot be written.
    pub fn without_hub(site: Site, devices: &Devices) -> anyhow::Result<Self> {
        let settings = Settings {
            gateway: GATEWAY.to_owned(),
            hubs: Vec::new(),
            credentials: Credentials::none(),
            stream: String::new(),
            domain: String::new(),
            plc: ([127, 0, 0, 1], 1).into(),
            wishes: Wishes::default(),
        };
        Self::configured(site, devices, settings, None, Arc::default(), None)
    }

    fn configured(
        site: Site,
        devices: &Devices,
        mut settings: Settings,
        hub: Option<Hub>,
        live: Arc<Mutex<Vec<Reading>>>,
        subscriber: Option<tokio::task::JoinHandle<()>>,
    ) -> anyhow::Result<Self> {
        settings.wishes.devices = Some(devices.text.clone());
        let gateway = Gateway::configured(&site.family, &site.path("gateway"), &settings)?;
        Ok(Self {
            gateway,
            hub,
            exceptions: Exceptions::new(),
            paths: devices.paths.clone(),
            live,
            shown: None,
            subscriber,
            site: Some(site),
        })
    }

    /// Starts the gateway, and a terminal that shows its values.
    ///
    /// # Errors
    /// When it runs already or does not come up.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        self.gateway.start().await?;
        wait::until(wait::SOON, "the gateway has tags", || async {
            Ok((!self.tags()?.is_empty()).then_some(()))
        })
        .await?;
        let site = self.site()?;
        let mut command = self.gateway.command("tags")?;
        command.args(["--watch", "--json"]);
        self.shown = Some(Process::start(&site.family, "tags --watch", command, &shown(site))?);
        Ok(())
    }

    /// Has the running gateway take other devices over.
    ///
    /// # Errors
    /// When it is down or its configuration cannot be written.
    pub fn reload(&mut self, devices: &Devices) -> anyhow::Result<()> {
        self.paths.clone_from(&devices.paths);
        self.gateway.reload_with(&devices.text)
    }

    /// SIGKILL to the gateway, which is started again at once.
    ///
    /// # Errors
    /// When it was down, or does not come up.
    pub async fn kill_and_start(&mut self) -> anyhow::Result<()> {
        self.gateway.kill9()?;
        // It would end by itself, later.
        if let Some(mut shown) = self.shown.take()
            && shown.ended()?.is_none()
        {
            shown.kill9()?;
        }
        self.start().await
    }

    /// The paths of all tags that are named in the configuration.
    #[must_use]
    pub fn paths(&self) -> &[String] {
        &self.paths
    }

    /// Where everything is kept.
    ///
    /// # Errors
    /// Never, while the field is.
    pub fn site(&self) -> anyhow::Result<&Site> {
        self.site.as_ref().context("the field is gone")
    }

    /// The latest values, as `tidegate tags` shows them now.
    ///
    /// # Errors
    /// When the gateway does not answer.
    pub fn tags(&self) -> anyhow::Result<Vec<Reading>> {
        let output = self.gateway.command("tags")?.arg("--json").output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        // It answers before it has begun to poll.
        if said.contains("no tag matches") {
            return Ok(Vec::new());
        }
        ensure!(output.status.success(), "tags ended ({}): {said}", output.status);
        readings(&String::from_utf8_lossy(&output.stdout))
    }

    /// The tags of one device.
    ///
    /// # Errors
    /// When the gateway does not answer.
    pub fn tags_of(&self, device: &str) -> anyhow::Result<Vec<Reading>> {
        let base = base_path(device) + "/";
        Ok(self.tags()?.into_iter().filter(|one| one.path.starts_with(&base)).collect())
    }

    /// What `status --json` says of one device.
    ///
    /// # Errors
    /// When the gateway does not answer, or has no such device.
    pub fn device(&self, name: &str) -> anyhow::Result<Value> {
        let status = self.gateway.status()?;
        let devices = status["devices"].as_array().context("no devices in the status")?;
        let found = devices.iter().find(|device| device["name"] == name);
        found.cloned().with_context(|| format!("no device {name} in {status:#}"))
    }

    /// Waits until every tag has a good value that is newer than this call.
    ///
    /// # Errors
    /// When one has not within `patience`; the error shows those that have not.
    pub async fn all_good(&self, patience: Duration) -> anyhow::Result<()> {
        self.good(patience, |_| true).await
    }

    /// Waits until every tag of these devices has a good value that is newer than this call.
    ///
    /// # Errors
    /// As there.
    pub async fn devices_good(&self, devices: &[&str], patience: Duration) -> anyhow::Result<()> {
        let bases: Vec<_> = devices.iter().map(|device| base_path(device) + "/").collect();
        self.good(patience, |path| bases.iter().any(|base| path.starts_with(base))).await
    }

    /// Waits until every tag that is meant has a good value that is newer than this call.
    ///
    /// # Errors
    /// As there.
    pub async fn good(
        &self,
        patience: Duration,
        meant: impl Fn(&str) -> bool,
    ) -> anyhow::Result<()> {
        let since = clock::now_ms()?;
        let meant: Vec<_> = self.paths.iter().filter(|path| meant(path)).collect();
        let missing = |tags: &[Reading]| -> Vec<String> {
            let is_good = |path: &str| {
                tags.iter().any(|one| one.path == path && one.is_good() && one.at_ms > since)
            };
            meant.iter().filter(|path| !is_good(path)).map(ToString::to_string).collect()
        };
        let waited = wait::until(patience, "every tag is good", || {
            let tags = self.tags();
            async { Ok(missing(&tags?).is_empty().then_some(())) }
        })
        .await;
        waited.with_context(|| {
            let tags = self.tags().unwrap_or_default();
            let of = |path: &String| tags.iter().find(|one| one.path == *path).cloned();
            let missing = missing(&tags);
            let some: Vec<_> = missing.iter().take(4).map(|path| (path, of(path))).collect();
            format!("{} not good: {some:#?}", missing.len())
        })
    }

    /// Waits until no tag of a device is good.
    ///
    /// # Errors
    /// When one still is after `patience`.
    pub async fn none_good(&self, device: &str, patience: Duration) -> anyhow::Result<()> {
        wait::until(patience, &format!("no tag of {device} is good"), || async {
            Ok((!self.tags_of(device)?.iter().any(Reading::is_good)).then_some(()))
        })
        .await
    }

    /// Every value seen so far, wherever it was: live, on the terminal and in the record, which is
    /// waited for until it holds what is read now.
    ///
    /// # Errors
    /// When a value is wrong, the record does not arrive, or its proof does not balance.
    pub async fn judge(&mut self, patience: Duration) -> anyhow::Result<Judgement> {
        self.gateway.must_be_running()?;
        let now = clock::now_ms()?;
        let site = self.site()?;
        let url = self.hub.as_ref().context("there is no hub")?.reader_url()?;
        let record = wait::until(patience, "the hub holds what is read now", || async {
            let all = self.record(&url).await?;
            Ok(all.iter().any(|one| one.at_ms > now).then_some(all))
        })
        .await?;
        let (proof, exit_ok) = reader::report(&site.family, &url, GATEWAY, None).await?;
        let claim = reader::claim(&proof, exit_ok)?;
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let shown = self.shown()?;
        let losses = claim.losses.clone();
        let judgement = Judgement { live, shown, record, losses };
        let wrong = judgement.wrong(&self.exceptions)?;
        ensure!(
            wrong.is_empty(),
            "{} wrong values: {:#?}",
            wrong.len(),
            &wrong[..wrong.len().min(8)]
        );
        ensure!(claim.is_balanced() && exit_ok, "the record is not balanced: {proof:#}");
        Ok(judgement)
    }

    /// Every value that the terminal has shown so far.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn shown(&self) -> anyhow::Result<Vec<Reading>> {
        readings(&std::fs::read_to_string(shown(self.site()?))?)
    }

    /// What the terminal has shown so far, judged as everything is where there is a hub.
    ///
    /// # Errors
    /// When a value is wrong.
    pub fn judge_shown(&mut self) -> anyhow::Result<Vec<Reading>> {
        self.gateway.must_be_running()?;
        let shown = self.shown()?;
        let wrong = truth::wrong(&shown, &self.exceptions)?;
        ensure!(
            wrong.is_empty(),
            "{} wrong values: {:#?}",
            wrong.len(),
            &wrong[..wrong.len().min(8)]
        );
        Ok(shown)
    }

    /// The record at the hub, of the devices alone.
    async fn record(&self, url: &str) -> anyhow::Result<Vec<Reading>> {
        let mut command = self.site()?.family.command(tools::gateway()?);
        command.args(["tap", "--server", url, "--gateway", GATEWAY, "--format", "jsonl"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = tokio::process::Command::from(command).output().await?;
        let said = String::from_utf8_lossy(&output.stderr);
        // Nothing of this gateway is there yet.
        if !output.status.success() {
            return if said.contains("no record") || said.contains("nothing") {
                Ok(Vec::new())
            } else {
                Err(anyhow::anyhow!("tap ended ({}): {said}", output.status))
            };
        }
        readings(&String::from_utf8_lossy(&output.stdout))
    }
}

impl Drop for Field {
    #[expect(clippy::print_stderr, reason = "a failed scenario shows what its processes logged")]
    fn drop(&mut self) {
        if let Some(subscriber) = &self.subscriber {
            subscriber.abort();
        }
        if !std::thread::panicking() {
            return;
        }
        if let Some(site) = self.site.take() {
            let log = self.gateway.log().unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(60)..].join("\n");
            eprintln!("---- the end of the gateway's log\n{tail}");
            eprintln!("---- kept: {}", site.directory.keep().display());
        }
    }
}

/// Everything that the gateway gave away.
#[derive(Debug)]
pub struct Judgement {
    /// What a subscriber at the hub saw.
    pub live: Vec<Reading>,
    /// What `tags --watch` showed.
    pub shown: Vec<Reading>,
    /// What the record holds.
    pub record: Vec<Reading>,
    /// The losses that it names.
    pub losses: Vec<NamedLoss>,
}

impl Judgement {
    fn wrong(&self, exceptions: &Exceptions) -> anyhow::Result<Vec<&Reading>> {
        let all = self.live.iter().chain(&self.shown).chain(&self.record);
        truth::wrong(all, exceptions)
    }

    /// How many good readings of a path the record holds.
    #[must_use]
    pub fn good(&self, path: &str) -> usize {
        self.record.iter().filter(|one| one.path == path && one.is_good()).count()
    }

    /// The reasons why readings of a device were not good, each once.
    #[must_use]
    pub fn reasons(&self, device: &str) -> Vec<String> {
        let base = base_path(device) + "/";
        let of_device = self.record.iter().filter(|one| one.path.starts_with(&base));
        let mut reasons: Vec<_> = of_device.filter_map(|one| one.why.clone()).collect();
        reasons.sort();
        reasons.dedup();
        reasons
    }
}

/// Where `tags --watch` writes.
fn shown(site: &Site) -> PathBuf {
    site.path("shown.jsonl")
}

/// Subscribes to everything live at the hub, and keeps it.
async fn watch_live(
    hub: &Hub,
    live: Arc<Mutex<Vec<Reading>>>,
) -> anyhow::Result<tokio::task::JoinHandle<()>> {
    use futures_util::StreamExt as _;

    let client = stream::connect(&hub.reader_url()?).await?;
    let mut subscription = client.subscribe("uns.>").await?;
    client.flush().await?;
    Ok(tokio::spawn(async move {
        while let Some(message) = subscription.next().await {
            let path = message.subject.trim_start_matches("uns.").replace('.', "/");
            let value: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
            if let Some(reading) = of_device(path, &value) {
                live.lock().unwrap_or_else(PoisonError::into_inner).push(reading);
            }
            // Closed with the last of its subscriptions.
            let _ = &client;
        }
    }))
}

/// The readings of devices among lines of JSON; the last line counts only once it is whole.
fn readings(lines: &str) -> anyhow::Result<Vec<Reading>> {
    let whole = lines.rfind('\n').map_or("", |end| &lines[..end]);
    let mut readings = Vec::new();
    // The others are what is said when the gateway goes away.
    for line in whole.lines().filter(|line| line.starts_with('{')) {
        let value: Value = serde_json::from_str(line).with_context(|| format!("line {line}"))?;
        let path = value["path"].as_str().with_context(|| format!("no path: {line}"))?;
        readings.extend(of_device(path.to_owned(), &value));
    }
    Ok(readings)
}

/// A reading in any of the forms in which it is given away; `None` for what the gateway says of
/// itself.
fn of_device(path: String, value: &Value) -> Option<Reading> {
    if path.contains("/_gateways/") {
        return None;
    }
    let at_ms = reader::time_ns(&value["ts"])?;
    Some(Reading {
        path,
        value: value["v"].clone(),
        quality: value["q"].as_str().unwrap_or_default().to_owned(),
        why: value["why"].as_str().map(str::to_owned),
        // The record has nanoseconds, everything else milliseconds.
        at_ms: if at_ms > 10_i64.pow(15) { at_ms / 1_000_000 } else { at_ms },
    })
}

/// The lines of a log that hold all of these words.
#[must_use]
pub fn lines_with(log: &str, words: &[&str]) -> usize {
    log.lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
}

/// Where a file is, as the configuration writes it.
#[must_use]
pub fn quoted(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}
