//! What most tests start from: `envoy/redis.yaml` in small, with three Sentinels that agree.

use std::time::Duration;

use redis_sentinel_tests::host::{Conn, Heartbeat, Opinion, Process, Root, Sentinel, Worker};
use serde_json::{Value, json};

use crate::failover::Failover;

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
