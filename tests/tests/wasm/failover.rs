//! A failover as Sentinels tell it.

use redis_sentinel_tests::host::Opinion;

use crate::site::{NAME, Site};

/// What Sentinels say, and what they answer from then on, in the course of one failover.
pub struct Failover<'a> {
    pub site: &'a Site,
    pub leader: usize,
    pub from: String,
    pub to: String,
}

impl Failover<'_> {
    fn change(&self, change: impl FnOnce(&mut Opinion)) {
        self.site.sentinels[self.leader].change(NAME, change);
    }

    fn publish(&self, sentinel: usize, channel: &str, payload: &str) {
        self.site.sentinels[sentinel].publish(&self.site.process, channel, payload);
    }

    fn replica_event(&self, channel: &str) {
        let (from, to) = (self.from.replace(':', " "), self.to.replace(':', " "));
        self.publish(
            self.leader,
            channel,
            &format!("slave {} {to} @ {NAME} {from}", self.to),
        );
    }

    /// The replica is chosen; within some 60 ms it will be told to be a master.
    pub fn selected(&self) {
        self.change(|o| {
            "master,failover_in_progress,force_failover".clone_into(&mut o.flags);
            o.failover_state = Some("send_slaveof_noone".to_owned());
        });
        self.replica_event("+selected-slave");
        self.replica_event("+failover-state-send-slaveof-noone");
        self.change(|o| o.failover_state = Some("wait_promotion".to_owned()));
    }

    /// The leader gives up.
    pub fn aborted(&self) {
        let payload = format!("master {NAME} {}", self.from.replace(':', " "));
        self.publish(self.leader, "-failover-abort-slave-timeout", &payload);
        self.change(|o| {
            "master".clone_into(&mut o.flags);
            o.failover_state = None;
        });
    }

    /// The replica is the master: the leader answers its address, but in `SENTINEL MASTER` still the old one with the
    /// new epoch.
    pub fn promoted(&self) {
        self.change(|o| {
            o.reported = Some(self.from.clone());
            o.address.clone_from(&self.to);
            o.failover_state = Some("reconf_slaves".to_owned());
            o.epoch += 1;
        });
        self.replica_event("+promoted-slave");
    }

    /// What any Sentinel says in the end, the leader last.
    pub fn switched(&self, sentinel: usize) {
        self.site.sentinels[sentinel].change(NAME, |o| {
            if o.address != self.to {
                o.epoch += 1;
            }
            o.reported = None;
            o.failover_state = None;
            "master".clone_into(&mut o.flags);
            o.address.clone_from(&self.to);
        });
        let (from, to) = (self.from.replace(':', " "), self.to.replace(':', " "));
        self.publish(sentinel, "+switch-master", &format!("{NAME} {from} {to}"));
    }
}
