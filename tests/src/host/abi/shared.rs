//! Shared data and queues.

use std::time::Duration;

use wasmtime::AsContextMut;

use crate::host::calls::{enter, frame};
use crate::host::memory::{hand_over, read, write_u32};
use crate::host::shared::Owner;
use crate::host::status::{Answer, Status};
use crate::host::vm::Cx;

pub fn get_shared(
    cx: &mut Cx<'_>,
    key: u32,
    key_size: u32,
    data_at: u32,
    size_at: u32,
    cas_at: u32,
) -> Answer {
    let key = read(cx, key, key_size)?;
    let found = cx.data().hub.data.borrow().get(&key).cloned();
    let (value, cas) = found.ok_or(Status::NotFound)?;
    hand_over(cx, &value, data_at, size_at)?;
    write_u32(cx, cas_at, cas)
}

pub fn set_shared(
    cx: &mut Cx<'_>,
    key: u32,
    key_size: u32,
    at: u32,
    size: u32,
    cas: u32,
) -> Answer {
    let (key, value) = (read(cx, key, key_size)?, read(cx, at, size)?);
    cx.data().hub.data.borrow_mut().set(&key, &value, cas)
}

pub fn register_queue(cx: &mut Cx<'_>, name: u32, name_size: u32, token_at: u32) -> Answer {
    let name = read(cx, name, name_size)?;
    let owner = Owner {
        worker: cx.data().worker,
        context: cx.data().acting_root(),
    };
    let token = cx.data().hub.queues.borrow_mut().register(&name, owner);
    write_u32(cx, token_at, token)
}

pub fn resolve_queue(
    cx: &mut Cx<'_>,
    _vm: u32,
    _vm_size: u32,
    name: u32,
    name_size: u32,
    token_at: u32,
) -> Answer {
    let name = read(cx, name, name_size)?;
    let token = cx.data().hub.queues.borrow().resolve(&name);
    write_u32(cx, token_at, token.ok_or(Status::NotFound)?)
}

/// Wakes the owner, on its own thread: never within this call, even if it is this VM.
/// How long it takes until another thread's event loop, or the own one, has come to it. Others are served meanwhile.
const WAKE: Duration = Duration::from_micros(10);

pub fn enqueue(cx: &mut Cx<'_>, token: u32, at: u32, size: u32) -> Answer {
    let item = read(cx, at, size)?;
    let hub = &cx.data().hub;
    let Owner { worker, context } = hub.queues.borrow_mut().enqueue(token, item)?;
    hub.after(WAKE, move |p| {
        p.with(worker, |cx| {
            if !cx.data().roots.contains_key(&context) {
                return Ok(());
            }
            enter(cx, frame(context), |cx, e| {
                e.on_queue_ready.call(cx.as_context_mut(), (context, token))
            })
        });
    });
    Ok(())
}

pub fn dequeue(cx: &mut Cx<'_>, token: u32, data_at: u32, size_at: u32) -> Answer {
    let item = cx.data().hub.queues.borrow_mut().dequeue(token)?;
    hand_over(cx, &item, data_at, size_at)
}
