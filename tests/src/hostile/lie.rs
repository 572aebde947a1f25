//! A relay that changes what it relays: answers that are a Sentinel's in everything but the truth.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::behaviour::Lie;

/// How long the server must be quiet for its last reply to be complete.
const QUIET: Duration = Duration::from_millis(1);

/// Relays between `client` and the server at `port` until one of them ends.
pub(super) fn relay(
    client: TcpStream,
    port: u16,
    lie: &Lie,
    sent: &Arc<AtomicU64>,
) -> io::Result<()> {
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    server.set_nodelay(true)?;
    let subscribed = Arc::new(AtomicBool::new(false));
    let questions = Arc::new(AtomicU64::new(0));
    let (from, to) = (client.try_clone()?, server.try_clone()?);
    let (heard, asked) = (Arc::clone(&subscribed), Arc::clone(&questions));
    let upward = thread::spawn(move || {
        let _ = ask(from, &to, &heard, &asked);
        let _ = to.shutdown(Shutdown::Both);
    });
    let result = answer(server, &client, lie, &subscribed, &questions, sent);
    let _ = client.shutdown(Shutdown::Both);
    let _ = upward.join();
    result
}

/// Passes questions on, and notices which.
fn ask(
    mut from: TcpStream,
    mut to: &TcpStream,
    subscribed: &AtomicBool,
    questions: &AtomicU64,
) -> io::Result<()> {
    let mut bytes = [0; 16_384];
    loop {
        let length = from.read(&mut bytes)?;
        if length == 0 {
            return Ok(());
        }
        questions.fetch_add(1, Ordering::Relaxed);
        let subscribes = bytes[..length].windows(9).any(|word| word == b"SUBSCRIBE");
        to.write_all(&bytes[..length])?;
        if subscribes {
            subscribed.store(true, Ordering::Relaxed);
        }
    }
}

/// Passes answers on, changed; between them, what it makes up.
fn answer(
    mut from: TcpStream,
    mut to: &TcpStream,
    lie: &Lie,
    subscribed: &AtomicBool,
    questions: &AtomicU64,
    sent: &AtomicU64,
) -> io::Result<()> {
    from.set_read_timeout(Some(QUIET))?;
    let mut pace = Pace::default();
    let mut bytes = vec![0; 65_536];
    // The beginning of a line whose end has not come: a word may be in two pieces.
    let mut line = Vec::new();
    loop {
        match from.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(length) => {
                line.extend_from_slice(&bytes[..length]);
                let whole = line
                    .iter()
                    .rposition(|byte| *byte == b'\n')
                    .map_or(0, |at| at + 1);
                let mut lines: Vec<u8> = line.drain(..whole).collect();
                let lies = !lie.flips || questions.load(Ordering::Relaxed).is_multiple_of(2);
                let words = lie.words.iter().filter(|_| lies).chain(&lie.name);
                for (word, other) in words {
                    replace(&mut lines, word.as_bytes(), other.as_bytes());
                }
                to.write_all(&lines)?;
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if let Some((pushes, rate)) = &lie.pushes
                    && line.is_empty()
                    && subscribed.load(Ordering::Relaxed)
                {
                    let from = sent.load(Ordering::Relaxed);
                    let count = pace.due(*rate);
                    let next = pushes
                        .iter()
                        .cycle()
                        .skip((from % pushes.len() as u64) as usize);
                    to.write_all(&next.take(count).flatten().copied().collect::<Vec<_>>())?;
                    sent.fetch_add(count as u64, Ordering::Relaxed);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// How many are due at a rate, from the first time it is asked.
#[derive(Default)]
struct Pace {
    since: Option<Instant>,
    made: usize,
}

impl Pace {
    fn due(&mut self, rate: u32) -> usize {
        let elapsed = self.since.get_or_insert_with(Instant::now).elapsed();
        let all = (elapsed.as_secs_f64() * f64::from(rate)) as usize;
        let due = all.saturating_sub(self.made);
        self.made += due;
        due
    }
}

/// In place: both words have the same length.
fn replace(bytes: &mut [u8], word: &[u8], other: &[u8]) {
    assert_eq!(word.len(), other.len(), "RESP tells lengths beforehand");
    let places: Vec<_> = (0..bytes.len().saturating_sub(word.len() - 1))
        .filter(|at| bytes[*at..].starts_with(word))
        .collect();
    for at in places {
        bytes[at..at + word.len()].copy_from_slice(other);
    }
}
