//! Applications that write through a Service all the time, reconnect as ordinary ones do, and write down what they saw.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::client::{Client, dial};
use crate::resp::{Connection, Value};

/// Before a client takes another connection.
const PAUSE: Duration = Duration::from_millis(50);

/// The same, where each connection is used once: a handful of clients must not use up a host's ports within the minute for which
/// each of them rests.
const PAUSE_ONCE: Duration = Duration::from_millis(20);

/// What they do.
#[derive(Clone)]
pub struct Plan {
    /// The Service's name, as they know it.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What they say to AUTH.
    pub password: String,
    /// How many there are.
    pub clients: usize,
    /// Between two writes of one.
    pub pause: Duration,
    /// How long one waits for a connection, and for a reply, before it takes another connection.
    pub patience: Duration,
    /// What their keys begin with.
    pub name: String,
    /// Whether they take a new connection for each write. They need a host of their own: where most ports rest, the kernel gives one
    /// that a server has just reset to the next connection, and the Service's connection tracking, which still knows that pair of
    /// ports, leads it to the same pod, though that has left the Service long ago. So it is in a cluster, too; but there is no client
    /// there that takes hundreds of connections per second from one address.
    pub once: bool,
}

/// What all of them saw.
#[derive(Default, Clone)]
pub struct Seen {
    /// Acknowledged writes: who, which, and when.
    pub acknowledged: Vec<(usize, u64, Instant)>,
    /// Connections that could not be opened.
    pub refused: Vec<(Instant, String)>,
    /// Connections that ended before they gave any answer.
    pub unanswered: Vec<Instant>,
    /// Connections that had given answers and were closed.
    pub closed: Vec<Instant>,
    /// Replies that did not come in time.
    pub timeouts: Vec<Instant>,
    /// Error replies.
    pub errors: Vec<(Instant, String)>,
}

impl Seen {
    /// The longest time in which nobody had a write acknowledged.
    pub fn silence(&self) -> Duration {
        let mut times: Vec<_> = self.acknowledged.iter().map(|(.., at)| *at).collect();
        times.sort();
        let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
        gaps.max().unwrap_or_default()
    }

    /// All of it in a line.
    pub fn summary(&self) -> String {
        let errors: BTreeSet<_> = self.errors.iter().map(|(_, text)| text.as_str()).collect();
        let refused: BTreeSet<_> = self.refused.iter().map(|(_, text)| text.as_str()).collect();
        format!(
            "{} acknowledged, longest silence {:?}, {} refused {refused:?}, {} unanswered, {} closed, {} timeouts, {} errors {errors:?}",
            self.acknowledged.len(),
            self.silence(),
            self.refused.len(),
            self.unanswered.len(),
            self.closed.len(),
            self.timeouts.len(),
            self.errors.len(),
        )
    }

    /// The acknowledged writes that `connection`'s Redis has not.
    pub fn lost(
        &self,
        plan: &Plan,
        connection: &mut Connection,
    ) -> Result<Vec<(usize, u64, Instant)>> {
        let mut lost = Vec::new();
        for client in 0..plan.clients {
            let there: BTreeSet<u64> = connection
                .call(&["LRANGE", &plan.key(client), "0", "-1"])?
                .items()
                .iter()
                .filter_map(|item| item.text()?.parse().ok())
                .collect();
            let own = self.acknowledged.iter().filter(|(who, ..)| *who == client);
            lost.extend(
                own.filter(|(_, number, _)| !there.contains(number))
                    .copied(),
            );
        }
        Ok(lost)
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.summary())
    }
}

impl Plan {
    /// The list of a client: every number that it wrote.
    pub fn key(&self, client: usize) -> String {
        format!("{}:{client}", self.name)
    }
}

/// Running applications.
pub struct Load {
    plan: Plan,
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Load {
    /// Starts them on a host.
    pub fn start(host: &Client, plan: &Plan) -> Self {
        let (seen, stop) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
        let threads = (0..plan.clients).map(|number| {
            let mut one = Writer {
                number,
                next: 0,
                plan: plan.clone(),
                seen: Arc::clone(&seen),
                stop: Arc::clone(&stop),
            };
            host.spawn(move || one.run())
        });
        let threads = threads.collect();
        Self {
            plan: plan.clone(),
            seen,
            stop,
            threads,
        }
    }

    /// What they do.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What they saw so far.
    pub fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }

    /// How many writes were acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        lock(&self.seen).acknowledged.len()
    }

    /// Ends them.
    pub fn stop(self) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().ok().context("a client panicked")??;
        }
        let seen = lock(&self.seen).clone();
        Ok(seen)
    }
}

struct Writer {
    number: usize,
    next: u64,
    plan: Plan,
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
}

impl Writer {
    fn run(&mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            match dial(&self.plan.host, self.plan.port, self.plan.patience) {
                Ok(connection) => self.use_up(connection),
                Err(error) => lock(&self.seen)
                    .refused
                    .push((Instant::now(), error.to_string())),
            }
            sleep(if self.plan.once { PAUSE_ONCE } else { PAUSE });
        }
    }

    /// Writes until the connection ends, or gives an error reply.
    fn use_up(&mut self, mut connection: Connection) {
        let mut answered = false;
        while !self.stop.load(Ordering::Relaxed) {
            match self.write(&mut connection, !answered) {
                Ok(true) if self.plan.once => return,
                Ok(true) => answered = true,
                // What a client library does with an error that says "not here": another connection.
                Ok(false) => return,
                Err(error) => {
                    let mut seen = lock(&self.seen);
                    let list = match error.kind() {
                        ErrorKind::WouldBlock | ErrorKind::TimedOut => &mut seen.timeouts,
                        _ if answered => &mut seen.closed,
                        _ => &mut seen.unanswered,
                    };
                    list.push(Instant::now());
                    return;
                }
            }
            sleep(self.plan.pause);
        }
    }

    fn write(&mut self, connection: &mut Connection, login: bool) -> io::Result<bool> {
        if login {
            connection.send(&["AUTH", &self.plan.password])?;
        }
        self.next += 1;
        let number = self.next;
        connection.send(&["RPUSH", &self.plan.key(self.number), &number.to_string()])?;
        let mut replies = vec![connection.receive()?];
        if login {
            replies.push(connection.receive()?);
        }
        let at = Instant::now();
        let mut seen = lock(&self.seen);
        let error = replies.iter().find_map(|reply| match reply {
            Value::Error(text) => Some(text.clone()),
            _ => None,
        });
        match error {
            Some(text) => seen.errors.push((at, text)),
            None => seen.acknowledged.push((self.number, number, at)),
        }
        Ok(seen.errors.last().is_none_or(|(when, _)| *when != at))
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
