//! What most tests start from: `envoy/redis.yaml` in small, with three Sentinels that agree.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use redis_sentinel_tests::host::{
    Conn, Heartbeat, Link, Opinion, Process, Root, Sentinel, Server, Worker,
};
use serde_json::{Value, json};

/// The master at the start, and its two replicas.
pub const MASTER: &str = "10.0.1.1:6379";
pub const REPLICA: &str = "10.0.1.2:6379";
pub const OTHER_REPLICA: &str = "10.0.1.3:6379";
/// The listeners for applications.
pub const LISTENER: &str = "127.0.0.1:6379";
pub const REPLICA_LISTENER: &str = "127.0.0.1:6380";
/// The key under which the address to dial stands.
pub const ORIGINAL_DST: &str = "envoy.network.transport_socket.original_dst_address";
pub const CLUSTER: &str = "envoy.tcp_proxy.cluster";
pub const NAME: &str = "mymaster";

/// One worker's listeners.
pub struct Side {
    pub worker: Worker,
    pub router: Root,
    pub watch: Root,
}

/// A process that watches three Sentinels, one per slot, the slots spread over the workers.
pub struct Site {
    pub process: Process,
    pub sides: Vec<Side>,
    pub sentinels: Vec<Sentinel>,
    pub heartbeats: Vec<Heartbeat>,
}

/// How a [`Site`] differs from the usual one.
pub struct Plan {
    pub workers: usize,
    pub router: Value,
    pub watch: Value,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            workers: 2,
            router: json!({ "master_name": NAME }),
            watch: json!({ "masters": [NAME], "discovered_cluster": "sentinel_discovered", "poll_interval": "1s" }),
        }
    }
}

impl Plan {
    /// Configured and not yet watching.
    pub fn build(self) -> Site {
        let process = Process::new();
        let addresses = ["10.0.0.1:26379", "10.0.0.2:26379", "10.0.0.3:26379"];
        let sentinels = addresses.map(|address| {
            let mut opinion = Opinion::new(MASTER, 1);
            opinion.replicas = vec![REPLICA.to_owned(), OTHER_REPLICA.to_owned()];
            Sentinel::start(&process, address, NAME, opinion)
        });
        Sentinel::introduce(&sentinels);
        process.cluster("sentinel_seeds", &addresses);
        let mut site = Site {
            process,
            sides: Vec::new(),
            sentinels: sentinels.into(),
            heartbeats: Vec::new(),
        };
        site.sides = (0..self.workers).map(|_| site.side(&self)).collect();
        site
    }

    /// Watching, with the master known and every conversation past its start.
    pub fn settled(self) -> Site {
        let mut site = self.build();
        site.watch();
        site.settle();
        site
    }
}

impl Site {
    /// A new worker, configured.
    pub fn side(&self, plan: &Plan) -> Side {
        let worker = self.process.worker();
        let router = worker.root("redis_router", plan.router.clone());
        let watch = worker.root("sentinel_watch", plan.watch.clone());
        Side {
            worker,
            router: router.expect("the router's configuration"),
            watch: watch.expect("the watch's configuration"),
        }
    }

    /// Starts the heartbeats of the three slots.
    pub fn watch(&mut self) {
        for slot in 0..3 {
            let root = &self.sides[slot % self.sides.len().min(2)].watch;
            self.heartbeats.push(Heartbeat::start(
                &self.process,
                root,
                &format!("@redis-sentinel-watch-{slot}"),
            ));
        }
    }

    /// Waits until every Sentinel is subscribed to.
    pub fn settle(&self) {
        let all = || {
            self.sentinels
                .iter()
                .all(|s| s.subscribers("+switch-master") == 1)
        };
        assert!(
            self.process.advance_until(Duration::from_secs(20), all),
            "{}",
            self.story()
        );
        self.process.advance_ms(50);
    }

    /// A client connects to the master's listener of a worker.
    pub fn client(&self, worker: usize) -> Conn {
        self.sides[worker].router.connect(LISTENER)
    }

    /// Changes what all Sentinels hold of the master.
    pub fn all(&self, change: impl Fn(&mut Opinion)) {
        self.sentinels.iter().for_each(|s| s.change(NAME, &change));
    }

    /// The log, for assertion messages.
    pub fn story(&self) -> String {
        let lines = self.process.log();
        lines
            .iter()
            .map(|l| {
                format!(
                    "{:>9.3} worker {}: {}\n",
                    l.at.as_secs_f64(),
                    l.worker,
                    l.text
                )
            })
            .collect()
    }

    /// The failover of [`MASTER`] to [`REPLICA`]: the replica is chosen.
    pub fn publish_selected(&self, leader: usize) {
        self.failover(leader, MASTER, REPLICA).selected();
    }

    /// The leader gives up.
    pub fn publish_aborted(&self, leader: usize) {
        self.failover(leader, MASTER, REPLICA).aborted();
    }

    /// The leader saw the replica become the master.
    pub fn publish_promoted(&self, leader: usize) {
        self.failover(leader, MASTER, REPLICA).promoted();
    }

    /// Any Sentinel says so in the end, the leader last.
    pub fn publish_switch(&self, sentinel: usize) {
        self.failover(sentinel, MASTER, REPLICA).switched(sentinel);
    }

    /// A failover as its leader sees it.
    pub fn failover(&self, leader: usize, from: &str, to: &str) -> Failover<'_> {
        Failover {
            site: self,
            leader,
            from: from.to_owned(),
            to: to.to_owned(),
        }
    }
}

/// What Sentinels say, and what they answer from then on, in the course of one failover.
pub struct Failover<'a> {
    site: &'a Site,
    leader: usize,
    from: String,
    to: String,
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

/// A Redis node that answers every command line with `+OK`, and ROLE truthfully.
pub struct Redis {
    pub role: &'static str,
    pub roles_asked: u32,
}

impl Redis {
    /// Puts one at an address.
    pub fn start(process: &Process, address: &str, role: &'static str) -> Rc<RefCell<Self>> {
        let redis = Rc::new(RefCell::new(Self {
            role,
            roles_asked: 0,
        }));
        process.serve(address, redis.clone());
        redis
    }
}

impl Server for Redis {
    fn data(&mut self, process: &Process, link: &Link, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        if text.contains("ROLE") {
            self.roles_asked += 1;
            let reply = match self.role {
                "master" => "*3\r\n$6\r\nmaster\r\n:425\r\n*0\r\n",
                "slave" => {
                    "*5\r\n$5\r\nslave\r\n$8\r\n10.0.1.1\r\n:6379\r\n$9\r\nconnected\r\n:425\r\n"
                }
                refusal => refusal,
            };
            link.send(process, reply.as_bytes());
        } else {
            link.send(process, &b"+OK\r\n".repeat(text.matches("\r\n").count()));
        }
    }
}

/// Envoy's echo filter, which stands where `tcp_proxy` does elsewhere.
pub struct Echo;

impl Echo {
    /// Puts it behind the readiness listeners.
    pub fn start(process: &Process) {
        process.serve("echo", Rc::new(RefCell::new(Self)));
    }
}

impl Server for Echo {
    fn data(&mut self, process: &Process, link: &Link, bytes: &[u8]) {
        link.send(process, bytes);
    }
}
