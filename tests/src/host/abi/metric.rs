//! Metrics.

use crate::host::memory::{read, write, write_u32};
use crate::host::status::Answer;
use crate::host::vm::Cx;

pub fn define_metric(cx: &mut Cx<'_>, kind: u32, name: u32, name_size: u32, id_at: u32) -> Answer {
    let name = String::from_utf8_lossy(&read(cx, name, name_size)?).into_owned();
    let vm = cx.data();
    let id = vm
        .metrics
        .borrow_mut()
        .define(&mut vm.hub.metrics.borrow_mut(), kind, &name)?;
    write_u32(cx, id_at, id)
}

pub fn increment_metric(cx: &mut Cx<'_>, id: u32, by: i64) -> Answer {
    let vm = cx.data();
    vm.metrics
        .borrow()
        .increment(&mut vm.hub.metrics.borrow_mut(), id, by)
}

pub fn record_metric(cx: &mut Cx<'_>, id: u32, value: u64) -> Answer {
    let vm = cx.data();
    vm.metrics
        .borrow()
        .record(&mut vm.hub.metrics.borrow_mut(), id, value)
}

pub fn get_metric(cx: &mut Cx<'_>, id: u32, value_at: u32) -> Answer {
    let vm = cx.data();
    let value = vm.metrics.borrow().get(&vm.hub.metrics.borrow(), id)?;
    write(cx, value_at, &value.to_le_bytes())
}
