//! What a case did to the two kinds of clients.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::direct::Counted;
use super::system::Machine;
use crate::workload::{self, Record};

/// What one kind of clients saw, all of them together.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Acknowledged writes.
    pub acks: usize,
    /// The longest time that one client had no acknowledged write.
    pub silence: Duration,
    /// Errors of any kind: refused, closed, timed out, error replies.
    pub errors: usize,
    /// Acknowledged writes that are gone.
    pub lost: i64,
}

impl Seen {
    /// By clients of the proxy that were stopped at `end`.
    pub(super) fn through(records: &[Record], end: Instant, master: &Machine) -> Result<Self> {
        let gap = |record: &Record| {
            let pairs = record.acks.windows(2).map(|pair| pair[1].at - pair[0].at);
            let last = record
                .acks
                .last()
                .map(|ack| end.saturating_duration_since(ack.at));
            pairs.chain(last).max().unwrap_or_default()
        };
        let failed = |r: &Record| {
            r.refused.len()
                + r.unanswered.len()
                + r.closes.len()
                + r.timeouts.len()
                + r.errors.len()
        };
        let mut lost = records.iter().map(|record| record.lost).sum();
        for (index, record) in records.iter().enumerate() {
            lost += missing(master, &workload::key(index), record.counter)?;
        }
        Ok(Self {
            acks: records.iter().map(|record| record.acks.len()).sum(),
            silence: records.iter().map(gap).max().unwrap_or_default(),
            errors: records.iter().map(failed).sum(),
            lost,
        })
    }

    /// By clients that know Sentinel.
    pub(super) fn directly(clients: &[Counted], master: &Machine) -> Result<Self> {
        let mut lost = clients.iter().map(|client| client.lost).sum();
        for (index, client) in clients.iter().enumerate() {
            lost += missing(master, &format!("direct:{index}"), client.counter)?;
        }
        Ok(Self {
            acks: clients.iter().map(|client| client.acks as usize).sum(),
            silence: clients
                .iter()
                .map(|client| client.silence)
                .max()
                .unwrap_or_default(),
            errors: clients.iter().map(|client| client.errors as usize).sum(),
            lost,
        })
    }
}

/// What was acknowledged of a counter and is not there.
fn missing(master: &Machine, key: &str, counter: i64) -> Result<i64> {
    let has = master.call(&["GET", key])?.text();
    let has: i64 = has.and_then(|text| text.parse().ok()).unwrap_or(0);
    Ok((counter - has).max(0))
}

/// One case.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What was cut.
    pub case: &'static str,
    /// Whether another node is the master now.
    pub moved: bool,
    /// Clients of the proxy.
    pub proxied: Seen,
    /// Clients that know Sentinel, on the same machine as the proxy.
    pub direct: Seen,
}

impl Outcome {
    /// The head of the table of which each outcome is a row.
    pub const HEAD: &'static str = "\
| what is cut | failover | through the proxy: silence, errors | lost | directly: silence, errors | lost |
|---|---|---|---|---|---|";
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            case,
            moved,
            proxied,
            direct,
        } = self;
        let seen = |seen: &Seen| {
            let silence = seen.silence.as_secs_f64();
            format!(
                "{silence:.1} s, {} | {} of {}",
                seen.errors, seen.lost, seen.acks
            )
        };
        let moved = if *moved { "yes" } else { "no" };
        write!(
            f,
            "| {case} | {moved} | {} | {} |",
            seen(proxied),
            seen(direct)
        )
    }
}
