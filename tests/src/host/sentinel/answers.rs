//! The words of a Sentinel, in RESP2 and RESP3.

use super::{Opinion, SentinelState, Session};

/// Takes one command, an array of bulk strings, off the front of what was read.
pub fn command(unread: &mut Vec<u8>) -> Option<Vec<String>> {
    let mut rest = unread.as_slice();
    let count: usize = line(&mut rest)?
        .strip_prefix('*')
        .expect("an array of bulk strings")
        .parse()
        .expect("its size");
    let mut words = Vec::new();
    for _ in 0..count {
        let size: usize = line(&mut rest)?
            .strip_prefix('$')
            .expect("a bulk string")
            .parse()
            .expect("its size");
        let (word, after) = rest.split_at_checked(size)?;
        rest = after.strip_prefix(b"\r\n")?;
        words.push(String::from_utf8_lossy(word).into_owned());
    }
    let used = unread.len() - rest.len();
    unread.drain(..used);
    Some(words)
}

fn line(rest: &mut &[u8]) -> Option<String> {
    let end = rest.windows(2).position(|w| w == b"\r\n")?;
    let text = String::from_utf8_lossy(&rest[..end]).into_owned();
    *rest = &rest[end + 2..];
    Some(text)
}

/// What it replies to one command.
pub fn answer(state: &SentinelState, session: &mut Session, words: &[String]) -> Vec<u8> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let verb = words[0].to_ascii_uppercase();
    let known = |name: &str| state.masters.get(name);
    match (verb.as_str(), &words[1..]) {
        ("HELLO", ["3", rest @ ..]) if state.knows_hello => hello(state, session, rest),
        ("HELLO", _) => error("ERR unknown command 'HELLO', with args beginning with: '3' "),
        ("AUTH", [.., password]) => authenticate(state, session, password),
        _ if !session.authenticated => error("NOAUTH Authentication required."),
        ("CLIENT", _) => b"+OK\r\n".to_vec(),
        ("PING", _) => b"+PONG\r\n".to_vec(),
        ("SUBSCRIBE", _) if !state.may_subscribe => {
            error("NOPERM this user has no permissions to run the 'subscribe' command")
        }
        ("SUBSCRIBE", channels) => subscribe(session, channels),
        ("SENTINEL", [sub, args @ ..]) => match (sub.to_ascii_uppercase().as_str(), args) {
            ("MYID", _) => bulk(&state.run_id),
            ("GET-MASTER-ADDR-BY-NAME", [name]) => {
                known(name).map_or_else(|| null(session.resp3), |o| pair(&o.address))
            }
            ("MASTER", [name]) => known(name).map_or_else(no_such_master, |o| {
                map(session.resp3, &master(state, name, o))
            }),
            ("SENTINELS", [name]) => known(name).map_or_else(no_such_master, |_| {
                list(
                    session.resp3,
                    state
                        .peers
                        .iter()
                        .map(|(address, id)| node(id, address, id, "sentinel")),
                )
            }),
            ("REPLICAS" | "SLAVES", [name]) => known(name).map_or_else(no_such_master, |o| {
                list(
                    session.resp3,
                    o.replicas.iter().map(|a| replica(a, &o.address)),
                )
            }),
            _ => error("ERR Unknown sentinel subcommand"),
        },
        _ => error("ERR unknown command"),
    }
}

fn hello(state: &SentinelState, session: &mut Session, rest: &[&str]) -> Vec<u8> {
    if let [auth, _user, password] = rest
        && auth.eq_ignore_ascii_case("AUTH")
    {
        let refused = authenticate(state, session, password);
        if !session.authenticated {
            return refused;
        }
    }
    if !session.authenticated {
        return error(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH \
                      <user> <pass> option can be used to authenticate the client and select the RESP protocol version \
                      at the same time",
        );
    }
    session.resp3 = true;
    let mut reply = b"%6\r\n".to_vec();
    for (name, value) in [("server", "redis"), ("version", "7.0.15")] {
        reply.extend([bulk(name), bulk(value)].concat());
    }
    reply.extend(b"$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:4\r\n$4\r\nmode\r\n$8\r\nsentinel\r\n$7\r\nmodules\r\n*0\r\n");
    reply
}

fn authenticate(state: &SentinelState, session: &mut Session, password: &str) -> Vec<u8> {
    if state.password.as_deref().is_some_and(|p| p != password) {
        return error("WRONGPASS invalid username-password pair or user is disabled.");
    }
    session.authenticated = true;
    b"+OK\r\n".to_vec()
}

fn subscribe(session: &mut Session, channels: &[&str]) -> Vec<u8> {
    let mut reply = Vec::new();
    for channel in channels {
        session.channels.insert((*channel).to_owned());
        let kind = if session.resp3 { '>' } else { '*' };
        reply.extend(format!("{kind}3\r\n$9\r\nsubscribe\r\n").bytes());
        reply.extend(bulk(channel));
        reply.extend(format!(":{}\r\n", session.channels.len()).bytes());
    }
    reply
}

/// A RESP3 push of strings.
pub fn push(kind: &str, words: &[&str]) -> Vec<u8> {
    let mut reply = format!(">{}\r\n", words.len() + 1).into_bytes();
    reply.extend(bulk(kind));
    words.iter().for_each(|w| reply.extend(bulk(w)));
    reply
}

fn bulk(text: &str) -> Vec<u8> {
    format!("${}\r\n{text}\r\n", text.len()).into_bytes()
}

fn error(text: &str) -> Vec<u8> {
    format!("-{text}\r\n").into_bytes()
}

fn no_such_master() -> Vec<u8> {
    error("ERR No such master with that name")
}

fn null(resp3: bool) -> Vec<u8> {
    if resp3 {
        b"_\r\n".to_vec()
    } else {
        b"*-1\r\n".to_vec()
    }
}

fn pair(address: &str) -> Vec<u8> {
    let (host, port) = split(address);
    [b"*2\r\n".to_vec(), bulk(host), bulk(port)].concat()
}

fn split(address: &str) -> (&str, &str) {
    address.rsplit_once(':').expect("host:port")
}

type Fields = Vec<(&'static str, String)>;

fn map(resp3: bool, fields: &Fields) -> Vec<u8> {
    let head = if resp3 {
        format!("%{}\r\n", fields.len())
    } else {
        format!("*{}\r\n", fields.len() * 2)
    };
    let mut reply = head.into_bytes();
    for (name, value) in fields {
        reply.extend([bulk(name), bulk(value)].concat());
    }
    reply
}

fn list(resp3: bool, items: impl ExactSizeIterator<Item = Fields>) -> Vec<u8> {
    let head = format!("*{}\r\n", items.len()).into_bytes();
    items.fold(head, |mut reply, fields| {
        reply.extend(map(resp3, &fields));
        reply
    })
}

/// The fields that all instances have, in a Sentinel's order.
fn node(name: &str, address: &str, run_id: &str, flags: &str) -> Fields {
    let (host, port) = split(address);
    vec![
        ("name", name.to_owned()),
        ("ip", host.to_owned()),
        ("port", port.to_owned()),
        ("runid", run_id.to_owned()),
        ("flags", flags.to_owned()),
        ("link-pending-commands", "0".to_owned()),
        ("link-refcount", "1".to_owned()),
        ("last-ok-ping-reply", "186".to_owned()),
        ("down-after-milliseconds", "1000".to_owned()),
    ]
}

fn master(state: &SentinelState, name: &str, opinion: &Opinion) -> Fields {
    let reported = opinion.reported.as_ref().unwrap_or(&opinion.address);
    let mut fields = node(name, reported, &"6f".repeat(20), &opinion.flags);
    if let Some(failover_state) = &opinion.failover_state {
        fields.push(("failover-state", failover_state.clone()));
    }
    fields.extend([
        ("role-reported", "master".to_owned()),
        ("config-epoch", opinion.epoch.to_string()),
        ("num-slaves", opinion.replicas.len().to_string()),
        ("num-other-sentinels", state.peers.len().to_string()),
        ("quorum", "2".to_owned()),
        ("failover-timeout", "5000".to_owned()),
        ("parallel-syncs", "1".to_owned()),
    ]);
    fields
}

fn replica(address: &str, master: &str) -> Fields {
    let mut fields = node(address, address, &"7a".repeat(20), "slave");
    let (host, port) = split(master);
    fields.extend([
        ("role-reported", "slave".to_owned()),
        ("master-link-status", "ok".to_owned()),
        ("master-host", host.to_owned()),
        ("master-port", port.to_owned()),
        ("slave-priority", "100".to_owned()),
        ("slave-repl-offset", "4242".to_owned()),
        ("replica-announced", "1".to_owned()),
    ]);
    fields
}
