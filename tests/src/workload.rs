//! Clients that write all the time, reconnect as ordinary clients do, and write down what they saw.

use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::Result;

pub use crate::record::{Ack, Record};
use crate::resp::{Connection, Value};

/// What the clients do.
#[derive(Clone)]
pub struct Plan {
    /// Where they connect.
    pub port: u16,
    /// How many there are; each has one connection and one key.
    pub clients: usize,
    /// Between two writes of one client. 50 clients with 20 ms make about 2,400 writes a second.
    pub pause: Duration,
    /// How long a client waits for a reply before it gives up on the connection.
    pub timeout: Duration,
}

/// Running clients.
pub struct Workload {
    plan: Plan,
    stop: Arc<AtomicBool>,
    records: Vec<Arc<Mutex<Record>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Workload {
    /// Starts the clients.
    pub fn start(plan: Plan) -> Result<Self> {
        let mut workload = Self {
            stop: Arc::default(),
            records: vec![],
            threads: vec![],
            plan,
        };
        for index in 0..workload.plan.clients {
            let record = Arc::<Mutex<Record>>::default();
            let client = Client {
                plan: workload.plan.clone(),
                key: key(index),
                record: Arc::clone(&record),
                stop: Arc::clone(&workload.stop),
            };
            workload.records.push(record);
            // Hundreds of clients: the default of 2 MiB of stack each is more than they need.
            workload.threads.push(
                thread::Builder::new()
                    .stack_size(128 << 10)
                    .spawn(move || client.run())?,
            );
        }
        Ok(workload)
    }

    /// What the clients saw so far.
    pub fn records(&self) -> Vec<Record> {
        self.records
            .iter()
            .map(|record| lock(record).clone())
            .collect()
    }

    /// Whether each client has an acknowledged write on `node`.
    pub fn all_write_to(&self, node: u16) -> bool {
        self.records
            .iter()
            .all(|record| lock(record).acks.last().is_some_and(|ack| ack.node == node))
    }

    /// Ends the clients and returns what they saw.
    pub fn stop(self) -> Vec<Record> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            let _ = thread.join();
        }
        self.records
            .iter()
            .map(|record| lock(record).clone())
            .collect()
    }
}

/// The counter of a client.
pub fn key(client: usize) -> String {
    format!("counter:{client}")
}

struct Client {
    plan: Plan,
    key: String,
    record: Arc<Mutex<Record>>,
    stop: Arc<AtomicBool>,
}

impl Client {
    fn run(&self) {
        while self.goes_on() {
            match Connection::open(self.plan.port, self.plan.timeout) {
                Ok(connection) => self.write(connection),
                Err(_) => {
                    lock(&self.record).refused.push(Instant::now());
                    sleep(Duration::from_millis(20));
                }
            }
        }
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Writes over one connection until it ends.
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
            sleep(self.plan.pause);
        }
    }

    /// One INCR. The first one of a connection also asks who answers, in the same packet.
    fn write_once(&self, connection: &mut Connection, node: &mut Option<u16>) -> io::Result<()> {
        if node.is_none() {
            connection.send(&["CONFIG", "GET", "port"])?;
        }
        connection.send(&["INCR", &self.key])?;
        if node.is_none() {
            let reply = connection.receive()?;
            *node = reply.field("port").and_then(|port| port.parse().ok());
            if let Value::Error(text) = reply {
                lock(&self.record).errors.push((Instant::now(), text));
                *node = Some(0);
            }
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
                    node: node.unwrap_or(0),
                });
            }
            Value::Error(text) => record.errors.push((at, text)),
            other => record.errors.push((at, format!("{other:?}"))),
        }
        Ok(())
    }
}

fn lock(record: &Mutex<Record>) -> std::sync::MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}
