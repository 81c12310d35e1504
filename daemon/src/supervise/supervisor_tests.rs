//! The supervisor under paused time: a minute of back-off takes no time at all.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::JoinHandle;

use super::*;

/// Keeps what the service manager and the witness are told.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Told {
    fn push(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }
    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
    fn has(&self, start: &str) -> bool {
        self.count(start) > 0
    }
    fn count(&self, start: &str) -> usize {
        self.all().iter().filter(|line| line.starts_with(start)).count()
    }
}

impl ServiceManager for Told {
    fn notify(&self, notice: &Notice) {
        self.push(format!("{notice:?}"));
    }
}

impl Witness for Told {
    fn driver_ended(&self, driver: &DriverId, why: &str, next: &super::super::Next) {
        self.push(format!("{driver}: {why} (over budget: {})", next.over_budget));
    }
    fn driver_steady(&self, driver: &DriverId) {
        self.push(format!("{driver} steady"));
    }
    fn late(&self, parts: &[String]) {
        self.push(format!("late {parts:?}"));
    }
}

struct Bench {
    supervisor: Supervisor,
    told: Arc<Told>,
    signals: mpsc::Sender<Signal>,
    source: Signals,
    order: Arc<Told>,
}

struct Running {
    told: Arc<Told>,
    signals: mpsc::Sender<Signal>,
    drivers: Drivers,
    order: Arc<Told>,
    done: JoinHandle<Outcome>,
}

fn bench() -> Bench {
    let told = Arc::new(Told::default());
    let settings = Settings { watchdog: Some(s(30)), ..Settings::default() };
    let supervisor = Supervisor::new(settings, told.clone(), told.clone());
    let (signals, source) = mpsc::channel(4);
    let source = Signals::scripted(source);
    Bench { supervisor, told, signals, source, order: Arc::default() }
}

impl Bench {
    /// A core task that notes when it ends and takes `takes` for it.
    fn core(&mut self, name: &'static str, stage: Stage, takes: Duration) {
        let order = Arc::clone(&self.order);
        self.supervisor.core(name, stage, move |stop| async move {
            stop.cancelled().await;
            tokio::time::sleep(takes).await;
            order.push(name.to_owned());
            Ok(())
        });
    }
    fn run(self) -> Running {
        let drivers = self.supervisor.drivers();
        Running {
            told: self.told,
            signals: self.signals,
            drivers,
            order: self.order,
            done: tokio::spawn(self.supervisor.run(self.source)),
        }
    }
}

impl Running {
    async fn stop(self) -> Outcome {
        self.signals.send(Signal::Stop).await.unwrap();
        self.done.await.unwrap()
    }
}

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A driver that counts its runs and ends each of them as told.
fn driver(runs: &Arc<AtomicUsize>, run: impl Fn(usize) -> End + Send + 'static) -> DriverBuild {
    let runs = Arc::clone(runs);
    Box::new(move |stop| {
        let n = runs.fetch_add(1, Ordering::Relaxed) + 1;
        let end = run(n);
        Box::pin(async move {
            match end {
                End::Obeys => stop.cancelled().await,
                End::Panics => panic!("index out of bounds"),
                End::Returns(after) => tokio::time::sleep(after).await,
                End::Ignores => std::future::pending().await,
            }
        })
    })
}

#[derive(Clone, Copy)]
enum End {
    Obeys,
    Panics,
    Returns(Duration),
    Ignores,
}

#[tokio::test(start_paused = true)]
async fn ready_comes_at_once_and_stopping_when_asked() {
    let running = bench().run();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(running.told.all()[0], "Ready");
    let told = Arc::clone(&running.told);
    assert_eq!(running.stop().await, Outcome::Stopped);
    assert_eq!(told.all().last().unwrap(), "Stopping");
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_panics_is_started_again_and_the_others_do_not_notice() {
    let mut bench = bench();
    let (bad, good) = (Arc::default(), Arc::default());
    let first_panics = |n| if n == 1 { End::Panics } else { End::Obeys };
    bench.supervisor.driver(DriverId::device("bad"), driver(&bad, first_panics));
    bench.supervisor.driver(DriverId::device("good"), driver(&good, |_| End::Obeys));
    let running = bench.run();
    tokio::time::sleep(s(10)).await;
    assert_eq!((bad.load(Ordering::Relaxed), good.load(Ordering::Relaxed)), (2, 1));
    assert!(running.told.has("device bad: panicked: index out of bounds (over budget: false)"));
    assert_eq!(running.stop().await, Outcome::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_driver_whose_start_panics_is_started_again_too() {
    let mut bench = bench();
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let build: DriverBuild = Box::new(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        panic!("no such thing")
    });
    bench.supervisor.driver(DriverId::device("bad"), build);
    let running = bench.run();
    tokio::time::sleep(s(2)).await;
    assert!(runs.load(Ordering::Relaxed) >= 2);
    assert!(running.told.has("device bad: panicked: no such thing"));
    assert_eq!(running.stop().await, Outcome::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_driver_beyond_its_budget_is_still_started_once_a_minute_and_said_to_be_unsteady() {
    let mut bench = bench();
    let runs = Arc::default();
    bench.supervisor.driver(DriverId::device("bad"), driver(&runs, |_| End::Panics));
    let running = bench.run();
    tokio::time::sleep(s(600)).await;
    let after_ten_minutes = runs.load(Ordering::Relaxed);
    assert!(running.told.has("device bad: panicked: index out of bounds (over budget: true)"));
    tokio::time::sleep(s(3600)).await;
    let hourly = runs.load(Ordering::Relaxed) - after_ten_minutes;
    assert!((59..=76).contains(&hourly), "{hourly} starts in an hour");
    assert_eq!(running.stop().await, Outcome::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_settles_is_said_to_be_steady_again() {
    let mut bench = bench();
    let runs = Arc::default();
    let settles = |n| if n < 10 { End::Returns(s(1)) } else { End::Obeys };
    bench.supervisor.driver(DriverId::device("bad"), driver(&runs, settles));
    let running = bench.run();
    tokio::time::sleep(s(1000)).await;
    assert!(running.told.has("device bad steady"));
    assert_eq!(running.told.count("device bad steady"), 1);
    assert_eq!(running.stop().await, Outcome::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_core_task_that_panics_ends_the_process_after_the_others_were_drained() {
    let mut bench = bench();
    bench.core("recorder", Stage::Record, s(1));
    bench.supervisor.core("uplink", Stage::Deliver, |_| async {
        tokio::time::sleep(s(5)).await;
        panic!("arithmetic overflow")
    });
    let running = bench.run();
    let order = Arc::clone(&running.order);
    let outcome = running.done.await.unwrap();
    let why = "panicked: arithmetic overflow".to_owned();
    assert_eq!(outcome, Outcome::CoreFailed { part: "uplink".into(), why });
    assert_eq!(order.all(), ["recorder"]);
}

#[tokio::test(start_paused = true)]
async fn a_core_task_that_merely_returns_ends_the_process_too() {
    let mut bench = bench();
    bench.supervisor.core("live", Stage::Deliver, |_| async { Ok(()) });
    let outcome = bench.run().done.await.unwrap();
    assert!(matches!(outcome, Outcome::CoreFailed { ref part, .. } if part == "live"));
    assert!(!outcome.is_clean());
}

#[tokio::test(start_paused = true)]
async fn the_failure_of_a_core_task_is_told_with_its_sources() {
    let mut bench = bench();
    bench.supervisor.core("control", Stage::Observe, |_| async {
        let io = std::io::Error::other(std::fmt::Error);
        Err(io.into())
    });
    let outcome = bench.run().done.await.unwrap();
    let Outcome::CoreFailed { why, .. } = outcome else { panic!("{outcome:?}") };
    assert!(why.contains("an error occurred when formatting"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn the_drain_goes_drivers_then_recorder_then_delivery_then_observation() {
    let mut bench = bench();
    bench.core("control", Stage::Observe, Duration::ZERO);
    bench.core("uplink", Stage::Deliver, s(1));
    bench.core("recorder", Stage::Record, s(2));
    let order = Arc::clone(&bench.order);
    let build: DriverBuild = Box::new(move |stop| {
        let order = Arc::clone(&order);
        Box::pin(async move {
            stop.cancelled().await;
            tokio::time::sleep(s(3)).await;
            order.push("driver".into());
        })
    });
    bench.supervisor.driver(DriverId::device("press-1"), build);
    let running = bench.run();
    let order = Arc::clone(&running.order);
    assert_eq!(running.stop().await, Outcome::Stopped);
    assert_eq!(order.all(), ["driver", "recorder", "uplink", "control"]);
}

#[tokio::test(start_paused = true)]
async fn a_driver_deaf_to_stop_is_cut_off_and_the_recorder_still_gets_its_time() {
    let mut bench = bench();
    let runs = Arc::default();
    bench.core("recorder", Stage::Record, s(9));
    bench.supervisor.driver(DriverId::device("deaf"), driver(&runs, |_| End::Ignores));
    let running = bench.run();
    let order = Arc::clone(&running.order);
    let before = Instant::now();
    assert_eq!(running.stop().await, Outcome::Late(vec!["device deaf".into()]));
    assert_eq!(order.all(), ["recorder"]);
    assert_eq!(before.elapsed().as_secs(), 5 + 9);
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_was_cut_off_delivers_nothing_into_the_drain() {
    let mut bench = bench();
    bench.core("recorder", Stage::Record, s(9));
    let order = Arc::clone(&bench.order);
    let build: DriverBuild = Box::new(move |_| {
        let order = Arc::clone(&order);
        Box::pin(async move {
            loop {
                tokio::time::sleep(s(1)).await;
                order.push("sample".into());
            }
        })
    });
    bench.supervisor.driver(DriverId::device("deaf"), build);
    let running = bench.run();
    let order = Arc::clone(&running.order);
    assert_eq!(running.stop().await, Outcome::Late(vec!["device deaf".into()]));
    assert!(order.count("sample") <= 5, "{:?}", order.all());
}

#[tokio::test(start_paused = true)]
async fn a_recorder_that_cannot_end_is_cut_off_and_named() {
    let mut bench = bench();
    bench.core("recorder", Stage::Record, s(3600));
    assert_eq!(bench.run().stop().await, Outcome::Late(vec!["recorder".into()]));
}

#[tokio::test(start_paused = true)]
async fn a_second_signal_ends_at_once() {
    let mut bench = bench();
    bench.core("recorder", Stage::Record, s(9));
    let running = bench.run();
    let before = Instant::now();
    running.signals.send(Signal::Stop).await.unwrap();
    running.signals.send(Signal::Stop).await.unwrap();
    assert_eq!(running.done.await.unwrap(), Outcome::Forced);
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn the_stopper_counts_as_the_first_signal_and_a_real_one_as_the_second() {
    let mut bench = bench();
    bench.core("recorder", Stage::Record, s(9));
    let stopper = bench.source.stopper();
    let running = bench.run();
    stopper.cancel();
    tokio::time::sleep(s(1)).await;
    assert_eq!(running.stop().await, Outcome::Forced);
}

#[tokio::test(start_paused = true)]
async fn the_watchdog_is_fed_while_the_loops_tick_and_a_dead_plc_does_not_matter() {
    let mut bench = bench();
    let runs = Arc::default();
    bench.supervisor.driver(DriverId::device("dead"), driver(&runs, |_| End::Panics));
    let pulse = bench.supervisor.pulses().register("recorder");
    bench.supervisor.core("recorder", Stage::Record, move |stop| async move {
        let mut ticker = pulse.ticker();
        while !stop.is_cancelled() {
            ticker.tick().await;
            pulse.tick();
        }
        Ok(())
    });
    let running = bench.run();
    tokio::time::sleep(s(300)).await;
    assert!(running.told.count("Alive") >= 30, "{:?}", running.told.all());
    assert!(!running.told.has("late"));
    assert_eq!(running.stop().await, Outcome::Stopped);
}

#[tokio::test(start_paused = true)]
async fn the_watchdog_is_not_fed_while_a_loop_hangs_and_the_hang_is_named_once() {
    let mut bench = bench();
    let pulse = bench.supervisor.pulses().register("recorder");
    bench.supervisor.core("recorder", Stage::Record, move |stop| async move {
        stop.cancelled().await;
        drop(pulse);
        Ok(())
    });
    let running = bench.run();
    tokio::time::sleep(s(16)).await;
    let fed = running.told.count("Alive");
    tokio::time::sleep(s(300)).await;
    assert_eq!(running.told.count("Alive"), fed);
    assert_eq!(running.told.count("late [\"recorder\"]"), 1);
    assert_eq!(running.stop().await, Outcome::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_replaced_driver_starts_only_after_the_old_one_has_ended() {
    let running = bench().run();
    let order = Arc::clone(&running.order);
    let slow = Arc::clone(&order);
    let old: DriverBuild = Box::new(move |stop| {
        let slow = Arc::clone(&slow);
        Box::pin(async move {
            stop.cancelled().await;
            tokio::time::sleep(s(2)).await;
            slow.push("old ended".into());
        })
    });
    let new_order = Arc::clone(&order);
    let new: DriverBuild = Box::new(move |stop| {
        new_order.push("new started".into());
        Box::pin(async move { stop.cancelled().await })
    });
    let id = DriverId::device("press-1");
    running.drivers.put(id.clone(), old).await.unwrap();
    running.drivers.put(id.clone(), new).await.unwrap();
    assert_eq!(order.all(), ["old ended", "new started"]);
    running.drivers.remove(id.clone()).await.unwrap();
    running.drivers.remove(id).await.unwrap();
    assert_eq!(running.told.count("device press-1:"), 0);
    assert_eq!(running.stop().await, Outcome::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_deaf_driver_is_cut_off_when_it_is_removed_or_replaced() {
    let running = bench().run();
    let (deaf, next) = (Arc::default(), Arc::default());
    let id = DriverId::device("deaf");
    running.drivers.put(id.clone(), driver(&deaf, |_| End::Ignores)).await.unwrap();
    let before = Instant::now();
    running.drivers.put(id, driver(&next, |_| End::Obeys)).await.unwrap();
    assert_eq!(before.elapsed().as_secs(), 5);
    assert_eq!((deaf.load(Ordering::Relaxed), next.load(Ordering::Relaxed)), (1, 1));
    assert_eq!(running.stop().await, Outcome::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_is_waiting_for_its_restart_can_be_replaced_and_removed() {
    let running = bench().run();
    let (bad, good) = (Arc::default(), Arc::default());
    let id = DriverId::device("bad");
    running.drivers.put(id.clone(), driver(&bad, |_| End::Panics)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    running.drivers.put(id.clone(), driver(&good, |_| End::Panics)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    running.drivers.remove(id).await.unwrap();
    tokio::time::sleep(s(1000)).await;
    assert_eq!((bad.load(Ordering::Relaxed), good.load(Ordering::Relaxed)), (1, 1));
    assert_eq!(running.stop().await, Outcome::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_reload_is_framed_for_systemd_changes_drivers_and_runs_once_more_when_asked_during_it() {
    let mut bench = bench();
    let (runs, reloads) = (Arc::default(), Arc::new(AtomicUsize::new(0)));
    let (started, counted) = (Arc::clone(&runs), Arc::clone(&reloads));
    bench.supervisor.on_reload(move |drivers| {
        counted.fetch_add(1, Ordering::Relaxed);
        let build = driver(&started, |_| End::Obeys);
        Box::pin(async move {
            let put = drivers.put(DriverId::device("new"), build).await;
            tokio::time::sleep(s(1)).await;
            put.map(|()| "1 device added".into()).map_err(|gone| gone.to_string())
        })
    });
    let running = bench.run();
    for _ in 0..3 {
        running.signals.send(Signal::Reload).await.unwrap();
    }
    tokio::time::sleep(s(5)).await;
    assert_eq!((reloads.load(Ordering::Relaxed), runs.load(Ordering::Relaxed)), (2, 2));
    let framing: Vec<_> =
        running.told.all().into_iter().filter(|l| l == "Ready" || l == "Reloading").collect();
    assert_eq!(framing, ["Ready", "Reloading", "Ready", "Reloading", "Ready"]);
    assert_eq!(running.stop().await, Outcome::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_driver_cannot_be_added_once_the_supervisor_is_gone() {
    let running = bench().run();
    let drivers = running.drivers.clone();
    assert_eq!(running.stop().await, Outcome::Stopped);
    let runs = Arc::default();
    let put = drivers.put(DriverId::device("late"), driver(&runs, |_| End::Obeys)).await;
    assert!(put.is_err() && runs.load(Ordering::Relaxed) == 0);
}

#[tokio::test(start_paused = true)]
async fn the_status_line_is_sent_when_it_changes() {
    let mut bench = bench();
    let line = Arc::new(Mutex::new("3 devices".to_owned()));
    let shown = Arc::clone(&line);
    bench.supervisor.on_status(move || shown.lock().unwrap().clone());
    let running = bench.run();
    tokio::time::sleep(s(60)).await;
    assert_eq!(running.told.count("Status(\"3 devices\")"), 1);
    *line.lock().unwrap() = "2 devices".to_owned();
    tokio::time::sleep(s(60)).await;
    assert_eq!(running.told.count("Status"), 2);
    assert_eq!(running.stop().await, Outcome::Stopped);
}
