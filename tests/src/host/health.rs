//! Envoy's active TCP health checker, one endpoint of it: it sends "." and waits for "." on a connection that it keeps.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::client::Client;
use super::conn::Conn;
use super::process::Process;
use super::worker::Root;

const INTERVAL: Duration = Duration::from_millis(20);
const UNHEALTHY_INTERVAL: Duration = Duration::from_millis(100);
const TIMEOUT: Duration = Duration::from_secs(5);

struct Checker {
    me: Weak<RefCell<Checker>>,
    root: Root,
    address: String,
    conn: Option<Conn>,
    /// Which check is under way: a timeout of an older one is stale.
    check: u64,
    waiting: bool,
    healthy: bool,
    answers: u64,
    failures: u64,
    /// All that came and was not an answer to a heartbeat.
    stray: Vec<u8>,
    stopped: bool,
}

/// A health check of one slot. It begins at once and goes on for as long as time is advanced.
#[derive(Clone)]
pub struct Heartbeat(Rc<RefCell<Checker>>);

impl Heartbeat {
    /// Starts to check the listener at `address`, whose connections `root`'s worker accepts.
    #[must_use]
    pub fn start(process: &Process, root: &Root, address: &str) -> Self {
        let heartbeat = Self(Rc::new_cyclic(|me| {
            RefCell::new(Checker {
                me: me.clone(),
                root: root.clone(),
                address: address.to_owned(),
                conn: None,
                check: 0,
                waiting: false,
                healthy: false,
                answers: 0,
                failures: 0,
                stray: Vec::new(),
                stopped: false,
            })
        }));
        heartbeat.beat_after(process, Duration::ZERO);
        heartbeat
    }

    /// Whether the last check succeeded.
    #[must_use]
    pub fn healthy(&self) -> bool {
        self.0.borrow().healthy
    }

    /// Ends it: the cluster was removed.
    pub fn stop(&self) {
        let conn = self.0.borrow_mut().conn.take();
        self.0.borrow_mut().stopped = true;
        if let Some(conn) = conn.filter(|c| c.closed().is_none()) {
            conn.close();
        }
    }

    /// How many checks succeeded.
    #[must_use]
    pub fn answers(&self) -> u64 {
        self.0.borrow().answers
    }

    /// How many checks failed: no answer in time, or a close.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.0.borrow().failures
    }

    /// What the health checker got that was no answer: nothing, if the module swallows what it must.
    #[must_use]
    pub fn stray(&self) -> Vec<u8> {
        self.0.borrow().stray.clone()
    }

    /// The connection of the check under way.
    #[must_use]
    pub fn conn(&self) -> Option<Conn> {
        self.0.borrow().conn.clone()
    }

    fn beat_after(&self, process: &Process, delay: Duration) {
        let this = self.clone();
        process.hub.after(delay, move |p| this.beat(p));
    }

    fn beat(&self, process: &Process) {
        if self.0.borrow().stopped {
            return;
        }
        let existing = self.conn();
        let conn = existing.clone().unwrap_or_else(|| {
            let checker = self.0.borrow();
            checker.root.accept(&checker.address)
        });
        let check = {
            let mut c = self.0.borrow_mut();
            c.conn = Some(conn.clone());
            c.waiting = true;
            c.check += 1;
            c.check
        };
        if existing.is_none() {
            conn.observe(self.0.clone());
        }
        let this = self.clone();
        process.hub.after(TIMEOUT, move |p| {
            if this.0.borrow().is_waiting(check) {
                this.fail(p);
            }
        });
        conn.push(b".");
    }

    fn fail(&self, process: &Process) {
        let conn = {
            let mut c = self.0.borrow_mut();
            c.healthy = false;
            c.waiting = false;
            c.failures += 1;
            c.conn.take()
        };
        if let Some(conn) = conn.filter(|c| c.closed().is_none()) {
            conn.hang_up();
        }
        self.beat_after(process, UNHEALTHY_INTERVAL);
    }
}

impl Checker {
    fn is_waiting(&self, check: u64) -> bool {
        self.waiting && self.check == check
    }

    fn again(&self, process: &Process, delay: Duration) {
        if let Some(me) = self.me.upgrade() {
            Heartbeat(me).beat_after(process, delay);
        }
    }
}

impl Client for Checker {
    fn data(&mut self, process: &Process, bytes: &[u8]) {
        if !self.waiting || bytes != b"." {
            self.stray.extend_from_slice(bytes);
            return;
        }
        self.waiting = false;
        self.healthy = true;
        self.answers += 1;
        self.again(process, INTERVAL);
    }

    fn closed(&mut self, process: &Process) {
        // A close that the checker itself made has taken the connection away before.
        if self.conn.take_if(|c| c.closed().is_some()).is_some() {
            self.healthy = false;
            self.waiting = false;
            self.failures += 1;
            self.again(process, UNHEALTHY_INTERVAL);
        }
    }
}
