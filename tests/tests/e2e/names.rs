//! Sentinels that announce host names: resolved when they are dialled, whatever they were before.

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use redis_sentinel_tests::envoy::Envoy;
use redis_sentinel_tests::names::Names;
use redis_sentinel_tests::ports::PortBlock;
use redis_sentinel_tests::render::Config;
use redis_sentinel_tests::resp::Connection;
use redis_sentinel_tests::scratch::Scratch;
use redis_sentinel_tests::site::{Plan, Site};
use redis_sentinel_tests::{tools, wait};
use serde_json::json;

const PATIENT: Duration = Duration::from_secs(30);
const MASTER: &str = "mymaster";

fn name(node: usize) -> String {
    format!("redis-{node}.redis.test")
}

/// Where node `n` listens beside 127.0.0.1, and nobody else.
fn address(node: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, 10 + node)
}

/// How Envoy gets to know the names.
#[derive(Clone, Copy, PartialEq)]
enum By {
    /// The module asks for them: `envoy/redis.yaml`.
    Module,
    /// Envoy's DNS cache: `envoy/redis-hostnames.yaml`.
    Cache,
}

fn start(nodes: usize, by: By) -> Result<(Site, Names, Config, PortBlock)> {
    let (mut ports, scratch) = (PortBlock::claim()?, Scratch::new()?);
    let names = Names::start(ports.take(), scratch.path())?;
    for node in 0..nodes {
        names.set(&name(node), address(u8::try_from(node)?))?;
    }
    let plan = Plan {
        host: name,
        redis: "bind 127.0.0.1 127.0.1.1{n}\n".into(),
        sentinel: "sentinel resolve-hostnames yes\nsentinel announce-hostnames yes\n".into(),
        nodes,
        wrapper: names.wrapper(),
        ..Plan::default()
    };
    let site = Site::start_in(scratch, &mut ports, plan)?;
    if by == By::Module {
        let config = Config::from_shipped("envoy/redis.yaml", &mut ports)?;
        return Ok((site, names, config, ports));
    }
    let dns = names.port;
    let known: Vec<_> = site
        .group(0)
        .iter()
        .map(|node| json!({ "address": node.host, "port_value": node.port }))
        .collect();
    let config = Config::from_shipped("envoy/redis-hostnames.yaml", &mut ports)?
        .each(|object| {
            if let Some(cache) = object.get_mut("dns_cache_config") {
                cache["preresolve_hostnames"] = json!(known);
                cache["typed_dns_resolver_config"] = json!({
                    "name": "envoy.network.dns_resolver.cares",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
                        "resolvers": [{ "socket_address": { "address": "127.0.0.1", "port_value": dns, "protocol": "UDP" } }],
                    },
                });
            }
        });
    Ok((site, names, config, ports))
}

/// Starts Envoy with the names' server as its machine's.
fn envoy(site: &Site, names: &Names, config: Config) -> Result<Envoy> {
    let config = config.seeds(&site.sentinel_ports())?;
    let wrapper = names.resolver()?;
    let envoy = Envoy::start_by(config, site.scratch.path(), |inner| {
        let mut outer = Command::new(&wrapper[0]);
        outer.args(&wrapper[1..]).arg(inner.get_program());
        outer.args(inner.get_args()).current_dir(tools::root());
        outer
    })?;
    envoy.wait_until_ready()?;
    Ok(envoy)
}

fn node_of(port: u16) -> Result<u16> {
    let reply = Connection::open(port, PATIENT)?.call(&["CONFIG", "GET", "port"])?;
    let node = reply.field("port").with_context(|| format!("{reply:?}"))?;
    Ok(node.parse()?)
}

#[test]
fn announced_names_are_dialled_before_and_after_a_failover() -> Result<()> {
    survives_a_failover(By::Module)
}

#[test]
fn by_the_dns_cache_too() -> Result<()> {
    survives_a_failover(By::Cache)
}

fn survives_a_failover(by: By) -> Result<()> {
    let (site, names, config, _ports) = start(3, by)?;
    let envoy = envoy(&site, &names, config)?;
    let old = site.master(MASTER).context("no master")?;
    assert!(envoy.log().contains("master is redis-0.redis.test:"));
    assert_eq!(node_of(envoy.port)?, old);
    wait::until_true("reads from a replica", wait::LONG, || {
        node_of(envoy.replicas_port).is_ok_and(|node| node != old)
    })?;
    // Clients that come while the failover goes on are held, and released to a name that nobody dialled before. One that
    // was connected already is closed once, as everywhere.
    let port = envoy.port;
    site.fail_over(MASTER)?;
    let clients: Vec<_> = (0..25)
        .map(|_| {
            thread::sleep(Duration::from_millis(60));
            thread::spawn(move || node_of(port).or_else(|_| node_of(port)))
        })
        .collect();
    let new = site.wait_for_master_after(MASTER, old)?;
    let mut moved = 0;
    for client in clients {
        let node = client.join().ok().context("a client panicked")??;
        assert!(node == new || node == old, "{node}");
        moved += usize::from(node == new);
    }
    assert!(moved > 5, "{moved} of 25 reached the new master");
    Ok(())
}

#[test]
fn a_dial_that_fails_goes_on_to_the_name_of_the_new_master() -> Result<()> {
    let (mut site, names, mut config, _ports) = start(2, By::Module)?;
    // Nobody reads: the replica was never looked up when the failover begins.
    config = config.plugin("sentinel_watch", "replicas", &false.into());
    let envoy = envoy(&site, &names, config)?;
    let old = site.master(MASTER).context("no master")?;
    site.at(old)?.process().kill();
    let port = envoy.port;
    // At once: the Sentinels have not noticed, so these dial a dead node again and again.
    let dialling: Vec<_> = (0..8)
        .map(|_| thread::spawn(move || node_of(port)))
        .collect();
    let new = site.wait_for_master_after(MASTER, old)?;
    for client in dialling {
        assert_eq!(client.join().ok().context("a client panicked")??, new);
    }
    Ok(())
}

#[test]
fn a_client_waits_for_a_name_that_does_not_resolve_yet() -> Result<()> {
    let (site, names, config, _ports) = start(2, By::Module)?;
    names.set_in_dns(&name(0), None);
    let envoy = envoy(&site, &names, config)?;
    let port = envoy.port;
    let clients: Vec<_> = (0..4)
        .map(|_| thread::spawn(move || node_of(port)))
        .collect();
    wait::until_true("the clients to wait", wait::LONG, || {
        let held = envoy.stats("held_connections");
        held.is_ok_and(|held| held.values().sum::<u64>() == 4)
    })?;
    assert!(envoy.log().contains("redis-0.redis.test does not resolve"));
    names.set_in_dns(&name(0), Some(address(0)));
    for client in clients {
        let node = client.join().ok().context("a client panicked")??;
        assert_eq!(Some(node), site.master(MASTER));
    }
    Ok(())
}

#[test]
fn a_node_that_returns_under_another_address_is_found() -> Result<()> {
    let (mut site, names, config, _ports) = start(2, By::Module)?;
    let envoy = envoy(&site, &names, config)?;
    let master = site.master(MASTER).context("no master")?;
    // Envoy 1.36 closes who waits for the first answer.
    wait::until_true("the master", wait::LONG, || {
        node_of(envoy.port).is_ok_and(|node| node == master)
    })?;
    // As a pod does: gone for less than the Sentinels mind, back with its name and another address.
    let node = site.at(master)?;
    node.process().kill();
    let text = fs::read_to_string(node.file())?;
    fs::write(node.file(), text.replace("127.0.1.10", "127.0.9.1"))?;
    names.set(&name(0), Ipv4Addr::new(127, 0, 9, 1))?;
    node.restart()?;
    wait::until_true(
        "the master at its new address, or another one",
        wait::LONG,
        || node_of(envoy.port).is_ok_and(|node| Some(node) == site.master(MASTER)),
    )?;
    Ok(())
}
