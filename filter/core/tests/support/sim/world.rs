//! Time, links and faults; the watch's side of the proxy; and the invariants of the topology.

use super::{
    Random,
    sentinels::{NODES, Push, Sentinel, Stage, elect, truth},
    workers::Worker,
};
use crate::support::{letter, rules};
use sentinel_core::{
    event,
    fact::{Cause, Fact},
    time::Timestamp,
    topology::{Answer, Rules, Topology},
};
use std::collections::BTreeMap;

/// For so long things go wrong.
const TROUBLE: u64 = 60_000;
/// A majority that must insist against a Sentinel that stands by another epoch takes 30 s; then a poll and a hello.
pub const HEALED_WITHIN: u64 = 40_000;
/// How long a wake-up may take to reach a worker.
const WAKE: u64 = 10;

#[derive(Clone)]
enum Due {
    Trouble,
    Hello(usize),
    Step(usize, u64),
    Flag(usize),
    Die(usize),
    Restart(usize),
    Join(usize),
    NodeUp(usize),
    Tilt(usize),
    Poll(usize),
    LinkUp(usize),
    Deliver(usize, u64, Word),
    Tick,
    Wake(usize),
    Client(usize),
}

#[derive(Clone)]
enum Word {
    Push(Push),
    Answer(Answer),
}

/// The proxy's connection to one Sentinel: in order, until it breaks.
#[derive(Clone, Default)]
struct Link {
    cut: bool,
    number: u64,
    last: u64,
}

/// What a run is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Planned and unplanned failovers, lagging hellos, TILT, aborts: nothing that may lead anybody astray.
    Calm,
    /// Leaders die, links break and stall, Sentinels are rebuilt.
    Storm,
}

pub struct World {
    weather: Weather,
    now: u64,
    sequence: u64,
    due: BTreeMap<(u64, u64), Due>,
    random: Random,
    sentinels: Vec<Sentinel>,
    links: Vec<Link>,
    up: Vec<bool>,
    workers: Vec<Worker>,
    /// When each worker's timer fires next.
    alarms: Vec<u64>,
    rules: Rules,
    topology: Topology,
    ticks_at: u64,
    fenced_since: Option<u64>,
    /// Masters as they were adopted, and as they were promoted.
    pub adopted: Vec<char>,
    pub promoted: Vec<char>,
    /// How often each of these happened, to see that a run is worth something.
    pub counts: BTreeMap<&'static str, u64>,
    trace: bool,
}

impl World {
    pub fn new(seed: u64, weather: Weather, trace: bool) -> Self {
        let mut random = Random::new(seed);
        let n = 3 + random.index(3);
        let mut world = Self {
            weather,
            now: 1000,
            sequence: 0,
            due: BTreeMap::new(),
            sentinels: vec![Sentinel::new(); n],
            links: vec![Link::default(); n],
            up: vec![true; NODES.len()],
            workers: (0..=random.index(3)).map(|_| Worker::new()).collect(),
            random,
            alarms: vec![0; 3],
            rules: rules(),
            topology: Topology::default(),
            ticks_at: 0,
            fenced_since: None,
            adopted: vec![],
            promoted: vec!['A'],
            counts: BTreeMap::new(),
            trace,
        };
        for i in 0..n {
            world.after(0, 2000, Due::Hello(i));
            world.after(0, 1000, Due::Poll(i));
        }
        for worker in 0..world.workers.len() {
            world.after(0, 100, Due::Client(worker));
        }
        world.after(1500, 1000, Due::Trouble);
        world
    }

    fn after(&mut self, at_least: u64, spread: u64, due: Due) {
        let at = self.now + at_least + self.random.below(spread.max(1));
        self.at(at, due);
    }

    fn at(&mut self, at: u64, due: Due) {
        self.sequence += 1;
        self.due.insert((at, self.sequence), due);
    }

    fn note(&mut self, what: &'static str, more: impl FnOnce(&Self) -> String) {
        *self.counts.entry(what).or_default() += 1;
        if self.trace {
            println!("{:7} {what} {}", self.now, more(self));
        }
    }

    /// Trouble, then healing; what must be true at the end.
    pub fn run(&mut self) {
        self.until(TROUBLE);
        self.heal();
        // All hellos have been said by then; what is well is not looked at for the rest of the time.
        self.until(TROUBLE + 6000);
        while !self.is_well() && self.now < TROUBLE + HEALED_WITHIN {
            self.until(self.now + 500);
        }
        let route = self.topology.route();
        let (master, _) = truth(&self.sentinels);
        assert_eq!(route.master, Some(master), "the topology after the healing");
        assert_eq!(
            (route.fenced_until, route.hold),
            (None, None),
            "all is well"
        );
        for worker in &self.workers {
            assert_eq!(worker.route, route, "a worker after the healing");
            assert!(worker.is_calm(), "somebody still waits");
        }
        if self.weather == Weather::Calm {
            assert_eq!(self.adopted, self.promoted, "each promotion once, in order");
        }
    }

    fn is_well(&self) -> bool {
        let route = self.topology.route();
        route.master == Some(truth(&self.sentinels).0)
            && (route.fenced_until, route.hold) == (None, None)
            && self
                .workers
                .iter()
                .all(|worker| worker.route == route && worker.is_calm())
    }

    fn until(&mut self, end: u64) {
        while let Some(((at, _), due)) = self.due.pop_first() {
            if at > end {
                self.at(at, due);
                break;
            }
            self.now = at;
            self.happen(due);
        }
        self.now = end;
    }

    fn heal(&mut self) {
        self.note("healed", |_| String::new());
        for i in 0..self.sentinels.len() {
            self.sentinels[i].alive = true;
            self.sentinels[i].reachable = true;
            self.sentinels[i].tilt = false;
            self.say(i, vec![("-tilt", "#tilt mode exited".into())]);
            self.links[i].cut = false;
        }
        self.up = vec![true; NODES.len()];
        for i in 0..self.sentinels.len() {
            self.after(0, 1000, Due::Flag(i));
        }
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Trouble if self.now < TROUBLE - 100 => {
                self.trouble();
                self.after(1000, 7000, Due::Trouble);
            }
            Due::Trouble => {}
            Due::Hello(i) => {
                self.hello(i);
                self.after(1000, 2000, Due::Hello(i));
            }
            Due::Step(i, epoch) => self.step(i, epoch),
            Due::Flag(i) => self.flag(i),
            Due::Die(i) if self.now < TROUBLE => self.die(i),
            Due::Die(_) => {}
            Due::Restart(i) => {
                self.sentinels[i].alive = true;
                self.after(0, 100, Due::Flag(i));
            }
            Due::Join(i) => self.sentinels[i].reachable = true,
            Due::NodeUp(node) => {
                self.up[node] = true;
                for i in 0..self.sentinels.len() {
                    self.after(0, 1000, Due::Flag(i));
                }
            }
            Due::Tilt(i) => {
                if std::mem::take(&mut self.sentinels[i].tilt) {
                    self.say(i, vec![("-tilt", "#tilt mode exited".into())]);
                }
            }
            Due::Poll(i) => self.poll(i),
            Due::LinkUp(i) => self.links[i].cut = false,
            Due::Deliver(i, number, word) => {
                if self.links[i].number == number {
                    self.hear(i, word);
                }
            }
            Due::Tick => self.change(|topology, now, rules| topology.tick(now, rules)),
            Due::Wake(worker) => self.wake(worker),
            Due::Client(worker) => {
                let up = self.up.clone();
                self.workers[worker].client(self.now, &mut self.random, &up);
                self.wake_at_due(worker);
                self.after(1, 300, Due::Client(worker));
            }
        }
    }

    fn trouble(&mut self) {
        let i = self.random.index(self.sentinels.len());
        let storm = self.weather == Weather::Storm;
        match self.random.below(if storm { 10 } else { 4 }) {
            0 | 1 => self.fail_over(i, "planned failover"),
            2 => {
                let master = self.sentinels[i].names();
                let index = NODES.iter().position(|n| *n == master).unwrap();
                self.note("node killed", |_| master.to_string());
                self.up[index] = false;
                for sentinel in 0..self.sentinels.len() {
                    self.after(1000, 200, Due::Flag(sentinel));
                }
                self.after(2000, 15_000, Due::NodeUp(index));
            }
            3 => {
                self.note("tilt", |_| i.to_string());
                self.sentinels[i].tilt = true;
                self.say(i, vec![("+tilt", "#tilt mode entered".into())]);
                self.after(5000, 30_000, Due::Tilt(i));
            }
            4 => {
                // Most interesting: a leader, between its promotion and its hello.
                let leading = |s: &Sentinel| s.failover.is_some();
                let victim = self.sentinels.iter().position(leading).unwrap_or(i);
                self.die(victim);
            }
            5 => {
                self.note("sentinel isolated", |_| i.to_string());
                self.sentinels[i].reachable = false;
                self.after(2000, 20_000, Due::Join(i));
            }
            6 | 7 => {
                self.note("link cut", |_| i.to_string());
                self.break_link(i);
                self.links[i].cut = true;
                self.after(500, 20_000, Due::LinkUp(i));
            }
            8 => {
                self.note("link stalls", |_| i.to_string());
                self.links[i].last = self.now + 3000;
            }
            _ => self.rebuild(),
        }
    }

    fn die(&mut self, victim: usize) {
        self.note("sentinel dies", |_| victim.to_string());
        self.sentinels[victim].die();
        self.break_link(victim);
        self.after(1000, 30_000, Due::Restart(victim));
    }

    /// All Sentinels anew: epoch 0, the present master or another one.
    fn rebuild(&mut self) {
        let best = truth(&self.sentinels).0;
        let master = match self.random.percent(30) {
            true => NODES[self.random.index(NODES.len())],
            false => letter(&best),
        };
        self.note("rebuilt", |_| master.to_string());
        for i in 0..self.sentinels.len() {
            self.break_link(i);
            self.sentinels[i] = Sentinel {
                master,
                ..Sentinel::new()
            };
            self.after(1000, 200, Due::Flag(i));
        }
    }

    fn break_link(&mut self, i: usize) {
        self.links[i].number += 1;
        self.links[i].last = self.now;
    }

    fn fail_over(&mut self, leader: usize, why: &'static str) {
        // In calm weather one failover waits until all have heard of the one before: an event of a failover that is
        // history misleads (a known defect, `a_late_event_of_a_failover_that_is_history`).
        let known = self.sentinels[leader].config_epoch;
        let settled = |s: &Sentinel| s.failover.is_none() && s.config_epoch == known;
        if self.weather == Weather::Calm && !self.sentinels.iter().all(settled) {
            return;
        }
        if elect(&mut self.sentinels, leader, &self.up, &mut self.random) {
            let epoch = self.sentinels[leader].current_epoch;
            self.note(why, |w| format!("{:?}", w.sentinels[leader].failover));
            self.after(50, 100, Due::Step(leader, epoch));
            if self.weather == Weather::Storm && self.random.percent(25) {
                self.after(100, 2500, Due::Die(leader));
            }
        }
    }

    fn step(&mut self, i: usize, epoch: u64) {
        let Some(failover) = &self.sentinels[i].failover else {
            return;
        };
        if failover.epoch != epoch {
            return;
        }
        let before = failover.stage;
        let (pushes, next) = self.sentinels[i].step(self.now, &self.up, &mut self.random);
        if before == Stage::WaitPromotion && pushes.iter().any(|(c, _)| *c == "+promoted-slave") {
            self.promoted.push(self.sentinels[i].names());
        }
        self.say(i, pushes);
        if let Some(next) = next {
            self.at(next, Due::Step(i, epoch));
        }
    }

    /// One hello reaches all that can be reached.
    fn hello(&mut self, from: usize) {
        let sender = self.sentinels[from].clone();
        if !sender.alive || !sender.reachable {
            return;
        }
        for i in 0..self.sentinels.len() {
            if i != from && self.sentinels[i].alive && self.sentinels[i].reachable {
                let pushes = self.sentinels[i].hello(
                    sender.names(),
                    sender.config_epoch,
                    sender.current_epoch,
                );
                self.say(i, pushes);
            }
        }
    }

    /// It looks at its master; a majority that sees it down elects somebody.
    fn flag(&mut self, i: usize) {
        if !self.sentinels[i].alive {
            return;
        }
        let master = self.sentinels[i].master;
        let down = !self.up[NODES.iter().position(|n| *n == master).unwrap()];
        let pushes = self.sentinels[i].flag(down);
        self.say(i, pushes);
        let seen = |s: &&Sentinel| s.alive && s.sdown && s.master == master;
        if down && self.sentinels.iter().filter(seen).count() > self.sentinels.len() / 2 {
            self.fail_over(i, "failover");
        }
        if down {
            self.after(6000, 1000, Due::Flag(i));
        }
    }

    fn say(&mut self, i: usize, pushes: Vec<Push>) {
        for push in pushes {
            if self.trace {
                println!("{:7} s{i} {push:?}", self.now);
            }
            self.send(i, Word::Push(push));
        }
    }

    fn send(&mut self, i: usize, word: Word) {
        if self.links[i].cut || !self.sentinels[i].alive {
            return;
        }
        let at = self.links[i].last.max(self.now + self.random.below(20));
        self.links[i].last = at;
        self.at(at, Due::Deliver(i, self.links[i].number, word));
    }

    fn poll(&mut self, i: usize) {
        let answer = self.sentinels[i].answer(self.sentinels.len());
        self.send(i, Word::Answer(answer));
        let pace = if self.topology.is_unsettled() {
            500
        } else {
            1000
        };
        self.after(pace, 50, Due::Poll(i));
    }

    fn hear(&mut self, i: usize, word: Word) {
        let name = format!("s{i}");
        match word {
            Word::Push((channel, payload)) => {
                let event = event::parse(channel, &payload).unwrap();
                self.change(|topology, now, rules| topology.event(now, rules, &name, &event));
            }
            Word::Answer(answer) => {
                let slot = u32::try_from(i).unwrap();
                self.change(|topology, now, rules| {
                    topology.report(now, rules, &name, slot, &answer)
                });
            }
        }
    }

    /// The only place where the topology changes; its invariants.
    fn change(&mut self, change: impl FnOnce(&mut Topology, Timestamp, &Rules) -> Vec<Fact>) {
        let before = self.topology.clone();
        let (now, rules) = (Timestamp(self.now), self.rules);
        let facts = change(&mut self.topology, now, &rules);
        let json = serde_json::to_vec(&self.topology).unwrap();
        self.topology = serde_json::from_slice::<Topology>(&json)
            .inspect(|read| assert_eq!(*read, self.topology, "through JSON"))
            .unwrap();
        assert!(json.len() < 16_384, "the topology grows without bound");
        let reset = |fact: &Fact| {
            matches!(
                fact,
                Fact::Master {
                    cause: Cause::EpochReset,
                    ..
                }
            )
        };
        assert!(
            self.topology.config_epoch() >= before.config_epoch() || facts.iter().any(reset),
            "back to a lower epoch: {before:?}, {facts:?}"
        );
        for fact in &facts {
            if let Fact::Master { address, cause, .. } = fact {
                if before.route().master.as_ref() != Some(address) {
                    self.adopted.push(letter(address));
                }
                if *cause == Cause::EpochReset {
                    self.note("epoch reset", |_| String::new());
                }
            }
            if matches!(fact, Fact::FenceExpired { .. }) {
                self.note("fence expired", |_| String::new());
            }
            if self.trace {
                println!("{:7}    {fact}", self.now);
            }
        }
        self.check_fence(&before);
        let (old, new) = (before.route(), self.topology.route());
        let told = self.topology.generation != before.generation;
        assert!(
            old == new || told,
            "the route changed and no worker is told"
        );
        if told {
            for worker in 0..self.workers.len() {
                self.after(0, WAKE, Due::Wake(worker));
            }
        }
        if let Some(due) = self.topology.next_due(&self.rules)
            && due.0 > self.now
            && due.0 != self.ticks_at
        {
            // The watch looks again a moment after: a flag counts up to and including its last millisecond.
            self.ticks_at = due.0;
            self.at(due.0, Due::Tick);
            self.at(due.0 + 1, Due::Tick);
        }
    }

    fn check_fence(&mut self, before: &Topology) {
        let fence = self.topology.route().fenced_until;
        let began = before.route().fenced_until;
        self.fenced_since = match (fence, self.fenced_since) {
            (None, _) => None,
            (Some(_), Some(since)) if began == fence => Some(since),
            (Some(_), _) => {
                self.note("fence", |_| String::new());
                Some(self.now)
            }
        };
        assert!(
            self.fenced_since
                .is_none_or(|since| self.now < since + 3000),
            "a fence stands longer than fence_timeout"
        );
    }

    fn wake(&mut self, worker: usize) {
        let up = self.up.clone();
        self.workers[worker].wake(self.now, self.topology.route(), &up);
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
