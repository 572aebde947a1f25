//! Thousands of live connections through a planned failover: how long after Sentinel's word the last one is served again.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use redis_sentinel_tests::trial::Trial;
use redis_sentinel_tests::wait;
use serde::{Deserialize, Serialize};

use crate::crowd::{Crowd, Story};
use crate::plan::Plan;
use crate::usage;

/// One failover. Milliseconds, from the first `+promoted-slave` that a subscriber saw.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sample {
    /// Live connections.
    pub connections: usize,
    /// When half of them, 99 of 100, and the last one were closed.
    pub closed: [f64; 3],
    /// When as many were answered by the new master, each over a connection that it opened after the close.
    pub answered: [f64; 3],
    /// The most closes of one connection.
    pub closes: usize,
    /// Error replies, and answers by another node.
    pub wrong: usize,
    /// How long this machine's processors worked from the promotion to the last answer, ms: for Envoy, for the clients, and for
    /// everybody.
    pub cpu: [f64; 3],
}

/// Measures it.
pub fn measure(plan: &Plan) -> Result<Vec<Sample>> {
    let size = plan.switch_connections;
    many_files(4 * size as u64)?;
    let mut trial = Trial::start()?;
    let mut samples = vec![];
    for run in 1..=plan.switch_runs {
        eprintln!("switch: {run} of {}", plan.switch_runs);
        samples.push(fail_over(&mut trial, size)?);
        trial.settle()?;
    }
    Ok(samples)
}

fn fail_over(trial: &mut Trial, size: usize) -> Result<Sample> {
    let old = trial.cluster.master().context("no master")?;
    let crowd = Crowd::open(trial.envoy.port, size)?;
    let pids = [trial.envoy.process().pid(), std::process::id()];
    let begun = Instant::now();
    trial.cluster.fail_over()?;
    // The replica that is chosen is told long before it is promoted.
    let chosen = trial.events.wait_for("+selected-slave", begun)?.replica()?;
    ensure!(chosen != old, "the master was chosen to replace itself");
    let events = &trial.events;
    let (stories, promoted, before) = thread::scope(|scope| {
        // The clients have this thread.
        let watch = scope.spawn(|| {
            let promoted = events.wait_for("+promoted-slave", begun)?.at;
            Ok::<_, Error>((promoted, Work::until_now(&pids)?))
        });
        let stories = crowd.follow_to(chosen)?;
        let (promoted, before) = watch.join().map_err(|_| anyhow!("panicked"))??;
        Ok::<_, Error>((stories, promoted, before))
    })?;
    let work = Work::until_now(&pids)?.since(&before);
    Ok(Sample {
        connections: size,
        closed: quantiles(&stories, promoted, |story| story.closed)?,
        answered: quantiles(&stories, promoted, |story| story.answered)?,
        closes: stories.iter().map(|story| story.closes).max().unwrap_or(0),
        wrong: stories.iter().map(|story| story.wrong).sum(),
        cpu: work.0,
    })
}

/// CPU that was used, in ms: by Envoy, by the clients, by everybody.
struct Work([f64; 3]);

impl Work {
    fn until_now(pids: &[u32; 2]) -> Result<Self> {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let [envoy, clients] = [usage::cpu(&pids[..1])?, usage::cpu(&pids[1..])?];
        Ok(Self([ms(envoy), ms(clients), ms(usage::busy()?)]))
    }

    fn since(&self, before: &Self) -> Self {
        Self([0, 1, 2].map(|index| self.0[index] - before.0[index]))
    }
}

fn quantiles(
    stories: &[Story],
    since: Instant,
    when: impl Fn(&Story) -> Option<Instant>,
) -> Result<[f64; 3]> {
    let times = stories.iter().map(|story| {
        let at = when(story).context("a connection to which it did not happen")?;
        Ok(milliseconds(at, since))
    });
    let mut times = times.collect::<Result<Vec<f64>>>()?;
    times.sort_by(f64::total_cmp);
    let last = times.len().checked_sub(1).context("no connections")?;
    Ok([times[last / 2], times[last * 99 / 100], times[last]])
}

/// Negative for what was earlier.
fn milliseconds(at: Instant, since: Instant) -> f64 {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    ms(at.saturating_duration_since(since)) - ms(since.saturating_duration_since(at))
}

/// Has this process, and the Envoy that it starts, open so many files.
pub fn many_files(wanted: u64) -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, wanted.max(hard), wanted.max(hard))
        .or_else(|_| setrlimit(Resource::RLIMIT_NOFILE, hard, hard))?;
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    ensure!(
        soft >= wanted,
        "{wanted} files must be open at once, {soft} may be (ulimit -n)"
    );
    ensure!(!wait::interrupted(), "interrupted");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_counts() {
        let since = Instant::now() + Duration::from_secs(1);
        let story = |ms: u64| Story {
            answered: Some(since - Duration::from_millis(10) + Duration::from_millis(ms)),
            ..Story::default()
        };
        let stories: Vec<_> = (0..=100).rev().map(story).collect();
        let [half, most, all] = quantiles(&stories, since, |s| s.answered).expect("times");
        for (found, expected) in [(half, 40.0), (most, 89.0), (all, 90.0)] {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
        assert!(quantiles(&stories, since, |story| story.closed).is_err());
        assert!(quantiles(&[], since, |story| story.closed).is_err());
    }
}
