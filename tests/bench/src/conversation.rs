//! What one slot of a proxy says to a Sentinel, recorded from a real one, and said again by thousands.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use redis_sentinel_tests::cluster::Cluster;
use redis_sentinel_tests::envoy::Envoy;
use redis_sentinel_tests::ports::PortBlock;
use redis_sentinel_tests::render::Config;
use serde_json::json;

/// The module's `poll_interval` in `envoy/redis.yaml`: its default.
const PERIOD: Duration = Duration::from_secs(5);
/// A conversation has come to its regular part by then.
const GREETED: Duration = Duration::from_secs(2);

type Heard = Arc<Mutex<Vec<(Instant, Vec<u8>)>>>;

/// One slot's words.
pub struct Words {
    /// At first.
    pub greeting: Vec<u8>,
    /// In each period after that.
    pub poll: Vec<u8>,
}

impl Words {
    /// Listens to a proxy with a single slot.
    pub fn of(cluster: &Cluster) -> Result<Self> {
        let mut ports = PortBlock::claim()?;
        let sentinel = cluster.sentinels.first().context("no Sentinel")?.port;
        let relay = TcpListener::bind((Ipv4Addr::LOCALHOST, ports.take()))?;
        let port = relay.local_addr()?.port();
        let heard = Heard::default();
        let log = Arc::clone(&heard);
        // Ends with the process: the listener is needed by nobody else.
        thread::spawn(move || {
            for stream in relay.incoming().flatten() {
                let _ = pass_on(stream, sentinel, &log);
            }
        });
        let config = Config::from_shipped("envoy/redis.yaml", &mut ports)?
            .seeds(&[port])?
            .watch_slots(1)?
            .plugin("sentinel_watch", "discovered_cluster", &json!(""));
        let dir = cluster.scratch.file("recorded");
        std::fs::create_dir_all(&dir)?;
        let envoy = Envoy::start_with_workers(config, &dir, "1")?;
        envoy.wait_until_ready()?;
        sleep(GREETED + PERIOD + Duration::from_secs(1));
        let heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        Self::from(&heard)
    }

    fn from(heard: &[(Instant, Vec<u8>)]) -> Result<Self> {
        let begun = heard.first().context("nothing was said")?.0;
        let within = |from: Duration, to: Duration| -> Vec<u8> {
            let parts = heard
                .iter()
                .filter(|(at, _)| *at >= begun + from && *at < begun + to);
            parts.flat_map(|(_, bytes)| bytes.clone()).collect()
        };
        let words = Self {
            greeting: within(Duration::ZERO, GREETED),
            poll: within(GREETED, GREETED + PERIOD),
        };
        ensure!(!words.poll.is_empty(), "no poll in {PERIOD:?}");
        Ok(words)
    }
}

fn pass_on(client: TcpStream, sentinel: u16, heard: &Heard) -> Result<()> {
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, sentinel))?;
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    let heard = Arc::clone(heard);
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
            heard.push((Instant::now(), buffer[..length].to_vec()));
            if to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
    let (mut from, mut to) = (server, client);
    thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
    Ok(())
}

/// Many conversations with one Sentinel, on a thread of their own.
pub struct Crowd {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Crowd {
    /// Opens them, and has each say its words from then on; their polls are spread over the period.
    pub fn start(words: &Words, port: u16, size: usize) -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mut streams = Vec::with_capacity(size);
        for index in 0..size {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
            stream.write_all(&words.greeting)?;
            stream.set_nonblocking(true)?;
            epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
            streams.push(stream);
        }
        let stop = Arc::<AtomicBool>::default();
        let (ended, poll) = (Arc::clone(&stop), words.poll.clone());
        let thread = thread::spawn(move || speak(&epoll, &mut streams, &poll, &ended));
        Ok(Self { stop, thread })
    }

    /// Ends them. An error is a Sentinel that closed one.
    pub fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("panicked"))?
    }
}

fn speak(epoll: &Epoll, streams: &mut [TcpStream], poll: &[u8], stop: &AtomicBool) -> Result<()> {
    let begun = Instant::now();
    let each = PERIOD.as_secs_f64() / streams.len().max(1) as f64;
    let mut next = 0usize;
    let mut events = [EpollEvent::empty(); 512];
    let mut buffer = vec![0; 64 << 10];
    while !stop.load(Ordering::Relaxed) {
        let due = (begun.elapsed().as_secs_f64() / each) as usize;
        while next < due {
            let index = next % streams.len();
            streams[index]
                .write_all(poll)
                .context("a Sentinel does not read")?;
            next += 1;
        }
        let count = epoll.wait(&mut events, EpollTimeout::from(5u8))?;
        for event in &events[..count] {
            match streams[event.data() as usize].read(&mut buffer) {
                Ok(0) => anyhow::bail!("the Sentinel closed one of {}", streams.len()),
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error.into()),
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_is_a_greeting_and_a_period() {
        let begun = Instant::now();
        let heard: Vec<_> = [
            (0, "HELLO"),
            (300, "SUBSCRIBE"),
            (5_100, "POLL"),
            (10_100, "POLL"),
        ]
        .map(|(ms, text)| (begun + Duration::from_millis(ms), text.as_bytes().to_vec()))
        .to_vec();
        let words = Words::from(&heard).expect("words");
        assert_eq!(words.greeting, b"HELLOSUBSCRIBE");
        assert_eq!(words.poll, b"POLL");
        assert!(Words::from(&heard[..2]).is_err());
        assert!(Words::from(&[]).is_err());
    }
}
