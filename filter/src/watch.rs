//! Root id `sentinel_watch`: Envoy's health checker connects here once per slot, and each of these connections becomes a
//! conversation with a Sentinel.

use crate::{filter_state, host, metrics, store, vm};
use proxy_wasm::traits::{Context, StreamContext};
use proxy_wasm::types;
use sentinel_core::{
    config::WatchConfig,
    conversation::{Conversation, ConversationError, Output, Settings},
    roster::Target,
    time::Timestamp,
    topology::{Hold, Rules},
};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// Most heartbeat connections on one worker. Any process of the network namespace may connect to an abstract socket.
const MAX_HEARTBEATS: usize = 64;
const SLOWEST_TICK: Duration = Duration::from_secs(1);
const FASTEST_TICK: Duration = Duration::from_millis(10);

/// The root context's state: the conversations on this worker.
pub struct Watch {
    id: u32,
    config: WatchConfig,
    rules: Rules,
    conversations: RefCell<BTreeMap<u32, Seat>>,
    tick_period: Cell<Duration>,
    /// The topologies' generations, to look again at once when a master is in doubt.
    generations: RefCell<BTreeMap<String, u64>>,
}

/// One heartbeat connection.
struct Seat {
    slot: u32,
    conversation: Conversation,
    state: SeatState,
    /// The Sentinel's run id, or its address while that is not known.
    sentinel: String,
    /// Where it listens, for people.
    place: String,
    /// It has answered at least once.
    answered: bool,
    poll_only: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SeatState {
    /// Nobody to connect to until then.
    Waiting(Timestamp),
    /// `tcp_proxy` dials, or the conversation runs.
    Connected,
    /// Being closed.
    Ended,
}

impl Watch {
    /// No conversations.
    pub fn new(id: u32, config: WatchConfig) -> Self {
        let rules = Rules::from(&config);
        Self {
            id,
            config,
            rules,
            conversations: RefCell::default(),
            tick_period: Cell::new(Duration::ZERO),
            generations: RefCell::default(),
        }
    }

    fn settings(&self) -> Settings {
        Settings {
            masters: self.config.masters.as_slice().to_vec(),
            poll_interval: self.config.poll_interval.0,
            reply_timeout: self.config.reply_timeout.0,
            replicas: self.config.replicas,
            credentials: None,
        }
    }

    /// The key of this watch's roster: its first master's name, as watches do not share masters.
    fn roster(&self) -> &str {
        self.config
            .masters
            .as_slice()
            .first()
            .map_or("", |name| name.as_str())
    }

    /// Lets time pass for the topologies and the conversations. Only from a root's callback.
    pub fn tick(&self, now: Timestamp) {
        for name in self.config.masters.as_slice() {
            store::update_topology(now, name.as_str(), |topology| {
                topology.tick(now, &self.rules)
            });
        }
        self.attend(now);
        self.pace(now);
    }

    /// Speaks where a poll is due, gives up who is silent, connects who has waited long enough.
    fn attend(&self, now: Timestamp) {
        let ids: Vec<u32> = self.conversations.borrow().keys().copied().collect();
        for id in ids {
            self.attend_one(now, id);
        }
    }

    fn attend_one(&self, now: Timestamp, id: u32) {
        let state = self.conversations.borrow().get(&id).map(|seat| seat.state);
        match state {
            Some(SeatState::Waiting(until)) if now >= until => {
                if host::act_as(id).is_ok() && self.connect(now, id) {
                    let _ = host::resume();
                }
            }
            Some(SeatState::Connected) => {
                let commands = {
                    let mut seats = self.conversations.borrow_mut();
                    let Some(seat) = seats.get_mut(&id) else {
                        return;
                    };
                    seat.conversation
                        .check(now)
                        .map(|()| seat.conversation.speak(now))
                };
                match commands {
                    Ok(Some(commands)) => {
                        if host::act_as(id).is_ok()
                            && host::replace_bytes(host::Bytes::Downstream, &commands).is_ok()
                        {
                            let _ = host::resume();
                        }
                    }
                    Ok(None) => {}
                    Err(error) => self.end(now, id, Some(&error)),
                }
            }
            _ => {}
        }
    }

    /// Takes a seat for the current stream. True: `tcp_proxy` may dial.
    fn connect(&self, now: Timestamp, id: u32) -> bool {
        let Some(slot) = self.conversations.borrow().get(&id).map(|seat| seat.slot) else {
            return false;
        };
        let reachable = !self.config.discovered_cluster.is_empty();
        let target =
            store::update_roster(self.roster(), |roster| roster.take(now, slot, reachable));
        let state = match target {
            Some(Target::Seed) => SeatState::Connected,
            Some(Target::Sentinel(address)) => {
                let routed = filter_state::use_cluster(&self.config.discovered_cluster)
                    .and_then(|()| filter_state::route_to(&address));
                if routed.is_err() {
                    SeatState::Waiting(now.after(SLOWEST_TICK))
                } else {
                    SeatState::Connected
                }
            }
            Some(Target::Wait(until)) => SeatState::Waiting(until),
            None => SeatState::Waiting(now.after(FASTEST_TICK)),
        };
        if let Some(seat) = self.conversations.borrow_mut().get_mut(&id) {
            seat.state = state;
        }
        state == SeatState::Connected
    }

    /// Takes in a Sentinel's bytes; true when the heartbeat is to be answered.
    fn receive(&self, now: Timestamp, id: u32, bytes: &[u8]) -> bool {
        let (outputs, slot, mut sentinel, place) = {
            let mut seats = self.conversations.borrow_mut();
            let Some(seat) = seats.get_mut(&id) else {
                return false;
            };
            if seat.state == SeatState::Ended {
                return false;
            }
            if seat.place.is_empty() {
                seat.place = host::property(&["upstream", "address"])
                    .unwrap_or_else(|| format!("slot {}", seat.slot));
                seat.sentinel.clone_from(&seat.place);
            }
            (
                seat.conversation.receive(now, bytes),
                seat.slot,
                seat.sentinel.clone(),
                seat.place.clone(),
            )
        };
        let outputs = match outputs {
            Ok(outputs) => outputs,
            Err(error) => {
                self.end(now, id, Some(&error));
                return false;
            }
        };
        let mut answered = false;
        let mut move_on = false;
        for output in outputs {
            match output {
                Output::Identity(run_id) => {
                    move_on |= store::update_roster(self.roster(), |roster| {
                        roster.identify(now, slot, &run_id)
                    })
                    .unwrap_or(false);
                    sentinel = format!("Sentinel {place}");
                    if let Some(seat) = self.conversations.borrow_mut().get_mut(&id) {
                        seat.sentinel.clone_from(&sentinel);
                    }
                }
                Output::Answer(name, answer) => {
                    store::update_topology(now, name.as_str(), |topology| {
                        topology.report(now, &self.rules, &sentinel, slot, &answer)
                    });
                }
                Output::Event(event) => {
                    for name in self.config.masters.as_slice() {
                        if event.master_name.is_empty() || event.master_name == name.as_str() {
                            store::update_topology(now, name.as_str(), |topology| {
                                topology.event(now, &self.rules, &sentinel, &event)
                            });
                        }
                    }
                }
                Output::Peers(peers) => {
                    store::update_roster(self.roster(), |roster| roster.learn(now, &peers));
                }
                Output::PollOnly(message) => {
                    if let Some(seat) = self.conversations.borrow_mut().get_mut(&id) {
                        seat.poll_only = Some(message);
                    }
                }
                Output::Answered => answered = true,
            }
        }
        if answered {
            self.introduce(id);
            move_on |= store::update_roster(self.roster(), |roster| roster.alive(now, slot))
                .unwrap_or(false);
        }
        if move_on {
            self.end(now, id, None);
        }
        answered
    }

    /// Says once per conversation whom it is with.
    fn introduce(&self, id: u32) {
        let mut seats = self.conversations.borrow_mut();
        let Some(seat) = seats.get_mut(&id) else {
            return;
        };
        if core::mem::replace(&mut seat.answered, true) {
            return;
        }
        metrics::count(self.roster(), "sentinel_conversations_total");
        match &seat.poll_only {
            None => log::info!("{}: watching {}", self.roster(), seat.sentinel),
            Some(why) => log::info!(
                "{}: watching {} by polls alone: {why}",
                self.roster(),
                seat.sentinel
            ),
        }
    }

    /// Ends a conversation, with or without a problem.
    fn end(&self, now: Timestamp, id: u32, problem: Option<&ConversationError>) {
        let slot = {
            let mut seats = self.conversations.borrow_mut();
            let Some(seat) = seats.get_mut(&id) else {
                return;
            };
            seat.state = SeatState::Ended;
            (
                seat.slot,
                if seat.place.is_empty() {
                    "a Sentinel".to_owned()
                } else {
                    format!("Sentinel {}", seat.place)
                },
            )
        };
        self.leave(now, slot.0, &slot.1, problem.map(ToString::to_string));
        vm::close_soon(id);
    }

    fn leave(&self, now: Timestamp, slot: u32, who: &str, problem: Option<String>) {
        if problem.is_some() {
            metrics::count(self.roster(), "sentinel_failures_total");
        }
        let news = store::update_roster(self.roster(), |roster| {
            roster.leave(now, slot, problem.as_deref())
        });
        if let (Some(true), Some(problem)) = (news, problem) {
            log::warn!("{}: {who} given up: {problem}", self.roster());
        }
    }

    /// The connection is gone: the health checker's timeout, the Sentinel's death, or our own doing.
    fn closed(&self, now: Timestamp, id: u32) {
        let Some(seat) = self.conversations.borrow_mut().remove(&id) else {
            return;
        };
        if seat.state == SeatState::Connected {
            let (who, problem) = if seat.place.is_empty() {
                (
                    format!("the Sentinel of slot {}", seat.slot),
                    "it cannot be reached",
                )
            } else {
                (
                    format!("Sentinel {}", seat.place),
                    "it closed the connection",
                )
            };
            self.leave(now, seat.slot, &who, Some(problem.to_owned()));
        }
    }

    /// Sets the tick to the next thing that is due.
    fn pace(&self, now: Timestamp) {
        let due = |seat: &Seat| match seat.state {
            SeatState::Waiting(until) => Some(until),
            SeatState::Connected => seat.conversation.next_due(),
            SeatState::Ended => None,
        };
        let due = self.conversations.borrow().values().filter_map(due).min();
        let due = due
            .map_or(SLOWEST_TICK, |due| due.since(now))
            .clamp(FASTEST_TICK, SLOWEST_TICK);
        // A timer that is set anew starts anew, so leave a period alone that is right already.
        if self.tick_period.replace(due) != due && host::act_as(self.id).is_ok() {
            let _ = host::set_tick(due);
        }
    }
}

impl vm::Wake for Watch {
    /// Looks again at once where a master is in doubt.
    fn wake(&self, now: Timestamp) {
        let mut generations = self.generations.borrow_mut();
        let mut doubt = false;
        for name in self.config.masters.as_slice() {
            let seen = generations.get(name.as_str()).copied();
            if let Some(topology) = store::topology_newer_than(name.as_str(), seen) {
                generations.insert(name.to_string(), topology.generation);
                doubt |= topology.route().hold == Some(Hold::NotMaster);
            }
        }
        drop(generations);
        if doubt {
            for seat in self.conversations.borrow_mut().values_mut() {
                seat.conversation.hurry();
            }
            self.attend(now);
        }
        self.pace(now);
    }
}

/// One connection of the health checker.
pub struct Heartbeat {
    id: u32,
    watch: Rc<Watch>,
}

impl Heartbeat {
    /// Not yet connected.
    pub fn new(id: u32, watch: &Rc<Watch>) -> Self {
        Self {
            id,
            watch: watch.clone(),
        }
    }
}

impl Context for Heartbeat {}

impl StreamContext for Heartbeat {
    fn on_new_connection(&mut self) -> types::Action {
        let now = host::now();
        if self.watch.conversations.borrow().len() >= MAX_HEARTBEATS {
            vm::close_soon(self.id);
            return types::Action::Pause;
        }
        let slot = slot_number(host::property(&["destination", "address"]).as_deref());
        let seat = Seat {
            slot,
            conversation: Conversation::new(self.watch.settings()),
            state: SeatState::Waiting(now),
            sentinel: String::new(),
            place: String::new(),
            answered: false,
            poll_only: None,
        };
        self.watch.conversations.borrow_mut().insert(self.id, seat);
        let dial = self.watch.connect(now, self.id);
        self.watch.pace(now);
        let _ = host::act_as(self.id);
        if dial {
            types::Action::Continue
        } else {
            types::Action::Pause
        }
    }

    fn on_downstream_data(&mut self, _size: usize, _end_of_stream: bool) -> types::Action {
        let now = host::now();
        let commands = match self.watch.conversations.borrow_mut().get_mut(&self.id) {
            Some(seat) => {
                seat.conversation.heartbeat(now);
                // While it waits for somebody to connect to, the heartbeat stays in hand.
                if seat.state == SeatState::Connected {
                    seat.conversation.speak(now)
                } else {
                    None
                }
            }
            None => None,
        };
        let action = match commands {
            Some(commands) => {
                let _ = host::replace_bytes(host::Bytes::Downstream, &commands);
                types::Action::Continue
            }
            None => types::Action::Pause,
        };
        self.watch.pace(now);
        let _ = host::act_as(self.id);
        action
    }

    fn on_upstream_data(&mut self, _size: usize, _end_of_stream: bool) -> types::Action {
        let bytes = host::bytes(host::Bytes::Upstream).unwrap_or_default();
        let answered = self.watch.receive(host::now(), self.id, &bytes);
        // Nothing that a Sentinel says reaches the health checker, only the answer that it waits for.
        let answer: &[u8] = if answered { b"." } else { b"" };
        let _ = host::replace_bytes(host::Bytes::Upstream, answer);
        types::Action::Continue
    }

    fn on_downstream_close(&mut self, _peer: types::PeerType) {
        self.watch.closed(host::now(), self.id);
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.watch.closed(host::now(), self.id);
    }
}

/// The slot is the number at the end of the socket's name: `@redis-sentinel-watch-2`.
fn slot_number(listener: Option<&str>) -> u32 {
    listener
        .and_then(|name| name.rsplit('-').next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}
