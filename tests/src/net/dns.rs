//! Names for hosts, by a real DNS server.

use std::fmt::Write;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::Result;
use nix::sys::signal::Signal;

use super::{Host, Network};
use crate::process::Process;
use crate::wait;

/// How long others may remember an answer: what CoreDNS says of a cluster's own names, unless told otherwise.
const TTL: &str = "5";

/// dnsmasq in a host of its own. It knows what [`set`](Self::set) told it, and that nothing else exists.
pub struct Dns {
    address: Ipv4Addr,
    names: PathBuf,
    process: Process,
    _host: Host,
}

impl Dns {
    /// Starts it on `address`, with its files in `dir`.
    pub fn start(network: &Network, address: Ipv4Addr, dir: &Path) -> Result<Self> {
        let host = network.host_at("dns", address)?;
        let names = dir.join("names");
        fs::write(&names, "")?;
        let mut command = host.command("dnsmasq");
        command
            // Without this it would give up rights, and with that the kernel's promise to end it with us.
            .arg("--no-daemon")
            .args(["--conf-file=/dev/null", "--pid-file="])
            // NXDOMAIN for everything that is not in the file: there is nobody else to ask.
            .args(["--no-resolv", "--no-hosts", "--local=/#/"])
            .args(["--bind-interfaces", "--local-ttl", TTL])
            .arg(format!("--listen-address={address}"))
            .arg(format!("--addn-hosts={}", names.display()));
        let process = host.start(&mut command, &dir.join("dns.log"))?;
        // Before that a signal would end it.
        wait::until_true("dnsmasq to run", wait::LONG, || {
            process.log().contains("started")
        })?;
        Ok(Self {
            address,
            names,
            process,
            _host: host,
        })
    }

    /// Replaces all names. A name that occurs more than once has several addresses.
    pub fn set<'a>(&self, names: impl IntoIterator<Item = (&'a str, IpAddr)>) -> Result<()> {
        let mut text = String::new();
        for (name, address) in names {
            writeln!(text, "{address} {name}")?;
        }
        // Never half a file.
        let new = self.names.with_extension("new");
        fs::write(&new, text)?;
        fs::rename(&new, &self.names)?;
        self.process.signal(Signal::SIGHUP)
    }

    /// Where it listens.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Has programs of `host` ask this server, with these search domains, as a pod's /etc/resolv.conf says it.
    pub fn serve(&self, host: &Host, search: &[&str], dir: &Path) -> Result<()> {
        let file = dir.join(format!("resolv-{}.conf", host.name()));
        fs::write(&file, self.resolv_conf(search))?;
        host.bind(&file, Path::new("/etc/resolv.conf"))
    }

    /// The text of such a file.
    pub fn resolv_conf(&self, search: &[&str]) -> String {
        let search = match search {
            [] => String::new(),
            domains => format!("search {}\n", domains.join(" ")),
        };
        format!("nameserver {}\n{search}options ndots:5\n", self.address)
    }
}
