//! The links that are cut, and for how long.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::direct::Direct;
use super::outcome::{Outcome, Seen};
use super::system::{SENTINEL_PORT, System};
use crate::net::{Host, Network};
use crate::sentinel::MASTER;
use crate::workload::{Plan, Workload};
use crate::{redis, wait};

/// Long enough for Sentinel to notice (1 s), to elect, and to promote.
const CUT: Duration = Duration::from_secs(8);
/// Clients of each kind.
const CLIENTS: usize = 10;
const PAUSE: Duration = Duration::from_millis(20);
/// How long a client waits for a reply, as many libraries do.
const TIMEOUT: Duration = Duration::from_secs(5);

/// One partition.
pub struct Case {
    /// What is cut.
    pub name: &'static str,
    /// Lines of every node's configuration.
    pub redis: &'static str,
    /// Does it, until that time. Whatever it leaves is healed afterwards.
    pub strike: fn(&Machines<'_>, Instant) -> Result<()>,
}

/// Who is who, for the cases.
pub struct Machines<'a> {
    network: &'a Network,
    proxy: &'a Host,
    master: &'a Host,
    replicas: [&'a Host; 2],
    sentinels: [&'a Host; 3],
}

impl Machines<'_> {
    /// Everybody but the proxy.
    fn servers(&self) -> Vec<&Host> {
        [&[self.master][..], &self.replicas, &self.sentinels].concat()
    }

    fn cut(&self, left: &[&Host], right: &[&Host], until: Instant) -> Result<()> {
        self.network.partition(left, right)?;
        sleep(until.saturating_duration_since(Instant::now()));
        Ok(())
    }

    /// Everything at once, where cutting link after link would take its time.
    fn unplug(&self, host: &Host, until: Instant) -> Result<()> {
        self.network.unplug(host)?;
        sleep(until.saturating_duration_since(Instant::now()));
        Ok(())
    }

    /// Nothing gets from `left` to `right`.
    fn one_way(&self, left: &[&Host], right: &[&Host], until: Instant) -> Result<()> {
        for from in left {
            for to in right {
                self.network.cut_one_way(from, to)?;
            }
        }
        sleep(until.saturating_duration_since(Instant::now()));
        Ok(())
    }

    /// Cut and healed, again and again.
    fn flap(
        &self,
        left: &[&Host],
        right: &[&Host],
        period: Duration,
        until: Instant,
    ) -> Result<()> {
        while Instant::now() < until {
            self.network.partition(left, right)?;
            sleep(period);
            self.network.heal_all()?;
            sleep(period);
        }
        Ok(())
    }

    fn lose(&self, left: &[&Host], right: &[&Host], percent: u8, until: Instant) -> Result<()> {
        for one in left {
            for other in right {
                self.network.lose(one, other, percent)?;
                self.network.lose(other, one, percent)?;
            }
        }
        sleep(until.saturating_duration_since(Instant::now()));
        Ok(())
    }
}

const GUARDED: &str = "min-replicas-to-write 1\nmin-replicas-max-lag 2";

/// All of them.
pub const CASES: &[Case] = &[
    Case {
        name: "master from the Sentinels",
        redis: "",
        strike: |m, until| m.cut(&[m.master], &m.sentinels, until),
    },
    Case {
        name: "master from all",
        redis: "",
        strike: |m, until| m.unplug(m.master, until),
    },
    Case {
        name: "master, one Sentinel and the clients from the rest",
        redis: "",
        strike: |m, until| {
            let here = [m.master, m.sentinels[0], m.proxy];
            m.cut(&here, &[&m.replicas[..], &m.sentinels[1..]].concat(), until)
        },
    },
    Case {
        name: "the same, with `min-replicas-to-write 1`",
        redis: GUARDED,
        strike: |m, until| {
            let here = [m.master, m.sentinels[0], m.proxy];
            m.cut(&here, &[&m.replicas[..], &m.sentinels[1..]].concat(), until)
        },
    },
    Case {
        name: "master and one Sentinel from the rest and the clients",
        redis: "",
        strike: |m, until| {
            let there = [&m.replicas[..], &m.sentinels[1..], &[m.proxy]].concat();
            m.cut(&[m.master, m.sentinels[0]], &there, until)
        },
    },
    Case {
        name: "clients from the master",
        redis: "",
        strike: |m, until| m.cut(&[m.proxy], &[m.master], until),
    },
    Case {
        name: "clients from the Sentinels",
        redis: "",
        strike: |m, until| m.cut(&[m.proxy], &m.sentinels, until),
    },
    Case {
        name: "clients from the Sentinels, and a planned failover meanwhile",
        redis: "",
        strike: |m, until| {
            m.network.partition(&[m.proxy], &m.sentinels)?;
            let command = ["SENTINEL", "FAILOVER", MASTER];
            m.sentinels[0].enter(|| redis::call(SENTINEL_PORT, &command))??;
            m.cut(&[], &[], until)
        },
    },
    Case {
        name: "clients from all",
        redis: "",
        strike: |m, until| m.unplug(m.proxy, until),
    },
    Case {
        name: "clients from one Sentinel",
        redis: "",
        strike: |m, until| m.cut(&[m.proxy], &m.sentinels[..1], until),
    },
    Case {
        name: "clients and the Sentinels from all Redis",
        redis: "",
        strike: |m, until| {
            let here = [&m.sentinels[..], &[m.proxy]].concat();
            m.cut(&here, &[&m.replicas[..], &[m.master]].concat(), until)
        },
    },
    Case {
        name: "master from its replicas",
        redis: "",
        strike: |m, until| m.cut(&[m.master], &m.replicas, until),
    },
    Case {
        name: "master from one Sentinel",
        redis: "",
        strike: |m, until| m.cut(&[m.master], &m.sentinels[..1], until),
    },
    Case {
        name: "one Sentinel from the others",
        redis: "",
        strike: |m, until| m.cut(&m.sentinels[..1], &m.sentinels[1..], until),
    },
    Case {
        name: "one way: the master's words to the Sentinels",
        redis: "",
        strike: |m, until| m.one_way(&[m.master], &m.sentinels, until),
    },
    Case {
        name: "one way: the master's words to the clients",
        redis: "",
        strike: |m, until| m.one_way(&[m.master], &[m.proxy], until),
    },
    Case {
        name: "one way: the clients' words to the master",
        redis: "",
        strike: |m, until| m.one_way(&[m.proxy], &[m.master], until),
    },
    Case {
        name: "one way: the Sentinels' words to the clients",
        redis: "",
        strike: |m, until| m.one_way(&m.sentinels, &[m.proxy], until),
    },
    Case {
        name: "flapping every 0.3 s: clients and master",
        redis: "",
        strike: |m, until| m.flap(&[m.proxy], &[m.master], Duration::from_millis(300), until),
    },
    Case {
        name: "flapping every 0.7 s: master and Sentinels",
        redis: "",
        strike: |m, until| m.flap(&[m.master], &m.sentinels, Duration::from_millis(700), until),
    },
    Case {
        name: "flapping every 0.7 s: master and all",
        redis: "",
        strike: |m, until| {
            let others = [&m.replicas[..], &m.sentinels, &[m.proxy]].concat();
            m.flap(&[m.master], &others, Duration::from_millis(700), until)
        },
    },
    Case {
        name: "5 % of the packets: clients and master",
        redis: "",
        strike: |m, until| m.lose(&[m.proxy], &[m.master], 5, until),
    },
    Case {
        name: "20 % of the packets: all links",
        redis: "",
        strike: |m, until| {
            m.lose(&[m.proxy], &m.servers(), 20, until)?;
            Ok(())
        },
    },
];

/// Runs one case in a network of its own.
pub fn run(case: &Case) -> Result<Outcome> {
    let network = Network::new()?;
    let proxy = network.host("proxy")?;
    // All that is started belongs to the thread that starts it: this one is on the proxy's machine until the end.
    proxy.enter(|| on_the_proxy(case, &network, &proxy))?
}

fn on_the_proxy(case: &Case, network: &Network, proxy: &Host) -> Result<Outcome> {
    let system = System::start(network, case.redis)?;
    let load = Workload::start(Plan {
        port: system.envoy.port,
        clients: CLIENTS,
        pause: PAUSE,
        timeout: TIMEOUT,
    })?;
    let direct = Direct::start(&system.sentinel_places(), CLIENTS, PAUSE, TIMEOUT)?;
    let old = system.nodes[0].port;
    wait::until_true("the clients to write", wait::LONG, || {
        let counts = |key| system.nodes[0].call(&["EXISTS", key]);
        load.all_write_to(old) && counts("direct:0").is_ok_and(|n| n.text().as_deref() == Some("1"))
    })?;
    sleep(Duration::from_secs(1));

    let machines = Machines {
        network,
        proxy,
        master: &system.nodes[0].host,
        replicas: [&system.nodes[1].host, &system.nodes[2].host],
        sentinels: [0, 1, 2].map(|index| &system.sentinels[index].host),
    };
    let struck = (case.strike)(&machines, Instant::now() + CUT);
    network.heal_all()?;
    struck?;
    let master = system.wait_until_settled()?;
    wait::until_true(
        "the proxy's clients to write to the master",
        wait::LONG,
        || load.all_write_to(master),
    )
    .with_context(|| system.envoy.log())?;
    sleep(Duration::from_secs(2)); // the others need a moment to find it, too
    let end = Instant::now();
    let (records, counted) = (load.stop(), direct.stop()?);
    let node = system.node(master)?;
    Ok(Outcome {
        case: case.name,
        moved: master != old,
        proxied: Seen::through(&records, end, node)?,
        direct: Seen::directly(&counted, node)?,
    })
}
