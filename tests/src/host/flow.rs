//! How a connection's bytes pass the filter chain `[wasm, tcp_proxy]`, in the order in which Envoy does it.

use std::rc::Rc;
use std::time::Duration;

use wasmtime::{AsContextMut, Result};

use super::calls::{self, enter, frame};
use super::network::{self, Upstream};
use super::stream::{Peer, Proxy, StreamRef};
use super::vm::Cx;
use super::{client, stream::Stream};

/// `per_connection_buffer_limit_bytes` of the listeners: beyond it Envoy does not read on.
pub const READ_LIMIT: usize = 262_144;

/// A new connection: the module hears of it, then of what the filters after it may do.
pub fn accept(cx: &mut Cx<'_>, stream: &StreamRef) -> Result<()> {
    let (id, root) = (stream.borrow().id, stream.borrow().root);
    enter(cx, frame(id), |cx, e| {
        e.on_context_create.call(cx.as_context_mut(), (id, root))
    })?;
    run_chain(cx, stream)
}

/// The chain from its first filter on, with all that was read and not yet passed on.
fn run_chain(cx: &mut Cx<'_>, stream: &StreamRef) -> Result<()> {
    let id = stream.borrow().id;
    if stream.borrow().closed.is_some() {
        return Ok(());
    }
    if !stream.borrow().initialized {
        stream.borrow_mut().initialized = true;
        // Set beforehand: the module may resume the stream in the very callback in which it pauses it.
        stream.borrow_mut().paused = true;
        if enter(cx, frame(id), |cx, e| {
            e.on_new_connection.call(cx.as_context_mut(), id)
        })? != 0
        {
            return Ok(());
        }
        stream.borrow_mut().paused = false;
    }
    let (size, fin) = (
        stream.borrow().read_buffer.len() as u32,
        stream.borrow().read_fin,
    );
    if (size > 0 || fin) && stream.borrow().closed.is_none() {
        stream.borrow_mut().read_visible = true;
        stream.borrow_mut().paused = true;
        let data = (id, size, u32::from(fin));
        if enter(cx, frame(id), |cx, e| {
            e.on_downstream_data.call(cx.as_context_mut(), data)
        })? != 0
        {
            return Ok(());
        }
        stream.borrow_mut().read_visible = false;
        stream.borrow_mut().paused = false;
    }
    pass_on(cx, stream);
    Ok(())
}

/// `proxy_continue_stream`: on to the filter after the module.
pub fn resume(cx: &mut Cx<'_>, stream: &StreamRef) -> Result<()> {
    stream.borrow_mut().paused = false;
    pass_on(cx, stream);
    // The buffer has room again, so Envoy reads on: by an event of its own, not within this call.
    let (worker, stream) = (cx.data().worker, Rc::clone(stream));
    cx.data().hub.after(Duration::ZERO, move |p| {
        p.with(worker, |cx| read(cx, &stream))
    });
    Ok(())
}

/// `tcp_proxy`: dials once, then takes whatever is in the buffer. Until it is connected it has reads switched off.
fn pass_on(cx: &mut Cx<'_>, stream: &StreamRef) {
    let mut s = stream.borrow_mut();
    if s.closed.is_some() {
        return;
    }
    if matches!(s.proxy, Proxy::Idle) {
        s.proxy = Proxy::Dialing;
        drop(s);
        network::dial(cx.data(), stream);
        return;
    }
    let bytes = std::mem::take(&mut s.read_buffer);
    let fin = s.read_fin && !s.forwarded_fin;
    match &s.proxy {
        Proxy::Connected(upstream) if !bytes.is_empty() || fin => {
            upstream.send(cx.data(), stream, &bytes, fin);
            s.forwarded.extend_from_slice(&bytes);
            s.forwarded_fin |= fin;
        }
        Proxy::Connected(_) => {}
        _ => {
            s.fell_through += bytes.len();
            s.read_buffer = bytes;
        }
    }
}

/// Reads what the client sent, as far as `tcp_proxy` and the buffer limit let Envoy read at all.
pub fn read(cx: &mut Cx<'_>, stream: &StreamRef) -> Result<()> {
    loop {
        let mut s = stream.borrow_mut();
        let open = s.closed.is_none() && (s.early_reads || matches!(s.proxy, Proxy::Connected(_)));
        if !open || s.read_buffer.len() >= READ_LIMIT {
            return Ok(());
        }
        if let Some(segment) = s.socket.pop_front() {
            s.read_buffer.extend_from_slice(&segment);
        } else if s.socket_fin && !s.read_fin {
            s.read_fin = true;
        } else {
            return Ok(());
        }
        drop(s);
        run_chain(cx, stream)?;
    }
}

/// The upstream is there: reads are switched on, and what was read before is looked at again.
pub fn connected(cx: &mut Cx<'_>, stream: &StreamRef, upstream: Upstream) -> Result<()> {
    if stream.borrow().closed.is_some() {
        return Ok(());
    }
    stream.borrow_mut().proxy = Proxy::Connected(upstream);
    if !stream.borrow().read_buffer.is_empty() {
        run_chain(cx, stream)?;
    }
    read(cx, stream)
}

/// Bytes from the upstream: all that the module has not let through yet, then the new ones.
pub fn upstream_data(cx: &mut Cx<'_>, stream: &StreamRef, bytes: &[u8], fin: bool) -> Result<()> {
    let mut s = stream.borrow_mut();
    if s.closed.is_some() || s.write_fin {
        return Ok(());
    }
    s.write_buffer.extend_from_slice(bytes);
    s.write_fin = fin;
    s.write_visible = true;
    let (id, data) = (s.id, (s.id, s.write_buffer.len() as u32, u32::from(fin)));
    drop(s);
    let pause = enter(cx, frame(id), |cx, e| {
        e.on_upstream_data.call(cx.as_context_mut(), data)
    })? != 0;
    if !pause {
        let mut s = stream.borrow_mut();
        s.write_visible = false;
        let bytes = std::mem::take(&mut s.write_buffer);
        if s.closed.is_none() {
            s.received.extend_from_slice(&bytes);
            s.received_fin |= fin;
            drop(s);
            client::notify(cx.data(), stream, bytes);
        }
    }
    if fin && stream.borrow().closed.is_none() {
        stream.borrow_mut().upstream_closed = true;
        calls::upstream_closed(cx, id, 0)?;
    }
    Ok(())
}

/// The end of a connection, whoever ends it. The module hears of it once, then its context is deleted.
pub fn close(cx: &mut Cx<'_>, stream: &StreamRef, by: Peer) -> Result<()> {
    let id = stream.borrow().id;
    if stream.borrow().closed.is_some() {
        return Ok(());
    }
    let proxy = {
        let mut s = stream.borrow_mut();
        s.closed = Some(by);
        std::mem::replace(&mut s.proxy, Proxy::Done)
    };
    cx.data_mut().gone.push(id);
    stream.borrow_mut().close_calls += 1;
    enter(cx, frame(id), |cx, e| {
        e.on_downstream_close
            .call(cx.as_context_mut(), (id, by as u32))
    })?;
    enter(cx, frame(id), |cx, e| {
        e.on_done.call(cx.as_context_mut(), id)
    })?;
    calls::log(cx, id)?;
    stream.borrow_mut().delete_calls += 1;
    enter(cx, frame(id), |cx, e| {
        e.on_delete.call(cx.as_context_mut(), id)
    })?;
    if let Proxy::Connected(upstream) = proxy {
        upstream.close(cx.data());
    }
    client::notify_closed(cx.data(), stream);
    Ok(())
}

impl Stream {
    /// Whether the module keeps a connection that has not been dialed yet.
    pub fn held(&self) -> bool {
        self.paused && matches!(self.proxy, Proxy::Idle) && self.closed.is_none()
    }
}
