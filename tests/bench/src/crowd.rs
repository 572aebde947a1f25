//! Thousands of connections on one thread, each of which comes back at once when it is closed.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use redis_sentinel_tests::wait;

/// Whoever answers names itself.
const WHO: &[u8] = b"*3\r\n$6\r\nCONFIG\r\n$3\r\nGET\r\n$4\r\nport\r\n";
/// `*2`, `$4`, `port`, `$5`, `16000`: an answer is complete with the fifth line.
const LINES: usize = 5;

/// What happened to one connection, and when.
#[derive(Debug, Clone, Default)]
pub struct Story {
    /// How often it was closed by the other side.
    pub closes: usize,
    /// When it was closed last.
    pub closed: Option<Instant>,
    /// When the wanted node answered.
    pub answered: Option<Instant>,
    /// Answers that were errors, or of somebody else after a close.
    pub wrong: usize,
}

struct Client {
    stream: TcpStream,
    reply: Vec<u8>,
    story: Story,
}

/// All of them.
pub struct Crowd {
    port: u16,
    epoll: Epoll,
    clients: Vec<Client>,
}

impl Crowd {
    /// Opens them, and waits until each has an answer.
    pub fn open(port: u16, size: usize) -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mut clients = Vec::with_capacity(size);
        for index in 0..size {
            let stream = dial(port)?;
            epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
            clients.push(Client {
                stream,
                reply: vec![],
                story: Story::default(),
            });
        }
        let mut crowd = Self {
            port,
            epoll,
            clients,
        };
        crowd.run(wait::LONG, |_| true)?;
        for client in &mut crowd.clients {
            client.story = Story::default();
        }
        Ok(crowd)
    }

    /// Runs until all were answered by `node`.
    pub fn follow_to(mut self, node: u16) -> Result<Vec<Story>> {
        self.run(wait::LONG, |who| who == Some(node))?;
        Ok(self
            .clients
            .into_iter()
            .map(|client| client.story)
            .collect())
    }

    fn run(&mut self, bound: Duration, wanted: impl Fn(Option<u16>) -> bool) -> Result<()> {
        let end = Instant::now() + bound;
        let mut missing = self.clients.len();
        let mut events = [EpollEvent::empty(); 512];
        while missing > 0 {
            ensure!(!wait::interrupted(), "interrupted");
            ensure!(
                Instant::now() < end,
                "{missing} of {} connections are without an answer",
                self.clients.len()
            );
            let count = self.epoll.wait(&mut events, EpollTimeout::from(100u8))?;
            for event in &events[..count] {
                let index = event.data() as usize;
                let client = &mut self.clients[index];
                match client.read() {
                    Turn::Waits => {}
                    Turn::Answered(who) if wanted(who) => {
                        let first = client.story.answered.is_none();
                        client.story.answered = Some(Instant::now());
                        missing -= usize::from(first);
                    }
                    Turn::Answered(_) => client.story.wrong += 1,
                    Turn::Closed => {
                        client.story.closed = Some(Instant::now());
                        client.story.closes += 1;
                        self.dial_again(index)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn dial_again(&mut self, index: usize) -> Result<()> {
        let client = &mut self.clients[index];
        // Closing the old one takes it out of the epoll.
        client.stream = dial(self.port)?;
        client.reply.clear();
        let event = EpollEvent::new(EpollFlags::EPOLLIN, index as u64);
        Ok(self.epoll.add(&client.stream, event)?)
    }
}

enum Turn {
    Waits,
    Answered(Option<u16>),
    Closed,
}

impl Client {
    fn read(&mut self) -> Turn {
        let mut buffer = [0; 512];
        match self.stream.read(&mut buffer) {
            Ok(0) => Turn::Closed,
            Ok(length) => {
                self.reply.extend_from_slice(&buffer[..length]);
                match who(&self.reply) {
                    None => Turn::Waits,
                    Some(who) => {
                        self.reply.clear();
                        Turn::Answered(who)
                    }
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Turn::Waits,
            Err(_) => Turn::Closed,
        }
    }
}

/// A complete reply, and the port in it unless it is an error.
fn who(reply: &[u8]) -> Option<Option<u16>> {
    let text = std::str::from_utf8(reply).ok()?;
    if !text.ends_with("\r\n") {
        return None;
    }
    if text.starts_with('-') {
        return Some(None);
    }
    let mut lines = text.lines();
    let port = lines.nth(LINES - 1)?;
    Some(port.parse().ok())
}

fn dial(port: u16) -> Result<TcpStream> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("refused")?;
    stream.set_nodelay(true)?;
    stream.write_all(WHO)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_when_it_is_complete() {
        let reply = b"*2\r\n$4\r\nport\r\n$5\r\n16001\r\n";
        assert_eq!(who(reply), Some(Some(16001)));
        for end in 0..reply.len() {
            assert_eq!(who(&reply[..end]), None, "{end}");
        }
        assert_eq!(who(b"-MASTERDOWN no\r\n"), Some(None));
        assert_eq!(who(b"-MASTERDOWN"), None);
    }
}
