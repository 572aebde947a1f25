//! An Envoy cluster per node, found by a template, as a mesh has them: each with a transport socket and statistics of its own.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use redis_sentinel_tests::envoy::Envoy;
use redis_sentinel_tests::ports::PortBlock;
use redis_sentinel_tests::render::Config;
use redis_sentinel_tests::resp::Connection;
use redis_sentinel_tests::site::{Plan, Site};
use redis_sentinel_tests::wait;
use serde_json::json;

const PATIENT: Duration = Duration::from_secs(20);
const MASTER: &str = "mymaster";
/// How Istio names the clusters of services outside.
const TEMPLATE: &str = "outbound|{port}||{host}";

/// Envoy with a cluster for the first `clusters` of the nodes.
fn start(clusters: usize) -> Result<(Site, Envoy, PortBlock)> {
    let mut ports = PortBlock::claim()?;
    let plan = Plan {
        nodes: 2,
        ..Plan::default()
    };
    let site = Site::start(&mut ports, plan)?;
    let mut config = Config::from_shipped("envoy/redis.yaml", &mut ports)?
        .seeds(&site.sentinel_ports())?
        .plugin("redis_router", "cluster_template", &TEMPLATE.into())
        .plugin("role_probe", "cluster_template", &TEMPLATE.into());
    let known = config
        .json()
        .pointer_mut("/static_resources/clusters")
        .and_then(|clusters| clusters.as_array_mut())
        .context("no clusters")?;
    for node in &site.group(0)[..clusters] {
        let name = format!("outbound|{}||127.0.0.1", node.port);
        let address =
            json!({ "socket_address": { "address": "127.0.0.1", "port_value": node.port } });
        known.push(json!({
            "name": name, "type": "STATIC", "connect_timeout": "1s", "load_assignment": {
                "cluster_name": name, "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address } }] }] },
        }));
    }
    let envoy = Envoy::start(config, site.scratch.path())?;
    envoy.wait_until_ready()?;
    Ok((site, envoy, ports))
}

fn node_of(port: u16) -> Result<u16> {
    let reply = Connection::open(port, PATIENT)?.call(&["CONFIG", "GET", "port"])?;
    let node = reply.field("port").with_context(|| format!("{reply:?}"))?;
    Ok(node.parse()?)
}

#[test]
fn each_node_is_reached_through_its_own_cluster() -> Result<()> {
    let (mut site, envoy, _ports) = start(2)?;
    let old = site.master(MASTER).context("no master")?;
    let connections = |node: u16| -> Result<u64> {
        let stats = envoy.stats(&format!("cluster.outbound.{node}.*upstream_cx_total"))?;
        Ok(stats.values().sum())
    };
    assert_eq!(node_of(envoy.port)?, old);
    assert!(connections(old)? > 0);
    site.at(old)?.process().kill();
    // Came before the Sentinels noticed: it still dials when the master changes, and goes on to the other cluster.
    assert_ne!(node_of(envoy.port)?, old);
    let new = site.wait_for_master_after(MASTER, old)?;
    assert_eq!(node_of(envoy.port)?, new);
    assert!(connections(new)? > 0);
    Ok(())
}

#[test]
fn an_address_without_a_cluster_is_a_clear_error() -> Result<()> {
    let (site, envoy, _ports) = start(1)?;
    let old = site.master(MASTER).context("no master")?;
    site.fail_over(MASTER)?;
    let new = site.wait_for_master_after(MASTER, old)?;
    wait::until_true("the switch", wait::LONG, || {
        envoy.log().contains(&format!("master is 127.0.0.1:{new}"))
    })?;
    // Nothing can be said to the client any more, but it does not wait either; the log says which cluster is missing.
    let begun = Instant::now();
    let reply = Connection::open(envoy.port, PATIENT)?.call(&["PING"]);
    assert!(reply.is_err(), "{reply:?}");
    assert!(begun.elapsed() < Duration::from_secs(2));
    wait::until_true("the missing cluster to be named", PATIENT, || {
        envoy.log().contains(&format!("outbound|{new}||127.0.0.1"))
    })?;
    let lost = envoy.stats("^tcp.redis.downstream_cx_no_route$")?;
    assert!(lost.values().sum::<u64>() > 0, "{lost:?}");
    Ok(())
}
