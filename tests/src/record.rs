//! What a client writes down.

use std::time::Instant;

/// A write that Redis acknowledged.
#[derive(Debug, Clone, Copy)]
pub struct Ack {
    /// When the reply arrived.
    pub at: Instant,
    /// The port of the Redis that gave it.
    pub node: u16,
}

/// What one client saw.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Acknowledged writes.
    pub acks: Vec<Ack>,
    /// Connections that could not be opened.
    pub refused: Vec<Instant>,
    /// Connections that were closed before they gave any answer: as good as refused.
    pub unanswered: Vec<Instant>,
    /// Connections that had answered and were closed by the other side.
    pub closes: Vec<Instant>,
    /// Replies that did not come in time.
    pub timeouts: Vec<Instant>,
    /// Error replies.
    pub errors: Vec<(Instant, String)>,
    /// Acknowledged writes that a later answer proves to be gone: a counter may only grow.
    pub lost: i64,
    /// The highest acknowledged value of the counter.
    pub counter: i64,
}
