//! In Kubernetes nothing starts in order: Envoy is there before everything that it needs.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use redis_sentinel_tests::cluster::Cluster;
use redis_sentinel_tests::envoy::Envoy;
use redis_sentinel_tests::ports::PortBlock;
use redis_sentinel_tests::render::Config;
use redis_sentinel_tests::resp::Connection;
use redis_sentinel_tests::scratch::Scratch;
use redis_sentinel_tests::wait;

#[test]
fn envoy_may_start_before_everything_else() -> Result<()> {
    let mut ports = PortBlock::claim()?;
    let [redis, sentinels] = [0, 1].map(|_| [0; 3].map(|_| ports.take()));
    let scratch = Scratch::new()?;
    let config = Config::from_shipped("envoy/redis.yaml", &mut ports)?
        .seeds(&sentinels)?
        .plugin("redis_router", "hold_timeout", &"60s".into());
    let envoy = Envoy::start(config, scratch.path())?;
    assert_eq!(envoy.ready_status(), Some(503), "no master is known yet");

    let port = envoy.port;
    let early =
        thread::spawn(move || Connection::open(port, Duration::from_secs(60))?.call(&["ROLE"]));
    let cluster = Cluster::start_on(&redis, &sentinels)?;
    let role = early
        .join()
        .ok()
        .context("the client panicked")?
        .context("a client that came before the master")?;
    assert_eq!(
        role.items().first().and_then(|role| role.text()).as_deref(),
        Some("master"),
        "{role:?}"
    );
    // Kubernetes sends no traffic before this: it may not lag far behind what the proxy already does.
    let soon = Duration::from_secs(3);
    wait::until_true("/ready", soon, || envoy.ready_status() == Some(200))?;
    drop(cluster);
    Ok(())
}
