//! A sharded Redis Cluster behind one address, by Envoy's own parts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use redis_sentinel_tests::envoy::Envoy;
use redis_sentinel_tests::ports::PortBlock;
use redis_sentinel_tests::render::Config;
use redis_sentinel_tests::resp::{Connection, Value};
use redis_sentinel_tests::shards::Shards;
use redis_sentinel_tests::wait;
use serde_json::{Value as Json, json};

const PATIENT: Duration = Duration::from_secs(20);

fn start(read_policy: &str) -> Result<(Envoy, u16, Shards, PortBlock)> {
    let mut ports = PortBlock::claim()?;
    let shards = Shards::start(&mut ports)?;
    let mut config = Config::from_shipped("envoy/redis-cluster.yaml", &mut ports)?;
    let endpoints: Vec<Json> = shards
        .nodes
        .iter()
        .map(|node| {
            json!({ "endpoint": { "address": {
                "socket_address": { "address": "127.0.0.1", "port_value": node.port } } } })
        })
        .collect();
    config.item("clusters", "redis_cluster")?["load_assignment"]["endpoints"] =
        json!([{ "lb_endpoints": endpoints }]);
    *config
        .item("listeners", "redis_cluster")?
        .pointer_mut("/filter_chains/0/filters/0/typed_config/settings/read_policy")
        .context("no read_policy")? = read_policy.into();
    let port = config.port("redis_cluster")?;
    let envoy = Envoy::start(config, shards.scratch.path())?;
    wait::until_true("the cluster behind Envoy", wait::LONG, || {
        set_all(port, "0").is_ok()
    })?;
    Ok((envoy, port, shards, ports))
}

fn key(number: usize) -> String {
    format!("key:{number}")
}

/// Writes keys that fall into slots of every master.
fn set_all(port: u16, value: &str) -> Result<()> {
    let mut app = Connection::open(port, PATIENT)?;
    for number in 0..300 {
        let reply = app.call(&["SET", &key(number), value])?;
        anyhow::ensure!(reply.text().as_deref() == Some("OK"), "{reply:?}");
    }
    Ok(())
}

/// Writes over one connection while `during` runs: how many were acknowledged, what was not, and what the keys must hold.
fn write_during(
    port: u16,
    during: impl FnOnce() -> Result<()>,
) -> Result<(usize, Vec<String>, Connection)> {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let writer = thread::spawn(move || -> Result<_> {
        let mut app = Connection::open(port, PATIENT)?;
        let (mut tried, mut written, mut errors) = (0, 0, Vec::new());
        while !stopped.load(Ordering::Relaxed) {
            let command = ["SET", &key(tried % 300), "x"];
            tried += 1;
            match app.call(&command).context("a disconnect")? {
                Value::Error(text) => errors.push(text),
                _ => written += 1,
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok((written, errors, app))
    });
    let result = during();
    stop.store(true, Ordering::Relaxed);
    let all = writer.join().ok().context("the writer panicked")??;
    result.map(|()| all)
}

#[test]
fn keys_of_all_slots_a_dead_master_and_a_return_under_a_new_port() -> Result<()> {
    let (_envoy, port, mut shards, mut ports) = start("MASTER")?;
    for master in &shards.nodes[..3] {
        let keys = master
            .info("keyspace", "db0")
            .context("a master without keys")?;
        assert!(keys.starts_with("keys="), "{keys}");
    }
    // One connection lives through it all; commands to the dead master's slots are errors until its replica took over.
    let (written, errors, mut app) = write_during(port, || {
        shards.nodes[0].process().kill();
        wait::until_true("all slots to be served again", wait::LONG, || {
            set_all(port, "1").is_ok()
        })
    })?;
    println!(
        "killed: {written} written, {} errors, e.g. {:?}",
        errors.len(),
        errors.first()
    );
    assert!(written > 0 && app.call(&["GET", &key(0)])?.text().is_some());

    // It comes back elsewhere, as a pod does, with its old identity, and its successor fails: it must be found there.
    let (new_port, bus) = (ports.take(), ports.take());
    let dead = &mut shards.nodes[0];
    let text = std::fs::read_to_string(dead.file())?;
    let old_bus = std::fs::read_to_string(dead.file().with_file_name("bus"))?;
    let text = text
        .replace(
            &format!("port {}\n", dead.port),
            &format!("port {new_port}\n"),
        )
        .replace(
            &format!("cluster-port {old_bus}\n"),
            &format!("cluster-port {bus}\n"),
        );
    dead.restart_at(new_port, &text)?;
    shards.wait_until_ok()?;
    shards.nodes[3].process().kill();
    wait::until_true("the moved node to serve its slots", wait::LONG, || {
        set_all(port, "2").is_ok()
    })?;
    let serves = shards.nodes[0].is_master();
    assert!(serves, "the node that moved is the master of its slots");
    Ok(())
}

#[test]
fn slots_move_while_clients_write() -> Result<()> {
    let (_envoy, port, shards, _ports) = start("MASTER")?;
    let mut reader = Connection::open(port, PATIENT)?;
    let slot = |number: usize| -> Result<u16> {
        let slot = shards.nodes[0].call(&["CLUSTER", "KEYSLOT", &key(number)])?;
        Ok(slot.text().context("no slot")?.parse()?)
    };
    let (written, errors, _) = write_during(port, || {
        let mut moved = 0;
        for number in 0..300 {
            let slot = slot(number)?;
            if slot < 16384 / 3 - 1 && moved < 60 {
                // Another key of the same slot has moved it already: that is an error of SETSLOT, and no news.
                moved += usize::from(shards.move_slot(slot, 0, 1).is_ok());
                thread::sleep(Duration::from_millis(20)); // some writes meet each state of a move
            }
        }
        assert!(moved >= 40, "{moved} slots moved");
        Ok(())
    })?;
    println!("moved: {written} written, {} errors", errors.len());
    assert!(errors.is_empty(), "{:?}", errors.first());
    assert!(written > 300);
    for number in 0..300 {
        assert!(reader.call(&["GET", &key(number)])?.text().is_some());
    }
    Ok(())
}

#[test]
fn replicas_serve_reads_where_the_policy_says_so() -> Result<()> {
    let (_envoy, port, shards, _ports) = start("PREFER_REPLICA")?;
    let gets = || -> u64 {
        shards.nodes[3..]
            .iter()
            .map(|node| node.calls_of("get"))
            .sum()
    };
    let before = gets();
    let begun = Instant::now();
    let mut app = Connection::open(port, PATIENT)?;
    wait::until_true("reads at the replicas", wait::LONG, || {
        (0..60).all(|number| {
            let reply = app.call(&["GET", &key(number)]);
            matches!(reply, Ok(Value::Text(_)))
        }) && gets() >= before + 50
    })?;
    println!(
        "replicas: {} reads after {:?}",
        gets() - before,
        begun.elapsed()
    );
    Ok(())
}
