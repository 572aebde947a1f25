//! The module itself fails: a build of it that traps at a client's word. What Envoy makes of that, by `failure_policy`.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use redis_sentinel_tests::fault::Fault;
use redis_sentinel_tests::resp::{Connection, Value};
use redis_sentinel_tests::tools;
use redis_sentinel_tests::trial::Trial;
use redis_sentinel_tests::wait;
use serde_json::json;

/// What a client says to the build of `make trap`.
const WORD: &[u8] = b"TRAP-FOR-TESTS\r\n";
/// Idle connections, on both workers.
const IDLE: usize = 60;

/// A trial with that build, under that policy.
fn start(policy: &str) -> Result<Trial> {
    let module = module()?.display().to_string();
    Trial::start_with(|config| {
        Ok(config.each(|object| {
            if object.contains_key("failure_policy") {
                object["failure_policy"] = json!(policy);
            }
            if object.contains_key("filename") {
                object["filename"] = json!(module);
            }
        }))
    })
}

fn module() -> Result<PathBuf> {
    let built = tools::root().join("target/trap/wasm32-wasip1/release/redis_sentinel_filter.wasm");
    ensure!(built.is_file(), "{} is missing: make trap", built.display());
    Ok(built)
}

fn trap(port: u16) -> Result<()> {
    let mut client = Connection::open(port, wait::LONG)?;
    client.call(&["PING"])?; // Envoy has chosen the worker, the master is dialled
    client.send_raw(WORD)?;
    Ok(())
}

/// Connections that were alive before, and what became of them.
struct Idle(Vec<TcpStream>);

impl Idle {
    fn open(port: u16) -> Result<Self> {
        let open = || -> Result<TcpStream> {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
            stream.write_all(b"PING\r\n")?;
            ensure!(stream.read(&mut [0; 64])? == 7);
            stream.set_nonblocking(true)?;
            Ok(stream)
        };
        (0..IDLE).map(|_| open()).collect::<Result<_>>().map(Self)
    }

    fn closed(&mut self) -> usize {
        let closed = |stream: &mut TcpStream| {
            let read = stream.read(&mut [0; 64]);
            !matches!(read, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
        };
        self.0
            .iter_mut()
            .map(|stream| usize::from(closed(stream)))
            .sum()
    }

    /// Whether those that are open still lead to the master.
    fn answer(&mut self) -> Result<usize> {
        let mut answers = 0;
        for stream in &mut self.0 {
            stream.set_nonblocking(false)?;
            stream.set_read_timeout(Some(wait::LONG))?;
            if stream.write_all(b"PING\r\n").is_ok() {
                answers += usize::from(matches!(stream.read(&mut [0; 64]), Ok(7)));
            }
        }
        Ok(answers)
    }
}

/// One try of a new client: what it got, and when.
struct Try {
    at: Duration,
    served: bool,
}

/// New clients, one after the other, for `time` after `begun`.
fn newcomers(port: u16, begun: Instant, time: Duration) -> Vec<Try> {
    let mut tries = Vec::new();
    while begun.elapsed() < time {
        let reply =
            Connection::open(port, Duration::from_secs(5)).and_then(|mut c| c.call(&["PING"]));
        let served = matches!(&reply, Ok(Value::Text(text)) if text == b"PONG");
        tries.push(Try {
            at: begun.elapsed(),
            served,
        });
        sleep(Duration::from_millis(5));
    }
    tries
}

/// When each of these was not served.
fn unserved(tries: &[Try]) -> Vec<Duration> {
    tries.iter().filter(|t| !t.served).map(|t| t.at).collect()
}

/// Whether the module has asked every Sentinel something since then: a VM that trapped asks nothing any more.
fn all_asked_since(trial: &Trial, then: Instant) -> bool {
    trial.cluster.sentinels.iter().all(|sentinel| {
        let list = sentinel
            .call(&["CLIENT", "LIST"])
            .ok()
            .and_then(|list| list.text());
        let list = list.unwrap_or_default();
        let mut ours = list
            .lines()
            .filter(|line| line.contains("name=envoy-redis-sentinel "));
        ours.any(|line| {
            let idle = line
                .split(' ')
                .find_map(|word| word.strip_prefix("idle=")?.parse().ok());
            // Redis counts whole seconds.
            idle.is_some_and(|idle: u64| Duration::from_secs(idle + 1) < then.elapsed())
        })
    })
}

/// New clients do not notice. Live ones of that worker are closed when they or Redis say the next word.
#[test]
fn a_trap_is_mended_by_a_reload() -> Result<()> {
    let mut trial = start("FAIL_RELOAD")?;
    let port = trial.envoy.port;
    let mut idle = Idle::open(port)?;
    let begun = Instant::now();
    let tries = thread::spawn(move || newcomers(port, begun, Duration::from_secs(4)));
    sleep(Duration::from_millis(500));
    let trapped = Instant::now();
    trap(port)?;
    let tries = tries.join().ok().context("panicked")?;
    let failed = unserved(&tries);
    println!(
        "{} of {} new clients were not served: {failed:?}",
        failed.len(),
        tries.len()
    );
    assert!(tries.len() > 100 && failed.len() <= 2, "{failed:?}");
    let reloads: u64 = trial.envoy.stats("vm_reload_success")?.into_values().sum();
    assert!(reloads > 0, "nothing trapped\n{}", trial.envoy.log());

    let (at_once, answer) = (idle.closed(), idle.answer()?);
    println!(
        "{at_once} of {IDLE} idle clients were closed at once, {answer} were answered afterwards"
    );
    assert!(answer > 0, "the other worker's clients were closed");
    assert!(
        answer < IDLE,
        "a client of the trapped worker was served without the module"
    );

    // The health checker gives up a heartbeat that nobody answers after its timeout of 10 s.
    wait::until_true("the watch to be whole again", wait::LONG, || {
        all_asked_since(&trial, trapped)
    })?;
    println!(
        "the watch was whole again {:?} after the trap",
        trapped.elapsed()
    );
    let outcome = trial.fail(Fault::Planned, 10)?;
    println!("{outcome}");
    assert!(
        outcome.is_transparent() && outcome.lost == 0,
        "{outcome}\n{}",
        trial.envoy.log()
    );
    Ok(())
}

/// The worker never serves anybody again: why `FAIL_RELOAD` is what ships.
#[test]
fn without_a_reload_a_worker_is_lost() -> Result<()> {
    let trial = start("FAIL_CLOSED")?;
    let port = trial.envoy.port;
    trap(port)?;
    let tries = newcomers(port, Instant::now(), Duration::from_secs(3));
    let failed = unserved(&tries);
    println!(
        "{} of {} new clients were not served",
        failed.len(),
        tries.len()
    );
    let last = failed.last().copied().unwrap_or_default();
    assert!(
        last > Duration::from_secs(2),
        "it came back by itself: {last:?}"
    );
    assert!(failed.len() < tries.len(), "the other worker was lost too");
    Ok(())
}
