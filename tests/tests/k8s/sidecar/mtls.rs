//! Redis and the Sentinels behind sidecars that let in nobody without a certificate of the mesh.

use anyhow::{Result, ensure};
use redis_sentinel_tests::certificates::Certificates;
use redis_sentinel_tests::manifests::render;
use redis_sentinel_tests::resp::Value;
use redis_sentinel_tests::sidecar::discovery::Identity;
use redis_sentinel_tests::sidecar::load::{Load, assert_unharmed};
use redis_sentinel_tests::sidecar::{Istiod, Peer, Pod, Shape, System};
use redis_sentinel_tests::{net, wait};

use super::{PATIENT, SERVICE, assert_no_patch_in_vain, at, rendered, wait_until_ready};

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
    wait_until_ready(&system, &[&named, &image, &own])?;

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
