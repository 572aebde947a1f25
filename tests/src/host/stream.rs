//! A connection: its socket, Envoy's buffers, its `tcp_proxy`, and what tests want to know afterwards.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use super::client::Client;
use super::filter_state::FilterState;
use super::network::Upstream;

/// Who ended a connection, by the numbers of the ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Envoy, on behalf of the module or of `tcp_proxy`.
    Local = 1,
    /// The client.
    Remote = 2,
}

/// A listener of `envoy/redis.yaml`, as far as the module can see it.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Where the client connected to: `destination.address`.
    pub address: String,
    /// What `tcp_proxy` dials when the filter state names no cluster.
    pub cluster: String,
}

/// One attempt of `tcp_proxy` to reach an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    /// When.
    pub at: Duration,
    /// The cluster.
    pub cluster: String,
    /// The address, as the cluster's type finds it.
    pub address: String,
}

/// What `tcp_proxy` is doing.
pub enum Proxy {
    /// The filters before it did not let the connection through yet.
    Idle,
    /// Dialing, or waiting to dial again.
    Dialing,
    /// Bytes flow.
    Connected(Upstream),
    /// The connection is over.
    Done,
}

/// All that is known of a connection.
pub struct Stream {
    pub id: u32,
    pub root: u32,
    pub listener: Listener,
    pub source: String,
    pub filter_state: FilterState,
    pub proxy: Proxy,
    pub dials: Vec<Dial>,
    /// Set while the filter holds the chain; `tcp_proxy` sees nothing.
    pub paused: bool,
    /// Whether filters see bytes before `tcp_proxy` has an upstream.
    pub early_reads: bool,
    /// Whether `on_new_connection` was called.
    pub initialized: bool,
    pub closed: Option<Peer>,

    /// Sent by the client, not yet read by Envoy: one item per segment.
    pub socket: VecDeque<Vec<u8>>,
    pub socket_fin: bool,
    /// Envoy's read buffer of the connection: what was read and went no further yet.
    pub read_buffer: Vec<u8>,
    pub read_fin: bool,
    /// Whether the module can see the read buffer outside of `on_downstream_data`.
    pub read_visible: bool,
    /// What `tcp_proxy` sent upstream.
    pub forwarded: Vec<u8>,
    pub forwarded_fin: bool,
    /// Bytes that reached `tcp_proxy` while it had no upstream: a filter that holds must not let that happen.
    pub fell_through: usize,

    /// Read from the upstream, not yet written to the client.
    pub write_buffer: Vec<u8>,
    pub write_fin: bool,
    pub write_visible: bool,
    pub upstream_closed: bool,
    /// What the client got.
    pub received: Vec<u8>,
    pub received_fin: bool,

    pub client: Option<Rc<RefCell<dyn Client>>>,
    /// How often the module was told of the close: once, or never if it was not told of the connection.
    pub close_calls: u32,
    pub delete_calls: u32,
}

/// Shared between the VM's contexts and the test's handle, which outlives the context.
pub type StreamRef = Rc<RefCell<Stream>>;

impl Stream {
    pub fn new(id: u32, root: u32, listener: Listener) -> Self {
        Self {
            id,
            root,
            source: if listener.address.starts_with('@') {
                String::new()
            } else {
                format!("10.1.0.1:{}", 1024 + id % 60000)
            },
            listener,
            filter_state: FilterState::default(),
            proxy: Proxy::Idle,
            dials: Vec::new(),
            paused: false,
            early_reads: false,
            initialized: false,
            closed: None,
            socket: VecDeque::new(),
            socket_fin: false,
            read_buffer: Vec::new(),
            read_fin: false,
            read_visible: false,
            forwarded: Vec::new(),
            forwarded_fin: false,
            fell_through: 0,
            write_buffer: Vec::new(),
            write_fin: false,
            write_visible: false,
            upstream_closed: false,
            received: Vec::new(),
            received_fin: false,
            client: None,
            close_calls: 0,
            delete_calls: 0,
        }
    }

    /// The address of the upstream, once there is one.
    pub fn upstream_address(&self) -> Option<&str> {
        matches!(self.proxy, Proxy::Connected(_))
            .then(|| self.dials.last().map(|d| d.address.as_str()))?
    }
}

/// `proxy_set_buffer_bytes` on a buffer of the connection: Envoy can put bytes before, after, or in place of all.
pub fn edit(buffer: &mut Vec<u8>, start: u32, length: u32, bytes: &[u8]) -> super::status::Answer {
    let (start, length) = (start as usize, length as usize);
    match (start, length) {
        (0, 0) => drop(buffer.splice(0..0, bytes.iter().copied())),
        (0, _) if length >= buffer.len() => *buffer = bytes.to_vec(),
        (1.., _) if start >= buffer.len() => buffer.extend_from_slice(bytes),
        _ => return Err(super::status::Status::BadArgument),
    }
    Ok(())
}
