//! Strangers on the abstract sockets between Envoy's health checker and the module: any process of the network namespace
//! may connect there.

use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use redis_sentinel_tests::fault::Fault;
use redis_sentinel_tests::hostile::Guard;
use redis_sentinel_tests::sentinel::Sentinel;
use redis_sentinel_tests::trial::Trial;
use redis_sentinel_tests::wait;

const SOCKETS: [&str; 9] = [
    "watch-0",
    "watch-1",
    "watch-2",
    "watch-3",
    "watch-4",
    "role-0",
    "early-0",
    "ready",
    "masterdown",
];

fn stranger(trial: &Trial, socket: &str) -> Result<UnixStream> {
    let name = format!("{}-{socket}", trial.ports.socket_prefix());
    let stream = UnixStream::connect_addr(&SocketAddr::from_abstract_name(&name)?).context(name)?;
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    stream.set_write_timeout(Some(Duration::from_millis(100)))?;
    Ok(stream)
}

/// What they say is never passed on, and what they are not told is as much.
#[test]
fn their_words_change_nothing() -> Result<()> {
    let mut trial = Trial::start()?;
    let guard = Guard::of(&mut trial.envoy)?;
    let garbage = b"SENTINEL FAILOVER mymaster\r\n+switch-master\r\n".repeat(20_000);
    let mut strangers = Vec::new();
    for socket in SOCKETS {
        for _ in 0..10 {
            let mut stream = stranger(&trial, socket)?;
            let _ = stream.write_all(&garbage);
            let mut reply = [0; 4096];
            let length = stream.read(&mut reply).unwrap_or(0);
            let told = String::from_utf8_lossy(&reply[..length]).into_owned();
            let innocent =
                told.chars().all(|c| c == '.') || socket == "ready" || socket == "masterdown";
            assert!(innocent, "{socket} says {told}");
            strangers.push(stream);
        }
    }
    let outcome = trial.fail(Fault::Planned, 10)?;
    println!("{outcome}");
    assert!(
        outcome.is_transparent() && outcome.lost == 0,
        "{outcome}\n{}",
        trial.envoy.log()
    );
    assert_eq!(trial.counter("fences_total")?, 1, "they asked for none");
    drop(strangers);
    trial.settle()?;
    let outcome = trial.fail(Fault::Planned, 10)?;
    println!("{outcome}");
    assert!(
        outcome.is_transparent() && outcome.lost == 0,
        "{outcome}\n{}",
        trial.envoy.log()
    );
    guard.check("strangers", &trial.envoy, 48 << 20)
}

/// Connections that say nothing, and come again as soon as they are closed.
struct Squatters {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Squatters {
    fn start(names: &[String], each: usize) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let squat = |name: &String| {
            let (name, stopped) = (name.clone(), Arc::clone(&stop));
            thread::spawn(move || {
                let mut seats: Vec<Option<UnixStream>> = (0..each).map(|_| None).collect();
                while !stopped.load(Ordering::Relaxed) {
                    for seat in &mut seats {
                        let closed = |seat: &mut UnixStream| matches!(seat.read(&mut [0]), Ok(0));
                        if seat.as_mut().is_none_or(closed) {
                            *seat = squat(&name).ok();
                        }
                    }
                    sleep(Duration::from_millis(20));
                }
            })
        };
        let threads = names.iter().map(squat).collect();
        Self { stop, threads }
    }
}

impl Drop for Squatters {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn squat(name: &str) -> std::io::Result<UnixStream> {
    let stream = UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// They take every seat that there is, again and again, while the Sentinels are away for a moment.
#[test]
fn squatters_do_not_blind_the_watch() -> Result<()> {
    let mut trial = Trial::start()?;
    let guard = Guard::of(&mut trial.envoy)?;
    let prefix = trial.ports.socket_prefix();
    let names: Vec<_> = (0..5)
        .map(|slot| format!("{prefix}-watch-{slot}"))
        .collect();
    let squatters = Squatters::start(&names, 60);
    sleep(Duration::from_secs(1));
    let outcome = trial.fail(Fault::Planned, 10)?;
    println!("with squatters: {outcome}");
    trial.settle()?;
    for sentinel in &mut trial.cluster.sentinels {
        sentinel.restart()?;
    }
    let master = trial.cluster.master().context("no master")?;
    trial.cluster.wait_until_settled(master)?;
    // One that is not watched could lead the failover: nobody would be told in time to wait.
    let begun = Instant::now();
    wait::until_true("every Sentinel to be watched", wait::LONG, || {
        trial.cluster.sentinels.iter().all(Sentinel::is_watched)
    })
    .with_context(|| trial.envoy.log())?;
    println!("all watched again after {:?}", begun.elapsed());
    let outcome = trial.fail(Fault::Planned, 10)?;
    println!("after the Sentinels' restart: {outcome}");
    assert!(
        outcome.is_transparent() && outcome.lost == 0,
        "{outcome}\n{}",
        trial.envoy.log()
    );
    drop(squatters);
    guard.check("squatters", &trial.envoy, 48 << 20)
}
