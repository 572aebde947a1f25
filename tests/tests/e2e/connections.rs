//! Connections at the moment of a switch: those that live, those that idle, those that come.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use redis_sentinel_tests::fault::Fault;
use redis_sentinel_tests::resp::{Connection, Value};
use redis_sentinel_tests::trial::Trial;
use redis_sentinel_tests::wait;
use redis_sentinel_tests::workload::{Plan, Workload};

const PATIENT: Duration = Duration::from_secs(30);

#[test]
fn four_hundred_live_connections_see_one_close_each() -> Result<()> {
    let trial = Trial::start()?;
    let old = trial.cluster.master().context("no master")?;
    let pause = Duration::from_millis(200);
    let load = Workload::start(Plan {
        port: trial.envoy.port,
        clients: 400,
        pause,
        timeout: PATIENT,
    })?;
    wait::until_true("400 clients to write", wait::LONG, || {
        load.all_write_to(old)
    })?;
    trial.cluster.fail_over()?;
    let new = trial.cluster.wait_for_master_after(old)?;
    wait::until_true("400 clients to write again", wait::LONG, || {
        load.all_write_to(new)
    })?;
    sleep(Duration::from_secs(2)); // a second close would come with the later events of the same failover
    let records = load.stop();
    for record in &records {
        assert_eq!(record.closes.len(), 1, "{record:?}");
        assert!(
            record.refused.is_empty() && record.unanswered.is_empty(),
            "{record:?}"
        );
        assert!(
            record.timeouts.is_empty() && record.errors.is_empty(),
            "{record:?}"
        );
    }
    Ok(())
}

/// A hung master takes bytes until every buffer on the way is full. What nobody has read must not keep the connection.
#[test]
fn a_connection_full_of_unsent_bytes_is_closed_at_the_switch() -> Result<()> {
    const VALUE: usize = 64 << 20;
    let mut trial = Trial::start()?;
    let old = trial.cluster.master().context("no master")?;
    let mut full = Connection::open(trial.envoy.port, PATIENT)?;
    full.call(&["PING"])?;
    full.stream().set_write_timeout(Some(PATIENT))?;
    trial.strike(Fault::Hang, old)?;
    let mut command = format!("*3\r\n$3\r\nSET\r\n$1\r\nv\r\n${VALUE}\r\n").into_bytes();
    command.resize(command.len() + VALUE, b'v');
    let end = full.send_raw(&command).expect_err("nobody reads that much");
    assert!(
        matches!(
            end.kind(),
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
        ),
        "closed, not given up here: {end}"
    );
    let new = trial.cluster.wait_for_master_after(old)?;
    trial.assert_answered_by(new, Duration::from_secs(1))
}

#[test]
fn an_idle_connection_is_closed_at_the_switch() -> Result<()> {
    let trial = Trial::start()?;
    let mut idle = Connection::open(trial.envoy.port, PATIENT)?;
    idle.call(&["PING"])?;
    trial.cluster.fail_over()?;
    let end = idle.receive().expect_err("nobody asked anything");
    assert_eq!(
        end.kind(),
        ErrorKind::UnexpectedEof,
        "an orderly close: {end}"
    );
    let mut again = Connection::open(trial.envoy.port, PATIENT)?;
    assert_eq!(
        again.call(&["ROLE"])?.items()[0].text().as_deref(),
        Some("master")
    );
    Ok(())
}

/// A connection that came while the master was away: when, and who answered it what.
struct Newcomer {
    opened: Instant,
    node: Option<u16>,
    reply: std::io::Result<Value>,
}

fn newcomer(port: u16) -> Newcomer {
    let opened = Instant::now();
    let mut node = None;
    let mut talk = || {
        let mut connection = Connection::open(port, PATIENT)?;
        node = connection
            .call(&["CONFIG", "GET", "port"])?
            .field("port")
            .and_then(|port| port.parse().ok());
        connection.call(&["INCR", "newcomers"])
    };
    let reply = talk();
    Newcomer {
        opened,
        node,
        reply,
    }
}

/// Opens a connection every few milliseconds while `during` runs.
fn newcomers(port: u16, during: impl FnOnce() -> Result<()>) -> Result<Vec<Newcomer>> {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let opener = thread::spawn(move || {
        let mut threads = Vec::new();
        while !stopped.load(Ordering::Relaxed) {
            threads.push(thread::spawn(move || newcomer(port)));
            sleep(Duration::from_millis(15));
        }
        threads
            .into_iter()
            .filter_map(|thread| thread.join().ok())
            .collect::<Vec<_>>()
    });
    let result = during();
    stop.store(true, Ordering::Relaxed);
    let all = opener.join().ok().context("the opener panicked")?;
    result.map(|()| all)
}

fn all_are_answered_by_the_new_master(fault: Fault) -> Result<()> {
    let mut trial = Trial::start()?;
    let old = trial.cluster.master().context("no master")?;
    let mut struck = Instant::now();
    let all = newcomers(trial.envoy.port, || {
        sleep(Duration::from_millis(300));
        trial.strike(fault, old)?;
        // From here on the old master is gone. While the kernel is still ending it, its listening socket takes
        // connections and then resets them: those were open when the master died, as far as anyone can tell.
        struck = Instant::now();
        trial.cluster.wait_for_master_after(old)?;
        sleep(Duration::from_millis(500));
        Ok(())
    })?;
    let new = trial.cluster.master().context("no master")?;
    assert_ne!(new, old);
    let during: Vec<_> = all
        .iter()
        .filter(|newcomer| newcomer.opened > struck)
        .collect();
    assert!(
        during.len() > 50,
        "{} connections came during the failover",
        during.len()
    );
    for Newcomer {
        opened,
        node,
        reply,
    } in during
    {
        let when = *opened - struck;
        assert_eq!(
            *node,
            Some(new),
            "opened {when:?} after the failure: {reply:?}"
        );
        assert!(
            matches!(reply, Ok(Value::Int(_))),
            "opened {when:?} after the failure: {reply:?}"
        );
    }
    Ok(())
}

#[test]
fn connections_opened_after_a_kill_reach_the_new_master() -> Result<()> {
    all_are_answered_by_the_new_master(Fault::Kill)
}

#[test]
fn connections_opened_in_a_planned_failover_see_no_error() -> Result<()> {
    let trial = Trial::start()?;
    let old = trial.cluster.master().context("no master")?;
    let begun = Instant::now();
    let all = newcomers(trial.envoy.port, || {
        trial.cluster.fail_over()?;
        trial.cluster.wait_for_master_after(old)?;
        sleep(Duration::from_millis(500));
        Ok(())
    })?;
    let promoted = trial
        .events
        .first("+promoted-slave", begun)
        .context("no promotion")?
        .at;
    let selected = trial
        .events
        .first("+selected-slave", begun)
        .context("no replica was selected")?
        .at;
    for Newcomer {
        opened,
        node,
        reply,
    } in &all
    {
        // One that was led to the old master before the fence is closed by the switch itself: between its two commands,
        // or with the first one kept back.
        let before = *opened < selected + Duration::from_millis(50);
        let switched = matches!(reply, Err(error) if error.kind() == ErrorKind::UnexpectedEof)
            && (*node == Some(old) || (node.is_none() && before));
        assert!(
            matches!(reply, Ok(Value::Int(_))) || switched,
            "{:?}: {node:?}, {reply:?}",
            opened.duration_since(begun)
        );
        let late = *opened > promoted + Duration::from_millis(200);
        assert!(
            !late || *node != Some(old),
            "the old master answered {:?} after the promotion",
            *opened - promoted
        );
    }
    assert!(
        all.iter().any(|newcomer| newcomer.node != Some(old)),
        "no connection came after the switch"
    );
    Ok(())
}
