//! Runs pods of rendered Kubernetes manifests: their own scripts, configurations, environment and probes.
//!
//! Real are: the containers' processes (each container in process, mount, IPC and host name spaces of its own, with the user,
//! groups, capabilities and read-only root that the manifest asks for), ConfigMaps, Secrets and volumes as files, init containers
//! and sidecars, hooks, probes with their thresholds, restarts with their backoff, grace periods; an address per pod, which a pod
//! that comes back does not have; names by a DNS server; Services and NetworkPolicies as rules of a router; StatefulSets,
//! Deployments and Jobs, with their rolling updates.
//!
//! Not real are: images (programs of this machine stand for them, see `image`), memory and CPU limits, seccomp, scheduling
//! (affinity, disruption budgets), service accounts, and everything that is an answer of an API server. A field that this does not
//! know is an error.

pub mod base64;
mod client;
mod container;
mod controller;
mod deployment;
mod env;
mod hook;
mod image;
mod job;
mod kube;
mod kubelet;
mod load;
mod objects;
mod pod;
mod policy;
mod probe;
mod rootfs;
mod runtime;
mod selector;
mod service;
mod spec;
mod stateful;
mod unit;
mod volumes;
mod world;

pub use client::{Client, dial};
pub use kube::Kube;
pub use load::{Load, Plan, Seen};
pub use objects::Objects;
pub use pod::{ContainerStatus, Ending, Identity, Phase, Pod, Status};
pub use runtime::main as run_container;
pub use world::World;
