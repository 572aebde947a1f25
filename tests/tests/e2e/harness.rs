//! The tools of these tests, tested without Envoy: a test that cannot see a failover proves nothing about one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use anyhow::{Context, Result};
use redis_sentinel_tests::cluster::Cluster;
use redis_sentinel_tests::envoy::Envoy;
use redis_sentinel_tests::events::Events;
use redis_sentinel_tests::ports::PortBlock;
use redis_sentinel_tests::render::Config;
use redis_sentinel_tests::scratch::Scratch;
use redis_sentinel_tests::secret::password;

#[test]
fn a_planned_failover_is_seen() -> Result<()> {
    let mut ports = PortBlock::claim()?;
    let cluster = Cluster::start(&mut ports, 3, 3)?;
    let events = Events::of(&cluster.sentinel_ports())?;
    let (old, since) = (cluster.redis[0].port, Instant::now());
    cluster.fail_over()?;
    let promoted = events.wait_for("+promoted-slave", since)?;
    let new = cluster.wait_for_master_after(old)?;
    assert!(
        promoted.text.contains(&format!("127.0.0.1:{new}")),
        "{} is not {new}",
        promoted.text
    );
    assert!(
        cluster
            .redis
            .iter()
            .any(|node| node.port == new && node.is_master())
    );
    Ok(())
}

#[test]
fn a_killed_master_is_replaced_and_returns_as_a_replica() -> Result<()> {
    let mut ports = PortBlock::claim()?;
    let mut cluster = Cluster::start(&mut ports, 3, 3)?;
    let old = cluster.redis[0].port;
    cluster.redis[0].process().kill();
    let new = cluster.wait_for_master_after(old)?;
    cluster.node(old)?.restart(Some(new))?;
    cluster.wait_until_settled(new)
}

/// The check that every test with an Envoy ends with can fail.
#[test]
fn a_secret_in_a_stat_is_seen() -> Result<()> {
    let (scratch, mut ports) = (Scratch::new()?, PortBlock::claim()?);
    let mut config = Config::from_shipped("envoy/redis.yaml", &mut ports)?;
    config.item("listeners", "redis")?["stat_prefix"] = password("stat").into();
    let envoy = Envoy::start(config, scratch.path())?;
    let told = envoy.told_secret().context("it goes unseen")?;
    assert!(told.starts_with("/stats tells a secret: "), "{told}");
    let end = catch_unwind(AssertUnwindSafe(|| drop(envoy)));
    assert!(end.is_err(), "nobody looked");
    Ok(())
}
