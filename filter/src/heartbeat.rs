//! A heartbeat of Envoy's health checker: kept in hand, replaced by commands, answered. What the conversations with
//! Sentinels and the probes of nodes have in common.

use crate::host;
use proxy_wasm::types::Action;
use sentinel_core::time::Timestamp;
use std::time::Duration;

/// Most heartbeat connections of one root context on one worker. Any process of the network namespace may connect to an
/// abstract socket.
pub const MAX_HEARTBEATS: usize = 64;
/// The health checker sends its heartbeat as soon as it is read, which is when the upstream has accepted. Who says nothing
/// for so long is somebody else.
const MUTE: Duration = Duration::from_secs(2);

/// What the health checker sends, and what it waits for.
const ANSWER: &[u8] = b".";

/// Whether a connection behaves as the health checker's.
#[derive(Clone, Copy)]
pub struct Pulse {
    since: Timestamp,
    felt: bool,
}

impl Pulse {
    /// Nothing yet.
    pub fn new(now: Timestamp) -> Self {
        Self {
            since: now,
            felt: false,
        }
    }

    /// A heartbeat.
    pub fn feel(&mut self) {
        self.felt = true;
    }

    /// When to look whether there was one.
    pub fn due(&self) -> Option<Timestamp> {
        (!self.felt).then(|| self.since.after(MUTE))
    }

    /// Whether to close the current stream: it is connected and has had time for a heartbeat.
    pub fn is_missing(&mut self, now: Timestamp) -> bool {
        if self.felt || now.since(self.since) < MUTE {
            return false;
        }
        if !host::is_connected() {
            self.since = now;
            return false;
        }
        true
    }
}

/// The connection that a new one replaces where there are as many as may be: the oldest without a heartbeat, or else the
/// oldest. So nobody who holds connections keeps the health checker out.
pub fn to_replace(open: &[(u32, Pulse)]) -> Option<u32> {
    if open.len() < MAX_HEARTBEATS {
        return None;
    }
    let mute = open.iter().find(|(_, pulse)| !pulse.felt);
    mute.or_else(|| open.first()).map(|(id, _)| *id)
}

/// In the stream's own callback: puts the commands in the heartbeat's place, or keeps it in hand where there are none.
pub fn speak_or_hold(commands: Option<Vec<u8>>) -> Action {
    let Some(commands) = commands else {
        return Action::Pause;
    };
    let _ = host::replace_bytes(host::Bytes::Downstream, &commands);
    Action::Continue
}

/// From a root's callback: puts the commands in the place of the heartbeat in hand and lets them go.
pub fn speak(stream: u32, commands: &[u8]) {
    if host::act_as(stream).is_ok()
        && host::replace_bytes(host::Bytes::Downstream, commands).is_ok()
    {
        let _ = host::resume();
    }
}

/// Nothing that a server says reaches the health checker, only the answer that it waits for.
pub fn swallow(answered: bool) -> Action {
    let answer = if answered { ANSWER } else { b"" };
    let _ = host::replace_bytes(host::Bytes::Upstream, answer);
    Action::Continue
}
