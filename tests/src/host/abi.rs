//! The host calls of the ABI, version 0.2.1, that a network filter can make. The rest answers "unimplemented".

use std::time::Duration;

use wasmtime::{AsContextMut, Caller, ExternType, FuncType, Linker, Module, Result, Val};

use super::calls::{enter, frame};
use super::hub::{CloseMode, LogLine};
use super::memory::{hand_over, read, write, write_u32};
use super::shared::Owner;
use super::status::{Answer, Status, code};
use super::stream::{Peer, edit};
use super::vm::{Cx, Then, Vm};
use super::{flow, property};

type C<'a> = Caller<'a, Vm>;

const DOWNSTREAM_DATA: u32 = 2;
const UPSTREAM_DATA: u32 = 3;
const VM_CONFIGURATION: u32 = 6;
const PLUGIN_CONFIGURATION: u32 = 7;
const MAX_BUFFER: u32 = 8;

/// Links one host call under its name in the ABI.
macro_rules! call {
    ($linker:ident, $name:literal, $function:ident ( $($argument:ident : $kind:ty),* )) => {
        $linker.func_wrap("env", $name, |mut caller: C<'_>, $($argument: $kind),*| {
            code($function(&mut caller.as_context_mut(), $($argument),*))
        })?;
    };
}

/// Links all host calls that do something.
pub fn link(l: &mut Linker<Vm>) -> Result<()> {
    call!(l, "proxy_log", log(level: u32, at: u32, size: u32));
    call!(l, "proxy_get_log_level", log_level(at: u32));
    call!(l, "proxy_get_current_time_nanoseconds", current_time(at: u32));
    call!(l, "proxy_set_tick_period_milliseconds", set_tick_period(period: u32));
    call!(l, "proxy_get_buffer_bytes", get_buffer(kind: u32, start: u32, length: u32, data_at: u32, size_at: u32));
    call!(l, "proxy_set_buffer_bytes", set_buffer(kind: u32, start: u32, length: u32, at: u32, size: u32));
    call!(l, "proxy_get_property", get_property(path: u32, path_size: u32, data_at: u32, size_at: u32));
    call!(l, "proxy_set_property", set_property(path: u32, path_size: u32, at: u32, size: u32));
    call!(l, "proxy_get_shared_data", get_shared(key: u32, key_size: u32, data_at: u32, size_at: u32, cas_at: u32));
    call!(l, "proxy_set_shared_data", set_shared(key: u32, key_size: u32, at: u32, size: u32, cas: u32));
    call!(l, "proxy_register_shared_queue", register_queue(name: u32, name_size: u32, token_at: u32));
    call!(l, "proxy_resolve_shared_queue", resolve_queue(vm: u32, vm_size: u32, name: u32, name_size: u32, token_at: u32));
    call!(l, "proxy_enqueue_shared_queue", enqueue(token: u32, at: u32, size: u32));
    call!(l, "proxy_dequeue_shared_queue", dequeue(token: u32, data_at: u32, size_at: u32));
    call!(l, "proxy_continue_stream", continue_stream(kind: u32));
    call!(l, "proxy_set_effective_context", set_effective_context(context: u32));
    call!(l, "proxy_define_metric", define_metric(kind: u32, name: u32, name_size: u32, id_at: u32));
    call!(l, "proxy_increment_metric", increment_metric(id: u32, by: i64));
    call!(l, "proxy_record_metric", record_metric(id: u32, value: u64));
    call!(l, "proxy_get_metric", get_metric(id: u32, value_at: u32));
    call!(l, "proxy_done", done());
    call!(l, "proxy_call_foreign_function", foreign(name: u32, name_size: u32, at: u32, size: u32, data_at: u32, size_at: u32));
    // Closing can call the module again: a trap in there has to end this call, too.
    l.func_wrap("env", "proxy_close_stream", |mut c: C<'_>, kind: u32| {
        close_stream(&mut c.as_context_mut(), kind)
    })?;
    Ok(())
}

/// Gives every import that the module has an answer: "unimplemented" to its host calls, ENOSYS to WASI's. What is
/// implemented is linked afterwards, over it.
pub fn link_stubs(linker: &mut Linker<Vm>, module: &Module) -> Result<()> {
    linker.allow_shadowing(true);
    for import in module.imports() {
        let ExternType::Func(kind) = import.ty() else {
            continue;
        };
        let answer = if import.module() == "env" {
            Status::Unimplemented as i32
        } else {
            52
        };
        stub(linker, import.module(), import.name(), kind, answer)?;
    }
    Ok(())
}

fn stub(
    linker: &mut Linker<Vm>,
    module: &str,
    name: &str,
    kind: FuncType,
    answer: i32,
) -> Result<()> {
    linker.func_new(module, name, kind, move |_, _, results| {
        results.iter_mut().for_each(|r| *r = Val::I32(answer));
        Ok(())
    })?;
    Ok(())
}

fn log(cx: &mut Cx<'_>, level: u32, at: u32, size: u32) -> Answer {
    let text = String::from_utf8_lossy(&read(cx, at, size)?).into_owned();
    write_log(cx, level, text);
    Ok(())
}

/// Adds a line to the process' log.
pub fn write_log(cx: &mut Cx<'_>, level: u32, text: String) {
    let vm = cx.data();
    let line = LogLine {
        at: vm.hub.clock.now(),
        worker: vm.worker,
        level,
        text,
    };
    vm.hub.log.borrow_mut().push(line);
}

fn log_level(cx: &mut Cx<'_>, at: u32) -> Answer {
    write_u32(cx, at, 0)
}

fn current_time(cx: &mut Cx<'_>, at: u32) -> Answer {
    let now = cx.data().hub.clock.wall();
    write(cx, at, &now.to_le_bytes())
}

/// Setting the period, even to what it was, starts the timer anew.
fn set_tick_period(cx: &mut Cx<'_>, period: u32) -> Answer {
    let id = cx.data().acting_root();
    let vm = cx.data_mut();
    let Some(root) = vm.roots.get_mut(&id) else {
        return Err(Status::BadArgument);
    };
    root.tick = period;
    root.tick_generation += 1;
    arm_tick(vm, id);
    Ok(())
}

fn arm_tick(vm: &Vm, root: u32) {
    let Some(context) = vm.roots.get(&root).filter(|c| c.tick > 0) else {
        return;
    };
    let (worker, generation) = (vm.worker, context.tick_generation);
    vm.hub
        .after(Duration::from_millis(u64::from(context.tick)), move |p| {
            p.with(worker, |cx| {
                let current = |cx: &Cx<'_>| {
                    cx.data()
                        .roots
                        .get(&root)
                        .is_some_and(|r| r.tick_generation == generation)
                };
                if current(cx) {
                    cx.data_mut().ticks += 1;
                    enter(cx, frame(root), |cx, e| {
                        e.on_tick.call(cx.as_context_mut(), root)
                    })?;
                }
                if current(cx) {
                    cx.data_mut().ticks += 1;
                    arm_tick(cx.data(), root);
                }
                Ok(())
            });
        });
}

/// A buffer that the acting context can see now.
fn with_buffer<R>(
    cx: &mut Cx<'_>,
    kind: u32,
    use_it: impl FnOnce(&mut Vec<u8>) -> R,
) -> Result<R, Status> {
    let vm = cx.data_mut();
    match kind {
        DOWNSTREAM_DATA | UPSTREAM_DATA => {
            let stream = vm.acting_stream().ok_or(Status::NotFound)?;
            let mut s = stream.borrow_mut();
            match kind {
                DOWNSTREAM_DATA if s.read_visible => Ok(use_it(&mut s.read_buffer)),
                UPSTREAM_DATA if s.write_visible => Ok(use_it(&mut s.write_buffer)),
                _ => Err(Status::NotFound),
            }
        }
        VM_CONFIGURATION => Ok(use_it(&mut Vec::new())),
        PLUGIN_CONFIGURATION if vm.frame.configuring => {
            let root = vm.acting_root();
            Ok(use_it(
                &mut vm
                    .roots
                    .get(&root)
                    .map(|r| r.configuration.clone())
                    .unwrap_or_default(),
            ))
        }
        0..=MAX_BUFFER => Err(Status::NotFound),
        _ => Err(Status::BadArgument),
    }
}

fn get_buffer(
    cx: &mut Cx<'_>,
    kind: u32,
    start: u32,
    length: u32,
    data_at: u32,
    size_at: u32,
) -> Answer {
    let bytes = with_buffer(cx, kind, |buffer| {
        let end = start.checked_add(length).ok_or(Status::BadArgument)? as usize;
        Ok(buffer
            .get(start as usize..end.min(buffer.len()))
            .unwrap_or_default()
            .to_vec())
    })??;
    hand_over(cx, &bytes, data_at, size_at)
}

fn set_buffer(cx: &mut Cx<'_>, kind: u32, start: u32, length: u32, at: u32, size: u32) -> Answer {
    let bytes = read(cx, at, size)?;
    if !matches!(kind, DOWNSTREAM_DATA | UPSTREAM_DATA) {
        return Err(Status::BadArgument);
    }
    with_buffer(cx, kind, |buffer| edit(buffer, start, length, &bytes))?
}

fn get_property(cx: &mut Cx<'_>, path: u32, path_size: u32, data_at: u32, size_at: u32) -> Answer {
    let path = read(cx, path, path_size)?;
    let value = property::get(cx.data(), &path).ok_or(Status::NotFound)?;
    hand_over(cx, &value, data_at, size_at)
}

/// Accepted for streams, as Envoy does for any name under its `wasm.` prefix, and then forgotten.
fn set_property(cx: &mut Cx<'_>, path: u32, path_size: u32, at: u32, size: u32) -> Answer {
    read(cx, path, path_size)?;
    read(cx, at, size)?;
    cx.data().acting_stream().map(drop).ok_or(Status::NotFound)
}

fn get_shared(
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

fn set_shared(cx: &mut Cx<'_>, key: u32, key_size: u32, at: u32, size: u32, cas: u32) -> Answer {
    let (key, value) = (read(cx, key, key_size)?, read(cx, at, size)?);
    cx.data().hub.data.borrow_mut().set(&key, &value, cas)
}

fn register_queue(cx: &mut Cx<'_>, name: u32, name_size: u32, token_at: u32) -> Answer {
    let name = read(cx, name, name_size)?;
    let owner = Owner {
        worker: cx.data().worker,
        context: cx.data().acting_root(),
    };
    let token = cx.data().hub.queues.borrow_mut().register(&name, owner);
    write_u32(cx, token_at, token)
}

fn resolve_queue(
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
fn enqueue(cx: &mut Cx<'_>, token: u32, at: u32, size: u32) -> Answer {
    let item = read(cx, at, size)?;
    let hub = &cx.data().hub;
    let Owner { worker, context } = hub.queues.borrow_mut().enqueue(token, item)?;
    hub.after(Duration::ZERO, move |p| {
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

fn dequeue(cx: &mut Cx<'_>, token: u32, data_at: u32, size_at: u32) -> Answer {
    let item = cx.data().hub.queues.borrow_mut().dequeue(token)?;
    hand_over(cx, &item, data_at, size_at)
}

/// The kinds of streams: 2 is the client's, 3 the upstream's, which Envoy cannot continue.
fn continue_stream(cx: &mut Cx<'_>, kind: u32) -> Answer {
    match kind {
        2 => {
            if let Some(stream) = cx.data().acting_stream() {
                let id = stream.borrow().id;
                cx.data_mut().then.push_back(Then::Continue(id));
            }
            Ok(())
        }
        3 => Err(Status::Unimplemented),
        _ => Err(Status::BadArgument),
    }
}

fn close_stream(cx: &mut Cx<'_>, kind: u32) -> Result<u32> {
    if !matches!(kind, 2 | 3) {
        return Ok(Status::BadArgument as u32);
    }
    let Some(stream) = cx.data().acting_stream() else {
        return Ok(Status::Ok as u32);
    };
    match cx.data().hub.close_mode.get() {
        CloseMode::Inline => flow::close(cx, &stream, Peer::Local)?,
        CloseMode::Deferred => {
            let id = stream.borrow().id;
            cx.data_mut().then.push_back(Then::Close(id));
        }
    }
    Ok(Status::Ok as u32)
}

fn set_effective_context(cx: &mut Cx<'_>, context: u32) -> Answer {
    if !cx.data().is_context(context) {
        return Err(Status::BadArgument);
    }
    cx.data_mut().frame.effective = context;
    Ok(())
}

fn define_metric(cx: &mut Cx<'_>, kind: u32, name: u32, name_size: u32, id_at: u32) -> Answer {
    let name = String::from_utf8_lossy(&read(cx, name, name_size)?).into_owned();
    let vm = cx.data();
    let id = vm
        .metrics
        .borrow_mut()
        .define(&mut vm.hub.metrics.borrow_mut(), kind, &name)?;
    write_u32(cx, id_at, id)
}

fn increment_metric(cx: &mut Cx<'_>, id: u32, by: i64) -> Answer {
    let vm = cx.data();
    vm.metrics
        .borrow()
        .increment(&mut vm.hub.metrics.borrow_mut(), id, by)
}

fn record_metric(cx: &mut Cx<'_>, id: u32, value: u64) -> Answer {
    let vm = cx.data();
    vm.metrics
        .borrow()
        .record(&mut vm.hub.metrics.borrow_mut(), id, value)
}

fn get_metric(cx: &mut Cx<'_>, id: u32, value_at: u32) -> Answer {
    let vm = cx.data();
    let value = vm.metrics.borrow().get(&vm.hub.metrics.borrow(), id)?;
    write(cx, value_at, &value.to_le_bytes())
}

/// Nothing is ever pending here: `on_done` is answered at once.
fn done(_cx: &mut Cx<'_>) -> Answer {
    Err(Status::NotFound)
}

fn foreign(
    cx: &mut Cx<'_>,
    name: u32,
    name_size: u32,
    at: u32,
    size: u32,
    data_at: u32,
    size_at: u32,
) -> Answer {
    if read(cx, name, name_size)? != b"set_envoy_filter_state" {
        return Err(Status::NotFound);
    }
    let arguments = read(cx, at, size)?;
    let stream = cx.data().acting_stream().ok_or(Status::NotFound)?;
    stream.borrow_mut().filter_state.call(&arguments)?;
    hand_over(cx, &[], data_at, size_at)
}
