//! k8s/istio: an application's own sidecar leads it to the master, in all shapes that istiod gives to a Redis Service.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use redis_sentinel_tests::certificates::Certificates;
use redis_sentinel_tests::manifests::{Document, render, render_own};
use redis_sentinel_tests::resp::{Connection, Value};
use redis_sentinel_tests::sidecar::discovery::Identity;
use redis_sentinel_tests::sidecar::load::{Load, assert_unharmed, number};
use redis_sentinel_tests::sidecar::{Istiod, Peer, Pod, Shape, System};
use redis_sentinel_tests::{net, wait};

const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 5);
const PATIENT: Duration = Duration::from_secs(20);

/// The example's application, with these components of k8s/istio, and what belongs into the namespace of Redis.
fn rendered(components: &[&str]) -> Result<Vec<Document>> {
    let components: Vec<_> = components
        .iter()
        .map(|name| format!("- ../istio/{name}\n"))
        .collect();
    let mut documents = render_own(&format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: my-app\n\
         resources: [../istio/base]\ncomponents:\n{}",
        components.concat()
    ))?;
    documents.extend(
        render("istio/example")?
            .into_iter()
            .filter(|d| d.kind() == "Deployment"),
    );
    Ok(documents)
}

fn at(address: Ipv4Addr, port: u16) -> SocketAddr {
    SocketAddr::from((address, port))
}

/// The number of the node that answers.
fn answers(pod: &Pod, to: SocketAddr) -> Result<usize> {
    let mut connection = pod.connect(to, PATIENT)?;
    node_of(&mut connection)
}

fn node_of(connection: &mut Connection) -> Result<usize> {
    connection.call(&["AUTH", "redis secret"])?;
    let reply = connection.call(&["CONFIG", "GET", "replica-announce-ip"])?;
    let number = number(&reply).with_context(|| format!("{reply:?}"))?;
    Ok(number.into())
}

/// Starts a pod with these components, and sees to it that no patch was in vain.
fn start(system: &System, name: &str, shape: Shape, components: &[&str]) -> Result<Pod> {
    let istiod = Istiod {
        shape,
        pods: system.pods(),
    };
    let pod = Pod::start(system, name, &rendered(components)?, &istiod, None)?;
    assert_no_patch_in_vain(&pod)?;
    Ok(pod)
}

fn assert_no_patch_in_vain(pod: &Pod) -> Result<()> {
    let vain: Vec<_> = pod
        .hits
        .iter()
        .filter(|hits| hits.hits == 0)
        .map(ToString::to_string)
        .collect();
    ensure!(
        vain.is_empty(),
        "nothing to patch, and Istio would not tell: {vain:?}"
    );
    Ok(())
}

fn wait_until_ready(pods: &[&Pod]) -> Result<()> {
    wait::until_true("the sidecars to watch every Sentinel", wait::LONG, || {
        pods.iter()
            .all(|pod| pod.log().matches(": watching Sentinel").count() >= 3)
    })
}

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
    wait_until_ready(&[&by_ip, &per_pod, &wildcard, &image])?;
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
        assert_ne!(answers(pod, at(SERVICE, 6380))?, 0, "a read is a replica's");
        wait::until_true("/ready", wait::LONG, || {
            pod.get(9902, "/ready")
                .is_ok_and(|(status, _)| status == 200)
        })?;
    }
    // One VM for all filters, whichever way they came.
    let machines = by_ip.stat("^wasm.envoy.wasm.runtime.v8.active$")?;
    assert_eq!(machines, image.stat("^wasm.envoy.wasm.runtime.v8.active$")?);
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

#[test]
fn a_partition_hangs_the_application_no_longer_than_the_old_master_is_master() -> Result<()> {
    if net::missing() {
        return Ok(());
    }
    let system = System::start(SERVICE)?;
    let pod = start(&system, "app", Shape::ClusterIp(SERVICE), &["module-file"])?;
    wait_until_ready(&[&pod])?;
    let (service, old) = (at(SERVICE, 6379), &system.redis[0]);
    let mut live = pod.connect(service, PATIENT)?;
    assert_eq!(node_of(&mut live)?, 0);

    // Only this pod is cut off from the master: no Sentinel sees a reason for a failover.
    system.network.cut(&pod.host, &old.host)?;
    live.send(&["PING"])?;
    std::thread::scope(|scope| -> Result<()> {
        let waits = scope.spawn(|| answers(&pod, service));
        wait::until_true("a client to wait", wait::LONG, || {
            pod.stat("cluster.redis.upstream_cx_connect_fail$")
                .is_ok_and(|n| n > 0)
        })?;
        system.fail_over()?;
        let new = system.master_after(0)?;
        let answered = waits.join().ok().context("panicked")??;
        ensure!(answered == new, "{answered} is not {new}");
        ensure!(
            live.receive().is_err(),
            "the connection to the old master must end"
        );
        Ok(())
    })?;
    let new = system.master().context("no master")?;
    system.network.heal_all()?;
    system.wait_until_settled()?;

    // The master is cut off from everybody, and lives on: who had a connection to it is moved when another one is promoted.
    let lonely = &system.redis[new];
    let mut live = pod.connect(service, PATIENT)?;
    assert_eq!(node_of(&mut live)?, new);
    let nodes = system
        .redis
        .iter()
        .filter(|node| node.name != lonely.name)
        .chain(&system.sentinels);
    let others: Vec<_> = nodes.map(|node| &node.host).chain([&pod.host]).collect();
    system.network.partition(&[&lonely.host], &others)?;
    live.send(&["SET", "lost", "1"])?;
    let newest = system.master_after(new)?;
    assert_eq!(answers(&pod, service)?, newest);
    ensure!(
        live.receive().is_err(),
        "the connection to the lonely master must end"
    );
    system.network.heal_all()?;
    wait::until_true("the lonely one to follow", wait::LONG, || {
        lonely
            .call(&["ROLE"])
            .is_ok_and(|role| role.items()[0].text().as_deref() == Some("slave"))
    })?;
    assert_eq!(answers(&pod, service)?, newest);
    Ok(())
}

/// What the mesh's authority has signed for a workload of this namespace.
fn identity(certificates: &Certificates, namespace: &str) -> Result<Identity> {
    let name = format!("workload-{namespace}");
    let uri = format!("URI:spiffe://cluster.local/ns/{namespace}/sa/default");
    certificates.sign(&name, "CA:FALSE", Some(&uri))?;
    let read = |file: &str| std::fs::read_to_string(certificates.path(file));
    let certificate = (read(&format!("{name}.crt"))?, read(&format!("{name}.key"))?);
    Ok(Identity {
        certificate,
        root: read("ca.crt")?,
    })
}

#[test]
fn strict_mtls_by_named_clusters_and_by_own_ones() -> Result<()> {
    if net::missing() {
        return Ok(());
    }
    let system = System::start(SERVICE)?;
    let certificates = Certificates::make(&system.scratch.file("certificates"))?;
    let [app, redis] = ["my-app", "redis"].map(|namespace| identity(&certificates, namespace));
    let (app, redis) = (app?, redis?);
    let registry = render("istio/redis-namespace")?;
    let istiod = Istiod {
        shape: Shape::ClusterIp(SERVICE),
        pods: system.pods(),
    };
    let launch = |name: &str, components: &[&str]| -> Result<Pod> {
        let mut documents = rendered(components)?;
        documents.extend(registry.iter().cloned());
        let pod = Pod::start(&system, name, &documents, &istiod, Some(&app))?;
        assert_no_patch_in_vain(&pod)?;
        Ok(pod)
    };
    let peers = Peer::in_front_of(&system, &redis)?;
    let named = launch("named", &["module-file", "named-clusters"])?;
    let image = launch("image", &["module-image", "named-clusters"])?;
    let own = launch("own", &["module-file", "mtls"])?;
    let plain = launch("plain", &["module-file"])?;
    // The Service, and the address of each ServiceEntry.
    assert_eq!(
        named.hits("redis-sentinel-router[0]"),
        1 + system.redis.len()
    );
    wait_until_ready(&[&named, &image, &own])?;

    let service = at(SERVICE, 6379);
    let loads: Vec<_> = [&named, &image, &own]
        .map(|pod| Load::start(pod, pod.host.name(), &[service; 3]))
        .into();
    let all_write_to = |node: usize| loads.iter().all(|load| load.all_write_to(node));
    wait::until_true("every client to write", wait::LONG, || all_write_to(0))?;
    system.fail_over()?;
    let new = system.master_after(0)?;
    wait::until_true(
        "every client to write to the new master",
        wait::LONG,
        || all_write_to(new),
    )?;
    for load in loads {
        assert_unharmed(&load.stop(&system.redis[new])?)?;
    }
    for node in [0, new] {
        let handshakes = format!("cluster.outbound.6379..redis-{node}.redis-nodes.*ssl.handshake$");
        ensure!(
            named.stat(&handshakes)? > 0 && image.stat(&handshakes)? > 0,
            "{}",
            named.log()
        );
    }
    ensure!(own.stat("cluster.redis.ssl.handshake$")? > 0);
    // The probe's and the Sentinels' are raw clusters in all of them.
    ensure!(named.stat("cluster.sentinel_(seeds|discovered).ssl.handshake$")? > 2);

    // Without the certificate there is no master to be learnt, and the client is told so.
    let mut refused = plain.connect(service, PATIENT)?;
    let reply = refused.call(&["PING"])?;
    ensure!(
        matches!(&reply, Value::Error(text) if text.starts_with("MASTERDOWN")),
        "{reply:?}"
    );
    drop(peers);
    Ok(())
}
