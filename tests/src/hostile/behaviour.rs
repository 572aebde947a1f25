//! What a peer does to whoever connects.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

use super::lie;

/// One kind of misbehaviour.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// Accepts, and never says a word.
    Silent,
    /// Accepts, and closes.
    CloseAtOnce,
    /// Says this once, and nothing more.
    Once(Vec<u8>),
    /// Says this again and again, as fast as the other side takes it.
    Endless(Vec<u8>),
    /// Says this, one byte a second.
    Trickle(Vec<u8>),
    /// Says what the server at this port says, word for word or nearly so.
    Relay(u16, Lie),
}

/// How a relayed server's words are changed.
#[derive(Clone, Debug, Default)]
pub struct Lie {
    /// Words and what stands in their place. Of the same length, so that RESP's lengths stay right.
    pub words: Vec<(String, String)>,
    /// Tells the truth and the lie in turn, by question.
    pub flips: bool,
    /// Its own name in the place of the server's, in the truth and in the lie.
    pub name: Option<(String, String)>,
    /// What it publishes by itself, in turn, once somebody has subscribed, and how often a second.
    pub pushes: Option<(Vec<Vec<u8>>, u32)>,
}

impl Lie {
    /// Exchanges words.
    pub fn of<T: ToString>(words: &[(T, T)]) -> Self {
        let words = words.iter().map(|(a, b)| (a.to_string(), b.to_string()));
        Self {
            words: words.collect(),
            ..Self::default()
        }
    }

    /// The same under another name than the server's.
    pub fn as_another(mut self, server: String, name: String) -> Self {
        self.name = Some((server, name));
        self
    }
}

impl Behaviour {
    /// Treats one connection so, until the other side ends it. `sent` counts bytes, or pushes.
    pub(super) fn treat(&self, mut stream: TcpStream, sent: &Arc<AtomicU64>) -> io::Result<()> {
        match self {
            Self::Silent => {}
            Self::CloseAtOnce => return stream.shutdown(Shutdown::Both),
            Self::Once(bytes) => {
                stream.write_all(bytes)?;
                sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            }
            Self::Endless(bytes) => {
                let much = bytes.repeat(65_536_usize.div_ceil(bytes.len()));
                loop {
                    stream.write_all(&much)?;
                    sent.fetch_add(much.len() as u64, Ordering::Relaxed);
                }
            }
            Self::Trickle(bytes) => {
                for byte in bytes.iter().cycle() {
                    stream.write_all(&[*byte])?;
                    sent.fetch_add(1, Ordering::Relaxed);
                    sleep(Duration::from_secs(1));
                }
            }
            Self::Relay(port, lie) => return lie::relay(stream, *port, lie, sent),
        }
        // Reads whatever comes, for as long as it comes.
        let mut bytes = [0; 4096];
        while stream.read(&mut bytes)? > 0 {}
        Ok(())
    }
}
