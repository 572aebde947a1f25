//! A client's seconds, one line each.

use std::thread::sleep;
use std::time::{Duration, Instant};

use redis_sentinel_tests::wait;
use redis_sentinel_tests::workload::{Record, Workload};

const SECOND: Duration = Duration::from_secs(1);

/// One line for each second that is over.
pub struct Table {
    begun: Instant,
    shown: u32,
}

impl Table {
    /// Prints the head and begins the first second.
    pub fn begin() -> Self {
        println!(
            "{:>4}  {:>12}  {:>6}  {:>15}  on the node",
            "s", "acknowledged", "failed", "longest silence"
        );
        Self {
            begun: Instant::now(),
            shown: 0,
        }
    }

    /// Prints what is over, second by second, until `done` with the time since the beginning.
    pub fn show_until(&mut self, client: &Workload, done: impl Fn(Duration) -> bool) -> Duration {
        while !done(self.begun.elapsed()) && !wait::interrupted() {
            sleep(Duration::from_millis(10));
            if self.begun.elapsed() >= SECOND * (self.shown + 1) {
                let from = self.begun + SECOND * self.shown;
                self.shown += 1;
                println!(
                    "{:>4}  {}",
                    self.shown,
                    line(&client.records()[0], from, from + SECOND)
                );
            }
        }
        self.begun.elapsed()
    }
}

fn line(record: &Record, from: Instant, to: Instant) -> String {
    let within = |at: &Instant| (from..to).contains(at);
    let acks: Vec<_> = record.acks.iter().filter(|ack| within(&ack.at)).collect();
    let failed = [
        &record.refused,
        &record.unanswered,
        &record.closes,
        &record.timeouts,
    ];
    let failed = failed
        .iter()
        .flat_map(|list| list.iter())
        .chain(record.errors.iter().map(|(at, _)| at));
    let failed = failed.filter(|at| within(at)).count();
    let times: Vec<_> = [from]
        .into_iter()
        .chain(acks.iter().map(|ack| ack.at))
        .chain([to])
        .collect();
    let silence = times
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .max()
        .unwrap_or(SECOND);
    let mut nodes: Vec<_> = acks.iter().map(|ack| ack.node.to_string()).collect();
    nodes.dedup();
    format!(
        "{:>12}  {failed:>6}  {:>12} ms  {}",
        acks.len(),
        silence.as_millis(),
        nodes.join(", then ")
    )
}
