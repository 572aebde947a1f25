//! Runs one pod from its first container to its end, on a thread of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};
use std::{fs, mem};

use anyhow::{Context, Result};

use super::pod::{Ending, Phase, Pod};
use super::spec::RestartPolicy;
use super::unit::{Kind, Unit};
use super::volumes::Volumes;
use super::world::World;
use crate::net::Host;

const TICK: Duration = Duration::from_millis(20);

/// How long a pod whose node is lost is still there: in life for minutes, and until somebody decides.
const LOST: Duration = Duration::from_secs(20);

/// Starts the thread.
pub fn start(world: &Arc<World>, pod: &Arc<Pod>) -> JoinHandle<()> {
    let (world, pod) = (Arc::clone(world), Arc::clone(pod));
    thread::spawn(move || {
        if let Err(error) = live(&world, &pod) {
            world.tell(pod.name(), &format!("{error:#}"));
            pod.lock().trouble = format!("{error:#}");
        }
        // A pod that cannot live is still there, until someone deletes it.
        while !world.ended() && pod.lock().ending.is_none() {
            sleep(TICK);
        }
        let mut status = pod.lock();
        status.ready = None;
        status.gone = true;
        drop(status);
        world.tell(pod.name(), "gone");
    })
}

/// What is there while a pod lives.
struct Life<'a> {
    world: &'a Arc<World>,
    pod: &'a Arc<Pod>,
    units: Vec<Unit>,
    host: Host,
}

fn live(world: &Arc<World>, pod: &Arc<Pod>) -> Result<()> {
    let begin = Instant::now();
    while begin.elapsed() < pod.delay {
        if world.ended() || pod.lock().ending.is_some() {
            return Ok(());
        }
        sleep(TICK);
    }
    let dir = world.pod_dir(&pod.identity);
    fs::create_dir_all(&dir)?;
    // A pod waits for the ConfigMaps and Secrets that it names.
    let volumes = loop {
        let made = Volumes::make(
            &pod.spec,
            &pod.identity,
            &pod.claims,
            &world.objects(),
            &dir,
            &world.claims_dir(),
        );
        match made {
            Ok(volumes) => break volumes,
            Err(error) => {
                let trouble = format!("{error:#}");
                let before = mem::replace(&mut pod.lock().trouble, trouble.clone());
                if before != trouble {
                    world.tell(pod.name(), &trouble);
                }
            }
        }
        if world.ended() || pod.lock().ending.is_some() {
            return Ok(());
        }
        fs::remove_dir_all(dir.join("volumes")).ok();
        sleep(Duration::from_millis(100));
    };
    let host = loop {
        if let Some(host) = world.host(pod.name())? {
            break host;
        }
        if world.ended() || pod.lock().ending.is_some() {
            return Ok(());
        }
        sleep(TICK);
    };
    world.write_names(&pod.spec, &pod.identity, host.address(), &dir)?;
    {
        let mut status = pod.lock();
        status.address = Some(host.address());
        status.trouble.clear();
    }
    world.tell(pod.name(), &format!("has the address {}", host.address()));
    let units = Unit::all(world, pod, &host, &volumes, &dir)?;
    let mut life = Life {
        world,
        pod,
        units,
        host,
    };
    while !world.ended() && pod.lock().ending.is_none() {
        life.tick()?;
        sleep(TICK);
    }
    life.end()
}

impl Life<'_> {
    fn tick(&mut self) -> Result<()> {
        let mut may_start = true;
        for unit in &mut self.units {
            // Init containers one after the other; then all others.
            if unit.kind != Kind::Main || may_start {
                unit.tick(&self.host, may_start)?;
            }
            may_start &= unit.lets_others_start();
        }
        self.show();
        Ok(())
    }

    /// Writes down how it is.
    fn show(&self) {
        let mains = || self.units.iter().filter(|unit| unit.kind == Kind::Main);
        let ready = self.units.iter().all(|unit| unit.is_ready());
        let ended = mains().all(|unit| unit.ended_for_good().is_some());
        let failed = |unit: &Unit| unit.ended_for_good().is_some_and(|code| code != 0);
        let init_failed = self
            .units
            .iter()
            .any(|unit| unit.kind == Kind::Init && failed(unit))
            && self.pod.spec.restart_policy == RestartPolicy::Never;
        let mut status = self.pod.lock();
        status.phase = match () {
            () if init_failed => Phase::Failed,
            () if ended && mains().any(failed) => Phase::Failed,
            () if ended => Phase::Succeeded,
            () if mains().any(Unit::was_started) => Phase::Running,
            () => Phase::Pending,
        };
        let is_ready = ready && status.phase == Phase::Running;
        if is_ready != status.ready.is_some() {
            status.ready = is_ready.then(Instant::now);
            self.world.tell(
                self.pod.name(),
                if is_ready { "ready" } else { "not ready" },
            );
        }
        for unit in &self.units {
            status
                .containers
                .insert(unit.name().to_owned(), unit.status());
        }
    }

    /// Ends it as it is to be ended.
    fn end(mut self) -> Result<()> {
        let ending = self.pod.lock().ending.unwrap_or(Ending::Killed);
        self.world
            .tell(self.pod.name(), &format!("is ended: {ending:?}"));
        if ending == Ending::Lost {
            self.world.network().unplug(&self.host).context("unplug")?;
        }
        if ending == Ending::Graceful && !self.world.ended() {
            let grace =
                Duration::from_secs(self.pod.spec.termination_grace_period_seconds.unwrap_or(30));
            let end = Instant::now() + grace;
            let pod = self.pod;
            let world = self.world;
            let hard = || world.ended() || pod.lock().ending != Some(Ending::Graceful);
            let address = self.host.address();
            let inits = self
                .units
                .iter()
                .filter(|unit| unit.kind != Kind::Main)
                .count();
            let (before, mains) = self.units.split_at_mut(inits);
            thread::scope(|scope| {
                for unit in mains {
                    scope.spawn(move || unit.stop(end, address, &hard));
                }
            });
            // Sidecars serve to the end, and go in the reverse order.
            for unit in before.iter_mut().rev() {
                unit.stop(end, address, &hard);
            }
        }
        for unit in &mut self.units {
            unit.kill();
        }
        let end = Instant::now() + LOST;
        while ending == Ending::Lost && Instant::now() < end && !self.world.ended() {
            sleep(TICK);
        }
        Ok(())
    }
}

/// Where a pod's logs are.
pub fn log_of(logs: PathBuf, pod: &Pod, container: &str) -> PathBuf {
    logs.join(format!(
        "{}-{}.{container}.log",
        pod.identity.name, pod.identity.number
    ))
}
