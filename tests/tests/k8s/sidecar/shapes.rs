//! All shapes that istiod gives to a Redis Service, and both ways to deliver the module.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use redis_sentinel_tests::sidecar::discovery;
use redis_sentinel_tests::sidecar::load::{Load, assert_unharmed};
use redis_sentinel_tests::sidecar::{Pod, Shape, System};
use redis_sentinel_tests::{net, wait};

use super::{PATIENT, SERVICE, answers, at, rendered, start, wait_until_ready};

#[test]
fn every_shape_of_service_leads_to_the_master_through_planned_and_unplanned_failovers() -> Result<()>
{
    if net::missing() {
        return Ok(());
    }
    let mut system = System::start(SERVICE)?;
    let service = at(SERVICE, 6379);
    let nodes: Vec<_> = system
        .pods()
        .iter()
        .map(|(_, address)| at(*address, 6379))
        .collect();
    let by_ip = start(
        &system,
        "cluster-ip",
        Shape::ClusterIp(SERVICE),
        &["replicas", "readiness", "module-file"],
    )?;
    let per_pod = start(&system, "per-pod", Shape::PerPod, &["module-file"])?;
    let wildcard = start(
        &system,
        "wildcard",
        Shape::Wildcard,
        &["module-file", "registry-only"],
    )?;
    let image = start(
        &system,
        "image",
        Shape::ClusterIp(SERVICE),
        &["replicas", "readiness", "module-image"],
    )?;
    wait_until_ready(&system, &[&by_ip, &per_pod, &wildcard, &image])?;
    assert_eq!(
        (
            by_ip.hits("redis-sentinel-router[0]"),
            per_pod.hits("redis-sentinel-router[0]")
        ),
        (1, 3)
    );
    assert_eq!(
        (
            wildcard.hits("redis-sentinel-router[0]"),
            image.hits("redis-sentinel-router[0]")
        ),
        (1, 0)
    );
    assert_eq!(
        (
            by_ip.hits("redis-sentinel-tcp-proxy[0]"),
            per_pod.hits("redis-sentinel-tcp-proxy[0]")
        ),
        (1, 3)
    );

    // Whatever the application dials, the master answers: also where it dialled the master itself, or a replica.
    let pods = [
        (&by_ip, vec![service]),
        (&per_pod, nodes.clone()),
        (&wildcard, nodes.clone()),
        (&image, vec![service]),
    ];
    for (pod, addresses) in &pods {
        for address in addresses {
            let name = pod.host.name();
            let node = answers(pod, *address)
                .with_context(|| format!("{name} dials {address}\n{}", pod.told()))?;
            assert_eq!(node, 0, "{name} dials {address}");
        }
    }
    for pod in [&by_ip, &image] {
        // Until the Sentinels have named the replicas, the master stands in for them.
        wait::until_true("a read to be a replica's", wait::LONG, || {
            answers(pod, at(SERVICE, 6380)).is_ok_and(|node| node != 0)
        })?;
        wait::until_true("/ready", wait::LONG, || {
            pod.get(9902, "/ready")
                .is_ok_and(|(status, _)| status == 200)
        })?;
    }
    // One VM for all filters, whichever way they came.
    let machines = by_ip.stat("^wasm.envoy.wasm.runtime.v8.active$")?;
    assert_eq!(machines, image.stat("^wasm.envoy.wasm.runtime.v8.active$")?);
    assert_new_versions_come(&image)?;
    assert_catch_all(&system, &per_pod, &wildcard)?;
    assert_script_runs(&by_ip)?;

    let loads: Vec<_> = pods
        .iter()
        .map(|(pod, addresses)| Load::start(pod, pod.host.name(), &addresses.repeat(3)))
        .collect();
    let all_write_to = |node: usize| loads.iter().all(|load| load.all_write_to(node));
    wait::until_true("every client to write", wait::LONG, || all_write_to(0))?;
    system.fail_over()?;
    let new = system.master_after(0)?;
    wait::until_true(
        "every client to write to the new master",
        wait::LONG,
        || all_write_to(new),
    )?;
    std::thread::sleep(Duration::from_secs(1)); // whatever still goes wrong now is part of the outcome
    for load in loads {
        assert_unharmed(&load.stop(&system.redis[new])?)?;
    }

    system.wait_until_settled()?;
    system.redis[new].process().kill();
    let newest = system.master_after(new)?;
    for (pod, addresses) in &pods {
        for address in addresses {
            wait::until_true("the newest master", wait::LONG, || {
                answers(pod, *address).is_ok_and(|n| n == newest)
            })?;
        }
    }
    Ok(())
}

/// A new version of the image takes effect without a restart; while it cannot be had, nobody is led anywhere. The conversations
/// with the Sentinels go on in the old version, in a VM of its own: the failovers that follow show that the two understand
/// each other.
fn assert_new_versions_come(pod: &Pod) -> Result<()> {
    let reloads = || pod.stat("extension_config_discovery.*config_reload$");
    let before = reloads()?;
    pod.send_extensions(2, |extension| {
        if extension["name"] == "extensions.istio.io/wasmplugin/my-app.redis-router" {
            discovery::not_downloaded(extension);
        }
    })?;
    let service = at(SERVICE, 6379);
    wait::until_true("the router to be gone", wait::LONG, || {
        answers(pod, service).is_err()
    })?;
    ensure!(
        pod.stat("wasm-default-deny.rbac.denied$")? > 0,
        "somebody else closed it"
    );
    pod.send_extensions(3, discovery::next_version)?;
    wait::until_true("the new version", wait::LONG, || {
        answers(pod, service).is_ok_and(|node| node == 0)
    })?;
    // The router twice; the watch, the probe, the replicas and the readiness, which were the same in between, once.
    wait::until_true("all filters to be replaced", wait::LONG, || {
        reloads().is_ok_and(|now| now >= before + 6)
    })?;
    Ok(())
}

/// What has no listener: passed on to where it was dialled, or with REGISTRY_ONLY not at all. The sidecars themselves reach all
/// of these addresses in both cases.
fn assert_catch_all(system: &System, open: &Pod, closed: &Pod) -> Result<()> {
    let sentinel = at(system.sentinels[0].host.address(), 26379);
    let ask = |pod: &Pod| -> Result<String> {
        let mut connection = pod.connect(sentinel, PATIENT)?;
        Ok(format!("{:?}", connection.call(&["PING"])?))
    };
    let answer = ask(open)?;
    ensure!(answer.contains("NOAUTH"), "{answer}");
    ensure!(
        ask(closed).is_err(),
        "REGISTRY_ONLY let a connection through"
    );
    Ok(())
}

/// The example's own command, as the application's user.
fn assert_script_runs(pod: &Pod) -> Result<()> {
    let example = rendered(&[])?;
    let app = example
        .iter()
        .find(|d| d.kind() == "Deployment")
        .context("no application")?;
    let container = app.at("/spec/template/spec/containers/0");
    let script = container["args"][0].as_str().context("no script")?;
    let variable = |name: &str| {
        container["env"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|v| v["name"] == name)
    };
    let host = variable("REDIS_HOST")
        .and_then(|v| v["value"].as_str())
        .context("no host")?;
    let output = pod.run("timeout", |command| {
        command.args(["2", "sh", "-c", script]).envs([
            ("PAUSE", "0.2"),
            ("REDIS_HOST", host),
            ("REDISCLI_AUTH", "redis secret"),
        ]);
    })?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        said.lines().count() > 1 && said.lines().all(|line| line.parse::<u32>().is_ok()),
        "{output:?}"
    );
    Ok(())
}
