//! The Kubernetes files under `k8s/`, as `kubectl apply -k` would send them.

mod document;
mod render;

pub use document::{Document, parse};
pub use render::{build, kustomizations, render, render_own};
