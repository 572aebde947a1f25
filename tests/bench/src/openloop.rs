//! Commands sent when they are due, whether or not earlier ones were answered: a proxy that stalls is charged for everybody
//! who would have waited. Each latency counts from the moment at which its command was due.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use redis_sentinel_tests::wait;

const REPLY: &[u8] = b"+OK\r\n";
/// Not counted: first connections, first pages, first guesses of the branch predictor.
const WARM_UP: Duration = Duration::from_millis(200);
/// The timer's place among the events, behind the connections'.
const TIMER: u64 = u64::MAX;

/// How much, how fast, over how many connections.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Commands per second, all connections together.
    pub per_second: u32,
    /// Connections, which take turns.
    pub connections: usize,
    /// For how long.
    pub time: Duration,
}

struct Client {
    stream: TcpStream,
    /// When the commands were due that are not answered.
    due: VecDeque<Instant>,
    /// Bytes of a reply that is not complete.
    partial: usize,
}

/// Runs it against 127.0.0.1:`port`; nanoseconds.
pub fn run(port: u16, rate: Rate, value: usize) -> Result<Histogram<u64>> {
    let mut clients = connect(port, rate.connections)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    for (index, client) in clients.iter().enumerate() {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, index as u64);
        epoll.add(&client.stream, event)?;
    }
    let period = Duration::from_secs(1) / rate.per_second;
    let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
    timer.set(
        Expiration::Interval(TimeSpec::from_duration(period)),
        TimerSetTimeFlags::empty(),
    )?;
    epoll.add(timer.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;

    let mut histogram = Histogram::new_with_max(60_000_000_000, 3)?;
    let command = command(value);
    let begun = Instant::now();
    let counted = begun + WARM_UP;
    let total = ((WARM_UP + rate.time).as_secs_f64() * f64::from(rate.per_second)) as u32;
    let (mut sent, mut answered) = (0, 0);
    let mut events = [EpollEvent::empty(); 128];
    while answered < total {
        ensure!(!wait::interrupted(), "interrupted");
        ensure!(
            begun.elapsed() < rate.time + wait::LONG,
            "{answered} of {total} commands were answered"
        );
        let count = epoll.wait(&mut events, EpollTimeout::from(100u8))?;
        while sent < total && begun + period * sent <= Instant::now() {
            let client = sent as usize % clients.len();
            clients[client].send(&command, begun + period * sent)?;
            sent += 1;
        }
        for event in &events[..count] {
            if event.data() == TIMER {
                timer.wait()?;
            } else if let Some(client) = clients.get_mut(event.data() as usize) {
                answered += client.receive(|due, at| {
                    if due >= counted {
                        histogram.saturating_record((at - due).as_nanos() as u64);
                    }
                })?;
            }
        }
    }
    Ok(histogram)
}

fn connect(port: u16, connections: usize) -> Result<Vec<Client>> {
    let connect = |_| {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Client {
            stream,
            due: VecDeque::new(),
            partial: 0,
        })
    };
    (0..connections).map(connect).collect()
}

fn command(value: usize) -> Vec<u8> {
    let value = "x".repeat(value);
    format!(
        "*3\r\n$3\r\nSET\r\n$4\r\nrate\r\n${}\r\n{value}\r\n",
        value.len()
    )
    .into_bytes()
}

impl Client {
    fn send(&mut self, command: &[u8], due: Instant) -> Result<()> {
        self.due.push_back(due);
        // A socket's buffer holds thousands of these; one that is full is a proxy that does not read.
        self.stream.write_all(command).context("cannot send")
    }

    /// Reads what there is and returns the number of replies.
    fn receive(&mut self, mut answered: impl FnMut(Instant, Instant)) -> Result<u32> {
        let mut buffer = [0; 4096];
        let length = match self.stream.read(&mut buffer) {
            Ok(0) => bail!("a connection was closed"),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        let at = Instant::now();
        let mut replies = 0;
        for &byte in &buffer[..length] {
            ensure!(byte == REPLY[self.partial], "a reply that is not +OK");
            self.partial += 1;
            if self.partial == REPLY.len() {
                self.partial = 0;
                replies += 1;
                answered(self.due.pop_front().context("a reply to nothing")?, at);
            }
        }
        Ok(replies)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Answers each command, but sleeps once.
    fn server(listener: TcpListener, length: usize, stall: Duration) {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            thread::spawn(move || {
                let mut command = vec![0; length];
                let mut count = 0;
                while stream.read_exact(&mut command).is_ok() {
                    count += 1;
                    if count == 300 {
                        thread::sleep(stall);
                    }
                    if stream.write_all(REPLY).is_err() {
                        return;
                    }
                }
            });
        }
    }

    /// A closed loop would count one slow command; here everybody counts who was due in the meantime.
    #[test]
    fn a_stall_is_charged_to_all_who_were_due() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let stall = Duration::from_millis(100);
        thread::spawn(move || server(listener, command(64).len(), stall));
        let rate = Rate {
            per_second: 1_000,
            connections: 1,
            time: Duration::from_millis(500),
        };
        let histogram = run(port, rate, 64).expect("a run");
        assert_eq!(histogram.len(), 500);
        let slow = histogram.count_between(20_000_000, 60_000_000_000);
        assert!(slow >= 70, "{slow} of some 80 were slow");
    }
}
