//! Redis, Sentinels and the proxy of `k8s/`, running, with an application beside them.

use std::time::Duration;

use anyhow::{Context, Result};
use redis_sentinel_tests::manifests::{self, Document};
use redis_sentinel_tests::pods::{Client, Kube, Load, Plan};
use redis_sentinel_tests::resp::{Connection, Value};
use redis_sentinel_tests::wait;

pub const LONG: Duration = Duration::from_secs(120);
const REPLY: Duration = Duration::from_secs(5);

/// What no program of this machine stands for.
const NOT_RUN: [&str; 1] = ["redisinsight"];

/// What `kubectl apply -k` would send, less what cannot run here.
pub fn manifests(parts: &[&str]) -> Result<Vec<Document>> {
    let mut all = Vec::new();
    for part in parts {
        all.extend(manifests::render(part)?);
    }
    all.retain(|one| one.kind() != "Deployment" || !NOT_RUN.contains(&one.name()));
    Ok(all)
}

/// The running system.
pub struct System {
    pub kube: Kube,
    /// An application's pod, allowed to use Redis.
    pub app: Client,
    pub password: String,
}

impl System {
    /// An empty cluster with an application in it.
    pub fn new() -> Result<Self> {
        let kube = Kube::new()?;
        let app = kube.client("app", "shop", &[("redis-client", "true")])?;
        Ok(Self {
            kube,
            app,
            password: String::new(),
        })
    }

    /// Redis, Sentinels and proxy, ready.
    pub fn start() -> Result<Self> {
        let mut system = Self::new()?;
        system.apply(manifests(&["passwords", "redis", "proxy"])?)?;
        system.wait_until_ready()?;
        Ok(system)
    }

    /// `kubectl apply`.
    pub fn apply(&mut self, documents: Vec<Document>) -> Result<()> {
        self.kube.apply(documents)?;
        let data = self
            .kube
            .world()
            .objects()
            .data("Secret", "redis", "redis-passwords")?;
        let password = data.and_then(|mut data| data.remove("redis-password"));
        self.password = String::from_utf8(password.context("no password")?)?;
        Ok(())
    }

    /// Waits until every pod is ready, and every Sentinel knows all that there are.
    pub fn wait_until_ready(&self) -> Result<()> {
        let outcome = wait::until_true("all pods to be ready", LONG, || self.is_ready());
        outcome.with_context(|| self.kube.describe())?;
        self.wait_until_known()?;
        // Every node hears a little later that the proxy is ready.
        wait::until_true("the Service to lead somewhere", wait::LONG, || {
            self.connect(&self.app, 6379).is_ok()
        })
    }

    fn is_ready(&self) -> bool {
        let objects = self.kube.world().objects();
        let wanted: Vec<_> = ["StatefulSet", "Deployment"]
            .iter()
            .flat_map(|kind| objects.all(kind))
            .map(|one| {
                (
                    one.kind().to_owned(),
                    one.name().to_owned(),
                    one.at("/spec/replicas").as_u64().unwrap_or(1),
                )
            })
            .collect();
        drop(objects);
        wanted.iter().all(|(kind, name, replicas)| {
            let pods = self.kube.pods_of(kind, name);
            usize::try_from(*replicas) == Ok(pods.len()) && pods.iter().all(|pod| pod.is_ready())
        })
    }

    /// Waits until every Sentinel names the same master, all its replicas and all other Sentinels, and none is down.
    pub fn wait_until_known(&self) -> Result<()> {
        let sentinels = self.kube.pods_of("StatefulSet", "sentinel").len();
        let replicas = self.kube.pods_of("StatefulSet", "redis").len() - 1;
        let outcome = wait::until_true("the Sentinels to agree", LONG, || {
            let views: Vec<_> = (0..sentinels)
                .map(|number| self.sentinel_view(&format!("sentinel-{number}")))
                .collect();
            views.iter().all(|view| {
                view.as_ref().is_some_and(|view| {
                    view.flags == "master"
                        && (view.replicas, view.others + 1) == (replicas, sentinels)
                        && Some(&view.master) == views[0].as_ref().map(|first| &first.master)
                })
            })
        });
        outcome.with_context(|| {
            let views = (0..sentinels)
                .map(|number| format!("{:?}", self.sentinel_view(&format!("sentinel-{number}"))));
            views.collect::<Vec<_>>().join("\n")
        })
    }

    /// Waits until every pod of the proxy is subscribed to every Sentinel, once: whoever leads the next failover, all hear it.
    pub fn wait_until_watched(&self) -> Result<()> {
        let sentinels = self.kube.pods_of("StatefulSet", "sentinel").len();
        let subscriptions = || -> Vec<Vec<usize>> {
            let lists = (0..sentinels).map(|number| {
                self.sentinel(&format!("sentinel-{number}"), "CLIENT LIST")
                    .unwrap_or_default()
            });
            let proxies = self.kube.pods_of("Deployment", "redis-proxy");
            let addresses = proxies.iter().filter_map(|pod| pod.status().address);
            let from: Vec<_> = addresses
                .map(|address| format!(" addr={address}:"))
                .collect();
            let count = |list: String| {
                let subscribed: Vec<_> = list
                    .lines()
                    .filter(|client| !client.contains(" sub=0 "))
                    .collect();
                let of = |from: &String| subscribed.iter().filter(|c| c.contains(from)).count();
                from.iter().map(of).collect()
            };
            lists.map(count).collect()
        };
        wait::until_true(
            "each Sentinel to be watched once by each proxy",
            LONG,
            || {
                let counts = subscriptions();
                counts.iter().flatten().all(|count| *count == 1) && !counts.concat().is_empty()
            },
        )
        .with_context(|| format!("subscriptions by Sentinel and proxy: {:?}", subscriptions()))
    }

    /// What a Sentinel says about the master.
    pub fn sentinel_view(&self, pod: &str) -> Option<View> {
        let reply = self.sentinel(pod, "SENTINEL MASTER mymaster").ok()?;
        let lines: Vec<_> = reply.lines().collect();
        let field = |name: &str| {
            let at = lines.chunks_exact(2).find(|pair| pair[0] == name)?;
            Some(at[1].to_owned())
        };
        Some(View {
            master: field("ip")?,
            flags: field("flags")?,
            epoch: field("config-epoch")?.parse().ok()?,
            replicas: field("num-slaves")?.parse().ok()?,
            others: field("num-other-sentinels")?.parse().ok()?,
        })
    }

    /// One command to a Sentinel, from its own container.
    pub fn sentinel(&self, pod: &str, command: &str) -> Result<String> {
        self.ask(
            pod,
            "sentinel",
            &format!("REDISCLI_AUTH=$SENTINEL_PASSWORD redis-cli -p 26379 {command}"),
        )
    }

    /// A planned failover, as soon as Sentinel agrees to one: `NOGOODSLAVE` until it has heard of a replica.
    pub fn fail_over(&self) -> Result<()> {
        wait::until_true("Sentinel to agree to a failover", LONG, || {
            let reply = self.sentinel("sentinel-0", "SENTINEL FAILOVER mymaster");
            reply.is_ok_and(|reply| reply == "OK")
        })
    }

    /// One command to a Redis, from its own container.
    pub fn redis(&self, pod: &str, command: &str) -> Result<String> {
        self.ask(
            pod,
            "redis",
            &format!("REDISCLI_AUTH=$REDIS_PASSWORD redis-cli {command}"),
        )
    }

    /// The output of a shell command in a container.
    pub fn ask(&self, pod: &str, container: &str, script: &str) -> Result<String> {
        let output = self.kube.exec(pod, container, &["sh", "-c", script])?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        anyhow::ensure!(
            output.status.success(),
            "{pod}: {script}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(text)
    }

    /// The pod that is master, as most Sentinels say.
    pub fn master(&self) -> Result<String> {
        let sentinels = self.kube.pods_of("StatefulSet", "sentinel").len();
        let names: Vec<_> = (0..sentinels)
            .filter_map(|number| self.sentinel_view(&format!("sentinel-{number}")))
            .map(|view| view.master)
            .collect();
        let most = names
            .iter()
            .find(|name| names.iter().filter(|other| other == name).count() * 2 > sentinels);
        let name = most.with_context(|| format!("no majority: {names:?}"))?;
        Ok(name.split('.').next().unwrap_or_default().to_owned())
    }

    /// Waits until another pod than `old` is master, and says so itself.
    pub fn wait_for_master_other_than(&self, old: &str) -> Result<String> {
        wait::until("another master", LONG, || {
            let master = self.master().ok().filter(|master| master != old)?;
            self.redis(&master, "ROLE")
                .ok()?
                .starts_with("master")
                .then_some(master)
        })
    }

    /// A connection through a Service, logged in.
    pub fn connect(&self, client: &Client, port: u16) -> Result<Connection> {
        let mut connection = client.connect("redis.redis", port, REPLY)?;
        match connection.call(&["AUTH", &self.password])? {
            Value::Error(text) => anyhow::bail!("{text}"),
            _ => Ok(connection),
        }
    }

    /// Applications that write through the Service.
    pub fn load(&self, name: &str, clients: usize) -> Load {
        Load::start(&self.app, &self.plan(name, clients))
    }

    pub fn plan(&self, name: &str, clients: usize) -> Plan {
        Plan {
            host: "redis.redis".into(),
            port: 6379,
            password: self.password.clone(),
            clients,
            pause: Duration::from_millis(10),
            patience: Duration::from_secs(30),
            name: name.into(),
            once: false,
        }
    }

    /// Waits until the writers have this many further writes acknowledged.
    pub fn wait_for_writes(&self, load: &Load, more: usize) -> Result<()> {
        let before = load.acknowledged();
        let outcome = wait::until_true("writes", LONG, || load.acknowledged() >= before + more);
        outcome.with_context(|| format!("{}\n{}", load.seen(), self.kube.describe()))
    }

    /// Containers that were started again, with how they ended: nobody should be.
    pub fn restarted(&self) -> Vec<String> {
        let pods = self.kube.world().pods();
        let bad = pods
            .iter()
            .filter(|pod| pod.status().containers.values().any(|one| one.restarts > 0));
        bad.map(|pod| pod.describe()).collect()
    }
}

/// A Sentinel's view of the master.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    pub master: String,
    pub flags: String,
    pub epoch: u64,
    pub replicas: usize,
    pub others: usize,
}
