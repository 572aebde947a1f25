//! IPv6 everywhere: clients, Redis, Sentinels.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use redis_sentinel_tests::envoy::Envoy;
use redis_sentinel_tests::ports::PortBlock;
use redis_sentinel_tests::render::Config;
use redis_sentinel_tests::resp::Connection;
use redis_sentinel_tests::site::{Plan, Site};
use redis_sentinel_tests::wait;
use serde_json::{Value as Json, json};

const PATIENT: Duration = Duration::from_secs(20);
const MASTER: &str = "mymaster";

#[test]
fn clients_redis_and_sentinels_on_ipv6() -> Result<()> {
    let mut ports = PortBlock::claim()?;
    let plan = Plan {
        host: |_| "::1".into(),
        sentinel_host: "::1".into(),
        // The tests themselves ask over IPv4; nobody is told of it.
        redis: "bind ::1 127.0.0.1\n".into(),
        sentinel: "bind ::1 127.0.0.1\nsentinel announce-ip ::1\n".into(),
        nodes: 2,
        ..Plan::default()
    };
    let mut site = Site::start(&mut ports, plan)?;
    let mut config = Config::from_shipped("envoy/redis.yaml", &mut ports)?;
    let endpoints: Vec<Json> = site
        .sentinel_ports()
        .iter()
        .map(|port| {
            json!({ "endpoint": { "address": {
                "socket_address": { "address": "::1", "port_value": port } } } })
        })
        .collect();
    config.item("clusters", "sentinel_seeds")?["load_assignment"]["endpoints"] =
        json!([{ "lb_endpoints": endpoints }]);
    for listener in ["redis", "redis_replicas"] {
        *config
            .item("listeners", listener)?
            .pointer_mut("/address/socket_address/address")
            .context("no address")? = "::1".into();
    }
    let envoy = Envoy::start(config, site.scratch.path())?;
    envoy.wait_until_ready()?;
    wait::until_true("three Sentinels to be watched", wait::LONG, || {
        envoy.log().matches(": watching Sentinel [::1]:").count() >= 3
    })?;
    let node_of = |port: u16| -> Result<u16> {
        let address = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        let reply = Connection::open_at(address, PATIENT)?.call(&["CONFIG", "GET", "port"])?;
        let node = reply.field("port").with_context(|| format!("{reply:?}"))?;
        Ok(node.parse()?)
    };
    let old = site.master(MASTER).context("no master")?;
    assert_eq!(node_of(envoy.port)?, old);
    wait::until_true("reads from the replica", wait::LONG, || {
        node_of(envoy.replicas_port).is_ok_and(|node| node != old)
    })?;
    site.at(old)?.process().kill();
    let new = site.wait_for_master_after(MASTER, old)?;
    wait::until_true("the new master", wait::LONG, || {
        node_of(envoy.port).is_ok_and(|node| node == new)
    })
}
