//! A pod of somebody else: an application.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;

use super::policy::Member;
use super::world::World;
use crate::net::Host;
use crate::resp::Connection;

/// A host in the cluster's network, with the names that a pod of its namespace can resolve and the rights that its labels have.
pub struct Client {
    world: Arc<World>,
    member: Arc<Member>,
    host: Host,
}

impl Client {
    pub(super) fn new(
        world: &Arc<World>,
        name: &str,
        namespace: &str,
        labels: BTreeMap<String, String>,
    ) -> Result<Self> {
        let host = world.network().host(name)?;
        let file = world.dir().join(format!("resolv-{name}.conf"));
        fs::write(&file, world.resolv_conf(namespace, None))?;
        host.bind(&file, Path::new("/etc/resolv.conf"))?;
        let member = Arc::new(Member {
            namespace: namespace.to_owned(),
            labels,
            address: host.address(),
        });
        world.join(&member);
        Ok(Self {
            world: Arc::clone(world),
            member,
            host,
        })
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Runs `work` on a thread of the host.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        self.host.enter(work)
    }

    /// Like [`enter`](Self::enter) for work that goes on beside us.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<Result<T>> {
        self.host.namespace().spawn(work)
    }

    /// A connection to `name:port`, as an application opens one.
    pub fn connect(&self, name: &str, port: u16, timeout: Duration) -> Result<Connection> {
        Ok(self.enter(|| dial(name, port, timeout))??)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.world.leave(&self.member);
    }
}

/// Resolves and dials, from the thread's own network: the first address that answers.
pub fn dial(name: &str, port: u16, timeout: Duration) -> io::Result<Connection> {
    let mut last = io::ErrorKind::NotFound.into();
    let addresses: Vec<SocketAddr> = (name, port).to_socket_addrs()?.collect();
    for address in addresses {
        match Connection::open_at(address, timeout) {
            Ok(connection) => return Ok(connection),
            Err(error) => last = error,
        }
    }
    Err(last)
}
