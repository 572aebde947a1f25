//! Calls into the module, and what Envoy does around each.

use std::rc::Rc;

use wasmtime::{AsContextMut, Instance, Result, Store, TypedFunc, bail};

use super::flow;
use super::vm::{Cx, Frame, Then, Vm};

/// What the module exports. Envoy does not miss what it does not.
pub struct Exports {
    pub on_memory_allocate: TypedFunc<u32, u32>,
    pub on_context_create: TypedFunc<(u32, u32), ()>,
    pub on_vm_start: TypedFunc<(u32, u32), u32>,
    pub on_configure: TypedFunc<(u32, u32), u32>,
    pub on_tick: TypedFunc<u32, ()>,
    pub on_queue_ready: TypedFunc<(u32, u32), ()>,
    pub on_new_connection: TypedFunc<u32, u32>,
    pub on_downstream_data: TypedFunc<(u32, u32, u32), u32>,
    pub on_upstream_data: TypedFunc<(u32, u32, u32), u32>,
    pub on_downstream_close: TypedFunc<(u32, u32), ()>,
    pub on_upstream_close: Option<TypedFunc<(u32, u32), ()>>,
    pub on_done: TypedFunc<u32, u32>,
    pub on_log: Option<TypedFunc<u32, ()>>,
    pub on_delete: TypedFunc<u32, ()>,
    pub on_resolve_dns: TypedFunc<(u32, u32, u32), ()>,
}

/// Finds the exports and runs the module's own start.
pub fn start(store: &mut Store<Vm>, instance: &Instance) -> Result<()> {
    let s = &mut *store;
    let exports = Exports {
        on_memory_allocate: instance.get_typed_func(&mut *s, "proxy_on_memory_allocate")?,
        on_context_create: instance.get_typed_func(&mut *s, "proxy_on_context_create")?,
        on_vm_start: instance.get_typed_func(&mut *s, "proxy_on_vm_start")?,
        on_configure: instance.get_typed_func(&mut *s, "proxy_on_configure")?,
        on_tick: instance.get_typed_func(&mut *s, "proxy_on_tick")?,
        on_queue_ready: instance.get_typed_func(&mut *s, "proxy_on_queue_ready")?,
        on_new_connection: instance.get_typed_func(&mut *s, "proxy_on_new_connection")?,
        on_downstream_data: instance.get_typed_func(&mut *s, "proxy_on_downstream_data")?,
        on_upstream_data: instance.get_typed_func(&mut *s, "proxy_on_upstream_data")?,
        on_downstream_close: instance
            .get_typed_func(&mut *s, "proxy_on_downstream_connection_close")?,
        on_upstream_close: instance
            .get_typed_func(&mut *s, "proxy_on_upstream_connection_close")
            .ok(),
        on_done: instance.get_typed_func(&mut *s, "proxy_on_done")?,
        on_log: instance.get_typed_func(&mut *s, "proxy_on_log").ok(),
        on_delete: instance.get_typed_func(&mut *s, "proxy_on_delete")?,
        on_resolve_dns: instance.get_typed_func(&mut *s, "envoy_on_resolve_dns")?,
    };
    let memory = instance.get_memory(&mut *s, "memory");
    store.data_mut().exports = Some(Rc::new(exports));
    store.data_mut().memory = memory;
    for name in ["_initialize", "_start"] {
        if let Ok(run) = instance.get_typed_func::<(), ()>(&mut *store, name) {
            run.call(&mut *store, ())?;
            break;
        }
    }
    Ok(())
}

/// Calls the module on behalf of a context, then does what the module asked for meanwhile.
///
/// A trap ends the VM for good: in Envoy every connection of the worker is lost with it.
pub fn enter<R>(
    cx: &mut Cx<'_>,
    frame: Frame,
    call: impl FnOnce(&mut Cx<'_>, &Exports) -> Result<R>,
) -> Result<R> {
    if let Some(reason) = &cx.data().failed {
        bail!("the VM has failed before: {reason}");
    }
    let exports = cx.data().exports();
    let outer = std::mem::replace(&mut cx.data_mut().frame, frame);
    let result = call(cx, &exports);
    cx.data_mut().frame = outer;
    match result {
        Ok(value) => afterwards(cx).map(|()| value),
        Err(error) => {
            cx.data_mut().failed = Some(format!("{error:?}"));
            Err(error)
        }
    }
}

/// Most connections that one callback may close or let go on. In Envoy each of them is done from within the callbacks of the one
/// before: with some 2,500, V8 ends the VM for want of stack.
const DEEPEST: usize = 400;

/// As in Envoy, the end of a nested call does what is still to do for the outer one, too.
fn afterwards(cx: &mut Cx<'_>) -> Result<()> {
    let depth = cx.data().then.len();
    if depth > DEEPEST {
        cx.data_mut().failed = Some("Maximum call stack size exceeded".to_owned());
        bail!("{depth} connections closed or let go on in one callback, one within the other");
    }
    while let Some(then) = cx.data_mut().then.pop_front() {
        let (Then::Continue(id) | Then::Close(id)) = then;
        let Some(stream) = cx.data().stream(id) else {
            continue;
        };
        match then {
            Then::Continue(_) => flow::resume(cx, &stream)?,
            Then::Close(_) => flow::close(cx, &stream, super::stream::Peer::Local)?,
        }
    }
    Ok(())
}

/// A frame for a callback of a context.
pub fn frame(context: u32) -> Frame {
    Frame {
        current: context,
        effective: 0,
        configuring: false,
    }
}

/// Tells the module of a root context, as Envoy does when a listener comes up; false if it refuses the configuration.
pub fn configure(cx: &mut Cx<'_>, root: u32, size: u32) -> Result<bool> {
    enter(cx, frame(root), |cx, e| {
        e.on_context_create.call(cx.as_context_mut(), (root, 0))?;
        e.on_vm_start.call(cx.as_context_mut(), (root, 0))
    })?;
    let configuring = Frame {
        configuring: true,
        ..frame(root)
    };
    Ok(enter(cx, configuring, |cx, e| {
        e.on_configure.call(cx.as_context_mut(), (root, size))
    })? != 0)
}

/// Deletes a root context.
pub fn delete(cx: &mut Cx<'_>, root: u32) -> Result<()> {
    log(cx, root)?;
    enter(cx, frame(root), |cx, e| e.on_delete.call(&mut *cx, root))?;
    cx.data_mut().roots.remove(&root);
    Ok(())
}

/// The upstream has closed.
pub fn upstream_closed(cx: &mut Cx<'_>, stream: u32, by: u32) -> Result<()> {
    enter(cx, frame(stream), |cx, e| match &e.on_upstream_close {
        Some(close) => close.call(&mut *cx, (stream, by)),
        None => Ok(()),
    })
}

/// The time to write an access log has come.
pub fn log(cx: &mut Cx<'_>, context: u32) -> Result<()> {
    enter(cx, frame(context), |cx, e| match &e.on_log {
        Some(log) => log.call(&mut *cx, context),
        None => Ok(()),
    })
}
