//! What the hub does not take, and who else has our name: one rule each, as a sentence.

use std::time::Duration;

use tidegate_uplink::{AlarmKind, Event, Outcome, State};

use super::hub::Hub;
use super::journal::epoch;
use super::world::{Fate, World};

/// A hub that takes messages of this size at most, headers included.
fn world(max_payload: usize, greets: bool) -> World {
    let mut hub = Hub::new(false);
    (hub.max_payload, hub.greets) = (max_payload, greets);
    World::with(hub)
}

fn text(world: &World, kind: AlarmKind) -> &str {
    &world.raised.iter().find(|alarm| alarm.kind == kind).unwrap().text
}

#[test]
fn what_the_hubs_greeting_allows_bounds_the_first_message_already() {
    let mut world = world(9_000, true);
    world.link_up();
    world.append(60, 1_000);
    world.run_secs(60);
    assert_eq!((world.backlog(), world.uplink.counters().timeouts), (0, 0));
    assert!(world.sent.iter().all(|publish| publish.bytes <= 9_000 - 512));
}

#[test]
fn without_a_greeting_messages_that_get_no_answer_are_made_smaller_until_they_do() {
    let mut world = world(9_000, false);
    world.link_up();
    world.append(60, 1_000);
    world.run_secs(300);
    let epoch = world.epoch();
    assert_eq!(world.at_hub(epoch), (0..60).collect::<Vec<_>>());
    let counters = *world.uplink.counters();
    assert!(counters.cut_smaller > 0);
    // Each larger message would close the link again.
    for _ in 0..50 {
        world.append(40, 1_000);
        world.run_secs(5);
    }
    assert_eq!(world.uplink.counters().timeouts, counters.timeouts);
    assert_eq!(world.backlog(), 0);
}

#[test]
fn a_hub_that_takes_less_than_before_is_asked_after_one_message_without_an_answer() {
    let mut world = world(1 << 20, true).started();
    world.hub.max_payload = 9_000;
    world.append(60, 1_000);
    world.run_secs(60);
    assert_eq!((world.backlog(), world.uplink.counters().timeouts), (0, 1));
    let epoch = world.epoch();
    assert_eq!(world.at_hub(epoch), (0..=60).collect::<Vec<_>>());
}

#[test]
fn a_frame_larger_than_the_hub_takes_is_never_sent_and_goes_by_itself_once_it_fits() {
    let mut world = world(9_000, true).started();
    let sent = world.sent.len();
    world.append(1, 20_000);
    world.run_secs(600);
    assert_eq!(world.sent.len(), sent);
    let said = text(&world, AlarmKind::TooLarge);
    assert!(said.contains("max_payload 9000 of the hub") && said.contains("20512"), "{said}");
    world.hub.max_payload = 40_000;
    world.run_secs(30);
    assert_eq!(world.backlog(), 0);
    assert!(world.cleared.contains(&AlarmKind::TooLarge));
}

#[test]
fn a_frame_that_gets_no_answer_while_questions_do_is_an_alarm_that_names_its_size() {
    let mut world = world(9_000, false).started();
    world.append(1, 20_000);
    world.run_secs(300);
    let said = text(&world, AlarmKind::Unanswered);
    assert!(said.contains("20000 bytes") && said.contains("20512"), "{said}");
    let state = world.uplink.status(world.now, &world.journal).state;
    assert_eq!(state, State::Blocked(AlarmKind::Unanswered));
    let raised = world.raised.iter().filter(|alarm| alarm.kind == AlarmKind::Unanswered).count();
    assert_eq!(raised, 1);
    world.hub.max_payload = 40_000;
    world.run_secs(120);
    assert_eq!(world.backlog(), 0);
    assert!(world.cleared.contains(&AlarmKind::Unanswered));
}

#[test]
fn a_wan_that_swallows_everything_makes_no_message_smaller_and_no_alarm_about_messages() {
    let mut world = World::new().started();
    world.append(10, 1_500);
    world.run(Duration::from_millis(2_001));
    for _ in 0..6 {
        // Each time it goes silent as soon as a message is under way.
        world.hub.silent = true;
        world.run_secs(600);
        world.hub.silent = false;
        let sent = world.sent.len();
        let patience = world.now + Duration::from_secs(600);
        while world.sent.len() == sent && world.now < patience {
            world.run(Duration::from_millis(1));
        }
    }
    assert!(!world.has_raised(AlarmKind::Unanswered));
    world.run_secs(120);
    assert_eq!((world.backlog(), world.uplink.counters().halved), (0, 0));
}

#[test]
fn frames_that_are_dropped_without_a_word_are_a_missing_right_and_not_a_matter_of_size() {
    let mut world = World::new().started();
    world.hub.forbids = true;
    world.append(3, 400);
    world.run_secs(20);
    assert!(text(&world, AlarmKind::NoPermission).contains("tide.PlantA.gw-1.*.frames"));
    let state = world.uplink.status(world.now, &world.journal).state;
    assert_eq!(state, State::Blocked(AlarmKind::NoPermission));
    let sent = world.sent.len();
    world.run_secs(600);
    assert!(!world.has_raised(AlarmKind::Unanswered));
    assert_eq!(world.sent.len(), sent, "the test goes first from now on");
    world.hub.forbids = false;
    world.run_secs(60);
    assert_eq!(world.backlog(), 0);
    assert!(world.cleared.contains(&AlarmKind::NoPermission));
}

#[test]
fn a_test_that_goes_down_with_the_link_is_no_missing_right() {
    let mut world = World::new().started();
    world.hub.forbids = true;
    world.append(3, 400);
    for round in 0..5 {
        let patience = world.now + Duration::from_secs(600);
        while world.tests == round && world.now < patience {
            world.run(Duration::from_millis(1));
        }
        assert!(world.tests > round, "nothing was tested");
        world.hub.silent = true;
        world.run_secs(300);
        world.hub.silent = false;
    }
    assert!(!world.has_raised(AlarmKind::NoPermission), "{:?}", world.raised);
}

#[test]
fn jetstream_that_is_off_and_a_full_account_are_told_apart_from_a_full_stream() {
    let cases = [
        (10_039, "JetStream not enabled for account", AlarmKind::NoJetStream),
        (10_076, "JetStream not enabled", AlarmKind::NoJetStream),
        (10_002, "resource limits exceeded for account", AlarmKind::StreamFull),
        (10_077, "maximum messages exceeded", AlarmKind::StreamFull),
    ];
    for (code, description, kind) in cases {
        let mut world = World::new().started();
        world.fates = vec![Fate::RequestLost];
        world.append(1, 400);
        world.run(Duration::from_millis(2_001));
        let publish = world.sent.last().unwrap().clone();
        let outcome = Outcome::Refused { code, description: description.into() };
        world.tell(Event::Reply { ticket: publish.ticket, attempt: 1, outcome });
        assert!(world.has_raised(kind), "{code}: {:?}", world.raised);
        world.run_secs(60);
        assert!(world.cleared.contains(&kind), "{code}");
        assert_eq!(world.backlog(), 0);
    }
}

#[test]
fn a_stream_that_decides_nothing_is_an_alarm_and_one_that_is_deciding_is_none() {
    for (replies, raised) in [(2, false), (3, true)] {
        let mut world = World::new().started();
        world.fates = vec![Fate::RequestLost; replies];
        world.append(1, 400);
        let mut told = 0;
        while told < replies {
            world.run(Duration::from_millis(10));
            let publish = world.sent.last().unwrap().clone();
            if usize::try_from(publish.attempt).unwrap() == told + 1 && world.sent.len() > 1 {
                told += 1;
                let outcome = Outcome::Refused {
                    code: 10_158,
                    description: "duplicate message id is in process".into(),
                };
                let (ticket, attempt) = (publish.ticket, publish.attempt);
                world.tell(Event::Reply { ticket, attempt, outcome });
            }
        }
        assert_eq!(world.has_raised(AlarmKind::Unanswered), raised, "after {replies}");
        world.run_secs(60);
        assert_eq!(world.backlog(), 0);
        assert_eq!(world.cleared.contains(&AlarmKind::Unanswered), raised);
    }
}

#[test]
fn a_leader_without_followers_that_answers_questions_only_is_no_matter_of_rights_or_size() {
    let mut world = World::new().started();
    world.append(1, 400);
    world.run_secs(10);
    world.hub.forbids = true;
    world.hub.alone = true;
    world.append(1, 400);
    world.run_secs(120);
    assert!(text(&world, AlarmKind::Unanswered).contains("decides nothing"));
    assert!(!world.has_raised(AlarmKind::NoPermission));
    world.hub.forbids = false;
    world.hub.alone = false;
    world.run_secs(60);
    assert_eq!(world.backlog(), 0);
}

#[test]
fn a_stream_that_decides_nothing_and_then_answers_nothing_is_named_all_the_same() {
    let mut world = World::new().started();
    world.fates = vec![Fate::RequestLost; 9];
    world.append(1, 400);
    world.run(Duration::from_millis(2_001));
    let publish = world.sent.last().unwrap().clone();
    let description = "duplicate message id is in process".into();
    let outcome = Outcome::Refused { code: 10_158, description };
    world.tell(Event::Reply { ticket: publish.ticket, attempt: 1, outcome });
    world.run_secs(20);
    assert!(text(&world, AlarmKind::Unanswered).contains("decides nothing"));
}

#[test]
fn a_hub_that_refuses_at_first_and_then_falls_silent_is_named_within_two_minutes() {
    let mut world = World::new().started();
    world.fates = vec![Fate::NoResponders; 2];
    world.hub.full = true;
    world.append(1, 400);
    world.run_secs(40);
    world.hub.full = false;
    world.hub.silent = true;
    world.run_secs(120);
    assert!(world.has_raised(AlarmKind::HubSilent), "{:?}", world.raised);
}

#[test]
fn somebody_else_with_our_name_who_is_answered_is_found_within_seconds() {
    let mut world = World::new().started();
    world.run_secs(60);
    let asked = world.infos_asked;
    world.hub.others_write(1, epoch(0x77));
    world.tell(Event::Overheard);
    world.run_secs(1);
    assert_eq!(world.infos_asked, asked + 1);
    assert!(world.has_raised(AlarmKind::TwoEpochs));
}

#[test]
fn an_answer_to_an_earlier_run_of_ours_is_no_second_gateway_and_asks_little() {
    let mut world = World::new().started();
    world.run_secs(60);
    let asked = world.infos_asked;
    for _ in 0..1_000 {
        world.tell(Event::Overheard);
        world.run(Duration::from_millis(100));
    }
    assert!(world.infos_asked - asked <= 21, "{}", world.infos_asked - asked);
    assert!(!world.has_raised(AlarmKind::TwoEpochs));
}

#[test]
fn a_second_gateway_that_goes_on_is_asked_about_seldom_once_it_is_known() {
    let mut world = World::new().started();
    world.hub.others_write(1, epoch(0x77));
    world.run_secs(60);
    world.tell(Event::Overheard);
    world.run_secs(10);
    let asked = world.infos_asked;
    for _ in 0..600 {
        world.hub.others_write(1, epoch(0x77));
        world.tell(Event::Overheard);
        world.run_secs(1);
    }
    assert!(world.infos_asked - asked <= 3, "{}", world.infos_asked - asked);
    let raised = world.raised.iter().filter(|alarm| alarm.kind == AlarmKind::TwoEpochs).count();
    assert_eq!(raised, 1);
}
