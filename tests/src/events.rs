//! What every Sentinel publishes, with the time at which it arrived here.

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::resp::Connection;
use crate::wait;

/// One published event.
#[derive(Debug, Clone)]
pub struct Event {
    /// When it arrived.
    pub at: Instant,
    /// The Sentinel's port.
    pub sentinel: u16,
    /// Such as `+promoted-slave`.
    pub name: String,
    /// What it says of whom.
    pub text: String,
}

impl Event {
    /// The port in `slave 127.0.0.1:16001 127.0.0.1 16001 @ mymaster …`.
    pub fn replica(&self) -> Result<u16> {
        let port = self.text.split_whitespace().nth(3);
        Ok(port.with_context(|| self.text.clone())?.parse()?)
    }
}

#[derive(Default)]
struct Shared {
    events: Mutex<Vec<Event>>,
    streams: Mutex<Vec<TcpStream>>,
    stop: AtomicBool,
}

/// A subscription to all events of several Sentinels.
pub struct Events(Arc<Shared>);

impl Events {
    /// Subscribes, and waits until each of the Sentinels has confirmed it.
    pub fn of(sentinels: &[u16]) -> Result<Self> {
        let events = Self(Arc::default());
        for &port in sentinels {
            let shared = Arc::clone(&events.0);
            thread::spawn(move || follow(port, &shared));
        }
        let confirmed = || lock(&events.0.streams).len() >= sentinels.len();
        wait::until_true(
            "the Sentinels to confirm subscriptions",
            wait::LONG,
            confirmed,
        )?;
        Ok(events)
    }

    /// Everything since `since`, oldest first.
    pub fn since(&self, since: Instant) -> Vec<Event> {
        let mut all: Vec<_> = lock(&self.0.events)
            .iter()
            .filter(|event| event.at >= since)
            .cloned()
            .collect();
        all.sort_by_key(|event| event.at);
        all
    }

    /// The first event of that name since `since`, from whichever Sentinel.
    pub fn first(&self, name: &str, since: Instant) -> Option<Event> {
        self.since(since)
            .into_iter()
            .find(|event| event.name == name)
    }

    /// Waits for it.
    pub fn wait_for(&self, name: &str, since: Instant) -> Result<Event> {
        wait::until(name, wait::LONG, || self.first(name, since))
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
        for stream in lock(&self.0.streams).iter() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads one Sentinel's events for as long as wanted, also across its restarts.
fn follow(port: u16, shared: &Shared) {
    while !shared.stop.load(Ordering::Relaxed) {
        let _ = read(port, shared);
        thread::sleep(Duration::from_millis(50));
    }
}

fn read(port: u16, shared: &Shared) -> std::io::Result<()> {
    let mut connection = Connection::open(port, Duration::from_secs(5))?;
    connection.call(&["PSUBSCRIBE", "*"])?;
    connection.stream().set_read_timeout(None)?;
    lock(&shared.streams).push(connection.stream().try_clone()?);
    loop {
        let message = connection.receive()?;
        let at = Instant::now();
        if let [_, _, name, text] = message.items() {
            let [name, text] = [name, text].map(|value| value.text().unwrap_or_default());
            lock(&shared.events).push(Event {
                at,
                sentinel: port,
                name,
                text,
            });
        }
    }
}
