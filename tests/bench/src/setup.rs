//! Connections that ask one thing: connect, PING, close.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use redis_sentinel_tests::wait;
use serde::{Deserialize, Serialize};

use crate::contenders::{Contender, Contenders, order};
use crate::plan::Plan;
use crate::usage;

/// Clients that do so at the same time.
const AT_ONCE: usize = 4;

/// One contender, once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sample {
    /// Which round.
    pub round: usize,
    /// Who.
    pub contender: String,
    /// How many connections.
    pub connections: usize,
    /// The proxy's own CPU for one of them, in ns. Redis itself has none.
    pub cpu: Option<f64>,
    /// From the first SYN to the close, half of them took so many ns.
    pub wall: f64,
}

/// Measures it.
pub fn measure(contenders: &Contenders, plan: &Plan) -> Result<Vec<Sample>> {
    let mut samples = vec![];
    for round in 0..plan.setup_rounds {
        eprintln!("setup: round {} of {}", round + 1, plan.setup_rounds);
        for contender in order(contenders.all(), round) {
            ensure!(!wait::interrupted(), "interrupted");
            samples.push(sample(contender, round, plan.setup_connections)?);
        }
    }
    Ok(samples)
}

fn sample(contender: &Contender, round: usize, connections: usize) -> Result<Sample> {
    let before = usage::cpu(&contender.pids)?;
    let mut walls = come_and_go(contender.port, connections).context(contender.name)?;
    sleep(Duration::from_millis(50)); // until the last ones are taken down
    let used = usage::cpu(&contender.pids)?.saturating_sub(before);
    walls.sort_unstable();
    Ok(Sample {
        round,
        contender: contender.name.to_owned(),
        connections,
        cpu: (!contender.pids.is_empty()).then_some(used.as_nanos() as f64 / connections as f64),
        wall: walls[walls.len() / 2].as_nanos() as f64,
    })
}

fn come_and_go(port: u16, connections: usize) -> Result<Vec<Duration>> {
    let next = AtomicUsize::new(0);
    let client = || {
        let mut walls = vec![];
        while next.fetch_add(1, Ordering::Relaxed) < connections {
            walls.push(once(port)?);
        }
        Ok(walls)
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(client)).collect();
        let mut walls = vec![];
        for client in clients {
            let theirs: Result<Vec<Duration>> = client.join().map_err(|_| anyhow!("panicked"))?;
            walls.extend(theirs?);
        }
        Ok(walls)
    })
}

fn once(port: u16) -> Result<Duration> {
    let begun = Instant::now();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(wait::LONG))?;
    stream.write_all(b"*1\r\n$4\r\nPING\r\n")?;
    let mut reply = [0; 7];
    stream.read_exact(&mut reply)?;
    ensure!(&reply == b"+PONG\r\n", "an answer that is not +PONG");
    drop(stream);
    Ok(begun.elapsed())
}
