//! The cluster and its application, as the tests use them.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use redis_sentinel_tests::pods::{Client, Ending, Kube, Phase};
use redis_sentinel_tests::resp::{Connection, Value};
use redis_sentinel_tests::wait;

use crate::system::{LONG, manifests};

pub const NODES: (&str, &str) = ("StatefulSet", "redis-cluster");
pub const PROXIES: (&str, &str) = ("Deployment", "redis-cluster-proxy");
const KEYS: usize = 500;
const REPLY: Duration = Duration::from_secs(10);

/// The cluster, and an application.
pub struct Cluster {
    pub kube: Kube,
    app: Client,
    password: String,
}

impl Cluster {
    /// Made by its Job, and behind Envoy.
    pub fn start() -> Result<Self> {
        let kube = Kube::new()?;
        let app = kube.client("app", "shop", &[("redis-client", "true")])?;
        kube.apply(manifests(&["redis-cluster", "passwords"])?)?;
        let objects = kube.world().objects();
        let data = objects.data("Secret", "redis", "redis-passwords")?;
        drop(objects);
        let password = data.and_then(|mut data| data.remove("redis-password"));
        let cluster = Self {
            kube,
            app,
            password: String::from_utf8(password.context("no password")?)?,
        };
        cluster.wait_for_job()?;
        cluster.wait_until_ready()?;
        // The Service hears of ready pods a moment later.
        wait::until_true("Envoy", LONG, || cluster.connect().is_ok())?;
        Ok(cluster)
    }

    fn wait_for_job(&self) -> Result<()> {
        let done = || {
            let pods = self.kube.pods_of("Job", "redis-cluster-create");
            pods.iter()
                .any(|pod| pod.status().phase == Phase::Succeeded)
        };
        wait::until_true("the Job to be done", LONG, done).with_context(|| self.kube.describe())
    }

    /// `kubectl scale`, until there are that many pods.
    pub fn scale(&self, replicas: usize) -> Result<()> {
        let number = u64::try_from(replicas)?;
        self.kube.scale(NODES.0, "redis", NODES.1, number)?;
        let scaled = || self.kube.pods_of(NODES.0, NODES.1).len() == replicas;
        wait::until_true("the pods to be as many", LONG, scaled)
    }

    pub fn wait_until_ready(&self) -> Result<()> {
        let ready = || {
            [NODES, PROXIES].iter().all(|(kind, name)| {
                let pods = self.kube.pods_of(kind, name);
                pods.iter().all(|pod| pod.is_ready())
            })
        };
        wait::until_true("all pods to be ready", LONG, ready).with_context(|| self.kube.describe())
    }

    /// Kills all pods of these workloads at once, and waits until the new ones are the same cluster, with every key.
    pub fn replace(&self, workloads: &[(&str, &str)], members: &BTreeSet<String>) -> Result<()> {
        self.wait_until_written()?;
        let begin = Instant::now();
        let pods = workloads.iter().map(|one| self.kube.pods_of(one.0, one.1));
        let old: Vec<_> = pods.flatten().collect();
        for pod in &old {
            pod.end(Ending::Killed);
        }
        wait::until_true("all to be gone", LONG, || {
            old.iter().all(|pod| pod.status().gone)
        })?;
        wait::until_true("six nodes", LONG, || {
            self.kube.pods_of(NODES.0, NODES.1).len() == 6
        })?;
        self.wait_until_ready()?;
        println!("ready after {:?}", begin.elapsed());
        self.wait_for_keys()?;
        println!("all keys after {:?}", begin.elapsed());
        // Each node knows all of them, at their new addresses, and nobody else.
        let outcome = wait::until_true("all nodes to know all", LONG, || {
            self.views()
                .is_ok_and(|views| views.iter().all(|view| view == &views[0]))
        });
        outcome.with_context(|| format!("{:?}", self.views()))?;
        println!("all known after {:?}", begin.elapsed());
        ensure!(&self.members()? == members);
        Ok(())
    }

    /// The addresses of the nodes' pods, in their order.
    pub fn addresses(&self) -> Vec<Ipv4Addr> {
        let pods = self.kube.pods_of(NODES.0, NODES.1);
        let addresses = pods.iter().filter_map(|pod| pod.status().address);
        addresses.collect()
    }

    /// The addresses of the pods; then of the nodes, as each node knows them.
    fn views(&self) -> Result<Vec<BTreeSet<String>>> {
        let addresses = self.addresses();
        let mut views = vec![addresses.iter().map(ToString::to_string).collect()];
        for pod in self.kube.pods_of(NODES.0, NODES.1) {
            let nodes = self.ask(pod.name(), "CLUSTER NODES")?;
            let places = nodes
                .lines()
                .filter_map(|line| line.split([' ', ':']).nth(1));
            views.push(places.map(str::to_owned).collect());
        }
        Ok(views)
    }

    /// One of the scripts, in the first node.
    pub fn script(&self, name: &str, arguments: &[&str]) -> Result<String> {
        let script = format!("/scripts/{name}");
        let command = [&["sh", script.as_str()], arguments].concat();
        let output = self.kube.exec("redis-cluster-0", "redis", &command)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{name}: {text}{errors}");
        Ok(text)
    }

    /// One command to a node, from its own container.
    pub fn ask(&self, pod: &str, command: &str) -> Result<String> {
        let command = format!("REDISCLI_AUTH=$REDIS_PASSWORD redis-cli {command}");
        let output = self.kube.exec(pod, "redis", &["sh", "-c", &command])?;
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The ids of all members, as the first node knows them.
    pub fn members(&self) -> Result<BTreeSet<String>> {
        let nodes = self.ask("redis-cluster-0", "CLUSTER NODES")?;
        let ids = nodes.lines().filter_map(|line| line.split(' ').next());
        Ok(ids.map(str::to_owned).collect())
    }

    /// The pods that have slots, each by its own word.
    pub fn masters(&self) -> Result<BTreeSet<String>> {
        self.masters_but("")
    }

    pub fn masters_but(&self, silent: &str) -> Result<BTreeSet<String>> {
        let mut masters = BTreeSet::new();
        for pod in self.kube.pods_of("StatefulSet", "redis-cluster") {
            if pod.name() != silent {
                let nodes = self.ask(pod.name(), "CLUSTER NODES")?;
                let own = nodes.lines().find(|line| line.contains("myself"));
                let fields: Vec<_> = own.context("no myself")?.split(' ').collect();
                if fields[2].contains("master") && fields.len() > 8 {
                    masters.insert(pod.name().to_owned());
                }
            }
        }
        Ok(masters)
    }

    pub fn connect(&self) -> Result<Connection> {
        let mut connection = self.app.connect("redis-cluster.redis", 6379, REPLY)?;
        match connection.call(&["AUTH", &self.password])? {
            Value::Error(text) => anyhow::bail!("{text}"),
            _ => Ok(connection),
        }
    }

    /// Keys in all slots, through Envoy.
    pub fn write(&self) -> Result<()> {
        let mut connection = self.connect()?;
        for key in 0..KEYS {
            let reply = connection.call(&["SET", &format!("key:{key}"), &key.to_string()])?;
            ensure!(reply == Value::Text(b"OK".to_vec()), "{key}: {reply:?}");
        }
        Ok(())
    }

    /// Waits until every node has written to its file what it acknowledged: while an earlier fsync lasts Redis keeps it for up to
    /// two seconds, and a master that is killed then together with its replica has lost it.
    fn wait_until_written(&self) -> Result<()> {
        wait::until_true("all files to be written", LONG, || {
            let pods = self.kube.pods_of(NODES.0, NODES.1);
            pods.iter().all(|pod| {
                let info = self.ask(pod.name(), "INFO persistence");
                info.is_ok_and(|info| info.contains("aof_buffer_length:0"))
            })
        })
    }

    /// All of them are there.
    pub fn read(&self) -> Result<()> {
        let mut connection = self.connect()?;
        for key in 0..KEYS {
            let reply = connection.call(&["GET", &format!("key:{key}")])?;
            ensure!(reply.text() == Some(key.to_string()), "{key}: {reply:?}");
        }
        Ok(())
    }

    pub fn wait_for_keys(&self) -> Result<()> {
        let mut last = Ok(());
        let outcome = wait::until_true("all keys", LONG, || {
            last = self.read();
            last.is_ok()
        });
        outcome.with_context(|| format!("{last:?}"))
    }
}
