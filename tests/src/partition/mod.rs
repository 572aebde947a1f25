//! A whole system on a network whose links can be cut: what clients see, and what they lose.
//!
//! ```text
//!   proxy:  Envoy, clients of it, and beside them clients that ask the Sentinels themselves (redis-py)
//!   redis-0 (master at first), redis-1, redis-2        each a machine with an address of its own
//!   sentinel-0, sentinel-1, sentinel-2                 the same
//! ```

mod case;
mod direct;
mod outcome;
mod system;

pub use case::{CASES, Case, run};
pub use outcome::{Outcome, Seen};
pub use system::System;
