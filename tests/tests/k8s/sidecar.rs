//! k8s/istio: an application's own sidecar leads it to the master.

mod mtls;
mod partition;
mod shapes;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use redis_sentinel_tests::manifests::{Document, render, render_own};
use redis_sentinel_tests::resp::Connection;
use redis_sentinel_tests::sidecar::load::number;
use redis_sentinel_tests::sidecar::{Istiod, Pod, Shape, System};
use redis_sentinel_tests::wait;

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

/// Only the Sentinel that leads a failover tells of it in advance, so each one must be watched.
fn wait_until_ready(system: &System, pods: &[&Pod]) -> Result<()> {
    let sentinels = system.sentinels.iter().map(|node| node.host.address());
    let lines: Vec<_> = sentinels
        .map(|address| format!(": watching Sentinel {address}:26379"))
        .collect();
    wait::until_true("the sidecars to watch every Sentinel", wait::LONG, || {
        pods.iter().all(|pod| {
            let log = pod.log();
            lines.iter().all(|line| log.contains(line))
        })
    })
}
