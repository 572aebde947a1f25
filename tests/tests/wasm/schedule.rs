//! Random schedules: clients come, write and go, failovers begin, are given up, succeed, Sentinels vanish and return.
//! Whatever the order, no byte is lost or doubled, nobody is closed without need, and in the end everything is in order.

use redis_sentinel_tests::host::{CloseMode, Conn};

use crate::site::{Plan, Site};

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

struct Client {
    conn: Conn,
    sent: Vec<u8>,
    closed: bool,
}

/// Where a failover stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Calm,
    Selected,
    Promoted,
}

struct World {
    site: Site,
    random: Random,
    clients: Vec<Client>,
    master: usize,
    next: usize,
    leader: usize,
    phase: Phase,
}

fn node(index: usize) -> String {
    format!("10.0.1.{}:6379", index + 1)
}

impl World {
    fn new(seed: u64) -> Self {
        let mut site = Plan {
            workers: 3,
            ..Plan::default()
        }
        .build();
        if seed.is_multiple_of(2) {
            site.process.close_mode(CloseMode::Inline);
        }
        if seed.is_multiple_of(3) {
            site.process.chunk(seed);
        }
        site.watch();
        Self {
            site,
            random: Random(seed),
            clients: Vec::new(),
            master: 0,
            next: 1,
            leader: 0,
            phase: Phase::Calm,
        }
    }

    fn step(&mut self) {
        match self.random.below(12) {
            0..=2 => {
                let conn = self.site.client(self.random.below(3));
                self.clients.push(Client {
                    conn,
                    sent: Vec::new(),
                    closed: false,
                });
            }
            3..=6 => self.write(),
            7 => self.leave(),
            8 | 9 => self.fail_over(),
            10 => self.disturb(),
            _ => {}
        }
        let pause = [0, 1, 7, 40, 300, 1_300][self.random.below(6)];
        self.site.process.advance_ms(pause);
        self.look();
    }

    fn write(&mut self) {
        let open: Vec<usize> = (0..self.clients.len())
            .filter(|i| self.clients[*i].conn.closed().is_none())
            .collect();
        if open.is_empty() {
            return;
        }
        let client = &mut self.clients[open[self.random.below(open.len())]];
        let command = format!("APPEND log {}\r\n", client.sent.len());
        client.conn.send(command.as_bytes());
        client.sent.extend(command.bytes());
    }

    fn leave(&mut self) {
        if !self.clients.is_empty() {
            let at = self.random.below(self.clients.len());
            let client = self.clients.swap_remove(at);
            client.conn.close();
            self.check(&client);
        }
    }

    fn fail_over(&mut self) {
        let (from, to) = (node(self.master), node(self.next));
        let failover = self.site.failover(self.leader, &from, &to);
        match self.phase {
            Phase::Calm => {
                failover.selected();
                self.phase = Phase::Selected;
            }
            Phase::Selected if self.random.below(3) == 0 => {
                failover.aborted();
                self.phase = Phase::Calm;
            }
            Phase::Selected => {
                failover.promoted();
                // The others hear of it in the leader's next hello, which follows at once; the leader itself says
                // +switch-master only when the other replicas have followed.
                self.site.process.advance_ms(100);
                (0..3)
                    .filter(|s| *s != self.leader)
                    .for_each(|s| failover.switched(s));
                self.phase = Phase::Promoted;
            }
            Phase::Promoted => {
                failover.switched(self.leader);
                self.phase = Phase::Calm;
                self.master = self.next;
                self.next = (self.next + 1 + self.random.below(4)) % 6;
                self.leader = self.random.below(3);
            }
        }
    }

    /// One Sentinel at a time: it hangs or loses its connections, or another VM is faster in the shared data.
    fn disturb(&mut self) {
        let sentinel = &self.site.sentinels[self.random.below(3)];
        match self.random.below(4) {
            0 => sentinel.drop_connections(&self.site.process),
            1 => sentinel.edit().hung = true,
            2 => self
                .site
                .sentinels
                .iter()
                .for_each(|s| s.edit().hung = false),
            _ => self.site.process.conflict(3),
        }
    }

    fn check(&self, client: &Client) {
        let forwarded = client.conn.forwarded();
        assert!(
            client.sent.starts_with(&forwarded),
            "lost or doubled: {}",
            self.site.story()
        );
        assert_eq!(client.conn.fell_through(), 0);
        let (closes, deletes) = client.conn.close_calls();
        assert!(closes <= 1 && closes == deletes);
    }

    /// Whoever was closed by the module was at a node that is not the master any more.
    fn look(&mut self) {
        let master = node(if self.phase == Phase::Promoted {
            self.next
        } else {
            self.master
        });
        for client in self
            .clients
            .iter_mut()
            .filter(|c| !c.closed && c.conn.closed().is_some())
        {
            client.closed = true;
            let at = client.conn.dials().last().map(|d| d.address.clone());
            assert_ne!(
                at.as_ref(),
                Some(&master),
                "closed without need: {}",
                self.site.story()
            );
        }
    }

    /// Finishes what is under way and lets the module find its rest.
    fn finish(&mut self) {
        self.site
            .sentinels
            .iter()
            .for_each(|s| s.edit().hung = false);
        while self.phase != Phase::Calm {
            self.fail_over();
        }
        self.site.process.advance_ms(20_000);
        let master = node(self.master);
        for client in &self.clients {
            self.check(client);
            if client.conn.closed().is_none() {
                assert_eq!(
                    client.conn.upstream().as_deref(),
                    Some(master.as_str()),
                    "{}",
                    self.site.story()
                );
                assert!(
                    client.conn.forwarded() == client.sent,
                    "bytes stay behind: {}",
                    self.site.story()
                );
            }
        }
        let fresh = self.site.client(self.random.below(3));
        assert_eq!(fresh.upstream(), Some(master), "{}", self.site.story());
        assert!(
            self.site
                .heartbeats
                .iter()
                .all(|h| h.healthy() && h.stray().is_empty()),
            "{}",
            self.site.story()
        );
    }
}

#[test]
fn any_order_of_events_ends_well() {
    for seed in 1..=20 {
        let mut world = World::new(seed);
        println!("seed {seed}");
        (0..150).for_each(|_| world.step());
        world.finish();
    }
}
