//! One worker: the admission of one listener, its clients, and what Envoy would do for them.

use super::{
    super::router,
    Random,
    redis::{self, Nodes},
};
use sentinel_core::{
    address::Address,
    admission::{Action, Admission, StreamId, Verdict},
    time::Timestamp,
    topology::Route,
};
use std::collections::BTreeMap;

/// `hold_timeout`, in ms.
pub const BOUND: u64 = 10_000;
/// Most connections of one worker: beyond, the oldest goes.
const MOST: usize = 40;

#[derive(Debug)]
struct Client {
    /// Waits for a master, since then.
    held: Option<u64>,
    to: Option<Address>,
    /// Dials to it since then, and is not connected yet.
    dialling: Option<u64>,
    kept_back: bool,
}

/// See the module's text.
pub struct Worker {
    /// Which master its listener leads to.
    pub master: usize,
    pub admission: Admission,
    /// What it was told last.
    pub route: Route,
    clients: BTreeMap<StreamId, Client>,
    next: StreamId,
    /// The epoch that it followed last, and how many resets there had been.
    epoch: (Option<u64>, usize),
}

impl Worker {
    pub fn new(master: usize) -> Self {
        Self {
            master,
            epoch: (None, 0),
            admission: Admission::new(router(r#""max_held_connections": 12"#)),
            route: Route::default(),
            clients: BTreeMap::new(),
            next: 0,
        }
    }

    /// A client connects, or does something else.
    pub fn client(&mut self, now: u64, random: &mut Random, up: &[bool]) {
        self.connections(up);
        let ids: Vec<StreamId> = self.clients.keys().copied().collect();
        match random.below(4) {
            0 if !ids.is_empty() => self.close(ids[random.index(ids.len())]),
            1 | 2 if !ids.is_empty() => {
                let id = ids[random.index(ids.len())];
                let client = self.clients.get_mut(&id).unwrap();
                // `tcp_proxy` reads nothing from a client while it dials.
                if client.dialling.is_none() {
                    let kept = self.admission.client_data(id);
                    client.kept_back = kept && client.held.is_none();
                }
            }
            _ => {
                if ids.len() >= MOST {
                    self.close(ids[0]);
                }
                self.connect(now);
            }
        }
    }

    fn connect(&mut self, now: u64) {
        self.next += 1;
        let verdict = self.admission.connect(Timestamp(now), self.next, None);
        let mut client = Client {
            held: None,
            to: None,
            dialling: None,
            kept_back: false,
        };
        match verdict {
            Verdict::Dial(to) => {
                assert_eq!(Some(&to), self.route.master.as_ref(), "dialled elsewhere");
                (client.to, client.dialling) = (Some(to), Some(now));
            }
            Verdict::Hold => client.held = Some(now),
            Verdict::Refuse(_) => {
                self.admission.closed(self.next);
                return;
            }
        }
        self.clients.insert(self.next, client);
    }

    fn close(&mut self, id: StreamId) {
        self.admission.closed(id);
        self.clients.remove(&id);
    }

    /// Nodes that are up accept and answer.
    fn connections(&mut self, up: &[bool]) {
        for (id, client) in &mut self.clients {
            let Some(to) = &client.to else { continue };
            if up[Nodes::index(redis::at(to))] && client.dialling.take().is_some() {
                assert_eq!(self.admission.upstream_data(*id), None);
            }
        }
    }

    /// What it is told never goes back, unless Sentinels were rebuilt.
    pub fn follow(&mut self, epoch: Option<u64>, resets: usize) {
        assert!(
            epoch >= self.epoch.0 || resets > self.epoch.1,
            "a worker goes back to a lower epoch"
        );
        self.epoch = (epoch, resets);
    }

    /// The worker wakes: the topology may be another one, time has passed.
    pub fn wake(&mut self, now: u64, route: Route, up: &[bool]) {
        self.connections(up);
        self.route = route.clone();
        let mut actions = self.admission.update(Timestamp(now), route);
        actions.extend(self.admission.expire(Timestamp(now)));
        for action in actions {
            self.perform(now, action);
        }
        self.check(now);
    }

    fn perform(&mut self, now: u64, action: Action) {
        match action {
            Action::Dial(id, to) => {
                assert_eq!(Some(&to), self.route.master.as_ref(), "dialled elsewhere");
                let client = self.clients.get_mut(&id).unwrap();
                assert!(client.held.take().is_some(), "only who is held is dialled");
                (client.to, client.dialling) = (Some(to), Some(now));
            }
            Action::Move(id, Some(to)) if self.clients[&id].dialling.is_some() => {
                self.admission.was_moved(Timestamp(now), id, to.clone());
                let client = self.clients.get_mut(&id).unwrap();
                (client.to, client.dialling) = (Some(to), Some(now));
            }
            Action::Move(id, _) | Action::Refuse(id, _) => self.close(id),
            Action::Resume(id) => self.clients.get_mut(&id).unwrap().kept_back = false,
            Action::RefuseUnlessConnected(id, why) => {
                if self.clients[&id].dialling.is_some() {
                    self.admission.refuse(id, why);
                    self.close(id);
                } else {
                    self.admission.was_connected(id);
                }
            }
        }
    }

    /// What must hold after every wake-up.
    fn check(&self, now: u64) {
        let held = self.clients.values().filter(|c| c.held.is_some()).count();
        assert_eq!(
            self.admission.held() as usize,
            held,
            "the count of held ones"
        );
        assert!(held <= 12, "more are held than may be");
        assert_eq!(
            self.admission.connections(),
            self.clients.len(),
            "the books"
        );
        let fenced = self.route.fenced_until.is_some_and(|until| now < until.0);
        for (id, client) in &self.clients {
            assert!(
                client
                    .held
                    .or(client.dialling)
                    .is_none_or(|since| now < since + BOUND),
                "{id} waits past its bound: {client:?}"
            );
            assert!(
                client.held.is_some() || client.to == self.route.master,
                "{id} is at another node than the master: {client:?}"
            );
            assert!(
                fenced || !client.kept_back,
                "{id} is kept back without a fence: {client:?}"
            );
        }
    }

    /// Nobody waits any more.
    pub fn is_calm(&self) -> bool {
        self.clients
            .values()
            .all(|c| c.held.is_none() && !c.kept_back)
    }
}
