//! What a failover cost, and whose part it was.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::redis;
use crate::workload::{self, Record};

/// One failover as the clients saw it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Nobody's write was acknowledged for so long: from the last on the old master to the first on the new one.
    pub silence: Duration,
    /// Of it, until Sentinel's `+promoted-slave` (with `early_switch` until the replica's ROLE turned): before that no
    /// client may write to the new master.
    pub sentinel: Duration,
    /// From there to the first acknowledged write.
    pub ours: Duration,
    /// From there until every client had an acknowledged write.
    pub ours_all: Duration,
    /// Connections that could not be opened, or gave no answer.
    pub refused: usize,
    /// Replies that did not come in time.
    pub timeouts: usize,
    /// Error replies.
    pub errors: Vec<String>,
    /// The most closes that one client saw.
    pub closes: usize,
    /// Acknowledged writes that the new master does not have.
    pub lost: i64,
    /// Acknowledged writes per second before the failover.
    pub rate: usize,
}

impl Outcome {
    /// Whether no client noticed more than one close.
    pub fn is_transparent(&self) -> bool {
        self.refused == 0 && self.timeouts == 0 && self.errors.is_empty() && self.closes <= 1
    }

    /// Judges `records` of a failover that began at `begun`, was promoted at `promoted`, and made `master` the
    /// master, which must still be running: it is asked what it has.
    pub fn of(records: &[Record], begun: Instant, promoted: Instant, master: u16) -> Result<Self> {
        let acks = || records.iter().flat_map(|record| record.acks.iter());
        // The old master of a planned failover answers on until it is fenced, one that was killed only before.
        let last_old = acks()
            .filter(|ack| ack.node != master)
            .map(|ack| ack.at)
            .max()
            .context("no write before")?;
        let firsts = records.iter().map(|record| {
            let first = record
                .acks
                .iter()
                .find(|ack| ack.node == master)
                .context("a client that never came back")?;
            Ok(first.at)
        });
        let firsts = firsts.collect::<Result<Vec<_>>>()?;
        let first = *firsts.iter().min().context("no clients")?;
        let last = *firsts.iter().max().context("no clients")?;
        let mut lost: i64 = records.iter().map(|record| record.lost).sum();
        for (index, record) in records.iter().enumerate() {
            let has = redis::call(master, &["GET", &workload::key(index)])?
                .text()
                .and_then(|text| text.parse().ok());
            lost += (record.counter - has.unwrap_or(0)).max(0);
        }
        Ok(Self {
            silence: first.saturating_duration_since(last_old),
            sentinel: promoted.saturating_duration_since(last_old),
            ours: first.saturating_duration_since(promoted),
            ours_all: last.saturating_duration_since(promoted),
            refused: records
                .iter()
                .map(|record| record.refused.len() + record.unanswered.len())
                .sum(),
            timeouts: records.iter().map(|record| record.timeouts.len()).sum(),
            errors: records
                .iter()
                .flat_map(|record| record.errors.iter().map(|(_, text)| text.clone()))
                .collect(),
            closes: records
                .iter()
                .map(|record| record.closes.len())
                .max()
                .unwrap_or(0),
            lost,
            rate: acks()
                .filter(|ack| ack.at < begun && ack.at + Duration::from_secs(1) >= begun)
                .count(),
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
        write!(
            f,
            "silence {:.0} ms = {:.0} ms of Sentinel + {:.0} ms of ours ({:.0} ms until the last client wrote), \
             {} refused, {} timeouts, {} error replies{}, at most {} closes, {} lost, {} writes/s",
            ms(self.silence),
            ms(self.sentinel),
            ms(self.ours),
            ms(self.ours_all),
            self.refused,
            self.timeouts,
            self.errors.len(),
            self.errors
                .first()
                .map(|text| format!(" ({text})"))
                .unwrap_or_default(),
            self.closes,
            self.lost,
            self.rate,
        )
    }
}
