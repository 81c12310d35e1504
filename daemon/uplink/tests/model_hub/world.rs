//! The gateway, the WAN and the hub on one simulated clock.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_journal::{Epoch, Position};
use tidegate_uplink::{
    Action, Alarm, AlarmKind, Cursor, Event, HeadAnswer, Memory, Outcome, Publish, RequestFailure,
    RewindReason, Settings, Uplink,
};

use super::hub::{Copy, DOMAIN, GATEWAY, Hub, STREAM};
use super::journal::Journal;

/// One way across the WAN.
pub const HOP: Duration = Duration::from_millis(20);

#[derive(Debug, Clone)]
enum Due {
    /// A copy reaches the hub; its answer goes back unless it is lost.
    Arrive {
        publish: Publish,
        copy: Copy,
        answer: bool,
    },
    Tell(Event),
    Info {
        limits: bool,
    },
    Head(Epoch),
    Test,
}

/// What happens to the next transmissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    AckLost,
    RequestLost,
    /// Arrives, and answers, this many milliseconds late.
    Late(u32),
    /// Two copies arrive.
    Twice,
    /// The link closes, with or without the message having arrived.
    Cut {
        stored: bool,
    },
    /// A local stream on an overlapping subject answers first.
    ForeignAck,
    NoResponders,
}

pub struct World {
    pub now: Duration,
    pub hub: Hub,
    pub journal: Journal,
    pub uplink: Uplink,
    due: BTreeMap<(Duration, u64), Due>,
    next: u64,
    wake: Duration,
    pub link: bool,
    /// Copies of one link arrive in the order in which they were sent, as over TCP.
    last_arrival: Duration,
    pub max_payload: usize,
    pub fates: Vec<Fate>,
    pub stale_by: usize,
    /// Bytes of the message under way, as the shell keeps them.
    payload: Option<(u64, Vec<Position>)>,
    pub settings: Settings,
    pub sent: Vec<Publish>,
    pub delivered: Vec<Cursor>,
    pub rewinds: Vec<(Epoch, u64, RewindReason)>,
    pub lost: Vec<(Epoch, Option<u64>, u64)>,
    pub forks: Vec<(Epoch, Option<Position>)>,
    pub raised: Vec<Alarm>,
    pub cleared: Vec<AlarmKind>,
    pub heads_asked: usize,
    pub tests: usize,
    pub infos_asked: usize,
    /// Of runs before the last start.
    pub repeated_past_foreign: u64,
    second: (u64, u32, u32),
}

impl World {
    pub fn new() -> Self {
        Self::with(Hub::new(false))
    }

    pub fn with(hub: Hub) -> Self {
        let settings = Settings::new(GATEWAY.into(), STREAM.into(), DOMAIN.into(), 1);
        Self {
            now: Duration::ZERO,
            hub,
            journal: Journal::new(),
            uplink: Uplink::new(settings.clone(), Memory::default()),
            due: BTreeMap::new(),
            next: 0,
            wake: Duration::ZERO,
            link: false,
            last_arrival: Duration::ZERO,
            max_payload: 1 << 20,
            fates: Vec::new(),
            stale_by: 1,
            payload: None,
            settings,
            sent: Vec::new(),
            delivered: Vec::new(),
            rewinds: Vec::new(),
            lost: Vec::new(),
            forks: Vec::new(),
            raised: Vec::new(),
            cleared: Vec::new(),
            heads_asked: 0,
            tests: 0,
            infos_asked: 0,
            repeated_past_foreign: 0,
            second: (0, 0, 0),
        }
    }

    fn at(&mut self, at: Duration, due: Due) {
        self.next += 1;
        self.due.insert((at, self.next), due);
    }

    fn arrive(&mut self, at: Duration, due: Due) {
        self.last_arrival = at;
        self.at(at, due);
    }

    pub fn link_up(&mut self) {
        if !self.link {
            self.link = true;
            let max_payload = self.max_payload;
            self.tell(Event::LinkUp { max_payload });
        }
    }

    /// Whatever is on the way is gone with the connection.
    pub fn link_down(&mut self) {
        if self.link {
            self.link = false;
            self.last_arrival = self.now;
            self.due.clear();
            self.tell(Event::LinkDown);
        }
    }

    pub fn append(&mut self, frames: usize, bytes: usize) {
        self.journal.append(frames, bytes);
        self.tell(Event::NewDurable);
    }

    /// The process ends in good order and starts again with what was kept.
    pub fn restart(&mut self) {
        self.journal.save();
        self.start_again();
    }

    /// The process is killed; `true` when it had not kept yet what it had sent.
    pub fn crash(&mut self) -> bool {
        let forgets = self.journal.memory.ends != self.journal.durable_ends;
        self.journal.memory.ends.clone_from(&self.journal.durable_ends);
        self.start_again();
        forgets
    }

    fn start_again(&mut self) {
        self.settings.incarnation += 1;
        self.repeated_past_foreign += self.uplink.counters().repeated_past_foreign;
        let cursors = self.journal.logs.iter().filter_map(|log| log.cursor.clone()).collect();
        let remembered = Memory { cursors, ends: self.journal.memory.ends.clone() };
        self.uplink = Uplink::new(self.settings.clone(), remembered);
        self.due.retain(|_, due| matches!(due, Due::Arrive { .. }));
        for due in self.due.values_mut() {
            if let Due::Arrive { answer, .. } = due {
                *answer = false;
            }
        }
        self.payload = None;
        if self.link {
            let max_payload = self.max_payload;
            self.tell(Event::LinkUp { max_payload });
        }
    }

    pub fn tell(&mut self, event: Event) {
        let is_tick = event == Event::Tick;
        let actions = self.uplink.handle(event, self.now, &self.journal);
        let second = self.now.as_secs();
        if self.second.0 != second {
            self.second = (second, 0, 0);
        }
        self.second.1 += u32::try_from(actions.len()).unwrap() - 1;
        self.second.2 += u32::from(is_tick);
        assert!(self.second.1 < 250, "{} actions within second {second}", self.second.1);
        assert!(self.second.2 < 60, "{} ticks within second {second}", self.second.2);
        assert!(matches!(actions.last(), Some(Action::WaitUntil(_))));
        for action in actions {
            self.perform(action);
        }
    }

    fn perform(&mut self, action: Action) {
        let back = self.now + HOP * 2;
        match action {
            Action::WaitUntil(at) => {
                assert!(at > self.now, "a wait that is over before it begins");
                self.wake = at;
            }
            Action::Publish(publish) => self.publish(publish),
            Action::AskInfo { limits, .. } => {
                self.infos_asked += 1;
                if self.link {
                    self.at(back, Due::Info { limits });
                } else {
                    self.nobody(Event::InfoFailed(RequestFailure::NoResponders));
                }
            }
            Action::AskHead { epoch, .. } => {
                self.heads_asked += 1;
                if self.link {
                    self.at(back, Due::Head(epoch));
                } else {
                    let answer = HeadAnswer::Failed(RequestFailure::NoResponders);
                    self.nobody(Event::Head { epoch, answer });
                }
            }
            Action::TestFrames { .. } => {
                self.tests += 1;
                if self.link {
                    self.at(back, Due::Test);
                } else {
                    self.nobody(Event::Tested { answered: false });
                }
            }
            Action::Delivered(cursor) => {
                let key = (cursor.stream_seq, cursor.epoch, cursor.up_to.frame);
                assert!(self.hub.ledger.contains(&key), "the leader never had {key:?}");
                let log = self.journal.log(cursor.epoch);
                log.delivered_below = cursor.up_to.frame + 1;
                self.journal.keep(cursor.clone());
                self.delivered.push(cursor);
            }
            Action::Suspect(cursor) => self.journal.keep(cursor),
            Action::Sent(end) => self.journal.memory.note_sent(end),
            Action::Rewind { epoch, to_frame, reason } => {
                self.journal.log(epoch).delivered_below = to_frame;
                self.rewinds.push((epoch, to_frame, reason));
            }
            Action::HubLost { epoch, after, last_frame } => {
                let first = after.map_or(0, |after| after.frame + 1);
                let log = self.journal.log(epoch);
                for frame in first..=last_frame {
                    assert!(!log.kept.contains_key(&frame), "frame {frame} is kept, not lost");
                }
                log.lost_at_hub.extend(first..=last_frame);
                self.lost.push((epoch, after.map(|after| after.frame), last_frame));
            }
            Action::Fork { epoch, common } => {
                self.forks.push((epoch, common));
                self.journal.fork(epoch, common);
                self.at(self.now, Due::Tell(Event::NewDurable));
            }
            Action::Raise(alarm) => {
                assert!(alarm.text.len() > 40, "an alarm that says nothing: {}", alarm.text);
                self.raised.push(alarm);
            }
            Action::Clear(kind) => self.cleared.push(kind),
        }
    }

    fn nobody(&mut self, event: Event) {
        self.at(self.now + Duration::from_millis(1), Due::Tell(event));
    }

    fn publish(&mut self, publish: Publish) {
        let (ticket, attempt) = (publish.ticket, publish.attempt);
        let frames: Vec<_> = match &self.payload {
            Some((of, frames)) if *of == ticket => frames.clone(),
            _ => {
                let log = self.journal.log(publish.epoch);
                (publish.first_frame..=publish.last_frame).map(|n| log.kept[&n].at).collect()
            }
        };
        if let Some(before) = self.sent.iter().rev().find(|sent| sent.ticket == ticket)
            && before.attempt < attempt
        {
            let unchanged = Publish { attempt, deadline: publish.deadline, ..before.clone() };
            assert_eq!(publish, unchanged, "a repeat must be unchanged");
        }
        self.payload = Some((ticket, frames.clone()));
        self.sent.push(publish.clone());
        let copy = Copy {
            epoch: publish.epoch,
            frames,
            bytes: publish.bytes,
            expected: publish.expected_last_seq,
            msg_id: publish.msg_id.clone(),
        };
        if !self.link {
            let outcome = Outcome::NoResponders;
            return self.nobody(Event::Reply { ticket, attempt, outcome });
        }
        let arrival = (self.now + HOP).max(self.last_arrival);
        let due = Due::Arrive { publish, copy: copy.clone(), answer: true };
        match (!self.fates.is_empty()).then(|| self.fates.remove(0)) {
            None => self.arrive(arrival, due),
            Some(Fate::AckLost) => {
                let Due::Arrive { publish, copy, .. } = due else { return };
                self.arrive(arrival, Due::Arrive { publish, copy, answer: false });
            }
            Some(Fate::RequestLost) => {}
            Some(Fate::Late(ms)) => self.arrive(arrival + Duration::from_millis(ms.into()), due),
            Some(Fate::Twice) => {
                self.arrive(arrival, due.clone());
                self.arrive(arrival + HOP * 3, due);
            }
            Some(Fate::Cut { stored }) => {
                if stored {
                    let _ = self.hub.publish(&copy);
                }
                // The connection closes while the message is on its way.
                self.at(self.now + HOP, Due::Tell(Event::LinkDown));
            }
            Some(Fate::ForeignAck) => {
                let outcome = Outcome::Ack {
                    stream: "LOCAL".into(),
                    domain: None,
                    seq: 1_000_000,
                    duplicate: false,
                };
                self.nobody(Event::Reply { ticket, attempt, outcome });
            }
            Some(Fate::NoResponders) => {
                let outcome = Outcome::NoResponders;
                self.nobody(Event::Reply { ticket, attempt, outcome });
            }
        }
    }

    fn happen(&mut self, due: Due) {
        if self.hub.silent && !matches!(due, Due::Tell(_)) {
            return;
        }
        match due {
            Due::Arrive { publish, copy, answer } => {
                if copy.bytes + 230 > self.hub.max_payload || self.hub.forbids {
                    return;
                }
                let outcome = self.hub.publish(&copy);
                if answer {
                    let (ticket, attempt) = (publish.ticket, publish.attempt);
                    let reply = Event::Reply { ticket, attempt, outcome };
                    self.at(self.now + HOP, Due::Tell(reply));
                }
            }
            Due::Tell(Event::LinkDown) => {
                self.link_down();
            }
            Due::Tell(event) => self.tell(event),
            Due::Info { limits } => match self.hub.info(true, limits) {
                Ok(info) => self.tell(Event::Info(info)),
                Err(failure) => self.tell(Event::InfoFailed(failure)),
            },
            Due::Test if self.hub.forbids => {}
            Due::Test => self.tell(Event::Tested { answered: true }),
            Due::Head(epoch) => {
                let answer = self.hub.head(epoch, self.stale_by);
                self.tell(Event::Head { epoch, answer });
            }
        }
    }

    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let due = self.due.first_key_value().map(|((at, _), _)| *at);
            let next = due.map_or(self.wake, |due| due.min(self.wake));
            if next > end {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            if due == Some(next) {
                let (_, due) = self.due.pop_first().unwrap();
                self.happen(due);
            } else {
                self.tell(Event::Tick);
            }
        }
    }

    pub fn run_secs(&mut self, seconds: u64) {
        self.run(Duration::from_secs(seconds));
    }

    /// Brings the link up, appends a first frame and lets it be delivered.
    pub fn started(mut self) -> Self {
        self.link_up();
        self.append(1, 400);
        self.run_secs(5);
        assert_eq!(self.delivered.len(), 1);
        self
    }

    pub fn backlog(&self) -> u64 {
        self.uplink.status(self.now, &self.journal).backlog.frames
    }

    pub fn epoch(&mut self) -> Epoch {
        self.journal.current().epoch
    }

    /// The numbers of an epoch's frames, in the order of the hub's stream.
    pub fn at_hub(&self, epoch: Epoch) -> Vec<u64> {
        self.hub.frames(epoch).iter().map(|frame| frame.frame).collect()
    }

    pub fn has_raised(&self, kind: AlarmKind) -> bool {
        self.raised.iter().any(|alarm| alarm.kind == kind)
    }
}
