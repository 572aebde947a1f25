//! The proxy's watch, as the filter has it: one slot per heartbeat, a conversation in each, one roster for all.

use super::{
    network::{Network, PROXY},
    sentinels::{Push, address},
    speech::{Session, message},
    world::{Due, World},
};
use sentinel_core::{
    conversation::{Conversation, Output},
    roster::{Call, Problem, Target},
    time::Timestamp,
    topology::Hold,
};

/// The health checker's intervals: of a connection that answers, and of one that failed.
const INTERVAL: u64 = 20;
const UNHEALTHY_INTERVAL: u64 = 100;
/// `connect_timeout`.
const CONNECT_TIMEOUT: u64 = 1000;

/// One heartbeat connection.
pub struct Slot {
    /// Which connection it is: what belongs to an older one is void.
    number: u64,
    conversation: Conversation,
    /// The Sentinel at the other end, from the moment of the connect.
    pub to: Option<usize>,
    place: String,
    call: Call,
    /// It has waited for others to be answered where it could have dialled.
    impatient: bool,
    heard: bool,
    /// Bytes were lost, so that no more will come.
    broken: bool,
    /// What waits in the socket of a Sentinel that hangs.
    unread: Vec<u8>,
    /// When the last bytes arrive at either end: none overtakes another.
    last: [u64; 2],
    session: Session,
    timer: u64,
}

impl Slot {
    pub fn new(conversation: Conversation) -> Self {
        Self {
            number: 0,
            conversation,
            to: None,
            place: String::new(),
            call: Call::default(),
            impatient: false,
            heard: false,
            broken: false,
            unread: Vec::new(),
            last: [0; 2],
            session: Session::default(),
            timer: 0,
        }
    }

    pub fn stall(&mut self, until: u64) {
        self.last = self.last.map(|last| last.max(until));
    }
}

impl World {
    /// Takes a seat and dials.
    pub fn connect(&mut self, s: usize) {
        let now = Timestamp(self.now);
        let slot = u32::try_from(s).unwrap();
        let patient = !self.slots[s].impatient;
        let target = self.roster(|roster| roster.take(now, slot, true, patient));
        let number = self.slots[s].number + 1;
        self.slots[s] = Slot {
            number,
            call: Call {
                slot,
                ..Call::default()
            },
            impatient: matches!(target, Target::Contended(_)),
            ..Slot::new(Conversation::new(self.settings.clone()))
        };
        let to = match &target {
            Target::Wait(until) | Target::Contended(until) => {
                let until = until.0.max(self.now + 10);
                return self.at(until, Due::Connect(s, number));
            }
            Target::Seed => Some(self.random.index(self.ensemble.all.len().min(3))),
            Target::Sentinel(place) => (0..self.ensemble.all.len()).find(|i| {
                let (host, _) = address(*i, self.ensemble.all[*i].life);
                host == place.host()
            }),
        };
        self.tell(|_| format!("slot {s} connects to {target:?}"));
        if let Target::Sentinel(place) = &target {
            self.slots[s].place = place.to_string();
            self.slots[s].call.dialled = Some(place.clone());
        }
        match to.filter(|i| self.is_served(*i)) {
            Some(i) => {
                let wait = Network::delay(&mut self.random);
                self.after(wait, 1, Due::Connected(s, number, i));
            }
            None => self.after(50, CONNECT_TIMEOUT, Due::Ended(s, number)),
        }
    }

    fn is_served(&self, i: usize) -> bool {
        self.ensemble.all[i].alive && self.network.connected(PROXY, self.network.sentinel(i))
    }

    pub fn connected(&mut self, s: usize, number: u64, i: usize) {
        if self.slots[s].number != number {
            return;
        }
        if !self.is_served(i) {
            return self.after(0, CONNECT_TIMEOUT, Due::Ended(s, number));
        }
        let (host, port) = address(i, self.ensemble.all[i].life);
        let slot = &mut self.slots[s];
        slot.to = Some(i);
        slot.place = format!("{host}:{port}");
        self.heartbeat(s, number);
    }

    pub fn heartbeat(&mut self, s: usize, number: u64) {
        if self.slots[s].number == number {
            self.slots[s].conversation.heartbeat(Timestamp(self.now));
            self.attend(s);
        }
    }

    /// Asks if a poll is due; gives up who has not answered the last one.
    pub fn attend(&mut self, s: usize) {
        let now = Timestamp(self.now);
        let slot = &mut self.slots[s];
        if slot.to.is_none() {
            return;
        }
        match slot
            .conversation
            .check(now)
            .map(|()| slot.conversation.speak(now))
        {
            Err(error) => return self.end(s, Some(&error.to_string())),
            Ok(Some(commands)) => self.send(s, 0, &commands),
            Ok(None) => {}
        }
        let slot = &mut self.slots[s];
        if let Some(due) = slot.conversation.next_due() {
            let (due, number) = (due.0.max(self.now + 10), slot.number);
            if slot.timer <= self.now || due < slot.timer {
                slot.timer = due;
                self.at(due, Due::Slot(s, number));
            }
        }
    }

    pub fn timer(&mut self, s: usize, number: u64) {
        if self.slots[s].number == number {
            self.attend(s);
        }
    }

    /// To the Sentinel (0) or to the proxy (1), in one piece or in two.
    fn send(&mut self, s: usize, direction: usize, bytes: &[u8]) {
        let cut = self.random.index(bytes.len() + 1);
        for piece in [&bytes[..cut], &bytes[cut..]] {
            if piece.is_empty() {
                continue;
            }
            let delay = Network::delay(&mut self.random);
            let slot = &mut self.slots[s];
            let at = slot.last[direction].max(self.now + delay);
            slot.last[direction] = at;
            let due = Due::Arrive(s, slot.number, direction, piece.to_vec());
            self.at(at, due);
        }
    }

    pub fn arrive(&mut self, s: usize, number: u64, direction: usize, bytes: &[u8]) {
        let slot = &self.slots[s];
        let Some(i) = slot.to.filter(|_| slot.number == number && !slot.broken) else {
            return;
        };
        if !self.network.connected(PROXY, self.network.sentinel(i)) {
            self.slots[s].broken = true;
            return;
        }
        if direction == 1 {
            return self.receive(s, bytes);
        }
        self.slots[s].unread.extend_from_slice(bytes);
        self.serve(s, i);
    }

    fn serve(&mut self, s: usize, i: usize) {
        if self.ensemble.all[i].alive && !self.ensemble.all[i].hung {
            let unread = std::mem::take(&mut self.slots[s].unread);
            let reply = self.slots[s].session.serve(&self.ensemble, i, &unread);
            if !reply.is_empty() {
                self.send(s, 1, &reply);
            }
        }
    }

    /// A Sentinel that hung goes on.
    pub fn resume(&mut self, i: usize) {
        for s in 0..self.slots.len() {
            if self.slots[s].to == Some(i) && !self.slots[s].broken {
                self.serve(s, i);
            }
        }
    }

    /// A Sentinel publishes to whoever has subscribed.
    pub fn publish(&mut self, i: usize, pushes: Vec<Push>) {
        for push in pushes {
            self.tell(|_| format!("    s{i} {push:?}"));
            self.promoted(i, &push);
            for s in 0..self.slots.len() {
                if self.slots[s].to == Some(i) && self.slots[s].session.subscribed {
                    self.send(s, 1, &message(&push));
                }
            }
        }
    }

    fn promoted(&mut self, i: usize, (channel, payload): &Push) {
        let words: Vec<&str> = payload.split(' ').collect();
        let ours = words
            .get(5)
            .and_then(|name| self.masters.iter().position(|m| m.name == *name));
        if let ("+promoted-slave", Some(m)) = (*channel, ours) {
            let monitor = &self.ensemble.all[i].monitors[m];
            let promotion = (monitor.names(), monitor.config_epoch, self.now);
            self.masters[m].promoted.push(promotion);
        }
    }

    fn receive(&mut self, s: usize, bytes: &[u8]) {
        let now = Timestamp(self.now);
        self.slots[s].heard = true;
        let outputs = match self.slots[s].conversation.receive(now, bytes) {
            Ok(outputs) => outputs,
            Err(error) => return self.end(s, Some(&error.to_string())),
        };
        let mut call = self.slots[s].call.clone();
        let sentinel = format!("Sentinel {}", self.slots[s].place);
        let (mut answered, mut move_on) = (false, false);
        for output in outputs {
            match output {
                Output::Identity(run_id) => {
                    call.run_id = run_id;
                    let identified = self.roster(|roster| roster.identify(now, &call, true));
                    move_on |= identified.move_on;
                    call.dialled = identified.found_at.or(call.dialled);
                    self.slots[s].call.clone_from(&call);
                }
                Output::Answer(name, answer) => {
                    let last = self.roster.last_slot();
                    let m = self.followed(name.as_str());
                    self.change(m, |topology, now, rules| {
                        topology.report(now, rules, &sentinel, last, &answer)
                    });
                }
                Output::Event(event) => {
                    let known = self.masters.iter().any(|m| m.name == event.master_name);
                    assert!(
                        known || event.master_name.is_empty(),
                        "an event of a stranger: {event:?}"
                    );
                    for m in 0..self.masters.len() {
                        if event.master_name.is_empty() || event.master_name == self.masters[m].name
                        {
                            self.change(m, |topology, now, rules| {
                                topology.event(now, rules, &sentinel, &event)
                            });
                        }
                    }
                }
                Output::Peers(peers) => self.roster(|roster| roster.learn(now, &peers)),
                Output::PollOnly(_) => {}
                Output::Answered => answered = true,
            }
        }
        if answered {
            move_on |= self.roster(|roster| roster.alive(now, &call, true));
            let number = self.slots[s].number;
            self.at(self.now + INTERVAL, Due::Heartbeat(s, number));
        }
        if move_on {
            return self.end(s, None);
        }
        self.attend(s);
    }

    /// Ends a conversation; the health checker connects again.
    fn end(&mut self, s: usize, problem: Option<&str>) {
        let now = Timestamp(self.now);
        let call = self.slots[s].call.clone();
        self.tell(|_| format!("slot {s} ends: {problem:?}"));
        let problem = problem.map(|text| Problem {
            text,
            lasting: false,
        });
        self.roster(|roster| roster.leave(now, &call, problem));
        self.slots[s].to = None;
        self.slots[s].number += 1;
        let number = self.slots[s].number;
        self.at(self.now + UNHEALTHY_INTERVAL, Due::Connect(s, number));
    }

    /// The other end has closed the connection, or does not answer.
    pub fn ended(&mut self, s: usize, number: u64) {
        if self.slots[s].number == number {
            let heard = self.slots[s].heard;
            self.end(
                s,
                Some(if heard {
                    "it closed the connection"
                } else {
                    "it cannot be reached"
                }),
            );
        }
    }

    pub fn connect_again(&mut self, s: usize, number: u64) {
        if self.slots[s].number == number {
            self.connect(s);
        }
    }

    /// A Sentinel's process is gone: the kernel closes its connections, if anybody hears of it.
    pub fn hang_up(&mut self, i: usize) {
        let heard = self.network.connected(PROXY, self.network.sentinel(i));
        for s in 0..self.slots.len() {
            if self.slots[s].to == Some(i) {
                self.slots[s].broken = true;
                let number = self.slots[s].number;
                if heard {
                    self.after(0, 20, Due::Ended(s, number));
                }
            }
        }
    }

    /// The watch is woken: a topology has changed.
    pub fn follow(&mut self) {
        let (mut alert, mut hurry) = (false, false);
        for followed in &mut self.masters {
            let route = followed.topology.route();
            if followed.seen != Some(followed.topology.generation) {
                followed.seen = Some(followed.topology.generation);
                hurry |=
                    route.master != followed.seen_master || route.hold == Some(Hold::NotMaster);
                followed.seen_master = route.master;
            }
            alert |= followed.topology.is_unsettled();
        }
        for s in 0..self.slots.len() {
            self.slots[s].conversation.set_alert(alert);
            if hurry {
                self.slots[s].conversation.hurry();
            }
            self.attend(s);
        }
    }
}
