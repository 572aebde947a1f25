//! Time: what it is, and when a root context is called next.

use std::time::Duration;

use wasmtime::AsContextMut;

use crate::host::calls::{enter, frame};
use crate::host::memory::write;
use crate::host::status::{Answer, Status};
use crate::host::vm::{Cx, Vm};

pub fn current_time(cx: &mut Cx<'_>, at: u32) -> Answer {
    let now = cx.data().hub.clock.wall();
    write(cx, at, &now.to_le_bytes())
}

/// Setting the period, even to what it was, starts the timer anew.
pub fn set_tick_period(cx: &mut Cx<'_>, period: u32) -> Answer {
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
