//! Sentinels as `sentinel.c` has them, as far as a watch can see: config-epochs and current epochs, hellos, the order of
//! a failover's events, what is saved and what is lost when one dies.

use super::{super::node, Random};
use sentinel_core::{
    address::Address,
    reply::{MasterAddress, MasterState},
    topology::Answer,
};

/// Redis nodes: `A` to `C`.
pub const NODES: [char; 3] = ['A', 'B', 'C'];

/// How far a failover is at its leader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    Elected,
    WaitPromotion,
    Promoted,
}

#[derive(Clone, Debug)]
pub struct Failover {
    pub epoch: u64,
    pub candidate: char,
    pub stage: Stage,
    /// When the candidate must have been promoted.
    pub until: u64,
}

#[derive(Clone, Debug)]
pub struct Sentinel {
    pub alive: bool,
    /// Its link to the other Sentinels.
    pub reachable: bool,
    pub master: char,
    pub config_epoch: u64,
    pub current_epoch: u64,
    pub tilt: bool,
    pub sdown: bool,
    pub failover: Option<Failover>,
}

/// An event on its channel.
pub type Push = (&'static str, String);

fn about(master: char) -> String {
    format!("master mymaster {} 6379", node(master).host())
}

fn replica(of: char, master: char) -> String {
    let (to, host) = (node(of), node(of).host());
    format!(
        "slave {to} {host} 6379 @ mymaster {} 6379",
        node(master).host()
    )
}

fn switch(old: char, new: char) -> Push {
    let words = format!(
        "mymaster {} 6379 {} 6379",
        node(old).host(),
        node(new).host()
    );
    ("+switch-master", words)
}

impl Sentinel {
    pub fn new() -> Self {
        Self {
            alive: true,
            reachable: true,
            master: 'A',
            config_epoch: 0,
            current_epoch: 0,
            tilt: false,
            sdown: false,
            failover: None,
        }
    }

    /// `GET-MASTER-ADDR-BY-NAME` answers the promoted replica while the failover still ends.
    pub fn names(&self) -> char {
        match &self.failover {
            Some(failover) if failover.stage == Stage::Promoted => failover.candidate,
            _ => self.master,
        }
    }

    pub fn answer(&self, sentinels: usize) -> Answer {
        let stage = self.failover.as_ref().map(|failover| failover.stage);
        Answer {
            address: MasterAddress::Known(node(self.names())),
            state: Some(MasterState {
                config_epoch: self.config_epoch,
                down: self.sdown,
                promoting: stage == Some(Stage::WaitPromotion),
                failover: stage.is_some(),
                sentinels: u32::try_from(sentinels).unwrap(),
            }),
            replicas: None,
        }
    }

    /// It dies; its configuration file names the promoted replica already.
    pub fn die(&mut self) {
        self.master = self.names();
        self.failover = None;
        self.alive = false;
        self.sdown = false;
        self.tilt = false;
    }

    /// One step of its failover; returns what it publishes and when to go on.
    pub fn step(&mut self, now: u64, up: &[bool], random: &mut Random) -> (Vec<Push>, Option<u64>) {
        let Some(failover) = &mut self.failover else {
            return (vec![], None);
        };
        let master = self.master;
        let candidate = failover.candidate;
        let alive = up[NODES.iter().position(|n| *n == candidate).unwrap()];
        match failover.stage {
            Stage::Elected if candidate == master || !alive => {
                self.failover = None;
                (vec![("-failover-abort-no-good-slave", about(master))], None)
            }
            Stage::Elected => {
                failover.stage = Stage::WaitPromotion;
                failover.until = now + 5000;
                let events = ["+selected-slave", "+failover-state-send-slaveof-noone"];
                let pushes = events.map(|event| (event, replica(candidate, master)));
                (pushes.to_vec(), Some(now + 100 + random.below(1100)))
            }
            Stage::WaitPromotion if alive => {
                failover.stage = Stage::Promoted;
                self.config_epoch = failover.epoch;
                let push = ("+promoted-slave", replica(candidate, master));
                (vec![push], Some(now + 500 + random.below(3000)))
            }
            Stage::WaitPromotion if now >= failover.until => {
                self.failover = None;
                (vec![("-failover-abort-slave-timeout", about(master))], None)
            }
            Stage::WaitPromotion => (vec![], Some(now + 500)),
            Stage::Promoted => {
                (self.master, self.sdown) = (candidate, false);
                self.failover = None;
                (vec![switch(master, candidate)], None)
            }
        }
    }

    /// Another one's hello.
    pub fn hello(&mut self, named: char, config_epoch: u64, current_epoch: u64) -> Vec<Push> {
        self.current_epoch = self.current_epoch.max(current_epoch);
        if config_epoch <= self.config_epoch {
            return vec![];
        }
        self.config_epoch = config_epoch;
        if named == self.names() {
            return vec![];
        }
        let old = self.master;
        (self.master, self.sdown) = (named, false);
        self.failover = None;
        vec![switch(old, named)]
    }

    /// Its view of the master being down changes.
    pub fn flag(&mut self, down: bool) -> Vec<Push> {
        if self.sdown == down {
            return vec![];
        }
        self.sdown = down;
        vec![(if down { "+sdown" } else { "-sdown" }, about(self.master))]
    }
}

/// The leader's way into a failover: elected by a majority, with an epoch of its own.
pub fn elect(all: &mut [Sentinel], leader: usize, up: &[bool], random: &mut Random) -> bool {
    let majority = all.len() / 2 + 1;
    let voters: Vec<usize> = (0..all.len())
        .filter(|i| *i == leader || (all[*i].alive && all[*i].reachable))
        .collect();
    let able = all[leader].alive && all[leader].failover.is_none() && !all[leader].tilt;
    if !able || !all[leader].reachable || voters.len() < majority {
        return false;
    }
    let epoch = voters.iter().map(|i| all[*i].current_epoch).max().unwrap() + 1;
    for voter in voters {
        all[voter].current_epoch = epoch;
    }
    let master = all[leader].master;
    let good: Vec<char> = NODES
        .iter()
        .enumerate()
        .filter(|(i, n)| **n != master && up[*i])
        .map(|(_, n)| *n)
        .collect();
    let candidate = match good.len() {
        0 => master,
        len => good[random.index(len)],
    };
    all[leader].failover = Some(Failover {
        epoch,
        candidate,
        stage: Stage::Elected,
        until: 0,
    });
    true
}

/// Whom the Sentinels will agree on once they all hear each other: the highest epoch.
pub fn truth(all: &[Sentinel]) -> (Address, u64) {
    let best = all.iter().max_by_key(|s| s.config_epoch).unwrap();
    (node(best.names()), best.config_epoch)
}
