//! Clients of a pod that write all the time and reconnect as ordinary clients do: [`crate::workload`] for nodes that differ in
//! their address and not in their port.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Pod;
use super::system::{Node, REDIS_PASSWORD};
use crate::record::{Ack, Record};
use crate::resp::{Connection, Value};

const PAUSE: Duration = Duration::from_millis(25);
/// Longer than any failover here: a client's own time limit would hide what the sidecar does.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What a client writes down, and the thread that it runs on.
type Running = (Arc<Mutex<Record>>, JoinHandle<Result<()>>);

/// Running clients of one pod.
pub struct Load {
    key: String,
    stop: Arc<AtomicBool>,
    clients: Vec<Running>,
}

impl Load {
    /// One client for each address. They write to counters of their own, which begin with `key`.
    pub fn start(pod: &Pod, key: &str, to: &[SocketAddr]) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let client = |(index, to): (usize, &SocketAddr)| {
            let (record, stop, key, to) =
                (Arc::default(), Arc::clone(&stop), name(key, index), *to);
            let client = Client {
                to,
                key,
                record: Arc::clone(&record),
                stop,
            };
            (record, pod.host.namespace().spawn(move || client.run()))
        };
        let clients = to.iter().enumerate().map(client).collect();
        Self {
            key: key.to_owned(),
            stop,
            clients,
        }
    }

    /// Whether each client has had its last write acknowledged by this node.
    pub fn all_write_to(&self, node: usize) -> bool {
        let last =
            |record: &Mutex<Record>| lock(record).acks.last().map(|ack| usize::from(ack.node));
        self.clients
            .iter()
            .all(|(record, _)| last(record) == Some(node))
    }

    /// Ends the clients and returns what they saw; an acknowledged write that `master` does not have is counted as lost.
    pub fn stop(self, master: &Node) -> Result<Vec<Record>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut records = Vec::new();
        for (index, (record, thread)) in self.clients.into_iter().enumerate() {
            thread.join().ok().context("a client panicked")??;
            let mut record = lock(&record).clone();
            let has = master.call(&["GET", &name(&self.key, index)])?.text();
            let has = has.map_or(Ok(0), |text| text.parse::<i64>())?;
            record.lost += (record.counter - has).max(0);
            records.push(record);
        }
        Ok(records)
    }
}

/// An error for what no client may see in a planned failover.
pub fn assert_unharmed(records: &[Record]) -> Result<()> {
    for (index, record) in records.iter().enumerate() {
        let short = Record {
            acks: vec![],
            ..record.clone()
        };
        let harm = record.refused.len()
            + record.unanswered.len()
            + record.timeouts.len()
            + record.errors.len();
        ensure!(
            harm == 0 && record.lost == 0 && record.closes.len() <= 1,
            "client {index}: {short:?}"
        );
    }
    Ok(())
}

fn name(key: &str, index: usize) -> String {
    format!("{key}:{index}")
}

struct Client {
    to: SocketAddr,
    key: String,
    record: Arc<Mutex<Record>>,
    stop: Arc<AtomicBool>,
}

impl Client {
    fn run(&self) {
        while self.goes_on() {
            match Connection::open_at(self.to, TIMEOUT) {
                Ok(connection) => self.write(connection),
                Err(_) => {
                    lock(&self.record).refused.push(Instant::now());
                    sleep(PAUSE);
                }
            }
        }
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn write(&self, mut connection: Connection) {
        let mut node = None;
        while self.goes_on() {
            if let Err(error) = self.write_once(&mut connection, &mut node) {
                let mut record = lock(&self.record);
                let list = match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => &mut record.timeouts,
                    _ if node.is_some() => &mut record.closes,
                    _ => &mut record.unanswered,
                };
                list.push(Instant::now());
                return;
            }
            sleep(PAUSE);
        }
    }

    /// One INCR. The first one of a connection also logs in and asks who answers, in the same packet.
    fn write_once(&self, connection: &mut Connection, node: &mut Option<u16>) -> io::Result<()> {
        if node.is_none() {
            connection.send(&["AUTH", REDIS_PASSWORD])?;
            connection.send(&["CONFIG", "GET", "replica-announce-ip"])?;
        }
        connection.send(&["INCR", &self.key])?;
        if node.is_none() {
            self.note(connection.receive()?);
            let reply = connection.receive()?;
            *node = Some(number(&reply).unwrap_or(u16::MAX));
            self.note(reply);
        }
        let reply = connection.receive()?;
        let at = Instant::now();
        let mut record = lock(&self.record);
        match reply {
            Value::Int(value) => {
                record.lost += (record.counter - value + 1).max(0);
                record.counter = value;
                record.acks.push(Ack {
                    at,
                    node: node.unwrap_or(u16::MAX),
                });
            }
            Value::Error(text) => record.errors.push((at, text)),
            other => record.errors.push((at, format!("{other:?}"))),
        }
        Ok(())
    }

    fn note(&self, reply: Value) {
        if let Value::Error(text) = reply {
            lock(&self.record).errors.push((Instant::now(), text));
        }
    }
}

/// The number in `redis-1.redis-nodes…`, from the reply to `CONFIG GET replica-announce-ip`.
pub fn number(reply: &Value) -> Option<u16> {
    let name = reply.field("replica-announce-ip")?;
    name.strip_prefix("redis-")?.split('.').next()?.parse().ok()
}

fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}
