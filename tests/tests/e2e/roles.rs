//! Redis nodes whose role somebody changes behind Sentinel's back.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use redis_sentinel_tests::cluster::Cluster;
use redis_sentinel_tests::envoy::Envoy;
use redis_sentinel_tests::ports::PortBlock;
use redis_sentinel_tests::render::Config;
use redis_sentinel_tests::resp::Connection;
use redis_sentinel_tests::trial::Trial;
use redis_sentinel_tests::wait;
use serde_json::json;

#[test]
fn a_replica_promoted_by_hand_is_not_followed() -> Result<()> {
    let trial = Trial::start()?;
    let master = trial.cluster.master().context("no master")?;
    let load = trial.load(10)?;
    wait::until_true("the clients to write", wait::LONG, || {
        load.all_write_to(master)
    })?;
    let replica = trial.cluster.redis.iter().find(|node| node.port != master);
    let replica = replica.context("no replica")?;
    let begun = Instant::now();
    replica.call(&["REPLICAOF", "NO", "ONE"])?;
    assert!(replica.is_master());
    trial.assert_answered_by(master, Duration::from_secs(4))?;
    // Sentinel turns it back after a while; also that is none of a client's business.
    let turned_back = trial.events.wait_for("+convert-to-slave", begun)?;
    trial.assert_answered_by(master, Duration::from_secs(1))?;
    let log = trial.envoy.log();
    for record in load.stop() {
        assert!(
            record.closes.is_empty() && record.unanswered.is_empty(),
            "{}\n{log}",
            turned_back.text
        );
        assert!(record.errors.is_empty(), "{:?}\n{log}", record.errors);
    }
    assert_eq!(trial.counter("switches_total")?, 0, "{log}");
    Ok(())
}

#[test]
fn a_master_demoted_by_hand_gets_no_new_connection() -> Result<()> {
    let trial = Trial::start_with(|config| {
        Ok(config
            .plugin("role_probe", "interval", &json!("0.5s"))
            .plugin("redis_router", "hold_timeout", &json!("60s")))
    })?;
    let master = trial.cluster.master().context("no master")?;
    let mut nodes = trial.cluster.redis.iter();
    let node = nodes
        .find(|node| node.port == master)
        .context("no master")?;
    let replica = trial.cluster.redis.iter().find(|node| node.port != master);
    let replica = replica.context("no replica")?.port.to_string();
    node.call(&["REPLICAOF", "127.0.0.1", &replica])?;
    wait::until_true("the warning", wait::LONG, || {
        trial.envoy.log().contains("says it is a replica")
    })?;
    assert_eq!(trial.counter("role_mismatches_total")?, 1);

    let port = trial.envoy.port;
    let newcomer =
        thread::spawn(move || Connection::open(port, wait::LONG)?.call(&["INCR", "newcomers"]));
    wait::until_true("the newcomer to be held", wait::LONG, || {
        trial.counter("held_connections").is_ok_and(|held| held > 0)
    })?;
    assert!(!newcomer.is_finished(), "a replica has nothing for it");

    node.call(&["REPLICAOF", "NO", "ONE"])?;
    let reply = newcomer.join().ok().context("the client panicked")??;
    assert_eq!(reply.text().as_deref(), Some("1"), "{}", trial.envoy.log());
    assert!(trial.envoy.log().contains("says it is the master"));
    trial.assert_answered_by(master, Duration::from_secs(1))
}

/// The probe has no password here. It says so once, and nobody else minds.
#[test]
fn a_probe_without_the_password_steps_aside() -> Result<()> {
    const NOT_ASKED: &str = "is not asked for its role";
    let mut ports = PortBlock::claim()?;
    let cluster = Cluster::start(&mut ports, 3, 3)?;
    let master = cluster.master().context("no master")?;
    // The Sentinels' connections were there before and stay.
    cluster.redis[0].call(&["CONFIG", "SET", "requirepass", "hush-apps"])?;
    let config = Config::from_shipped("envoy/redis.yaml", &mut ports)?
        .seeds(&cluster.sentinel_ports())?
        .plugin("role_probe", "interval", &json!("0.5s"));
    let envoy = Envoy::start(config, cluster.scratch.path())?;
    envoy.wait_until_ready()?;
    wait::until_true("the probe to give up", wait::LONG, || {
        envoy.log().contains(NOT_ASKED)
    })?;
    let end = Instant::now() + Duration::from_secs(4);
    while Instant::now() < end {
        let mut client = Connection::open(envoy.port, wait::LONG)?;
        let refused = client.call(&["PING"])?.text().unwrap_or_default();
        assert!(refused.starts_with("NOAUTH"), "Redis' own word: {refused}");
        client.call(&["AUTH", "hush-apps"])?;
        let port = client.call(&["CONFIG", "GET", "port"])?.field("port");
        assert_eq!(port, Some(master.to_string()));
        thread::sleep(Duration::from_millis(100));
    }
    let log = envoy.log();
    let lines = log.lines().filter(|line| line.contains(NOT_ASKED)).count();
    assert_eq!(lines, 1, "{log}");
    Ok(())
}
