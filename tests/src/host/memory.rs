//! The module's linear memory, as host calls see it: offsets and lengths that may be anything.

use wasmtime::AsContextMut;

use super::status::{Answer, Status};
use super::vm::Cx;

/// Copies `size` bytes out of the module.
pub fn read(cx: &mut Cx<'_>, at: u32, size: u32) -> Result<Vec<u8>, Status> {
    let memory = cx.data().memory();
    let from = at as usize;
    let bytes = memory
        .data(&*cx)
        .get(from..from.saturating_add(size as usize));
    bytes.map(<[u8]>::to_vec).ok_or(Status::InvalidMemoryAccess)
}

/// Copies `bytes` into the module at an address that it gave.
pub fn write(cx: &mut Cx<'_>, at: u32, bytes: &[u8]) -> Answer {
    let memory = cx.data().memory();
    memory
        .write(cx.as_context_mut(), at as usize, bytes)
        .map_err(|_| Status::InvalidMemoryAccess)
}

/// Writes one 32 bit number.
pub fn write_u32(cx: &mut Cx<'_>, at: u32, value: u32) -> Answer {
    write(cx, at, &value.to_le_bytes())
}

/// Hands `bytes` to the module: in memory that the module allocates, announced at two addresses it gave.
///
/// No bytes at all are a null pointer, as in Envoy.
pub fn hand_over(cx: &mut Cx<'_>, bytes: &[u8], pointer_at: u32, size_at: u32) -> Answer {
    let size = u32::try_from(bytes.len()).map_err(|_| Status::InvalidMemoryAccess)?;
    let mut pointer = 0;
    if size > 0 {
        let allocate = cx.data().exports().on_memory_allocate.clone();
        pointer = allocate
            .call(cx.as_context_mut(), size)
            .map_err(|_| Status::InvalidMemoryAccess)?;
        write(cx, pointer, bytes)?;
    }
    write_u32(cx, pointer_at, pointer)?;
    write_u32(cx, size_at, size)
}
