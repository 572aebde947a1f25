//! The same commands get the same bytes from this Sentinel as from the real ones.

use std::collections::BTreeSet;

use super::*;
use crate::host::stream::{Listener, Stream};

macro_rules! recorded {
    ($name:literal) => {
        include_bytes!(concat!(
            "../../../../filter/core/tests/transcripts/answers/",
            $name,
            ".resp"
        ))
    };
}

fn said(password: Option<&str>, may_subscribe: bool, commands: &[&str]) -> Vec<u8> {
    let process = Process::new();
    let sentinel = Sentinel::start(
        &process,
        "127.0.0.1:26379",
        "mymaster",
        Opinion::new("127.0.0.1:1", 0),
    );
    sentinel.edit().password = password.map(str::to_owned);
    sentinel.edit().may_subscribe = may_subscribe;
    let listener = Listener {
        address: "@x".to_owned(),
        cluster: String::new(),
    };
    let mut session = Session {
        link: Link::detached(Stream::new(1, 1, listener)),
        resp3: false,
        authenticated: password.is_none(),
        channels: BTreeSet::new(),
        unread: Vec::new(),
    };
    let answer = |command: &&str| {
        let words: Vec<String> = command.split(' ').map(str::to_owned).collect();
        answers::answer(&sentinel.state(), &mut session, &words)
    };
    commands.iter().flat_map(answer).collect()
}

/// Without what differs between any two connections: the connection's id, the node's port.
fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut lines: Vec<&str> = text.split("\r\n").collect();
    if let Some(at) = lines.iter().position(|l| *l == "id") {
        lines[at + 1] = ":N";
    }
    if let Some(at) = lines.iter().position(|l| *l == "127.0.0.1") {
        (lines[at + 1], lines[at + 2]) = ("$N", "PORT");
    }
    lines.join("\n")
}

#[test]
fn refusals() {
    let poll = "SENTINEL GET-MASTER-ADDR-BY-NAME mymaster";
    let noauth = said(
        Some("secret"),
        true,
        &["HELLO 3", poll, "SUBSCRIBE +switch-master"],
    );
    assert_eq!(plain(&noauth), plain(recorded!("noauth")));
    let wrong = said(
        Some("secret"),
        true,
        &["HELLO 3 AUTH default wrong", "AUTH wrong"],
    );
    assert_eq!(plain(&wrong), plain(recorded!("wrongpass")));
    let acl = [
        "HELLO 3 AUTH watcher secret",
        poll,
        "SUBSCRIBE +switch-master",
        "CLIENT SETNAME x",
    ];
    let acl = said(Some("secret"), false, &acl);
    assert_eq!(plain(&acl), plain(recorded!("acl-without-subscribe")));
}

#[test]
fn unknown_names() {
    let mut commands = vec![
        "SENTINEL GET-MASTER-ADDR-BY-NAME nobody",
        "SENTINEL MASTER nobody",
        "SENTINEL SENTINELS nobody",
        "SENTINEL REPLICAS nobody",
    ];
    assert_eq!(
        plain(&said(None, true, &commands)),
        plain(recorded!("unknown-name-resp2"))
    );
    commands.insert(0, "HELLO 3");
    assert_eq!(
        plain(&said(None, true, &commands)),
        plain(recorded!("unknown-name-resp3"))
    );
}
