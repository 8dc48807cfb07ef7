//! A bounded memory of what is over, so that old news of it is recognised. News that is older than the last
//! tens of thousands of endings does not happen: changes wait in queues that are shorter.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// How many endings are remembered.
const CAPACITY: usize = 1 << 16;

/// The latest value of each of the latest keys.
#[derive(Debug)]
pub(super) struct Remembered<K, V> {
    values: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self {
            values: HashMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<K: Eq + Hash + Copy, V> Remembered<K, V> {
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.values.get(key)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.values.insert(key, value).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > CAPACITY
            && let Some(oldest) = self.order.pop_front()
        {
            self.values.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_remembered_and_the_memory_is_bounded() {
        let mut memory = Remembered::default();
        for key in 0..CAPACITY + 10 {
            memory.insert(key, key);
            memory.insert(key, key + 1);
        }
        assert_eq!(memory.values.len(), CAPACITY);
        assert_eq!(memory.order.len(), CAPACITY);
        assert_eq!(memory.get(&9), None);
        assert_eq!(memory.get(&10), Some(&11));
    }
}
