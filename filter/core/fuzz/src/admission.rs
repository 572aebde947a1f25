//! Clients of one listener, and a route that changes at any moment. Plays Envoy's part.

use crate::script::Script;
use sentinel_core::{
    address::Address,
    admission::{Action, Admission, StreamId, Verdict},
    config::{self, RouterConfig},
    time::Timestamp,
    topology::{Hold, Route},
};
use std::{collections::BTreeMap, time::Duration};

/// `hold_timeout` and `max_held_connections` of the configurations below.
const BOUND: Duration = Duration::from_secs(10);
const MOST_HELD: u32 = 5;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Client {
    Held(Timestamp),
    Dialling(Timestamp),
    Connected,
    Refused,
}

struct Listener {
    admission: Admission,
    clients: BTreeMap<StreamId, Client>,
    /// Bytes of these are kept back.
    kept: Vec<StreamId>,
    next: StreamId,
}

/// See the crate's table.
pub fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let role = if script.flag() { "replica" } else { "master" };
    let json = format!(
        r#"{{"master_name":"m","role":"{role}","max_held_connections":{MOST_HELD},"own_addresses":["10.0.0.6:6379"]}}"#
    );
    let config: RouterConfig = config::parse(json.as_bytes()).expect("a configuration");
    let mut listener = Listener {
        admission: Admission::new(config),
        clients: BTreeMap::new(),
        kept: Vec::new(),
        next: 1,
    };
    let mut now = Timestamp(1000);
    while !script.is_over() {
        now = script.later(now);
        listener.fire(now);
        listener.step(now, &mut script);
        listener.check(now);
    }
}

fn route(now: Timestamp, script: &mut Script<'_>) -> Route {
    let flags = script.byte();
    let list =
        |count: usize, script: &mut Script<'_>| (0..count).map(|_| script.address()).collect();
    let mut route = Route {
        master: (flags & 7 != 0).then(|| script.address()),
        fenced_until: (flags & 24 == 24)
            .then(|| now.after(Duration::from_millis(u64::from(script.byte()) * 50))),
        hold: match flags & 0x60 {
            0x60 => Some(Hold::Down),
            0x40 => Some(Hold::NotMaster),
            _ => None,
        },
        replicas: list(usize::from(flags >> 7) * 2, script),
        ..Route::default()
    };
    route.readable.clone_from(&route.replicas);
    route.unknown_to_all = route.master.is_none() && flags & 8 != 0;
    route
}

impl Listener {
    /// Envoy's timer fires first: nothing else happens after a bound and before it. It fires anew if that is due.
    fn fire(&mut self, now: Timestamp) {
        for _ in 0..3 {
            let actions = self.admission.expire(now);
            self.perform(now, actions);
            if self.admission.next_due().is_none_or(|due| due > now) {
                return;
            }
        }
        panic!("due again and again: {:?}", self.admission.next_due());
    }

    fn step(&mut self, now: Timestamp, script: &mut Script<'_>) {
        // Any id: of a client, of one that is gone, of one that never was.
        let id = StreamId::from(script.byte()) % (self.next + 2);
        match script.below(8) {
            0..=2 if self.clients.len() < 24 => self.connect(now, script),
            0..=2 | 7 => {
                self.admission.closed(id);
                self.admission.closed(id);
                self.forget(id);
            }
            3 => {
                let kept = self.admission.client_data(id);
                let client = self.clients.get(&id);
                if matches!(client, Some(Client::Held(_) | Client::Refused)) {
                    assert!(kept, "bytes of {client:?} fall through");
                }
                if matches!(client, Some(Client::Connected)) {
                    self.kept.retain(|known| *known != id);
                    self.kept.extend(kept.then_some(id));
                }
                assert!(!kept || client.is_some(), "bytes of nobody are kept");
            }
            4 => {
                if let Some(client) = self
                    .clients
                    .get_mut(&id)
                    .filter(|c| matches!(c, Client::Dialling(_)))
                {
                    *client = Client::Connected;
                }
                if self.clients.get(&id) == Some(&Client::Connected) {
                    assert_eq!(self.admission.upstream_data(id), None);
                }
            }
            5 => {
                let route = route(now, script);
                let actions = self.admission.update(now, route);
                self.perform(now, actions);
            }
            _ => {
                // The refusing listener's text, for whoever was refused.
                if self.clients.get(&id) == Some(&Client::Refused) {
                    assert!(self.admission.upstream_data(id).is_some());
                }
            }
        }
    }

    fn connect(&mut self, now: Timestamp, script: &mut Script<'_>) {
        let (id, listener) = (self.next, script.flag().then(|| script.address()));
        self.next += 1;
        let client = match self.admission.connect(now, id, listener.as_ref()) {
            Verdict::Dial(to) => {
                check_target(&to, listener.as_ref());
                Client::Dialling(now)
            }
            Verdict::Hold => Client::Held(now),
            Verdict::Refuse(_) => Client::Refused,
        };
        self.clients.insert(id, client);
    }

    fn perform(&mut self, now: Timestamp, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Dial(id, to) => {
                    check_target(&to, None);
                    assert!(
                        matches!(self.clients[&id], Client::Held(_)),
                        "{:?}",
                        self.clients[&id]
                    );
                    self.clients.insert(id, Client::Dialling(now));
                }
                Action::Resume(id) => self.kept.retain(|kept| *kept != id),
                Action::Refuse(id, _) => {
                    self.clients.insert(id, Client::Refused);
                }
                Action::Move(id, to) => match (self.clients[&id], to) {
                    (Client::Dialling(_), Some(to)) => {
                        self.admission.was_moved(now, id, to);
                        self.clients.insert(id, Client::Dialling(now));
                    }
                    (Client::Dialling(_), None) => {}
                    _ => {
                        self.admission.closed(id);
                        self.forget(id);
                    }
                },
                Action::RefuseUnlessConnected(id, why) => {
                    if matches!(self.clients[&id], Client::Dialling(_)) {
                        self.admission.refuse(id, why);
                        self.clients.insert(id, Client::Refused);
                    } else {
                        self.admission.was_connected(id);
                    }
                }
            }
        }
    }

    fn forget(&mut self, id: StreamId) {
        self.clients.remove(&id);
        self.kept.retain(|kept| *kept != id);
    }

    fn check(&mut self, now: Timestamp) {
        let held = self
            .clients
            .values()
            .filter(|c| matches!(c, Client::Held(_)))
            .count();
        assert_eq!(
            self.admission.held() as usize,
            held,
            "the count of those who wait"
        );
        assert!(self.admission.held() <= MOST_HELD);
        assert_eq!(
            self.admission.connections(),
            self.clients.len(),
            "the books"
        );
        for (id, client) in &self.clients {
            if let Client::Held(since) | Client::Dialling(since) = client {
                assert!(now.since(*since) < BOUND, "{id} waits too long: {client:?}");
                let due = self.admission.next_due().expect("somebody waits");
                assert!(due <= since.after(BOUND), "nobody looks after {id}");
            }
        }
    }
}

fn check_target(to: &Address, listener: Option<&Address>) {
    assert_ne!(to.to_string(), "10.0.0.6:6379", "an own address is dialled");
    assert_ne!(Some(to), listener, "the listener dials itself");
}
