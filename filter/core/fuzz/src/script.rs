//! Bytes of a fuzzer, read as decisions. Beyond their end every decision is the first one.

use sentinel_core::{address::Address, time::Timestamp};
use std::time::Duration;

/// What is left to decide.
pub struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *byte
    }

    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub fn pick<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }

    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    /// Lets some time pass: often none, now and then beyond every bound.
    pub fn later(&mut self, now: Timestamp) -> Timestamp {
        const STEPS: [u64; 16] = [
            0, 0, 0, 1, 10, 100, 499, 999, 1000, 3000, 4001, 5000, 15_001, 30_000, 60_000, 600_001,
        ];
        now.after(Duration::from_millis(self.pick(&STEPS)))
    }

    /// One of few addresses, so that they meet again.
    pub fn address(&mut self) -> Address {
        let byte = self.byte();
        let (host, port) = match byte % 8 {
            6 => ("redis-0.redis.ns.svc.cluster.local".to_owned(), 6379),
            7 => (format!("fd00::{}", byte / 8), 6380),
            near => (format!("10.0.0.{}", near + 1), 6379),
        };
        Address::new(&host, &port.to_string()).expect("an address")
    }

    /// One of few names of Sentinels, more than are remembered.
    pub fn sentinel(&mut self) -> String {
        match self.byte() {
            common @ 0..200 => format!("Sentinel 10.0.9.{}:26379", common % 4),
            rare => format!("Sentinel {rare}"),
        }
    }
}

/// Pieces of `bytes`, of lengths that follow from `seed`; 0 gives bytes one by one.
pub fn pieces(bytes: &[u8], seed: u8) -> impl Iterator<Item = &[u8]> {
    let (mut rest, mut state) = (bytes, u32::from(seed));
    core::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        state = state
            .wrapping_mul(1_664_525)
            .wrapping_add(u32::from(seed) * 4);
        let most = usize::from(seed).min(40) + 1;
        let length = (state >> 16) as usize % most + 1;
        let (piece, next) = rest.split_at(length.min(rest.len()));
        rest = next;
        Some(piece)
    })
}

/// What every address that came from outside must be before anybody dials it.
pub fn assert_usable(address: &Address) {
    let text = address.to_string();
    assert_eq!(Address::parse(&text).as_ref(), Ok(address), "{text}");
    assert_ne!(address.port(), 0, "{text}");
    if let Ok(ip) = address.host().parse::<std::net::IpAddr>() {
        assert!(
            !ip.is_unspecified() && !ip.to_canonical().is_unspecified(),
            "{text}"
        );
    }
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{text}");
    assert!(text.len() < 270, "{text}");
}

/// What every text from outside must be before it is logged.
pub fn assert_printable(text: &str) {
    assert!(
        text.chars().count() <= 400 && !text.contains(char::is_control),
        "{text:?}"
    );
}
