//! Where holding ends: a client is told what is wrong, never left waiting and never dropped without a word.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use anyhow::Result;
use redis_sentinel_tests::envoy::Envoy;
use redis_sentinel_tests::ports::PortBlock;
use redis_sentinel_tests::render::Config;
use redis_sentinel_tests::resp::{Connection, Value};
use redis_sentinel_tests::scratch::Scratch;
use serde_json::Value as Json;

const PATIENT: Duration = Duration::from_secs(20);

/// An Envoy whose Sentinels do not exist.
fn lonely(scratch: &Scratch, ports: &mut PortBlock, field: &str, value: Json) -> Result<Envoy> {
    let config = Config::from_shipped("envoy/redis.yaml", ports)?.seeds(&[ports.take()])?;
    Envoy::start(config.plugin("redis_router", field, &value), scratch.path())
}

fn assert_masterdown_then_closed(mut client: Connection) -> Result<String> {
    let reply = client.receive()?;
    let Value::Error(text) = reply else {
        panic!("expected an error reply, got {reply:?}")
    };
    assert!(
        text.starts_with("MASTERDOWN "),
        "clients know this word: {text}"
    );
    let end = client.receive().expect_err("one reply, then the end");
    assert!(
        matches!(
            end.kind(),
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
        ),
        "{end}"
    );
    Ok(text)
}

#[test]
fn a_client_held_too_long_is_told_why() -> Result<()> {
    let (scratch, mut ports) = (Scratch::new()?, PortBlock::claim()?);
    let envoy = lonely(&scratch, &mut ports, "hold_timeout", "1.5s".into())?;
    let begun = Instant::now();
    let mut client = Connection::open(envoy.port, PATIENT)?;
    client.send(&["GET", "k"])?;
    let text = assert_masterdown_then_closed(client)?;
    assert!(
        begun.elapsed() >= Duration::from_millis(1400),
        "it gave up after {:?}: {text}",
        begun.elapsed()
    );
    assert!(text.contains("mymaster"), "which master: {text}");
    Ok(())
}

#[test]
fn a_client_that_says_nothing_is_told_as_well() -> Result<()> {
    let (scratch, mut ports) = (Scratch::new()?, PortBlock::claim()?);
    let envoy = lonely(&scratch, &mut ports, "hold_timeout", "1s".into())?;
    assert_masterdown_then_closed(Connection::open(envoy.port, PATIENT)?).map(drop)
}

#[test]
fn more_clients_than_may_be_held_are_told_at_once() -> Result<()> {
    let (scratch, mut ports) = (Scratch::new()?, PortBlock::claim()?);
    // The bound is one of each worker, and Envoy spreads connections as it likes: so more than two workers' worth.
    let envoy = lonely(&scratch, &mut ports, "max_held_connections", 2.into())?;
    let begun = Instant::now();
    let clients: Result<Vec<_>, _> = (0..6)
        .map(|_| Connection::open(envoy.port, PATIENT))
        .collect();
    let mut told = 0;
    for client in clients? {
        client
            .stream()
            .set_read_timeout(Some(Duration::from_secs(1)))?;
        told += usize::from(assert_masterdown_then_closed(client).is_ok());
    }
    assert!(
        (2..=4).contains(&told),
        "{told} of 6 were told within {:?}",
        begun.elapsed()
    );
    Ok(())
}
