//! A test's handle to one client connection.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use wasmtime::AsContextMut;

use super::calls::{enter, frame};
use super::client::Client;
use super::flow;
use super::process::Process;
use super::stream::{Dial, Peer, Proxy, StreamRef};

/// A client's connection, from both ends: what the client does, and what `tcp_proxy` and the upstream saw of it.
#[derive(Clone)]
pub struct Conn {
    process: Process,
    worker: usize,
    stream: StreamRef,
}

/// A callback of a stream, for [`Conn::out_of_order`].
#[derive(Clone, Copy, Debug)]
pub enum Callback {
    /// `proxy_on_downstream_data`: size, end of stream.
    Data(u32, bool),
    /// `proxy_on_upstream_data`: size, end of stream.
    UpstreamData(u32, bool),
    /// `proxy_on_downstream_connection_close`: by whom.
    Close(u32),
    /// `proxy_on_upstream_connection_close`: by whom.
    UpstreamClose(u32),
}

impl Conn {
    pub(super) fn new(process: &Process, worker: usize, stream: StreamRef) -> Self {
        Self {
            process: process.clone(),
            worker,
            stream,
        }
    }

    pub(super) fn observe(&self, client: Rc<RefCell<dyn Client>>) {
        self.stream.borrow_mut().client = Some(client);
    }

    /// Sends without running what follows from it: for callers that are events themselves.
    pub(super) fn push(&self, bytes: &[u8]) {
        self.stream
            .borrow_mut()
            .socket
            .extend(self.process.hub.chunks(bytes));
        self.process
            .with(self.worker, |cx| flow::read(cx, &self.stream));
    }

    /// Sends without running what follows from it: the end of a connection.
    pub(super) fn hang_up(&self) {
        self.process.with(self.worker, |cx| {
            flow::close(cx, &self.stream, Peer::Remote)
        });
    }

    /// The client sends bytes.
    pub fn send(&self, bytes: &[u8]) {
        self.push(bytes);
        self.process.advance(Duration::ZERO);
    }

    /// The client ends its direction (FIN) and goes on reading.
    pub fn fin(&self) {
        self.stream.borrow_mut().socket_fin = true;
        self.process
            .with(self.worker, |cx| flow::read(cx, &self.stream));
        self.process.advance(Duration::ZERO);
    }

    /// The client is gone (RST, or the FIN of a client whose upstream then closed as well).
    pub fn close(&self) {
        self.hang_up();
        self.process.advance(Duration::ZERO);
    }

    /// The upstream sends bytes.
    pub fn upstream_send(&self, bytes: &[u8]) {
        for chunk in self.process.hub.chunks(bytes) {
            self.process.with(self.worker, |cx| {
                flow::upstream_data(cx, &self.stream, &chunk, false)
            });
        }
        self.process.advance(Duration::ZERO);
    }

    /// The upstream ends its direction.
    pub fn upstream_fin(&self) {
        self.process.with(self.worker, |cx| {
            flow::upstream_data(cx, &self.stream, &[], true)
        });
        self.process.advance(Duration::ZERO);
    }

    /// The upstream breaks the connection; `tcp_proxy` closes the client's.
    pub fn upstream_reset(&self) {
        self.process
            .with(self.worker, |cx| flow::close(cx, &self.stream, Peer::Local));
        self.process.advance(Duration::ZERO);
    }

    /// Calls the module as Envoy does not, or not in this order: data after the close, a close again. Nothing follows from
    /// what it answers. Does nothing once the connection's context is deleted.
    pub fn out_of_order(&self, callback: Callback) {
        let id = self.stream.borrow().id;
        if self.stream.borrow().delete_calls > 0 {
            return;
        }
        self.process.with(self.worker, |cx| {
            enter(cx, frame(id), |cx, e| match callback {
                Callback::Data(size, end) => {
                    let arguments = (id, size, u32::from(end));
                    e.on_downstream_data
                        .call(cx.as_context_mut(), arguments)
                        .map(drop)
                }
                Callback::UpstreamData(size, end) => {
                    let arguments = (id, size, u32::from(end));
                    e.on_upstream_data
                        .call(cx.as_context_mut(), arguments)
                        .map(drop)
                }
                Callback::Close(by) => e.on_downstream_close.call(cx.as_context_mut(), (id, by)),
                Callback::UpstreamClose(by) => {
                    let Some(close) = &e.on_upstream_close else {
                        return Ok(());
                    };
                    close.call(cx.as_context_mut(), (id, by))
                }
            })
        });
        self.process.advance(Duration::ZERO);
    }

    /// Whether the module keeps it before it was dialed.
    #[must_use]
    pub fn held(&self) -> bool {
        self.stream.borrow().held()
    }

    /// Whether the module keeps bytes of it, or the whole of it.
    #[must_use]
    pub fn paused(&self) -> bool {
        self.stream.borrow().paused
    }

    /// Who closed it, if anyone did.
    #[must_use]
    pub fn closed(&self) -> Option<Peer> {
        self.stream.borrow().closed
    }

    /// How often the module was told of the close, and of the deletion.
    #[must_use]
    pub fn close_calls(&self) -> (u32, u32) {
        let stream = self.stream.borrow();
        (stream.close_calls, stream.delete_calls)
    }

    /// A filter state object.
    #[must_use]
    pub fn filter_state(&self, key: &str) -> Option<String> {
        self.stream
            .borrow()
            .filter_state
            .get(key)
            .map(str::to_owned)
    }

    /// The arguments of every `set_envoy_filter_state` that was accepted, byte for byte.
    #[must_use]
    pub fn filter_state_calls(&self) -> Vec<Vec<u8>> {
        self.stream.borrow().filter_state.calls.clone()
    }

    /// What `tcp_proxy` dialed.
    #[must_use]
    pub fn dials(&self) -> Vec<Dial> {
        self.stream.borrow().dials.clone()
    }

    /// The upstream's address, once connected.
    #[must_use]
    pub fn upstream(&self) -> Option<String> {
        self.stream.borrow().upstream_address().map(str::to_owned)
    }

    /// Whether bytes reached the upstream, in order.
    #[must_use]
    pub fn forwarded(&self) -> Vec<u8> {
        self.stream.borrow().forwarded.clone()
    }

    /// Whether the client's FIN reached the upstream.
    #[must_use]
    pub fn forwarded_fin(&self) -> bool {
        self.stream.borrow().forwarded_fin
    }

    /// How many bytes reached `tcp_proxy` before it had an upstream: more than none is a bug of the module.
    #[must_use]
    pub fn fell_through(&self) -> usize {
        self.stream.borrow().fell_through
    }

    /// How many bytes Envoy keeps for it: read and not passed on.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.stream.borrow().read_buffer.len()
    }

    /// What the client got.
    #[must_use]
    pub fn received(&self) -> Vec<u8> {
        self.stream.borrow().received.clone()
    }

    /// Whether `tcp_proxy` is still trying to reach the upstream.
    #[must_use]
    pub fn dialing(&self) -> bool {
        matches!(self.stream.borrow().proxy, Proxy::Dialing)
    }
}
