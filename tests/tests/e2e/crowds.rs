//! Clients that are too many, send too much, or speak nonsense: they get what they asked for, the others do not notice.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use redis_sentinel_tests::hostile::Guard;
use redis_sentinel_tests::resp::{Connection, Value};
use redis_sentinel_tests::trial::Trial;
use redis_sentinel_tests::wait;
use redis_sentinel_tests::workload::Record;
use serde_json::json;

/// What one waiting connection may take of Envoy's memory: Envoy's own objects, the filter's, and the few bytes it sent.
const PER_CONNECTION: u64 = 24 << 10;

/// Has this process, and the Envoy that it starts, open as many files as wanted, or as the system lets them.
fn many_files(wanted: u64) -> Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted.max(hard)).is_ok() {
        return Ok(wanted);
    }
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

/// How the crowd's connections ended.
#[derive(Default, Debug)]
struct Crowd {
    answered: usize,
    told: usize,
    closed: usize,
}

#[test]
fn ten_thousand_connections_while_held() -> Result<()> {
    const WORKERS: usize = 2;
    const HELD: usize = 4096 * WORKERS;
    // Envoy needs two files for each that is led on, and three for each that is told why not.
    let size = match many_files(26_000)? {
        24_000.. => 10_000,
        files => usize::try_from(files.saturating_sub(2_000) / 2)?,
    };
    ensure!(size >= 1_000, "too few files may be open here");
    let mut trial = Trial::start_with_plugin("redis_router", "hold_timeout", &json!("30s"))?;
    let master = trial.cluster.master().context("no master")?;
    // Nobody to promote: the master stays away until it is continued.
    for node in trial
        .cluster
        .redis
        .iter_mut()
        .filter(|node| node.port != master)
    {
        node.process().kill();
    }
    trial
        .cluster
        .node(master)?
        .call(&["CONFIG", "SET", "maxclients", "12000"])?;
    let mut ordinary = Connection::open(trial.envoy.port, wait::LONG)?;
    ordinary.call(&["INCR", "ordinary"])?;
    trial
        .cluster
        .node(master)?
        .process()
        .signal(Signal::SIGSTOP)?;
    wait::until_true("new connections to wait", wait::LONG, || {
        trial
            .counter("master_down_total")
            .is_ok_and(|times| times > 0)
    })?;

    let guard = Guard::of(&mut trial.envoy)?;
    let begun = Instant::now();
    let mut crowd = Vec::new();
    for _ in 0..size {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, trial.envoy.port))?;
        stream.write_all(b"PING\r\n")?;
        crowd.push(stream);
    }
    let opened = begun.elapsed();
    let held = |trial: &Trial| trial.counter("held_connections");
    wait::until_true("the crowd to be held", wait::LONG, || {
        held(&trial).is_ok_and(|held| held as usize >= size.min(HELD / WORKERS))
    })?;
    println!(
        "{size} connections in {opened:?}, {} of them held",
        held(&trial)?
    );
    let grown = guard.growth()?;
    println!("{} kB for each", grown / 1024 / size as u64);

    ordinary.send(&["INCR", "ordinary"])?;
    let mut late = Connection::open(trial.envoy.replicas_port, wait::LONG)?;
    late.send(&["PING"])?;
    let continued = Instant::now();
    trial
        .cluster
        .node(master)?
        .process()
        .signal(Signal::SIGCONT)?;
    assert_eq!(ordinary.receive()?, Value::Int(2));
    println!(
        "an ordinary client was answered {:?} after the master was back",
        continued.elapsed()
    );
    assert_eq!(late.receive()?.text().as_deref(), Some("PONG"));

    let mut ends = Crowd::default();
    for mut stream in crowd {
        stream.set_read_timeout(Some(wait::LONG))?;
        let mut reply = [0; 512];
        let length = stream.read(&mut reply).unwrap_or(0);
        match &reply[..length] {
            b"+PONG\r\n" => ends.answered += 1,
            text if text.starts_with(b"-MASTERDOWN ") => ends.told += 1,
            _ => ends.closed += 1,
        }
    }
    println!(
        "{ends:?}, {:?} after the master was back",
        continued.elapsed()
    );
    assert_eq!(
        (ends.answered + ends.told, ends.closed),
        (size, 0),
        "{ends:?}"
    );
    assert!(ends.answered >= size.min(HELD / WORKERS), "{ends:?}");
    assert!(
        size < HELD || ends.told > 0,
        "the bound was not reached: {ends:?}"
    );
    assert_eq!(held(&trial)?, 0);
    guard.check(
        "ten thousand connections",
        &trial.envoy,
        size as u64 * PER_CONNECTION + (64 << 20),
    )
}

/// A client that pushes all it can while it is fenced, beside readers who are not.
#[test]
fn a_gigabyte_while_fenced() -> Result<()> {
    const VALUES: usize = 1024;
    const VALUE: usize = 1 << 20;
    let mut trial = Trial::start_with_plugin("sentinel_watch", "fence_timeout", &json!("25s"))?;
    let mut client = Connection::open(trial.envoy.port, wait::LONG)?;
    client.call(&["PING"])?;
    let mut reader = Connection::open(trial.envoy.replicas_port, wait::LONG)?;
    reader.call(&["PING"])?;
    let begun = Instant::now();
    trial.cluster.fail_over()?;
    let selected = trial.events.wait_for("+selected-slave", begun)?;
    let chosen = selected.replica()?;
    trial
        .cluster
        .node(chosen)?
        .process()
        .signal(Signal::SIGSTOP)?;
    wait::until_true("the fence", wait::LONG, || {
        trial.counter("fences_total").is_ok_and(|fences| fences > 0)
    })?;

    let guard = Guard::of(&mut trial.envoy)?;
    let mut sender = client.stream().try_clone()?;
    let writer = thread::spawn(move || {
        let head = format!("*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n${VALUE}\r\n");
        let command = [head.as_bytes(), &vec![b'v'; VALUE], b"\r\n"].concat();
        (0..VALUES).try_for_each(|_| sender.write_all(&command))
    });
    let abort = "-failover-abort-slave-timeout";
    let mut readers_turn = Duration::ZERO;
    while trial.events.first(abort, selected.at).is_none() {
        assert!(!writer.is_finished(), "a gigabyte went through a fence");
        let asked = Instant::now();
        if reader.call(&["PING"]).is_err() {
            // It read from the replica that hangs.
            reader = Connection::open(trial.envoy.replicas_port, wait::LONG)?;
        }
        readers_turn = readers_turn.max(asked.elapsed());
        sleep(Duration::from_millis(20));
    }
    guard.check("a gigabyte while fenced", &trial.envoy, 16 << 20)?;
    println!("a reader waited at most {readers_turn:?}");

    let lifted = Instant::now();
    for _ in 0..VALUES {
        assert_eq!(client.receive()?.text().as_deref(), Some("OK"));
    }
    writer.join().ok().context("the writer panicked")??;
    println!("a gigabyte in {:?} after the fence", lifted.elapsed());
    guard.check("a gigabyte after the fence", &trial.envoy, 64 << 20)
}

/// Noise of all kinds on the clients' port; the same every time.
#[test]
fn clients_that_speak_nonsense() -> Result<()> {
    const EACH: usize = 100;
    let mut trial = Trial::start()?;
    let port = trial.envoy.port;
    let master = trial.cluster.master().context("no master")?;
    let load = trial.load(10)?;
    wait::until_true("the clients to write", wait::LONG, || {
        load.all_write_to(master)
    })?;
    let guard = Guard::of(&mut trial.envoy)?;
    let mut mute = Vec::new();
    for seed in 0..EACH as u32 {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_write_timeout(Some(Duration::from_secs(5)))?;
        // Redis may have closed before the end.
        let _ = stream.write_all(&noise(seed, 100_000));
        let mut http = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        let _ = http.write_all(b"GET / HTTP/1.1\r\nHost: redis\r\n\r\n");
        let mut half = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        half.write_all(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\nhalf")?;
        mute.push((half, TcpStream::connect((Ipv4Addr::LOCALHOST, port))?));
    }
    sleep(Duration::from_secs(2));
    let records = load.stop();
    let clean = |r: &Record| r.closes.is_empty() && r.errors.is_empty() && r.timeouts.is_empty();
    assert!(records.iter().all(clean), "{records:?}");
    let gaps = records.iter().flat_map(|record| record.acks.windows(2));
    let longest = gaps
        .map(|pair| pair[1].at - pair[0].at)
        .max()
        .unwrap_or_default();
    println!("an ordinary client waited at most {longest:?}");
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    drop(mute);
    guard.check("nonsense", &trial.envoy, 64 << 20)
}

/// A linear congruential generator's upper bytes.
fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Envoy does what a callback asks for one within the other: with some thousand closes at once the VM would be lost.
#[test]
fn thousands_of_live_connections_are_switched() -> Result<()> {
    // Two files of Envoy's and one of ours for each.
    let size = match many_files(26_000)? {
        16_000.. => 5_000,
        files => usize::try_from(files.saturating_sub(1_000) / 3)?,
    };
    ensure!(size >= 1_000, "too few files may be open here");
    let mut trial = Trial::start()?;
    for node in &trial.cluster.redis {
        node.call(&["CONFIG", "SET", "maxclients", "12000"])?;
    }
    let old = trial.cluster.master().context("no master")?;
    let guard = Guard::of(&mut trial.envoy)?;
    let mut crowd = Vec::new();
    for _ in 0..size {
        let mut client = Connection::open(trial.envoy.port, wait::LONG)?;
        assert_eq!(client.call(&["PING"])?, Value::Text(b"PONG".into()));
        crowd.push(client);
    }
    trial.cluster.fail_over()?;
    let new = trial.cluster.wait_for_master_after(old)?;
    for mut client in crowd {
        let end = client.receive();
        assert!(end.is_err(), "told {end:?} instead of being closed");
    }
    let closed = trial.counter("connections_closed_by_switch_total")?;
    assert_eq!(closed, size as u64, "each once");
    let mut late = Connection::open(trial.envoy.port, wait::LONG)?;
    late.call(&["SET", "k", "v"])?;
    assert!(trial.cluster.node(new)?.is_master());
    guard.check(
        "thousands of connections switched",
        &trial.envoy,
        size as u64 * PER_CONNECTION + (64 << 20),
    )
}
