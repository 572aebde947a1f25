//! A machine of the network.

use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};

use super::Namespace;
use super::router::{GATEWAY, GATEWAY6};
use crate::process::Process;

/// A network namespace with an address, linked to the router, and mounts of its own: programs inside see the machine's files,
/// except for those that were [put over](Self::bind) them.
pub struct Host {
    name: String,
    address: Ipv4Addr,
    address6: Ipv6Addr,
    namespace: Namespace,
    router: Namespace,
    /// The router's end of the link.
    device: String,
}

impl Host {
    pub(super) fn link(
        router: &Namespace,
        name: &str,
        number: u16,
        address: Ipv4Addr,
        address6: Ipv6Addr,
    ) -> Result<Self> {
        let namespace = Namespace::new()?.with_own_mounts()?;
        let device = format!("host{number}");
        let there = namespace.path();
        // No DAD, and addresses that need none: the link is usable at once.
        let commands = format!(
            "link add {device} type veth peer name eth0 netns {}\n\
             link set {device} up\n\
             addr add {GATEWAY}/32 dev {device}\n\
             addr add {GATEWAY6}/64 dev {device} nodad\n\
             route add {address}/32 dev {device}\n\
             route add {address6}/128 dev {device}\n",
            there.display()
        );
        router.run_with("ip", ["-batch", "-"], &commands)?;
        let commands = format!(
            "link set eth0 up\n\
             addr add {address}/32 dev eth0\n\
             addr add {address6}/128 dev eth0 nodad\n\
             route add {GATEWAY} dev eth0 scope link\n\
             route add default via {GATEWAY} src {address}\n\
             route add ::/0 via {GATEWAY6} dev eth0\n"
        );
        namespace.run_with("ip", ["-batch", "-"], &commands)?;
        Ok(Self {
            name: name.to_owned(),
            address,
            address6,
            namespace,
            router: router.clone(),
            device,
        })
    }

    /// What the test calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its IPv4 address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Its IPv6 address.
    pub fn address6(&self) -> Ipv6Addr {
        self.address6
    }

    /// Its namespaces.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Programs here see `source` in the place of `target`, which must exist on this machine (a file for a file).
    pub fn bind(&self, source: &Path, target: &Path) -> Result<()> {
        self.namespace.enter(|| bind_mount(source, target))?
    }

    /// An empty directory in memory in the place of `target`.
    pub fn tmpfs(&self, target: &Path) -> Result<()> {
        self.namespace.enter(|| {
            mount(
                Some("tmpfs"),
                target,
                Some("tmpfs"),
                MsFlags::empty(),
                None::<&str>,
            )
            .with_context(|| format!("tmpfs on {}", target.display()))
        })?
    }

    /// A command that will run here.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.namespace.command(program)
    }

    /// Starts a [`command`](Self::command) of this host with its output appended to `log`.
    pub fn start(&self, command: &mut Command, log: &Path) -> Result<Process> {
        Process::start(command, log)
    }

    /// Runs `work` on a thread of this host: its sockets are here, and names resolve as they do here.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        self.namespace.enter(work)
    }

    /// The router's end of its link, for rules of one's own.
    pub fn device(&self) -> &str {
        &self.device
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // At once, although the kernel would do it too when the last process in here has ended.
        let _ = self.router.run("ip", ["link", "del", &self.device]);
    }
}

/// What is mounted from here on stays in this mount namespace.
pub(super) fn private_mounts() -> Result<()> {
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).context("private mounts")
}

fn bind_mount(source: &Path, target: &Path) -> Result<()> {
    let what = || format!("{} over {}", source.display(), target.display());
    fs::metadata(target).with_context(what)?;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(source), target, None::<&str>, flags, None::<&str>).with_context(what)
}
