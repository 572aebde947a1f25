//! The sharded cluster of `k8s/redis-cluster`, behind Envoy as one Redis.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use redis_sentinel_tests::net;
use redis_sentinel_tests::pods::{Client, Ending, Kube, Phase};
use redis_sentinel_tests::resp::{Connection, Value};
use redis_sentinel_tests::wait;

use crate::system::{LONG, manifests};

const KEYS: usize = 500;
const REPLY: Duration = Duration::from_secs(10);

#[test]
fn it_is_made_once_and_outlives_addresses_and_masters() {
    if net::missing() {
        return;
    }
    let cluster = Cluster::start().unwrap();
    cluster.write().unwrap();
    let members = cluster.members().unwrap();

    // The Job's script again, as after the Job is cleaned away and everything is applied once more.
    let kube = &cluster.kube;
    cluster.script("create-cluster.sh", &[]).unwrap();
    assert_eq!(cluster.members().unwrap(), members);

    // A node with a new address.
    let old = kube.pod("redis-cluster-1").unwrap();
    kube.end_pod("redis-cluster-1", Ending::Killed).unwrap();
    let new = kube.wait_for_new(&old, LONG).unwrap();
    assert_ne!(new.status().address, old.status().address);
    cluster.wait_for_keys().unwrap();

    // A master that hangs: its replica takes over, and it comes back as one.
    let master = cluster.masters().unwrap().pop_first().unwrap();
    kube.signal(&master, "redis", Signal::SIGSTOP).unwrap();
    let replaced = || {
        let masters = cluster.masters_but(&master);
        masters.is_ok_and(|masters| masters.len() == 3)
    };
    wait::until_true("a replica to take over", LONG, replaced).unwrap();
    cluster.wait_for_keys().unwrap();
    kube.signal(&master, "redis", Signal::SIGCONT).unwrap();
    let demoted = || {
        cluster
            .masters()
            .is_ok_and(|masters| !masters.contains(&master))
    };
    wait::until_true("the old master to follow", LONG, demoted).unwrap();
    cluster.wait_until_ready().unwrap();
    assert_eq!(cluster.members().unwrap(), members);
}

#[test]
fn it_grows_and_shrinks_under_its_clients() {
    if net::missing() {
        return;
    }
    let cluster = Cluster::start().unwrap();
    cluster.write().unwrap();

    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| -> Result<usize> {
            let mut rounds = 0;
            while !done.load(Ordering::Relaxed) {
                cluster.read()?;
                rounds += 1;
            }
            Ok(rounds)
        });
        let scaled = grow_and_shrink(&cluster);
        done.store(true, Ordering::Relaxed);
        scaled.unwrap();
        // Not one error in all that.
        assert!(reader.join().unwrap().unwrap() > 0);
    });
}

fn grow_and_shrink(cluster: &Cluster) -> Result<()> {
    cluster.scale(8)?;
    cluster.script("scale-up.sh", &["6", "7"])?;
    cluster.wait_until_ready()?;
    ensure!(cluster.members()?.len() == 8);
    ensure!(cluster.masters()?.contains("redis-cluster-6"));
    cluster.read()?;

    cluster.script("scale-down.sh", &["7", "6"])?;
    cluster.scale(6)?;
    cluster.wait_until_ready()?;
    ensure!(cluster.members()?.len() == 6);
    cluster.read()
}

/// The cluster, and an application.
struct Cluster {
    kube: Kube,
    app: Client,
    password: String,
}

impl Cluster {
    /// Made by its Job, and behind Envoy.
    fn start() -> Result<Self> {
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
    fn scale(&self, replicas: usize) -> Result<()> {
        let set = ("StatefulSet", "redis-cluster");
        let number = u64::try_from(replicas)?;
        self.kube.scale(set.0, "redis", set.1, number)?;
        let scaled = || self.kube.pods_of(set.0, set.1).len() == replicas;
        wait::until_true("the pods to be as many", LONG, scaled)
    }

    fn wait_until_ready(&self) -> Result<()> {
        let ready = || {
            [
                ("StatefulSet", "redis-cluster"),
                ("Deployment", "redis-cluster-proxy"),
            ]
            .iter()
            .all(|(kind, name)| {
                self.kube
                    .pods_of(kind, name)
                    .iter()
                    .all(|pod| pod.is_ready())
            })
        };
        wait::until_true("all pods to be ready", LONG, ready).with_context(|| self.kube.describe())
    }

    /// One of the scripts, in the first node.
    fn script(&self, name: &str, arguments: &[&str]) -> Result<String> {
        let script = format!("/scripts/{name}");
        let command = [&["sh", script.as_str()], arguments].concat();
        let output = self.kube.exec("redis-cluster-0", "redis", &command)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{name}: {text}{errors}");
        Ok(text)
    }

    /// One command to a node, from its own container.
    fn ask(&self, pod: &str, command: &str) -> Result<String> {
        let command = format!("REDISCLI_AUTH=$REDIS_PASSWORD redis-cli {command}");
        let output = self.kube.exec(pod, "redis", &["sh", "-c", &command])?;
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The ids of all members, as the first node knows them.
    fn members(&self) -> Result<BTreeSet<String>> {
        let nodes = self.ask("redis-cluster-0", "CLUSTER NODES")?;
        let ids = nodes.lines().filter_map(|line| line.split(' ').next());
        Ok(ids.map(str::to_owned).collect())
    }

    /// The pods that have slots, each by its own word.
    fn masters(&self) -> Result<BTreeSet<String>> {
        self.masters_but("")
    }

    fn masters_but(&self, silent: &str) -> Result<BTreeSet<String>> {
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

    fn connect(&self) -> Result<Connection> {
        let mut connection = self.app.connect("redis-cluster.redis", 6379, REPLY)?;
        match connection.call(&["AUTH", &self.password])? {
            Value::Error(text) => anyhow::bail!("{text}"),
            _ => Ok(connection),
        }
    }

    /// Keys in all slots, through Envoy.
    fn write(&self) -> Result<()> {
        let mut connection = self.connect()?;
        for key in 0..KEYS {
            let reply = connection.call(&["SET", &format!("key:{key}"), &key.to_string()])?;
            ensure!(reply == Value::Text(b"OK".to_vec()), "{key}: {reply:?}");
        }
        Ok(())
    }

    /// All of them are there.
    fn read(&self) -> Result<()> {
        let mut connection = self.connect()?;
        for key in 0..KEYS {
            let reply = connection.call(&["GET", &format!("key:{key}")])?;
            ensure!(reply.text() == Some(key.to_string()), "{key}: {reply:?}");
        }
        Ok(())
    }

    fn wait_for_keys(&self) -> Result<()> {
        let mut last = Ok(());
        let outcome = wait::until_true("all keys", LONG, || {
            last = self.read();
            last.is_ok()
        });
        outcome.with_context(|| format!("{last:?}"))
    }
}
