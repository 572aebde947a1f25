//! Peers that do everything but what they should: real TCP servers and clients, written for the tests.

mod behaviour;
mod churn;
mod guard;
mod lie;
mod peer;

pub use behaviour::{Behaviour, Lie};
pub use churn::come_and_go;
pub use guard::{Guard, resident};
pub use peer::Peer;
