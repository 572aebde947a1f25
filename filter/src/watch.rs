//! Root id `sentinel_watch`: Envoy's health checker connects here once per slot, and each of these connections becomes a
//! conversation with a Sentinel.

mod heartbeat;

pub use heartbeat::Heartbeat;

use crate::{
    filter_state::Destination, heartbeat as beat, heartbeat::Pulse, host, metrics, secret, store,
    vm,
};
use sentinel_core::{
    address::Address,
    config::WatchConfig,
    conversation::{Conversation, ConversationError, Credentials, Output, Settings},
    fact::Cause,
    reply::MasterAddress,
    roster::{Call, Problem, Roster, Target},
    time::Timestamp,
    topology::{Hold, Rules},
};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

/// How soon a seat is asked for again that could not be had for a passing reason.
const RETRY: Duration = Duration::from_millis(100);
/// How long a Sentinel's host name may take to resolve.
const RESOLVE: Duration = Duration::from_secs(2);
/// How soon a time that has come is looked at again that changed nothing.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The root context's state: the conversations on this worker.
pub struct Watch {
    id: u32,
    config: WatchConfig,
    rules: Rules,
    destination: Destination,
    credentials: Option<Credentials>,
    conversations: RefCell<BTreeMap<u32, Seat>>,
    /// What was last seen of each topology.
    seen: RefCell<BTreeMap<String, Seen>>,
}

/// What a wake-up compares with.
#[derive(Default)]
struct Seen {
    generation: Option<u64>,
    master: Option<Address>,
    unsettled: bool,
    due: Option<Timestamp>,
}

/// One heartbeat connection.
struct Seat {
    call: Call,
    pulse: Pulse,
    conversation: Conversation,
    state: SeatState,
    /// The Sentinel's run id, or its address while that is not known.
    sentinel: String,
    /// Where it listens, for people.
    place: String,
    /// It has sent something.
    heard: bool,
    /// It was introduced.
    introduced: bool,
    poll_only: Option<String>,
    /// It has waited for others to be answered where it could have dialled.
    impatient: bool,
    /// Since when the Sentinel's host name has not resolved.
    unresolved_since: Option<Timestamp>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SeatState {
    /// Nobody to connect to yet.
    Waiting(Wait),
    /// `tcp_proxy` dials, or the conversation runs.
    Connected,
    /// Being closed.
    Ended,
}

/// A wait for a Sentinel to connect to.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Wait {
    since: Timestamp,
    until: Timestamp,
}

impl SeatState {
    fn waiting(since: Timestamp, until: Timestamp) -> Self {
        Self::Waiting(Wait { since, until })
    }
}

impl Seat {
    /// For a log line.
    fn who(&self) -> String {
        if self.place.is_empty() {
            format!("the seed Sentinel of slot {}", self.call.slot)
        } else {
            format!("Sentinel {}", self.place)
        }
    }
}

impl Watch {
    /// No conversations.
    ///
    /// # Errors
    /// Credentials that are not where the configuration says.
    pub fn new(id: u32, config: WatchConfig) -> Result<Self, String> {
        let rules = Rules::from(&config);
        let destination = Destination {
            by_ip: config.discovered_cluster.clone(),
            by_name: config.discovered_by_name_cluster.clone(),
            ..Destination::default()
        };
        declare(&config);
        // What could not be reached with the configuration before may be now.
        let roster = config.masters.as_slice().first();
        if let Some(roster) = roster {
            store::update_roster(roster.as_str(), Roster::forgive);
        }
        Ok(Self {
            id,
            destination,
            credentials: secret::credentials(config.credentials.as_ref())?,
            config,
            rules,
            conversations: RefCell::default(),
            seen: RefCell::default(),
        })
    }

    fn settings(&self) -> Settings {
        Settings {
            masters: self.config.masters.as_slice().to_vec(),
            poll_interval: self.config.poll_interval.0,
            reply_timeout: self.config.reply_timeout.0,
            replicas: self.config.replicas,
            credentials: self.credentials.clone(),
        }
    }

    /// Whether a Sentinel that is not a seed can be dialled.
    fn learnt_reachable(&self) -> bool {
        !self.config.discovered_cluster.is_empty()
            || !self.config.discovered_by_name_cluster.is_empty()
    }

    /// The key of this watch's roster: its first master's name, as watches do not share masters.
    fn roster(&self) -> &str {
        self.config
            .masters
            .as_slice()
            .first()
            .map_or("", |name| name.as_str())
    }

    /// Follows one topology. Returns whether to look closer (`alert`) and whether to look at once (`hurry`).
    fn follow(&self, now: Timestamp, name: &str) -> (bool, bool) {
        let mut all = self.seen.borrow_mut();
        let seen = all.entry(name.to_owned()).or_default();
        if seen.due.is_some_and(|due| due <= now) {
            store::update_topology(now, name, |topology| topology.tick(now, &self.rules));
            seen.due = Some(now.after(LOOK_AGAIN));
        }
        let mut hurry = false;
        if let Some(topology) = store::topology_newer_than(name, seen.generation) {
            let route = topology.route();
            // Confirm an event by a poll; and find out why a master says that it is none.
            hurry = route.master != seen.master || route.hold == Some(Hold::NotMaster);
            *seen = Seen {
                generation: Some(topology.generation),
                unsettled: topology.is_unsettled(),
                due: topology.next_due(&self.rules),
                master: route.master,
            };
        }
        (seen.unsettled, hurry)
    }

    /// Speaks where a poll is due, gives up who is silent, connects who has waited long enough.
    fn attend(&self, now: Timestamp) {
        let ids: Vec<u32> = self.conversations.borrow().keys().copied().collect();
        let waits = |seat: &Seat| matches!(seat.state, SeatState::Waiting(_));
        let pauses_ended_at = if self.conversations.borrow().values().any(waits) {
            store::roster(self.roster()).pauses_ended_at()
        } else {
            Timestamp::default()
        };
        for id in ids {
            self.attend_one(now, id, pauses_ended_at);
        }
    }

    fn attend_one(&self, now: Timestamp, id: u32, pauses_ended_at: Timestamp) {
        let state = self.conversations.borrow().get(&id).map(|seat| seat.state);
        match state {
            Some(SeatState::Waiting(wait))
                if now >= wait.until || wait.since <= pauses_ended_at =>
            {
                self.seat(now, id);
            }
            Some(SeatState::Connected) if self.is_mute(now, id) => self.end(now, id, None),
            Some(SeatState::Connected) => self.speak(now, id),
            _ => {}
        }
    }

    /// Whether this is not the health checker's connection.
    fn is_mute(&self, now: Timestamp, id: u32) -> bool {
        let mut seats = self.conversations.borrow_mut();
        let Some(seat) = seats.get_mut(&id) else {
            return false;
        };
        seat.pulse.due().is_some_and(|due| due <= now)
            && host::act_as(id).is_ok()
            && seat.pulse.is_missing(now)
    }

    /// Makes room for a new connection.
    fn make_room(&self, now: Timestamp) {
        let replaced = {
            let seats = self.conversations.borrow();
            let open = seats
                .iter()
                .filter(|(_, seat)| seat.state != SeatState::Ended);
            let open: Vec<_> = open.map(|(id, seat)| (*id, seat.pulse)).collect();
            beat::to_replace(&open)
        };
        if let Some(id) = replaced {
            self.end(now, id, None);
        }
    }

    /// Connects one that has waited for somebody to connect to.
    fn seat(&self, now: Timestamp, id: u32) {
        if host::act_as(id).is_ok() && self.connect(now, id) {
            let _ = host::resume();
        }
    }

    /// Asks if a poll is due; gives up who has not answered the last one.
    fn speak(&self, now: Timestamp, id: u32) {
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
            Ok(Some(commands)) => beat::speak(id, &commands),
            Ok(None) => {}
            Err(error) => self.end(now, id, Some(&error)),
        }
    }

    /// Takes a seat for the current stream. True: `tcp_proxy` may dial.
    fn connect(&self, now: Timestamp, id: u32) -> bool {
        let asks = |seat: &Seat| (seat.call.slot, !seat.impatient);
        let Some((slot, patient)) = self.conversations.borrow().get(&id).map(asks) else {
            return false;
        };
        let reachable = self.learnt_reachable();
        let target = store::update_roster(self.roster(), |roster| {
            roster.take(now, slot, reachable, patient)
        });
        if let Some(seat) = self.conversations.borrow_mut().get_mut(&id) {
            seat.impatient = matches!(target, Some(Target::Contended(_)));
            seat.call.dialled = None;
            if let Some(Target::Sentinel(address)) = &target {
                seat.place = address.to_string();
                seat.sentinel.clone_from(&seat.place);
                seat.call.dialled = Some(address.clone());
            }
        }
        let state = match target {
            Some(Target::Seed) => SeatState::Connected,
            Some(Target::Sentinel(address)) => self.reach(now, id, &address),
            Some(Target::Wait(until) | Target::Contended(until)) => SeatState::waiting(now, until),
            None => SeatState::waiting(now, now.after(RETRY)),
        };
        if let Some(seat) = self.conversations.borrow_mut().get_mut(&id) {
            seat.state = state;
        }
        state == SeatState::Connected
    }

    /// Leads the current stream to a Sentinel; waits a moment for its host name, and gives it up if it does not resolve.
    fn reach(&self, now: Timestamp, id: u32, sentinel: &Address) -> SeatState {
        if let Some(address) = self.destination.resolve(now, self.id, sentinel) {
            return match self.destination.route_to(&address) {
                Ok(()) => SeatState::Connected,
                Err(_) => SeatState::waiting(now, now.after(RETRY)),
            };
        }
        let given_up = {
            let mut seats = self.conversations.borrow_mut();
            let Some(seat) = seats.get_mut(&id) else {
                return SeatState::Ended;
            };
            let since = *seat.unresolved_since.get_or_insert(now);
            let given_up = now.since(since) >= RESOLVE;
            if given_up {
                seat.unresolved_since = None;
            }
            given_up.then(|| seat.call.clone())
        };
        if let Some(call) = given_up {
            let problem = Problem {
                text: "its host name does not resolve",
                lasting: false,
            };
            self.leave(now, &call, &format!("Sentinel {sentinel}"), Some(problem));
        }
        SeatState::waiting(now, now.after(RETRY))
    }

    /// Takes in a Sentinel's bytes; true when the heartbeat is to be answered.
    fn receive(&self, now: Timestamp, id: u32, bytes: &[u8]) -> bool {
        let (outputs, mut call, mut sentinel, place) = {
            let mut seats = self.conversations.borrow_mut();
            let Some(seat) = seats.get_mut(&id) else {
                return false;
            };
            if seat.state == SeatState::Ended {
                return false;
            }
            seat.heard = true;
            if seat.place.is_empty() {
                seat.place = host::property(&["upstream", "address"])
                    .unwrap_or_else(|| format!("slot {}", seat.call.slot));
                seat.sentinel.clone_from(&seat.place);
            }
            (
                seat.conversation.receive(now, bytes),
                seat.call.clone(),
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
                    call.run_id = run_id;
                    let identified = store::update_roster(self.roster(), |roster| {
                        roster.identify(now, &call, self.learnt_reachable())
                    })
                    .unwrap_or_default();
                    if identified.ended_pauses {
                        vm::wake_all(now);
                    }
                    move_on |= identified.move_on;
                    call.dialled = identified.found_at.or(call.dialled);
                    sentinel = format!("Sentinel {place}");
                    if let Some(seat) = self.conversations.borrow_mut().get_mut(&id) {
                        seat.sentinel.clone_from(&sentinel);
                        seat.call.clone_from(&call);
                    }
                }
                Output::Answer(name, answer) => {
                    if matches!(answer.address, MasterAddress::Known(_)) {
                        let now = host::wall_clock();
                        metrics::set(name.as_str(), "last_answer_timestamp_seconds", now);
                    }
                    let slot = store::roster(self.roster()).last_slot();
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
        if answered && !move_on {
            move_on |= store::update_roster(self.roster(), |roster| {
                roster.alive(now, &call, self.learnt_reachable())
            })
            .unwrap_or(false);
            if !move_on {
                self.introduce(id);
            }
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
        if !seat.conversation.has_joined() || core::mem::replace(&mut seat.introduced, true) {
            return;
        }
        metrics::count(self.roster(), "sentinel_conversations_total");
        metrics::shift(self.roster(), &self.up(&seat.place), 1);
        match &seat.poll_only {
            None => log::info!("{}: watching {}", self.roster(), seat.sentinel),
            Some(why) => log::warn!(
                "{}: watching {} by polls alone: {why}",
                self.roster(),
                seat.sentinel
            ),
        }
    }

    /// Ends a conversation, with or without a problem.
    fn end(&self, now: Timestamp, id: u32, problem: Option<&ConversationError>) {
        let (call, has_dialled, who) = {
            let mut seats = self.conversations.borrow_mut();
            let Some(seat) = seats.get_mut(&id) else {
                return;
            };
            let before = core::mem::replace(&mut seat.state, SeatState::Ended);
            let has_dialled = before == SeatState::Connected || seat.call.dialled.is_some();
            (seat.call.clone(), has_dialled, seat.who())
        };
        let text = problem.map(ToString::to_string);
        let error_kind = problem.map(ConversationError::word);
        let lasting = matches!(problem, Some(ConversationError::Credentials(_)));
        if lasting {
            metrics::count(self.roster(), "sentinel_auth_failures_total");
        }
        let problem = text.as_deref().map(|text| Problem { text, lasting });
        self.count_failure(error_kind);
        if has_dialled {
            self.leave(now, &call, &who, problem);
        }
        vm::close_soon(id);
    }

    fn count_failure(&self, kind: Option<&str>) {
        if let Some(kind) = kind {
            let counter = metrics::by("kind", kind, "sentinel_failures_total");
            metrics::count(self.roster(), &counter);
        }
    }

    /// The gauge of the conversations with the Sentinel at this place.
    fn up(&self, place: &str) -> String {
        metrics::at(self.roster(), "sentinel", place, "sentinel_up")
    }

    fn leave(&self, now: Timestamp, call: &Call, who: &str, problem: Option<Problem<'_>>) {
        let news = store::update_roster(self.roster(), |roster| roster.leave(now, call, problem));
        if let (Some(true), Some(problem)) = (news, problem) {
            log::warn!("{}: {who} given up: {}", self.roster(), problem.text);
        }
    }

    /// The connection is gone: the health checker's timeout, the Sentinel's death, or our own doing.
    fn closed(&self, now: Timestamp, id: u32) {
        let Some(seat) = self.conversations.borrow_mut().remove(&id) else {
            return;
        };
        if seat.introduced {
            metrics::shift(self.roster(), &self.up(&seat.place), -1);
        }
        if seat.state == SeatState::Connected {
            let (kind, text) = if seat.heard {
                ("closed", "it closed the connection")
            } else {
                ("unreachable", "it cannot be reached")
            };
            self.count_failure(Some(kind));
            let problem = Problem {
                text,
                lasting: false,
            };
            self.leave(now, &seat.call, &seat.who(), Some(problem));
        }
    }

    /// When one of the conversations has something to do.
    fn next_due(&self) -> Option<Timestamp> {
        let due = |seat: &Seat| match seat.state {
            SeatState::Waiting(wait) => Some(wait.until),
            SeatState::Connected => {
                let due = seat.conversation.next_due();
                due.into_iter().chain(seat.pulse.due()).min()
            }
            SeatState::Ended => None,
        };
        self.conversations.borrow().values().filter_map(due).min()
    }

    /// The same, from a stream's callback.
    fn rearm(&self, now: Timestamp, current: u32) {
        if let Some(due) = self.next_due() {
            vm::wake_at(now, self.id, due, current);
        }
    }
}

/// The counters whose first step is worth an alert.
fn declare(config: &WatchConfig) {
    for name in config.masters.as_slice() {
        for counter in [
            "disputed_answers_total",
            "fences_total",
            "fences_expired_total",
            "master_down_total",
            "role_mismatches_total",
            "stale_answers_total",
            "sentinel_auth_failures_total",
        ] {
            metrics::declare(name.as_str(), counter);
        }
        for cause in Cause::SWITCHES {
            let counter = metrics::by("cause", cause.word(), "switches_total");
            metrics::declare(name.as_str(), &counter);
        }
    }
}

impl vm::Wake for Watch {
    /// Follows the topologies, speaks where a poll is due.
    fn wake(&self, now: Timestamp) -> Option<Timestamp> {
        let (mut alert, mut hurry) = (false, false);
        for name in self.config.masters.as_slice() {
            let (unsettled, changed) = self.follow(now, name.as_str());
            alert |= unsettled;
            hurry |= changed;
        }
        for seat in self.conversations.borrow_mut().values_mut() {
            seat.conversation.set_alert(alert);
            if hurry {
                seat.conversation.hurry();
            }
        }
        self.attend(now);
        let topologies = self
            .seen
            .borrow()
            .values()
            .filter_map(|seen| seen.due)
            .min();
        self.next_due().into_iter().chain(topologies).min()
    }
}
