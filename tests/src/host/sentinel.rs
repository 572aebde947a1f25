//! A Sentinel whose opinion a test sets. It answers as the real ones in the core's `tests/transcripts` do.

use std::cell::{Ref, RefCell, RefMut};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::network::{Link, Server};
use super::process::Process;

mod answers;

/// What one Sentinel holds of one master.
#[derive(Clone, Debug)]
pub struct Opinion {
    /// `ip:port`.
    pub address: String,
    /// What `SENTINEL MASTER` names; the leader of a failover is behind with it. `None`: the same as `address`.
    pub reported: Option<String>,
    /// `config-epoch`.
    pub epoch: u64,
    /// `flags`, as `SENTINEL MASTER` joins them.
    pub flags: String,
    /// `failover-state`, while there is one.
    pub failover_state: Option<String>,
    /// The replicas' `ip:port`.
    pub replicas: Vec<String>,
}

impl Opinion {
    /// A healthy master.
    #[must_use]
    pub fn new(address: &str, epoch: u64) -> Self {
        let flags = "master".to_owned();
        Self {
            address: address.to_owned(),
            reported: None,
            epoch,
            flags,
            failover_state: None,
            replicas: vec![],
        }
    }
}

/// What a Sentinel knows and how it behaves.
#[derive(Debug)]
pub struct SentinelState {
    /// 40 hex digits.
    pub run_id: String,
    /// Its own `ip:port`.
    pub address: String,
    /// By name.
    pub masters: BTreeMap<String, Opinion>,
    /// The other Sentinels: `ip:port` and run id.
    pub peers: Vec<(String, String)>,
    /// `requirepass`.
    pub password: Option<String>,
    /// Redis 6 and newer know HELLO.
    pub knows_hello: bool,
    /// Whether the ACL user may subscribe.
    pub may_subscribe: bool,
    /// Takes commands and answers none.
    pub hung: bool,
    /// Every command it got, joined by spaces.
    pub commands: Vec<String>,
}

struct Session {
    link: Link,
    resp3: bool,
    authenticated: bool,
    channels: BTreeSet<String>,
    unread: Vec<u8>,
}

struct Inner {
    state: SentinelState,
    sessions: Vec<Session>,
}

/// A handle to a Sentinel; clones are the same one.
#[derive(Clone)]
pub struct Sentinel(Rc<RefCell<Inner>>);

impl Sentinel {
    /// Starts one that monitors `name`, at its own address in the process' network.
    #[must_use]
    pub fn start(process: &Process, address: &str, name: &str, opinion: Opinion) -> Self {
        let run_id: String = address
            .bytes()
            .map(|b| format!("{b:02x}"))
            .chain(["0".repeat(40)])
            .collect();
        let state = SentinelState {
            run_id: run_id[..40].to_owned(),
            address: address.to_owned(),
            masters: BTreeMap::from([(name.to_owned(), opinion)]),
            peers: Vec::new(),
            password: None,
            knows_hello: true,
            may_subscribe: true,
            hung: false,
            commands: Vec::new(),
        };
        let sentinel = Self(Rc::new(RefCell::new(Inner {
            state,
            sessions: Vec::new(),
        })));
        process.serve(address, sentinel.0.clone());
        sentinel
    }

    /// It came back at another address, with the state that it had.
    pub fn move_to(&self, process: &Process, address: &str) {
        process.serve(address, self.0.clone());
    }

    /// Lets several know of each other.
    pub fn introduce(sentinels: &[Self]) {
        for one in sentinels {
            let others = sentinels.iter().filter(|s| !Rc::ptr_eq(&s.0, &one.0));
            let peers = others
                .map(|s| (s.state().address.clone(), s.state().run_id.clone()))
                .collect();
            one.edit().peers = peers;
        }
    }

    /// What it knows.
    #[must_use]
    pub fn state(&self) -> Ref<'_, SentinelState> {
        Ref::map(self.0.borrow(), |inner| &inner.state)
    }

    /// What it knows, to change.
    #[must_use]
    pub fn edit(&self) -> RefMut<'_, SentinelState> {
        RefMut::map(self.0.borrow_mut(), |inner| &mut inner.state)
    }

    /// Changes what it holds of a master. Says nothing to subscribers.
    pub fn change(&self, name: &str, change: impl FnOnce(&mut Opinion)) {
        change(
            self.edit()
                .masters
                .get_mut(name)
                .expect("a master it monitors"),
        );
    }

    /// Publishes an event to the connections that subscribed to its channel.
    pub fn publish(&self, process: &Process, channel: &str, payload: &str) {
        let push = answers::push("message", &[channel, payload]);
        for session in self
            .0
            .borrow()
            .sessions
            .iter()
            .filter(|s| s.channels.contains(channel))
        {
            session.link.send(process, &push);
        }
    }

    /// Sends bytes as they are to every connection, as only something that is no Sentinel would.
    pub fn send_raw(&self, process: &Process, bytes: &[u8]) {
        for session in &self.0.borrow().sessions {
            session.link.send(process, bytes);
        }
    }

    /// Breaks every connection, as a Sentinel that crashes does.
    pub fn drop_connections(&self, process: &Process) {
        for session in self.0.borrow_mut().sessions.drain(..) {
            session.link.reset(process);
        }
    }

    /// How many connections are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.0
            .borrow()
            .sessions
            .iter()
            .filter(|s| s.link.is_open())
            .count()
    }

    /// How many connections subscribed to a channel.
    #[must_use]
    pub fn subscribers(&self, channel: &str) -> usize {
        self.0
            .borrow()
            .sessions
            .iter()
            .filter(|s| s.channels.contains(channel))
            .count()
    }
}

impl Server for Inner {
    fn connected(&mut self, _process: &Process, link: &Link) {
        let authenticated = self.state.password.is_none();
        let link = link.clone();
        self.sessions.push(Session {
            link,
            resp3: false,
            authenticated,
            channels: BTreeSet::new(),
            unread: Vec::new(),
        });
    }

    fn data(&mut self, process: &Process, link: &Link, bytes: &[u8]) {
        let Some(session) = self.sessions.iter_mut().find(|s| s.link.is(link)) else {
            return;
        };
        session.unread.extend_from_slice(bytes);
        let mut reply = Vec::new();
        while let Some(words) = answers::command(&mut session.unread) {
            self.state.commands.push(words.join(" "));
            reply.extend(answers::answer(&self.state, session, &words));
        }
        if !self.state.hung && !reply.is_empty() {
            session.link.send(process, &reply);
        }
    }

    fn closed(&mut self, _process: &Process, link: &Link) {
        self.sessions.retain(|s| !s.link.is(link));
    }
}

#[cfg(test)]
mod tests;
