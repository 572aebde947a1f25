//! A proxy-wasm host as Envoy is one for a network filter, in virtual time.
//!
//! [`Process`] stands for the Envoy process: what its VMs share (data, queues, metrics, log), the clock and the network
//! behind `tcp_proxy`. A [`Worker`] is one thread with one VM, [`Worker::root`] configures a root context in it, and a
//! [`Conn`] is an accepted connection. Nothing here sleeps: [`Process::advance`] moves the clock and fires what is due.

mod abi;
mod calls;
mod client;
mod clock;
mod conn;
mod filter_state;
mod flow;
mod health;
mod hub;
mod memory;
mod metrics;
mod module;
mod network;
mod process;
mod property;
mod resolver;
mod sentinel;
mod shared;
mod status;
mod stream;
mod vm;
mod wasi;
mod worker;

pub use conn::{Callback, Conn};
pub use health::Heartbeat;
pub use hub::{CloseMode, LogLine};
pub use network::{Link, Server};
pub use process::Process;
pub use resolver::Resolver;
pub use sentinel::{Opinion, Sentinel, SentinelState};
pub use stream::{Dial, Listener, Peer};
pub use worker::{Refused, Root, Worker};
