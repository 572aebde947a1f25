//! What the tests and the developer commands share: real Redis, Sentinel and Envoy processes, clients, and a host for the
//! module that is not Envoy.

#[cfg(feature = "host")]
pub mod host;

pub mod certificates;
pub mod cluster;
pub mod envoy;
pub mod events;
pub mod fault;
pub mod hostile;
pub mod manifests;
pub mod names;
pub mod net;
pub mod oci;
pub mod outcome;
pub mod owner;
pub mod partition;
pub mod plain;
pub mod pods;
pub mod ports;
pub mod process;
pub mod record;
pub mod redis;
pub mod release;
pub mod render;
pub mod resp;
pub mod roles;
pub mod scratch;
pub mod secret;
pub mod sentinel;
pub mod server;
pub mod shards;
pub mod sidecar;
pub mod site;
pub mod state;
pub mod steady;
pub mod tail;
pub mod tools;
pub mod trial;
pub mod wait;
pub mod workload;
