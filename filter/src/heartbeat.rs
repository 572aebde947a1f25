//! A heartbeat of Envoy's health checker: kept in hand, replaced by commands, answered. What the conversations with
//! Sentinels and the probes of nodes have in common.

use crate::host;
use proxy_wasm::types::Action;

/// What the health checker sends, and what it waits for.
const ANSWER: &[u8] = b".";

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
