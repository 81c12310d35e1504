//! Years in seconds: a scripted authority, a scripted hub, and a clock that can be set.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use rustls_pki_types::CertificateDer;
use tidegate_identity::lab::{LabCa, Lifetime, gateway_subject};
use tidegate_identity::{
    Answer, Authority, AuthorityError, CertificateRequest, Enrolled, Identity, IdentityFolder,
    Validity, Warrant,
};
use tidegate_translator::{Clock, Timestamp};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::config::{IdentityConfig, TlsFiles, WhenCrlStale};
use crate::leaf::ShowError;
use crate::observe::state::{Board, HealthLimits};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// 2027-01-15.
const BEGIN: u64 = 1_800_000_000;

/// What the authority does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Good,
    Away,
    Untrusted,
    Refuses,
    Junk,
    OtherKey,
    WrongName,
    WrongUsage,
    WrongCa,
    NotYet,
}

/// Everything outside of the gateway.
struct World {
    start: Instant,
    /// By how many seconds the gateway's clock is wrong.
    wrong: AtomicI64,
    wan: AtomicBool,
    ca: LabCa,
    stranger: LabCa,
    mood: Mutex<Mood>,
    lasts: Mutex<Duration>,
    renews_expired: AtomicBool,
    token: Mutex<Option<String>>,
    asked: AtomicU32,
    /// Whether the hub lets links be made with what it admitted.
    links: AtomicBool,
    shown: Mutex<Option<TlsFiles>>,
    linked: AtomicBool,
}

impl World {
    fn new() -> Arc<Self> {
        let years = Lifetime::from(at(BEGIN - 86_400)).lasting(DAY * 40_000);
        Arc::new(Self {
            start: Instant::now(),
            wrong: AtomicI64::new(0),
            wan: AtomicBool::new(true),
            ca: LabCa::new("ca", years).unwrap(),
            stranger: LabCa::new("ca", years).unwrap(),
            mood: Mutex::new(Mood::Good),
            lasts: Mutex::new(20 * DAY),
            renews_expired: AtomicBool::new(false),
            token: Mutex::new(Some("once".to_owned())),
            asked: AtomicU32::new(0),
            links: AtomicBool::new(true),
            shown: Mutex::new(None),
            linked: AtomicBool::new(false),
        })
    }

    fn now(&self) -> SystemTime {
        at(BEGIN) + self.start.elapsed()
    }

    fn mood(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn admits_now(&self, identity: &Identity) -> bool {
        let facts = identity.facts();
        facts.subject == gateway_subject("P/g")
            && matches!(facts.validity(self.now()), Validity::Valid { .. })
    }

    fn shown(&self) -> Option<Identity> {
        let files = self.shown.lock().unwrap().clone()?;
        let read = |path: &Path| std::fs::read(path).unwrap();
        Some(Identity::from_pem(&read(&files.key), &read(&files.cert)).unwrap())
    }

    fn sign(&self, request: &CertificateRequest, mood: Mood) -> Enrolled {
        let lasts = *self.lasts.lock().unwrap();
        let life = Lifetime::from(self.now() - MINUTE).lasting(lasts + MINUTE);
        let ca = if mood == Mood::WrongCa { &self.stranger } else { &self.ca };
        let name = if mood == Mood::WrongName { "P/other" } else { "P/g" };
        let life = match mood {
            Mood::NotYet => Lifetime::from(self.now() + 2 * HOUR).lasting(lasts),
            _ => life,
        };
        let other = CertificateRequest::new("P/g", &[]).unwrap();
        let request = if mood == Mood::OtherKey { &other } else { request };
        let certificate = match mood {
            Mood::Junk => b"junk".to_vec().into(),
            Mood::WrongUsage => for_servers(request, &self.ca, life),
            _ => ca.sign(request.der(), name, life).unwrap(),
        };
        Enrolled { certificate, chain: Vec::new() }
    }
}

/// A certificate of the request's key that only servers may use.
fn for_servers(
    request: &CertificateRequest,
    ca: &LabCa,
    life: Lifetime,
) -> CertificateDer<'static> {
    let key = rcgen::KeyPair::from_pem(request.key_pem()).unwrap();
    let issued = ca.gateway("P/g", life).unwrap();
    let facts = issued.identity().unwrap().facts().clone();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "Tidegate");
    params.distinguished_name.push(rcgen::DnType::CommonName, "P/g");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let since = facts.not_before.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + since;
    let issuer_key = rcgen::KeyPair::from_pem(&ca.key_pem()).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_der(&ca.certificate(), issuer_key).unwrap();
    params.signed_by(&key, &issuer).unwrap().der().clone()
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

struct GatewayClock(Arc<World>);

impl Clock for GatewayClock {
    fn now(&self) -> Timestamp {
        let since = self.0.now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let ms = i64::try_from(since.as_millis()).unwrap();
        Timestamp::from_millis(ms + self.0.wrong.load(Ordering::Relaxed) * 1_000)
    }
}

struct Ca(Arc<World>);

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ca")
    }
}

impl Ca {
    fn state(&self) -> Result<Mood, AuthorityError> {
        let (mood, authority) = (*self.0.mood.lock().unwrap(), "https://ca".to_owned());
        if mood == Mood::Away || !self.0.wan.load(Ordering::Relaxed) {
            return Err(AuthorityError::Unreachable { authority, why: "no route".to_owned() });
        }
        match mood {
            Mood::Untrusted => {
                Err(AuthorityError::Untrusted { authority, why: "another root".to_owned() })
            }
            mood => Ok(mood),
        }
    }

    fn judge(&self, by: Warrant<'_>, mood: Mood) -> Result<(), AuthorityError> {
        let good = match by {
            Warrant::Token(token) => {
                self.0.token.lock().unwrap().take_if(|good| good == token.secret()).is_some()
            }
            Warrant::Bootstrap(_) => false,
            Warrant::Renewal(identity) => {
                self.0.admits_now(identity) || self.0.renews_expired.load(Ordering::Relaxed)
            }
        };
        if good && mood != Mood::Refuses {
            return Ok(());
        }
        let (authority, said) = ("https://ca".to_owned(), "no".to_owned());
        Err(AuthorityError::Refused { authority, status: 403, said })
    }
}

impl Authority for Ca {
    fn roots(&self) -> Answer<'_, Vec<CertificateDer<'static>>> {
        Box::pin(async move { self.state().map(|_| vec![self.0.ca.certificate()]) })
    }

    fn enrol<'a>(
        &'a self,
        request: &'a CertificateRequest,
        by: Warrant<'a>,
    ) -> Answer<'a, Enrolled> {
        Box::pin(async move {
            let mood = self.state()?;
            self.0.asked.fetch_add(1, Ordering::Relaxed);
            self.judge(by, mood)?;
            Ok(self.0.sign(request, mood))
        })
    }
}

struct SimHub(Arc<World>);

impl Hub for SimHub {
    fn admits<'a>(&'a self, identity: &'a Identity, _: &'a Trust) -> BoxFuture<'a, Verdict> {
        Box::pin(async move {
            if !self.0.wan.load(Ordering::Relaxed) {
                return Verdict::Away("no route".to_owned());
            }
            match self.0.admits_now(identity) {
                true => Verdict::Admitted,
                false => Verdict::Refused("bad certificate".to_owned()),
            }
        })
    }

    fn show(&self, files: Option<TlsFiles>) -> BoxFuture<'_, Result<(), ShowError>> {
        Box::pin(async move {
            *self.0.shown.lock().unwrap() = files;
            self.0.linked.store(false, Ordering::Relaxed);
            if self.0.links.load(Ordering::Relaxed) && self.answers() {
                return Ok(());
            }
            let waited = Duration::from_secs(30);
            sleep(waited).await;
            Err(ShowError::NotLinked { waited })
        })
    }

    fn answers(&self) -> bool {
        // A link that stands is not cut by the end of a certificate.
        let wan = self.0.wan.load(Ordering::Relaxed);
        let stands = wan
            && (self.0.linked.load(Ordering::Relaxed)
                || self.0.shown().is_some_and(|identity| self.0.admits_now(&identity)));
        self.0.linked.store(stands, Ordering::Relaxed);
        stands
    }
}

/// A gateway in its world.
struct Gateway {
    world: Arc<World>,
    dir: tempfile::TempDir,
    config: IdentityConfig,
    look_every: Duration,
    board: Arc<Board>,
    running: Option<(CancellationToken, tokio::task::JoinHandle<()>)>,
}

impl Gateway {
    fn new() -> Self {
        let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
        let config = IdentityConfig {
            dir: dir.path().join("identity"),
            est: None,
            ca_pins: Vec::new(),
            token_file: None,
            longest_offline: DAY,
            crl: None,
            crl_max_age: 7 * DAY,
            when_crl_stale: WhenCrlStale::Accept,
            checkpoint_every: HOUR,
        };
        let clock = Arc::new(GatewayClock(Arc::clone(&world)));
        let board = Arc::new(Board::new("P/g".parse().unwrap(), clock));
        Self { world, dir, config, look_every: MINUTE, board, running: None }
    }

    /// One that has its first certificate, by token.
    async fn enrolled() -> Self {
        let mut gateway = Self::new();
        gateway.drop_token("once");
        gateway.start();
        sleep(5 * MINUTE).await;
        assert_eq!((gateway.words(), gateway.generation()), (Vec::new(), 1));
        // From here on hours matter, and looks cost the test time.
        gateway.cut();
        gateway.look_every = HOUR;
        gateway.start();
        gateway
    }

    fn drop_token(&self, secret: &str) {
        std::fs::create_dir_all(&self.config.dir).unwrap();
        std::fs::write(self.config.dir.join("token"), secret).unwrap();
    }

    fn start(&mut self) {
        let clock = Arc::new(GatewayClock(Arc::clone(&self.world)));
        let (config, board) = (self.config.clone(), Arc::clone(&self.board));
        let mut settings = KeeperSettings::new(config, "P/g".parse().unwrap(), board, clock);
        settings.look_every = self.look_every;
        settings.authority = Some(Arc::new(Ca(Arc::clone(&self.world))));
        let keeper = Keeper::open(settings).unwrap();
        *self.world.shown.lock().unwrap() = keeper.files();
        self.world.linked.store(false, Ordering::Relaxed);
        let stop = CancellationToken::new();
        let hub: Arc<dyn Hub> = Arc::new(SimHub(Arc::clone(&self.world)));
        let task = tokio::spawn(keeper.run(Some(hub), stop.clone()));
        self.running = Some((stop, task));
    }

    /// As a power cut ends it: in the middle of whatever it does.
    fn cut(&mut self) {
        if let Some((_, task)) = self.running.take() {
            task.abort();
        }
    }

    fn words(&self) -> Vec<String> {
        let report = self.board.report(&HealthLimits::default());
        report.alarms.into_iter().map(|alarm| alarm.kind).collect()
    }

    fn text(&self, word: &str) -> String {
        let report = self.board.report(&HealthLimits::default());
        let alarm = report.alarms.into_iter().find(|alarm| alarm.kind == word);
        alarm.map(|alarm| alarm.text).unwrap_or_default()
    }

    fn generation(&self) -> u64 {
        IdentityFolder::at(&self.config.dir).generations().current().map_or(0, |current| current.0)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.config.dir.join(name)
    }

    fn stands(&self) -> bool {
        SimHub(Arc::clone(&self.world)).answers()
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_buys_the_first_certificate_and_is_gone() {
    let mut gateway = Gateway::new();
    gateway.start();
    sleep(HOUR).await;
    assert_eq!(gateway.words(), ["identity-missing"]);
    assert_eq!(gateway.world.asked.load(Ordering::Relaxed), 0, "there is nothing to ask with");
    gateway.drop_token("once");
    sleep(2 * MINUTE).await;
    assert_eq!((gateway.words(), gateway.generation()), (Vec::new(), 1));
    assert!(gateway.stands() && gateway.file("roots.pem").exists());
    assert!(!gateway.file("token").exists() && !gateway.file("pending").exists());
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_renewed_again_and_again_with_a_new_key_and_without_an_alarm() {
    let gateway = Gateway::enrolled().await;
    let mut serials = std::collections::BTreeSet::new();
    for _ in 0..60 {
        sleep(DAY).await;
        assert_eq!(gateway.words(), Vec::<String>::new());
        assert!(gateway.stands());
        serials.insert(gateway.world.shown().unwrap().facts().serial.clone());
    }
    assert!((4..=7).contains(&serials.len()), "{serials:?}");
    let status = gateway.board.report(&HealthLimits::default()).identity.unwrap();
    assert_eq!(status.confirmed_serial.as_ref(), Some(&status.serial));
}

#[tokio::test(start_paused = true)]
async fn thirty_days_without_a_wan_and_a_certificate_that_ends_on_day_twenty_heal_by_themselves() {
    let gateway = Gateway::enrolled().await;
    let world = Arc::clone(&gateway.world);
    world.wan.store(false, Ordering::Relaxed);
    world.renews_expired.store(true, Ordering::Relaxed);
    sleep(12 * DAY).await;
    assert!(!gateway.words().iter().any(|word| word.starts_with("identity")));
    sleep(4 * DAY).await;
    assert_eq!(gateway.words(), ["authority-away", "identity-expiring"]);
    let early = gateway.text("identity-expiring");
    sleep(3 * DAY).await;
    assert_ne!(gateway.text("identity-expiring"), early, "it escalates");
    sleep(2 * DAY).await;
    assert_eq!(gateway.words(), ["authority-away", "identity-expired"]);
    sleep(9 * DAY).await;
    assert_eq!(gateway.generation(), 1, "nothing was thrown away");
    assert!(gateway.file("gen-1/key.pem").exists());
    world.wan.store(true, Ordering::Relaxed);
    sleep(3 * HOUR).await;
    assert_eq!((gateway.words(), gateway.generation()), (Vec::new(), 2));
    assert!(gateway.stands());
    let state = IdentityFolder::at(&gateway.config.dir).state().unwrap();
    let days = state.longest_offline_s / 86_400;
    assert!((29..=31).contains(&days), "the next renewals reckon with it: {days}");
}

#[tokio::test(start_paused = true)]
async fn an_authority_that_is_away_past_the_end_is_an_alarm_and_a_token_helps() {
    let gateway = Gateway::enrolled().await;
    let world = Arc::clone(&gateway.world);
    world.mood(Mood::Away);
    sleep(25 * DAY).await;
    assert_eq!(gateway.words(), ["authority-away", "identity-expired"]);
    assert!(gateway.stands(), "the link that stood still stands");
    world.mood(Mood::Good);
    sleep(3 * HOUR).await;
    let refused = ["authority-refuses", "identity-expired"];
    assert_eq!(gateway.words(), refused, "this authority renews nothing that has expired");
    *world.token.lock().unwrap() = Some("again".to_owned());
    gateway.drop_token("again");
    sleep(2 * HOUR).await;
    assert_eq!((gateway.words(), gateway.generation()), (Vec::new(), 2));
    assert!(!gateway.file("token").exists());
}

#[tokio::test(start_paused = true)]
async fn each_fault_of_the_authority_is_an_alarm_of_its_own_and_the_certificate_in_use_stays() {
    for (mood, word) in [
        (Mood::Away, "authority-away"),
        (Mood::Untrusted, "authority-untrusted"),
        (Mood::Refuses, "authority-refuses"),
        (Mood::Junk, "authority-junk"),
        (Mood::OtherKey, "authority-junk"),
        (Mood::WrongName, "identity-wrong-name"),
        (Mood::WrongUsage, "identity-wrong-usage"),
        (Mood::WrongCa, "identity-wrong-ca"),
        (Mood::NotYet, "identity-not-yet-valid"),
    ] {
        let gateway = Gateway::enrolled().await;
        gateway.world.mood(mood);
        sleep(16 * DAY).await;
        let words = gateway.words();
        assert!(words.iter().any(|said| said == word), "{mood:?}: {words:?}");
        assert!(words.len() <= 2, "{mood:?}: {words:?}");
        assert!(gateway.text(word).contains("; "), "a remedy: {}", gateway.text(word));
        assert_eq!(gateway.generation(), 1, "{mood:?}");
        assert!(gateway.stands(), "{mood:?}");
        gateway.world.mood(Mood::Good);
        sleep(7 * HOUR).await;
        assert_eq!((gateway.words(), gateway.generation()), (Vec::new(), 2), "{mood:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_by_years_or_hours_throws_nothing_away_and_is_forgiven() {
    let gateway = Gateway::enrolled().await;
    let year = 365 * 86_400;
    for wrong in [-10 * year, 10 * year, -3_600, 3_600] {
        gateway.world.wrong.store(wrong, Ordering::Relaxed);
        sleep(3 * HOUR).await;
        let words = gateway.words();
        let behind = words.iter().any(|word| word == "clock-behind");
        assert_eq!(behind, wrong < 0, "{wrong}: {words:?}");
        assert!(gateway.stands() && gateway.file("gen-1/key.pem").exists(), "{wrong}");
        gateway.world.wrong.store(0, Ordering::Relaxed);
        sleep(7 * HOUR).await;
        assert_eq!(gateway.words(), Vec::<String>::new(), "after {wrong}");
        assert!(gateway.stands());
    }
}

#[tokio::test(start_paused = true)]
async fn a_power_cut_between_signing_and_installing_costs_neither_certificate_nor_token() {
    let mut gateway = Gateway::enrolled().await;
    let world = Arc::clone(&gateway.world);
    // The hub cannot be asked, so what is signed has to wait beside its key.
    gateway.cut();
    let folder = IdentityFolder::at(&gateway.config.dir);
    let request = CertificateRequest::new("P/g", &[]).unwrap();
    folder.store_pending(&request).unwrap();
    folder.store_pending_certificate(&world.sign(&request, Mood::Good)).unwrap();
    world.mood(Mood::Away);
    world.wan.store(false, Ordering::Relaxed);
    gateway.start();
    sleep(3 * HOUR).await;
    assert_eq!(gateway.generation(), 1, "untried, and the one in use is good");
    gateway.cut();
    gateway.start();
    world.wan.store(true, Ordering::Relaxed);
    sleep(3 * HOUR).await;
    assert_eq!((gateway.words(), gateway.generation()), (Vec::new(), 2));
    assert!(!gateway.file("pending").exists() && gateway.stands());
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_brings_no_link_is_taken_back() {
    let gateway = Gateway::enrolled().await;
    gateway.world.links.store(false, Ordering::Relaxed);
    // Long enough for a renewal, and not for two.
    while gateway.text("hub-refuses-identity").is_empty() {
        sleep(HOUR).await;
    }
    assert!(gateway.text("hub-refuses-identity").contains("taken back"));
    assert_eq!(gateway.generation(), 1);
    assert!(gateway.stands(), "over the former one");
    gateway.world.links.store(true, Ordering::Relaxed);
    sleep(7 * HOUR).await;
    assert_eq!(gateway.words(), Vec::<String>::new());
    assert!(gateway.generation() > 1);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_missing_takes_the_link_down_only_where_that_was_asked_for() {
    for (rule, stands) in [(WhenCrlStale::Accept, true), (WhenCrlStale::Refuse, false)] {
        let mut gateway = Gateway::enrolled().await;
        gateway.cut();
        gateway.config.crl = Some(gateway.dir.path().join("crl.pem"));
        gateway.config.when_crl_stale = rule;
        gateway.start();
        sleep(2 * HOUR).await;
        assert_eq!((gateway.words(), gateway.stands()), (vec!["crl-stale".to_owned()], stands));
        std::fs::write(gateway.dir.path().join("crl.pem"), "junk").unwrap();
        sleep(2 * HOUR).await;
        assert_eq!((gateway.words(), gateway.stands()), (vec!["crl-stale".to_owned()], stands));
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_generation_is_an_alarm_and_the_one_before_it_serves() {
    let mut gateway = Gateway::enrolled().await;
    while gateway.generation() < 2 {
        sleep(DAY).await;
    }
    gateway.cut();
    gateway.world.mood(Mood::Away);
    std::fs::write(gateway.file("gen-2/key.pem"), "torn").unwrap();
    gateway.start();
    sleep(HOUR).await;
    let words = gateway.words();
    assert!(words.iter().any(|word| word == "identity-fallback"), "{words:?}");
    assert!(gateway.stands());
    gateway.world.mood(Mood::Good);
    sleep(7 * HOUR).await;
    assert_eq!((gateway.words(), gateway.generation()), (Vec::new(), 3));
}
