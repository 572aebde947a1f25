//! The connections of the health checker: each one becomes a conversation with a Sentinel.

use super::{Seat, SeatState, Watch};
use crate::heartbeat::{self, Pulse};
use crate::host;
use proxy_wasm::traits::{Context, StreamContext};
use proxy_wasm::types;
use sentinel_core::conversation::Conversation;
use sentinel_core::roster::Call;
use std::rc::Rc;

/// One connection of the health checker.
pub struct Heartbeat {
    id: u32,
    watch: Rc<Watch>,
}

impl Heartbeat {
    /// Not yet connected.
    pub fn new(id: u32, watch: &Rc<Watch>) -> Self {
        Self {
            id,
            watch: watch.clone(),
        }
    }
}

impl Context for Heartbeat {}

impl StreamContext for Heartbeat {
    fn on_new_connection(&mut self) -> types::Action {
        let now = host::now();
        self.watch.make_room(now);
        let slot = slot_number(host::property(&["destination", "address"]).as_deref());
        let seat = Seat {
            call: Call {
                slot,
                ..Call::default()
            },
            pulse: Pulse::new(now),
            conversation: Conversation::new(self.watch.settings()),
            state: SeatState::waiting(now, now),
            sentinel: String::new(),
            place: String::new(),
            heard: false,
            introduced: false,
            poll_only: None,
            impatient: false,
            unresolved_since: None,
        };
        self.watch.conversations.borrow_mut().insert(self.id, seat);
        let dial = self.watch.connect(now, self.id);
        self.watch.rearm(now, self.id);
        if dial {
            types::Action::Continue
        } else {
            types::Action::Pause
        }
    }

    fn on_downstream_data(&mut self, _size: usize, _end_of_stream: bool) -> types::Action {
        let now = host::now();
        let commands = match self.watch.conversations.borrow_mut().get_mut(&self.id) {
            Some(seat) => {
                seat.conversation.heartbeat(now);
                seat.pulse.feel();
                // While it waits for somebody to connect to, the heartbeat stays in hand.
                if seat.state == SeatState::Connected {
                    seat.conversation.speak(now)
                } else {
                    None
                }
            }
            None => None,
        };
        let action = heartbeat::speak_or_hold(commands);
        self.watch.rearm(now, self.id);
        action
    }

    fn on_upstream_data(&mut self, _size: usize, _end_of_stream: bool) -> types::Action {
        let bytes = host::bytes(host::Bytes::Upstream).unwrap_or_default();
        let answered = self.watch.receive(host::now(), self.id, &bytes);
        heartbeat::swallow(answered)
    }

    fn on_downstream_close(&mut self, _peer: types::PeerType) {
        self.watch.closed(host::now(), self.id);
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.watch.closed(host::now(), self.id);
    }
}

/// The slot is the number at the end of the socket's name: `@redis-sentinel-watch-2`.
fn slot_number(listener: Option<&str>) -> u32 {
    listener
        .and_then(|name| name.rsplit('-').next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}
