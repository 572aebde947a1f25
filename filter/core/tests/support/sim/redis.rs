//! Redis nodes, `A`, `B`, …: what Sentinels and clients find there. A node keeps its role when it restarts, so an old
//! master comes back as one until a Sentinel converts it.

use sentinel_core::address::Address;

use crate::support::{letter, node};

#[derive(Clone, Copy)]
pub struct Node {
    pub up: bool,
    pub is_master: bool,
}

/// All nodes of all masters.
pub struct Nodes(Vec<Node>);

impl Nodes {
    /// So many; the first of each group is its master.
    pub fn new(groups: &[Vec<char>]) -> Self {
        let node = |(index, _)| Node {
            up: true,
            is_master: index == 0,
        };
        Self(
            groups
                .iter()
                .flat_map(|group| group.iter().enumerate().map(node))
                .collect(),
        )
    }

    pub fn index(name: char) -> usize {
        usize::try_from(u32::from(name) - u32::from('A')).unwrap()
    }

    pub fn get(&self, name: char) -> Node {
        self.0[Self::index(name)]
    }

    pub fn edit(&mut self, name: char) -> &mut Node {
        &mut self.0[Self::index(name)]
    }

    pub fn all_up(&mut self) {
        self.0.iter_mut().for_each(|node| node.up = true);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// Which node listens there.
pub fn at(address: &Address) -> char {
    letter(address)
}

/// Where a node listens.
pub fn place(name: char) -> Address {
    node(name)
}
