//! A deterministic simulation. One seed gives one run, always the same, to the line.
//!
//! | module | what it stands for |
//! |---|---|
//! | [`sentinels`] | Sentinels after `sentinel.c`: epochs, votes, hellos, failovers, TILT, restarts |
//! | [`redis`] | Redis nodes: up or not, master or replica |
//! | [`network`] | who reaches whom, and how soon |
//! | [`speech`] | what a Sentinel writes to its clients, byte for byte |
//! | [`watch`] | the proxy's side: slots, conversations, the roster |
//! | [`workers`] | clients of the listeners |
//! | [`world`] | time, and what happens next |
//! | [`trouble`] | what goes wrong |
//! | [`checks`] | what must hold all the same |

pub mod checks;
pub mod network;
pub mod redis;
pub mod sentinels;
pub mod speech;
pub mod trouble;
pub mod watch;
pub mod workers;
pub mod world;

/// xorshift64*: small, and the same everywhere.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        // Seeds 0, 1, 2 … shall not begin alike; 0 itself would stay 0.
        Self(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    /// From 0 to `bound` - 1.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// One of so many indices.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap()
    }

    /// True this often of a hundred times.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}
