//! The host calls of the ABI, version 0.2.1, that a network filter can make. The rest answers "unimplemented".

use wasmtime::{AsContextMut, Caller, ExternType, FuncType, Linker, Module, Result, Val};

use super::calls;
use super::hub::LogLine;
use super::memory::{read, write_u32};
use super::status::{Answer, Status, code};
use super::vm::{Cx, Vm};

mod buffer;
mod dns;
mod metric;
mod shared;
mod stream;
mod timer;

type C<'a> = Caller<'a, Vm>;

/// Links one host call under its name in the ABI.
macro_rules! call {
    ($linker:ident, $name:literal, $($function:ident)::+ ( $($argument:ident : $kind:ty),* )) => {
        $linker.func_wrap("env", $name, |mut caller: C<'_>, $($argument: $kind),*| {
            code($($function)::+(&mut caller.as_context_mut(), $($argument),*))
        })?;
    };
}

/// Links all host calls that do something.
pub fn link(l: &mut Linker<Vm>) -> Result<()> {
    call!(l, "proxy_log", log(level: u32, at: u32, size: u32));
    call!(l, "proxy_get_log_level", log_level(at: u32));
    call!(l, "proxy_get_current_time_nanoseconds", timer::current_time(at: u32));
    call!(l, "proxy_set_tick_period_milliseconds", timer::set_tick_period(period: u32));
    call!(l, "proxy_get_buffer_bytes", buffer::get_buffer(kind: u32, start: u32, length: u32, data_at: u32, size_at: u32));
    call!(l, "proxy_set_buffer_bytes", buffer::set_buffer(kind: u32, start: u32, length: u32, at: u32, size: u32));
    call!(l, "proxy_get_property", stream::get_property(path: u32, path_size: u32, data_at: u32, size_at: u32));
    call!(l, "proxy_set_property", stream::set_property(path: u32, path_size: u32, at: u32, size: u32));
    call!(l, "proxy_get_shared_data", shared::get_shared(key: u32, key_size: u32, data_at: u32, size_at: u32, cas_at: u32));
    call!(l, "proxy_set_shared_data", shared::set_shared(key: u32, key_size: u32, at: u32, size: u32, cas: u32));
    call!(l, "proxy_register_shared_queue", shared::register_queue(name: u32, name_size: u32, token_at: u32));
    call!(l, "proxy_resolve_shared_queue", shared::resolve_queue(vm: u32, vm_size: u32, name: u32, name_size: u32, token_at: u32));
    call!(l, "proxy_enqueue_shared_queue", shared::enqueue(token: u32, at: u32, size: u32));
    call!(l, "proxy_dequeue_shared_queue", shared::dequeue(token: u32, data_at: u32, size_at: u32));
    call!(l, "proxy_continue_stream", stream::continue_stream(kind: u32));
    call!(l, "proxy_set_effective_context", stream::set_effective_context(context: u32));
    call!(l, "proxy_define_metric", metric::define_metric(kind: u32, name: u32, name_size: u32, id_at: u32));
    call!(l, "proxy_increment_metric", metric::increment_metric(id: u32, by: i64));
    call!(l, "proxy_record_metric", metric::record_metric(id: u32, value: u64));
    call!(l, "proxy_get_metric", metric::get_metric(id: u32, value_at: u32));
    call!(l, "proxy_done", done());
    call!(l, "envoy_resolve_dns", dns::resolve(name: u32, name_size: u32, token_at: u32));
    call!(l, "proxy_call_foreign_function", stream::foreign(name: u32, name_size: u32, at: u32, size: u32, data_at: u32, size_at: u32));
    // Closing can call the module again: a trap in there has to end this call, too.
    l.func_wrap("env", "proxy_close_stream", |mut c: C<'_>, kind: u32| {
        stream::close_stream(&mut c.as_context_mut(), kind)
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

/// The root context that would not go before is done: it goes after this call.
fn done(cx: &mut Cx<'_>) -> Answer {
    let (worker, root) = (cx.data().worker, cx.data().acting_root());
    if !cx.data_mut().leaving.remove(&root) {
        return Err(Status::NotFound);
    }
    let hub = cx.data().hub.clone();
    hub.after(std::time::Duration::ZERO, move |p| {
        p.with(worker, |cx| calls::delete(cx, root));
    });
    Ok(())
}
