//! Clients that do not survive anything: one connection each, every reply must be the next one.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::redis;
use crate::resp::{Connection, Value};

/// Longer than any fence: a client's own limit would hide what the proxy does.
const PATIENT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(5);
/// Commands that the pipelining client sends at once.
const BATCH: i64 = 20;

/// What one client has seen.
#[derive(Default)]
struct Seen {
    /// Replies, and so writes, so far.
    replies: AtomicI64,
    /// The longest time between two of them.
    gap: Mutex<Duration>,
}

impl Seen {
    fn reply(&self, value: i64, last: &mut Instant) -> io::Result<()> {
        let expected = self.replies.fetch_add(1, Ordering::Relaxed) + 1;
        let mut gap = self.gap.lock().unwrap_or_else(PoisonError::into_inner);
        *gap = last.elapsed().max(*gap);
        *last = Instant::now();
        if value == expected {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "{value} where {expected} was due"
        )))
    }
}

/// Running clients: some INCR a counter each, one pushes numbers to a list without waiting for replies.
pub struct Steady {
    stop: Arc<AtomicBool>,
    clients: Vec<(Arc<Seen>, JoinHandle<io::Result<()>>)>,
}

impl Steady {
    /// Starts `counters` counting clients and the pushing one, all at `port`.
    pub fn start(port: u16, counters: usize) -> io::Result<Self> {
        let stop = Arc::<AtomicBool>::default();
        let mut clients = Vec::new();
        for index in 0..=counters {
            let (seen, ended) = (Arc::<Seen>::default(), Arc::clone(&stop));
            let connection = Connection::open(port, PATIENT)?;
            let theirs = Arc::clone(&seen);
            let thread = thread::spawn(move || match index {
                0 => push(connection, &theirs, &ended),
                _ => count(connection, &key(index), &theirs, &ended),
            });
            clients.push((seen, thread));
        }
        Ok(Self { stop, clients })
    }

    /// Replies per client so far.
    pub fn progress(&self) -> Vec<i64> {
        let replies = |seen: &Seen| seen.replies.load(Ordering::Relaxed);
        self.clients.iter().map(|(seen, _)| replies(seen)).collect()
    }

    /// Whether each client had a reply since `progress`.
    pub fn all_beyond(&self, progress: &[i64]) -> bool {
        let now = self.progress();
        now.iter().zip(progress).all(|(now, then)| now > then)
    }

    /// Ends the clients. An error is one that was closed, or had another reply than the next one, or wrote something that
    /// `master` does not have in that order. Otherwise the longest silence that any of them saw.
    pub fn stop(self, master: u16) -> Result<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        let mut longest = Duration::ZERO;
        for (index, (seen, thread)) in self.clients.into_iter().enumerate() {
            let replies = seen.replies.load(Ordering::Relaxed);
            match thread.join() {
                Err(_) => bail!("client {index} panicked"),
                Ok(Err(error)) => bail!("client {index} after {replies} replies: {error}"),
                Ok(Ok(())) => {}
            }
            let replies = seen.replies.load(Ordering::Relaxed);
            if index == 0 {
                compare_list(master, replies)?;
            } else {
                let has = redis::call(master, &["GET", &key(index)])?.text();
                if has != Some(replies.to_string()) {
                    bail!("client {index} had {replies} replies, its counter is {has:?}");
                }
            }
            longest = longest.max(*seen.gap.lock().unwrap_or_else(PoisonError::into_inner));
        }
        Ok(longest)
    }
}

fn key(index: usize) -> String {
    format!("steady:{index}")
}

fn count(mut connection: Connection, key: &str, seen: &Seen, stop: &AtomicBool) -> io::Result<()> {
    let mut last = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let reply = connection.call(&["INCR", key])?;
        seen.reply(number(&reply)?, &mut last)?;
        sleep(PAUSE);
    }
    Ok(())
}

/// The replies are the list's length: none may be missing, and later the list tells whether the order was kept.
fn push(connection: Connection, seen: &Seen, stop: &AtomicBool) -> io::Result<()> {
    let mut sender = connection.stream().try_clone()?;
    let mut receiver = connection;
    let sent = AtomicI64::new(0);
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let written = (|| {
                while !stop.load(Ordering::Relaxed) && !ended.load(Ordering::Relaxed) {
                    let from = sent.load(Ordering::Relaxed);
                    let commands: String = (from..from + BATCH)
                        .map(|value| format!("RPUSH steady:list {value}\r\n"))
                        .collect();
                    sender.write_all(commands.as_bytes())?;
                    sent.store(from + BATCH, Ordering::Release);
                    sleep(PAUSE);
                }
                Ok(())
            })();
            ended.store(true, Ordering::Release);
            written
        });
        let mut last = Instant::now();
        let read = (|| loop {
            let all_sent = ended.load(Ordering::Acquire);
            if seen.replies.load(Ordering::Relaxed) >= sent.load(Ordering::Acquire) {
                if all_sent {
                    return Ok(());
                }
                sleep(Duration::from_millis(1));
                continue;
            }
            let reply = receiver.receive()?;
            seen.reply(number(&reply)?, &mut last)?;
        })();
        ended.store(true, Ordering::Release);
        let written = writer.join().map_err(|_| io::Error::other("panicked"))?;
        read.and(written)
    })
}

fn number(reply: &Value) -> io::Result<i64> {
    match reply {
        Value::Int(value) => Ok(*value),
        other => Err(io::Error::other(format!("{other:?}"))),
    }
}

fn compare_list(master: u16, length: i64) -> Result<()> {
    let list = redis::call(master, &["LRANGE", "steady:list", "0", "-1"])?;
    let found: Vec<_> = list.items().iter().filter_map(Value::text).collect();
    let expected: Vec<_> = (0..length).map(|value| value.to_string()).collect();
    let differs = found.iter().zip(&expected).position(|(a, b)| a != b);
    if found.len() != expected.len() || differs.is_some() {
        bail!(
            "the list has {} of {length} elements, the first that differs is {differs:?}",
            found.len()
        );
    }
    Ok(())
}
