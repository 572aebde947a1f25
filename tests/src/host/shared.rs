//! Shared data and shared queues: one of each per process and `vm_id`, and every VM here has the same `vm_id`.

use std::collections::{HashMap, VecDeque};

use super::status::{Answer, Status};

/// Values by key, each with the number of its last change.
#[derive(Default)]
pub struct SharedData {
    values: HashMap<Vec<u8>, (Vec<u8>, u32)>,
    last_cas: u32,
    conflicts: u32,
    /// How many writes were refused because another VM had been faster.
    pub refused: u32,
    /// How many writes were made.
    pub writes: u32,
}

impl SharedData {
    /// The value and its cas.
    pub fn get(&self, key: &[u8]) -> Option<&(Vec<u8>, u32)> {
        self.values.get(key)
    }

    /// All keys, for tests that look for leftovers.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.values.keys().map(Vec::as_slice)
    }

    /// A cas of zero does not compare. A key that is not there yet is written whatever the cas, as in Envoy.
    pub fn set(&mut self, key: &[u8], value: &[u8], cas: u32) -> Answer {
        if cas != 0 && self.conflicts > 0 && self.values.contains_key(key) {
            self.conflicts -= 1;
            self.touch(key);
        }
        if cas != 0
            && self
                .values
                .get(key)
                .is_some_and(|(_, current)| *current != cas)
        {
            self.refused += 1;
            return Err(Status::CasMismatch);
        }
        let cas = self.next_cas();
        self.values.insert(key.to_vec(), (value.to_vec(), cas));
        self.writes += 1;
        Ok(())
    }

    /// Makes the next `count` compared writes lose against another writer.
    pub fn conflict(&mut self, count: u32) {
        self.conflicts = count;
    }

    fn touch(&mut self, key: &[u8]) {
        let cas = self.next_cas();
        if let Some(entry) = self.values.get_mut(key) {
            entry.1 = cas;
        }
    }

    // Counts all keys of the process together: a cas says nothing about how often one key changed.
    fn next_cas(&mut self) -> u32 {
        self.last_cas = self.last_cas.wrapping_add(1).max(1);
        self.last_cas
    }
}

/// Whom a queue wakes: the root context that registered its name last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub worker: usize,
    pub context: u32,
}

struct Queue {
    owner: Owner,
    items: VecDeque<Vec<u8>>,
}

/// Queues by token; a token is never zero.
#[derive(Default)]
pub struct Queues {
    names: HashMap<Vec<u8>, u32>,
    queues: HashMap<u32, Queue>,
}

impl Queues {
    /// Takes the name over from whoever had it. What lies in the queue stays there.
    pub fn register(&mut self, name: &[u8], owner: Owner) -> u32 {
        let next = self.names.len() as u32 + 1;
        let token = *self.names.entry(name.to_vec()).or_insert(next);
        let queue = self.queues.entry(token).or_insert_with(|| Queue {
            owner,
            items: VecDeque::new(),
        });
        queue.owner = owner;
        token
    }

    /// The token of a name.
    pub fn resolve(&self, name: &[u8]) -> Option<u32> {
        self.names.get(name).copied()
    }

    /// Appends, and says whom to wake.
    pub fn enqueue(&mut self, token: u32, item: Vec<u8>) -> Result<Owner, Status> {
        let queue = self.queues.get_mut(&token).ok_or(Status::NotFound)?;
        queue.items.push_back(item);
        Ok(queue.owner)
    }

    /// The oldest item.
    pub fn dequeue(&mut self, token: u32) -> Result<Vec<u8>, Status> {
        self.queues
            .get_mut(&token)
            .ok_or(Status::NotFound)?
            .items
            .pop_front()
            .ok_or(Status::Empty)
    }

    /// How many items lie in queues that nobody emptied.
    pub fn waiting(&self) -> usize {
        self.queues.values().map(|q| q.items.len()).sum()
    }
}
