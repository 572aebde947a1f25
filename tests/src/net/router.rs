//! The network between the hosts.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};

use super::fault::{Fault, rules};
use super::{Host, Namespace};

/// What every host sends to: link-local, so it is the same on every link.
pub(super) const GATEWAY: &str = "169.254.1.1";
pub(super) const GATEWAY6: &str = "fe80::1";

/// A router with a link to each host. Addresses are counted up and never used twice: a host that comes back under its old
/// name has a new one, as a pod has.
#[derive(Clone)]
pub struct Network {
    router: Namespace,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    hosts: u16,
    faults: Vec<Fault>,
    unplugged: Vec<String>,
}

impl State {
    fn rules(&self) -> String {
        rules(&self.faults, &self.unplugged)
    }
}

impl Network {
    /// A new network without hosts.
    pub fn new() -> Result<Self> {
        let router = Namespace::new()?;
        router.enter(|| -> Result<()> {
            for switch in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                let file = format!("/proc/sys/net/{switch}");
                fs::write(&file, "1").with_context(|| format!("cannot write {file}"))?;
            }
            Ok(())
        })??;
        // A host that has gone is silence, not a refusal, as a node that lost power would be.
        router.run("ip", ["route", "add", "blackhole", "10.0.0.0/8"])?;
        router.run("ip", ["-6", "route", "add", "blackhole", "fd00::/8"])?;
        let network = Self {
            router,
            state: Arc::default(),
        };
        network.nft(
            "add table inet faults\n\
             add chain inet faults forward { type filter hook forward priority -100; }\n",
        )?;
        Ok(network)
    }

    /// A new host with the next free address. The name is for people, and is its host name nowhere.
    pub fn host(&self, name: &str) -> Result<Host> {
        let number = self.number();
        let [high, low] = (number + 1).to_be_bytes();
        self.link(name, number, Ipv4Addr::new(10, 244, high, low))
    }

    /// A host with an address that others know in advance, outside of 10.244.0.0/16.
    pub fn host_at(&self, name: &str, address: Ipv4Addr) -> Result<Host> {
        self.link(name, self.number(), address)
    }

    /// Nothing gets from `from` to `to` any more, in this direction only: whoever waits there hangs.
    pub fn cut_one_way(&self, from: &Host, to: &Host) -> Result<()> {
        self.fault(from, to, 100)
    }

    /// Nothing gets through between the two.
    pub fn cut(&self, one: &Host, other: &Host) -> Result<()> {
        self.cut_one_way(one, other)?;
        self.cut_one_way(other, one)
    }

    /// Nothing gets through between any of `left` and any of `right`.
    pub fn partition(&self, left: &[&Host], right: &[&Host]) -> Result<()> {
        for one in left {
            for other in right {
                self.cut(one, other)?;
            }
        }
        Ok(())
    }

    /// Nothing gets through between these addresses: for hosts that somebody else holds. All at the same moment.
    pub fn cut_addresses(&self, pairs: &[(Ipv4Addr, Ipv4Addr)]) -> Result<()> {
        let mut state = self.lock();
        for (one, other) in pairs {
            state.faults.push(Fault::between(*one, *other));
            state.faults.push(Fault::between(*other, *one));
        }
        self.nft(&state.rules())
    }

    /// `percent` of the packets from `from` to `to` are lost, by chance.
    pub fn lose(&self, from: &Host, to: &Host, percent: u8) -> Result<()> {
        self.fault(from, to, percent)
    }

    /// Pulls a host's plug: nothing gets in or out, and nobody is told.
    pub fn unplug(&self, host: &Host) -> Result<()> {
        let mut state = self.lock();
        state.unplugged.push(host.device().to_owned());
        self.nft(&state.rules())
    }

    /// Plugs it in again.
    pub fn plug(&self, host: &Host) -> Result<()> {
        let mut state = self.lock();
        state.unplugged.retain(|device| device != host.device());
        self.nft(&state.rules())
    }

    /// Ends what was done to the link between these two.
    pub fn heal(&self, one: &Host, other: &Host) -> Result<()> {
        let mut state = self.lock();
        state.faults.retain(|fault| !fault.is_between(one, other));
        self.nft(&state.rules())
    }

    /// Ends every cut and every loss.
    pub fn heal_all(&self) -> Result<()> {
        let mut state = self.lock();
        state.faults.clear();
        state.unplugged.clear();
        self.nft(&state.rules())
    }

    /// Carries out an nftables script in the router, in one transaction.
    pub fn nft(&self, script: &str) -> Result<()> {
        self.router.run_with("nft", ["-f", "-"], script).map(drop)
    }

    /// The router's namespace, to look at it.
    pub fn router(&self) -> &Namespace {
        &self.router
    }

    fn number(&self) -> u16 {
        let mut state = self.lock();
        state.hosts += 1;
        state.hosts
    }

    fn link(&self, name: &str, number: u16, address: Ipv4Addr) -> Result<Host> {
        let address6 = Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0, number + 1);
        Host::link(&self.router, name, number, address, address6)
            .with_context(|| format!("host {name}"))
    }

    fn fault(&self, from: &Host, to: &Host, percent: u8) -> Result<()> {
        let mut state = self.lock();
        state.faults.push(Fault::new(from, to, percent));
        self.nft(&state.rules())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
