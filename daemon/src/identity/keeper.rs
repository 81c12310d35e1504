//! The loop: what is there, what is wrong with it, what is due.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::time_provider::TimeProvider;
use tidegate_identity::crl::{Crl, CrlRule, Revocation, WhenStale};
use tidegate_identity::examine::{Expected, Finding, examine};
use tidegate_identity::floor::{Credence, FloorClock, TimeFloor};
use tidegate_identity::lab::gateway_subject;
use tidegate_identity::policy::{RenewalPolicy, warning};
use tidegate_identity::{
    Authority, Generation, Identity, IdentityFolder, IdentityState, StoreError,
};
use tidegate_translator::{Clock, Timestamp};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::seams::{Hub, Trust};
use super::words::{self, Alarms, Said};
use crate::causes::chain;
use crate::config::{IdentityConfig, TlsFiles, WhenCrlStale};
use crate::names::GatewayId;
use crate::observe::state::{Board, CertificateStatus, IdentityStatus};

/// The time before which no gateway of this version can run, in seconds since 1970: 2026-11-01.
pub(crate) const BUILT: u64 = 1_793_491_200;

/// How often everything is looked at: files that a person drops are seen this soon.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Looks in the life of a certificate, at least: those of a test live for minutes.
const LOOKS: u32 = 60;
/// A wall clock that moved otherwise than time did is one that was set.
const STEP: Duration = Duration::from_secs(5);
/// How long the hub is silent before somebody asks why, and how often then.
const ASK_HUB_AFTER: Duration = Duration::from_secs(8);
const ASK_HUB_AGAIN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// How often a hub that answers is asked who it is: its certificate may have been withdrawn.
const ASK_HUB_ANYWAY: Duration = Duration::from_secs(3_600);

/// What a keeper is made of.
pub struct KeeperSettings {
    /// What the configuration says.
    pub config: IdentityConfig,
    /// Whose identity it is.
    pub gateway: GatewayId,
    /// Who signs, where anybody is asked.
    pub authority: Option<Arc<dyn Authority>>,
    /// Where alarms and numbers go.
    pub board: Arc<Board>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// How often everything is looked at, at most.
    pub look_every: Duration,
}

impl KeeperSettings {
    /// Without an authority, looking every five seconds.
    #[must_use]
    pub fn new(
        config: IdentityConfig,
        gateway: GatewayId,
        board: Arc<Board>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { config, gateway, authority: None, board, clock, look_every: LOOK_EVERY }
    }
}

/// Has the keeper look at once, and forget how long it wanted to wait.
#[derive(Debug, Clone, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    /// Looks now.
    pub fn now(&self) {
        self.0.notify_one();
    }
}

/// The identity in use.
pub(super) struct Held {
    pub(super) generation: Generation,
    pub(super) identity: Identity,
    pub(super) fallen_back: Option<String>,
}

/// The keeper, before it runs.
pub struct Keeper {
    pub(super) settings: KeeperSettings,
    pub(super) folder: IdentityFolder,
    pub(super) hub: Option<Arc<dyn Hub>>,
    pub(super) floor: TimeFloor,
    pub(super) trust: Trust,
    pub(super) subject: String,
    pub(super) held: Option<Held>,
    pub(super) state: IdentityState,
    /// What was last shown to the hub.
    pub(super) shown: Option<TlsFiles>,
    pub(super) next_attempt: Option<Instant>,
    pub(super) had_token: bool,
    /// Why the last thing that was signed was not taken.
    pub(super) rejected: Option<Said>,
    /// What the authority last did instead of signing.
    pub(super) authority_said: Option<Said>,
    /// What the hub last said of the identity in use.
    pub(super) hub_said: Option<Said>,
    hub_is_revoked: bool,
    unreadable: Option<String>,
    crl_said: Option<String>,
    seen: (SystemTime, Instant),
    silent_since: Option<Instant>,
    next_question: Instant,
    question_wait: Duration,
    wake: Wake,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").field("subject", &self.subject).finish_non_exhaustive()
    }
}

/// A wall clock's time as certificates have it.
pub(super) fn system(time: Timestamp) -> SystemTime {
    let ms = time.as_millis();
    let distance = Duration::from_millis(ms.unsigned_abs());
    let epoch = SystemTime::UNIX_EPOCH;
    if ms < 0 { epoch.checked_sub(distance) } else { epoch.checked_add(distance) }.unwrap_or(epoch)
}

pub(super) fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Keeper {
    /// Reads the folder. What is wrong with it is told once the keeper runs.
    ///
    /// # Errors
    /// When the folder can neither be found nor made.
    pub fn open(settings: KeeperSettings) -> Result<Self, StoreError> {
        let folder = IdentityFolder::open(&settings.config.dir)?;
        let kept = folder.last_time().unwrap_or_default();
        let floor = TimeFloor::new(SystemTime::UNIX_EPOCH + Duration::from_secs(BUILT), kept);
        let clock = Arc::clone(&settings.clock);
        let time: Arc<dyn TimeProvider> =
            Arc::new(FloorClock::new(move || system(clock.now()), floor.shared()));
        let now = system(settings.clock.now());
        let mut keeper = Self {
            subject: gateway_subject(&settings.gateway.to_string()),
            trust: Trust { roots: Vec::new(), revocation: Revocation::default(), time },
            state: folder.state().unwrap_or_default(),
            folder,
            hub: None,
            floor,
            held: None,
            shown: None,
            next_attempt: None,
            had_token: false,
            rejected: None,
            authority_said: None,
            hub_said: None,
            hub_is_revoked: false,
            unreadable: None,
            crl_said: None,
            seen: (now, Instant::now()),
            silent_since: None,
            next_question: Instant::now(),
            question_wait: ASK_HUB_AGAIN.0,
            wake: Wake::default(),
            settings,
        };
        if let Ok(lock) = keeper.folder.lock() {
            // What an interrupted writer left is gone by this.
            drop(lock);
        }
        keeper.read();
        keeper.shown = keeper.files();
        Ok(keeper)
    }

    /// What time TLS judges by: never before what it is at least.
    #[must_use]
    pub fn time(&self) -> Arc<dyn TimeProvider> {
        Arc::clone(&self.trust.time)
    }

    /// The roots that are trusted now.
    #[must_use]
    pub fn trusted(&self) -> &Trust {
        &self.trust
    }

    /// Says who signs.
    #[must_use]
    pub fn with_authority(mut self, authority: Option<Arc<dyn Authority>>) -> Self {
        self.settings.authority = authority;
        self
    }

    /// The files that the leaf is to show now; `None` while there is nothing to show.
    #[must_use]
    pub fn files(&self) -> Option<TlsFiles> {
        let held = self.held.as_ref()?;
        if self.trust.roots.is_empty() || self.hub_is_revoked || self.refused_by_crl() {
            return None;
        }
        let home = self.folder.generations().path_of(held.generation);
        let full = home.join("full.pem");
        // A generation of an earlier version has no such file.
        let cert = if full.exists() { full } else { home.join("cert.pem") };
        Some(TlsFiles { ca: self.folder.roots_path(), cert, key: home.join("key.pem") })
    }

    /// What wakes it.
    #[must_use]
    pub fn wake(&self) -> Wake {
        self.wake.clone()
    }

    /// Keeps the identity until `stop`.
    pub async fn run(mut self, hub: Option<Arc<dyn Hub>>, stop: CancellationToken) {
        self.hub = hub;
        loop {
            let stopped = tokio::select! {
                () = stop.cancelled() => true,
                () = self.look() => false,
            };
            if stopped {
                break;
            }
            let wake = self.wake.clone();
            tokio::select! {
                () = stop.cancelled() => break,
                () = wake.0.notified() => {
                    self.next_attempt = None;
                    self.next_question = Instant::now();
                }
                () = tokio::time::sleep(self.pause()) => {}
            }
        }
        self.keep_time(true);
    }

    fn pause(&self) -> Duration {
        let life = self.held.as_ref().map(|held| held.identity.facts());
        let life = life.and_then(|it| it.not_after.duration_since(it.not_before).ok());
        let short = life.map_or(self.settings.look_every, |life| life / LOOKS);
        self.settings.look_every.min(short.max(Duration::from_secs(1)))
    }

    /// One look, and whatever is due.
    pub(super) async fn look(&mut self) {
        let now = self.observe();
        self.read();
        self.note_silence();
        self.show_current().await;
        self.take_pending(now).await;
        self.renew_if_due(now).await;
        self.ask_hub_if_due().await;
        self.show_current().await;
        self.report();
    }

    /// The time to judge by.
    pub(super) fn now(&self) -> SystemTime {
        self.floor.at_least(system(self.settings.clock.now()))
    }

    fn observe(&mut self) -> SystemTime {
        let (clock, at) = (system(self.settings.clock.now()), Instant::now());
        let (before, then) = self.seen;
        let passed = at.duration_since(then);
        let expected = before.checked_add(passed).unwrap_or(clock);
        let moved = clock.duration_since(expected).unwrap_or_else(|error| error.duration());
        if moved > STEP {
            tracing::info!("the clock was set; the identity is judged anew");
            self.next_attempt = None;
            self.next_question = at;
        }
        self.seen = (clock, at);
        // A hub that answers confirms no time: its certificate is good for a year, and a clock that is
        // half of that ahead would drag the floor along. Only what the authority signs moves it.
        self.floor.observe(clock, passed, Credence::Plain);
        self.keep_time(false);
        self.now()
    }

    fn keep_time(&mut self, stopping: bool) {
        if let Some(time) = self.floor.to_keep(stopping)
            && self.folder.store_last_time(time).is_ok()
        {
            self.floor.was_kept(time);
        }
    }

    /// Takes in what lies in the folder.
    pub(super) fn read(&mut self) {
        let mut unreadable = Vec::new();
        match self.folder.roots() {
            Ok(roots) => self.trust.roots = roots,
            // Those of before are still trusted.
            Err(error) => unreadable.push(chain(&error)),
        }
        let generations = self.folder.generations();
        let current = generations.current().ok();
        let known = self.held.as_ref().map(|held| held.generation);
        let fell_back = self.held.as_ref().is_some_and(|held| held.fallen_back.is_some());
        if current.is_none() || current != known || fell_back {
            match generations.load() {
                Ok(loaded) => {
                    let fallen_back = loaded.fallen_back.map(|error| chain(&error));
                    let (generation, identity) = (loaded.generation, loaded.identity);
                    self.held = Some(Held { generation, identity, fallen_back });
                }
                Err(StoreError::NoCurrent { .. }) => self.held = None,
                Err(error) => unreadable.push(chain(&error)),
            }
        }
        self.read_lists();
        self.unreadable = (!unreadable.is_empty()).then(|| unreadable.join("; "));
    }

    fn read_lists(&mut self) {
        let config = &self.settings.config;
        let rule = CrlRule {
            max_age: config.crl_max_age,
            when_stale: match config.when_crl_stale {
                WhenCrlStale::Accept => WhenStale::Accept,
                WhenCrlStale::Refuse => WhenStale::Refuse,
            },
        };
        let path = config.crl.clone().unwrap_or_else(|| self.folder.crl_path());
        let wanted = config.crl.is_some() || rule.when_stale == WhenStale::Refuse;
        let bytes = match &config.crl {
            None => self.folder.crl().map_err(|error| chain(&error)),
            Some(path) => read_bounded(path).map_err(|error| error.to_string()),
        };
        let lists = match bytes {
            Ok(Some(bytes)) => Crl::read(&bytes).map_err(|error| chain(&error)),
            Ok(None) if wanted => Err("there is no such file".to_owned()),
            Ok(None) => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        let said = match lists {
            Ok(lists) => {
                let (revocation, remarks) = Revocation::new(lists, &self.trust.roots, rule);
                let stale = revocation.stalest(self.floor.at_least(self.seen.0));
                let mut said = stale.map(|error| error.to_string());
                if wanted && said.is_none() && revocation.lists().is_empty() {
                    let none = "no list there is signed by a trusted authority".to_owned();
                    said = Some(remarks.first().cloned().unwrap_or(none));
                }
                self.trust.revocation = revocation;
                said
            }
            // The lists of before still count.
            Err(why) => Some(why),
        };
        self.crl_said =
            said.map(|why| format!("{}: {why}; put a fresh list there", path.display()));
    }

    fn refused_by_crl(&self) -> bool {
        self.settings.config.when_crl_stale == WhenCrlStale::Refuse && self.crl_said.is_some()
    }

    /// What is wrong with the identity in use.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let Some(held) = &self.held else { return Vec::new() };
        examine(&held.identity, &self.expected(self.now()))
    }

    pub(super) fn expected(&self, now: SystemTime) -> Expected<'_> {
        Expected {
            subject: &self.subject,
            roots: &self.trust.roots,
            revocation: &self.trust.revocation,
            now,
        }
    }

    pub(super) fn policy(&self) -> RenewalPolicy {
        let seen = Duration::from_secs(self.state.longest_offline_s);
        let longest = self.settings.config.longest_offline.max(seen);
        RenewalPolicy::of(&self.settings.gateway.to_string(), longest)
    }

    /// Has the leaf show what is there, where it shows something else.
    async fn show_current(&mut self) {
        let files = self.files();
        if files == self.shown {
            return;
        }
        self.shown.clone_from(&files);
        if let Some(hub) = self.hub.clone()
            && let Err(error) = hub.show(files).await
        {
            tracing::warn!("{}", chain(&error));
        }
    }

    fn note_silence(&mut self) {
        let answers = self.hub.as_ref().is_none_or(|hub| hub.answers());
        if !answers {
            self.silent_since.get_or_insert_with(Instant::now);
            if self.state.offline_since.is_none() {
                self.state.offline_since = Some(seconds(self.now()));
                self.store_state();
            }
            return;
        }
        self.hub_said = None;
        self.question_wait = ASK_HUB_AGAIN.0;
        if self.silent_since.take().is_some() || self.state.offline_since.is_some() {
            // By the wall clock, because a gateway that is off is without a hub, too; a clock that
            // was set meanwhile can say any number, and then a year is the most that is believed.
            let since = self.state.offline_since.take();
            let lasted = since.map_or(0, |since| seconds(self.now()).saturating_sub(since));
            let believed = lasted.min(366 * 86_400);
            self.state.longest_offline_s = self.state.longest_offline_s.max(believed);
            self.store_state();
        }
    }

    async fn ask_hub_if_due(&mut self) {
        let now = Instant::now();
        let silent = self.silent_since.is_some_and(|at| now.duration_since(at) >= ASK_HUB_AFTER);
        let due = now >= self.next_question && (silent || self.silent_since.is_none());
        let (Some(hub), Some(held), true) = (self.hub.clone(), &self.held, due) else { return };
        // What the hub says to an identity that is known to be wrong is no news.
        let explained = !self.findings().is_empty();
        if self.trust.roots.is_empty() || (explained && !silent) {
            return;
        }
        let verdict = hub.admits(&held.identity, &self.trust).await;
        self.hub_is_revoked = match &verdict {
            super::Verdict::Revoked(_) => true,
            super::Verdict::Away(_) => self.hub_is_revoked,
            _ => false,
        };
        match &verdict {
            super::Verdict::Away(_) => {}
            super::Verdict::Refused(_) if explained => self.hub_said = None,
            verdict => self.hub_said = words::of_hub(verdict),
        }
        let wait =
            if silent || self.hub_said.is_some() { self.question_wait } else { ASK_HUB_ANYWAY };
        self.question_wait = (self.question_wait * 2).min(ASK_HUB_AGAIN.1);
        self.next_question = Instant::now() + wait;
    }

    pub(super) fn store_state(&mut self) {
        if let Err(error) = self.folder.store_state(&self.state) {
            tracing::debug!("{}", chain(&error));
        }
    }

    /// Everything that is the matter now.
    pub(super) fn alarms(&self) -> Alarms {
        let mut alarms = Alarms::default();
        let now = self.now();
        let dir = self.settings.config.dir.display();
        match &self.held {
            None => alarms.add(("identity-missing", self.missing())),
            Some(held) => {
                for finding in self.findings() {
                    let remedy = finding.remedy();
                    let text = format!("{} in {dir}: {finding}; {remedy}", held.generation);
                    alarms.add((finding.alarm(), text));
                }
                if self.trust.roots.is_empty() {
                    let text = format!(
                        "{dir} has no roots.pem, so no hub is trusted; enrol, or put \
                                        the authority's root certificate there"
                    );
                    alarms.add(("hub-untrusted", text));
                }
                if let Some(why) = &held.fallen_back {
                    let used = held.generation;
                    let text = format!("{why}; {used} is used instead: renew the certificate");
                    alarms.add(("identity-fallback", text));
                }
                let facts = held.identity.facts();
                let due = self.settings.authority.is_some().then(|| self.policy().due(facts));
                if let Some(warning) = warning(facts, due, now) {
                    let text =
                        format!("the certificate of {} {warning}; {}", facts.subject, self.how());
                    alarms.add(("identity-expiring", text));
                }
            }
        }
        if let Some(why) = &self.unreadable {
            alarms.add(("identity-unreadable", why.clone()));
        }
        if let Some(why) = &self.crl_said {
            alarms.add(("crl-stale", why.clone()));
        }
        if let Some(behind) = self.floor.behind(self.seen.0) {
            let (_, from) = self.floor.floor();
            let hours = behind.as_secs() / 3_600;
            let text = format!(
                "the clock is at least {hours} h behind {from}; certificates are judged by that time \
                 until it is set right"
            );
            alarms.add(("clock-behind", text));
        }
        for said in [&self.rejected, &self.authority_said, &self.hub_said].into_iter().flatten() {
            alarms.add(said.clone());
        }
        alarms
    }

    fn missing(&self) -> String {
        let dir = self.settings.config.dir.display();
        format!("there is no certificate in {dir}, so there is no link to the hub; {}", self.how())
    }

    /// How a certificate is come by here.
    fn how(&self) -> &'static str {
        if self.settings.authority.is_some() {
            "it is asked for by itself once the authority answers and, where that is needed, a token \
             lies in the folder"
        } else {
            "have pending/request.pem signed and put what is signed beside it as cert.pem, or enrol \
             with `tidegate identity enrol`"
        }
    }

    fn report(&mut self) {
        self.alarms().show(&self.settings.board);
        let last_error = self.state.last_error.clone();
        let status = self.held.as_ref().map(|held| {
            let facts = held.identity.facts();
            self.settings.board.note_certificate(CertificateStatus {
                role: "hub".to_owned(),
                subject: facts.subject.clone(),
                not_after: timestamp(facts.not_after),
            });
            let due = self.settings.authority.is_some().then(|| self.policy().due(facts));
            IdentityStatus {
                generation: held.generation.0,
                serial: facts.serial.clone(),
                not_before: timestamp(facts.not_before),
                not_after: timestamp(facts.not_after),
                renewal_due: due.map(timestamp),
                ..IdentityStatus::default()
            }
        });
        let status = IdentityStatus {
            last_error,
            failures: self.state.failures,
            confirmed_serial: self.state.confirmed_serial.clone(),
            ..status.unwrap_or_default()
        };
        self.settings.board.set_identity(status);
    }
}

/// A list of a hundred thousand certificates.
const MAX_CRL: u64 = 4 << 20;

fn read_bounded(path: &std::path::Path) -> std::io::Result<Option<Vec<u8>>> {
    use std::io::Read as _;
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MAX_CRL + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_CRL) {
        return Err(std::io::Error::other("it is larger than any list"));
    }
    Ok(Some(bytes))
}
