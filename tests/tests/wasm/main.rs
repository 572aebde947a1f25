//! The built module under a host that is not Envoy: virtual time, real bytes, any chunking, any order.

mod failover;
mod nodes;
mod site;

mod chunking;
mod churn;
mod configuration;
mod fence;
mod hold;
mod hostile;
mod names;
mod probe;
mod readiness;
mod reentrancy;
mod restarts;
mod schedule;
mod shared;
mod size;
mod switch;
mod thousands;
mod watch;
