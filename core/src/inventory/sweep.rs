//! Tags outlive what they are on when that goes by other ways than a client's removal of it: a job ends, somebody
//! deletes a VM on its hypervisor. Here they are taken away after a while.

use std::sync::Arc;
use std::time::Duration;

use super::{Heard, Snapshot, Upkeep};
use crate::error::Result;
use crate::model::{ImageId, Tag, TagId, TagResource, Timestamp, VmId};
use crate::registry::entry_removal;
use crate::store::Expect;

/// How often it is looked.
const ROUND: Duration = Duration::from_secs(300);
/// A tag so young may be on something that this gateway has not heard of yet.
const SETTLED: Duration = Duration::from_secs(600);
/// How many are removed in one transaction.
const BATCH: usize = 256;

impl Upkeep {
    /// Looks again and again.
    pub(super) async fn sweep(self: Arc<Self>) {
        let mut tick = tokio::time::interval(ROUND);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if let Err(error) = self.sweep_tags(Timestamp::now() - SETTLED).await {
                tracing::error!(%error, "tags on what is gone could not be removed");
            }
        }
    }

    /// Removes the tags made before `before` on VMs and images that are gone; returns how many. Several gateways
    /// may do so at the same time.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn sweep_tags(&self, before: Timestamp) -> Result<usize> {
        let now = self.inventory.now();
        let tags = now.entries.tags.values();
        let orphans: Vec<TagId> = tags
            .filter(|tag| tag.created < before && is_gone(&now, &tag.resource))
            .map(|tag| tag.id)
            .collect();
        for batch in orphans.chunks(BATCH) {
            let writes = batch.iter().map(|id| entry_removal::<Tag>(*id, Expect::Any));
            let writes = writes.collect::<Result<Vec<_>>>()?;
            let versions = self.registry.store().commit(writes).await?;
            let removed = batch.iter().zip(versions);
            let removed = removed.map(|(id, version)| Heard::<Tag>::removed(*id, version));
            self.inventory.entries(removed.collect());
        }
        Ok(orphans.len())
    }
}

/// Whether a tag's resource is surely gone. Of kinds that a backend may have without a record nothing is sure.
fn is_gone(now: &Snapshot, resource: &TagResource) -> bool {
    match resource.kind.as_str() {
        VmId::NOUN => !now.vms.contains_key(&VmId(resource.id)),
        ImageId::NOUN => !now.images.contains_key(&ImageId(resource.id)),
        _ => false,
    }
}
