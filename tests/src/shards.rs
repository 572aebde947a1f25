//! A sharded Redis Cluster: six nodes, three of them masters.

use anyhow::{Context, Result};

use crate::ports::PortBlock;
use crate::scratch::Scratch;
use crate::server::{Kind, Server};
use crate::wait;

/// The number of slots of every Redis Cluster.
pub const SLOTS: u16 = 16_384;
const MASTERS: usize = 3;

/// The nodes: masters first, then a replica of each.
pub struct Shards {
    /// See above.
    pub nodes: Vec<Server>,
    /// Configurations and logs.
    pub scratch: Scratch,
}

impl Shards {
    /// Starts six nodes, gives the masters a third of the slots each, and waits until all agree.
    pub fn start(ports: &mut PortBlock) -> Result<Self> {
        let scratch = Scratch::new()?;
        let mut nodes = vec![];
        for _ in 0..2 * MASTERS {
            nodes.push(node(&scratch, ports.take(), ports.take())?);
        }
        let shards = Self { nodes, scratch };
        let first = &shards.nodes[0];
        for (index, master) in shards.nodes[..MASTERS].iter().enumerate() {
            let third = |n: usize| usize::from(SLOTS) * n / MASTERS;
            let (from, to) = (third(index), third(index + 1) - 1);
            master.call(&[
                "CLUSTER",
                "ADDSLOTSRANGE",
                &from.to_string(),
                &to.to_string(),
            ])?;
            master.call(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()])?;
        }
        for node in &shards.nodes[1..] {
            let bus = first.file().with_file_name("bus");
            let bus = std::fs::read_to_string(bus)?;
            node.call(&[
                "CLUSTER",
                "MEET",
                "127.0.0.1",
                &first.port.to_string(),
                &bus,
            ])?;
        }
        wait::until_true("the nodes to meet", wait::LONG, || {
            shards
                .nodes
                .iter()
                .all(|node| node.info_of_cluster("cluster_known_nodes").as_deref() == Some("6"))
        })?;
        for (master, replica) in shards.nodes.iter().zip(&shards.nodes[MASTERS..]) {
            let id = master.cluster_id()?;
            wait::until_true("a replica to join", wait::LONG, || {
                replica.call(&["CLUSTER", "REPLICATE", &id]).is_ok()
            })?;
        }
        shards.wait_until_ok()?;
        Ok(shards)
    }

    /// Waits until every node that answers says that all slots are served, and every replica is in step.
    pub fn wait_until_ok(&self) -> Result<()> {
        wait::until_true("the cluster to be whole", wait::LONG, || {
            self.nodes.iter().all(|node| {
                node.info_of_cluster("cluster_state").as_deref() == Some("ok")
                    && (node.is_master()
                        || node.info("replication", "master_link_status").as_deref() == Some("up"))
            })
        })
    }

    /// Moves one slot with its keys, as `redis-cli --cluster reshard` does.
    pub fn move_slot(&self, slot: u16, from: usize, to: usize) -> Result<()> {
        let (source, target) = (&self.nodes[from], &self.nodes[to]);
        let (slot, source_id, target_id) =
            (slot.to_string(), source.cluster_id()?, target.cluster_id()?);
        target.call(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source_id])?;
        source.call(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target_id])?;
        loop {
            let keys = source.call(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"])?;
            let keys: Vec<_> = keys.items().iter().filter_map(|key| key.text()).collect();
            if keys.is_empty() {
                break;
            }
            let port = target.port.to_string();
            let mut command = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            command.extend(keys.iter().map(String::as_str));
            source.call(&command)?;
        }
        for node in [target, source] {
            node.call(&["CLUSTER", "SETSLOT", &slot, "NODE", &target_id])?;
        }
        Ok(())
    }
}

impl Server {
    /// A line of `CLUSTER INFO`.
    pub fn info_of_cluster(&self, field: &str) -> Option<String> {
        let info = self.call(&["CLUSTER", "INFO"]).ok()?.text()?;
        let mut lines = info.lines();
        let value = lines.find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
        Some(value.trim().to_owned())
    }

    /// Its id in the cluster.
    pub fn cluster_id(&self) -> Result<String> {
        self.call(&["CLUSTER", "MYID"])?.text().context("no id")
    }
}

fn node(scratch: &Scratch, port: u16, bus: u16) -> Result<Server> {
    let text = format!(
        "port {port}\ncluster-enabled yes\ncluster-port {bus}\ncluster-node-timeout 1000\nsave \"\"\n\
         cluster-config-file nodes.conf\nrepl-diskless-sync-delay 0\nrepl-ping-replica-period 1\n"
    );
    let server = Server::start(
        Kind::Redis,
        ("127.0.0.1".into(), port, port),
        vec![],
        &[],
        &text,
        scratch.path(),
    )?;
    std::fs::write(server.file().with_file_name("bus"), bus.to_string())?;
    Ok(server)
}
