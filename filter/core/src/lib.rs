//! The decisions of envoy-redis-sentinel, free of Envoy and of time.
//!
//! Read in the order in which a fact travels:
//!
//! | module | what goes in | what comes out |
//! |---|---|---|
//! | [`resp`] | bytes of a socket | complete, bounded RESP frames |
//! | [`reply`], [`event`] | frames | typed answers and Pub/Sub events of a Sentinel |
//! | [`conversation`] | heartbeats, answers | commands for one Sentinel, reports, events |
//! | [`probe`] | heartbeats, answers | one Redis node's own `ROLE` |
//! | [`roster`] | known Sentinels, slots | which slot watches which Sentinel |
//! | [`topology`] | reports, events, roles | **which address is the master, and by which evidence** |
//! | [`hosts`] | host names, answers of a DNS server | where to dial them now |
//! | [`admission`] | connections, the topology's [`topology::Route`] | hold, dial, fence, close, refuse |
//!
//! Nothing here reads a clock, logs, or calls the host: time is an argument ([`time::Timestamp`]), what is worth telling
//! is returned ([`fact::Fact`]). The crate does not depend on `proxy-wasm`; Cargo proves it.

pub mod address;
pub mod admission;
pub mod config;
pub mod conversation;
pub mod event;
pub mod fact;
pub mod hosts;
pub mod json;
pub mod probe;
pub mod reply;
pub mod resp;
pub mod roster;
pub mod time;
pub mod topology;
