//! What a process has used, as the kernel counts it.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The time that all threads of these processes have run, to the nanosecond: a process' own account counts in ticks of
/// 10 ms, and some kernels guess by who ran at the tick.
pub fn cpu(pids: &[u32]) -> Result<Duration> {
    let mut sum = Duration::ZERO;
    for pid in pids {
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread may end between the two looks.
            if let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) {
                sum += ran(&text)?;
            }
        }
    }
    Ok(sum)
}

/// `<ns on a CPU> <ns waiting for one> <times>`
fn ran(schedstat: &str) -> Result<Duration> {
    let first = schedstat.split_whitespace().next();
    let nanos = first.context("an empty schedstat")?;
    Ok(Duration::from_nanos(nanos.parse()?))
}

/// How long all processors were not idle since the machine began, in its ticks of 10 ms.
pub fn busy() -> Result<Duration> {
    parse_busy(&fs::read_to_string("/proc/stat")?)
}

/// `cpu  <user> <nice> <system> <idle> <iowait> <irq> <softirq> …`
fn parse_busy(stat: &str) -> Result<Duration> {
    let line = stat.lines().next().context("an empty /proc/stat")?;
    let numbers = line.split_whitespace().skip(1).map(str::parse);
    let numbers = numbers.collect::<Result<Vec<u64>, _>>()?;
    let idle: u64 = numbers.iter().skip(3).take(2).sum();
    // What comes behind `steal` is in `user` and `nice` already.
    let all: u64 = numbers.iter().take(8).sum();
    Ok(Duration::from_millis((all - idle) * 10))
}

/// Memory of a process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// All pages that it has in memory.
    pub rss: u64,
    /// The same, each page divided by the number of processes that share it.
    pub pss: u64,
}

/// What it has in memory now.
pub fn memory(pid: u32) -> Result<Memory> {
    parse_memory(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?)
}

fn parse_memory(rollup: &str) -> Result<Memory> {
    let field = |name: &str| -> Result<u64> {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name));
        let kb = line.and_then(|rest| rest.split_whitespace().next());
        let kb: u64 = kb.with_context(|| format!("no {name}"))?.parse()?;
        Ok(kb << 10)
    };
    Ok(Memory {
        rss: field("Rss:")?,
        pss: field("Pss:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read() {
        let ran = ran("5230771433 8423 17\n").expect("a number");
        assert_eq!(ran, Duration::from_nanos(5_230_771_433));
        assert!(super::ran("").is_err());
        let stat = "cpu  100 1 50 4000 7 2 3 4 90 0\ncpu0 1 2 3\n";
        assert_eq!(
            parse_busy(stat).expect("ticks"),
            Duration::from_millis(1600)
        );
        let rollup = "55d-7ff ---p 00000000 00:00 0  [rollup]\nRss:    66284 kB\nPss:    64400 kB\nPss_Dirty: 1 kB\n";
        let memory = parse_memory(rollup).expect("two numbers");
        assert_eq!((memory.rss, memory.pss), (66284 << 10, 64400 << 10));
        assert!(parse_memory("Rss: 1 kB\n").is_err());
    }

    #[test]
    fn our_own_usage_grows() {
        let me = std::process::id();
        let before = cpu(&[me]).expect("ours");
        let mut sum = 0u64;
        while cpu(&[me]).expect("ours") <= before + Duration::from_millis(2) {
            sum = sum.wrapping_mul(31).wrapping_add(1);
        }
        assert!(memory(me).expect("ours").rss > 0, "{sum}");
    }
}
