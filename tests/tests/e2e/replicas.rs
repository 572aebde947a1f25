//! The listener for reads: healthy replicas only, the least loaded first, the master when there is none.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use redis_sentinel_tests::resp::Connection;
use redis_sentinel_tests::trial::Trial;
use redis_sentinel_tests::wait;

const PATIENT: Duration = Duration::from_secs(20);

/// A connection for reads and the node that answers it.
fn reader(trial: &Trial) -> Result<(Connection, u16)> {
    reader_within(trial, PATIENT)
}

fn reader_within(trial: &Trial, timeout: Duration) -> Result<(Connection, u16)> {
    let mut connection = Connection::open(trial.envoy.replicas_port, timeout)?;
    let reply = connection.call(&["CONFIG", "GET", "port"])?;
    let port = reply
        .field("port")
        .with_context(|| format!("{reply:?}"))?
        .parse()?;
    Ok((connection, port))
}

/// Many of them, by node.
fn readers(trial: &Trial, count: usize) -> Result<BTreeMap<u16, Vec<Connection>>> {
    let mut all = BTreeMap::<u16, Vec<Connection>>::new();
    for _ in 0..count {
        let (connection, node) = reader(trial)?;
        all.entry(node).or_default().push(connection);
    }
    Ok(all)
}

fn wait_until_two_replicas_serve(trial: &Trial) -> Result<()> {
    let master = trial.cluster.master().context("no master")?;
    wait::until_true("both replicas to serve", wait::LONG, || {
        readers(trial, 6).is_ok_and(|all| all.len() == 2 && !all.contains_key(&master))
    })
}

fn assert_closed(mut connection: Connection, what: &str) -> Result<()> {
    connection.stream().set_read_timeout(Some(PATIENT))?;
    let end = connection.receive().expect_err("nobody asked anything");
    assert!(
        matches!(
            end.kind(),
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
        ),
        "{what}: {end}"
    );
    Ok(())
}

#[test]
fn reads_are_spread_over_the_replicas_by_fewest_connections() -> Result<()> {
    let trial = Trial::start()?;
    wait_until_two_replicas_serve(&trial)?;
    let all = readers(&trial, 20)?;
    let counts: Vec<_> = all.values().map(Vec::len).collect();
    // Each of the two workers counts its own connections.
    assert!(
        counts.len() == 2 && counts[0].abs_diff(counts[1]) <= 2,
        "{counts:?}"
    );
    Ok(())
}

#[test]
fn a_promoted_replica_loses_its_readers_and_they_find_another() -> Result<()> {
    let trial = Trial::start()?;
    wait_until_two_replicas_serve(&trial)?;
    let old = trial.cluster.master().context("no master")?;
    let mut all = readers(&trial, 10)?;
    trial.cluster.fail_over()?;
    let new = trial.cluster.wait_for_master_after(old)?;
    for connection in all.remove(&new).context("nobody read there")? {
        assert_closed(connection, "a reader of the promoted node")?;
    }
    // Readers of the other replica end as well, but by Sentinel: it kills a node's clients when it gives it a new master.
    // Until a replica is in step with the new master, that master itself may serve the reads; never after.
    let remaining = trial.cluster.redis.iter().map(|node| node.port);
    let mut remaining = remaining.filter(|port| *port != new && *port != old);
    let other = remaining.next_back().context("no other replica")?;
    wait::until_true("the other replica to serve again", wait::LONG, || {
        reader(&trial).is_ok_and(|(_, node)| node == other)
    })?;
    let (_, node) = reader(&trial)?;
    assert!(node != new, "the promoted node serves no new reads");
    Ok(())
}

#[test]
fn readers_of_a_dead_replica_move_and_the_last_resort_is_the_master() -> Result<()> {
    let mut trial = Trial::start()?;
    wait_until_two_replicas_serve(&trial)?;
    let master = trial.cluster.master().context("no master")?;
    let mut all = readers(&trial, 8)?;
    let (&dead, _) = all.first_key_value().context("no readers")?;
    trial.cluster.node(dead)?.process().kill();
    for connection in all.remove(&dead).context("no readers")? {
        assert_closed(connection, "a reader of the dead replica")?;
    }
    // Not one error on the way: a dial that fails is repeated, to the replica that lives.
    let (_, other) = reader(&trial)?;
    assert!(other != dead && other != master, "{other}");
    trial.cluster.node(other)?.process().kill();
    wait::until_true("reads from the master", wait::LONG, || {
        reader(&trial).is_ok_and(|(_, node)| node == master)
    })?;
    let (on_master, _) = reader(&trial)?;
    trial.cluster.node(dead)?.restart(Some(master))?;
    // A replica that returns takes the reads over: connections to the master end.
    assert_closed(on_master, "a reader of the master")?;
    wait::until_true("reads from the replica that returned", wait::LONG, || {
        reader(&trial).is_ok_and(|(_, node)| node == dead)
    })
}

#[test]
fn replicas_that_lost_their_master_serve_no_reads() -> Result<()> {
    let trial = Trial::start_with_plugin("sentinel_watch", "poll_interval", &"1s".into())?;
    wait_until_two_replicas_serve(&trial)?;
    let master = trial.cluster.master().context("no master")?;
    let node = trial.cluster.redis.iter().find(|node| node.port == master);
    let node = node.context("no such node")?;
    // Alive and well for the Sentinels, and without a link to the master: what they hold grows old.
    node.call(&["ACL", "SETUSER", "default", "-psync", "-sync"])?;
    node.call(&["CLIENT", "KILL", "TYPE", "replica"])?;
    wait::until_true("reads from the master", 2 * wait::LONG, || {
        readers(&trial, 4).is_ok_and(|all| all.keys().eq([&master]))
    })?;
    node.call(&["ACL", "SETUSER", "default", "+psync", "+sync"])?;
    wait_until_two_replicas_serve(&trial)
}

#[test]
fn a_replica_that_lags_too_far_serves_no_reads() -> Result<()> {
    let trial = Trial::start_with(|config| {
        Ok(config
            .plugin("sentinel_watch", "poll_interval", &"1s".into())
            .plugin("sentinel_watch", "max_replica_lag_bytes", &100_000.into()))
    });
    let mut trial = trial?;
    wait_until_two_replicas_serve(&trial)?;
    // A replica that stands still, and Sentinels that would take a minute to call it down.
    for sentinel in &trial.cluster.sentinels {
        sentinel.call(&[
            "SENTINEL",
            "SET",
            "mymaster",
            "down-after-milliseconds",
            "60000",
        ])?;
    }
    let master = trial.cluster.master().context("no master")?;
    let ports: Vec<_> = trial.cluster.redis.iter().map(|node| node.port).collect();
    let mut replicas = ports.into_iter().filter(|port| *port != master);
    let (still, other) = (replicas.next(), replicas.next());
    let still = trial.cluster.node(still.context("no replica")?)?;
    still.process().signal(Signal::SIGSTOP)?;
    let text = "x".repeat(1_000_000);
    trial.cluster.node(master)?.call(&["SET", "k", &text])?;
    wait::until_true("all reads from the other one", 2 * wait::LONG, || {
        (0..6).all(|_| {
            let reader = reader_within(&trial, Duration::from_millis(500));
            reader.is_ok_and(|(_, node)| Some(node) == other)
        })
    })
}

#[test]
fn without_fallback_readers_wait_for_a_replica() -> Result<()> {
    // The master's listener has no use for the first of them.
    let mut trial = Trial::start_with(|config| {
        Ok(config
            .plugin("redis_router", "fallback_to_master", &false.into())
            .plugin("redis_router", "hold_timeout", &"4s".into()))
    })?;
    wait_until_two_replicas_serve(&trial)?;
    let master = trial.cluster.master().context("no master")?;
    let all = readers(&trial, 4)?;
    let nodes: Vec<u16> = all.keys().copied().collect();
    for node in &nodes {
        trial.cluster.node(*node)?.process().kill();
    }
    for connection in all.into_values().flatten() {
        assert_closed(connection, "a reader of a dead replica")?;
    }
    wait::until_true(
        "readers to be told that there is no replica",
        wait::LONG,
        || {
            let answer = Connection::open(trial.envoy.replicas_port, PATIENT)
                .and_then(|mut reader| reader.call(&["PING"]));
            answer.is_ok_and(|reply| format!("{reply:?}").contains("may serve reads"))
        },
    )?;
    Connection::open(trial.envoy.port, PATIENT)?.call(&["SET", "k", "v"])?;
    trial.cluster.node(nodes[0])?.restart(Some(master))?;
    wait::until_true("reads from the replica that returned", wait::LONG, || {
        reader(&trial).is_ok_and(|(_, node)| node == nodes[0])
    })
}
