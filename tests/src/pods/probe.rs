//! Probes, with their periods and thresholds.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::container::Running;
use super::spec::{Action, Container, HttpGet, Port};
use crate::net::Namespace;
use crate::process::Process;

/// A probe as it is written.
#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Probe {
    exec: Option<Exec>,
    http_get: Option<HttpGet>,
    tcp_socket: Option<TcpSocket>,
    initial_delay_seconds: Option<u64>,
    period_seconds: Option<u64>,
    timeout_seconds: Option<u64>,
    success_threshold: Option<u32>,
    failure_threshold: Option<u32>,
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
struct Exec {
    command: Vec<String>,
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
struct TcpSocket {
    port: Port,
}

impl Probe {
    fn action(&self) -> Result<Action> {
        Ok(match (&self.exec, &self.http_get, &self.tcp_socket) {
            (Some(exec), None, None) => Action::Exec {
                command: exec.command.clone(),
            },
            (None, Some(get), None) => Action::HttpGet(get.clone()),
            (None, None, Some(socket)) => Action::TcpSocket {
                port: socket.port.clone(),
            },
            _ => bail!("a probe needs exactly one of exec, httpGet, tcpSocket"),
        })
    }

    fn period(&self) -> Duration {
        Duration::from_secs(self.period_seconds.unwrap_or(10))
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds.unwrap_or(1))
    }
}

/// What came out of a probe's last runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Not enough of them yet.
    Unknown,
    Good,
    Bad,
}

/// A probe of one running container.
pub struct Prober {
    probe: Probe,
    action: Action,
    due: Instant,
    trial: Option<Trial>,
    good: u32,
    bad: u32,
    verdict: Verdict,
    /// What it said when it failed last.
    pub complaint: String,
}

enum Trial {
    Command(Process, Instant),
    Thread(JoinHandle<Result<Result<()>>>),
}

/// Where a probe is made.
pub struct Place<'a> {
    pub container: &'a Container,
    pub running: &'a Running,
    pub address: Ipv4Addr,
    /// The kubelet's own network.
    pub node: &'a Namespace,
}

impl Prober {
    /// Of a container that was started now.
    pub fn new(probe: &Probe) -> Result<Self> {
        Ok(Self {
            action: probe.action()?,
            due: Instant::now() + Duration::from_secs(probe.initial_delay_seconds.unwrap_or(0)),
            probe: probe.clone(),
            trial: None,
            good: 0,
            bad: 0,
            verdict: Verdict::Unknown,
            complaint: String::new(),
        })
    }

    /// Starts it when it is due, looks at it when it runs.
    pub fn tick(&mut self, place: &Place<'_>) -> Result<Verdict> {
        match self.trial.take() {
            None if Instant::now() >= self.due => {
                self.due = Instant::now() + self.probe.period();
                self.trial = Some(self.start(place)?);
            }
            None => {}
            Some(trial) => match self.look(trial)? {
                Ok(trial) => self.trial = Some(trial),
                Err(result) => self.count(result),
            },
        }
        Ok(self.verdict)
    }

    fn count(&mut self, result: Result<()>) {
        match result {
            Ok(()) => (self.good, self.bad) = (self.good + 1, 0),
            Err(error) => {
                self.complaint = format!("{error:#}");
                (self.good, self.bad) = (0, self.bad + 1);
            }
        }
        if self.good >= self.probe.success_threshold.unwrap_or(1) {
            self.verdict = Verdict::Good;
        } else if self.bad >= self.probe.failure_threshold.unwrap_or(3) {
            self.verdict = Verdict::Bad;
        }
    }

    fn start(&self, place: &Place<'_>) -> Result<Trial> {
        let timeout = self.probe.timeout();
        if let Action::Exec { command } = &self.action {
            let process = place.running.execute(command)?;
            return Ok(Trial::Command(process, Instant::now() + timeout));
        }
        let (action, container) = (self.action.clone(), place.container.clone());
        let address = place.address;
        Ok(Trial::Thread(
            place
                .node
                .spawn(move || ask(&action, &container, address, timeout)),
        ))
    }

    /// The trial if it still goes on, or its result.
    fn look(&self, trial: Trial) -> Result<Result<Trial, Result<()>>> {
        Ok(match trial {
            Trial::Command(mut process, end) => match process.exited() {
                Some(status) if status.success() => Err(Ok(())),
                Some(status) => Err(Err(anyhow::anyhow!(
                    "{status}: {}",
                    process.log().trim_end()
                ))),
                None if Instant::now() >= end => Err(Err(anyhow::anyhow!(
                    "no end after {:?}",
                    self.probe.timeout()
                ))),
                None => Ok(Trial::Command(process, end)),
            },
            Trial::Thread(thread) if thread.is_finished() => {
                Err(thread.join().unwrap_or_else(|_| bail!("panic")).flatten())
            }
            trial => Ok(trial),
        })
    }
}

/// An action that is none of a command's.
pub fn ask(
    action: &Action,
    container: &Container,
    address: Ipv4Addr,
    timeout: Duration,
) -> Result<()> {
    let dial = |port: &Port| {
        let port = port
            .number([container])
            .with_context(|| format!("no port {port:?}"))?;
        let stream = TcpStream::connect_timeout(&SocketAddr::from((address, port)), timeout)?;
        stream.set_read_timeout(Some(timeout))?;
        anyhow::Ok(stream)
    };
    match action {
        Action::TcpSocket { port } => dial(port).map(drop),
        Action::HttpGet(get) => {
            let mut stream = dial(&get.port)?;
            let path = if get.path.is_empty() { "/" } else { &get.path };
            let mut request = format!(
                "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nUser-Agent: kube-probe/1.34\r\n"
            );
            for header in &get.http_headers {
                request += &format!("{}: {}\r\n", header.name, header.value);
            }
            stream.write_all((request + "\r\n").as_bytes())?;
            let mut start = [0; 12];
            stream.read_exact(&mut start)?;
            let code = String::from_utf8_lossy(&start[9..]).into_owned();
            // Read to the end, as a client does: a reset would be an error in the server's log.
            let _ = stream.read_to_end(&mut Vec::new());
            match code.as_bytes().first() {
                Some(b'2' | b'3') => Ok(()),
                _ => bail!("GET {path}: {code}"),
            }
        }
        Action::Sleep { seconds } => {
            std::thread::sleep(Duration::from_secs(*seconds));
            Ok(())
        }
        Action::Exec { .. } => bail!("a command is executed in its container"),
    }
}
