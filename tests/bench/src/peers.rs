//! The proxies of others, set up as their users do.

use std::fmt::Write;
use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use redis_sentinel_tests::ports::PortBlock;
use redis_sentinel_tests::process::Process;
use redis_sentinel_tests::{tools, wait};

/// A proxy and where clients connect to it.
pub struct Peer {
    /// The process.
    pub process: Process,
    /// The address of clients.
    pub port: u16,
    /// A second one, of HAProxy: the listener that ends sessions with a server that is no longer the master.
    pub strict_port: u16,
}

/// A program that `tests/setup.sh bench` fetched.
pub fn program(name: &str) -> PathBuf {
    tools::root().join("target/tools/peers").join(name)
}

/// HAProxy as the redis-ha charts set it up: asks every node for its role each second.
pub fn haproxy(ports: &mut PortBlock, nodes: &[u16], threads: usize, dir: &Path) -> Result<Peer> {
    let (port, strict_port) = (ports.take(), ports.take());
    let file = dir.join("haproxy.cfg");
    fs::write(&file, haproxy_text([port, strict_port], nodes, threads)?)?;
    let mut command = Command::new(program("haproxy"));
    // -db: no background.
    command.arg("-db").arg("-f").arg(&file);
    let process = Process::start(&mut command, &dir.join("haproxy.log"))?;
    let peer = Peer {
        process,
        port,
        strict_port,
    };
    answers("HAProxy to know the master", port)?;
    answers("HAProxy to know the master", strict_port)?;
    Ok(peer)
}

fn haproxy_text(ports: [u16; 2], nodes: &[u16], threads: usize) -> Result<String> {
    let mut text = format!(
        "global\n  maxconn 4000\n  nbthread {threads}\n\
         defaults\n  mode tcp\n  timeout connect 4s\n  timeout check 2s\n  timeout client 330s\n  timeout server 330s\n"
    );
    let listeners = [
        ("redis", ""),
        ("redis_strict", " on-marked-down shutdown-sessions"),
    ];
    for ((name, server), port) in listeners.into_iter().zip(ports) {
        write!(
            text,
            "listen {name}\n  bind 127.0.0.1:{port}\n  option tcp-check\n  tcp-check connect\n\
             \x20 tcp-check send PING\\r\\n\n  tcp-check expect string +PONG\n\
             \x20 tcp-check send info\\ replication\\r\\n\n  tcp-check expect string role:master\n\
             \x20 tcp-check send QUIT\\r\\n\n  tcp-check expect string +OK\n"
        )?;
        for (index, node) in nodes.iter().enumerate() {
            writeln!(
                text,
                "  server redis-{index} 127.0.0.1:{node} check inter 1s fall 1 rise 1{server}"
            )?;
        }
    }
    Ok(text)
}

/// twemproxy in front of one Redis: it knows nothing of masters.
pub fn nutcracker(ports: &mut PortBlock, node: u16, dir: &Path) -> Result<Peer> {
    let (port, stats) = (ports.take(), ports.take());
    let file = dir.join("nutcracker.yml");
    let text = format!(
        "redis:\n  listen: 127.0.0.1:{port}\n  redis: true\n  hash: fnv1a_64\n  distribution: ketama\n\
         \x20 backlog: 4096\n  preconnect: true\n  auto_eject_hosts: false\n  servers:\n  - 127.0.0.1:{node}:1 redis-0\n"
    );
    fs::write(&file, text)?;
    let mut command = Command::new(program("nutcracker"));
    command.arg("-c").arg(&file);
    command.args(["-a", "127.0.0.1", "-s", &stats.to_string()]);
    // Debian's would rather write to /var/log.
    command.args(["-v", "4", "-o", "/dev/stderr"]);
    let process = Process::start(&mut command, &dir.join("nutcracker.log"))?;
    answers("nutcracker to answer", port)?;
    Ok(Peer {
        process,
        port,
        strict_port: port,
    })
}

fn answers(what: &str, port: u16) -> Result<()> {
    use std::io::{Read, Write};
    wait::until_true(what, wait::LONG, || {
        let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else {
            return false;
        };
        let mut reply = [0; 7];
        let asked = stream.write_all(b"*1\r\n$4\r\nPING\r\n");
        asked.and_then(|()| stream.read_exact(&mut reply)).is_ok() && &reply == b"+PONG\r\n"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_listeners_of_haproxy_check_every_node() {
        let text = haproxy_text([1001, 1002], &[7001, 7002], 2).expect("text");
        assert_eq!(
            text.matches("tcp-check expect string role:master").count(),
            2
        );
        assert_eq!(
            text.matches("server redis-1 127.0.0.1:7002 check").count(),
            2
        );
        assert_eq!(text.matches("shutdown-sessions").count(), 2);
        assert!(text.contains("nbthread 2"));
    }
}
