//! Pooled mode: an application's connection outlives whatever happens to the master.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use redis_sentinel_tests::envoy::Envoy;
use redis_sentinel_tests::fault::Fault;
use redis_sentinel_tests::ports::PortBlock;
use redis_sentinel_tests::render::Config;
use redis_sentinel_tests::resp::{Connection, Value};
use redis_sentinel_tests::site::{Plan, Site};
use redis_sentinel_tests::wait;

const PATIENT: Duration = Duration::from_secs(20);
const MASTER: &str = "mymaster";

fn start() -> Result<(Envoy, u16, Site, PortBlock)> {
    let mut ports = PortBlock::claim()?;
    let site = Site::start(&mut ports, Plan::default())?;
    let mut config = Config::from_shipped("envoy/redis-pooled.yaml", &mut ports)?
        .seeds(&site.sentinel_ports())?;
    let port = config.port("redis_pooled")?;
    let envoy = Envoy::start(config, site.scratch.path())?;
    envoy.wait_until_ready()?;
    Ok((envoy, port, site, ports))
}

/// One connection that writes all the time through a failover. Any disconnect ends the test.
fn survives(fault: Fault) -> Result<()> {
    let (_envoy, port, mut site, _ports) = start()?;
    let old = site.master(MASTER).context("no master")?;
    let mut app = Connection::open(port, PATIENT)?;
    let mut write = || app.call(&["INCR", "counter"]).context("a disconnect");
    assert!(matches!(write()?, Value::Int(1)));
    match fault {
        Fault::Planned => site.fail_over(MASTER)?,
        Fault::Kill => site.at(old)?.process().kill(),
        Fault::Hang => site.at(old)?.process().signal(Signal::SIGSTOP)?,
    }
    let begun = Instant::now();
    let (mut errors, mut longest, mut acks_after) = (Vec::new(), Duration::ZERO, 0);
    while acks_after < 20 {
        let asked = Instant::now();
        match write()? {
            Value::Int(_) if site.master(MASTER).is_some_and(|now| now != old) => acks_after += 1,
            Value::Error(text) => errors.push(text),
            _ => {}
        }
        longest = longest.max(asked.elapsed());
        assert!(begun.elapsed() < wait::LONG, "no write after the failover");
    }
    println!("{fault:?}: error replies {errors:?}, longest answer {longest:?}");
    // One that was in flight at the fault, and one at the switch.
    assert!(errors.len() <= 4, "{errors:?}");
    let new = site.master(MASTER).context("no master")?;
    let counter = site.at(new)?.call(&["GET", "counter"])?;
    assert!(counter.text().is_some(), "the new master has the counter");
    Ok(())
}

#[test]
fn a_connection_survives_a_planned_failover() -> Result<()> {
    survives(Fault::Planned)
}

#[test]
fn a_connection_survives_a_kill_of_the_master() -> Result<()> {
    survives(Fault::Kill)
}

#[test]
fn a_connection_survives_a_master_that_hangs() -> Result<()> {
    survives(Fault::Hang)
}

/// What the README says that pooled mode does, and does not.
#[test]
fn the_limits_are_those_that_are_documented() -> Result<()> {
    let (_envoy, port, _site, _ports) = start()?;
    let mut app = Connection::open(port, PATIENT)?;
    let mut other = Connection::open(port, PATIENT)?;
    let mut call = |text: &str| app.call(&text.split(' ').collect::<Vec<_>>());
    for command in [
        "SUBSCRIBE c",
        "BLPOP list 1",
        "XREAD COUNT 1 STREAMS s 0",
        "WAIT 0 0",
        "DBSIZE",
        "COMMAND",
    ] {
        let reply = call(command)?;
        let unknown =
            matches!(&reply, Value::Error(text) if text.starts_with("ERR unknown command"));
        assert!(unknown, "{command}: {reply:?}");
    }
    let reply = call("HELLO 3")?;
    let no_resp3 = matches!(&reply, Value::Error(text) if text.starts_with("NOPROTO"));
    assert!(no_resp3, "{reply:?}");
    // A transaction has a connection of its own and is not mixed with what others say meanwhile.
    assert_eq!(call("MULTI")?.text().as_deref(), Some("OK"));
    assert_eq!(call("SET k mine")?.text().as_deref(), Some("QUEUED"));
    assert_eq!(other.call(&["GET", "k"])?, Value::Null);
    assert_eq!(call("EXEC")?.items().len(), 1);
    assert_eq!(other.call(&["GET", "k"])?.text().as_deref(), Some("mine"));
    // SELECT is the trap: it is passed on over the connection that all clients of a worker share.
    call("SELECT 1")?;
    let misled = (0..30).any(|_| {
        let fresh = Connection::open(port, PATIENT).and_then(|mut c| c.call(&["GET", "k"]));
        matches!(fresh, Ok(Value::Null))
    });
    assert!(
        misled,
        "SELECT of one client no longer concerns the others: tell the README"
    );
    Ok(())
}
