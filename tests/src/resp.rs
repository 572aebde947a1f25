//! A small blocking Redis client: exactly what was sent and received, no retries, no pool.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// A reply, in RESP2 or RESP3. Maps and pushes are arrays here: the tests ask for what is in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `+OK`, `$…`, `=…`, and numbers that are not integers.
    Text(Vec<u8>),
    /// `:1`, `#t`.
    Int(i64),
    /// `-ERR …`
    Error(String),
    /// Arrays, sets, maps, pushes.
    Array(Vec<Value>),
    /// `$-1`, `*-1`, `_`.
    Null,
}

impl Value {
    /// The text of a string or an error.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Text(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            Self::Error(text) => Some(text.clone()),
            Self::Int(n) => Some(n.to_string()),
            _ => None,
        }
    }

    /// The elements of an array, none for everything else.
    pub fn items(&self) -> &[Value] {
        if let Self::Array(items) = self {
            items
        } else {
            &[]
        }
    }

    /// The value after `name` in a flat map, as Sentinel prints its states.
    pub fn field(&self, name: &str) -> Option<String> {
        self.items()
            .chunks_exact(2)
            .find(|pair| pair[0].text().as_deref() == Some(name))?[1]
            .text()
    }
}

/// A connection.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Dials 127.0.0.1:`port`. `timeout` bounds the dial, and each read and write.
    pub fn open(port: u16, timeout: Duration) -> io::Result<Self> {
        Self::open_at(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), timeout)
    }

    /// Dials any address.
    pub fn open_at(address: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Sends a command and reads its reply.
    pub fn call<A: AsRef<[u8]>>(&mut self, command: &[A]) -> io::Result<Value> {
        self.send(command)?;
        self.receive()
    }

    /// Sends a command.
    pub fn send<A: AsRef<[u8]>>(&mut self, command: &[A]) -> io::Result<()> {
        let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
        for argument in command {
            let argument = argument.as_ref();
            bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
            bytes.extend_from_slice(argument);
            bytes.extend_from_slice(b"\r\n");
        }
        self.send_raw(&bytes)
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// The next reply. `UnexpectedEof` is a close by the other side.
    pub fn receive(&mut self) -> io::Result<Value> {
        let line = self.line()?;
        let (&kind, rest) = line
            .as_bytes()
            .split_first()
            .ok_or_else(|| invalid("empty line"))?;
        Ok(match kind {
            b'+' | b',' | b'(' => Value::Text(rest.to_vec()),
            b'-' => Value::Error(String::from_utf8_lossy(rest).into_owned()),
            b'#' => Value::Int(i64::from(rest == b"t")),
            b'_' => Value::Null,
            b':' => Value::Int(number(rest)?),
            b'$' | b'=' | b'!' => match usize::try_from(number(rest)?) {
                Err(_) => Value::Null,
                Ok(length) => Value::Text(self.exactly(length)?),
            },
            b'*' | b'~' | b'>' => self.array(number(rest)?)?,
            b'%' => self.array(number(rest)? * 2)?,
            _ => return Err(invalid(&line)),
        })
    }

    /// The underlying stream, to change a time limit or to shut a side down.
    pub fn stream(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    fn array(&mut self, length: i64) -> io::Result<Value> {
        if length < 0 {
            return Ok(Value::Null);
        }
        (0..length)
            .map(|_| self.receive())
            .collect::<io::Result<_>>()
            .map(Value::Array)
    }

    fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes)?;
        bytes.truncate(length);
        Ok(bytes)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.pop();
        String::from_utf8(line).map_err(|_| invalid("not UTF-8"))
    }
}

fn number(text: &[u8]) -> io::Result<i64> {
    let text = String::from_utf8_lossy(text);
    text.parse().map_err(|_| invalid(&text))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not RESP: {what}"))
}
