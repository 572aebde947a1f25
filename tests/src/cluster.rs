//! Redis nodes and the Sentinels that watch them, in step before a test begins.

use anyhow::{Context, Result};

use crate::ports::PortBlock;
use crate::redis::Redis;
use crate::scratch::Scratch;
use crate::sentinel::{MASTER, Sentinel, View};
use crate::wait;

/// One master, its replicas, their Sentinels. The first fields are dropped, and so stopped, first.
pub struct Cluster {
    /// The Sentinels.
    pub sentinels: Vec<Sentinel>,
    /// The Redis nodes; the first one begins as the master.
    pub redis: Vec<Redis>,
    /// Where configurations and logs are.
    pub scratch: Scratch,
}

impl Cluster {
    /// Starts `redis` nodes and `sentinels` on free ports and waits until all know each other and are in step.
    pub fn start(ports: &mut PortBlock, redis: usize, sentinels: usize) -> Result<Self> {
        let redis: Vec<_> = (0..redis).map(|_| ports.take()).collect();
        let sentinels: Vec<_> = (0..sentinels).map(|_| ports.take()).collect();
        Self::start_on(&redis, &sentinels)
    }

    /// The same on given ports.
    pub fn start_on(redis: &[u16], sentinels: &[u16]) -> Result<Self> {
        let mut cluster = Self {
            sentinels: vec![],
            redis: vec![],
            scratch: Scratch::new()?,
        };
        for &port in redis {
            cluster.redis.push(Redis::start(
                port,
                (port != redis[0]).then_some(redis[0]),
                cluster.scratch.path(),
            )?);
        }
        // Sentinels that meet replicas not yet in step would not promote them until they ask again, 10 s later.
        wait::until_true("the replicas to be in step", wait::LONG, || {
            cluster.redis[1..]
                .iter()
                .all(|replica| replica.follows(redis[0]))
        })?;
        let view = View {
            master: redis[0],
            replicas: redis[1..].to_vec(),
            sentinels: sentinels.to_vec(),
            quorum: sentinels.len() / 2 + 1,
        };
        for &port in sentinels {
            cluster
                .sentinels
                .push(Sentinel::start(port, &view, cluster.scratch.path())?);
        }
        cluster.wait_until_settled(redis[0])?;
        Ok(cluster)
    }

    /// The Sentinels' ports.
    pub fn sentinel_ports(&self) -> Vec<u16> {
        self.sentinels
            .iter()
            .map(|sentinel| sentinel.port)
            .collect()
    }

    /// The node at `port`.
    pub fn node(&mut self, port: u16) -> Result<&mut Redis> {
        self.redis
            .iter_mut()
            .find(|node| node.port == port)
            .with_context(|| format!("no Redis on port {port}"))
    }

    /// The master's port, once a majority of the Sentinels names the same.
    pub fn master(&self) -> Option<u16> {
        let named: Vec<_> = self.sentinels.iter().filter_map(Sentinel::master).collect();
        let majority = self.sentinels.len() / 2 + 1;
        named
            .iter()
            .copied()
            .find(|port| named.iter().filter(|other| *other == port).count() >= majority)
    }

    /// Waits until a majority of the Sentinels names another master than `old`, and returns its port.
    pub fn wait_for_master_after(&self, old: u16) -> Result<u16> {
        wait::until("another master", wait::LONG, || {
            self.master().filter(|port| *port != old)
        })
    }

    /// Waits until every Sentinel sees `master` and every other node as its replica, in step.
    pub fn wait_until_settled(&self, master: u16) -> Result<()> {
        let replicas = self.redis.iter().filter(|node| node.port != master);
        wait::until_true("the replicas to follow the master", 2 * wait::LONG, || {
            replicas.clone().all(|node| node.follows(master))
        })?;
        wait::until_true("the Sentinels to see it all", 2 * wait::LONG, || {
            let others = self.sentinels.len() - 1;
            self.sentinels
                .iter()
                .all(|sentinel| sentinel.is_settled(master, self.redis.len() - 1, others))
        })
    }

    /// Asks for a planned failover.
    pub fn fail_over(&self) -> Result<()> {
        self.sentinels[0]
            .call(&["SENTINEL", "FAILOVER", MASTER])
            .map(drop)
    }
}
