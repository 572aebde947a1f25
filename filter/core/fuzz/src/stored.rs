//! Shared data as text. Only this module's own VMs write it, but one of another version may have.

use crate::{
    roster,
    script::Script,
    topology::{self},
};
use sentinel_core::{roster::Roster, topology::Topology};

/// See the crate's table. JSON of a topology or a roster, a zero byte, and what happens from then on.
pub fn run(input: &[u8]) {
    let at = input
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(input.len());
    let (text, script) = input.split_at(at);
    let script = || Script::new(script.get(1..).unwrap_or_default());
    if let Ok(read) = serde_json::from_slice::<Topology>(text) {
        topology::go_on(read, &mut script());
    }
    if let Ok(read) = serde_json::from_slice::<Roster>(text) {
        roster::go_on(read, &mut script());
    }
}
