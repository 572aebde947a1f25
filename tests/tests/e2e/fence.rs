//! A failover that is called off: clients wait, and nothing else happens to them.

use std::io::Write;
use std::net::Shutdown;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use redis_sentinel_tests::resp::{Connection, Value};
use redis_sentinel_tests::steady::Steady;
use redis_sentinel_tests::trial::Trial;
use redis_sentinel_tests::wait;
use serde_json::json;

const CLIENTS: usize = 20;
/// The default of `fence_timeout`.
const FENCE: Duration = Duration::from_secs(3);
/// For a machine that does something else at the moment.
const SLACK: Duration = Duration::from_secs(2);

/// Load on the master, which is returned with it.
fn steady(trial: &Trial) -> Result<(Steady, u16)> {
    let master = trial.cluster.master().context("no master")?;
    let steady = Steady::start(trial.envoy.port, CLIENTS)?;
    go_on(&steady)?;
    Ok((steady, master))
}

/// Waits until every client has written again.
fn go_on(steady: &Steady) -> Result<()> {
    let progress = steady.progress();
    wait::until_true("every client to go on", wait::LONG, || {
        steady.all_beyond(&progress)
    })
}

fn wait_for_fence(trial: &Trial) -> Result<()> {
    wait::until_true("the fence", wait::LONG, || {
        trial.counter("fences_total").is_ok_and(|fences| fences > 0)
    })
}

/// Asks for a failover and takes the replica that it chooses away before it is told; returns the time of the choice.
fn strand_a_failover(trial: &mut Trial, signal: Signal) -> Result<Instant> {
    let begun = Instant::now();
    trial.cluster.fail_over()?;
    let selected = trial.events.wait_for("+selected-slave", begun)?;
    let chosen = selected.replica()?;
    trial.cluster.node(chosen)?.process().signal(signal)?;
    Ok(selected.at)
}

/// The fence holds the clients for its time and no longer, and the abort that follows changes nothing.
fn the_chosen_replica_is_gone(signal: Signal, early_switch: bool) -> Result<()> {
    let mut trial = Trial::start_early(early_switch)?;
    let (steady, master) = steady(&trial)?;
    let selected = strand_a_failover(&mut trial, signal)?;
    trial
        .events
        .wait_for("-failover-abort-slave-timeout", selected)?;
    go_on(&steady)?;
    sleep(Duration::from_secs(1)); // whatever the abort still does to somebody
    let log = trial.envoy.log();
    let silence = steady.stop(master).context(log.clone())?;
    println!("{signal}, early_switch {early_switch}: at most {silence:?} of silence");
    assert!(silence <= FENCE + SLACK, "{silence:?}\n{log}");
    assert!(silence > FENCE / 2, "nobody was fenced: {silence:?}\n{log}");
    let count = |name| trial.counter(name);
    assert_eq!(count("fences_total")?, 1, "one fence per failover\n{log}");
    assert_eq!(count("fences_expired_total")?, 1, "{log}");
    assert_eq!(count("connections_closed_by_switch_total")?, 0, "{log}");
    trial.assert_answered_by(master, Duration::from_millis(500))
}

#[test]
fn a_chosen_replica_that_dies_costs_a_pause() -> Result<()> {
    the_chosen_replica_is_gone(Signal::SIGKILL, false)
}

#[test]
fn a_chosen_replica_that_dies_costs_a_pause_with_early_switch_too() -> Result<()> {
    the_chosen_replica_is_gone(Signal::SIGKILL, true)
}

#[test]
fn a_chosen_replica_that_hangs_costs_a_pause() -> Result<()> {
    the_chosen_replica_is_gone(Signal::SIGSTOP, false)
}

/// The abort itself lifts a fence that would last longer. A client that has said its last word in between is answered.
#[test]
fn an_abort_lifts_the_fence() -> Result<()> {
    let mut trial = Trial::start_with_plugin("sentinel_watch", "fence_timeout", &json!("25s"))?;
    let (steady, master) = steady(&trial)?;
    let mut last_word = Connection::open(trial.envoy.port, wait::LONG)?;
    last_word.call(&["PING"])?;
    let selected = strand_a_failover(&mut trial, Signal::SIGKILL)?;
    wait_for_fence(&trial)?;
    last_word.send(&["INCR", "last words"])?;
    last_word.stream().shutdown(Shutdown::Write)?;
    let aborted = trial
        .events
        .wait_for("-failover-abort-slave-timeout", selected)?
        .at;
    go_on(&steady)?;
    let lifted = aborted.elapsed();
    println!("clients went on at most {lifted:?} after the abort");
    assert_eq!(last_word.receive()?, Value::Int(1));
    let log = trial.envoy.log();
    assert!(lifted < SLACK, "{lifted:?}\n{log}");
    steady.stop(master).context(log.clone())?;
    assert_eq!(trial.counter("unfences_total")?, 1, "{log}");
    assert_eq!(trial.counter("fences_expired_total")?, 0, "{log}");
    Ok(())
}

#[test]
fn a_failover_without_a_good_replica_closes_nobody() -> Result<()> {
    let mut trial = Trial::start()?;
    let (steady, master) = steady(&trial)?;
    for node in trial.cluster.redis.iter().filter(|n| n.port != master) {
        node.call(&["CONFIG", "SET", "replica-priority", "0"])?;
    }
    wait::until_true("the Sentinels to see the priorities", wait::LONG, || {
        trial.cluster.sentinels.iter().all(|sentinel| {
            let reply = sentinel.call(&["SENTINEL", "REPLICAS", "mymaster"]);
            reply.is_ok_and(|replicas| {
                let none = |r: &Value| r.field("slave-priority").as_deref() == Some("0");
                replicas.items().iter().all(none)
            })
        })
    })?;
    // A failover that somebody asks for is refused at once; Sentinel's own is aborted.
    let begun = Instant::now();
    let hung = |trial: &mut Trial, signal| trial.cluster.node(master)?.process().signal(signal);
    hung(&mut trial, Signal::SIGSTOP)?;
    let aborted = trial
        .events
        .wait_for("-failover-abort-no-good-slave", begun);
    hung(&mut trial, Signal::SIGCONT)?;
    aborted?;
    go_on(&steady)?;
    sleep(Duration::from_secs(1));
    let log = trial.envoy.log();
    steady.stop(master).context(log.clone())?;
    assert_eq!(trial.counter("switches_total")?, 0, "{log}");
    // New connections, which waited while the master was down, are served again.
    wait::until_true("the master to be up again", wait::LONG, || {
        trial.answers().is_ok_and(|node| node == master)
    })
}

/// Elements of 100 kB, 100 MB in all, each with its number in every place.
const ELEMENTS: usize = 1000;

fn element(number: usize) -> Vec<u8> {
    format!("{number:010}").repeat(10_000).into_bytes()
}

/// A client that does not know of the fence keeps sending; what Envoy keeps of it is bounded.
#[test]
fn a_fenced_client_fills_no_memory() -> Result<()> {
    let mut trial = Trial::start_with_plugin("sentinel_watch", "fence_timeout", &json!("25s"))?;
    let master = trial.cluster.master().context("no master")?;
    let mut client = Connection::open(trial.envoy.port, wait::LONG)?;
    client.call(&["PING"])?;
    let selected = strand_a_failover(&mut trial, Signal::SIGKILL)?;
    wait_for_fence(&trial)?;

    let before = resident(trial.envoy.process().pid())?;
    let mut sender = client.stream().try_clone()?;
    let writer = thread::spawn(move || {
        for number in 0..ELEMENTS {
            let value = element(number);
            let head = format!("*3\r\n$5\r\nRPUSH\r\n$3\r\nbig\r\n${}\r\n", value.len());
            sender.write_all(&[head.as_bytes(), &value, b"\r\n"].concat())?;
        }
        Ok::<_, std::io::Error>(())
    });
    let mut most = before;
    while trial
        .events
        .first("-failover-abort-slave-timeout", selected)
        .is_none()
    {
        most = most.max(resident(trial.envoy.process().pid())?);
        assert!(!writer.is_finished(), "100 MB went through a fence");
        sleep(Duration::from_millis(50));
    }
    let grown = most.saturating_sub(before) / 1024;
    println!("Envoy grew by {grown} kB while a fenced client pushed");
    assert!(grown < 16 << 10, "{grown} kB");

    for number in 1..=ELEMENTS {
        let length = client.receive()?.text();
        assert_eq!(length, Some(number.to_string()));
    }
    writer.join().ok().context("the writer panicked")??;
    let node = trial.cluster.node(master)?;
    for number in 0..ELEMENTS {
        let index = number.to_string();
        let reply = node.call(&["LINDEX", "big", &index])?.text();
        let same = reply.is_some_and(|text| text.as_bytes() == element(number));
        assert!(same, "element {number} is another");
    }
    Ok(())
}

/// Bytes in memory.
fn resident(pid: u32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    Ok(kilobytes.context("VmRSS")?.parse::<u64>()? * 1024)
}
