//! A Sentinel that is none, among three that are: nobody's connection, no write and no memory is lost to it.

use anyhow::{Context, Result};
use redis_sentinel_tests::fault::Fault;
use redis_sentinel_tests::hostile::{Behaviour, Guard, Lie, Peer};
use redis_sentinel_tests::redis::Redis;
use redis_sentinel_tests::sentinel::MASTER;
use redis_sentinel_tests::trial::Trial;
use redis_sentinel_tests::wait;

/// What a hostile Sentinel may take of Envoy's memory, all its connections together: 512 KiB for a reply that never ends,
/// what V8 takes to hold it, and buffers.
const BOUND: u64 = 24 << 20;
const CLIENTS: usize = 10;

/// Three honest Sentinels that have met a hostile one, and a Redis where no client may ever be led.
struct Scene {
    trial: Trial,
    hostile: Peer,
    stranger: Redis,
}

impl Scene {
    fn start() -> Result<Self> {
        let mut trial = Trial::start()?;
        let hostile = Peer::sentinel(trial.ports.take(), Behaviour::Silent)?;
        let stranger = Redis::start(trial.ports.take(), None, trial.cluster.scratch.path())?;
        let scene = Self {
            trial,
            hostile,
            stranger,
        };
        scene.announce()?;
        Ok(scene)
    }

    /// As Sentinels make themselves known: through the master. Whoever may publish there can be a Sentinel.
    fn announce(&self) -> Result<()> {
        let (master, port) = (self.master()?, self.hostile.port);
        let hello = format!(
            "127.0.0.1,{port},{},0,{MASTER},127.0.0.1,{master},0",
            id(port)
        );
        let node = self
            .trial
            .cluster
            .redis
            .iter()
            .find(|node| node.port == master);
        node.context("no master")?
            .call(&["PUBLISH", "__sentinel__:hello", &hello])?;
        self.hostile.wait_until_met()
    }

    fn master(&self) -> Result<u16> {
        self.trial.cluster.master().context("no master")
    }

    /// The words of an honest Sentinel under a name of its own.
    fn twin(&self, lie: Lie) -> Behaviour {
        let honest = self.trial.cluster.sentinels[0].port;
        Behaviour::Relay(honest, lie.as_another(id(honest), id(self.hostile.port)))
    }

    /// A planned failover under load while the Sentinel behaves so: as if it were not there.
    fn endure(&mut self, what: &str, behaviour: Behaviour) -> Result<()> {
        let guard = Guard::of(&mut self.trial.envoy)?;
        self.hostile.become_one_of(behaviour);
        self.hostile.wait_until_met()?;
        let outcome = self.trial.fail(Fault::Planned, CLIENTS)?;
        println!(
            "{what}, met {} times, sent {}: {outcome}",
            self.hostile.met(),
            self.hostile.sent()
        );
        let log = self.trial.envoy.log();
        assert!(
            outcome.is_transparent() && outcome.lost == 0,
            "{what}: {outcome}\n{log}"
        );
        guard.check(what, &self.trial.envoy, BOUND)?;
        let led = self.stranger.call(&["DBSIZE"])?.text();
        assert_eq!(
            led.as_deref(),
            Some("0"),
            "{what}: a client wrote to the stranger"
        );
        self.trial.settle()
    }
}

/// The id that the harness gives to a Sentinel at this port.
fn id(port: u16) -> String {
    format!("{port:040x}")
}

#[test]
fn bytes_without_end() -> Result<()> {
    let mut scene = Scene::start()?;
    let push = b">3\r\n$7\r\nmessage\r\n$6\r\n+sdown\r\n$1\r\nx\r\n";
    for (what, bytes) in [
        ("a line without an end", &[b'A'; 1024][..]),
        ("replies without an end", b"+OK\r\n"),
        ("events without an end", push),
        ("lists in lists without an end", b"*1\r\n"),
    ] {
        scene.endure(what, Behaviour::Endless(bytes.to_vec()))?;
    }
    Ok(())
}

#[test]
fn bytes_that_do_not_come() -> Result<()> {
    let mut scene = Scene::start()?;
    let huge = b"*2147483647\r\n$9223372036854775807\r\n".to_vec();
    scene.endure("huge lengths", Behaviour::Once(huge))?;
    scene.endure(
        "a byte a second",
        Behaviour::Trickle(b"%2\r\n$6\r\nserver\r\n".to_vec()),
    )?;
    scene.endure("accepts and hangs", Behaviour::Silent)?;
    scene.endure("accepts and closes", Behaviour::CloseAtOnce)
}

#[test]
fn well_formed_lies() -> Result<()> {
    let mut scene = Scene::start()?;
    let (master, stranger) = (scene.master()?, scene.stranger.port);
    let lie = scene.twin(Lie::of(&[(master, stranger)]));
    scene.endure("another master's address", lie)?;

    let (master, closed) = (scene.master()?, scene.trial.ports.take());
    let lie = scene.twin(Lie::of(&[(master, closed)]));
    scene.endure("a port where nobody listens", lie)?;

    let flips = Lie {
        flips: true,
        ..Lie::of(&[(scene.master()?, stranger)])
    };
    let lie = scene.twin(flips);
    scene.endure("another answer to every question", lie)?;

    // Same run ids, other addresses: as if the honest ones had moved.
    let others = scene.trial.cluster.sentinel_ports();
    let lie = scene.twin(Lie::of(&[(others[1], closed), (others[2], closed)]));
    scene.endure("the others have moved", lie)
}

/// Events that do not concern the master in use change nothing, however many.
#[test]
fn ten_thousand_switches_a_second() -> Result<()> {
    const RATE: u32 = 10_000;
    let mut scene = Scene::start()?;
    let (stranger, nobody) = (scene.stranger.port, scene.trial.ports.take());
    let pushes = [
        switch(MASTER, stranger, nobody),
        switch(MASTER, nobody, stranger),
        switch("another", scene.master()?, stranger),
    ];
    let storm = Lie {
        pushes: Some((pushes.to_vec(), RATE)),
        ..Lie::default()
    };
    let begun = std::time::Instant::now();
    let lie = scene.twin(storm);
    scene.endure("a storm of switches", lie)?;
    let rate = scene.hostile.sent() as f64 / begun.elapsed().as_secs_f64();
    println!("{rate:.0} events a second");
    assert!(
        rate > f64::from(RATE) / 2.0,
        "no storm: {rate:.0} events a second"
    );
    wait::until_true("the proxy to answer", wait::LONG, || {
        scene.trial.answers().is_ok()
    })
}

/// A push as Sentinel writes it.
fn switch(name: &str, from: u16, to: u16) -> Vec<u8> {
    let text = format!("{name} 127.0.0.1 {from} 127.0.0.1 {to}");
    format!(
        ">3\r\n$7\r\nmessage\r\n$14\r\n+switch-master\r\n${}\r\n{text}\r\n",
        text.len()
    )
    .into_bytes()
}
