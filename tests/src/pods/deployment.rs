//! Deployments.

use std::sync::Arc;

use anyhow::Result;
use serde_json::Value;

use super::Ending;
use super::controller::{Create, Workload};
use super::pod::Pod;
use super::world::World;

/// Takes the next steps: new pods as far as there may be more, old ones away as far as there may be fewer.
pub fn reconcile(world: &Arc<World>, deployment: &Workload<'_>, create: Create<'_>) -> Result<()> {
    let document = deployment.document;
    let replicas = usize::try_from(deployment.number("/spec/replicas", 1))?;
    let settle = deployment.number("/spec/minReadySeconds", 0);
    let recreate = document.text("/spec/strategy/type") == "Recreate";
    let rolling = |key| document.at(&format!("/spec/strategy/rollingUpdate/{key}"));
    let surge = share(rolling("maxSurge"), replicas, true);
    let fewer = share(rolling("maxUnavailable"), replicas, false);

    let staying: Vec<_> = deployment
        .pods
        .iter()
        .filter(|pod| !pod.is_terminating())
        .collect();
    let (new, old): (Vec<_>, Vec<_>) = staying
        .iter()
        .partition(|pod| pod.identity.revision == deployment.revision);

    let may_be = if recreate { replicas } else { replicas + surge };
    let missing = replicas.saturating_sub(new.len());
    let room = may_be.saturating_sub(staying.len());
    // "Recreate" waits until the last old pod is gone, not only until it is going.
    let waits = recreate
        && deployment
            .pods
            .iter()
            .any(|pod| pod.identity.revision != deployment.revision);
    if !waits {
        for _ in 0..missing.min(room) {
            create(world, new_pod(world, deployment));
        }
    }

    if recreate {
        end_all(&old);
        return Ok(());
    }
    let (good, bad): (Vec<_>, Vec<_>) = old.into_iter().partition(|pod| pod.is_available(settle));
    end_all(&bad);
    let available = good.len() + new.iter().filter(|pod| pod.is_available(settle)).count();
    let spare = available.saturating_sub(replicas.saturating_sub(fewer));
    end_all(&good[..spare.min(good.len())]);

    // Scaled down: the ones that are not ready first.
    let mut surplus = new.len().saturating_sub(replicas);
    let mut new = new;
    new.sort_by_key(|pod| pod.is_ready());
    for pod in new {
        if surplus > 0 {
            pod.end(Ending::Graceful);
            surplus -= 1;
        }
    }
    Ok(())
}

fn end_all(pods: &[&&Arc<Pod>]) {
    for pod in pods {
        pod.end(Ending::Graceful);
    }
}

/// A number, or a percentage of the replicas; 25 % where nothing is said.
fn share(value: &Value, replicas: usize, up: bool) -> usize {
    let percent = match value {
        Value::Number(number) => {
            return number
                .as_u64()
                .and_then(|number| number.try_into().ok())
                .unwrap_or(0);
        }
        Value::String(text) => text.trim_end_matches('%').parse().unwrap_or(25),
        _ => 25,
    };
    if up {
        (replicas * percent).div_ceil(100)
    } else {
        replicas * percent / 100
    }
}

fn new_pod(world: &World, deployment: &Workload<'_>) -> Pod {
    let hash = format!("{:010x}", deployment.revision & 0xff_ffff_ffff);
    let name = format!(
        "{}-{hash}-{:05x}",
        deployment.document.name(),
        world.number()
    );
    deployment.pod(world, &name, &[("pod-template-hash", hash)], None, vec![])
}
