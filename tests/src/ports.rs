//! Ports that no other test, and no `make run`, uses.

use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use anyhow::{Result, bail};

/// Below the kernel's ephemeral ports, so that no outgoing connection takes one between the look and the bind; clear of
/// everything that `make run` uses.
const FIRST: u16 = 16_000;
const SIZE: u16 = 20;
const BLOCKS: u16 = 400;

/// A run of ports for one test. While this value lives no other process gets the same block.
pub struct PortBlock {
    number: u16,
    next: u16,
    /// An abstract socket as the lock: the kernel drops it with the process, however that ends.
    _lock: UnixListener,
}

impl PortBlock {
    /// Claims a block whose ports are all free.
    pub fn claim() -> Result<Self> {
        let start = u16::try_from(std::process::id() % u32::from(BLOCKS))?;
        for i in 0..BLOCKS {
            let number = (start + i) % BLOCKS;
            let name =
                SocketAddr::from_abstract_name(format!("redis-sentinel-test-ports-{number}"))?;
            let Ok(lock) = UnixListener::bind_addr(&name) else {
                continue;
            };
            let first = FIRST + number * SIZE;
            if (first..first + SIZE).all(is_free) {
                return Ok(Self {
                    number,
                    next: first,
                    _lock: lock,
                });
            }
        }
        bail!("no free block of {SIZE} ports from {FIRST} on")
    }

    /// The next port of the block.
    pub fn take(&mut self) -> u16 {
        let port = self.next;
        assert!(
            port < FIRST + (self.number + 1) * SIZE,
            "a test wants more than {SIZE} ports"
        );
        self.next += 1;
        port
    }

    /// A prefix for abstract sockets, which are one per network namespace just as ports are.
    pub fn socket_prefix(&self) -> String {
        format!("redis-sentinel-test-{}", self.number)
    }
}

/// Whether nothing listens on 127.0.0.1:`port`.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
