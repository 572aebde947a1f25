//! Sentinels as `sentinel.c` (7.0) has them, as far as a client can see; its function names in brackets. Quorum is a
//! majority, `down-after-milliseconds` 1 s, `failover-timeout` 5 s.

use super::{Random, network::Network, redis::Nodes};
use crate::support::node;
use std::collections::BTreeMap;

const DOWN_AFTER: u64 = 1000;
const FAILOVER_TIMEOUT: u64 = 5000;
/// A replica that says master is converted when it has said so for four hellos.
const CONVERT_AFTER: u64 = 8000;
const TILT: u64 = 30_000;

/// An event on its channel.
pub type Push = (&'static str, String);

/// How far a failover is at its leader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    WaitStart,
    SelectReplica,
    SendPromotion,
    WaitPromotion,
    Reconfigure,
}

#[derive(Clone, Debug)]
pub struct Failover {
    pub epoch: u64,
    pub stage: Stage,
    pub candidate: char,
    /// `SENTINEL FAILOVER`: needs no votes.
    forced: bool,
    /// When the stage began, and when the candidate is looked at next.
    since: u64,
    look_at: u64,
}

/// One master as one Sentinel sees it.
#[derive(Clone)]
pub struct Monitor {
    pub name: &'static str,
    pub nodes: Vec<char>,
    pub master: char,
    pub config_epoch: u64,
    pub sdown: bool,
    odown: bool,
    pub failover: Option<Failover>,
    /// No failover of its own before that.
    not_before: u64,
    /// The vote: in which epoch, for whom.
    vote: (u64, usize),
    heard: BTreeMap<char, u64>,
    /// Nodes that claim to be masters and are not, since then.
    wrong: BTreeMap<char, u64>,
    /// The other Sentinels and which life of theirs, as hellos named them.
    pub known: BTreeMap<usize, usize>,
}

#[derive(Clone)]
pub struct Sentinel {
    pub alive: bool,
    /// SIGSTOP, or a host that swaps: it answers nothing and does nothing.
    pub hung: bool,
    /// Restarts with a new identity raise it.
    pub life: usize,
    pub tilt_until: Option<u64>,
    /// Its clock in percent of the true one.
    pub rate: u64,
    pub current_epoch: u64,
    pub monitors: Vec<Monitor>,
    /// It speaks RESP2 only, and no events.
    pub old: bool,
}

impl Monitor {
    pub fn new(name: &'static str, nodes: &[char], known: BTreeMap<usize, usize>) -> Self {
        Self {
            name,
            nodes: nodes.to_vec(),
            master: nodes[0],
            config_epoch: 0,
            sdown: false,
            odown: false,
            failover: None,
            not_before: 0,
            vote: (0, usize::MAX),
            heard: BTreeMap::new(),
            wrong: BTreeMap::new(),
            known,
        }
    }

    /// `GET-MASTER-ADDR-BY-NAME`: the promoted replica while the failover still ends (`sentinelGetCurrentMasterAddress`).
    pub fn names(&self) -> char {
        match &self.failover {
            Some(failover) if failover.stage == Stage::Reconfigure => failover.candidate,
            _ => self.master,
        }
    }

    fn about(&self) -> String {
        format!("master {} {} 6379", self.name, node(self.master).host())
    }

    fn about_replica(&self, of: char) -> String {
        let (to, host) = (node(of), node(of).host());
        let master = node(self.master).host();
        format!("slave {to} {host} 6379 @ {} {master} 6379", self.name)
    }

    /// `sentinelResetMasterAndChangeAddress`.
    fn switch(&mut self, to: char) -> Push {
        let (old, new) = (node(self.master).host(), node(to).host());
        let words = format!("{} {old} 6379 {new} 6379", self.name);
        self.master = to;
        self.forget();
        ("+switch-master", words)
    }

    pub fn forget(&mut self) {
        (self.sdown, self.odown, self.failover) = (false, false, None);
        self.heard.clear();
        self.wrong.clear();
    }

    fn abort(&mut self, channel: &'static str) -> Vec<Push> {
        self.failover = None;
        vec![(channel, self.about())]
    }
}

impl Sentinel {
    pub fn new(monitors: Vec<Monitor>, rate: u64, old: bool) -> Self {
        Self {
            alive: true,
            hung: false,
            life: 0,
            tilt_until: None,
            rate,
            current_epoch: 0,
            monitors,
            old,
        }
    }

    /// It dies; its configuration file names the promoted replica already (`rewriteConfigSentinelOption`).
    pub fn die(&mut self) {
        self.alive = false;
        self.tilt_until = None;
        for monitor in &mut self.monitors {
            monitor.master = monitor.names();
            monitor.forget();
        }
    }

    fn works(&self) -> bool {
        self.alive && !self.hung
    }

    /// So long a span on its clock.
    pub fn span(&self, true_span: u64) -> u64 {
        true_span * 100 / self.rate
    }
}

/// All Sentinels and what they watch.
pub struct Ensemble {
    pub all: Vec<Sentinel>,
    pub nodes: Nodes,
}

impl Ensemble {
    /// `sentinelTimer` for one Sentinel; returns what it publishes.
    pub fn tick(
        &mut self,
        i: usize,
        now: u64,
        network: &Network,
        random: &mut Random,
    ) -> Vec<Push> {
        let mut pushes = Vec::new();
        if !self.all[i].works() {
            return pushes;
        }
        for m in 0..self.all[i].monitors.len() {
            self.look(i, m, now, network);
        }
        match self.all[i].tilt_until {
            Some(until) if now < until => return pushes,
            Some(_) => {
                self.all[i].tilt_until = None;
                pushes.push(("-tilt", "#tilt mode exited".to_owned()));
            }
            None => {}
        }
        for m in 0..self.all[i].monitors.len() {
            pushes.extend(self.check_down(i, m, now, network));
            if self.all[i].monitors[m].failover.is_none() {
                pushes.extend(self.start_if_needed(i, m, now, random));
            }
            pushes.extend(self.go_on(i, m, now, network, random));
            self.convert(i, m, now, network);
        }
        pushes
    }

    pub fn enter_tilt(&mut self, i: usize, now: u64) -> Vec<Push> {
        self.all[i].tilt_until = Some(now + self.all[i].span(TILT));
        vec![("+tilt", "#tilt mode entered".to_owned())]
    }

    pub fn reaches(&self, i: usize, name: char, network: &Network) -> bool {
        let node = self.nodes.get(name);
        node.up && network.connected(network.sentinel(i), network.node(name))
    }

    fn meets(&self, i: usize, j: usize, network: &Network) -> bool {
        self.all[j].works() && network.connected(network.sentinel(i), network.sentinel(j))
    }

    /// PING and INFO.
    fn look(&mut self, i: usize, m: usize, now: u64, network: &Network) {
        for name in self.all[i].monitors[m].nodes.clone() {
            let reached = self.reaches(i, name, network);
            let is_master = self.nodes.get(name).is_master;
            let monitor = &mut self.all[i].monitors[m];
            if reached {
                monitor.heard.insert(name, now);
            } else {
                monitor.heard.entry(name).or_insert(now);
            }
            if reached && is_master && name != monitor.names() {
                monitor.wrong.entry(name).or_insert(now);
            } else {
                monitor.wrong.remove(&name);
            }
        }
    }

    fn sees_down(&self, i: usize, m: usize, name: char, now: u64) -> bool {
        let heard = self.all[i].monitors[m].heard.get(&name);
        heard.is_some_and(|heard| now - heard > self.all[i].span(DOWN_AFTER))
    }

    /// `sentinelCheckSubjectivelyDown`, `sentinelCheckObjectivelyDown`.
    fn check_down(&mut self, i: usize, m: usize, now: u64, network: &Network) -> Vec<Push> {
        let mut pushes = Vec::new();
        let master = self.all[i].monitors[m].master;
        let sdown = self.sees_down(i, m, master, now);
        let agree = |j: &usize| {
            let other = &self.all[*j];
            let same = other.monitors[m].master == master && other.monitors[m].sdown;
            *j != i && self.meets(i, *j, network) && other.tilt_until.is_none() && same
        };
        let others = (0..self.all.len()).filter(agree).count();
        let quorum = self.all.len() / 2 + 1;
        let odown = sdown && others + 1 >= quorum;
        let monitor = &mut self.all[i].monitors[m];
        let about = monitor.about();
        if monitor.sdown != sdown {
            pushes.push((if sdown { "+sdown" } else { "-sdown" }, about.clone()));
        }
        if monitor.odown != odown {
            pushes.push((if odown { "+odown" } else { "-odown" }, about));
        }
        (monitor.sdown, monitor.odown) = (sdown, odown);
        pushes
    }

    /// `sentinelStartFailoverIfNeeded`.
    fn start_if_needed(&mut self, i: usize, m: usize, now: u64, random: &mut Random) -> Vec<Push> {
        let monitor = &self.all[i].monitors[m];
        if !monitor.odown || now < monitor.not_before {
            return vec![];
        }
        self.start(i, m, now, false, random)
    }

    /// `SENTINEL FAILOVER`: false where it would be refused.
    pub fn fail_over(&mut self, i: usize, m: usize, now: u64, random: &mut Random) -> bool {
        let sentinel = &self.all[i];
        let able = sentinel.works() && sentinel.monitors[m].failover.is_none();
        if able && self.good(i, m, now).is_empty() {
            return false;
        }
        if able {
            self.start(i, m, now, true, random);
        }
        able
    }

    /// `sentinelStartFailover`.
    fn start(
        &mut self,
        i: usize,
        m: usize,
        now: u64,
        forced: bool,
        random: &mut Random,
    ) -> Vec<Push> {
        let sentinel = &mut self.all[i];
        sentinel.current_epoch += 1;
        let since = now + if forced { 0 } else { random.below(1000) };
        let not_before = now + sentinel.span(2 * FAILOVER_TIMEOUT) + random.below(1000);
        let monitor = &mut sentinel.monitors[m];
        monitor.not_before = not_before;
        monitor.failover = Some(Failover {
            epoch: sentinel.current_epoch,
            stage: Stage::WaitStart,
            candidate: monitor.master,
            forced,
            since,
            look_at: 0,
        });
        vec![]
    }

    /// `sentinelSelectSlave`, without the order of preference.
    fn good(&self, i: usize, m: usize, now: u64) -> Vec<char> {
        let monitor = &self.all[i].monitors[m];
        let good = |name: &&char| **name != monitor.master && !self.sees_down(i, m, **name, now);
        monitor.nodes.iter().filter(good).copied().collect()
    }

    /// `sentinelFailoverStateMachine`.
    fn go_on(
        &mut self,
        i: usize,
        m: usize,
        now: u64,
        network: &Network,
        random: &mut Random,
    ) -> Vec<Push> {
        let Some(failover) = self.all[i].monitors[m].failover.clone() else {
            return vec![];
        };
        let late = now > failover.since + self.all[i].span(FAILOVER_TIMEOUT);
        let reached = self.reaches(i, failover.candidate, network);
        match failover.stage {
            Stage::WaitStart if now < failover.since => {}
            Stage::WaitStart
                if failover.forced || self.elected(i, m, failover.epoch, network, random, now) =>
            {
                self.enter(i, m, now, Stage::SelectReplica);
            }
            Stage::WaitStart if late => {
                return self.all[i].monitors[m].abort("-failover-abort-not-elected");
            }
            Stage::WaitStart => {}
            Stage::SelectReplica => {
                let good = self.good(i, m, now);
                if good.is_empty() {
                    return self.all[i].monitors[m].abort("-failover-abort-no-good-slave");
                }
                let candidate = good[random.index(good.len())];
                self.enter(i, m, now, Stage::SendPromotion).candidate = candidate;
                let monitor = &self.all[i].monitors[m];
                let events = ["+selected-slave", "+failover-state-send-slaveof-noone"];
                return events
                    .map(|event| (event, monitor.about_replica(candidate)))
                    .to_vec();
            }
            Stage::SendPromotion if reached => {
                self.nodes.edit(failover.candidate).is_master = true;
                let look_at = now + random.below(self.all[i].span(1000));
                self.enter(i, m, now, Stage::WaitPromotion).look_at = look_at;
            }
            Stage::WaitPromotion if reached && now >= failover.look_at => {
                let monitor = &mut self.all[i].monitors[m];
                monitor.config_epoch = failover.epoch;
                let push = ("+promoted-slave", monitor.about_replica(failover.candidate));
                let lag = now + random.below(3000);
                self.enter(i, m, now, Stage::Reconfigure).look_at = lag;
                return vec![push];
            }
            Stage::SendPromotion | Stage::WaitPromotion if late => {
                return self.all[i].monitors[m].abort("-failover-abort-slave-timeout");
            }
            Stage::SendPromotion | Stage::WaitPromotion => {}
            Stage::Reconfigure if late || now >= failover.look_at => {
                return vec![self.all[i].monitors[m].switch(failover.candidate)];
            }
            Stage::Reconfigure => {}
        }
        vec![]
    }

    fn enter(&mut self, i: usize, m: usize, now: u64, stage: Stage) -> &mut Failover {
        let failover = self.all[i].monitors[m].failover.as_mut().unwrap();
        (failover.stage, failover.since) = (stage, now);
        failover
    }

    /// `sentinelGetLeader`: asks those that it reaches for their votes, each of which counts once per epoch.
    fn elected(
        &mut self,
        i: usize,
        m: usize,
        epoch: u64,
        network: &Network,
        random: &mut Random,
        now: u64,
    ) -> bool {
        let mut votes = 0;
        for j in 0..self.all.len() {
            let asked = j == i || self.all[i].monitors[m].known.contains_key(&j);
            if !asked || !self.meets(i, j, network) {
                continue;
            }
            let desync = now + random.below(1000);
            let other = &mut self.all[j];
            other.current_epoch = other.current_epoch.max(epoch);
            let monitor = &mut other.monitors[m];
            if monitor.vote.0 < epoch && other.current_epoch <= epoch {
                monitor.vote = (epoch, i);
                if j != i {
                    monitor.not_before = desync + 2 * FAILOVER_TIMEOUT;
                }
            }
            votes += usize::from(monitor.vote == (epoch, i));
        }
        let voters = self.all[i].monitors[m].known.len() + 1;
        votes > voters / 2 && votes > self.all.len() / 2
    }

    /// A node that says master and is none, for long: `+convert-to-slave`.
    fn convert(&mut self, i: usize, m: usize, now: u64, network: &Network) {
        let monitor = &self.all[i].monitors[m];
        let settled = monitor.failover.is_none()
            && !monitor.sdown
            && self.reaches(i, monitor.master, network);
        let wait = self.all[i].span(CONVERT_AFTER);
        let found = monitor
            .wrong
            .iter()
            .find(|(_, since)| now - **since > wait)
            .map(|(name, _)| *name);
        if let Some(name) = found.filter(|_| settled && self.nodes.get(monitor.master).is_master) {
            self.nodes.edit(name).is_master = false;
        }
    }

    /// `sentinelSendHello`: by Pub/Sub of any node that both reach.
    pub fn hello(&mut self, from: usize, network: &Network) -> Vec<(usize, Push)> {
        let sender = self.all[from].clone();
        let mut pushes = Vec::new();
        if !sender.works() {
            return pushes;
        }
        for (m, said) in sender.monitors.iter().enumerate() {
            for j in (0..self.all.len()).filter(|j| *j != from) {
                let both = |name: &char| {
                    self.reaches(from, *name, network) && self.reaches(j, *name, network)
                };
                if self.all[j].works() && said.nodes.iter().any(both) {
                    pushes.extend(
                        self.hear(j, m, from, &sender, said)
                            .into_iter()
                            .map(|push| (j, push)),
                    );
                }
            }
        }
        pushes
    }

    /// `sentinelProcessHelloMessage`.
    fn hear(
        &mut self,
        j: usize,
        m: usize,
        from: usize,
        sender: &Sentinel,
        said: &Monitor,
    ) -> Vec<Push> {
        let mut pushes = Vec::new();
        let place = address(from, sender.life);
        let listener = &mut self.all[j];
        listener.current_epoch = listener.current_epoch.max(sender.current_epoch);
        let monitor = &mut listener.monitors[m];
        if monitor.known.insert(from, sender.life) != Some(sender.life) {
            let (host, at) = (place.0, node(monitor.master).host());
            let id = run_id(from, sender.life);
            pushes.push((
                "+sentinel",
                format!("sentinel {id} {host} 26379 @ {} {at} 6379", monitor.name),
            ));
        }
        if said.config_epoch > monitor.config_epoch {
            monitor.config_epoch = said.config_epoch;
            if monitor.master != said.names() {
                pushes.push(monitor.switch(said.names()));
            }
        }
        pushes
    }

    /// Whom they all name, if all of them do and nothing is going on.
    pub fn agreed(&self, m: usize) -> Option<(char, u64)> {
        let of = |sentinel: &Sentinel| {
            (
                sentinel.monitors[m].master,
                sentinel.monitors[m].config_epoch,
            )
        };
        let first = of(&self.all[0]);
        let calm = |sentinel: &Sentinel| {
            let monitor = &sentinel.monitors[m];
            sentinel.works()
                && sentinel.tilt_until.is_none()
                && monitor.failover.is_none()
                && !monitor.sdown
        };
        let settled = self
            .all
            .iter()
            .all(|sentinel| of(sentinel) == first && calm(sentinel));
        (settled && self.nodes.get(first.0).is_master).then_some(first)
    }
}

/// Host and port of a Sentinel in this life of its.
pub fn address(i: usize, life: usize) -> (String, u16) {
    (format!("10.1.{}.{}", life % 250, i + 1), 26379)
}

pub fn run_id(i: usize, life: usize) -> String {
    format!("{i:020x}{life:020x}")
}
