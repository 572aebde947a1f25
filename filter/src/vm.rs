//! One per worker: wakes the module's root contexts when the shared data changed, and does what must wait until no
//! callback of a stream is running.
//!
//! Every VM owns one shared queue and enters it into a list in the shared data. Whoever changed something enqueues one
//! message for each VM of the list, its own included; Envoy delivers it on that VM's thread, after the current callback.
//! Ticks are the fallback: whatever a wake-up missed is seen at the next one.

use crate::host;
use sentinel_core::time::Timestamp;
use serde_json::{from_slice, to_vec};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::rc::{Rc, Weak};
use std::time::Duration;

const LIST_KEY: &str = "redis_sentinel/vms";
/// Most VMs that are woken: more workers than this follow by their ticks.
const MAX_VMS: usize = 256;
/// How often a VM says that it is still there.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);
/// A VM that has not said so for this long is gone. Its queue would only grow.
const VM_TTL: Duration = Duration::from_secs(20);
/// Most messages taken at once; they all say the same.
const MAX_DRAIN: usize = 1024;

/// A root context that wants to know when the shared data changed.
pub trait Wake {
    /// Called from a root callback, with no stream's callback running and this context as the effective one.
    fn wake(&self, now: Timestamp);
}

#[derive(Default)]
struct Vm {
    roots: BTreeMap<u32, Weak<dyn Wake>>,
    closing: Vec<u32>,
}

thread_local! {
    static VM: RefCell<Vm> = RefCell::default();
    /// This VM's queue, and the root context that it wakes.
    static QUEUE: Cell<Option<(u32, u32)>> = const { Cell::new(None) };
    static SIGNED_AT: Cell<Timestamp> = const { Cell::new(Timestamp(0)) };
    static NAME: String = format!("redis_sentinel/wake/{:016x}", RandomState::new().build_hasher().finish());
}

/// Enters a root context, which has just been configured and is the current one.
pub fn enter(now: Timestamp, root: u32, wake: &Rc<impl Wake + 'static>) {
    let wake: Rc<dyn Wake> = wake.clone();
    VM.with_borrow_mut(|vm| vm.roots.insert(root, Rc::downgrade(&wake)));
    register(now, root);
}

/// A root context is gone.
pub fn leave(root: u32) {
    VM.with_borrow_mut(|vm| vm.roots.remove(&root));
    if QUEUE.get().is_some_and(|(_, owner)| owner == root) {
        QUEUE.set(None);
    }
}

/// Keeps this VM on the list. To be called from every root's tick.
pub fn tick(now: Timestamp, root: u32) {
    if QUEUE.get().is_none() {
        register(now, root);
    } else if now.since(SIGNED_AT.get()) >= SIGN_OF_LIFE {
        sign(now);
    }
}

/// Wakes every VM, this one included, after the current callback.
pub fn wake_all(now: Timestamp) {
    let list: Vec<(u32, Timestamp)> = host::shared_data(LIST_KEY)
        .ok()
        .and_then(|(value, _)| from_slice(&value).ok())
        .unwrap_or_default();
    for (queue, at) in list {
        if now.since(at) <= VM_TTL {
            let _ = host::enqueue(queue);
        }
    }
}

/// Closes a stream after the current callback: a close inside a stream's callback would call the module back while the
/// SDK holds all streams.
pub fn close_soon(stream: u32) {
    VM.with_borrow_mut(|vm| vm.closing.push(stream));
    if let Some((queue, _)) = QUEUE.get() {
        let _ = host::enqueue(queue);
    }
}

/// Closes what [`close_soon`] was told. Only from a root's callback.
pub fn close_now() {
    for stream in VM.with_borrow_mut(|vm| core::mem::take(&mut vm.closing)) {
        if host::act_as(stream).is_ok() {
            let _ = host::close();
        }
    }
}

/// A message has arrived on this VM's queue.
pub fn on_queue_ready(now: Timestamp, queue: u32) {
    for _ in 0..MAX_DRAIN {
        if host::dequeue(queue).is_err() {
            break;
        }
    }
    close_now();
    let roots: Vec<(u32, Weak<dyn Wake>)> = VM.with_borrow(|vm| {
        vm.roots
            .iter()
            .map(|(id, root)| (*id, root.clone()))
            .collect()
    });
    for (id, root) in roots {
        if let Some(root) = root.upgrade()
            && host::act_as(id).is_ok()
        {
            root.wake(now);
        }
    }
}

fn register(now: Timestamp, root: u32) {
    if let Ok(queue) = NAME.with(|name| host::register_queue(name)) {
        QUEUE.set(Some((queue, root)));
        sign(now);
    }
}

fn sign(now: Timestamp) {
    let Some((queue, _)) = QUEUE.get() else {
        return;
    };
    for _ in 0..8 {
        let (mut list, cas) = match host::shared_data(LIST_KEY) {
            Ok((value, cas)) => (
                from_slice::<Vec<(u32, Timestamp)>>(&value).unwrap_or_default(),
                cas,
            ),
            Err(_) => (Vec::new(), u32::MAX),
        };
        list.retain(|(other, at)| *other != queue && now.since(*at) <= VM_TTL);
        if list.len() < MAX_VMS {
            list.push((queue, now));
        }
        let Ok(value) = to_vec(&list) else { return };
        if host::set_shared_data(LIST_KEY, &value, cas) != Err(host::CAS_MISMATCH) {
            SIGNED_AT.set(now);
            return;
        }
    }
}
