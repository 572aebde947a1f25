//! Jobs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::controller::{Create, Workload};
use super::pod::Phase;
use super::world::World;

/// What a Job has tried.
#[derive(Default)]
pub struct History {
    failed: BTreeSet<usize>,
    succeeded: bool,
    last: Option<Instant>,
}

/// One pod after the other until one succeeds or too many have failed.
pub fn reconcile(
    world: &Arc<World>,
    job: &Workload<'_>,
    history: &mut History,
    create: Create<'_>,
) -> Result<()> {
    let limit = usize::try_from(job.number("/spec/backoffLimit", 6))?;
    let mut open = false;
    for pod in &job.pods {
        match pod.lock().phase {
            Phase::Succeeded => history.succeeded = true,
            Phase::Failed => {
                if history.failed.insert(pod.identity.number) {
                    history.last = Some(Instant::now());
                }
            }
            Phase::Pending | Phase::Running => open = true,
        }
    }
    if open || history.succeeded || history.failed.len() > limit {
        return Ok(());
    }
    // 10 s, 20 s, 40 s after a failure.
    let pause = Duration::from_secs(match history.failed.len() {
        0 => 0,
        failures => 10 << (failures - 1).min(5),
    });
    if history.last.is_none_or(|last| last.elapsed() >= pause) {
        let name = format!("{}-{:05x}", job.document.name(), world.number());
        create(
            world,
            job.pod(
                world,
                &name,
                &[("job-name", job.document.name().to_owned())],
                None,
                vec![],
            ),
        );
    }
    Ok(())
}
