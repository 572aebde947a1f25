//! Makes of what was applied the pods that there should be, and tells everybody where they are.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::pod::{Identity, Pod};
use super::spec::PodTemplate;
use super::world::World;
use super::{deployment, job, kubelet, policy, service, stateful};
use crate::manifests::Document;

const TICK: Duration = Duration::from_millis(50);

/// How long it takes until every node and the DNS know of a change. In a cluster it is some such time, and what relies on less
/// fails there.
const PROPAGATION: Duration = Duration::from_millis(500);

/// Starts the thread.
pub fn start(world: &Arc<World>) -> JoinHandle<()> {
    let world = Arc::clone(world);
    thread::spawn(move || {
        let mut controller = Controller {
            threads: vec![],
            jobs: BTreeMap::new(),
        };
        let mut nodes = Nodes::default();
        while !world.ended() {
            let begin = Instant::now();
            controller.tick(&world);
            nodes.tick(&world);
            sleep(TICK.saturating_sub(begin.elapsed()));
        }
        for thread in controller.threads {
            let _ = thread.join();
        }
    })
}

/// Runs the workloads.
struct Controller {
    threads: Vec<JoinHandle<()>>,
    jobs: BTreeMap<String, job::History>,
}

impl Controller {
    fn tick(&mut self, world: &Arc<World>) {
        world.bury();
        let mut workloads = Vec::new();
        for kind in ["StatefulSet", "Deployment", "Job"] {
            workloads.extend(world.objects().all(kind).cloned());
        }
        for document in &workloads {
            if let Err(error) = self.reconcile(world, document) {
                world.tell(&document.to_string(), &format!("{error:#}"));
            }
        }
        // A pod whose workload was deleted goes.
        for pod in world.pods() {
            let (kind, name) = &pod.identity.owner;
            let owned = workloads.iter().any(|one| {
                one.kind() == kind
                    && one.name() == name
                    && one.namespace() == pod.identity.namespace
            });
            if !owned && !pod.is_terminating() {
                pod.end(super::Ending::Graceful);
            }
        }
    }

    fn reconcile(&mut self, world: &Arc<World>, document: &Document) -> Result<()> {
        let workload = Workload::of(world, document)?;
        let threads = &mut self.threads;
        let create = &mut |world: &Arc<World>, pod: Pod| {
            let pod = Arc::new(pod);
            world.tell(pod.name(), "created");
            world.add(Arc::clone(&pod));
            threads.push(kubelet::start(world, &pod));
        };
        match document.kind() {
            "StatefulSet" => stateful::reconcile(world, &workload, create)?,
            "Deployment" => deployment::reconcile(world, &workload, create)?,
            _ => job::reconcile(
                world,
                &workload,
                self.jobs.entry(document.name().to_owned()).or_default(),
                create,
            )?,
        }
        Ok(())
    }
}

/// Adds a pod and starts it.
pub type Create<'a> = &'a mut dyn FnMut(&Arc<World>, Pod);

/// A workload and its pods.
pub struct Workload<'a> {
    pub document: &'a Document,
    pub template: PodTemplate,
    pub revision: u64,
    pub pods: Vec<Arc<Pod>>,
}

impl<'a> Workload<'a> {
    /// Reads it.
    pub fn of(world: &World, document: &'a Document) -> Result<Self> {
        let (template, revision) = read_template(document)?;
        let pods = world.pods().into_iter().filter(|pod| {
            pod.identity.owner == (document.kind().to_owned(), document.name().to_owned())
                && pod.identity.namespace == document.namespace()
        });
        Ok(Self {
            document,
            template,
            revision,
            pods: pods.collect(),
        })
    }

    /// A number of its specification.
    pub fn number(&self, pointer: &str, default: u64) -> u64 {
        self.document.at(pointer).as_u64().unwrap_or(default)
    }

    /// A new pod of it.
    pub fn pod(
        &self,
        world: &World,
        name: &str,
        labels: &[(&str, String)],
        subdomain: Option<&str>,
        claims: Vec<String>,
    ) -> Pod {
        let number = world.number();
        let mut spec = self.template.spec.clone();
        if let Some(domain) = subdomain {
            spec.subdomain = Some(domain.to_owned());
            spec.hostname = Some(name.to_owned());
        }
        let mut all = self.template.metadata.labels.clone();
        all.extend(
            labels
                .iter()
                .map(|(key, value)| ((*key).to_owned(), value.clone())),
        );
        let identity = Identity {
            namespace: self.document.namespace().to_owned(),
            name: name.to_owned(),
            hostname: spec.hostname.clone().unwrap_or_else(|| name.to_owned()),
            number,
            labels: all,
            annotations: self.template.metadata.annotations.clone(),
            owner: (
                self.document.kind().to_owned(),
                self.document.name().to_owned(),
            ),
            revision: self.revision,
        };
        Pod::new(identity, spec, claims, world.delay(number))
    }
}

/// The template of a workload, and a number that changes with it.
pub fn read_template(document: &Document) -> Result<(PodTemplate, u64)> {
    let template = document.at("/spec/template");
    let mut hasher = DefaultHasher::new();
    template.to_string().hash(&mut hasher);
    let what = || format!("{document}: the tests do not run a pod like this");
    let template = PodTemplate::deserialize(template).with_context(what)?;
    Ok((template, hasher.finish()))
}

/// What nodes and DNS know: the truth of some time ago.
#[derive(Default)]
struct Nodes {
    known: service::View,
    rules: String,
    /// Truths on their way, by when they were made.
    coming: Vec<(Instant, service::View)>,
    failed: HashMap<String, ()>,
}

impl Nodes {
    fn tick(&mut self, world: &World) {
        let view = service::view(world);
        let last = self.coming.last().map_or(&self.known, |(_, view)| view);
        if *last != view {
            self.coming.push((Instant::now(), view));
        }
        let arrived = self
            .coming
            .iter()
            .take_while(|(at, _)| at.elapsed() >= PROPAGATION)
            .count();
        let newest = self.coming.drain(..arrived).next_back();
        if let Some((_, view)) = newest {
            if view.names != self.known.names {
                self.report(world, world.set_names(&view.names));
            }
            if view.rules != self.known.rules {
                self.report(world, world.network().nft(&view.rules));
            }
            self.known = view;
        }
        // Policies are in force before a pod starts: its address is known, and nothing is on its way to it.
        let rules = policy::rules(world);
        if rules != self.rules {
            self.report(world, world.network().nft(&rules));
            self.rules = rules;
        }
    }

    fn report(&mut self, world: &World, result: Result<()>) {
        if let Err(error) = result {
            let text = format!("{error:#}");
            if self.failed.insert(text.clone(), ()).is_none() {
                eprintln!("{text}");
                world.tell("nodes", &text);
            }
        }
    }
}
