//! Buffers: the configuration, and a connection's bytes while the module may see them.

use crate::host::memory::{hand_over, read};
use crate::host::status::{Answer, Status};
use crate::host::stream::edit;
use crate::host::vm::Cx;

const MAX_BUFFER: u32 = 8;

const CALL_DATA: u32 = 8;
const PLUGIN_CONFIGURATION: u32 = 7;
const VM_CONFIGURATION: u32 = 6;
const UPSTREAM_DATA: u32 = 3;
const DOWNSTREAM_DATA: u32 = 2;
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
        CALL_DATA if !vm.call_data.is_empty() => Ok(use_it(&mut vm.call_data.clone())),
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

pub fn get_buffer(
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

pub fn set_buffer(
    cx: &mut Cx<'_>,
    kind: u32,
    start: u32,
    length: u32,
    at: u32,
    size: u32,
) -> Answer {
    let bytes = read(cx, at, size)?;
    if !matches!(kind, DOWNSTREAM_DATA | UPSTREAM_DATA) {
        return Err(Status::BadArgument);
    }
    with_buffer(cx, kind, |buffer| edit(buffer, start, length, &bytes))?
}
