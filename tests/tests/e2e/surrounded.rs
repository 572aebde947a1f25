//! Every Sentinel hostile at once: there is nobody to believe, and still nothing that breaks.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use redis_sentinel_tests::cluster::Cluster;
use redis_sentinel_tests::envoy::Envoy;
use redis_sentinel_tests::events::Events;
use redis_sentinel_tests::fault::Fault;
use redis_sentinel_tests::hostile::{Behaviour, Guard, Lie, Peer};
use redis_sentinel_tests::ports::PortBlock;
use redis_sentinel_tests::render::Config;
use redis_sentinel_tests::resp::{Connection, Value};
use redis_sentinel_tests::sentinel::{MASTER, Sentinel};
use redis_sentinel_tests::steady::Steady;
use redis_sentinel_tests::trial::Trial;
use redis_sentinel_tests::wait;
use serde_json::json;

/// What three hostile Sentinels may take of Envoy's memory.
const BOUND: u64 = 48 << 20;
/// How soon the truth must be found again: a pause of at most a second, and a poll.
const SOON: Duration = Duration::from_secs(5);

/// Three honest Sentinels that Envoy reaches only through peers.
struct Siege {
    trial: Trial,
    peers: Vec<Peer>,
}

impl Siege {
    fn start(first: &Behaviour) -> Result<Self> {
        let mut ports = PortBlock::claim()?;
        let cluster = Cluster::start(&mut ports, 3, 3)?;
        let peers = (0..3).map(|_| Peer::server(ports.take(), first.clone()));
        let peers = peers.collect::<Result<Vec<_>>>()?;
        let seeds: Vec<_> = peers.iter().map(|peer| peer.port).collect();
        let config = Config::from_shipped("envoy/redis.yaml", &mut ports)?
            .seeds(&seeds)?
            .watch_slots(3)?
            // What the Sentinels say of each other would lead past the peers.
            .plugin("sentinel_watch", "discovered_cluster", &json!(""))
            .plugin("sentinel_watch", "epoch_reset_delay", &json!("0.5s"))
            .plugin("redis_router", "hold_timeout", &json!("1s"));
        let trial = Trial {
            events: Events::of(&cluster.sentinel_ports())?,
            envoy: Envoy::start(config, cluster.scratch.path())?,
            cluster,
            ports,
            early_switch: false,
        };
        Ok(Self { trial, peers })
    }

    fn all_become(&self, behaviour: &Behaviour) {
        for peer in &self.peers {
            peer.become_one_of(behaviour.clone());
        }
    }

    /// Each peer says what its own Sentinel says, but for the lie.
    fn all_relay(&self, lie: &Lie) {
        for (peer, sentinel) in self.peers.iter().zip(self.trial.cluster.sentinel_ports()) {
            peer.become_one_of(Behaviour::Relay(sentinel, lie.clone()));
        }
    }

    /// Honest again. Where only the seeds can be reached nobody shares them out: two slots may meet at one, and then all meet
    /// anew.
    fn wait_until_each_is_watched(&self) -> Result<()> {
        const A_WHILE: Duration = Duration::from_secs(4);
        let watched = || {
            self.trial
                .cluster
                .sentinels
                .iter()
                .all(Sentinel::is_watched)
        };
        wait::until_true("each Sentinel to be watched", 4 * wait::LONG, || {
            self.all_relay(&Lie::default());
            let begun = Instant::now();
            while !watched() && begun.elapsed() < A_WHILE {
                sleep(Duration::from_millis(50));
            }
            watched()
        })
    }

    fn master(&self) -> Result<u16> {
        self.trial.cluster.master().context("no master")
    }

    /// Waits until new connections reach the master; how long that took.
    fn wait_for_truth(&self) -> Result<Duration> {
        let (begun, master) = (Instant::now(), self.master()?);
        wait::until_true("the proxy to reach the master", wait::LONG, || {
            self.trial.answers().is_ok_and(|node| node == master)
        })
        .with_context(|| self.trial.envoy.log())?;
        Ok(begun.elapsed())
    }
}

fn ways() -> Vec<(&'static str, Behaviour)> {
    let huge = b"*2147483647\r\n$9223372036854775807\r\n".to_vec();
    vec![
        (
            "a line without an end",
            Behaviour::Endless(vec![b'A'; 1024]),
        ),
        (
            "replies without an end",
            Behaviour::Endless(b"+OK\r\n".to_vec()),
        ),
        ("lists in lists", Behaviour::Endless(b"*1\r\n".to_vec())),
        ("huge lengths", Behaviour::Once(huge)),
        (
            "a byte a second",
            Behaviour::Trickle(b"%2\r\n$6\r\nserver\r\n".to_vec()),
        ),
        ("silence", Behaviour::Silent),
        ("a close at once", Behaviour::CloseAtOnce),
    ]
}

#[test]
fn before_any_answer_clients_are_told_and_afterwards_the_last_master_stays() -> Result<()> {
    let ways = ways();
    let mut siege = Siege::start(&ways[0].1)?;
    let guard = Guard::of(&mut siege.trial.envoy)?;
    for (what, way) in &ways {
        siege.all_become(way);
        let mut client = Connection::open(siege.trial.envoy.port, wait::LONG)?;
        let reply = client.call(&["PING"])?;
        let told = matches!(&reply, Value::Error(text) if text.starts_with("MASTERDOWN "));
        assert!(told, "{what}: {reply:?}");
    }
    guard.check("hostile from the beginning", &siege.trial.envoy, BOUND)?;

    siege.all_relay(&Lie::default());
    let took = siege.wait_for_truth()?;
    println!("the truth was found after {took:?}");
    assert!(took < SOON, "{took:?}");

    let guard = Guard::of(&mut siege.trial.envoy)?;
    let steady = Steady::start(siege.trial.envoy.port, 10)?;
    for (what, way) in &ways {
        siege.all_become(way);
        let progress = steady.progress();
        sleep(Duration::from_millis(1500));
        assert!(steady.all_beyond(&progress), "{what}: a client waits");
        assert_eq!(siege.trial.envoy.ready_status(), Some(200), "{what}");
        siege
            .trial
            .assert_answered_by(siege.master()?, Duration::from_millis(100))?;
    }
    let silence = steady.stop(siege.master()?)?;
    println!("while all were hostile no client waited longer than {silence:?}");
    guard.check("hostile afterwards", &siege.trial.envoy, BOUND)?;

    siege.wait_until_each_is_watched()?;
    let outcome = siege.trial.fail(Fault::Planned, 10)?;
    println!("{outcome}");
    assert!(outcome.is_transparent() && outcome.lost == 0, "{outcome}");
    Ok(())
}

/// All Sentinels name a master that closes every connection at once: its clients get nowhere, readers do not notice.
#[test]
fn a_redis_that_closes_at_once() -> Result<()> {
    let mut siege = Siege::start(&Behaviour::Silent)?;
    siege.all_relay(&Lie::default());
    siege.wait_for_truth()?;
    let closing = Peer::server(siege.trial.ports.take(), Behaviour::CloseAtOnce)?;
    let master = siege.master()?;
    let mut reader = Connection::open(siege.trial.envoy.replicas_port, wait::LONG)?;
    reader.call(&["PING"])?;
    let guard = Guard::of(&mut siege.trial.envoy)?;
    let load = siege.trial.load(20)?;
    wait::until_true("the clients to write", wait::LONG, || {
        load.all_write_to(master)
    })?;

    siege.all_relay(&Lie::of(&[(master, closing.port)]));
    closing.wait_until_met()?;
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        reader.call(&["PING"]).context("a reader was closed")?;
        sleep(Duration::from_millis(10));
    }
    println!(
        "the closing Redis was dialled {} times in 3 s by 20 clients",
        closing.met()
    );
    // A client that is closed at once comes again after some milliseconds, as these do: Envoy dials once for each.
    assert!(closing.met() > 20, "{}", closing.met());

    siege.all_relay(&Lie::default());
    let took = siege.wait_for_truth()?;
    println!("the truth was found after {took:?}");
    assert!(took < SOON, "{took:?}");
    let records = load.stop();
    let lost: i64 = records.iter().map(|record| record.lost).sum();
    assert_eq!(lost, 0);
    guard.check("a Redis that closes at once", &siege.trial.envoy, BOUND)
}

/// All Sentinels publish, ten thousand times a second, that the master is now here and now there.
#[test]
fn switches_to_and_fro() -> Result<()> {
    const RATE: u32 = 10_000;
    let mut siege = Siege::start(&Behaviour::Silent)?;
    siege.all_relay(&Lie::default());
    siege.wait_for_truth()?;
    let master = siege.master()?;
    let replica = siege.trial.cluster.redis.iter().map(|node| node.port);
    let replica = replica
        .filter(|port| *port != master)
        .min()
        .context("no replica")?;
    let guard = Guard::of(&mut siege.trial.envoy)?;
    let load = siege.trial.load(20)?;
    wait::until_true("the clients to write", wait::LONG, || {
        load.all_write_to(master)
    })?;

    let pushes = vec![switch(master, replica), switch(replica, master)];
    siege.all_relay(&Lie {
        pushes: Some((pushes, RATE)),
        ..Lie::default()
    });
    // Round robin gives two slots the same seed now and then.
    wait::until_true("a storm", wait::LONG, || {
        siege.peers.iter().any(|peer| peer.sent() > 0)
    })?;
    let switches = || siege.trial.counter("switches_total");
    let (before, begun) = (switches()?, Instant::now());
    sleep(Duration::from_secs(3));
    let made = switches()? - before;
    let sent: u64 = siege.peers.iter().map(Peer::sent).sum();
    println!(
        "{sent} switches published in {:?}, {made} made",
        begun.elapsed()
    );
    assert!(sent > 10_000, "no storm");

    siege.all_relay(&Lie::default());
    let took = siege.wait_for_truth()?;
    println!("the truth was found after {took:?}");
    assert!(took < 2 * SOON, "{took:?}");
    wait::until_true("every client to write", wait::LONG, || {
        load.all_write_to(master)
    })?;
    load.stop();
    guard.check("switches to and fro", &siege.trial.envoy, BOUND)
}

/// A push as Sentinel writes it.
fn switch(from: u16, to: u16) -> Vec<u8> {
    let text = format!("{MASTER} 127.0.0.1 {from} 127.0.0.1 {to}");
    format!(
        ">3\r\n$7\r\nmessage\r\n$14\r\n+switch-master\r\n${}\r\n{text}\r\n",
        text.len()
    )
    .into_bytes()
}
