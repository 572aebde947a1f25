//! Clients in the race: each writes all the time, reconnects as ordinary clients do, and writes down what it saw.

use std::io::{self, ErrorKind};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, ensure};
use redis_sentinel_tests::resp::{Connection, Value};
use redis_sentinel_tests::tools;
use serde::{Deserialize, Serialize};

/// Counts, and says which node counted: also through a proxy that refuses `CONFIG`.
const SCRIPT: &str = "return {redis.call('INCR', KEYS[1]), string.match(redis.call('INFO', 'server'), 'tcp_port:(%d+)')}";

/// What a client saw, and when: seconds since 1970, a clock that two processes share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: f64,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What a client can see.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "lowercase")]
pub enum What {
    /// A write was acknowledged.
    Ack {
        /// The counter's value.
        value: i64,
        /// The port of the node that gave it.
        node: u16,
    },
    /// A connection could not be opened, or was closed before it gave any answer.
    Refused {
        /// The error.
        text: String,
    },
    /// A connection that had answered was closed.
    Closed {
        /// The error.
        text: String,
    },
    /// No reply in time.
    Timeout {
        /// The error.
        text: String,
    },
    /// An error reply.
    Error {
        /// It.
        text: String,
    },
}

/// How the clients behave.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// How many.
    pub clients: usize,
    /// Between two writes of one client.
    pub pause: Duration,
    /// How long one waits for a reply before it gives up on the connection.
    pub timeout: Duration,
}

/// The counter of a client.
pub fn key(contender: &str, client: usize) -> String {
    format!("race:{contender}:{client}")
}

/// Now.
pub fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

/// The node that acknowledges a write over a new connection to `port`.
pub fn leads_to(port: u16) -> Option<u16> {
    let mut connection = Connection::open(port, Duration::from_secs(1)).ok()?;
    let reply = connection.call(&["EVAL", SCRIPT, "1", "race:first"]).ok()?;
    match judge(&reply) {
        What::Ack { node, .. } => Some(node),
        _ => None,
    }
}

type Log = Arc<Mutex<Vec<Event>>>;

fn lock(log: &Log) -> std::sync::MutexGuard<'_, Vec<Event>> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Clients of a proxy.
pub struct Plain {
    stop: Arc<AtomicBool>,
    clients: Vec<(Log, JoinHandle<()>)>,
}

impl Plain {
    /// Starts them.
    pub fn start(contender: &str, port: u16, manner: Manner) -> Result<Self> {
        let stop = Arc::<AtomicBool>::default();
        let mut clients = vec![];
        for index in 0..manner.clients {
            let log = Log::default();
            let client = Client {
                port,
                manner,
                key: key(contender, index),
                log: Arc::clone(&log),
                stop: Arc::clone(&stop),
            };
            let thread = thread::Builder::new().stack_size(256 << 10);
            clients.push((log, thread.spawn(move || client.run())?));
        }
        Ok(Self { stop, clients })
    }

    /// Whether the last that each saw is an acknowledged write on `master`.
    pub fn all_write_to(&self, master: u16) -> bool {
        let writes = |log: &Log| {
            let last = lock(log).last().map(|event| event.what.clone());
            matches!(last, Some(What::Ack { node, .. }) if node == master)
        };
        self.clients.iter().all(|(log, _)| writes(log))
    }

    /// Tells them to end.
    pub fn end(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// What they saw. One that waits for a reply is left alone: its thread ends with its time limit.
    pub fn seen(self) -> Vec<Vec<Event>> {
        self.end();
        self.clients
            .iter()
            .map(|(log, _)| lock(log).clone())
            .collect()
    }
}

struct Client {
    port: u16,
    manner: Manner,
    key: String,
    log: Log,
    stop: Arc<AtomicBool>,
}

impl Client {
    fn run(&self) {
        while self.goes_on() {
            match Connection::open(self.port, self.manner.timeout) {
                Ok(connection) => self.write(connection),
                Err(error) => {
                    let text = error.to_string();
                    self.note(What::Refused { text });
                    sleep(Duration::from_millis(20));
                }
            }
        }
    }

    /// Writes over one connection until it ends.
    fn write(&self, mut connection: Connection) {
        let mut answered = false;
        while self.goes_on() {
            match connection.call(&["EVAL", SCRIPT, "1", &self.key]) {
                Ok(reply) => self.note(judge(&reply)),
                Err(error) => {
                    self.note(ended(&error, answered));
                    // A proxy that accepts and closes at once would otherwise be asked thousands of times a second.
                    if !answered {
                        sleep(Duration::from_millis(20));
                    }
                    return;
                }
            }
            answered = true;
            sleep(self.manner.pause);
        }
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn note(&self, what: What) {
        if self.goes_on() {
            lock(&self.log).push(Event { at: now(), what });
        }
    }
}

fn judge(reply: &Value) -> What {
    let port = |value: &Value| value.text()?.parse().ok();
    match reply.items() {
        [Value::Int(value), node] => What::Ack {
            value: *value,
            node: port(node).unwrap_or(0),
        },
        _ => What::Error {
            text: reply.text().unwrap_or_else(|| format!("{reply:?}")),
        },
    }
}

fn ended(error: &io::Error, answered: bool) -> What {
    let text = error.to_string();
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => What::Timeout { text },
        _ if answered => What::Closed { text },
        _ => What::Refused { text },
    }
}

/// Clients that ask Sentinel themselves, in another process.
pub struct Aware(Child);

impl Aware {
    /// Starts them.
    pub fn start(sentinels: &[u16], manner: Manner) -> Result<Self> {
        let mut command = Command::new("python3");
        command
            .arg(tools::root().join("tests/bench/redis_py.py"))
            .arg(manner.clients.to_string())
            .args([manner.pause, manner.timeout].map(|time| time.as_secs_f64().to_string()))
            .arg(SCRIPT)
            .args(sentinels.iter().map(|port| format!("127.0.0.1:{port}")))
            .env("PYTHONPATH", tools::root().join("target/tools/python"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        Ok(Self(command.spawn().context("cannot start python3")?))
    }

    /// Ends them: their standard input ends, as it does when this process does.
    pub fn seen(mut self) -> Result<Vec<Vec<Event>>> {
        drop(self.0.stdin.take());
        let out = self.0.stdout.take().context("no output")?;
        let text = io::read_to_string(out)?;
        ensure!(
            self.0.wait()?.success(),
            "redis-py's clients failed: {text}"
        );
        let line =
            |line: &str| serde_json::from_str(line).map_err(|error| anyhow!("{error}: {line}"));
        text.lines().map(line).collect()
    }
}

impl Drop for Aware {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_clients_write_the_same_down() {
        let line = r#"[{"at": 1.5, "what": "ack", "value": 7, "node": 16001}, {"at": 2.0, "what": "timeout", "text": "T"}]"#;
        let events: Vec<Event> = serde_json::from_str(line).expect("events");
        let ack = What::Ack {
            value: 7,
            node: 16001,
        };
        assert_eq!(events[0], Event { at: 1.5, what: ack });
        let text = "T".to_owned();
        assert_eq!(events[1].what, What::Timeout { text });
        let again: Vec<Event> =
            serde_json::from_str(&serde_json::to_string(&events).expect("JSON")).expect("events");
        assert_eq!(again, events);
    }

    #[test]
    fn a_reply_is_an_acknowledgement_or_an_error() {
        let reply = Value::Array(vec![Value::Int(3), Value::Text(b"16002".to_vec())]);
        let ack = What::Ack {
            value: 3,
            node: 16002,
        };
        assert_eq!(judge(&reply), ack);
        let reply = Value::Error("READONLY You can't".to_owned());
        assert!(matches!(judge(&reply), What::Error { text } if text.starts_with("READONLY")));
        let closed = io::Error::from(ErrorKind::UnexpectedEof);
        assert!(matches!(ended(&closed, true), What::Closed { .. }));
        assert!(matches!(ended(&closed, false), What::Refused { .. }));
        let late = io::Error::from(ErrorKind::WouldBlock);
        assert!(matches!(ended(&late, true), What::Timeout { .. }));
    }
}
