//! The cluster, as a test uses it.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::process::Output;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::client::Client;
use super::controller::{self, read_template};
use super::pod::{Ending, Pod, Status};
use super::runtime;
use super::world::World;
use crate::manifests::Document;
use crate::net::Network;
use crate::scratch::Scratch;
use crate::wait;

/// A Kubernetes without Kubernetes: it runs pods of rendered manifests as processes of this machine. See the module's
/// documentation for what is real in it.
pub struct Kube {
    // Dropped in this order.
    world: Arc<World>,
    controller: Option<JoinHandle<()>>,
    _scratch: Scratch,
}

impl Kube {
    /// An empty cluster.
    pub fn new() -> Result<Self> {
        let scratch = Scratch::new()?;
        let world = Arc::new(World::new(scratch.path())?);
        let controller = Some(controller::start(&world));
        Ok(Self {
            world,
            controller,
            _scratch: scratch,
        })
    }

    /// `kubectl apply`. What the runner cannot run is an error here, and not later.
    pub fn apply(&self, documents: impl IntoIterator<Item = Document>) -> Result<()> {
        for document in documents {
            match document.kind() {
                "StatefulSet" | "Deployment" | "Job" => {
                    let (template, _) = read_template(&document)?;
                    for container in template
                        .spec
                        .init_containers
                        .iter()
                        .chain(&template.spec.containers)
                    {
                        self.world
                            .image(&container.image)
                            .with_context(|| document.to_string())?;
                    }
                }
                "DaemonSet" | "CronJob" | "Pod" | "ReplicaSet" => {
                    bail!("{document}: not a kind that the tests run")
                }
                _ => {}
            }
            self.world.tell(&document.to_string(), "applied");
            self.world.objects().apply(document);
        }
        Ok(())
    }

    /// `kubectl delete`.
    pub fn delete(&self, kind: &str, namespace: &str, name: &str) {
        self.world.objects().delete(kind, namespace, name);
    }

    /// `kubectl scale`.
    pub fn scale(&self, kind: &str, namespace: &str, name: &str, replicas: u64) -> Result<()> {
        self.world.tell(name, &format!("scaled to {replicas}"));
        self.set((kind, namespace, name), "/spec/replicas", json!(replicas))
    }

    /// `kubectl rollout restart`.
    pub fn restart(&self, kind: &str, namespace: &str, name: &str) -> Result<()> {
        self.world.tell(name, "rollout restart");
        let mark = json!(self.world.number().to_string());
        self.set(
            (kind, namespace, name),
            "/spec/template/metadata/annotations/restartedAt",
            mark,
        )
    }

    /// `kubectl patch`, of one value.
    pub fn set(&self, object: (&str, &str, &str), pointer: &str, value: Value) -> Result<()> {
        self.world.objects().set(object, pointer, value)
    }

    /// From now on new pods start after a delay of at most `longest`, by chance: as images are pulled and volumes attached.
    pub fn delay_starts(&self, seed: u64, longest: Duration) {
        self.world.delay_starts(seed, longest);
    }

    /// The next pod of that name gets this address, which may be one that another pod had: elsewhere pods get new ones only.
    pub fn give_address(&self, pod: &str, address: Ipv4Addr) {
        self.world.mean(pod, address);
    }

    /// The pods of a workload that are there, terminating ones too, by name.
    pub fn pods_of(&self, kind: &str, name: &str) -> Vec<Arc<Pod>> {
        let mut pods = self.world.pods();
        pods.retain(|pod| pod.identity.owner == (kind.to_owned(), name.to_owned()));
        pods.sort_by(|one, other| one.name().cmp(other.name()));
        pods
    }

    /// The pod of that name. While one ends and the next begins it is the newer one.
    pub fn pod(&self, name: &str) -> Result<Arc<Pod>> {
        let mut pods = self.world.pods();
        pods.retain(|pod| pod.name() == name);
        pods.pop().with_context(|| format!("no pod {name}"))
    }

    /// `kubectl rollout status`: waits until all pods of a workload are of its newest template, ready, and as many as wanted.
    pub fn wait_for(&self, kind: &str, namespace: &str, name: &str, bound: Duration) -> Result<()> {
        let outcome = wait::until_true(&format!("{kind} {name}"), bound, || {
            self.is_complete(kind, namespace, name)
        });
        outcome.with_context(|| self.describe())
    }

    /// Whether all pods of a workload are what they should be.
    pub fn is_complete(&self, kind: &str, namespace: &str, name: &str) -> bool {
        let objects = self.world.objects();
        let Some(document) = objects.get(kind, namespace, name).cloned() else {
            return false;
        };
        drop(objects);
        let wanted = document.at("/spec/replicas").as_u64().unwrap_or(1);
        let settle = document.at("/spec/minReadySeconds").as_u64().unwrap_or(0);
        let Ok((_, revision)) = read_template(&document) else {
            return false;
        };
        let pods = self.pods_of(kind, name);
        u64::try_from(pods.len()).is_ok_and(|count| count == wanted)
            && pods
                .iter()
                .all(|pod| pod.identity.revision == revision && pod.is_available(settle))
    }

    /// Deletes a pod; see [`Ending`] for the ways.
    pub fn end_pod(&self, name: &str, ending: Ending) -> Result<()> {
        self.pod(name)?.end(ending);
        Ok(())
    }

    /// Waits until a pod that was ended has come back under its name and is ready. Returns it.
    pub fn wait_for_new(&self, old: &Pod, bound: Duration) -> Result<Arc<Pod>> {
        let what = format!("a new {}", old.name());
        let new = wait::until(&what, bound, || {
            let pod = self.pod(old.name()).ok()?;
            (pod.identity.number != old.identity.number && pod.is_ready()).then_some(pod)
        });
        new.with_context(|| self.describe())
    }

    /// SIGKILL to a container's first process: its node starts it again in the same pod.
    pub fn kill_container(&self, pod: &str, container: &str) -> Result<()> {
        runtime::signal(self.pid(pod, container)?, nix::sys::signal::Signal::SIGKILL)
    }

    /// A signal to a container's first process. SIGSTOP makes a hang.
    pub fn signal(
        &self,
        pod: &str,
        container: &str,
        signal: nix::sys::signal::Signal,
    ) -> Result<()> {
        runtime::signal(self.pid(pod, container)?, signal)
    }

    fn pid(&self, pod: &str, container: &str) -> Result<i32> {
        let status: Status = self.pod(pod)?.status();
        let found = status
            .containers
            .get(container)
            .with_context(|| format!("no container {container}"))?;
        Ok(found.pid)
    }

    /// `kubectl exec`, as the container's own user.
    pub fn exec(&self, pod: &str, container: &str, command: &[&str]) -> Result<Output> {
        super::container::execute_in(
            &self.world.pod_dir(&self.pod(pod)?.identity),
            self.pid(pod, container)?,
            container,
            command,
        )
    }

    /// `kubectl logs`, of all starts of the container in this pod.
    pub fn logs(&self, pod: &Pod, container: &str) -> String {
        let file = super::kubelet::log_of(self.world.logs_dir(), pod, container);
        String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned()
    }

    /// A host with these labels that no manifest knows: whose connections are an application's.
    pub fn client(&self, name: &str, namespace: &str, labels: &[(&str, &str)]) -> Result<Client> {
        let labels = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Client::new(
            &self.world,
            name,
            namespace,
            labels.collect::<BTreeMap<_, _>>(),
        )
    }

    /// The network, to cut it.
    pub fn network(&self) -> &Network {
        self.world.network()
    }

    /// What happened so far.
    pub fn events(&self) -> String {
        fs::read_to_string(self.world.dir().join("events.log")).unwrap_or_default()
    }

    /// A line for each pod.
    pub fn describe(&self) -> String {
        let pods = self.world.pods();
        let lines: Vec<_> = pods.iter().map(|pod| pod.describe()).collect();
        lines.join("\n")
    }

    /// What was applied, and all else that the cluster's threads share.
    pub fn world(&self) -> &World {
        &self.world
    }
}

impl Drop for Kube {
    fn drop(&mut self) {
        if std::thread::panicking() || wait::in_vain() {
            eprintln!("---- the pods\n{}", self.describe());
            eprintln!(
                "---- the end of what happened\n{}",
                tail(&self.events(), 60)
            );
            for pod in self.world.pods() {
                for container in pod.spec.init_containers.iter().chain(&pod.spec.containers) {
                    let log = self.logs(&pod, &container.name);
                    eprintln!("---- {} {}\n{}", pod.name(), container.name, tail(&log, 12));
                }
            }
        }
        self.world.end();
        if let Some(thread) = self.controller.take() {
            let _ = thread.join();
        }
    }
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
