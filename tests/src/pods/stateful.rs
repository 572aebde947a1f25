//! StatefulSets.

use std::sync::Arc;

use anyhow::Result;
use serde_json::Value;

use super::Ending;
use super::controller::{Create, Workload};
use super::pod::Pod;
use super::world::World;

/// Takes the next steps, as Kubernetes' controller does.
pub fn reconcile(world: &Arc<World>, set: &Workload<'_>, create: Create<'_>) -> Result<()> {
    let replicas = set.number("/spec/replicas", 1);
    let settle = set.number("/spec/minReadySeconds", 0);
    let parallel = set.document.text("/spec/podManagementPolicy") == "Parallel";
    let name = |ordinal: u64| format!("{}-{ordinal}", set.document.name());
    let find = |ordinal: u64| set.pods.iter().find(|pod| pod.name() == name(ordinal));

    let mut whole = true;
    for ordinal in 0..replicas {
        match find(ordinal) {
            None => {
                whole = false;
                create(world, new_pod(world, set, &name(ordinal), ordinal));
                if !parallel {
                    return Ok(());
                }
            }
            // In order: the next one when this one is ready.
            Some(pod) if !parallel && !pod.is_available(settle) => return Ok(()),
            Some(_) => {}
        }
    }

    // Too many: from the last one on; in order, one at a time.
    let mut surplus: Vec<_> = set
        .pods
        .iter()
        .filter(|pod| ordinal_of(pod) >= replicas)
        .collect();
    surplus.sort_by_key(|pod| std::cmp::Reverse(ordinal_of(pod)));
    for pod in surplus {
        if !pod.is_terminating() {
            pod.end(Ending::Graceful);
        }
        if !parallel {
            return Ok(());
        }
    }

    if whole {
        update(set, replicas, settle);
    }
    Ok(())
}

/// A changed template: from the last pod to the first, each when those before it are available again.
fn update(set: &Workload<'_>, replicas: u64, settle: u64) {
    if set.document.text("/spec/updateStrategy/type") == "OnDelete" {
        return;
    }
    let first = set.number("/spec/updateStrategy/rollingUpdate/partition", 0);
    let mut pods: Vec<_> = set
        .pods
        .iter()
        .filter(|pod| (first..replicas).contains(&ordinal_of(pod)))
        .collect();
    pods.sort_by_key(|pod| std::cmp::Reverse(ordinal_of(pod)));
    for pod in pods {
        if pod.identity.revision != set.revision && !pod.is_terminating() {
            pod.end(Ending::Graceful);
            return;
        }
        if !pod.is_available(settle) {
            return;
        }
    }
}

fn new_pod(world: &World, set: &Workload<'_>, name: &str, ordinal: u64) -> Pod {
    let claims = set.document.list("/spec/volumeClaimTemplates").iter();
    let claims = claims.filter_map(|claim| claim.pointer("/metadata/name").and_then(Value::as_str));
    let labels = [
        ("statefulset.kubernetes.io/pod-name", name.to_owned()),
        ("apps.kubernetes.io/pod-index", ordinal.to_string()),
    ];
    let subdomain = set.document.text("/spec/serviceName");
    set.pod(
        world,
        name,
        &labels,
        Some(subdomain),
        claims.map(str::to_owned).collect(),
    )
}

fn ordinal_of(pod: &Pod) -> u64 {
    let number = pod.name().rsplit('-').next();
    number
        .and_then(|text| text.parse().ok())
        .unwrap_or(u64::MAX)
}
