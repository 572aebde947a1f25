//! Who reaches whom. Places are numbered: the proxy, then the Sentinels, then the nodes.

use super::{Random, redis::Nodes};
use std::collections::BTreeSet;

pub const PROXY: usize = 0;

pub struct Network {
    sentinels: usize,
    /// On which side of a split each place is.
    side: Vec<bool>,
    cut: BTreeSet<(usize, usize)>,
}

impl Network {
    pub fn new(sentinels: usize, nodes: usize) -> Self {
        Self {
            sentinels,
            side: vec![false; 1 + sentinels + nodes],
            cut: BTreeSet::new(),
        }
    }

    pub fn sentinel(&self, index: usize) -> usize {
        1 + index
    }

    pub fn node(&self, name: char) -> usize {
        1 + self.sentinels + Nodes::index(name)
    }

    pub fn connected(&self, a: usize, b: usize) -> bool {
        self.side[a] == self.side[b] && !self.cut.contains(&(a.min(b), a.max(b)))
    }

    /// Two halves, at random.
    pub fn split(&mut self, random: &mut Random) {
        self.side
            .iter_mut()
            .for_each(|side| *side = random.percent(50));
    }

    /// One link, at random; or all links of one place.
    pub fn cut(&mut self, random: &mut Random) {
        let (a, b) = (random.index(self.side.len()), random.index(self.side.len()));
        if random.percent(50) {
            self.cut.insert((a.min(b), a.max(b)));
        } else {
            self.cut
                .extend((0..self.side.len()).map(|b| (a.min(b), a.max(b))));
        }
    }

    pub fn heal(&mut self) {
        self.side.iter_mut().for_each(|side| *side = false);
        self.cut.clear();
    }

    /// How long bytes take: mostly little. Of one connection they stay in order, of two they may pass each other.
    pub fn delay(random: &mut Random) -> u64 {
        match random.below(100) {
            0 => random.below(500),
            1..10 => random.below(100),
            _ => random.below(10),
        }
    }
}
