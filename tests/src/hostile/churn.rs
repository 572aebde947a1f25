//! Clients that come and go, in every way in which one can go.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// How a connection ends.
#[derive(Clone, Copy)]
enum Way {
    /// Redis closes, asked to by `QUIT`.
    Quits,
    /// The client closes after its answer.
    Leaves,
    /// The client closes and does not wait for the answer.
    Hurries,
    /// The client closes and never said a word.
    Mute,
}

/// Redis closes most of them: who closes first keeps the port for a minute, and clients have not that many.
const WAYS: [Way; 8] = [
    Way::Quits,
    Way::Leaves,
    Way::Quits,
    Way::Hurries,
    Way::Quits,
    Way::Mute,
    Way::Quits,
    Way::Quits,
];

/// Opens and ends so many connections to 127.0.0.1:`port`, `at_once` at a time; returns how many had another answer than
/// they should.
pub fn come_and_go(port: u16, connections: u64, at_once: usize) -> u64 {
    let (next, wrong) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= connections {
                        return;
                    }
                    let way = WAYS[(number % WAYS.len() as u64) as usize];
                    if !go(port, way).unwrap_or(false) {
                        wrong.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    wrong.into_inner()
}

/// One of them; whether it was treated well.
fn go(port: u16, way: Way) -> io::Result<bool> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answer = Vec::new();
    match way {
        Way::Quits => {
            stream.write_all(b"PING\r\nQUIT\r\n")?;
            stream.read_to_end(&mut answer)?;
            Ok(answer == b"+PONG\r\n+OK\r\n")
        }
        Way::Leaves => {
            stream.write_all(b"PING\r\n")?;
            let mut answer = [0; 7];
            stream.read_exact(&mut answer)?;
            Ok(&answer == b"+PONG\r\n")
        }
        Way::Hurries => stream.write_all(b"PING\r\n").map(|()| true),
        Way::Mute => Ok(true),
    }
}
