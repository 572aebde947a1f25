//! A TCP server that misbehaves.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

use super::Behaviour;
use crate::wait;

/// What the module says first to a Sentinel, and no Sentinel to another one.
const GREETING: &[u8] = b"HELLO";

struct Shared {
    behaviour: Mutex<Behaviour>,
    /// Everybody is treated so, not only the module.
    to_all: bool,
    /// By the number of the connection.
    open: Mutex<BTreeMap<u64, TcpStream>>,
    accepted: AtomicU64,
    met: AtomicU64,
    sent: Arc<AtomicU64>,
    stop: AtomicBool,
}

/// A server on 127.0.0.1 whose behaviour can be changed while it runs.
pub struct Peer {
    /// Where it listens.
    pub port: u16,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl Peer {
    /// A false Sentinel: treats the module so, and is deaf to real Sentinels, which would otherwise be the victims.
    pub fn sentinel(port: u16, behaviour: Behaviour) -> Result<Self> {
        Self::start(port, behaviour, false)
    }

    /// Treats everybody so.
    pub fn server(port: u16, behaviour: Behaviour) -> Result<Self> {
        Self::start(port, behaviour, true)
    }

    fn start(port: u16, behaviour: Behaviour, to_all: bool) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(behaviour),
            to_all,
            open: Mutex::default(),
            accepted: AtomicU64::new(0),
            met: AtomicU64::new(0),
            sent: Arc::default(),
            stop: AtomicBool::new(false),
        });
        let theirs = Arc::clone(&shared);
        Ok(Self {
            port,
            shared,
            acceptor: Some(thread::spawn(move || accept(&listener, &theirs))),
        })
    }

    /// Changes its ways: ends all connections, and counts from 0 again.
    pub fn become_one_of(&self, behaviour: Behaviour) {
        let mut current = lock(&self.shared.behaviour);
        *current = behaviour;
        self.shared.met.store(0, Ordering::Relaxed);
        self.shared.sent.store(0, Ordering::Relaxed);
        self.hang_up();
    }

    /// How many connections have been treated so.
    pub fn met(&self) -> u64 {
        self.shared.met.load(Ordering::Relaxed)
    }

    /// How many bytes, or pushes of its own, it has sent.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Waits until somebody has met it as it is now.
    pub fn wait_until_met(&self) -> Result<()> {
        wait::until_true("somebody to meet the hostile peer", wait::LONG, || {
            self.met() > 0
        })
        .with_context(|| format!("{:?}", lock(&self.shared.behaviour)))
    }

    fn hang_up(&self) {
        for stream in lock(&self.shared.open).values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.hang_up();
        // Wakes the acceptor.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        let _ = self.acceptor.take().map(JoinHandle::join);
        self.hang_up();
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming().flatten() {
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        let shared = Arc::clone(shared);
        let thread = thread::Builder::new().stack_size(256 << 10);
        let _ = thread.spawn(move || serve(stream, &shared));
    }
}

fn serve(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if !shared.to_all && !is_the_module(&stream)? {
        return Ok(());
    }
    let number = shared.accepted.fetch_add(1, Ordering::Relaxed);
    let behaviour = {
        // Under one lock: a change of behaviour finds every connection of the old one, and counts none of the new one.
        let current = lock(&shared.behaviour);
        lock(&shared.open).insert(number, stream.try_clone()?);
        shared.met.fetch_add(1, Ordering::Relaxed);
        current.clone()
    };
    let result = behaviour.treat(stream, &shared.sent);
    lock(&shared.open).remove(&number);
    result
}

/// Looks at the first bytes without taking them.
fn is_the_module(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0; 256];
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let length = stream.peek(&mut first)?;
    stream.set_read_timeout(None)?;
    let mut words = first[..length].windows(GREETING.len());
    Ok(words.any(|word| word == GREETING))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
