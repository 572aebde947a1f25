//! When a Redis turns into a master by its own word, which Sentinel learns only at its next look.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::resp::Connection;
use crate::wait;

/// How often a node is asked; also how wrong the time may be.
const PACE: Duration = Duration::from_millis(1);

#[derive(Default)]
struct Shared {
    turned: Mutex<BTreeMap<u16, Instant>>,
    stop: AtomicBool,
}

/// Asks nodes for their ROLE all the time, over one connection each.
pub struct Roles(Arc<Shared>);

impl Roles {
    /// Begins to ask these nodes, which are replicas now.
    pub fn of(nodes: &[u16]) -> Self {
        let shared = Arc::<Shared>::default();
        for &port in nodes {
            let shared = Arc::clone(&shared);
            thread::spawn(move || follow(port, &shared));
        }
        Self(shared)
    }

    /// When this node was first seen to be a master.
    pub fn turned(&self, node: u16) -> Result<Instant> {
        wait::until("the replica's own ROLE to turn", wait::LONG, || {
            let turned = self.0.turned.lock().unwrap_or_else(PoisonError::into_inner);
            turned.get(&node).copied()
        })
    }
}

impl Drop for Roles {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// Ends when the node is a master. Sentinel has it close its connections with the promotion: dials again at once.
fn follow(port: u16, shared: &Shared) {
    let ended = || shared.stop.load(Ordering::Relaxed);
    while !ended() {
        let Ok(mut connection) = Connection::open(port, wait::LONG) else {
            sleep(PACE);
            continue;
        };
        while let (false, Ok(role)) = (ended(), connection.call(&["ROLE"])) {
            let at = Instant::now();
            let role = role.items().first().and_then(|role| role.text());
            if role.as_deref() == Some("master") {
                let mut turned = shared.turned.lock().unwrap_or_else(PoisonError::into_inner);
                turned.insert(port, at);
                return;
            }
            sleep(PACE);
        }
    }
}
