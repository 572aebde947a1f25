//! Connections that are over leave nothing behind; `make growth` opens a million.

use anyhow::Result;
use redis_sentinel_tests::hostile::{come_and_go, resident};
use redis_sentinel_tests::trial::Trial;
use redis_sentinel_tests::wait;

/// What the first connections bring with them: buffers, the allocator's caches.
const WARM: u64 = 10_000;
const CONNECTIONS: u64 = 40_000;
/// An entry of some hundred bytes for each would be 4 MB.
const BOUND: u64 = 2 << 20;

#[test]
fn forty_thousand_connections_leave_nothing() -> Result<()> {
    let mut trial = Trial::start()?;
    let (port, pid) = (trial.envoy.port, trial.envoy.process().pid());
    assert_eq!(come_and_go(port, WARM, 16), 0, "clients were treated badly");
    let before = resident(pid)?;
    assert_eq!(
        come_and_go(port, CONNECTIONS, 16),
        0,
        "clients were treated badly"
    );
    let active = "tcp.redis.downstream_cx_active|cluster.redis.upstream_cx_active";
    wait::until_true("the last connections to end", wait::LONG, || {
        // The role probe's own connection stays.
        let stats = trial.envoy.stats(active);
        stats.is_ok_and(|stats| stats.values().all(|active| *active <= 1))
    })?;
    let grown = resident(pid)?.saturating_sub(before);
    println!("{} kB more after {CONNECTIONS} connections", grown >> 10);
    assert!(
        grown < BOUND,
        "{} kB more after {CONNECTIONS} connections",
        grown >> 10
    );
    assert_eq!(trial.counter("held_connections")?, 0);
    Ok(())
}
