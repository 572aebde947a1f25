//! A pod: who it is, and how it is.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::spec::{PodSpec, Port};

/// What of a pod never changes.
pub struct Identity {
    /// Its namespace.
    pub namespace: String,
    /// Its name, which a later pod of a StatefulSet has again.
    pub name: String,
    /// Its own name for itself.
    pub hostname: String,
    /// Counts all pods: one that comes back under its name is another one.
    pub number: usize,
    /// Its labels, those of its workload included.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Kind and name of the workload that it belongs to.
    pub owner: (String, String),
    /// Of the workload's template.
    pub revision: u64,
}

impl Identity {
    /// Shaped as Kubernetes' own.
    pub fn uid(&self) -> String {
        format!("00000000-0000-4000-8000-{:012}", self.number)
    }
}

/// A pod, as the API server would show it. The threads that run it and those that look at it share this.
pub struct Pod {
    /// Who it is.
    pub identity: Identity,
    /// What it is to run.
    pub spec: PodSpec,
    /// Names of the volumeClaimTemplates.
    pub claims: Vec<String>,
    /// How long its images are "pulled".
    pub delay: Duration,
    status: Mutex<Status>,
}

/// How a pod is.
#[derive(Clone, Default)]
pub struct Status {
    /// Where it is in its life.
    pub phase: Phase,
    /// Its address, once it has one.
    pub address: Option<Ipv4Addr>,
    /// Since when all its containers are ready.
    pub ready: Option<Instant>,
    /// Since when it is to end.
    pub terminating: Option<Instant>,
    /// How it is to end, if it is to.
    pub ending: Option<Ending>,
    /// Its containers by their names.
    pub containers: BTreeMap<String, ContainerStatus>,
    /// Why it does not get on.
    pub trouble: String,
    /// Nothing of it is left.
    pub gone: bool,
}

/// As Kubernetes names it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Not everything of it has been started.
    #[default]
    Pending,
    /// Its containers were started.
    Running,
    /// They ended well, for good.
    Succeeded,
    /// They ended, not all of them well.
    Failed,
}

/// The ways in which a pod goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// Deleted: preStop hooks, SIGTERM, and SIGKILL after its own grace period.
    Graceful,
    /// SIGKILL to all its processes; others see their connections end.
    Killed,
    /// Its node has lost power: silence at once. For 20 s the cluster still counts it, then someone deletes it by force.
    Lost,
}

/// How a container is.
#[derive(Clone, Default)]
pub struct ContainerStatus {
    /// Its first process, as this machine counts; 0 while it does not run.
    pub pid: i32,
    /// Whether its readiness probe says so.
    pub ready: bool,
    /// How often it was started again.
    pub restarts: u32,
    /// How it ended last.
    pub last: String,
}

impl Pod {
    /// A pod that nobody runs yet.
    pub fn new(identity: Identity, spec: PodSpec, claims: Vec<String>, delay: Duration) -> Self {
        Self {
            identity,
            spec,
            claims,
            delay,
            status: Mutex::default(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.identity.name
    }

    /// Its status, to change it.
    pub fn lock(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its status.
    pub fn status(&self) -> Status {
        self.lock().clone()
    }

    /// Whether it is ready and is to stay.
    pub fn is_ready(&self) -> bool {
        let status = self.lock();
        status.ready.is_some() && status.terminating.is_none()
    }

    /// Whether it has been ready for that long.
    pub fn is_available(&self, seconds: u64) -> bool {
        let status = self.lock();
        let long = |since: Instant| since.elapsed() >= Duration::from_secs(seconds);
        status.terminating.is_none() && status.ready.is_some_and(long)
    }

    /// Whether it is to end, or has.
    pub fn is_terminating(&self) -> bool {
        self.lock().terminating.is_some()
    }

    /// Begins its end, or makes it a harder one.
    pub fn end(&self, ending: Ending) {
        let mut status = self.lock();
        status.terminating.get_or_insert_with(Instant::now);
        if status.ending.is_none() || ending != Ending::Graceful {
            status.ending = Some(ending);
        }
    }

    /// The number of a port that may be written as a name.
    pub fn port(&self, port: &Port) -> Option<u16> {
        port.number(
            self.spec
                .init_containers
                .iter()
                .chain(&self.spec.containers),
        )
    }

    /// A line about it, for people.
    pub fn describe(&self) -> String {
        let status = self.lock();
        let mut line = format!(
            "{}/{} {:?}{}{} {}",
            self.identity.namespace,
            self.identity.name,
            status.phase,
            if status.ready.is_some() { " ready" } else { "" },
            if status.terminating.is_some() {
                " terminating"
            } else {
                ""
            },
            status
                .address
                .map_or_else(|| "-".into(), |address| address.to_string()),
        );
        for (name, container) in &status.containers {
            if container.restarts > 0 || !container.last.is_empty() {
                line += &format!(
                    "; {name}: {} restarts, {}",
                    container.restarts, container.last
                );
            }
        }
        if !status.trouble.is_empty() {
            line += &format!("; {}", status.trouble);
        }
        line
    }
}
