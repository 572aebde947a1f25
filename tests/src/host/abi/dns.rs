//! Envoy's own addition to the ABI: it resolves host names for the module.

use wasmtime::AsContextMut;

use crate::host::calls::{enter, frame};
use crate::host::memory::{read, write_u32};
use crate::host::status::Answer;
use crate::host::vm::Cx;

/// Takes a question. The answer comes from the resolver's table, after its delay; without a delay, before this returns.
pub fn resolve(cx: &mut Cx<'_>, name: u32, name_size: u32, token_at: u32) -> Answer {
    let name = String::from_utf8_lossy(&read(cx, name, name_size)?).into_owned();
    let (worker, root) = (cx.data().worker, cx.data().acting_root());
    let (token, delay) = cx.data().hub.resolver.borrow_mut().ask(&name);
    write_u32(cx, token_at, token)?;
    let Some(delay) = delay else {
        // A trap in there shows in the call that is under way.
        let _ = answer(cx, root, token, &name);
        return Ok(());
    };
    cx.data().hub.after(delay, move |p| {
        p.with(worker, |cx| {
            assert!(
                cx.data().roots.contains_key(&root),
                "Envoy would use a root context that it has deleted"
            );
            answer(cx, root, token, &name)
        });
    });
    Ok(())
}

fn answer(cx: &mut Cx<'_>, root: u32, token: u32, name: &str) -> wasmtime::Result<()> {
    let bytes = cx.data().hub.resolver.borrow().answer(name);
    let size = bytes.len() as u32;
    cx.data_mut().call_data = bytes;
    let result = enter(cx, frame(root), |cx, e| {
        e.on_resolve_dns
            .call(cx.as_context_mut(), (root, token, size))
    });
    cx.data_mut().call_data.clear();
    result
}
