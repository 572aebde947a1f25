//! The Kubernetes files and the plain servers: held against the published schemas, and run.

mod monitoring;
mod oci;
mod partitions;
mod proxy;
mod redis;
mod redis_cluster;
mod references;
mod runner;
mod schema;
mod servers;
mod sidecar;
mod system;
mod tls;
mod tree;
mod webdis;
