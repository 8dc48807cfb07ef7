//! Guests as encoded JSON, so that a list is a concatenation. An entry is good for one revision of its VM and of what
//! else the text shows (host name, image number). Bounded in bytes: the entries that came first go first.
//!
//! The texts hold passwords in clear, as the answers do: they never reach a log, and those of vanished guests are
//! dropped at the next sweep.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use babelvisor_core::model::VmId;
use bytes::Bytes;

/// Readers of different guests should not wait for each other.
const SHARDS: usize = 16;
/// What an entry costs besides its text.
const OVERHEAD: usize = 160;
/// How many entries more than guests there may be before vanished ones are looked for.
const SLACK: usize = 256;

/// What an encoded guest depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Basis {
    /// Of the VM.
    pub(crate) revision: u64,
    /// Of hosts and images.
    pub(crate) surroundings: u64,
}

struct Entry {
    basis: Basis,
    json: Bytes,
}

impl Entry {
    fn cost(&self) -> usize {
        self.json.len() + OVERHEAD
    }
}

/// Hashes ids. A list of all guests looks every one of them up, and the standard hasher, which withstands keys that
/// an attacker picks, costs more than all the rest; no client picks an id here.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let word = chunk.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
            let product = u128::from(self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
            self.0 = (product as u64) ^ ((product >> 64) as u64);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[derive(Default)]
struct Shard {
    entries: HashMap<VmId, Entry, BuildHasherDefault<IdHasher>>,
    /// Ids in the order in which they came; an id that was swept may still stand here.
    order: VecDeque<VmId>,
    bytes: usize,
}

impl Shard {
    fn remove(&mut self, id: &VmId) -> bool {
        let removed = self.entries.remove(id);
        self.bytes -= removed.as_ref().map_or(0, Entry::cost);
        removed.is_some()
    }
}

/// Encoded guests.
pub(crate) struct Cache {
    shards: [Mutex<Shard>; SHARDS],
    shard_limit: usize,
    count: AtomicUsize,
}

impl Cache {
    /// A cache of at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            shards: Default::default(),
            shard_limit: limit / SHARDS,
            count: AtomicUsize::new(0),
        }
    }

    /// The guest's text, if it was encoded from this basis.
    pub(crate) fn get(&self, id: VmId, basis: Basis) -> Option<Bytes> {
        let shard = self.shard(id)?;
        shard
            .entries
            .get(&id)
            .filter(|entry| entry.basis == basis)
            .map(|entry| entry.json.clone())
    }

    /// Appends the guest's text to a list, if it was encoded from this basis; says whether it did.
    pub(crate) fn append(&self, id: VmId, basis: Basis, list: &mut Vec<u8>) -> bool {
        let Some(shard) = self.shard(id) else { return false };
        let entry = shard.entries.get(&id).filter(|entry| entry.basis == basis);
        // Copied while the shard is held: taking a share of the text instead costs more than the copy.
        entry.is_some_and(|entry| {
            list.extend_from_slice(&entry.json);
            true
        })
    }

    /// Keeps a guest's text, unless a newer one is there or it is larger than a shard.
    pub(crate) fn put(&self, id: VmId, basis: Basis, json: Bytes) {
        let entry = Entry { basis, json };
        let cost = entry.cost();
        let Some(mut shard) = self.shard(id) else { return };
        let newer = shard
            .entries
            .get(&id)
            .is_some_and(|old| old.basis.revision > basis.revision);
        if newer || cost > self.shard_limit {
            return;
        }
        if shard.remove(&id) {
            self.count.fetch_sub(1, Ordering::Relaxed);
        } else {
            shard.order.push_back(id);
        }
        while shard.bytes + cost > self.shard_limit
            && let Some(oldest) = shard.order.pop_front()
        {
            if oldest == id {
                shard.order.push_back(id);
                if shard.order.len() == 1 {
                    break;
                }
            } else if shard.remove(&oldest) {
                self.count.fetch_sub(1, Ordering::Relaxed);
            }
        }
        shard.bytes += cost;
        shard.entries.insert(id, entry);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Drops the texts of guests that are gone, once there are clearly more texts than guests.
    pub(crate) fn sweep(&self, guests: usize, lives: impl Fn(&VmId) -> bool) {
        if self.count.load(Ordering::Relaxed) <= guests + SLACK {
            return;
        }
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let gone: Vec<VmId> = shard.entries.keys().filter(|id| !lives(id)).copied().collect();
            for id in &gone {
                if shard.remove(id) {
                    self.count.fetch_sub(1, Ordering::Relaxed);
                }
            }
            let Shard { entries, order, .. } = &mut *shard;
            order.retain(|id| entries.contains_key(id));
        }
    }

    fn shard(&self, id: VmId) -> Option<MutexGuard<'_, Shard>> {
        let [.., last] = id.0.as_bytes();
        let shard = self.shards.get(usize::from(*last) % SHARDS)?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basis(revision: u64) -> Basis {
        Basis {
            revision,
            surroundings: 1,
        }
    }

    /// Ids that fall into one shard.
    fn id(number: u128) -> VmId {
        format!("{:032x}", number << 8).parse().unwrap()
    }

    #[test]
    fn a_text_is_good_for_its_own_basis_only() {
        let cache = Cache::new(1 << 20);
        cache.put(id(1), basis(5), Bytes::from_static(b"{}"));
        assert!(cache.get(id(1), basis(5)).is_some());
        assert!(cache.get(id(1), basis(6)).is_none());
        let moved = Basis {
            surroundings: 2,
            ..basis(5)
        };
        assert!(cache.get(id(1), moved).is_none());
        assert!(cache.get(id(2), basis(5)).is_none());
        let mut list = b"[".to_vec();
        assert!(cache.append(id(1), basis(5), &mut list));
        assert!(!cache.append(id(1), basis(6), &mut list));
        assert!(!cache.append(id(2), basis(5), &mut list));
        assert_eq!(list, b"[{}");
    }

    #[test]
    fn ids_that_differ_anywhere_hash_differently() {
        let hash = |id: VmId| {
            let mut hasher = IdHasher::default();
            std::hash::Hash::hash(&id, &mut hasher);
            hasher.finish()
        };
        let ids = (0..64).map(|bit| format!("{:032x}", 1_u128 << (bit * 2)).parse().unwrap());
        let counted = (0..4096).map(|number| format!("{number:032x}").parse().unwrap());
        let hashes: Vec<u64> = ids.chain(counted).map(hash).collect();
        let distinct = |of: fn(u64) -> u64| {
            let set: std::collections::HashSet<u64> = hashes.iter().map(|hash| of(*hash)).collect();
            set.len()
        };
        // 0 and 2 (twice) appear in both rows: bits 0, 2, 4 … up to 12 lie below 4096.
        let all = hashes.len() - 6;
        assert_eq!(distinct(|hash| hash), all, "of {}", hashes.len());
        // Tables look at the lower bits; half of them taken by chance is what a random function gives.
        assert!(distinct(|hash| hash & 0xfff) > 2300);
    }

    #[test]
    fn a_slow_reader_does_not_replace_a_newer_text() {
        let cache = Cache::new(1 << 20);
        cache.put(id(1), basis(6), Bytes::from_static(b"new"));
        cache.put(id(1), basis(5), Bytes::from_static(b"old"));
        assert_eq!(cache.get(id(1), basis(6)).unwrap(), "new");
    }

    #[test]
    fn the_limit_holds_and_the_first_to_come_go_first() {
        let cache = Cache::new(SHARDS * 4 * (100 + OVERHEAD));
        let text = Bytes::from(vec![b'x'; 100]);
        for number in 0..10 {
            cache.put(id(number), basis(1), text.clone());
            cache.put(id(number), basis(2), text.clone());
        }
        let kept: Vec<u128> = (0..10)
            .filter(|number| cache.get(id(*number), basis(2)).is_some())
            .collect();
        assert_eq!(kept, [6, 7, 8, 9]);
        assert_eq!(cache.count.load(Ordering::Relaxed), 4);
        cache.put(id(11), basis(1), Bytes::from(vec![b'x'; 100_000]));
        assert!(
            cache.get(id(11), basis(1)).is_none(),
            "what is larger than a shard is not kept"
        );
        assert!(cache.get(id(9), basis(2)).is_some());
        cache.put(id(9), basis(3), Bytes::from(vec![b'y'; 300]));
        assert!(
            cache.get(id(9), basis(3)).is_some(),
            "a text that grew pushes others out, not itself"
        );
    }

    #[test]
    fn texts_of_vanished_guests_are_swept() {
        let cache = Cache::new(16 << 20);
        for number in 0..400 {
            cache.put(id(number), basis(1), Bytes::from_static(b"{}"));
        }
        cache.sweep(400, |_| false);
        assert!(cache.get(id(0), basis(1)).is_some(), "no need yet");
        cache.sweep(1, |vm| *vm == id(7));
        assert!(cache.get(id(7), basis(1)).is_some());
        assert!(cache.get(id(8), basis(1)).is_none());
        assert_eq!(cache.count.load(Ordering::Relaxed), 1);
    }
}
