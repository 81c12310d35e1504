//! One rule each, as a sentence.

use std::time::Duration;

use tidegate_journal::Position;
use tidegate_uplink::{AlarmKind, Chain, Event, Memory, Outcome, RewindReason, State, Uplink};

use super::hub::{DOMAIN, Hub};
use super::journal::{epoch, hash};
use super::world::{Fate, World};

#[test]
fn the_remembered_expectation_is_sent_without_a_read() {
    let mut world = World::new().started();
    world.append(1, 400);
    world.run_secs(5);
    assert_eq!(world.sent.iter().map(|p| p.expected_last_seq).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(world.heads_asked, 0);
    world.restart();
    world.append(1, 400);
    world.run_secs(5);
    assert_eq!(world.sent.last().unwrap().expected_last_seq, 2);
    assert_eq!((world.heads_asked, world.backlog()), (0, 0));
}

#[test]
fn a_lost_acknowledgement_is_repeated_unchanged_and_then_found_by_its_hash() {
    let mut world = World::new().started();
    world.fates = vec![Fate::AckLost];
    world.append(1, 400);
    world.run(Duration::from_millis(2_100));
    // What comes meanwhile must not get into the repeat; `World` compares every repeat.
    world.append(3, 400);
    world.run_secs(20);
    assert_eq!(world.uplink.counters().repeats, 1);
    assert_eq!(world.uplink.counters().wrong_last_sequence, 1);
    assert_eq!(world.heads_asked, 1);
    let epoch = world.epoch();
    assert_eq!(world.at_hub(epoch), [0, 1, 2, 3, 4]);
}

#[test]
fn a_replicated_hub_acknowledges_a_repeat_as_duplicate_and_no_read_is_needed() {
    let mut world = World::with(Hub::new(true)).started();
    world.fates = vec![Fate::AckLost];
    world.append(1, 400);
    world.run_secs(20);
    assert_eq!(world.uplink.counters().duplicate_acks, 1);
    assert_eq!((world.heads_asked, world.backlog()), (0, 0));
}

#[test]
fn a_refusal_alone_never_means_stored() {
    let mut world = World::new().started();
    // Nothing of ours arrived, and somebody else's message stands there.
    let epoch = world.epoch();
    world.hub.foreign(epoch);
    world.append(1, 400);
    world.run_secs(10);
    assert_eq!(world.at_hub(epoch), [0, 1]);
    assert_eq!(world.uplink.counters().foreign_messages, 1);
    assert!(world.has_raised(AlarmKind::ForeignMessage));
    assert_eq!(world.sent.last().unwrap().expected_last_seq, 2, "stepped over, not resent at 1");
}

#[test]
fn an_acknowledgement_of_another_stream_is_an_alarm_and_resolves_nothing() {
    let mut world = World::new().started();
    world.fates = vec![Fate::ForeignAck];
    world.append(1, 400);
    world.run(Duration::from_millis(2_200));
    assert!(world.has_raised(AlarmKind::WrongHub));
    assert_eq!(world.delivered.len(), 1);
    world.run_secs(20);
    assert_eq!((world.delivered.len(), world.backlog()), (2, 0));
    assert!(world.cleared.contains(&AlarmKind::WrongHub));
}

#[test]
fn an_acknowledgement_of_our_stream_in_another_domain_resolves_nothing() {
    let mut world = World::new().started();
    world.hub.domain = "elsewhere".into();
    world.append(1, 400);
    world.run_secs(30);
    assert_eq!(world.delivered.len(), 1);
    assert!(world.has_raised(AlarmKind::WrongHub));
}

#[test]
fn another_domain_in_info_is_waited_out_and_nothing_is_sent_or_sent_again() {
    let mut world = World::new().started();
    world.link_down();
    world.hub.domain = "elsewhere".into();
    world.hub.recreate();
    world.link_up();
    let sent = world.sent.len();
    world.append(3, 400);
    world.run_secs(120);
    assert_eq!(world.sent.len(), sent);
    assert!(world.rewinds.is_empty());
    assert_eq!(
        world.uplink.status(world.now, &world.journal).state,
        State::Blocked(AlarmKind::WrongHub)
    );
}

#[test]
fn our_frames_ahead_of_us_are_taken_over_without_sending_them_again() {
    let mut world = World::new().started();
    world.fates = vec![Fate::AckLost];
    world.append(5, 400);
    world.run(Duration::from_millis(2_100));
    world.restart();
    world.run_secs(10);
    let epoch = world.epoch();
    assert_eq!(world.at_hub(epoch), [0, 1, 2, 3, 4, 5]);
    assert_eq!(world.backlog(), 0);
    assert!(world.forks.is_empty());
}

/// Frames 1 to 3 are sent under an acknowledgement that never comes, recording goes on to 9, and
/// the journal has to drop 0 to 5.
fn sent_and_dropped(fate: Fate) -> World {
    let mut world = World::new().started();
    world.fates = vec![fate];
    world.append(3, 400);
    world.run(Duration::from_millis(2_100));
    assert_eq!(world.sent.last().map(|sent| (sent.first_frame, sent.last_frame)), Some((1, 3)));
    world.link_down();
    world.append(6, 400);
    world
}

#[test]
fn our_frames_ahead_of_us_that_the_journal_had_to_drop_are_taken_over_by_the_next_run() {
    let mut world = sent_and_dropped(Fate::AckLost);
    let epoch = world.epoch();
    assert_eq!(world.at_hub(epoch), [0, 1, 2, 3]);
    world.journal.drop_oldest(6);
    assert!(!world.crash(), "a journal that drops frames keeps first what was sent");
    world.link_up();
    world.run_secs(20);
    assert!(world.forks.is_empty() && !world.has_raised(AlarmKind::Fork));
    assert_eq!(world.at_hub(epoch), [0, 1, 2, 3, 6, 7, 8, 9]);
    // The bridge that stands behind it says 1 to 5; what is there overrides it.
    assert!(world.journal.log(epoch).dropped.iter().eq(&[1, 2, 3, 4, 5]));
    assert_eq!((world.heads_asked, world.backlog(), world.lost.len()), (1, 0, 0));
}

#[test]
fn a_clone_inside_the_range_that_the_journal_dropped_is_still_a_fork() {
    // At the end of what was sent, before it, and behind it: only the first is known by its hash.
    for frame in [3, 2, 5] {
        let mut world = sent_and_dropped(Fate::RequestLost);
        let old = world.epoch();
        let last = Position { frame, next_seq: (frame + 1) * 10, hash: hash(old, frame, 2) };
        world.hub.clone_writes(old, last);
        world.journal.drop_oldest(6);
        world.restart();
        world.link_up();
        world.run_secs(20);
        assert_eq!(world.forks.len(), 1, "frame {frame}");
        assert!(world.has_raised(AlarmKind::Fork));
        // The one that names the predecessor, and all that was left.
        let new = world.epoch();
        assert_eq!(world.at_hub(new), [0, 1, 2, 3, 4]);
    }
}

#[test]
fn what_a_killed_run_had_no_time_to_keep_costs_an_epoch_and_no_frame() {
    let mut world = sent_and_dropped(Fate::AckLost);
    assert!(world.crash());
    world.journal.drop_oldest(6);
    world.link_up();
    world.run_secs(20);
    assert_eq!(world.forks.len(), 1);
    let new = world.epoch();
    assert_eq!(world.at_hub(new), [0, 1, 2, 3, 4]);
}

#[test]
fn frames_ahead_of_us_with_another_hash_are_a_fork_and_the_epoch_is_closed() {
    let mut world = World::new().started();
    let old = world.epoch();
    let last = Position { frame: 1, next_seq: 20, hash: hash(old, 1, 2) };
    world.hub.clone_writes(old, last);
    world.append(2, 400);
    world.run_secs(20);
    assert_eq!(world.forks.len(), 1);
    assert_eq!(world.forks[0].1.map(|common| common.frame), Some(0));
    assert!(world.has_raised(AlarmKind::Fork));
    let new = world.epoch();
    assert_ne!(old, new);
    // One frame that names the predecessor, and the two that the hub never had.
    assert_eq!(world.at_hub(new), [0, 1, 2]);
    assert!(world.sent.iter().filter(|p| p.epoch == old).count() <= 2);
}

#[test]
fn a_cursor_beyond_the_journals_end_is_a_fork() {
    let mut world = World::new().started();
    world.append(5, 400);
    world.run_secs(10);
    // The image of an earlier day is put back; only the cursor is newer.
    for frame in 3..=5 {
        world.journal.current().kept.remove(&frame);
    }
    world.restart();
    assert_eq!(world.forks.len(), 1);
}

#[test]
fn messages_that_aged_out_are_no_loss_and_the_server_expects_zero_again() {
    let mut world = World::new().started();
    world.hub.expire(1);
    world.append(1, 400);
    world.run_secs(10);
    let epoch = world.epoch();
    assert_eq!(world.at_hub(epoch), [1]);
    assert_eq!(world.sent.last().unwrap().expected_last_seq, 0);
    assert_eq!(world.uplink.counters().expired, 1);
    assert!(world.rewinds.is_empty() && world.lost.is_empty());
}

#[test]
fn a_purged_stream_is_no_loss() {
    let mut world = World::new().started();
    world.hub.others_write(3, epoch(0xff));
    world.hub.purge();
    world.append(1, 400);
    world.run_secs(10);
    assert!(world.rewinds.is_empty());
    assert_eq!(world.backlog(), 0);
}

#[test]
fn a_hub_that_went_back_gets_everything_again_that_it_lost() {
    let mut world = World::new().started();
    for _ in 0..5 {
        world.append(1, 400);
        world.run_secs(5);
    }
    world.link_down();
    world.hub.roll_back(3);
    world.link_up();
    world.append(1, 400);
    world.run_secs(20);
    let epoch = world.epoch();
    assert_eq!(world.at_hub(epoch), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(world.rewinds, [(epoch, 3, RewindReason::HubBehind)]);
    assert!(world.lost.is_empty());
    assert!(world.has_raised(AlarmKind::HubLostData));
}

#[test]
fn what_the_hub_lost_and_the_journal_no_longer_keeps_is_named() {
    let mut world = World::new().started();
    for _ in 0..5 {
        world.append(1, 400);
        world.run_secs(5);
    }
    world.journal.drop_oldest(5);
    world.link_down();
    world.hub.roll_back(4);
    world.link_up();
    world.append(1, 400);
    world.run_secs(20);
    let epoch = world.epoch();
    // Frames 0 and 1 are still there; 2 to 4 are gone for good; 5 is sent again.
    assert_eq!(world.at_hub(epoch), [0, 1, 5, 6]);
    assert_eq!(world.lost, [(epoch, Some(1), 4)]);
}

#[test]
fn a_lagging_replica_delays_and_never_makes_a_loss() {
    let mut world = World::new().started();
    for _ in 0..3 {
        world.append(1, 400);
        world.run_secs(5);
    }
    world.hub.lagging = true;
    world.stale_by = 3;
    world.fates = vec![Fate::AckLost];
    world.append(1, 400);
    world.run_secs(60);
    assert!(world.uplink.counters().stale_reads > 0);
    assert_eq!((world.delivered.len(), world.backlog()), (4, 1));
    world.hub.lagging = false;
    world.run_secs(60);
    assert_eq!(world.backlog(), 0);
    assert!(world.rewinds.is_empty() && world.lost.is_empty() && world.forks.is_empty());
    let epoch = world.epoch();
    assert_eq!(world.at_hub(epoch), [0, 1, 2, 3, 4]);
}

#[test]
fn a_loss_is_on_record_only_after_the_leader_took_the_lower_expectation() {
    let mut world = World::new().started();
    world.append(1, 400);
    world.run_secs(5);
    world.journal.drop_oldest(1);
    world.link_down();
    world.hub.roll_back(2);
    world.link_up();
    world.hub.full = true;
    world.append(1, 400);
    world.run_secs(60);
    assert!(world.rewinds.is_empty() && world.lost.is_empty());
    // Kept durably all the same, for a start in between.
    assert!(world.journal.current().cursor.as_ref().unwrap().suspicion.is_some());
    world.hub.full = false;
    world.run_secs(60);
    assert_eq!((world.rewinds.len(), world.lost.len()), (1, 1));
    assert!(world.journal.current().cursor.as_ref().unwrap().suspicion.is_none());
}

#[test]
fn a_start_between_a_resend_and_its_acknowledgement_takes_nothing_for_granted() {
    let mut world = World::new();
    world.link_up();
    world.append(5, 400);
    world.run_secs(5);
    world.journal.drop_oldest(1);
    world.link_down();
    world.hub.roll_back(1);
    world.link_up();
    world.append(2, 400);
    world.run(Duration::from_millis(2_020));
    world.fates = vec![Fate::Cut { stored: true }];
    world.run(Duration::from_millis(130));
    let epoch = world.epoch();
    // The hub gave the sequence of the lost message to the message that was sent again.
    assert_eq!(world.at_hub(epoch), [1, 2, 3, 4, 5, 6]);
    world.restart();
    world.link_up();
    world.run_secs(20);
    assert_eq!(world.at_hub(epoch), [1, 2, 3, 4, 5, 6]);
    assert_eq!(world.lost, [(epoch, None, 0)]);
}

#[test]
fn a_stream_made_anew_gets_everything_that_is_kept() {
    let mut world = World::new().started();
    world.append(4, 400);
    world.run_secs(5);
    world.journal.drop_oldest(2);
    world.link_down();
    world.hub.recreate();
    world.link_up();
    world.append(1, 400);
    world.run_secs(20);
    let epoch = world.epoch();
    assert_eq!(world.at_hub(epoch), [2, 3, 4, 5]);
    assert_eq!(world.rewinds, [(epoch, 2, RewindReason::Recreated)]);
    assert_eq!(world.lost, [(epoch, None, 1)]);
}

#[test]
fn a_message_resent_after_a_deletion_is_not_lost_to_the_dedupe_window() {
    for replicated in [false, true] {
        let mut world = World::with(Hub::new(replicated)).started();
        world.append(1, 400);
        world.run_secs(5);
        let epoch = world.epoch();
        // Others keep the stream's first sequence below ours, so this is a loss, not an expiry.
        world.hub.delete_last(epoch);
        world.append(1, 400);
        world.run_secs(30);
        assert_eq!(world.at_hub(epoch), [0, 1, 2], "replicated: {replicated}");
    }
}

#[test]
fn the_oldest_epoch_is_delivered_first() {
    let mut world = World::new();
    world.append(30, 4_000);
    let old = world.epoch();
    let new = world.journal.begin_epoch();
    world.append(2, 400);
    world.link_up();
    world.run_secs(30);
    let order: Vec<_> = world.sent.iter().map(|publish| publish.epoch).collect();
    let first_new = order.iter().position(|e| *e == new).unwrap();
    assert!(order[..first_new].iter().all(|e| *e == old));
    assert!(order[first_new..].iter().all(|e| *e == new));
    assert_eq!(world.backlog(), 0);
}

#[test]
fn a_former_epoch_that_the_hub_lost_is_found_when_the_link_opens() {
    let mut world = World::new().started();
    let old = world.epoch();
    world.journal.begin_epoch();
    world.link_down();
    world.hub.roll_back(1);
    world.link_up();
    world.append(1, 400);
    world.run_secs(20);
    assert_eq!(world.at_hub(old), [0]);
    assert_eq!(world.rewinds.len(), 1);
}

#[test]
fn a_former_epoch_that_the_hub_lost_is_found_although_the_own_link_stayed_open() {
    let mut world = World::new().started();
    let old = world.epoch();
    world.journal.begin_epoch();
    world.append(1, 400);
    world.run_secs(5);
    // The hub is away while a message is under way, and comes back as it was before both.
    world.hub.silent = true;
    world.append(1, 400);
    world.run_secs(20);
    world.hub.roll_back(2);
    world.hub.silent = false;
    world.run_secs(60);
    let new = world.epoch();
    assert_eq!((world.at_hub(old), world.at_hub(new)), (vec![0], vec![0, 1]));
    let sent_again = world.delivered.iter().rev().take(2).map(|cursor| cursor.epoch);
    assert_eq!(sent_again.collect::<Vec<_>>(), [new, old], "former epochs come first");
}

#[test]
fn when_one_epoch_is_behind_former_ones_are_looked_at_before_anything_is_sent_again() {
    let mut world = World::new().started();
    let old = world.epoch();
    world.journal.begin_epoch();
    world.append(1, 400);
    world.run_secs(5);
    // So quickly that nothing went unanswered.
    world.hub.roll_back(2);
    world.append(1, 400);
    world.run_secs(60);
    let new = world.epoch();
    assert_eq!((world.at_hub(old), world.at_hub(new)), (vec![0], vec![0, 1]));
    let sent_again = world.delivered.iter().rev().take(2).map(|cursor| cursor.epoch);
    assert_eq!(sent_again.collect::<Vec<_>>(), [new, old]);
}

#[test]
fn a_former_epoch_is_looked_after_when_only_nobody_listened_for_a_moment() {
    let mut world = World::new().started();
    let old = world.epoch();
    world.journal.begin_epoch();
    world.append(1, 400);
    world.run_secs(5);
    world.hub.delete_last(old);
    world.fates = vec![Fate::NoResponders];
    world.append(1, 400);
    world.run_secs(30);
    assert_eq!(world.at_hub(old), [0]);
}

#[test]
fn another_epoch_that_grows_is_an_alarm() {
    let mut world = World::new().started();
    world.hub.others_write(1, epoch(0x77));
    world.run_secs(400);
    world.hub.others_write(1, epoch(0x77));
    world.run_secs(400);
    assert!(world.has_raised(AlarmKind::TwoEpochs));
}

#[test]
fn an_epoch_of_former_times_that_does_not_grow_is_no_alarm() {
    let mut world = World::new();
    world.hub.others_write(5, epoch(0x77));
    let mut world = world.started();
    world.run_secs(2_000);
    assert!(!world.has_raised(AlarmKind::TwoEpochs));
}

#[test]
fn what_is_not_full_waits_for_its_time_and_what_is_full_goes_at_once() {
    let mut world = World::new().started();
    let sent = world.sent.len();
    world.append(1, 400);
    world.run(Duration::from_millis(1_900));
    world.append(1, 400);
    assert_eq!(world.sent.len(), sent);
    world.run(Duration::from_millis(200));
    assert_eq!(world.sent.len(), sent + 1);
    assert_eq!(world.sent[sent].last_frame, 2);
    world.run_secs(1);
    world.append(10, 4_000);
    assert_eq!(world.sent.len(), sent + 2, "a full message does not wait");
}

#[test]
fn a_frame_larger_than_the_hub_takes_blocks_with_both_numbers_and_goes_once_it_fits() {
    let mut world = World::new().started();
    world.hub.max_msg_size = Some(10_000);
    world.link_down();
    world.link_up();
    let sent = world.sent.len();
    world.append(1, 20_000);
    world.run_secs(600);
    assert_eq!(world.sent.len(), sent);
    let alarm = world.raised.iter().find(|alarm| alarm.kind == AlarmKind::TooLarge).unwrap();
    assert!(alarm.text.contains("20000") && alarm.text.contains("max_msg_size 10000"), "{alarm:?}");
    world.hub.max_msg_size = Some(40_000);
    world.run_secs(120);
    assert_eq!(world.backlog(), 0);
    assert!(world.cleared.contains(&AlarmKind::TooLarge));
}

#[test]
fn the_hubs_limits_bound_a_message_of_several_frames() {
    let mut world = World::new();
    world.hub.max_msg_size = Some(9_000);
    world.max_payload = 7_000;
    world.link_up();
    world.append(40, 1_000);
    world.run_secs(30);
    assert_eq!(world.backlog(), 0);
    assert!(world.sent.iter().all(|publish| publish.bytes <= 7_000 - 512));
}

#[test]
fn a_message_grows_to_the_largest_on_a_fast_link() {
    let mut world = World::new();
    world.link_up();
    world.append(600, 4_000);
    world.run_secs(60);
    let largest = world.sent.iter().map(|publish| publish.bytes).max().unwrap();
    assert!((250_000..=256 * 1024).contains(&largest), "{largest}");
    assert_eq!(world.backlog(), 0);
}

#[test]
fn two_timeouts_with_a_link_close_cut_the_message_under_the_same_expectation_and_another_id() {
    let mut world = World::new().started();
    world.fates = vec![Fate::RequestLost, Fate::Cut { stored: false }];
    world.append(10, 1_500);
    world.run_secs(10);
    world.link_up();
    world.run_secs(10);
    let counters = world.uplink.counters();
    assert_eq!((counters.halved, counters.cut_smaller), (1, 1));
    let whole = &world.sent[1];
    let cut = world.sent.iter().find(|p| p.ticket > whole.ticket).unwrap();
    assert!(cut.bytes < whole.bytes && cut.expected_last_seq == whole.expected_last_seq);
    assert_ne!(cut.msg_id, whole.msg_id);
    let epoch = world.epoch();
    assert_eq!(world.at_hub(epoch), (0..=10).collect::<Vec<_>>());
}

#[test]
fn nobody_listening_is_retried_with_one_message_and_growing_waits() {
    let mut world = World::new().started();
    world.fates = vec![Fate::NoResponders; 200];
    let before = world.sent.len();
    world.append(50, 4_000);
    world.run_secs(120);
    let tries = &world.sent[before..];
    assert!((5..20).contains(&tries.len()), "{} tries in two minutes", tries.len());
    assert!(tries.iter().all(|publish| publish.ticket == tries[0].ticket));
    assert!(world.has_raised(AlarmKind::NoPermission), "INFO is answered, so the link is up");
}

#[test]
fn each_condition_to_wait_in_is_one_alarm_and_clears_itself() {
    type Set = fn(&mut Hub, bool);
    let conditions: [(AlarmKind, Set); 3] = [
        (AlarmKind::NoStream, |hub, on| hub.no_stream = on),
        (AlarmKind::StreamFull, |hub, on| hub.full = on),
        (AlarmKind::NoPermission, |hub, on| hub.no_permission = on),
    ];
    for (kind, set) in conditions {
        let mut world = World::new().started();
        set(&mut world.hub, true);
        world.append(3, 400);
        world.run_secs(600);
        let raised = world.raised.iter().filter(|alarm| alarm.kind == kind).count();
        assert_eq!(raised, 1, "{kind:?}: {:?}", world.raised);
        assert_eq!(
            world.uplink.status(world.now, &world.journal).state,
            State::Blocked(kind),
            "{kind:?}"
        );
        set(&mut world.hub, false);
        world.run_secs(60);
        assert_eq!(world.backlog(), 0, "{kind:?}");
        assert!(world.cleared.contains(&kind), "{kind:?}");
    }
}

#[test]
fn a_hub_that_does_not_answer_is_an_alarm_while_the_link_is_up() {
    let mut world = World::new();
    let max_payload = world.max_payload;
    // The shell says "up", and the model's WAN is closed.
    world.tell(Event::LinkUp { max_payload });
    world.append(1, 400);
    // A leaf that is just making its link is no news.
    world.run_secs(9);
    assert!(!world.has_raised(AlarmKind::HubSilent));
    world.run_secs(60);
    assert!(world.has_raised(AlarmKind::HubSilent));
    assert!(world.sent.is_empty(), "nothing is sent before the limits are known");
}

#[test]
fn a_closed_link_is_not_used() {
    let mut world = World::new().started();
    world.link_down();
    let sent = world.sent.len();
    world.append(20, 4_000);
    world.run_secs(600);
    assert_eq!(world.sent.len(), sent);
    assert_eq!(world.uplink.status(world.now, &world.journal).state, State::Offline);
    world.link_up();
    world.run_secs(10);
    assert_eq!(world.backlog(), 0);
}

#[test]
fn back_fill_keeps_to_its_rate_and_what_is_new_is_not_held_back() {
    let mut world = World::new();
    world.settings.backfill_limit = Some(20_000);
    world.uplink = Uplink::new(world.settings.clone(), Memory::default());
    world.append(400, 4_000);
    world.link_up();
    world.run_secs(40);
    let sent: usize = world.sent.iter().map(|publish| publish.bytes).sum();
    assert!((700_000..1_150_000).contains(&sent), "{sent} bytes in 40 s");
    let left = world.uplink.drain_estimate(&world.journal).unwrap().as_secs();
    assert!((15..60).contains(&left), "{left} s");
    world.run_secs(120);
    assert_eq!(world.backlog(), 0);
    let before = world.sent.len();
    world.append(1, 400);
    world.run(Duration::from_millis(2_001));
    assert_eq!(world.sent.len(), before + 1);
}

#[test]
fn the_whole_record_keeps_to_its_rate_with_what_is_new_and_what_is_sent_again() {
    let mut world = World::new();
    world.settings.limit = Some(20_000);
    world.uplink = Uplink::new(world.settings.clone(), Memory::default());
    world.append(400, 4_000);
    world.fates = vec![Fate::RequestLost; 3];
    world.link_up();
    world.run_secs(60);
    let sent: usize = world.sent.iter().map(|publish| publish.bytes).sum();
    assert!((900_000..1_350_000).contains(&sent), "{sent} bytes in 60 s");
    world.run_secs(60);
    assert_eq!(world.backlog(), 0);
    // What is new finds the same limit: 60 frames a second of 4 kB are far too many for it.
    let largest = world.sent.iter().map(|publish| publish.bytes).max();
    assert!(largest.is_some_and(|bytes| bytes <= 20_000), "{largest:?}");
    let before: usize = world.sent.iter().map(|publish| publish.bytes).sum();
    for _ in 0..20 {
        world.append(60, 4_000);
        world.run_secs(1);
    }
    let sent = world.sent.iter().map(|publish| publish.bytes).sum::<usize>() - before;
    assert!((200_000..520_000).contains(&sent), "{sent} bytes in 20 s");
}

#[test]
fn a_link_that_is_cut_at_every_message_still_ends_with_each_frame_once() {
    let mut world = World::new().started();
    world.append(60, 3_000);
    for round in 0..40 {
        world.fates = vec![Fate::Cut { stored: round % 3 == 0 }];
        world.link_up();
        world.run_secs(3);
    }
    world.fates.clear();
    world.link_up();
    world.run_secs(60);
    let epoch = world.epoch();
    assert_eq!(world.at_hub(epoch), (0..=60).collect::<Vec<_>>());
}

#[test]
fn frames_that_cannot_be_read_are_given_up_without_forgetting_the_expectation() {
    let mut world = World::new().started();
    world.append(2, 400);
    world.fates = vec![Fate::RequestLost];
    world.run(Duration::from_millis(2_001));
    let (ticket, attempt) = (world.sent[1].ticket, world.sent[1].attempt);
    let outcome = Outcome::Unreadable { why: "frame 1 is damaged".into() };
    world.journal.current().kept.remove(&1);
    world.journal.current().dropped.insert(1);
    world.tell(Event::Reply { ticket, attempt, outcome });
    assert!(world.has_raised(AlarmKind::JournalUnreadable));
    world.run_secs(10);
    let epoch = world.epoch();
    assert_eq!(world.at_hub(epoch), [0, 2]);
    assert!(world.cleared.contains(&AlarmKind::JournalUnreadable));
}

#[test]
fn events_that_no_longer_fit_change_nothing() {
    let mut world = World::new().started();
    let outcome = Outcome::Ack {
        stream: "TIDE".into(),
        domain: Some(DOMAIN.into()),
        seq: 99,
        duplicate: false,
    };
    let epoch = world.epoch();
    for event in [
        Event::Reply { ticket: 1, attempt: 1, outcome: outcome.clone() },
        Event::Reply { ticket: 77, attempt: 3, outcome },
        Event::Head { epoch, answer: tidegate_uplink::HeadAnswer::Empty },
        Event::InfoFailed(tidegate_uplink::RequestFailure::TimedOut),
        Event::LinkDown,
        Event::LinkDown,
        Event::Tick,
    ] {
        let actions = world.uplink.handle(event, world.now, &world.journal);
        assert_eq!(actions.len(), 1, "{actions:?}");
    }
    assert_eq!(world.journal.epochs().len(), 1);
}

#[test]
fn time_that_goes_back_is_taken_as_standing_still() {
    let mut world = World::new().started();
    let actions = world.uplink.handle(Event::Tick, Duration::ZERO, &world.journal);
    assert!(matches!(actions[..], [tidegate_uplink::Action::WaitUntil(at)] if at > world.now));
}

#[test]
fn a_stream_made_anew_under_an_open_link_is_no_expiry_even_when_its_start_has_moved_on() {
    let mut world = World::new().started();
    world.hub.recreate();
    world.hub.others_write(5, epoch(0x77));
    world.hub.expire(5);
    world.append(1, 400);
    world.run_secs(20);
    let epoch = world.epoch();
    assert_eq!(world.at_hub(epoch), [0, 1]);
    assert_eq!(world.rewinds, [(epoch, 0, RewindReason::Recreated)]);
    assert_eq!(world.uplink.counters().expired, 0);
}

#[test]
fn the_very_same_frames_sent_again_after_a_deletion_are_stored_again() {
    for replicated in [false, true] {
        let mut world = World::with(Hub::new(replicated)).started();
        // Each frame fills a message, so the message sent again is the one that was deleted.
        world.append(1, 20_000);
        world.run_secs(5);
        let epoch = world.epoch();
        world.hub.delete_last(epoch);
        world.append(1, 20_000);
        world.run_secs(60);
        assert_eq!(world.at_hub(epoch), [0, 1, 2], "replicated: {replicated}");
        assert_eq!(world.uplink.counters().duplicate_acks, 0);
    }
}

#[test]
fn a_duplicate_acknowledgement_for_a_former_epoch_is_looked_after() {
    let mut world = World::with(Hub::new(true)).started();
    let old = world.epoch();
    world.fates = vec![Fate::AckLost];
    world.append(1, 400);
    world.run(Duration::from_millis(2_100));
    world.hub.delete_last(old);
    world.journal.begin_epoch();
    world.append(1, 400);
    world.run_secs(30);
    assert_eq!(world.uplink.counters().duplicate_acks, 1);
    assert_eq!(world.at_hub(old), [0, 1]);
}

#[test]
fn a_duplicate_acknowledgement_of_a_message_sent_once_is_not_believed() {
    let mut world = World::new().started();
    world.fates = vec![Fate::RequestLost];
    world.append(1, 400);
    world.run(Duration::from_millis(2_001));
    let publish = world.sent.last().unwrap().clone();
    let outcome = Outcome::Ack {
        stream: "TIDE".into(),
        domain: Some(DOMAIN.into()),
        seq: 50,
        duplicate: true,
    };
    world.tell(Event::Reply { ticket: publish.ticket, attempt: 1, outcome });
    assert_eq!(world.delivered.len(), 1);
    world.run_secs(10);
    assert_eq!(world.delivered.len(), 2);
    assert_ne!(world.sent.last().unwrap().msg_id, publish.msg_id);
}

#[test]
fn an_acknowledgement_below_the_expectation_is_not_believed() {
    let mut world = World::new().started();
    world.fates = vec![Fate::RequestLost];
    world.append(1, 400);
    world.run(Duration::from_millis(2_001));
    let publish = world.sent.last().unwrap().clone();
    let (stream, domain) = ("TIDE".into(), Some(DOMAIN.into()));
    let outcome = Outcome::Ack { stream, domain, seq: 1, duplicate: false };
    world.tell(Event::Reply { ticket: publish.ticket, attempt: 1, outcome });
    assert_eq!((world.delivered.len(), world.uplink.counters().foreign_acks), (1, 1));
    world.run_secs(20);
    assert_eq!(world.backlog(), 0);
}
