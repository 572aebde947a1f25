//! A pod with an Istio sidecar, without Kubernetes and without istiod: a network namespace whose TCP connections are redirected
//! to an Envoy that runs as uid 1337, with the configuration that istiod would send.
//!
//! What is real: Envoy, the module, iptables' redirection and the restored destination, TLS with certificates on both sides,
//! Redis, the Sentinels, DNS. What stands in for something: [`Istiod`] writes the listeners and clusters, in the shapes that
//! istiod gives them; [`merge`] applies the EnvoyFilters as istiod does; [`discovery`] hands over by files what istiod and the
//! agent hand over by gRPC. Envoy is the plain one: Istio's own filters (its metrics, its metadata exchange) are not in it.

pub mod discovery;
pub mod iptables;
pub mod istiod;
pub mod load;
pub mod merge;
mod peer;
mod pod;
mod system;

pub use istiod::{Istiod, Shape};
pub use peer::Peer;
pub use pod::{POD_UID, Pod};
pub use system::{Node, System};
