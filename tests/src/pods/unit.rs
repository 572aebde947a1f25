//! One container of a pod through all its restarts.

use std::fs::File;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::container::{Running, Setup};
use super::env;
use super::hook::perform;
use super::image::Image;
use super::kubelet::log_of;
use super::pod::{ContainerStatus, Pod};
use super::probe::{Place, Prober, Verdict};
use super::rootfs::Mount;
use super::spec::{Container, RestartPolicy};
use super::volumes::Volumes;
use super::world::World;
use crate::net::Host;

/// The first restart is at once, the second after this, each further one after twice as long.
const BACKOFF: Duration = Duration::from_secs(10);
const LONGEST_BACKOFF: Duration = Duration::from_secs(300);

/// When a container runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// To its end before the next one starts.
    Init,
    /// From its turn among the init containers to the pod's end.
    Sidecar,
    /// After all of those.
    Main,
}

enum State {
    Waiting(Instant),
    Running(Box<Alive>),
    Ended(i32),
}

struct Alive {
    running: Running,
    startup: Option<Prober>,
    readiness: Option<Prober>,
    liveness: Option<Prober>,
    started: bool,
    ready: bool,
}

/// A container, running or not.
pub struct Unit {
    pub kind: Kind,
    world: Arc<World>,
    pod: Arc<Pod>,
    container: Container,
    image: Image,
    mounts: Vec<Mount>,
    dir: PathBuf,
    log: PathBuf,
    state: State,
    starts: u32,
    backoff: Duration,
    last: String,
}

impl Unit {
    /// The containers of a pod, init containers first.
    pub fn all(
        world: &Arc<World>,
        pod: &Arc<Pod>,
        _host: &Host,
        volumes: &Volumes,
        dir: &Path,
    ) -> Result<Vec<Self>> {
        let init = pod.spec.init_containers.iter().map(|container| {
            let sidecar = container.restart_policy == Some(RestartPolicy::Always);
            (container, if sidecar { Kind::Sidecar } else { Kind::Init })
        });
        let main = pod
            .spec
            .containers
            .iter()
            .map(|container| (container, Kind::Main));
        let units = init.chain(main).map(|(container, kind)| {
            Ok(Self {
                kind,
                world: Arc::clone(world),
                pod: Arc::clone(pod),
                image: world.image(&container.image)?,
                mounts: volumes.mounts(container)?,
                dir: dir.to_owned(),
                log: log_of(world.logs_dir(), pod, &container.name),
                container: container.clone(),
                state: State::Waiting(Instant::now()),
                starts: 0,
                backoff: Duration::ZERO,
                last: String::new(),
            })
        });
        units.collect()
    }

    /// Its name in the pod.
    pub fn name(&self) -> &str {
        &self.container.name
    }

    /// Whether what comes after it may start.
    pub fn lets_others_start(&self) -> bool {
        match (&self.state, self.kind) {
            (State::Ended(0), Kind::Init) => true,
            (State::Running(alive), Kind::Sidecar) => alive.started,
            (_, Kind::Main) => true,
            _ => false,
        }
    }

    /// Whether it does not keep the pod from being ready.
    pub fn is_ready(&self) -> bool {
        match (&self.state, self.kind) {
            (State::Ended(0), Kind::Init) => true,
            (State::Running(alive), Kind::Sidecar | Kind::Main) => alive.ready,
            _ => false,
        }
    }

    /// With which code it ended, if it is not started again.
    pub fn ended_for_good(&self) -> Option<i32> {
        match self.state {
            State::Ended(code) => Some(code),
            _ => None,
        }
    }

    /// Whether it ran at all.
    pub fn was_started(&self) -> bool {
        self.starts > 0
    }

    /// For those who look at the pod.
    pub fn status(&self) -> ContainerStatus {
        let alive = match &self.state {
            State::Running(alive) => Some(alive),
            _ => None,
        };
        ContainerStatus {
            pid: alive.map_or(0, |alive| alive.running.pid()),
            ready: alive.is_some_and(|alive| alive.ready),
            restarts: self.starts.saturating_sub(1),
            last: self.last.clone(),
        }
    }

    /// Starts it, sees it end, probes it.
    pub fn tick(&mut self, host: &Host, may_start: bool) -> Result<()> {
        match &mut self.state {
            State::Waiting(due) if may_start && Instant::now() >= *due => {
                if let Err(error) = self.start(host) {
                    self.stopped(&format!("{error:#}"), 128);
                }
            }
            State::Running(alive) => {
                if let Some(status) = alive.running.exited() {
                    self.stopped(&status.to_string(), status.code().unwrap_or(128));
                } else if let Some(complaint) = self.probe(host)? {
                    self.note(&format!("liveness: {complaint}"));
                    let grace = self.pod.spec.termination_grace_period_seconds.unwrap_or(30);
                    self.stop(
                        Instant::now() + Duration::from_secs(grace),
                        host.address(),
                        &|| false,
                    );
                    self.stopped(&format!("not alive: {complaint}"), 137);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn start(&mut self, host: &Host) -> Result<()> {
        let services = self.world.service_links(&self.pod.identity.namespace);
        let objects = self.world.objects();
        let (spec, identity) = (&self.pod.spec, &self.pod.identity);
        let env = env::resolve(
            &self.container,
            spec,
            identity,
            host.address(),
            &objects,
            &services,
        )?;
        drop(objects);
        self.starts += 1;
        self.note(&format!("container {} starts", self.container.name));
        let running = Running::start(Setup {
            host,
            hostname: &identity.hostname,
            spec,
            container: &self.container,
            image: &self.image,
            env,
            mounts: self.mounts.clone(),
            dir: &self.dir,
            log: self.log.clone(),
        })?;
        if let Some(action) = &self.container.lifecycle.post_start {
            perform(
                action,
                &self.container,
                &running,
                host.address(),
                Instant::now() + Duration::from_secs(60),
                &|| false,
            )
            .context("postStart")?;
        }
        let prober = |probe: &Option<_>| probe.as_ref().map(Prober::new).transpose();
        let startup = prober(&self.container.startup_probe)?;
        let readiness = prober(&self.container.readiness_probe)?;
        let started = startup.is_none();
        self.state = State::Running(Box::new(Alive {
            running,
            liveness: prober(&self.container.liveness_probe)?,
            started,
            ready: started && readiness.is_none(),
            startup,
            readiness,
        }));
        Ok(())
    }

    /// Why it is to be restarted, if it is.
    fn probe(&mut self, host: &Host) -> Result<Option<String>> {
        let State::Running(alive) = &mut self.state else {
            return Ok(None);
        };
        let node = self.world.network().router().clone();
        let Alive {
            running,
            startup,
            readiness,
            liveness,
            started,
            ready,
        } = &mut **alive;
        let place = Place {
            container: &self.container,
            running,
            address: host.address(),
            node: &node,
        };
        if !*started && let Some(prober) = startup {
            match prober.tick(&place)? {
                Verdict::Unknown => {}
                Verdict::Good => {
                    *started = true;
                    *ready = readiness.is_none();
                }
                Verdict::Bad => return Ok(Some(prober.complaint.clone())),
            }
            return Ok(None);
        }
        if let Some(prober) = readiness {
            let before = *ready;
            *ready = prober.tick(&place)? == Verdict::Good;
            if before && !*ready {
                let text = format!("readiness: {}", prober.complaint);
                self.world.tell(self.pod.name(), &text);
            }
        }
        if let Some(prober) = liveness
            && prober.tick(&place)? == Verdict::Bad
        {
            return Ok(Some(prober.complaint.clone()));
        }
        Ok(None)
    }

    /// It runs no more: again, or that was it.
    fn stopped(&mut self, how: &str, code: i32) {
        self.last = how.to_owned();
        self.note(&format!("container {} ended: {how}", self.container.name));
        let policy = match self.kind {
            Kind::Sidecar => RestartPolicy::Always,
            // An init container that succeeded is done, whatever the policy.
            Kind::Init if self.pod.spec.restart_policy == RestartPolicy::Always => {
                RestartPolicy::OnFailure
            }
            _ => self.pod.spec.restart_policy,
        };
        let again = match policy {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => code != 0,
            RestartPolicy::Never => false,
        };
        self.state = if again {
            let due = Instant::now() + self.backoff;
            self.backoff = (self.backoff * 2).clamp(BACKOFF, LONGEST_BACKOFF);
            State::Waiting(due)
        } else {
            State::Ended(code)
        };
    }

    /// preStop, SIGTERM, and SIGKILL at `end`. `hard` says that nobody wants to wait so long any more.
    pub fn stop(&mut self, end: Instant, address: Ipv4Addr, hard: &(dyn Fn() -> bool + Sync)) {
        let begin = Instant::now();
        if let State::Running(alive) = &self.state
            && let Some(action) = &self.container.lifecycle.pre_stop
        {
            let done = perform(action, &self.container, &alive.running, address, end, hard);
            let result = done
                .err()
                .map_or_else(|| "done".to_owned(), |error| format!("{error:#}"));
            self.note(&format!("preStop after {:?}: {result}", begin.elapsed()));
        }
        let State::Running(alive) = &mut self.state else {
            return;
        };
        // The kubelet leaves two seconds even where the hook took all the time there was.
        let end = end.max(Instant::now() + Duration::from_secs(2));
        alive.running.terminate();
        while Instant::now() < end && !hard() && alive.running.exited().is_none() {
            sleep(Duration::from_millis(10));
        }
        let by_itself = alive.running.exited().is_some();
        alive.running.kill();
        let how = if by_itself { "by itself" } else { "by SIGKILL" };
        self.note(&format!(
            "container {} ended {how} after {:?}",
            self.container.name,
            begin.elapsed()
        ));
        self.state = State::Ended(if by_itself { 0 } else { 137 });
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let State::Running(alive) = &mut self.state {
            alive.running.kill();
            self.state = State::Ended(137);
        }
    }

    /// Into the container's log, and into the cluster's.
    fn note(&self, text: &str) {
        self.world.tell(self.pod.name(), text);
        if let Ok(mut log) = File::options().create(true).append(true).open(&self.log) {
            let _ = writeln!(log, "--- {text}");
        }
    }
}
