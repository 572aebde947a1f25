//! One per worker: the module's only timer and its only queue, shared by all its root contexts.
//!
//! **Wake-ups.** Every VM owns one shared queue and enters it into a list in the shared data. Whoever changed something
//! enqueues one message for each VM of the list, its own included; Envoy delivers it on that VM's thread, after the
//! current callback: well under a millisecond, at no cost while nothing happens.
//!
//! **Time.** Each root context says when it wants to be woken next; the timer is set to the earliest. An idle VM wakes
//! every [`SLOWEST`] to show that it is alive and to see what a wake-up may have missed.
//!
//! One root context *owns* both: a tick and a queue belong to the root that asked for them last. When it goes (its
//! listener was replaced), another one takes over.

use crate::host;
use sentinel_core::{json, time::Timestamp};
use serde_json::to_vec;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::rc::{Rc, Weak};
use std::time::Duration;

const LIST_KEY: &str = "redis_sentinel/vms";
/// Most VMs that are woken: more workers than this follow by their timers.
const MAX_VMS: usize = 256;
/// How often an idle VM looks around.
pub const SLOWEST: Duration = Duration::from_secs(5);
/// How often at most.
const FASTEST: Duration = Duration::from_millis(10);
/// A VM that has not signed the list for this long is gone. Its queue would only grow.
const VM_TTL: Duration = Duration::from_secs(20);
/// Most connections that are closed, or let go on, in one callback. Envoy does these after the callback, the next one from
/// within the callbacks of the one before (`doAfterVmCallActions` of proxy-wasm-cpp-host): some thousand of them, one in the
/// other, take more stack than there is, and the VM is lost.
const MAX_DEEDS: u32 = 128;
/// Most messages taken at once; they all say the same.
const MAX_DRAIN: usize = 1024;

/// The shared data changed: wake the root contexts.
const CHANGED: &[u8] = b"changed";
/// A stream is to be closed. Wakes nobody: whoever asked for the close would only ask again, and Envoy would run
/// nothing else on this thread than these messages.
const CLOSE: &[u8] = b"close";

/// A root context that is woken when the shared data changed and when it said it wanted to be.
pub trait Wake {
    /// Called with this context as the effective one and no stream's callback running. Returns when to be woken at the
    /// latest; `None` leaves it to wake-ups.
    fn wake(&self, now: Timestamp) -> Option<Timestamp>;
}

struct Sleeper {
    root: Weak<dyn Wake>,
    due: Timestamp,
}

#[derive(Default)]
struct Vm {
    sleepers: BTreeMap<u32, Sleeper>,
    /// Streams to close when no stream's callback is running.
    closing: VecDeque<u32>,
    /// The queue and the root context that owns it and the timer.
    queue: Option<(u32, u32)>,
    period: Duration,
    armed: Timestamp,
    signed_at: Timestamp,
    /// How many of [`MAX_DEEDS`] this callback has left.
    deeds: u32,
    /// Another callback was asked for, to go on.
    goes_on: bool,
}

thread_local! {
    static VM: RefCell<Vm> = RefCell::default();
    static NAME: String = format!("redis_sentinel/wake/{:016x}", RandomState::new().build_hasher().finish());
}

/// Enters a root context, which has just been configured, and wakes it for the first time.
pub fn enter(now: Timestamp, root: u32, wake: &Rc<impl Wake + 'static>) {
    let wake: Rc<dyn Wake> = wake.clone();
    let sleeper = Sleeper {
        root: Rc::downgrade(&wake),
        due: Timestamp::default(),
    };
    VM.with_borrow_mut(|vm| vm.sleepers.insert(root, sleeper));
    own(now, root);
    run(now, false);
}

/// A root context is gone.
pub fn leave(now: Timestamp, root: u32) {
    let heir = VM.with_borrow_mut(|vm| {
        vm.sleepers.remove(&root);
        vm.queue.take_if(|(_, owner)| *owner == root)?;
        vm.sleepers.keys().next().copied()
    });
    if let Some(heir) = heir
        && host::act_as(heir).is_ok()
    {
        own(now, heir);
        arm(now);
    }
}

/// The timer has fired for this root context.
pub fn on_tick(now: Timestamp, root: u32) {
    if VM.with_borrow(|vm| vm.queue.is_some_and(|(_, owner)| owner == root)) {
        VM.with_borrow_mut(|vm| vm.armed = now.after(vm.period));
        run(now, false);
    } else {
        // It owned the timer once.
        let _ = host::set_tick(Duration::ZERO);
    }
}

/// A message has arrived on this VM's queue: the shared data changed, or a stream is to be closed.
pub fn on_queue_ready(now: Timestamp, queue: u32) {
    let mut changed = VM.with_borrow_mut(|vm| core::mem::take(&mut vm.goes_on));
    for _ in 0..MAX_DRAIN {
        match host::dequeue(queue) {
            Ok(message) => changed |= message == CHANGED,
            Err(_) => break,
        }
    }
    if changed {
        run(now, true);
    } else {
        VM.with_borrow_mut(|vm| vm.deeds = MAX_DEEDS);
        close_streams();
    }
}

/// Whether one more connection may be closed or let go on in this callback. False: there will be another one.
pub fn may_act() -> bool {
    let (may, queue) = VM.with_borrow_mut(|vm| {
        let may = vm.deeds > 0;
        vm.deeds = vm.deeds.saturating_sub(1);
        let ask = !may && !core::mem::replace(&mut vm.goes_on, true);
        (may, vm.queue.filter(|_| ask))
    });
    if let Some((queue, _)) = queue {
        let _ = host::enqueue(queue, CHANGED);
    }
    may
}

/// Wakes every VM, this one included, after the current callback.
pub fn wake_all(now: Timestamp) {
    for (queue, at) in list().0 {
        if now.since(at) <= VM_TTL {
            let _ = host::enqueue(queue, CHANGED);
        }
    }
}

/// Wakes the root contexts of this VM at once. Not from a stream's callback.
pub fn wake_here(now: Timestamp) {
    run(now, true);
}

/// This root context wants to be woken at `due`, too. `current` is the context that is being called back.
pub fn wake_at(now: Timestamp, root: u32, due: Timestamp, current: u32) {
    let earlier = VM.with_borrow_mut(|vm| {
        if let Some(sleeper) = vm.sleepers.get_mut(&root) {
            sleeper.due = sleeper.due.min(due);
        }
        due < vm.armed
    });
    if earlier {
        arm(now);
        let _ = host::act_as(current);
    }
}

/// Closes a stream after the current callback: a close inside a stream's callback would call the module back while the
/// SDK holds all streams.
pub fn close_soon(stream: u32) {
    let queue = VM.with_borrow_mut(|vm| {
        vm.closing.push_back(stream);
        vm.queue
    });
    if let Some((queue, _)) = queue {
        let _ = host::enqueue(queue, CLOSE);
    }
}

fn close_streams() {
    while !VM.with_borrow(|vm| vm.closing.is_empty()) && may_act() {
        let stream = VM.with_borrow_mut(|vm| vm.closing.pop_front());
        if let Some(stream) = stream
            && host::act_as(stream).is_ok()
        {
            let _ = host::close();
        }
    }
}

/// Wakes the root contexts: those that are due, or all of them.
fn run(now: Timestamp, all: bool) {
    VM.with_borrow_mut(|vm| vm.deeds = MAX_DEEDS);
    close_streams();
    let woken: Vec<(u32, Weak<dyn Wake>)> = VM.with_borrow(|vm| {
        let due = vm
            .sleepers
            .iter()
            .filter(|(_, sleeper)| all || sleeper.due <= now);
        due.map(|(id, sleeper)| (*id, sleeper.root.clone()))
            .collect()
    });
    for (id, root) in woken {
        let Some(root) = root.upgrade() else { continue };
        if host::act_as(id).is_err() {
            continue;
        }
        let slowest = now.after(SLOWEST);
        let due = root.wake(now).unwrap_or(slowest).min(slowest);
        VM.with_borrow_mut(|vm| {
            if let Some(sleeper) = vm.sleepers.get_mut(&id) {
                sleeper.due = due;
            }
        });
    }
    if VM.with_borrow(|vm| now.since(vm.signed_at) >= SLOWEST) {
        sign(now);
    }
    arm(now);
}

/// Sets the timer to the earliest wish. A timer that is set anew starts anew, so one that is right is left alone.
fn arm(now: Timestamp) {
    let change = VM.with_borrow_mut(|vm| {
        let (_, owner) = vm.queue?;
        let earliest = vm.sleepers.values().map(|sleeper| sleeper.due).min()?;
        let period = earliest.since(now).clamp(FASTEST, SLOWEST);
        let due = now.after(period);
        let right = vm.armed >= now && vm.armed <= due && due.since(vm.armed) <= FASTEST;
        if right && vm.period == period {
            return None;
        }
        vm.period = period;
        vm.armed = due;
        Some((owner, period))
    });
    if let Some((owner, period)) = change
        && host::act_as(owner).is_ok()
    {
        let _ = host::set_tick(period);
    }
}

/// Makes the current root context the owner of the queue and the timer.
fn own(now: Timestamp, root: u32) {
    if let Ok(queue) = NAME.with(|name| host::register_queue(name)) {
        VM.with_borrow_mut(|vm| {
            vm.queue = Some((queue, root));
            vm.armed = Timestamp::default();
        });
        sign(now);
    }
}

/// Shows on the list that this VM is alive.
fn sign(now: Timestamp) {
    const MAX_RACES: usize = 8;
    let Some((queue, _)) = VM.with_borrow(|vm| vm.queue) else {
        return;
    };
    for _ in 0..MAX_RACES {
        let (mut list, cas) = list();
        list.retain(|(other, at)| *other != queue && now.since(*at) <= VM_TTL);
        if list.len() < MAX_VMS {
            list.push((queue, now));
        }
        let Ok(value) = to_vec(&list) else { return };
        if host::set_shared_data(LIST_KEY, &value, cas) != Err(host::CAS_MISMATCH) {
            VM.with_borrow_mut(|vm| vm.signed_at = now);
            return;
        }
    }
}

/// The queues of all VMs, and when each VM showed that it is alive.
fn list() -> (Vec<(u32, Timestamp)>, u32) {
    match host::shared_data(LIST_KEY) {
        Ok((value, cas)) => (json::read(&value).unwrap_or_default(), cas),
        Err(_) => (Vec::new(), host::CREATE),
    }
}
