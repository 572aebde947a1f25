//! Time, and what happens next.

use super::{
    Random,
    network::Network,
    redis::{self, Nodes},
    sentinels::{Ensemble, Monitor, Sentinel},
    watch::Slot,
    workers::Worker,
};
use crate::support::rules_of;
use sentinel_core::{
    address::Address,
    conversation::{Conversation, Settings},
    reply::Role,
    roster::Roster,
    topology::{Rules, Topology},
};
use std::{collections::BTreeMap, time::Duration};

/// For so long things go wrong.
const TROUBLE: u64 = 60_000;
/// So soon after the Sentinels agree all workers lead where they say. A majority that must insist against a Sentinel that
/// stands by another epoch takes 30 s; then polls.
pub const HEALED_WITHIN: u64 = 40_000;
/// How long the Sentinels themselves may take to agree once everything works; then somebody asks for a failover.
const AGREED_WITHIN: u64 = 40_000;
/// How long a wake-up may take to reach a worker.
const WAKE: u64 = 10;
/// How often a Sentinel's timer fires, and how often it says hello.
const TIMER: u64 = 200;
const HELLO: u64 = 2000;

#[derive(Clone)]
pub enum Due {
    Trouble,
    Mend,
    Die(usize),
    Restart(usize),
    Resume(usize),
    NodeUp(char),
    Timer(usize),
    /// Whether another one follows in its time.
    Hello(usize, bool),
    Connect(usize, u64),
    Connected(usize, u64, usize),
    Ended(usize, u64),
    Heartbeat(usize, u64),
    Slot(usize, u64),
    /// Bytes for the Sentinel (0) or the proxy (1).
    Arrive(usize, u64, usize, Vec<u8>),
    Probe(usize),
    Role(usize, Address, Role),
    Tick(usize),
    Follow,
    Wake(usize),
    Client(usize),
}

/// What a run is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Planned and unplanned failovers, lagging hellos, TILT, aborts: nothing that may lead anybody astray.
    Calm,
    /// Leaders die, the network splits, Sentinels hang, are replaced and rebuilt.
    Storm,
}

/// One master that is followed: what the workers share about it, and what was seen of it.
pub struct Followed {
    pub name: &'static str,
    pub nodes: Vec<char>,
    pub topology: Topology,
    pub seen: Option<u64>,
    pub seen_master: Option<Address>,
    pub fenced_since: Option<u64>,
    pub resets: usize,
    /// Masters as they were adopted, and as they were promoted.
    pub adopted: Vec<char>,
    /// The latter with their epoch and time.
    pub promoted: Vec<(char, u64, u64)>,
    ticks_at: u64,
}

pub struct World {
    pub weather: Weather,
    pub now: u64,
    sequence: u64,
    due: BTreeMap<(u64, u64), Due>,
    pub random: Random,
    pub ensemble: Ensemble,
    pub network: Network,
    pub settings: Settings,
    pub rules: Rules,
    early_switch: bool,
    pub masters: Vec<Followed>,
    pub roster: Roster,
    pub slots: Vec<Slot>,
    pub workers: Vec<Worker>,
    /// When each worker's timer fires next.
    alarms: Vec<u64>,
    /// How often each of these happened, to see that a run is worth something.
    pub counts: BTreeMap<&'static str, u64>,
    /// What happened, line by line, if that is wanted.
    pub trace: Option<Vec<String>>,
}

fn followed(name: &'static str, from: u8, count: usize) -> Followed {
    let nodes: Vec<char> = (from..).take(count).map(char::from).collect();
    Followed {
        name,
        promoted: vec![(nodes[0], 0, 0)],
        nodes,
        topology: Topology::default(),
        seen: None,
        seen_master: None,
        fenced_since: None,
        resets: 0,
        adopted: vec![],
        ticks_at: 0,
    }
}

impl World {
    pub fn new(seed: u64, weather: Weather, trace: bool) -> Self {
        let mut random = Random::new(seed);
        let storm = weather == Weather::Storm;
        let n = 3 + random.index(3);
        let first = 2 + random.index(3);
        let mut masters = vec![followed("mymaster", b'A', first)];
        if random.percent(50) {
            let from = b'A' + u8::try_from(first).unwrap();
            masters.push(followed("other", from, 2 + random.index(2)));
        }
        let groups: Vec<Vec<char>> = masters.iter().map(|master| master.nodes.clone()).collect();
        let nodes = Nodes::new(&groups);
        let all = (0..n).map(|i| {
            let known = (0..n).filter(|j| *j != i).map(|j| (j, 0)).collect();
            let monitor = |m: &Followed| Monitor::new(m.name, &m.nodes, Clone::clone(&known));
            let rate = 90 + random.below(21);
            let old = storm && random.percent(5);
            Sentinel::new(masters.iter().map(monitor).collect(), rate, old)
        });
        let ensemble = Ensemble {
            all: all.collect(),
            nodes,
        };
        let poll = if random.percent(50) { 1 } else { 5 };
        let names: Vec<&str> = masters.iter().map(|master| master.name).collect();
        let settings = Settings {
            masters: serde_json::from_value(serde_json::json!(names)).unwrap(),
            poll_interval: Duration::from_secs(poll),
            reply_timeout: Duration::from_secs(1),
            replicas: false,
            credentials: None,
        };
        // Usually a slot for each Sentinel; sometimes one too few or too many.
        let slots = if storm { n - 1 + random.index(3) } else { n };
        let workers: Vec<Worker> = (0..=random.index(3))
            .flat_map(|_| (0..masters.len()).map(Worker::new))
            .collect();
        let mut world = Self {
            weather,
            now: 1000,
            sequence: 0,
            due: BTreeMap::new(),
            network: Network::new(n, ensemble.nodes.len()),
            ensemble,
            rules: rules_of(&format!(
                r#"{{"masters": ["m"], "poll_interval": "{poll}s"}}"#
            )),
            early_switch: storm && random.percent(25),
            roster: Roster::default(),
            slots: (0..slots)
                .map(|_| Slot::new(Conversation::new(settings.clone())))
                .collect(),
            settings,
            alarms: vec![0; workers.len()],
            workers,
            masters,
            random,
            counts: BTreeMap::new(),
            trace: trace.then(Vec::new),
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for i in 0..self.ensemble.all.len() {
            self.after(0, TIMER, Due::Timer(i));
            self.after(0, HELLO, Due::Hello(i, true));
        }
        for s in 0..self.slots.len() {
            self.after(0, 200, Due::Connect(s, 0));
        }
        for m in 0..self.masters.len() {
            self.after(0, 1000, Due::Probe(m));
        }
        for worker in 0..self.workers.len() {
            self.after(0, 100, Due::Client(worker));
        }
        self.after(3000, 1000, Due::Trouble);
    }

    pub fn after(&mut self, at_least: u64, spread: u64, due: Due) {
        let at = self.now + at_least + self.random.below(spread.max(1));
        self.at(at, due);
    }

    pub fn at(&mut self, at: u64, due: Due) {
        self.sequence += 1;
        self.due.insert((at, self.sequence), due);
    }

    /// Counts something, and tells it.
    pub fn note(&mut self, what: &'static str, more: impl FnOnce() -> String) {
        *self.counts.entry(what).or_default() += 1;
        self.tell(|_| format!("{what} {}", more()));
    }

    pub fn tell(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.trace.is_some() {
            let line = format!("{:7} {}", self.now, line(self));
            self.trace
                .iter_mut()
                .for_each(|trace| trace.push(line.clone()));
        }
    }

    pub fn followed(&self, name: &str) -> usize {
        self.masters
            .iter()
            .position(|master| master.name == name)
            .unwrap()
    }

    /// Trouble, then healing; what must be true at the end.
    pub fn run(&mut self) {
        self.until(TROUBLE);
        self.heal();
        let (mut agreed, mut since) = (self.agreed(), self.now);
        while !self.is_well() {
            self.until(self.now + 250);
            if self.agreed() != agreed {
                (agreed, since) = (self.agreed(), self.now);
            }
            if agreed.is_some() {
                assert!(
                    self.now < since + HEALED_WITHIN,
                    "not where the Sentinels agree: {}",
                    self.story()
                );
            } else if self.now > since + AGREED_WITHIN {
                self.note("helped", String::new);
                since = self.now;
                for m in 0..self.masters.len() {
                    self.ensemble.fail_over(0, m, self.now, &mut self.random);
                }
            }
            assert!(self.now < 20 * TROUBLE, "the Sentinels never agree");
        }
        if self.weather == Weather::Calm {
            self.masters.iter().for_each(Followed::check_story);
        }
    }

    fn agreed(&self) -> Option<Vec<(char, u64)>> {
        (0..self.masters.len())
            .map(|m| self.ensemble.agreed(m))
            .collect()
    }

    fn story(&self) -> String {
        let of = |m: &Followed| format!("{:?}", m.topology);
        let watched: Vec<Option<usize>> = self.slots.iter().map(|slot| slot.to).collect();
        let topologies: Vec<String> = self.masters.iter().map(of).collect();
        format!("{:?}, watched {watched:?}, {topologies:#?}", self.agreed())
    }

    fn until(&mut self, end: u64) {
        while let Some(next) = self.due.first_entry().filter(|next| next.key().0 <= end) {
            let ((at, _), due) = next.remove_entry();
            self.now = at;
            self.check_time();
            self.happen(due);
        }
        self.now = end;
    }

    fn happen(&mut self, due: Due) {
        let troubled = self.now < TROUBLE;
        match due {
            Due::Trouble if self.now < TROUBLE - 100 => {
                self.trouble();
                self.after(1000, 7000, Due::Trouble);
            }
            Due::Die(i) if troubled => self.die(i),
            Due::Trouble | Due::Die(_) => {}
            Due::Mend => self.network.heal(),
            Due::Restart(i) => self.ensemble.all[i].alive = true,
            Due::Resume(i) => {
                // Its clock has jumped.
                if std::mem::take(&mut self.ensemble.all[i].hung) {
                    let pushes = self.ensemble.enter_tilt(i, self.now);
                    self.publish(i, pushes);
                    self.resume(i);
                }
            }
            Due::NodeUp(name) => self.ensemble.nodes.edit(name).up = true,
            Due::Timer(i) => {
                let pushes = self
                    .ensemble
                    .tick(i, self.now, &self.network, &mut self.random);
                // The leader tells the others at once (`sentinelForceHelloUpdateForMaster`).
                let forced = pushes
                    .iter()
                    .any(|(channel, _)| *channel == "+promoted-slave");
                self.publish(i, pushes);
                if forced {
                    self.after(0, 200, Due::Hello(i, false));
                }
                self.at(self.now + self.ensemble.all[i].span(TIMER), Due::Timer(i));
            }
            Due::Hello(i, again) => {
                for (j, push) in self.ensemble.hello(i, &self.network) {
                    self.publish(j, vec![push]);
                }
                if again {
                    let at = self.now + self.ensemble.all[i].span(HELLO);
                    self.at(at, Due::Hello(i, true));
                }
            }
            Due::Connect(s, number) => self.connect_again(s, number),
            Due::Connected(s, number, i) => self.connected(s, number, i),
            Due::Ended(s, number) => self.ended(s, number),
            Due::Heartbeat(s, number) => self.heartbeat(s, number),
            Due::Slot(s, number) => self.timer(s, number),
            Due::Arrive(s, number, direction, bytes) => self.arrive(s, number, direction, &bytes),
            Due::Probe(m) => self.probe(m),
            Due::Role(m, address, role) => {
                let early = self.early_switch;
                self.change(m, |topology, _, _| topology.role(&address, role, early));
            }
            Due::Tick(m) => self.change(m, |topology, now, rules| topology.tick(now, rules)),
            Due::Follow => self.follow(),
            Due::Wake(worker) => self.wake(worker),
            Due::Client(worker) => {
                let reach = self.reach();
                self.workers[worker].client(self.now, &mut self.random, &reach);
                self.wake_at_due(worker);
                self.after(1, 600, Due::Client(worker));
            }
        }
    }

    /// Asks the master for its role, or with `early_switch` the candidate.
    fn probe(&mut self, m: usize) {
        let topology = &self.masters[m].topology;
        let candidate = topology.candidate().filter(|_| self.early_switch).cloned();
        let again = if candidate.is_some() { 20 } else { 500 };
        if let Some(address) = candidate.or_else(|| topology.route().master) {
            let name = redis::at(&address);
            if self.reaches(name) {
                let role = if self.ensemble.nodes.get(name).is_master {
                    Role::Master
                } else {
                    Role::Replica
                };
                let delay = Network::delay(&mut self.random);
                self.after(delay, 1, Due::Role(m, address, role));
            }
        }
        self.after(again, 1, Due::Probe(m));
    }

    /// After a change of a topology: wakes whoever must know, and looks again when time alone changes something.
    pub fn spread(&mut self, m: usize, told: bool) {
        if told {
            self.after(0, WAKE, Due::Follow);
            for worker in 0..self.workers.len() {
                if self.workers[worker].master == m {
                    self.after(0, WAKE, Due::Wake(worker));
                }
            }
        }
        let followed = &mut self.masters[m];
        if let Some(due) = followed.topology.next_due(&self.rules)
            && due.0 > self.now
            && due.0 != followed.ticks_at
        {
            followed.ticks_at = due.0;
            self.at(due.0, Due::Tick(m));
        }
    }

    fn wake(&mut self, worker: usize) {
        let reach = self.reach();
        let followed = &self.masters[self.workers[worker].master];
        let (route, epoch, resets) = (
            followed.topology.route(),
            followed.topology.config_epoch(),
            followed.resets,
        );
        self.workers[worker].follow(epoch, resets);
        self.workers[worker].wake(self.now, route, &reach);
        self.wake_at_due(worker);
    }

    fn wake_at_due(&mut self, worker: usize) {
        let Some(due) = self.workers[worker].admission.next_due() else {
            return;
        };
        let due = due.0.max(self.now + 1);
        // One timer per worker is enough: it is set anew when it fires.
        if self.alarms[worker] <= self.now || due < self.alarms[worker] {
            self.alarms[worker] = due;
            self.at(due, Due::Wake(worker));
        }
    }
}
