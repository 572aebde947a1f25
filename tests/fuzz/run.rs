//! One run: what the bytes decide, and what must hold.

use std::collections::BTreeSet;
use std::time::Duration;

use redis_sentinel_tests::host::{Callback, CloseMode, Conn, Heartbeat};
use serde_json::json;

use crate::site::{LISTENER, MASTER, NAME, OTHER_REPLICA, Plan, REPLICA, Site};

/// Most pages of one VM: it begins with less than 64, and a peer may cost up to 48 (`wasm/hostile.rs`).
const MOST_PAGES: u64 = 64 + 6 * 48;
/// Most connections at once.
const MOST: usize = 24;

struct Decisions<'a>(&'a [u8]);

impl<'a> Decisions<'a> {
    fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *byte
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn bytes(&mut self) -> &'a [u8] {
        let length = self.below(24).min(self.0.len());
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }
}

/// What a peer may send that is no answer.
const NOISE: [&[u8]; 16] = [
    b"*1\r\n",
    b">3\r\n$7\r\nmessage\r\n",
    b"$14\r\n+switch-master\r\n",
    b"$5\r\n+tilt\r\n$0\r\n\r\n",
    b"_\r\n",
    b"*-1\r\n",
    b"-NOAUTH Authentication required.\r\n",
    b"-ERR unknown command 'SENTINEL'\r\n",
    b"+OK\r\n",
    b"%1\r\n$12\r\nconfig-epoch\r\n$20\r\n18446744073709551615\r\n",
    b"$9\r\n127.0.0.1\r\n",
    b"*2\r\n$9\r\n10.0.1.77\r\n$4\r\n6379\r\n",
    b"$524289\r\n",
    b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n",
    b"\r\n",
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
];

const KEYS: [&str; 3] = [
    "redis_sentinel/topology/mymaster",
    "redis_sentinel/roster/mymaster",
    "redis_sentinel/vms",
];

const VALUES: [&[u8]; 6] = [
    b"",
    b"7\n{}",
    b"18446744073709551615\n{\"generation\":18446744073709551615}",
    b"{}",
    b"[[1,2],[3,4]]",
    b"\xff\xfe",
];

const NODES: [&str; 5] = [
    MASTER,
    REPLICA,
    OTHER_REPLICA,
    "10.0.1.4:6379",
    "0.0.0.0:6379",
];

struct Run {
    site: Site,
    clients: Vec<Conn>,
    more: Vec<Heartbeat>,
    /// Sides whose listener leads to replicas now.
    for_reads: BTreeSet<usize>,
}

/// Does what the bytes say; returns the log lines (without numbers) and metrics that it led to.
pub fn run(input: &[u8]) -> BTreeSet<String> {
    let mut decisions = Decisions(input);
    let mut site = Plan {
        workers: 1 + decisions.below(3),
        watch: json!({ "masters": [NAME], "discovered_cluster": "sentinel_discovered", "poll_interval": "1s", "replicas": true }),
        ..Plan::default()
    }
    .build();
    site.watch();
    let mut run = Run {
        site,
        clients: Vec::new(),
        more: Vec::new(),
        for_reads: BTreeSet::new(),
    };
    run.site.process.advance_ms(500);
    while !decisions.0.is_empty() {
        run.step(&mut decisions);
        run.check();
    }
    run.heal();
    run.seen()
}

impl Run {
    fn client(&mut self, d: &mut Decisions<'_>) -> Option<Conn> {
        let at = d.below(self.clients.len().max(1));
        self.clients.get(at).cloned()
    }

    fn step(&mut self, d: &mut Decisions<'_>) {
        match d.below(16) {
            0 | 1 => self.connect(d),
            2 => {
                let client = self.client(d);
                client.iter().for_each(|c| c.send(d.bytes()));
            }
            3 => self.end(d),
            4 => {
                let callback = match d.below(4) {
                    0 => Callback::Data(u32::from(d.byte()) * 1000, d.byte() & 1 == 1),
                    1 => Callback::UpstreamData(u32::from(d.byte()) * 1000, d.byte() & 1 == 1),
                    2 => Callback::Close(u32::from(d.byte() % 3)),
                    _ => Callback::UpstreamClose(u32::from(d.byte() % 3)),
                };
                let client = self.client(d);
                client.iter().for_each(|c| c.out_of_order(callback));
            }
            5..=7 => self.fail_over(d),
            8 => {
                let sentinel = &self.site.sentinels[d.below(3)];
                let mut bytes = Vec::new();
                for _ in 0..=d.below(6) {
                    bytes.extend_from_slice(d.pick(&NOISE));
                }
                bytes.extend_from_slice(d.bytes());
                sentinel.send_raw(&self.site.process, &bytes);
            }
            9 => self.change_sentinel(d),
            10 => {
                let node = d.pick(&NODES);
                match d.below(3) {
                    0 => self.site.process.refuse(node),
                    1 => self.site.process.silence(node),
                    _ => self.site.process.restore(node),
                }
            }
            11 => {
                let (key, value) = (d.pick(&KEYS), d.pick(&VALUES));
                self.site.process.set_shared(key, value);
            }
            12 => self.configure(d),
            13 => match d.below(4) {
                0 => self.site.process.close_mode(CloseMode::Inline),
                1 => self.site.process.close_mode(CloseMode::Deferred),
                2 => self.site.process.conflict(u32::from(d.byte() % 20)),
                _ => self
                    .site
                    .process
                    .jump_wall_clock(i64::from(d.byte()) * 1000 - 100_000),
            },
            14 => self.site.process.chunk(u64::from(d.byte())),
            _ => {}
        }
        let pause = d.pick(&[0, 0, 1, 10, 100, 1_000, 3_500, 11_000]);
        self.site.process.advance_ms(pause);
    }

    fn connect(&mut self, d: &mut Decisions<'_>) {
        let side = &self.site.sides[d.below(self.site.sides.len())];
        let conn = match d.below(4) {
            // A stranger at the heartbeat's listener.
            0 => side.watch.connect("@redis-sentinel-watch-1"),
            1 => side.router.connect(MASTER),
            _ => side.router.connect(LISTENER),
        };
        if self.clients.len() >= MOST {
            self.clients.remove(0).close();
        }
        self.clients.push(conn);
    }

    fn end(&mut self, d: &mut Decisions<'_>) {
        let Some(client) = self.client(d) else { return };
        match d.below(6) {
            0 => client.close(),
            1 => client.fin(),
            2 => client.upstream_fin(),
            3 => client.upstream_reset(),
            4 => client.upstream_send(d.pick(&NOISE)),
            _ => {
                client.close();
                client.close();
                client.upstream_send(b"late");
                client.send(b"later");
            }
        }
    }

    fn fail_over(&mut self, d: &mut Decisions<'_>) {
        let (leader, from, to) = (d.below(3), d.pick(&NODES), d.pick(&NODES));
        let failover = self.site.failover(leader, from, to);
        match d.below(5) {
            0 | 1 => failover.selected(),
            2 => failover.promoted(),
            3 => failover.aborted(),
            _ => failover.switched(leader),
        }
    }

    fn change_sentinel(&mut self, d: &mut Decisions<'_>) {
        let sentinel = &self.site.sentinels[d.below(3)];
        match d.below(6) {
            0 => sentinel.drop_connections(&self.site.process),
            1 => sentinel.edit().hung = true,
            2 => sentinel.edit().hung = false,
            3 => {
                let flags = d.pick(&[
                    "master",
                    "master,s_down",
                    "master,o_down,failover_in_progress",
                ]);
                sentinel.change(NAME, |o| flags.clone_into(&mut o.flags));
            }
            4 => {
                let (address, epoch) = (d.pick(&NODES), u64::from(d.byte() % 8));
                sentinel.change(NAME, |o| (o.address, o.epoch) = (address.to_owned(), epoch));
            }
            _ => {
                let replicas = (0..d.below(5)).map(|_| d.pick(&NODES).to_owned()).collect();
                sentinel.change(NAME, |o| o.replicas = replicas);
            }
        }
    }

    /// A listener comes, goes, or is refused.
    fn configure(&mut self, d: &mut Decisions<'_>) {
        let side = d.below(self.site.sides.len());
        let worker = self.site.sides[side].worker.clone();
        match d.below(4) {
            0 => {
                let role = d.pick(&["master", "replica"]);
                let config = json!({ "master_name": NAME, "role": role, "hold_timeout": "1s", "max_held_connections": 3 });
                if let Ok(root) = worker.root("redis_router", config) {
                    std::mem::replace(&mut self.site.sides[side].router, root).shut_down();
                    self.for_reads.remove(&side);
                    if role == "replica" {
                        self.for_reads.insert(side);
                    }
                }
            }
            1 => {
                let root_id = d.pick(&[
                    "redis_router",
                    "sentinel_watch",
                    "role_probe",
                    "early_switch",
                    "readiness",
                    "x",
                ]);
                let _ = worker.root_bytes(root_id, d.bytes());
            }
            2 => {
                let config = json!({ "master_name": NAME, "interval": "0.1s" });
                if let Ok(root) = worker.root("role_probe", config) {
                    let heartbeat =
                        Heartbeat::start(&self.site.process, &root, "@redis-sentinel-role-0");
                    self.more.push(heartbeat);
                }
            }
            _ => {
                let config = json!({ "master_name": NAME, "enabled": true });
                if let Ok(root) = worker.root("early_switch", config) {
                    let heartbeat =
                        Heartbeat::start(&self.site.process, &root, "@redis-sentinel-early-0");
                    self.more.push(heartbeat);
                }
            }
        }
    }

    fn check(&self) {
        for side in &self.site.sides {
            let pages = side.worker.pages();
            assert!(pages <= MOST_PAGES, "{pages} pages");
            let streams = side.worker.streams();
            assert!(streams <= MOST + 16 + self.more.len(), "{streams} streams");
        }
        let queued = self.site.process.queued();
        assert!(queued < 4096, "{queued} messages wait");
        for client in &self.clients {
            let (closes, deletes) = client.close_calls();
            assert!(closes <= 1 && closes == deletes, "closed {closes} times");
        }
    }

    /// Everything is well: the master is found.
    fn heal(&mut self) {
        self.site.sentinels.iter().for_each(|s| {
            s.edit().hung = false;
            s.change(NAME, |o| {
                (o.address, o.epoch) = (MASTER.to_owned(), 1);
                (o.reported, o.failover_state) = (None, None);
                "master".clone_into(&mut o.flags);
            });
        });
        NODES
            .iter()
            .for_each(|node| self.site.process.restore(node));
        let all = 0..self.site.sides.len();
        let side = all.into_iter().find(|side| !self.for_reads.contains(side));
        let side = side.unwrap_or_else(|| {
            let config = json!({ "master_name": NAME });
            let router = self.site.sides[0].worker.root("redis_router", config);
            self.site.sides[0].router = router.expect("the configuration");
            0
        });
        let well = || {
            let client = self.site.client(side);
            let upstream = client.upstream();
            client.close();
            self.site.process.advance_ms(500);
            upstream.as_deref() == Some(MASTER)
        };
        let found = (0..240).any(|_| well());
        assert!(found, "the master is not found: {}", self.site.story());
        self.site.process.advance(Duration::from_secs(8));
        self.check();
        let healthy = self.site.heartbeats.iter().filter(|h| h.healthy()).count();
        assert_eq!(healthy, 3, "heartbeats fail: {}", self.site.story());
    }

    fn seen(&self) -> BTreeSet<String> {
        let plain = |text: &str| {
            text.chars()
                .filter(|c| !c.is_ascii_digit())
                .take(60)
                .collect()
        };
        let log = self
            .site
            .process
            .log()
            .into_iter()
            .map(|line| plain(&line.text));
        log.chain(self.site.process.metric_names()).collect()
    }
}
