//! What goes wrong.

use super::{
    redis::Nodes,
    sentinels::{Monitor, Sentinel},
    world::{Due, Weather, World},
};
use crate::support::node;
use std::collections::BTreeMap;

impl World {
    pub fn trouble(&mut self) {
        let kinds = if self.weather == Weather::Calm { 5 } else { 16 };
        let i = self.random.index(self.ensemble.all.len());
        let m = self.random.index(self.masters.len());
        match self.random.below(kinds) {
            0 | 1 => self.planned(i, m),
            2 => self.kill_master(i, m),
            3 => {
                self.note("tilt", || i.to_string());
                let pushes = self.ensemble.enter_tilt(i, self.now);
                self.publish(i, pushes);
            }
            4 => self.stranger(i, m),
            5 => self.die(i),
            6 => {
                self.note("split", String::new);
                self.network.split(&mut self.random);
                self.after(500, 20_000, Due::Mend);
            }
            7 | 8 => {
                self.note("cut", String::new);
                self.network.cut(&mut self.random);
                self.after(500, 20_000, Due::Mend);
            }
            9 => {
                self.note("stall", String::new);
                let s = self.random.index(self.slots.len());
                let until = self.now + self.random.below(5000);
                self.slots[s].stall(until);
            }
            10 => {
                self.note("hung", || i.to_string());
                self.ensemble.all[i].hung = true;
                self.after(500, 10_000, Due::Resume(i));
            }
            11 => self.kill_any(),
            12 => self.replace(i),
            13 => {
                self.note("reset", || i.to_string());
                let monitor = &mut self.ensemble.all[i].monitors[m];
                monitor.forget();
                monitor.known.clear();
            }
            14 => self.rebuild(),
            // Most interesting: a leader, between its promotion and its hello.
            _ => {
                let leading = |s: &Sentinel| s.monitors.iter().any(|m| m.failover.is_some());
                let leader = self.ensemble.all.iter().position(leading);
                self.die(leader.unwrap_or(i));
            }
        }
    }

    /// In calm weather one failover waits until all have heard of the one before, and all is up: an event of a failover
    /// that is history misleads (`a_late_event_of_a_failover_that_is_history`).
    fn settled(&self, m: usize) -> bool {
        let of = |sentinel: &Sentinel| {
            let monitor = &sentinel.monitors[m];
            let idle = monitor.failover.is_none() && !monitor.sdown;
            idle.then_some((monitor.master, monitor.config_epoch))
        };
        let first = of(&self.ensemble.all[0]);
        let known = first.map(|(name, _)| super::redis::place(name));
        let agreed = first.is_some()
            && self
                .ensemble
                .all
                .iter()
                .all(|sentinel| of(sentinel) == first);
        self.weather != Weather::Calm
            || (agreed
                && self.masters[m].topology.route().master == known
                && self.reach().iter().all(|up| *up))
    }

    fn planned(&mut self, i: usize, m: usize) {
        if self.settled(m) && self.ensemble.fail_over(i, m, self.now, &mut self.random) {
            self.note("planned failover", || format!("s{i} {m}"));
            if self.weather == Weather::Storm && self.random.percent(25) {
                self.after(100, 2500, Due::Die(i));
            }
        }
    }

    fn kill_master(&mut self, i: usize, m: usize) {
        let name = self.ensemble.all[i].monitors[m].names();
        if self.settled(m) {
            self.kill(name);
        }
    }

    fn kill_any(&mut self) {
        let index = self.random.index(self.ensemble.nodes.len());
        self.kill(char::from(b'A' + u8::try_from(index).unwrap()));
    }

    fn kill(&mut self, name: char) {
        self.note("node killed", || name.to_string());
        self.ensemble.nodes.edit(name).up = false;
        self.after(2000, 15_000, Due::NodeUp(name));
    }

    /// Events of a master that is not followed, with the addresses of one that is.
    fn stranger(&mut self, i: usize, m: usize) {
        self.note("stranger", || i.to_string());
        let monitor = &self.ensemble.all[i].monitors[m];
        let (old, new) = (node(monitor.master), node(*monitor.nodes.last().unwrap()));
        let (old, to, new) = (old.host(), new.to_string(), new.host());
        let replica = format!("slave {to} {new} 6379 @ {}s {old} 6379", monitor.name);
        let pushes = vec![
            ("+odown", format!("master {}s {old} 6379", monitor.name)),
            ("+selected-slave", replica.clone()),
            ("+promoted-slave", replica),
            (
                "+switch-master",
                format!("{}s {old} 6379 {new} 6379", monitor.name),
            ),
        ];
        self.publish(i, pushes);
    }

    pub fn die(&mut self, i: usize) {
        if self.ensemble.all[i].alive {
            self.note("sentinel dies", || i.to_string());
            self.ensemble.all[i].die();
            self.hang_up(i);
            self.after(1000, 30_000, Due::Restart(i));
        }
    }

    /// A pod that comes back with an empty disk: another address and run id, epoch 0, the first node as master.
    fn replace(&mut self, i: usize) {
        self.note("replaced", || i.to_string());
        self.hang_up(i);
        let old = &self.ensemble.all[i];
        let (life, rate, speaks_old) = (old.life + 1, old.rate, old.old);
        self.ensemble.all[i] = Sentinel {
            life,
            ..Sentinel::new(self.monitors(), rate, speaks_old)
        };
    }

    fn monitors(&self) -> Vec<Monitor> {
        let monitor = |m: &super::world::Followed| Monitor::new(m.name, &m.nodes, BTreeMap::new());
        self.masters.iter().map(monitor).collect()
    }

    /// All Sentinels anew, their epochs at 0: somebody points them at the present masters, or at other ones.
    fn rebuild(&mut self) {
        let mut chosen = Vec::new();
        for m in 0..self.masters.len() {
            let present = self.ensemble.all[0].monitors[m].names();
            let nodes = &self.masters[m].nodes;
            let name = match self.random.percent(30) {
                true => nodes[self.random.index(nodes.len())],
                false => present,
            };
            for node in nodes {
                self.ensemble.nodes.edit(*node).is_master = *node == name;
            }
            chosen.push(name);
        }
        self.note("rebuilt", || format!("{chosen:?}"));
        for i in 0..self.ensemble.all.len() {
            self.hang_up(i);
            let old = &self.ensemble.all[i];
            let (life, rate, speaks_old) = (old.life, old.rate, old.old);
            let mut monitors = self.monitors();
            for (monitor, name) in monitors.iter_mut().zip(&chosen) {
                monitor.master = *name;
            }
            self.ensemble.all[i] = Sentinel {
                life,
                ..Sentinel::new(monitors, rate, speaks_old)
            };
        }
    }

    /// Everything works again.
    pub fn heal(&mut self) {
        self.note("healed", String::new);
        self.network.heal();
        self.ensemble.nodes.all_up();
        for sentinel in &mut self.ensemble.all {
            (sentinel.alive, sentinel.hung) = (true, false);
        }
    }

    /// Which nodes the proxy reaches.
    pub fn reach(&self) -> Vec<bool> {
        let nodes =
            (0..self.ensemble.nodes.len()).map(|n| char::from(b'A' + u8::try_from(n).unwrap()));
        nodes.map(|name| self.reaches(name)).collect()
    }

    pub fn reaches(&self, name: char) -> bool {
        let place = 1 + self.ensemble.all.len() + Nodes::index(name);
        self.ensemble.nodes.get(name).up && self.network.connected(super::network::PROXY, place)
    }
}
