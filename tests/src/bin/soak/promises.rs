//! What must hold after every trouble.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use redis_sentinel_tests::hostile::{Guard, resident};
use redis_sentinel_tests::trial::Trial;
use redis_sentinel_tests::workload::{self, Record};
use redis_sentinel_tests::{redis, wait};

use crate::trouble::Trouble;

/// Memory beyond what Envoy had at the beginning.
const MEMORY: u64 = 128 << 20;
/// After the end of the trouble: Sentinel may sit out twice its failover-timeout of 5 s before it tries again.
const BACK: Duration = Duration::from_secs(30);
/// Nobody's master was touched: what a busy machine may take.
const UNNOTICED: Duration = Duration::from_secs(2);

/// What the clients saw of one trouble.
#[derive(Clone, Debug)]
pub struct Round {
    /// The longest time between two acknowledged writes of one client.
    pub silence: Duration,
    /// From the end of the trouble until every client wrote again.
    pub back: Duration,
    /// The most closes that one client saw.
    pub closes: usize,
    /// Connections that could not be opened.
    pub refused: usize,
    /// Connections closed before their first answer.
    pub unanswered: usize,
    /// Replies that did not come.
    pub timeouts: usize,
    /// Error replies.
    pub errors: Vec<String>,
    /// Acknowledged writes that are gone.
    pub lost: i64,
    /// Whether another node is the master now.
    pub moved: bool,
}

impl Round {
    /// From what the clients wrote down.
    pub fn judge(
        records: &[Record],
        begun: Instant,
        back: Duration,
        old: u16,
        master: u16,
    ) -> Result<Self> {
        let sum = |count: fn(&Record) -> usize| records.iter().map(count).sum::<usize>();
        let gap = |record: &Record| {
            let late = record
                .acks
                .iter()
                .position(|ack| ack.at >= begun)
                .unwrap_or(0)
                .saturating_sub(1);
            let pairs = record.acks[late..].windows(2);
            pairs
                .map(|pair| pair[1].at - pair[0].at)
                .max()
                .unwrap_or_default()
        };
        let mut lost: i64 = records.iter().map(|record| record.lost).sum();
        for (index, record) in records.iter().enumerate() {
            let has = redis::call(master, &["GET", &workload::key(index)])?.text();
            let has: i64 = has.and_then(|text| text.parse().ok()).unwrap_or(0);
            lost += (record.counter - has).max(0);
        }
        let errors = records
            .iter()
            .flat_map(|record| record.errors.iter().map(|(_, text)| text.clone()));
        Ok(Self {
            silence: records.iter().map(gap).max().unwrap_or_default(),
            back,
            closes: records
                .iter()
                .map(|record| record.closes.len())
                .max()
                .unwrap_or(0),
            refused: sum(|record| record.refused.len()),
            unanswered: sum(|record| record.unanswered.len()),
            timeouts: sum(|record| record.timeouts.len()),
            errors: errors.collect(),
            lost,
            moved: old != master,
        })
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            silence,
            back,
            closes,
            refused,
            unanswered,
            timeouts,
            errors,
            lost,
            moved,
        } = self;
        write!(
            f,
            "silence {:.0} ms, back after {:.0} ms{}; closes {closes}, refused {refused}, unanswered {unanswered}, \
             timeouts {timeouts}, errors {}, lost {lost}",
            silence.as_secs_f64() * 1000.0,
            back.as_secs_f64() * 1000.0,
            if *moved { " on another master" } else { "" },
            errors.len(),
        )
    }
}

/// The promises, and what it took to see that they were kept.
pub struct Promises {
    guard: Guard,
    pid: u32,
    first: u64,
    last: u64,
    checked: usize,
}

impl Promises {
    /// From here on.
    pub fn of(trial: &mut Trial) -> Result<Self> {
        let guard = Guard::of(&mut trial.envoy)?;
        let pid = trial.envoy.process().pid();
        let first = resident(pid)?;
        Ok(Self {
            guard,
            pid,
            first,
            last: first,
            checked: 0,
        })
    }

    /// After one trouble, with everything in step again.
    pub fn check(&mut self, trouble: &Trouble, round: &Round, trial: &mut Trial) -> Result<()> {
        ensure!(round.refused == 0, "Envoy refused a connection");
        ensure!(
            round.back <= BACK,
            "service was back only after {:?}",
            round.back
        );
        ensure!(
            trouble.may_lose() || round.lost == 0,
            "{} acknowledged writes are lost",
            round.lost
        );
        ensure!(
            round.moved == trouble.moves_the_master(),
            "the master moved: {}",
            round.moved
        );
        let unanswered = round.unanswered + round.timeouts + round.errors.len();
        if matches!(trouble, Trouble::Planned) || !trouble.concerns_the_master() {
            ensure!(unanswered == 0, "clients failed: {round:?}");
        }
        if !trouble.concerns_the_master() {
            ensure!(round.closes == 0, "a client was closed");
            ensure!(
                round.silence < UNNOTICED,
                "a client waited {:?}",
                round.silence
            );
        }
        ensure!(
            round.closes <= 1 || trouble.may_lose(),
            "a client was closed {} times",
            round.closes
        );
        // Every worker: new connections go to one or the other.
        let master = trial.cluster.master().context("no master")?;
        for _ in 0..16 {
            let node = trial.answers()?;
            ensure!(
                node == master,
                "a new connection was led to {node}, the master is {master}"
            );
        }
        wait::until_true("nobody to be held", wait::LONG, || {
            trial
                .counter("held_connections")
                .is_ok_and(|held| held == 0)
        })?;
        self.guard.judge(&trial.envoy, MEMORY)?;
        self.last = resident(self.pid)?;
        self.checked += 1;
        Ok(())
    }
}

impl fmt::Display for Promises {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peak = self.first + self.guard.growth().unwrap_or(0);
        write!(
            f,
            "Envoy's memory: {} MB at first, {} MB at its peak, {} MB at last. No VM failed. Every promise was kept {} times.",
            self.first >> 20,
            peak >> 20,
            self.last >> 20,
            self.checked
        )
    }
}

/// For an error: the acknowledged writes are thousands.
pub fn without_acks(records: &[Record]) -> Vec<Record> {
    let bare = |record: &Record| Record {
        acks: vec![],
        ..record.clone()
    };
    records.iter().map(bare).collect()
}
