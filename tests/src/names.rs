//! Host names of a test's own: a DNS server for Envoy, an `/etc/hosts` for Redis and Sentinel, both of which can change.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

type Table = Arc<Mutex<BTreeMap<String, Ipv4Addr>>>;

/// The names.
pub struct Names {
    /// Where the DNS server listens, on 127.0.0.1.
    pub port: u16,
    table: Table,
    hosts: PathBuf,
    stop: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl Names {
    /// Starts the server.
    pub fn start(port: u16, dir: &Path) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, port))?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let (table, hosts) = (Table::default(), dir.join("hosts"));
        let stop = Arc::<AtomicBool>::default();
        let (served, stopped) = (Arc::clone(&table), Arc::clone(&stop));
        let names = Self {
            port,
            table,
            hosts,
            stop,
            server: Some(thread::spawn(move || serve(&socket, &served, &stopped))),
        };
        names.write_hosts()?;
        Ok(names)
    }

    /// Gives a name an address, for everybody.
    pub fn set(&self, name: &str, address: Ipv4Addr) -> Result<()> {
        self.set_in_dns(name, Some(address));
        self.write_hosts()
    }

    /// The same, or the end of a name, in the DNS alone.
    pub fn set_in_dns(&self, name: &str, address: Option<Ipv4Addr>) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        match address {
            Some(address) => table.insert(name.to_owned(), address),
            None => table.remove(name),
        };
    }

    /// What starts a program with these names in its `/etc/hosts`.
    pub fn wrapper(&self) -> Vec<String> {
        wrapper(&format!("mount --bind {} /etc/hosts", self.hosts.display()))
    }

    /// What starts a program that asks this server, and finds nothing in its `/etc/hosts`.
    pub fn resolver(&self) -> Result<Vec<String>> {
        let dir = self.hosts.parent().context("a directory")?;
        let (conf, none) = (dir.join("resolv.conf"), dir.join("no-hosts"));
        fs::write(
            &conf,
            format!("nameserver 127.0.0.1:{}\noptions timeout:1\n", self.port),
        )?;
        fs::write(&none, "127.0.0.1 localhost\n")?;
        Ok(wrapper(&format!(
            "mount --bind {} /etc/resolv.conf && mount --bind {} /etc/hosts",
            conf.display(),
            none.display()
        )))
    }

    /// In place: the file is mounted elsewhere, and a new one under its name would not be.
    fn write_hosts(&self) -> Result<()> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = table
            .iter()
            .map(|(name, address)| format!("{address} {name}\n"));
        let text = "127.0.0.1 localhost\n".to_owned() + &lines.collect::<String>();
        fs::write(&self.hosts, text).context("hosts")
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.server.take().map(JoinHandle::join);
    }
}

/// What starts a program in a mount namespace of its own.
fn wrapper(mounts: &str) -> Vec<String> {
    // It needs rights that an ordinary user has only in a user namespace of its own.
    let root = fs::metadata("/proc/self").is_ok_and(|myself| myself.uid() == 0);
    let flags = if root { "-m" } else { "-rm" };
    let script = format!("{mounts} && exec \"$@\"");
    ["unshare", flags, "sh", "-c", &script, "sh"]
        .map(str::to_owned)
        .to_vec()
}

fn serve(socket: &UdpSocket, table: &Table, stop: &AtomicBool) {
    let mut query = [0; 512];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut query) else {
            continue; // nobody asked for a moment
        };
        if let Some(answer) = answer(&query[..length], table) {
            let _ = socket.send_to(&answer, from);
        }
    }
}

/// RFC 1035 as far as one question for an address needs it. Names that are not in the table do not exist; no name has IPv6.
fn answer(query: &[u8], table: &Table) -> Option<Vec<u8>> {
    const HEADER: usize = 12;
    let (mut at, mut labels) = (HEADER, Vec::new());
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]);
    let question = query.get(HEADER..at + 4)?;
    let found = table
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get(&labels.join("."))
        .copied();
    let address = found.filter(|_| kind == 1);
    let mut reply = query.get(..2)?.to_vec();
    // A response to a recursive question: no error, or no such name; one question, at most one answer.
    reply.extend([0x81, if found.is_some() { 0x80 } else { 0x83 }]);
    reply.extend([0, 1, 0, u8::from(address.is_some()), 0, 0, 0, 0]);
    reply.extend(question);
    if let Some(address) = address {
        // The name of the question, class IN, one second to live.
        reply.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        reply.extend(address.octets());
    }
    Some(reply)
}
