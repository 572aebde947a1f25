//! The Kubernetes files and the plain servers: held against the published schemas, and run.

mod schema;
