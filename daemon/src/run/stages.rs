//! Each core task of the daemon, put under the supervisor.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tidegate_identity::Authority;
use tidegate_identity::est::{EstClient, EstLimits, EstPlan};
use tidegate_identity::opcua::Thumbprint;
use tidegate_translator::Clock;
use tokio_util::sync::CancellationToken;

use super::{RunArgs, RunError, devices::Devices, devices::MakeFeed};
use crate::config::{self, Config, Difference, Hub, LeafMode, LoadError};
use crate::identity::{Keeper, KeeperSettings, LeafHub, Wake};
use crate::ingest::{Door, Feed, Ids};
use crate::leaf::{
    self, Launcher, LeafHandle, LeafPlan, LeafProcess, LeafService, LeafSettings, LeafState,
    LocalAccess, LocalRole, Search, ServiceSettings,
};
use crate::live::{LiveQueue, NatsOutlet, Publisher};
use crate::observe::control::ControlServer;
use crate::observe::http::{HttpLimits, HttpServer};
use crate::observe::state::{Board, HealthLimits};
use crate::query::{self, Service, Sources};
use crate::recorder::{Handle, Ingress, Recorder};
use crate::supervise::{CoreResult, Stage, Supervisor};
use crate::uplink::{self, Remedy, Shell};
use crate::wan::{Access, ProxyAccess};

pub(super) fn control(supervisor: &mut Supervisor, control: ControlServer) {
    supervisor.core("control", Stage::Observe, |stop| async {
        control.serve(stop).await;
        Ok(())
    });
}

/// Between attempts to listen on a port that somebody else has.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);

/// A port that is taken costs the metrics and not the record: it is told and tried again.
pub(super) fn http(
    supervisor: &mut Supervisor,
    listen: SocketAddr,
    health: HealthLimits,
    board: Arc<Board>,
) {
    supervisor.core("metrics", Stage::Observe, move |stop| async move {
        loop {
            let shared = Arc::clone(&board);
            match HttpServer::bind(listen, shared, health, HttpLimits::default()).await {
                Ok(http) => {
                    tracing::info!(address = %http.address(), "metrics and /healthz");
                    board.clear(NO_METRICS);
                    http.serve(stop).await;
                    return Ok(());
                }
                Err(error) => {
                    let text = crate::causes::chain(&error);
                    if board.raise(NO_METRICS, text.clone()) {
                        tracing::error!(alarm = NO_METRICS, "{text}; recording goes on");
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(LISTEN_AGAIN) => {}
            }
        }
    });
}

/// The alarm's word.
const NO_METRICS: &str = "no-metrics";

pub(super) fn recorder(supervisor: &mut Supervisor, recorder: Recorder) {
    let pulse = supervisor.pulses().register("recorder");
    supervisor.core("recorder", Stage::Record, |stop| async move {
        let runtime = tokio::runtime::Handle::current();
        // A thread of its own: it waits for the disk.
        let thread =
            tokio::task::spawn_blocking(move || runtime.block_on(recorder.run(pulse, stop)));
        thread.await.map_err(Into::into)
    });
}

/// The keeper of the gateway's identity, before it runs, where one is configured.
pub(super) fn keeper(
    config: &Config,
    board: &Arc<Board>,
    clock: &Arc<dyn Clock>,
) -> Result<Option<Keeper>, RunError> {
    let Some(identity) = &config.identity else { return Ok(None) };
    let settings = KeeperSettings::new(
        identity.clone(),
        config.gateway.clone(),
        Arc::clone(board),
        Arc::clone(clock),
    );
    let keeper = Keeper::open(settings)?;
    let authority = match &identity.est {
        None => None,
        Some(url) => {
            let url = url.to_string();
            let parsed = url.parse().map_err(|source| RunError::Authority { url, source })?;
            let pins = identity.ca_pins.iter();
            let plan = EstPlan {
                url: parsed,
                roots: keeper.trusted().roots.clone(),
                pins: pins.map(|pin| Thumbprint(pin.0)).collect(),
                time: keeper.time(),
                limits: EstLimits::default(),
            };
            Some(Arc::new(EstClient::new(plan)) as Arc<dyn Authority>)
        }
    };
    Ok(Some(keeper.with_authority(authority)))
}

/// Whether the leaf shows the identity that is kept: files that an operator names win.
fn shows_identity(config: &Config) -> bool {
    config.identity.is_some() && config.hub.as_ref().is_some_and(|hub| hub.tls.is_none())
}

/// Starts the keeper; what it returns makes it look at once.
pub(super) fn identity(
    supervisor: &mut Supervisor,
    keeper: Option<Keeper>,
    leaf: &Leaf,
    config: &Config,
    board: &Arc<Board>,
) -> Option<Wake> {
    let keeper = keeper?;
    let wake = keeper.wake();
    let hub = config.hub.clone().filter(|_| shows_identity(config)).map(|hub| {
        let (gateway, board) = (config.gateway.clone(), Arc::clone(board));
        let hub: Arc<dyn crate::identity::Hub> =
            Arc::new(LeafHub::new(hub, gateway, leaf.handle.clone(), board));
        hub
    });
    supervisor.core("identity", Stage::Observe, |stop| async move {
        keeper.run(hub, stop).await;
        Ok(())
    });
    Some(wake)
}

/// The way to the local nats-server, whoever runs it.
#[derive(Debug, Clone)]
pub(super) struct Leaf {
    gateway: crate::names::GatewayId,
    handle: LeafHandle,
}

impl Leaf {
    /// Waits until the leaf listens; `None` when the daemon stops first.
    async fn access(&self, stop: &CancellationToken) -> Option<LocalAccess> {
        let address = tokio::select! {
            () = stop.cancelled() => return None,
            address = self.handle.listening() => address?,
        };
        let (gateway, credentials) = (self.gateway.clone(), self.handle.credentials());
        Some(LocalAccess { address, gateway, credentials })
    }

    fn help(&self, remedy: Remedy) {
        match remedy {
            Remedy::Dial { live, record, why } => self.handle.dial_anew(live, record, why),
            Remedy::FailBack { why } => self.handle.fail_back(why),
            Remedy::Restart { why } => self.handle.restart(why),
        }
    }
}

/// The proxy with its password. One that cannot be read keeps the links away and nothing else: the
/// proxy then says that it knows nobody.
pub(super) fn proxy(config: &Config, board: &Board) -> Option<Arc<ProxyAccess>> {
    const NO_PASSWORD: &str = "no-proxy-password";
    let proxy = config.hub.as_ref()?.proxy.as_ref()?;
    let access = ProxyAccess::of(proxy).unwrap_or_else(|error| {
        let text = crate::causes::chain(&error);
        if board.raise(NO_PASSWORD, text.clone()) {
            tracing::error!(alarm = NO_PASSWORD, "{text}; recording goes on");
        }
        ProxyAccess::of_nobody(proxy)
    });
    Some(Arc::new(access))
}

pub(super) fn leaf(
    supervisor: &mut Supervisor,
    config: &Config,
    keeper: Option<&Keeper>,
    board: Arc<Board>,
    proxy: Option<Arc<ProxyAccess>>,
) -> Result<Leaf, RunError> {
    board.update_link(|link| link.configured = config.hub.is_some());
    let mut plan = LeafPlan::of(config, proxy);
    if let (Some(hub), Some(keeper)) = (&mut plan.hub, keeper.filter(|_| shows_identity(config))) {
        hub.tls = keeper.files();
    }
    let dir = config.leaf.dir.clone();
    let handle = match config.leaf.mode {
        LeafMode::External => {
            let (service, handle) = LeafService::new(ServiceSettings { plan, dir })?;
            supervisor.core("leaf", Stage::Observe, |stop| async move {
                service.run(stop).await;
                Ok(())
            });
            handle
        }
        LeafMode::Managed => {
            let launcher = Launcher::this_binary().map_err(RunError::Launcher)?;
            let search = Search::usual(config.leaf.nats_server.clone());
            let settings = LeafSettings::usual(plan, dir, search, launcher);
            let (process, handle) = LeafProcess::new(settings)?;
            supervisor.core("leaf", Stage::Observe, |stop| async move {
                process.run(stop).await;
                Ok(())
            });
            handle
        }
    };
    let watched = handle.clone();
    supervisor.core("leaf-watch", Stage::Observe, |stop| async move {
        watch_leaf(&watched, &board, stop).await;
        Ok(())
    });
    Ok(Leaf { gateway: config.gateway.clone(), handle })
}

/// Puts what happens to the leaf on the board.
async fn watch_leaf(handle: &LeafHandle, board: &Board, stop: CancellationToken) {
    let (mut state, mut trouble) = (handle.state(), handle.trouble());
    let mut lives = None;
    loop {
        match &*state.borrow_and_update() {
            LeafState::Listening { life, .. } => {
                if lives.replace(life.clone()).is_some_and(|former| former != *life) {
                    board.counters.leaf_restarts.one();
                }
                board.clear(LEAF_DOWN);
                board.update_link(|link| link.leaf_up = true);
            }
            LeafState::Down { reason, .. } => {
                board.raise(LEAF_DOWN, reason.clone());
                board.update_link(|link| link.leaf_up = false);
            }
            LeafState::Starting | LeafState::Stopped => {}
        }
        match &*trouble.borrow_and_update() {
            Some(text) => drop(board.raise(LEAF_UNFIT, text.clone())),
            None => drop(board.clear(LEAF_UNFIT)),
        }
        let changed = tokio::select! {
            () = stop.cancelled() => return,
            changed = state.changed() => changed,
            changed = trouble.changed() => changed,
        };
        if changed.is_err() {
            stop.cancelled().await;
            return;
        }
    }
}

/// The word of the alarm for a leaf that does not serve.
const LEAF_DOWN: &str = "leaf-down";
/// The word of the alarm for a leaf that runs and is not what is configured.
const LEAF_UNFIT: &str = "leaf-unfit";

pub(super) fn live(
    supervisor: &mut Supervisor,
    leaf: Leaf,
    queue: Arc<LiveQueue>,
    board: Arc<Board>,
) {
    let pulses = supervisor.pulses().clone();
    supervisor.core("live", Stage::Deliver, move |stop| async move {
        let Some(access) = leaf.access(&stop).await else { return Ok(()) };
        let client = access.connect(LocalRole::Live, |_| async {}).await?;
        let pulse = pulses.register("live");
        Publisher::new(queue, board, NatsOutlet(client), pulse).run(stop).await;
        Ok(())
    });
}

/// Questions are answered on a thread of their own, behind everything that collects.
pub(super) fn questions(
    supervisor: &mut Supervisor,
    leaf: Leaf,
    query: &config::Query,
    recorder: Handle,
    sources: Sources,
) {
    let query = query.clone();
    supervisor.core("questions", Stage::Deliver, move |stop| async move {
        let Some(access) = leaf.access(&stop).await else { return Ok(()) };
        let (ended, end) = tokio::sync::oneshot::channel();
        query::thread(move || {
            let result = (|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                let service = Service::new(query, &recorder, sources);
                runtime.block_on(service.run(&access, stop))
            })();
            // Who waited for it is gone only when the process is.
            let _ = ended.send(result);
        })?;
        end.await.unwrap_or_else(|_| Err("its thread panicked".into()))
    });
}

/// Connects for what local applications publish, where the configuration names subjects.
pub(super) fn ingest(supervisor: &mut Supervisor, leaf: Leaf, config: &Config) -> Door {
    let subjects = leaf::ingest_subjects(config);
    let is_wanted = !subjects.is_empty();
    let (sill, door) = Door::new(subjects);
    if is_wanted {
        supervisor.core("ingest", Stage::Deliver, move |stop| async move {
            let Some(access) = leaf.access(&stop).await else { return Ok(()) };
            let sill = Arc::new(sill);
            let heard = Arc::clone(&sill);
            let note = move |event| {
                heard.note(&event);
                std::future::ready(())
            };
            let client = access.connect(LocalRole::Ingest, note).await?;
            sill.open(client);
            stop.cancelled().await;
            Ok(())
        });
    }
    door
}

/// Makes devices that local applications feed.
pub(super) fn feed(
    config: &Config,
    door: Door,
    recorder: &Handle,
    ingress: &Arc<Ingress>,
    clock: &Arc<dyn Clock>,
) -> MakeFeed {
    let (gateway, ids) = (config.gateway.clone(), Arc::new(Ids::default()));
    let (recorder, ingress, clock) = (recorder.clone(), Arc::clone(ingress), Arc::clone(clock));
    Arc::new(move |spec, book, stop| {
        let feed = Feed {
            spec,
            gateway: gateway.clone(),
            ids: Arc::clone(&ids),
            door: door.clone(),
            recorder: recorder.clone(),
            ingress: Arc::clone(&ingress),
            book,
            clock: Arc::clone(&clock),
        };
        Box::pin(feed.run(stop))
    })
}

pub(super) fn uplink(
    supervisor: &mut Supervisor,
    leaf: Leaf,
    config: &Config,
    hub: &Hub,
    proxy: Option<Arc<ProxyAccess>>,
    recorder: Handle,
    board: Arc<Board>,
) {
    let pulses = supervisor.pulses().clone();
    let gateway = config.gateway.clone();
    let mut settings = tidegate_uplink::Settings::new(
        gateway.to_string(),
        hub.stream.clone(),
        hub.domain.clone(),
        crate::recorder::random_id(),
    );
    settings.send_every = config.uplink.send_every;
    settings.max_message = config.uplink.max_message;
    settings.backfill_limit = config.uplink.backfill_limit;
    settings.limit = config.uplink.limit;
    let (stream, urls) = (hub.stream.clone(), hub.urls.clone());
    let (needs, fail_back_after) = (uplink::needs(config, hub), hub.fail_back_after);
    let shown = leaf.handle.clone();
    let asks = Arc::new(Access::new(proxy, move || shown.files()));
    supervisor.core("uplink", Stage::Deliver, move |stop| async move {
        // Before there is a journal, what the hub holds cannot be judged.
        let memory = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            memory = recorder.opened() => memory,
        };
        let Ok(memory) = memory else {
            // It ended without a journal: in good order, or as a failure of its own.
            stop.cancelled().await;
            return Ok(());
        };
        let Some(access) = leaf.access(&stop).await else { return Ok(()) };
        let client = access.connect(LocalRole::Record, |_| async {}).await?;
        let ear = access.connect(LocalRole::Record, |_| async {}).await?;
        let live = access.connect(LocalRole::Live, |_| async {}).await?;
        let (said, linked) = (leaf.handle.clone(), leaf.handle.clone());
        let hub = uplink::Hub {
            client,
            live,
            ear,
            gateway,
            stream,
            urls,
            access: asks,
            needs,
            fail_back_after,
            remedy: Box::new(move |remedy| leaf.help(remedy)),
            url: Box::new(move || linked.hub_url()),
            complaint: Box::new(move || said.last_complaint()),
        };
        let shell = Shell::new(settings, memory, hub, recorder, board);
        shell.run(pulses.register("uplink"), stop).await;
        Ok::<(), _>(()) as CoreResult
    });
}

pub(super) fn reload(
    supervisor: &mut Supervisor,
    args: &RunArgs,
    config: &Arc<Config>,
    devices: Arc<Devices>,
    wake: Option<Wake>,
) {
    let (file, set) = (args.config.clone(), args.set.set.clone());
    let current = Arc::new(std::sync::Mutex::new(Arc::clone(config)));
    supervisor.on_reload(move |drivers| {
        let (file, set) = (file.clone(), set.clone());
        let (current, devices) = (Arc::clone(&current), Arc::clone(&devices));
        if let Some(wake) = &wake {
            wake.now();
        }
        Box::pin(async move {
            let before =
                Arc::clone(&current.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
            let known = Arc::clone(&before);
            let read = move || {
                let mut fresh = config::load(&file, std::env::vars_os(), &set)?;
                fresh.share_with(&known);
                Ok(fresh)
            };
            let fresh = tokio::task::spawn_blocking(read)
                .await
                .map_err(|error| error.to_string())?
                .map_err(|error: LoadError| refused(&error))?;
            let difference = Config::difference(&before, &fresh);
            warn_of(&fresh);
            devices.apply(&fresh, &drivers).await.map_err(|error| error.to_string())?;
            // What needs a restart stays what it was, so that it is named again next time.
            let applied = Config { devices: fresh.devices, ..(*before).clone() };
            *current.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(applied);
            Ok(told(&difference))
        })
    });
}

/// Tells what is legal and should be known.
pub(super) fn warn_of(config: &Config) {
    for warning in config::warnings::of(config) {
        tracing::warn!("{warning}");
    }
}

/// Mistakes that are told in the log one by one; `tidegate check` tells the rest.
const MISTAKES_IN_LOG: usize = 50;

/// Tells each mistake in a line of its own, and sums up.
fn refused(error: &LoadError) -> String {
    let LoadError::Mistakes(mistakes) = error else { return crate::causes::chain(error) };
    for line in mistakes.lines().take(MISTAKES_IN_LOG) {
        tracing::error!("{line}");
    }
    let count =
        crate::cli::terminal::count(mistakes.count().try_into().unwrap_or(u64::MAX), "mistake");
    format!("{count} in it; what ran goes on as it was, `tidegate check` shows all")
}

/// What a reload did, in a line.
fn told(difference: &Difference) -> String {
    if difference.is_empty() {
        return "nothing changed".to_owned();
    }
    let changed = difference.changed.iter().map(|device| device.name.as_str()).collect();
    let parts: [(&str, Vec<&str>); 4] = [
        ("added", difference.added.iter().map(String::as_str).collect()),
        ("removed", difference.removed.iter().map(String::as_str).collect()),
        ("changed", changed),
        ("needs a restart:", difference.restart_needed.clone()),
    ];
    let said = parts.iter().filter(|(_, names)| !names.is_empty());
    said.map(|(what, names)| format!("{what} {}", names.join(", "))).collect::<Vec<_>>().join("; ")
}

/// One line for `systemctl status`.
pub(super) fn status_line(board: &Board, limits: &HealthLimits) -> String {
    let report = board.report(limits);
    format!(
        "{}, {} samples recorded, {} frames to deliver",
        report.health.state.word(),
        board.counters.samples_recorded.read(),
        report.uplink.backlog_frames,
    )
}
