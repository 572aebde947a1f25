//! What all workers of a process share.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use super::clock::Clock;
use super::metrics::Metrics;
use super::network::Network;
use super::process::Process;
use super::resolver::Resolver;
use super::shared::{Queues, SharedData};

/// When `proxy_close_stream` takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseMode {
    /// After the VM call, as in current Envoy.
    Deferred,
    /// At once: the module is told of the close while it still runs the callback that asked for it.
    Inline,
}

/// A line that the module logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When.
    pub at: Duration,
    /// Which worker.
    pub worker: usize,
    /// 0 trace, 1 debug, 2 info, 3 warn, 4 error, 5 critical.
    pub level: u32,
    /// The words.
    pub text: String,
}

/// All that is one per process. Host calls reach it from within every VM.
pub struct Hub {
    pub clock: Clock,
    pub data: RefCell<SharedData>,
    pub queues: RefCell<Queues>,
    pub metrics: RefCell<Metrics>,
    pub log: RefCell<Vec<LogLine>>,
    pub network: RefCell<Network>,
    pub resolver: RefCell<Resolver>,
    pub environment: RefCell<Vec<(String, String)>>,
    pub close_mode: Cell<CloseMode>,
    pub early_reads: Cell<bool>,
    pub latency: Cell<Duration>,
    pub chunk_seed: Cell<Option<u64>>,
}

impl Hub {
    /// Puts something on the agenda.
    pub fn after(&self, delay: Duration, event: impl FnOnce(&Process) + 'static) {
        self.clock.after(delay, Box::new(event));
    }

    /// Puts something on the agenda that crosses the network first.
    pub fn after_latency(&self, event: impl FnOnce(&Process) + 'static) {
        self.after(self.latency.get(), event);
    }

    /// The pieces in which bytes arrive: one, or as the seed has it.
    pub fn chunks(&self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let Some(mut seed) = self.chunk_seed.get() else {
            return vec![bytes.to_vec()];
        };
        let (mut chunks, mut rest) = (Vec::new(), bytes);
        while rest.len() > 1 {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            // Small pieces are the ones that find bugs: mostly up to 8 bytes, sometimes large.
            let most = if seed >> 60 == 0 {
                rest.len() as u64
            } else {
                8
            };
            let (chunk, next) =
                rest.split_at((1 + (seed >> 33) % most).min(rest.len() as u64) as usize);
            chunks.push(chunk.to_vec());
            rest = next;
        }
        chunks.push(rest.to_vec());
        self.chunk_seed.set(Some(seed));
        chunks
    }
}
