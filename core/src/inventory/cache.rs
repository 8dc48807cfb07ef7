//! A bounded store of encoded VMs, for dialects that print the same VM many times between two changes of it.
//! Each dialect has its own; nothing here knows what the bytes mean.

use std::collections::HashMap;
use std::fmt;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::model::VmId;

/// How many independent parts there are, so that readers on several cores seldom meet.
const SHARDS: usize = 16;
/// What an entry costs besides its bytes: key, stamp, and the map's room, rounded up.
const OVERHEAD: usize = 128;

/// Encoded forms of VMs, within a limit of bytes.
///
/// An entry is valid for one stamp: whatever the encoding depends on, at least [`Vm::revision`]. Only the
/// newest stamp of a VM is kept. The bytes may hold what a dialect shows to the owner alone, so `Debug`
/// prints sizes only.
///
/// [`Vm::revision`]: crate::model::Vm::revision
pub struct FragmentCache<S = u64> {
    shards: Vec<Mutex<Shard<S>>>,
    /// Bytes that one generation of one shard may hold.
    half: usize,
}

/// Two generations: when the young one is full it becomes the old one, and what nobody asked for since then
/// is dropped. This is nearly as good as strict order of use and costs no list.
struct Shard<S> {
    young: HashMap<VmId, (S, Bytes)>,
    old: HashMap<VmId, (S, Bytes)>,
    young_bytes: usize,
}

impl<S: PartialEq> FragmentCache<S> {
    /// A cache of at most about `limit` bytes; 0 keeps nothing.
    pub fn new(limit: usize) -> Self {
        let shard = || {
            Mutex::new(Shard {
                young: HashMap::new(),
                old: HashMap::new(),
                young_bytes: 0,
            })
        };
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            half: limit / SHARDS / 2,
        }
    }

    /// The encoded form of `vm`, or what `encode` makes of it now.
    ///
    /// # Errors
    /// Those of `encode`; nothing is kept then.
    pub fn get_or<E>(
        &self,
        vm: VmId,
        stamp: S,
        encode: impl FnOnce() -> Result<Bytes, E>,
    ) -> Result<Bytes, E> {
        if let Some(found) = self.get(vm, &stamp) {
            return Ok(found);
        }
        // Encoded outside the lock; two readers who miss at once do the work twice and store the same.
        let fragment = encode()?;
        self.put(vm, stamp, fragment.clone());
        Ok(fragment)
    }

    /// The encoded form of `vm` with this stamp.
    pub fn get(&self, vm: VmId, stamp: &S) -> Option<Bytes> {
        let mut shard = self.shard(vm)?;
        if let Some((known, fragment)) = shard.young.get(&vm) {
            return (known == stamp).then(|| fragment.clone());
        }
        let (known, fragment) = shard.old.remove(&vm)?;
        if known != *stamp {
            return None;
        }
        let found = fragment.clone();
        shard.insert(vm, known, fragment, self.half);
        Some(found)
    }

    /// Keeps the encoded form of `vm`.
    pub fn put(&self, vm: VmId, stamp: S, fragment: Bytes) {
        if let Some(mut shard) = self.shard(vm) {
            shard.insert(vm, stamp, fragment, self.half);
        }
    }

    /// Bytes held now, overhead included.
    pub fn bytes(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| {
                let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
                let old: usize = shard
                    .old
                    .values()
                    .map(|(_, fragment)| fragment.len() + OVERHEAD)
                    .sum();
                shard.young_bytes + old
            })
            .sum()
    }

    fn shard(&self, vm: VmId) -> Option<MutexGuard<'_, Shard<S>>> {
        // Ids are random or hashes: any four of their bits spread evenly.
        let place = usize::from(vm.0.as_bytes().last().copied().unwrap_or_default()) % SHARDS;
        self.shards
            .get(place)
            .map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<S> Shard<S> {
    fn insert(&mut self, vm: VmId, stamp: S, fragment: Bytes, half: usize) {
        let cost = fragment.len() + OVERHEAD;
        if cost > half {
            self.old.remove(&vm);
            if let Some((_, gone)) = self.young.remove(&vm) {
                self.young_bytes -= gone.len() + OVERHEAD;
            }
            return;
        }
        if self.young_bytes + cost > half {
            self.old = mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.old.remove(&vm);
        self.young_bytes += cost;
        if let Some((_, replaced)) = self.young.insert(vm, (stamp, fragment)) {
            self.young_bytes -= replaced.len() + OVERHEAD;
        }
    }
}

impl<S: PartialEq> fmt::Debug for FragmentCache<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FragmentCache({} bytes)", self.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment(size: usize) -> Bytes {
        Bytes::from(vec![b'x'; size])
    }

    #[test]
    fn an_entry_is_found_under_its_own_stamp_only() {
        let cache = FragmentCache::new(1 << 20);
        let vm = VmId::random();
        cache.put(vm, 7, fragment(10));
        assert_eq!(cache.get(vm, &7), Some(fragment(10)));
        assert_eq!(cache.get(vm, &8), None);
        assert_eq!(cache.get(VmId::random(), &7), None);
    }

    #[test]
    fn a_newer_stamp_replaces_the_older() {
        let cache = FragmentCache::new(1 << 20);
        let vm = VmId::random();
        cache.put(vm, 1, fragment(10));
        let before = cache.bytes();
        cache.put(vm, 2, fragment(10));
        assert_eq!(cache.bytes(), before);
        assert_eq!(cache.get(vm, &1), None);
        assert_eq!(cache.get(vm, &2), Some(fragment(10)));
    }

    #[test]
    fn it_stays_within_its_limit_and_keeps_what_is_in_use() {
        let limit = 64 << 10;
        let cache = FragmentCache::new(limit);
        let favourite = VmId::random();
        cache.put(favourite, 1, fragment(100));
        for _ in 0..10_000 {
            cache.put(VmId::random(), 1, fragment(100));
            assert!(
                cache.get(favourite, &1).is_some(),
                "what is asked for all the time stays"
            );
        }
        assert!(cache.bytes() <= limit, "{} bytes of {limit}", cache.bytes());
        assert!(cache.bytes() > limit / 4, "the limit is made use of");
    }

    #[test]
    fn what_is_larger_than_its_share_is_not_kept() {
        let cache = FragmentCache::new(1024);
        let vm = VmId::random();
        cache.put(vm, 1, fragment(4096));
        assert_eq!(cache.get(vm, &1), None);
        assert_eq!(cache.bytes(), 0);
    }

    #[test]
    fn a_failed_encoding_leaves_nothing_behind() {
        let cache = FragmentCache::new(1 << 20);
        let vm = VmId::random();
        assert_eq!(cache.get_or(vm, 1, || Err("no")), Err("no"));
        assert_eq!(cache.get_or(vm, 1, || Ok::<_, ()>(fragment(3))), Ok(fragment(3)));
        assert_eq!(cache.get_or(vm, 1, || Err("not asked")), Ok(fragment(3)));
    }

    #[test]
    fn its_debug_form_shows_no_content() {
        let cache = FragmentCache::new(1 << 20);
        cache.put(VmId::random(), 1, Bytes::from_static(b"swordfish"));
        assert!(!format!("{cache:?}").contains("swordfish"));
    }
}
