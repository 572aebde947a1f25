//! One watch, several masters: each has its own listener, and what happens to one does not concern the other.

use std::time::Duration;

use anyhow::{Context, Result};
use redis_sentinel_tests::envoy::Envoy;
use redis_sentinel_tests::ports::PortBlock;
use redis_sentinel_tests::render::Config;
use redis_sentinel_tests::resp::Connection;
use redis_sentinel_tests::site::{Plan, Site};
use redis_sentinel_tests::wait;

const PATIENT: Duration = Duration::from_secs(20);

fn node_of(port: u16) -> Result<(Connection, u16)> {
    let mut connection = Connection::open(port, PATIENT)?;
    let reply = connection.call(&["CONFIG", "GET", "port"])?;
    let node = reply.field("port").with_context(|| format!("{reply:?}"))?;
    Ok((connection, node.parse()?))
}

#[test]
fn an_event_of_one_master_never_touches_the_other() -> Result<()> {
    let mut ports = PortBlock::claim()?;
    let plan = Plan {
        masters: vec!["orders".into(), "sessions".into()],
        nodes: 2,
        ..Plan::default()
    };
    let mut site = Site::start(&mut ports, plan)?;
    let mut config = Config::from_shipped("envoy/redis-several-masters.yaml", &mut ports)?
        .seeds(&site.sentinel_ports())?;
    let listeners = [config.port("orders")?, config.port("sessions")?];
    let envoy = Envoy::start(config, site.scratch.path())?;
    envoy.wait_until_ready()?;

    let [orders, sessions] = [0, 1].map(|master| site.group(master)[0].port);
    let mut idle = Vec::new();
    for _ in 0..6 {
        let (connection, node) = node_of(listeners[1])?;
        assert_eq!(node, sessions);
        idle.push(connection);
    }
    let (mut moved, node) = node_of(listeners[0])?;
    assert_eq!(node, orders);

    // A planned failover, then a kill: both of the one master.
    site.fail_over("orders")?;
    let second = site.wait_for_master_after("orders", orders)?;
    assert!(moved.receive().is_err(), "closed by the switch");
    site.wait_until_settled("orders")?;
    site.at(second)?.process().kill();
    let third = site.wait_for_master_after("orders", second)?;
    wait::until_true("orders to be served again", wait::LONG, || {
        node_of(listeners[0]).is_ok_and(|(_, node)| node == third)
    })?;

    for connection in &mut idle {
        assert_eq!(
            connection.call(&["PING"])?.text().as_deref(),
            Some("PONG"),
            "the other master's connections live on"
        );
    }
    let closed = envoy.stats("connections_closed_by_switch_total")?;
    assert!(
        !closed
            .iter()
            .any(|(name, n)| name.contains("sessions") && *n > 0),
        "{closed:?}"
    );
    Ok(())
}
