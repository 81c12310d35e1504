use std::pin::pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use futures_util::FutureExt as _;
use opcua::types::{DiagnosticInfo, ExtensionObject, MonitoredItemNotification, Variant};
use tidegate_translator::{Clock, FreshDesk, Missed, Sink, TagId, TagPath, fresh_desk};

use super::*;
use crate::convert::{Converter, Meaning, Types};
use crate::items::Wanted;
use crate::namespaces::Namespaces;
use crate::node::{Identifier, Namespace, NodeAddress};
use crate::spec::{
    Discard, EndpointUrl, ItemSpec, Security, ServerDeadband, Trigger, TrustSpec, UserSpec,
};

#[derive(Default)]
struct Told {
    samples: Mutex<Vec<Sample>>,
    missed: Mutex<Vec<Missed>>,
    states: Mutex<Vec<DeviceState>>,
}

impl Sink for Told {
    fn samples(&self, batch: Vec<Sample>) {
        self.samples.lock().unwrap().extend(batch);
    }
    fn missed(&self, missed: Missed) {
        self.missed.lock().unwrap().push(missed);
    }
    fn state(&self, _: &Arc<str>, state: DeviceState, _: Option<String>) {
        let mut states = self.states.lock().unwrap();
        if states.last() != Some(&state) {
            states.push(state);
        }
    }
}

#[derive(Default)]
struct Wall(AtomicI64);

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// A device with some tags, its clocks and what was told.
struct Bench {
    core: Core,
    told: Arc<Told>,
    wall: Arc<Wall>,
    begin: Instant,
    desk: FreshDesk,
}

fn spec() -> DeviceSpec {
    DeviceSpec {
        name: "press".into(),
        url: EndpointUrl::parse("opc.tcp://plc").unwrap(),
        follow_advertised: false,
        security: Security::None,
        user: UserSpec::Anonymous,
        trust: TrustSpec::default(),
        collect: Collect::Subscribe,
        sample_every: Duration::from_millis(500),
        publish_every: None,
        timeout: Duration::from_secs(4),
        backoff: (Duration::from_millis(500), Duration::from_secs(30)),
        backfill: false,
        max_items: 1000,
        tags: Arc::new([]),
        subtrees: Arc::new([]),
    }
}

fn prepared(tags: u32) -> Box<Prepared> {
    let item = Arc::new(ItemSpec {
        sample_every: None,
        queue: None,
        discard: Discard::Oldest,
        trigger: Trigger::StatusValue,
        deadband: ServerDeadband::None,
        index_range: None,
    });
    let wanted = |id| Wanted {
        tag: TagId(id),
        path: TagPath::new(format!("p/{id}")).unwrap(),
        node: NodeAddress::Id(Namespace::Index(1), Identifier::Number(id)),
        item: Arc::clone(&item),
    };
    let namespaces = Arc::new(Namespaces::new(["urn:a".to_owned(), "urn:b".to_owned()]));
    Box::new(Prepared {
        wanted: (0..tags).map(wanted).collect(),
        nodes: (0..tags).map(|id| Ok(NodeId::new(1, id))).collect(),
        meanings: (0..tags).map(|_| Meaning::default()).collect(),
        converter: Converter::new(namespaces, Arc::new(Types::known())),
        types: None,
        notes: Vec::new(),
        troubles: Vec::new(),
    })
}

impl Bench {
    fn new(spec: DeviceSpec) -> Self {
        let (told, wall) = (Arc::new(Told::default()), Arc::new(Wall::default()));
        let (sink, begin) = (Arc::clone(&told) as Arc<dyn Sink>, Instant::now());
        let ledger = Ledger::new("press".into(), Arc::clone(&wall) as _, Arc::clone(&sink));
        let voice = Voice::new("press".into(), sink, begin);
        let (desk, questions) = fresh_desk();
        let asking = Asking::new(questions);
        let core = Core { spec: Arc::new(spec), ledger, voice, asking };
        Self { core, told, wall, begin, desk }
    }
}

/// Sets the wall clock, and gives the same time by the other one.
fn at(wall: &Wall, begin: Instant, millis: u64) -> Instant {
    wall.0.store(i64::try_from(millis).unwrap(), Ordering::Relaxed);
    begin + Duration::from_millis(millis)
}

fn subscription(id: u32) -> Subscription {
    Subscription {
        id,
        publish_every: Duration::from_millis(500),
        keep_alive: Duration::from_secs(2),
        lifetime: Duration::from_secs(120),
    }
}

fn item(status: StatusCode) -> MonitoredItemCreateResult {
    MonitoredItemCreateResult {
        status_code: status,
        revised_sampling_interval: 500.0,
        revised_queue_size: 3,
        ..MonitoredItemCreateResult::default()
    }
}

/// A session whose items exist, each with this status.
fn built<'a>(core: &'a mut Core, statuses: &[StatusCode], now: Instant) -> Session<'a> {
    let mut session = Session::new(core, Beginning::Fresh(Mirror::default()), now);
    assert!(matches!(session.chores()[..], [Chore::Prepare]));
    let tags = u32::try_from(statuses.len()).unwrap();
    session.done(Done::Prepare(Ok(prepared(tags))), now);
    assert!(matches!(session.chores()[..], [Chore::Create { group: 0, .. }]));
    session.done(Done::Create { group: 0, result: Ok(subscription(7)) }, now);
    let chores = session.chores();
    let [Chore::Items { group: 0, subscription: 7, items }] = &chores[..] else {
        panic!("no items are created");
    };
    let places = items.iter().map(|(place, _)| *place).collect();
    let result = Ok(statuses.iter().map(|status| item(*status)).collect());
    session.done(Done::Items { group: 0, places, result }, now);
    session
}

fn notification(number: u32, values: &[(u32, f64)]) -> PublishResponse {
    let value = |(handle, value): &(u32, f64)| MonitoredItemNotification {
        client_handle: *handle,
        value: DataValue { value: Some(Variant::Double(*value)), ..DataValue::null() },
    };
    let data = DataChangeNotification {
        monitored_items: Some(values.iter().map(value).collect()),
        diagnostic_infos: None::<Vec<DiagnosticInfo>>,
    };
    let data = (!values.is_empty()).then(|| vec![ExtensionObject::from_message(data)]);
    PublishResponse {
        subscription_id: 7,
        notification_message: NotificationMessage {
            sequence_number: number,
            notification_data: data,
            ..NotificationMessage::default()
        },
        ..PublishResponse::default()
    }
}

const GOOD: StatusCode = StatusCode::Good;

#[test]
fn a_session_that_is_built_is_live_and_its_values_are_samples() {
    let mut bench = Bench::new(spec());
    let begin = bench.begin;
    let mut session = built(&mut bench.core, &[GOOD, GOOD], begin);
    session.published(Ok(notification(1, &[(1, 4.5), (0, 2.0), (99, 1.0)])), 1, begin);
    let acks = session.publish(0, begin).unwrap();
    assert_eq!(acks.iter().map(|ack| ack.sequence_number).collect::<Vec<_>>(), [1]);
    let samples = bench.told.samples.lock().unwrap();
    let tags: Vec<_> = samples.iter().map(|sample| (sample.tag.0, sample.quality)).collect();
    let good = tidegate_translator::Quality::Good;
    assert_eq!(tags, [(1, good), (0, good)]);
    let states = bench.told.states.lock().unwrap();
    assert_eq!(*states, [DeviceState::Connecting, DeviceState::Live]);
}

#[test]
fn a_tag_that_is_refused_is_bad_by_itself_and_asked_for_again_each_minute() {
    let mut bench = Bench::new(spec());
    let begin = bench.begin;
    let mut session = built(&mut bench.core, &[GOOD, StatusCode::BadNodeIdUnknown], begin);
    let later = begin + RETRY;
    // The server is not silent meanwhile.
    session.heard = later;
    session.mirror.subs[0].dog.heard(later);
    session.tick(begin + RETRY - Duration::from_millis(1));
    assert!(!session.chores().iter().any(|chore| matches!(chore, Chore::Resolve(_))));
    session.tick(later);
    let chores = session.chores();
    let again = chores.iter().find_map(|chore| match chore {
        Chore::Resolve(items) => Some(items.iter().map(|(place, _)| *place).collect::<Vec<_>>()),
        _ => None,
    });
    assert_eq!(again, Some(vec![1]));
    let result = Ok(vec![Ok((NodeId::new(1, 1_u32), Meaning::default()))]);
    session.done(Done::Resolve { places: vec![1], result }, later);
    let chores = session.chores();
    assert!(matches!(&chores[..], [Chore::Items { items, .. }] if items.len() == 1));
    let result = Ok(vec![item(GOOD)]);
    session.done(Done::Items { group: 0, places: vec![1], result }, later);

    let samples = bench.told.samples.lock().unwrap();
    assert_eq!(samples.len(), 1);
    assert_eq!(samples[0].status, StatusCode::BadNodeIdUnknown.bits());
    let states = bench.told.states.lock().unwrap();
    assert_eq!(states[1..], [DeviceState::Degraded, DeviceState::Live]);
}

#[test]
fn a_silent_server_makes_every_tag_bad_in_five_seconds_and_is_then_left() {
    let mut bench = Bench::new(spec());
    let (begin, wall) = (bench.begin, Arc::clone(&bench.wall));
    let mut session = built(&mut bench.core, &[GOOD, GOOD], begin);
    session.tick(at(&wall, begin, 4_400));
    assert!(bench.told.samples.lock().unwrap().is_empty());
    session.tick(at(&wall, begin, 4_500));
    session.tick(at(&wall, begin, 5_000));
    assert_eq!(bench.told.samples.lock().unwrap().len(), 2);
    assert_eq!(session.end, None);
    session.tick(at(&wall, begin, 6_500));
    assert!(session.end.as_ref().is_some_and(|end| end.may_resume));
    // The silence is the server's, so no subscription is blamed for it.
    assert!(!session.chores().iter().any(|chore| matches!(chore, Chore::Delete(_))));
}

#[test]
fn a_server_that_only_stalled_is_read_again_and_what_its_queues_cannot_hold_is_told() {
    let mut bench = Bench::new(spec());
    let (begin, wall) = (bench.begin, Arc::clone(&bench.wall));
    let mut session = built(&mut bench.core, &[GOOD], begin);
    session.tick(at(&wall, begin, 5_000));
    session.chores();
    session.published(Ok(notification(1, &[])), 1, at(&wall, begin, 6_000));
    assert!(matches!(&session.chores()[..], [Chore::Refresh(items)] if items.len() == 1));
    assert_eq!(session.end, None);
    let missed = bench.told.missed.lock().unwrap();
    let spans: Vec<_> = missed.iter().map(|m| (m.from.as_millis(), m.to.as_millis())).collect();
    assert_eq!(spans, [(0, 6_000)]);
    assert_eq!(bench.told.states.lock().unwrap().last(), Some(&DeviceState::Live));
}

/// Lets the server answer that it is alive, and nothing else.
fn alive(session: &mut Session<'_>, now: Instant) {
    session.done(Done::KeepAlive(Ok(vec![DataValue::null()])), now);
    session.tick(now);
}

#[test]
fn a_subscription_that_says_nothing_is_replaced_and_then_the_session_is_left() {
    let mut bench = Bench::new(spec());
    let (begin, wall) = (bench.begin, Arc::clone(&bench.wall));
    let mut session = built(&mut bench.core, &[GOOD], begin);
    let mut asked = Vec::new();
    for second in 1..=6 {
        alive(&mut session, at(&wall, begin, second * 1_000));
        asked.extend(session.chores());
    }
    asked.retain(|chore| !matches!(chore, Chore::KeepAlive));
    let [Chore::Delete(ids), Chore::Create { group: 0, .. }] = &asked[..] else {
        panic!("the subscription is not replaced");
    };
    assert_eq!(ids[..], [7]);
    let now = at(&wall, begin, 6_000);
    session.done(Done::Create { group: 0, result: Ok(subscription(8)) }, now);
    session.done(Done::Items { group: 0, places: vec![0], result: Ok(vec![item(GOOD)]) }, now);
    for second in 7..=12 {
        assert_eq!(session.end, None);
        alive(&mut session, at(&wall, begin, second * 1_000));
    }
    assert!(session.end.as_ref().is_some_and(|end| !end.may_resume));
    assert_eq!(bench.told.missed.lock().unwrap().len(), 1);
    assert_eq!(bench.told.samples.lock().unwrap().len(), 1);
}

#[test]
fn the_silence_of_a_subscription_ends_with_the_first_word_of_the_next_one() {
    let mut bench = Bench::new(spec());
    let (begin, wall) = (bench.begin, Arc::clone(&bench.wall));
    let mut session = built(&mut bench.core, &[GOOD], begin);
    for second in 1..=6 {
        alive(&mut session, at(&wall, begin, second * 1_000));
    }
    let now = at(&wall, begin, 6_100);
    session.done(Done::Create { group: 0, result: Ok(subscription(7)) }, now);
    session.done(Done::Items { group: 0, places: vec![0], result: Ok(vec![item(GOOD)]) }, now);
    session.published(Ok(notification(1, &[(0, 1.0)])), 1, at(&wall, begin, 6_700));
    let missed = bench.told.missed.lock().unwrap();
    let spans: Vec<_> = missed.iter().map(|m| (m.from.as_millis(), m.to.as_millis())).collect();
    assert_eq!(spans, [(0, 6_000), (6_000, 6_700)]);
}

#[test]
fn an_absence_ends_with_the_first_word_of_the_new_subscription_not_with_its_creation() {
    let mut bench = Bench::new(spec());
    let (begin, wall) = (bench.begin, Arc::clone(&bench.wall));
    bench.core.ledger.away(begin, None);
    let mut session = built(&mut bench.core, &[GOOD], at(&wall, begin, 500));
    session.published(Ok(notification(1, &[(0, 1.0)])), 1, at(&wall, begin, 900));
    session.published(Ok(notification(2, &[(0, 2.0)])), 1, at(&wall, begin, 1_400));
    let missed = bench.told.missed.lock().unwrap();
    let spans: Vec<_> = missed.iter().map(|m| (m.from.as_millis(), m.to.as_millis())).collect();
    assert_eq!(spans, [(0, 900)]);
}

#[test]
fn a_missing_notification_is_asked_for_and_a_loss_when_the_server_has_it_no_more() {
    let mut bench = Bench::new(spec());
    let (begin, wall) = (bench.begin, Arc::clone(&bench.wall));
    let mut session = built(&mut bench.core, &[GOOD], begin);
    session.published(Ok(notification(1, &[(0, 1.0)])), 1, at(&wall, begin, 100));
    session.published(Ok(notification(4, &[(0, 4.0)])), 1, at(&wall, begin, 900));
    let mut chores = session.chores();
    let Some(Chore::Republish { subscription: 7, missing, span }) = chores.pop() else {
        panic!("nothing is asked for again");
    };
    assert_eq!(missing.numbers().collect::<Vec<_>>(), [2, 3]);
    let gone = ServiceError {
        service: "Republish",
        status: StatusCode::BadMessageNotAvailable,
        detail: String::new(),
        answered: true,
    };
    let found = notification(3, &[(0, 3.0)]).notification_message;
    let results = vec![Err(gone), Ok(found)];
    let done = Done::Republish { subscription: 7, missing, span, results };
    session.done(done, at(&wall, begin, 1_000));
    assert_eq!(session.end, None);
    assert_eq!(bench.told.samples.lock().unwrap().len(), 3);
    let missed = bench.told.missed.lock().unwrap();
    let spans: Vec<_> = missed.iter().map(|m| (m.from.as_millis(), m.to.as_millis())).collect();
    assert_eq!(spans, [(100, 900)]);
}

/// A session that misses notifications 2 and 3 of subscription 7, and what was asked for.
fn missing_two<'a>(
    core: &'a mut Core,
    wall: &Wall,
    begin: Instant,
) -> (Session<'a>, Missing, Span) {
    let mut session = built(core, &[GOOD], begin);
    session.published(Ok(notification(1, &[(0, 1.0)])), 1, at(wall, begin, 100));
    session.published(Ok(notification(4, &[(0, 4.0)])), 1, at(wall, begin, 900));
    let Some(Chore::Republish { missing, span, .. }) = session.chores().pop() else {
        panic!("nothing is asked for again");
    };
    (session, missing, span)
}

#[test]
fn what_was_being_asked_for_when_the_connection_broke_is_asked_for_by_the_next_session() {
    let broken = || ServiceError {
        service: "Republish",
        status: StatusCode::BadConnectionClosed,
        detail: String::new(),
        answered: false,
    };
    // Without any answer, and after that for the first of the two.
    for first_came in [None, Some(false), Some(true)] {
        let mut bench = Bench::new(spec());
        let (begin, wall) = (bench.begin, Arc::clone(&bench.wall));
        let (mut session, missing, span) = missing_two(&mut bench.core, &wall, begin);
        if let Some(first_came) = first_came {
            let found = notification(2, &[(0, 2.0)]).notification_message;
            let results =
                if first_came { vec![Ok(found), Err(broken())] } else { vec![Err(broken())] };
            let done = Done::Republish { subscription: 7, missing, span, results };
            session.done(done, at(&wall, begin, 950));
        }
        session.end = Some(End { why: "cut".into(), may_resume: true });
        let (mirror, _) = session.over();
        assert!(bench.told.missed.lock().unwrap().is_empty(), "{first_came:?}");
        let now = at(&wall, begin, 1_000);
        let mut session = Session::new(&mut bench.core, Beginning::Resumed(mirror), now);
        let asked: Vec<Vec<u32>> = session
            .chores()
            .iter()
            .filter_map(|chore| match chore {
                Chore::Republish { subscription: 7, missing, .. } => {
                    Some(missing.numbers().collect())
                }
                _ => None,
            })
            .collect();
        let rest = if first_came == Some(true) { vec![3] } else { vec![2, 3] };
        assert_eq!(asked, [rest], "{first_came:?}");
    }
}

#[test]
fn what_nobody_can_be_asked_for_any_more_is_told_as_lost_once() {
    for (may_resume, is_resumed) in [(false, false), (true, false), (true, true)] {
        let mut bench = Bench::new(spec());
        let (begin, wall) = (bench.begin, Arc::clone(&bench.wall));
        let (mut session, ..) = missing_two(&mut bench.core, &wall, begin);
        session.end = Some(End { why: "cut".into(), may_resume });
        let (mut mirror, _) = session.over();
        let now = at(&wall, begin, 1_000);
        if is_resumed {
            // The device is stopped before there is another session.
            mirror.give_up(&mut bench.core.ledger);
        } else {
            drop(Session::new(&mut bench.core, Beginning::Fresh(mirror), now));
        }
        let missed = bench.told.missed.lock().unwrap();
        let spans: Vec<_> = missed.iter().map(|m| (m.from.as_millis(), m.to.as_millis())).collect();
        assert_eq!(spans, [(100, 900)], "{may_resume} {is_resumed}");
    }
}

#[test]
fn a_resumed_session_lost_nothing_as_long_as_its_queues_hold_and_is_read_anew() {
    for (away, lost) in [(1_400, false), (12_000, true)] {
        let mut bench = Bench::new(spec());
        let (begin, wall) = (bench.begin, Arc::clone(&bench.wall));
        let mut session = built(&mut bench.core, &[GOOD], begin);
        session.published(Ok(notification(1, &[(0, 1.0)])), 1, begin);
        session.end = Some(End { why: "cut".into(), may_resume: true });
        let (mirror, _) = session.over();
        bench.core.ledger.away(begin, Some(Duration::from_secs(120)));
        let now = at(&wall, begin, away);
        let mut session = Session::new(&mut bench.core, Beginning::Resumed(mirror), now);
        assert!(session.publish(0, now).is_some());
        session.published(Ok(notification(2, &[(0, 2.0)])), 1, now);
        assert!(matches!(session.chores()[..], [Chore::Refresh(_)]));
        assert_eq!(!bench.told.missed.lock().unwrap().is_empty(), lost, "{away} ms");
        // One bad sample in between, and each value once.
        assert_eq!(bench.told.samples.lock().unwrap().len(), 3);
    }
}

#[test]
fn a_queue_that_ran_over_is_a_loss_of_its_tag_and_of_the_device_when_it_is_many() {
    for (tags, by_name) in [(3, 3), (40, 0)] {
        let mut bench = Bench::new(spec());
        let (begin, wall) = (bench.begin, Arc::clone(&bench.wall));
        let statuses = vec![GOOD; usize::try_from(tags).unwrap()];
        let mut session = built(&mut bench.core, &statuses, begin);
        let values: Vec<_> = (0..tags).map(|handle| (handle, 1.0)).collect();
        let mut response = notification(1, &values);
        let data = response.notification_message.notification_data.take().unwrap();
        let data = data.into_iter().next().unwrap().into_inner_as::<DataChangeNotification>();
        let mut data = *data.unwrap();
        for item in data.monitored_items.iter_mut().flatten() {
            item.value.status = Some(StatusCode::from(OVERFLOW));
        }
        let data = vec![ExtensionObject::from_message(data)];
        response.notification_message.notification_data = Some(data);
        session.published(Ok(notification(1, &values)), 1, at(&wall, begin, 500));
        response.notification_message.sequence_number = 2;
        session.published(Ok(response), 1, at(&wall, begin, 12_500));
        let missed = bench.told.missed.lock().unwrap();
        assert!(missed.iter().all(|m| (m.from.as_millis(), m.to.as_millis()) == (500, 12_500)));
        assert_eq!(missed.iter().filter(|missed| missed.tag.is_some()).count(), by_name);
        assert!(missed.iter().all(|missed| missed.cause == LossCause::QueueOverflow));
        assert_eq!(missed.len(), by_name.max(1));
    }
}

#[test]
fn publish_requests_stay_within_what_the_server_takes() {
    let mut bench = Bench::new(spec());
    let begin = bench.begin;
    let mut session = built(&mut bench.core, &[GOOD], begin);
    assert!(session.publish(2, begin).is_some());
    assert!(session.publish(3, begin).is_none());
    let too_many = ServiceError {
        service: "Publish",
        status: StatusCode::BadTooManyPublishRequests,
        detail: String::new(),
        answered: true,
    };
    session.published(Err(too_many), 1, begin);
    assert!(session.publish(1, begin).is_none());
    assert!(session.publish(0, begin).is_some());
    assert_eq!(session.end, None);
}

/// The places that are being read for somebody.
fn read_now(session: &mut Session<'_>) -> Option<Vec<usize>> {
    session.chores().into_iter().find_map(|chore| match chore {
        Chore::Fresh(items) => Some(items.into_iter().map(|(place, _)| place).collect()),
        _ => None,
    })
}

fn double(value: f64) -> DataValue {
    DataValue { value: Some(Variant::Double(value)), ..DataValue::null() }
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_for_is_read_once_for_all_and_anew_for_who_asks_later() {
    let mut bench = Bench::new(spec());
    let (begin, desk) = (bench.begin, bench.desk.clone());
    let mut session = built(&mut bench.core, &[GOOD; 3], begin);
    let deadline = Instant::now() + Duration::from_secs(9);
    let ask = |tags: &[u32]| {
        let desk = desk.clone();
        let tags = tags.iter().copied().map(TagId).collect();
        Box::pin(async move { desk.ask(tags, deadline).await })
    };
    let (mut first, mut second) = (ask(&[0, 2]), ask(&[2, 77]));
    assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
    session.read_fresh(begin);
    assert_eq!(read_now(&mut session), Some(vec![0, 2]), "each item once");
    // One read at a time: who asks now wants to know what is true now.
    let mut third = ask(&[2]);
    assert!((&mut third).now_or_never().is_none());
    session.read_fresh(begin);
    assert_eq!(read_now(&mut session), None);
    let values = vec![
        double(1.5),
        DataValue { status: Some(StatusCode::BadSensorFailure), ..DataValue::null() },
    ];
    session.done(Done::Fresh { places: vec![0, 2], result: Ok(values) }, begin);
    let first = first.await.read;
    assert_eq!(first[0].sample.value, tidegate_translator::Value::F64(1.5));
    assert_eq!(first[0].error, None);
    assert_eq!(first[1].sample.quality.reason(), Some(Reason::SensorFailure));
    assert!(first[1].error.as_deref().unwrap().contains("SensorFailure"), "{first:?}");
    let second = second.await;
    assert_eq!(second.rest, None);
    assert!(second.read[0].error.as_deref().unwrap().contains("does not have this tag"));
    session.read_fresh(begin);
    assert_eq!(read_now(&mut session), Some(vec![2]));
    session.done(Done::Fresh { places: vec![2], result: Ok(vec![double(3.0)]) }, begin);
    assert_eq!(third.await.read[0].sample.value, tidegate_translator::Value::F64(3.0));
    assert!(bench.told.samples.lock().unwrap().is_empty(), "none of it is a sample");
}

#[tokio::test(start_paused = true)]
async fn who_asks_a_server_that_is_away_is_told_why_at_once() {
    let mut bench = Bench::new(spec());
    let (begin, wall, desk) = (bench.begin, Arc::clone(&bench.wall), bench.desk.clone());
    let deadline = Instant::now() + Duration::from_secs(99);
    let why = |answer: tidegate_translator::FreshAnswer| answer.read[0].error.clone().unwrap();
    let tags = || [TagId(0)].into_iter().collect();
    let mut session = built(&mut bench.core, &[GOOD], begin);
    session.tick(at(&wall, begin, 5_000));
    session.chores();
    let mut doubtful = pin!(desk.ask(tags(), deadline));
    assert!(doubtful.as_mut().now_or_never().is_none());
    session.read_fresh(at(&wall, begin, 5_000));
    assert!(why(doubtful.await).contains("nothing is heard of the server for 5"));
    // It is heard again, a read is under way, and then the session ends.
    session.published(Ok(notification(1, &[])), 1, at(&wall, begin, 6_000));
    let mut cut_off = pin!(desk.ask(tags(), deadline));
    assert!(cut_off.as_mut().now_or_never().is_none());
    session.read_fresh(at(&wall, begin, 6_000));
    assert_eq!(read_now(&mut session), Some(vec![0]));
    session.leave("the server closed the connection".to_owned(), true);
    let (mirror, _) = session.over();
    assert!(why(cut_off.await).contains("closed the connection"));
    let mut away = pin!(desk.ask(tags(), deadline));
    assert!(away.as_mut().now_or_never().is_none());
    bench.core.asking.refuse(Timestamp(1));
    assert!(why(away.await).contains("closed the connection"));
    // The next session reads as if nothing had been.
    let mut session =
        Session::new(&mut bench.core, Beginning::Resumed(mirror), at(&wall, begin, 7_000));
    session.chores();
    let mut back = pin!(desk.ask(tags(), deadline));
    assert!(back.as_mut().now_or_never().is_none());
    session.read_fresh(at(&wall, begin, 7_000));
    assert_eq!(read_now(&mut session), Some(vec![0]));
    session.done(Done::Fresh { places: vec![0], result: Ok(vec![double(7.0)]) }, begin);
    assert_eq!(back.await.read[0].error, None);
}
