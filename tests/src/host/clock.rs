//! Virtual time and what is due when.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use super::process::Process;

/// Something to do at a moment. It runs outside of any VM call.
pub type Event = Box<dyn FnOnce(&Process)>;

/// The clock of a process and its agenda.
#[derive(Default)]
pub struct Clock {
    now: Cell<Duration>,
    wall_offset: Cell<i64>,
    next: Cell<u64>,
    agenda: RefCell<BTreeMap<(Duration, u64), Event>>,
}

impl Clock {
    /// Since the start of the process.
    pub fn now(&self) -> Duration {
        self.now.get()
    }

    /// What CLOCK_MONOTONIC says, in nanoseconds: not zero at the start, as on a machine that has been up for a while.
    pub fn monotonic(&self) -> u64 {
        (Duration::from_secs(108_000) + self.now()).as_nanos() as u64
    }

    /// What CLOCK_REALTIME says, in nanoseconds. Jumps as tests please.
    pub fn wall(&self) -> u64 {
        let start = 1_780_000_000_000_000_000_i64;
        (start + self.now().as_nanos() as i64 + self.wall_offset.get()) as u64
    }

    /// Sets the wall clock back or forth, as NTP does.
    pub fn jump_wall(&self, seconds: i64) {
        self.wall_offset
            .set(self.wall_offset.get() + seconds * 1_000_000_000);
    }

    /// Puts `event` on the agenda. Events of one moment run in the order in which they were put there.
    pub fn after(&self, delay: Duration, event: Event) {
        let order = self.next.replace(self.next.get() + 1);
        self.agenda
            .borrow_mut()
            .insert((self.now() + delay, order), event);
    }

    /// The next event due by `until`; the clock moves to it.
    pub fn pop(&self, until: Duration) -> Option<Event> {
        let mut agenda = self.agenda.borrow_mut();
        let entry = agenda.first_entry().filter(|e| e.key().0 <= until)?;
        self.now.set(self.now().max(entry.key().0));
        Some(entry.remove())
    }

    /// Moves on to `then`, with nothing left to do before it.
    pub fn reach(&self, then: Duration) {
        self.now.set(self.now().max(then));
    }
}
