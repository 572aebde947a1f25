//! A connection: its properties, its filter state, its going on and its end.

use wasmtime::Result;

use crate::host::hub::CloseMode;
use crate::host::memory::{hand_over, read};
use crate::host::status::{Answer, Status};
use crate::host::stream::Peer;
use crate::host::vm::{Cx, Then};
use crate::host::{flow, property};

pub fn get_property(
    cx: &mut Cx<'_>,
    path: u32,
    path_size: u32,
    data_at: u32,
    size_at: u32,
) -> Answer {
    let path = read(cx, path, path_size)?;
    let value = property::get(cx.data(), &path).ok_or(Status::NotFound)?;
    hand_over(cx, &value, data_at, size_at)
}

/// Accepted for streams, as Envoy does for any name under its `wasm.` prefix, and then forgotten.
pub fn set_property(cx: &mut Cx<'_>, path: u32, path_size: u32, at: u32, size: u32) -> Answer {
    read(cx, path, path_size)?;
    read(cx, at, size)?;
    cx.data().acting_stream().map(drop).ok_or(Status::NotFound)
}

/// The kinds of streams: 2 is the client's, 3 the upstream's, which Envoy cannot continue.
pub fn continue_stream(cx: &mut Cx<'_>, kind: u32) -> Answer {
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

pub fn close_stream(cx: &mut Cx<'_>, kind: u32) -> Result<u32> {
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

pub fn set_effective_context(cx: &mut Cx<'_>, context: u32) -> Answer {
    if !cx.data().is_context(context) {
        return Err(Status::BadArgument);
    }
    cx.data_mut().frame.effective = context;
    Ok(())
}

pub fn foreign(
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
