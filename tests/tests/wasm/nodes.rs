//! What answers at the other end of `tcp_proxy`.

use std::cell::RefCell;
use std::rc::Rc;

use redis_sentinel_tests::host::{Link, Process, Server};

/// A Redis node that answers every command line with `+OK`, and ROLE truthfully.
pub struct Redis {
    pub role: &'static str,
    pub roles_asked: u32,
}

impl Redis {
    /// Puts one at an address.
    pub fn start(process: &Process, address: &str, role: &'static str) -> Rc<RefCell<Self>> {
        let redis = Rc::new(RefCell::new(Self {
            role,
            roles_asked: 0,
        }));
        process.serve(address, redis.clone());
        redis
    }
}

impl Server for Redis {
    fn data(&mut self, process: &Process, link: &Link, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        if text.contains("ROLE") {
            self.roles_asked += 1;
            let reply = match self.role {
                "master" => "*3\r\n$6\r\nmaster\r\n:425\r\n*0\r\n",
                "slave" => {
                    "*5\r\n$5\r\nslave\r\n$8\r\n10.0.1.1\r\n:6379\r\n$9\r\nconnected\r\n:425\r\n"
                }
                refusal => refusal,
            };
            link.send(process, reply.as_bytes());
        } else {
            link.send(process, &b"+OK\r\n".repeat(text.matches("\r\n").count()));
        }
    }
}

/// Envoy's echo filter, which stands where `tcp_proxy` does elsewhere.
pub struct Echo;

impl Echo {
    /// Puts it behind the readiness listeners.
    pub fn start(process: &Process) {
        process.serve("echo", Rc::new(RefCell::new(Self)));
    }
}

impl Server for Echo {
    fn data(&mut self, process: &Process, link: &Link, bytes: &[u8]) {
        link.send(process, bytes);
    }
}
