//! TLS with certificates on both sides: spoken by Envoy for plain clients, or passed through for those that speak it.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use redis_sentinel_tests::certificates::Certificates;
use redis_sentinel_tests::envoy::Envoy;
use redis_sentinel_tests::fault::Fault;
use redis_sentinel_tests::ports::PortBlock;
use redis_sentinel_tests::render::Config;
use redis_sentinel_tests::resp::Connection;
use redis_sentinel_tests::scratch::Scratch;
use redis_sentinel_tests::site::{Plan, Site};
use redis_sentinel_tests::{tools, wait};

const PATIENT: Duration = Duration::from_secs(20);
const MASTER: &str = "mymaster";

/// Redis and Sentinels that speak TLS only, to those who have a certificate.
fn start(ports: &mut PortBlock) -> Result<(Site, Certificates, Config)> {
    let scratch = Scratch::new()?;
    let certificates = Certificates::make(&scratch.file("certificates"))?;
    let plan = Plan {
        redis: certificates.redis(),
        sentinel: certificates.redis(),
        nodes: 2,
        tls: true,
        ..Plan::default()
    };
    let site = Site::start_in(scratch, ports, plan)?;
    let mut config =
        Config::from_shipped("envoy/redis.yaml", ports)?.seeds(&site.sentinel_ports())?;
    for cluster in ["sentinel_seeds", "sentinel_discovered"] {
        config.item("clusters", cluster)?["transport_socket"] = certificates.transport_socket();
    }
    Ok((site, certificates, config))
}

#[test]
fn envoy_speaks_tls_to_redis_and_sentinels_for_plain_clients() -> Result<()> {
    for fault in [Fault::Planned, Fault::Kill] {
        let mut ports = PortBlock::claim()?;
        let (mut site, certificates, mut config) = start(&mut ports)?;
        config.item("clusters", "redis")?["transport_socket"] = certificates.transport_socket();
        let envoy = Envoy::start(config, site.scratch.path())?;
        envoy.wait_until_ready()?;
        let old = site.master(MASTER).context("no master")?;
        let node = || -> Result<String> {
            let mut app = Connection::open(envoy.port, PATIENT)?;
            app.call(&["SET", "k", "v"])?;
            let reply = app.call(&["CONFIG", "GET", "tls-port"])?;
            reply.field("tls-port").context("no port")
        };
        assert_eq!(node()?, old.to_string());
        wait::until_true("three Sentinels to be watched", wait::LONG, || {
            envoy.log().matches(": watching Sentinel").count() >= 3
        })?;
        match fault {
            Fault::Planned => site.fail_over(MASTER)?,
            _ => site.at(old)?.process().kill(),
        }
        let new = site.wait_for_master_after(MASTER, old)?;
        wait::until_true("the new master", wait::LONG, || {
            node().is_ok_and(|port| port == new.to_string())
        })?;
        let shakes = envoy.stats("cluster.redis.ssl.handshake")?;
        assert!(shakes.values().sum::<u64>() > 1, "{shakes:?}");
    }
    Ok(())
}

#[test]
fn without_its_certificate_envoy_knows_no_master_and_says_why() -> Result<()> {
    let mut ports = PortBlock::claim()?;
    let (site, _, mut config) = start(&mut ports)?;
    for cluster in ["sentinel_seeds", "sentinel_discovered"] {
        let tls = &mut config.item("clusters", cluster)?["transport_socket"]["typed_config"];
        tls["common_tls_context"]
            .as_object_mut()
            .context("no context")?
            .remove("tls_certificates");
    }
    let envoy = Envoy::start(config, site.scratch.path())?;
    wait::until_true("the failure to be told", wait::LONG, || {
        envoy.log().contains("given up: it c")
    })?;
    assert_eq!(envoy.ready_status(), Some(503));
    let failures = envoy.stats("cluster.sentinel_seeds.*upstream_cx_total")?;
    assert!(failures.values().sum::<u64>() > 0, "{failures:?}");
    Ok(())
}

#[test]
fn tls_of_clients_passes_through() -> Result<()> {
    let mut ports = PortBlock::claim()?;
    let (site, certificates, mut config) = start(&mut ports)?;
    // The applications' bytes stay as they are; only the probe, which speaks itself, has a cluster with TLS.
    let mut probed = config.item("clusters", "redis")?.clone();
    probed["name"] = "redis_probed".into();
    probed["transport_socket"] = certificates.transport_socket();
    config
        .json()
        .pointer_mut("/static_resources/clusters")
        .and_then(|clusters| clusters.as_array_mut())
        .context("no clusters")?
        .push(probed);
    *config
        .item("listeners", "role_probe")?
        .pointer_mut("/filter_chains/0/filters/1/typed_config/cluster")
        .context("no cluster")? = "redis_probed".into();
    let envoy = Envoy::start(config, site.scratch.path())?;
    envoy.wait_until_ready()?;
    let old = site.master(MASTER).context("no master")?;
    let (port, files) = (
        envoy.port.to_string(),
        ["ca.crt", "client.crt", "client.key"].map(|name| certificates.path(name)),
    );
    let node = || -> Result<String> {
        let output = Command::new(tools::redis("redis-cli"))
            .args(["-p", &port, "--tls", "--cacert", &files[0]])
            .args(["--cert", &files[1], "--key", &files[2]])
            .args(["--raw", "CONFIG", "GET", "tls-port"])
            .output()?;
        let text = String::from_utf8(output.stdout)?;
        Ok(text.lines().nth(1).context("no reply")?.to_owned())
    };
    assert_eq!(node()?, old.to_string());
    site.fail_over(MASTER)?;
    let new = site.wait_for_master_after(MASTER, old)?;
    wait::until_true("the new master", wait::LONG, || {
        node().is_ok_and(|port| port == new.to_string())
    })?;
    wait::until_true("the probe's question", PATIENT, || {
        site.group(0).iter().any(|n| n.calls_of("role") > 0)
    })
}
