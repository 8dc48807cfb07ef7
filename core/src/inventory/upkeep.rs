//! Keeps the inventory true: runs every backend's watch, follows the store's changes, adopts VMs that nobody
//! has a record of, and lays records of vanished VMs to rest.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{Chores, Inventory};
use crate::backend::{Backend, BackendEvent, CallContext, VmRef};
use crate::error::Result;
use crate::model::{BackendId, Flavor, Image, TenantId, Timestamp, VmFacts, VmId, VmRecord};
use crate::registry::{Registry, decode};
use crate::secret::Keyring;
use crate::store::{Change, Record, RecordKind};

/// How many events may wait between a backend and the inventory.
const EVENTS: usize = 1024;

/// The tasks behind the inventory.
pub struct Upkeep {
    /// The inventory to keep.
    pub inventory: Arc<Inventory>,
    /// The registry.
    pub registry: Registry,
    /// The backends to watch.
    pub backends: HashMap<BackendId, Arc<dyn Backend>>,
    /// Whose adopted VMs are.
    pub adopted_tenant: TenantId,
    /// For calls to backends.
    pub keyring: Arc<Keyring>,
    /// Told of every job change.
    pub jobs: mpsc::UnboundedSender<Change>,
}

impl Upkeep {
    /// Loads the registry, then keeps everything fresh until the returned set is dropped.
    ///
    /// # Errors
    /// Those of the store while loading.
    pub async fn start(self) -> Result<JoinSet<()>> {
        let upkeep = Arc::new(self);
        let changes = upkeep.registry.store().changes().await?;
        upkeep.load().await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(upkeep.clone().follow(changes));
        for backend in upkeep.backends.values() {
            let (sender, events) = mpsc::channel(EVENTS);
            let watched = backend.clone();
            tasks.spawn(async move { watched.watch(sender).await });
            tasks.spawn(upkeep.clone().fold(backend.clone(), events));
        }
        Ok(tasks)
    }

    /// Everything that the store remembers, jobs under way included.
    async fn load(&self) -> Result<()> {
        self.inventory.records(self.registry.vms().await?);
        let store = self.registry.store();
        for record in store.load(RecordKind::Image).await? {
            self.image(Some(&record))?;
        }
        for record in store.load(RecordKind::Flavor).await? {
            self.flavor(Some(&record))?;
        }
        for job in store
            .jobs(&crate::store::JobFilter {
                unfinished: true,
                limit: 0,
            })
            .await?
        {
            self.inventory.job(&job);
        }
        Ok(())
    }

    fn image(&self, record: Option<&Record>) -> Result<()> {
        if let Some(record) = record {
            let image: Image = decode(record)?;
            self.inventory.image(image.id, Some(image));
        }
        Ok(())
    }

    fn flavor(&self, record: Option<&Record>) -> Result<()> {
        if let Some(record) = record {
            let flavor: Flavor = decode(record)?;
            self.inventory.flavor(flavor.id, Some(flavor));
        }
        Ok(())
    }

    async fn follow(self: Arc<Self>, mut changes: mpsc::Receiver<Change>) {
        while let Some(change) = changes.recv().await {
            if let Err(error) = self.change(&change).await {
                tracing::error!(%error, "a change of the store could not be taken in");
            }
            if matches!(change, Change::Job(_) | Change::Gap) && self.jobs.send(change).is_err() {
                return;
            }
        }
    }

    async fn change(&self, change: &Change) -> Result<()> {
        match change {
            Change::Record {
                kind: RecordKind::Vm,
                record: Some(record),
                ..
            } => {
                self.inventory
                    .records(vec![(decode::<VmRecord>(record)?, record.version)]);
            }
            Change::Record {
                kind: RecordKind::Image,
                record,
                key,
            } => match record {
                Some(record) => self.image(Some(record))?,
                None => {
                    if let Ok(id) = key.parse() {
                        self.inventory.image(id, None);
                    }
                }
            },
            Change::Record {
                kind: RecordKind::Flavor,
                record,
                key,
            } => match record {
                Some(record) => self.flavor(Some(record))?,
                None => {
                    if let Ok(id) = key.parse() {
                        self.inventory.flavor(id, None);
                    }
                }
            },
            Change::Record {
                kind:
                    RecordKind::Vm
                    | RecordKind::Account
                    | RecordKind::Session
                    | RecordKind::Alias
                    | RecordKind::Setting,
                ..
            } => {}
            Change::Job(job) => self.inventory.job(job),
            Change::Gap => self.load().await?,
        }
        Ok(())
    }

    async fn fold(self: Arc<Self>, backend: Arc<dyn Backend>, mut events: mpsc::Receiver<BackendEvent>) {
        while let Some(event) = events.recv().await {
            // What a lost backend says last is the reason; the log gets it once per loss.
            if let BackendEvent::Down(error) = &event {
                tracing::warn!(backend = %backend.id(), %error, "backend is down");
            }
            let chores = self.inventory.backend_event(backend.id(), event);
            self.do_chores(&backend, chores).await;
        }
    }

    /// Adopts and lays to rest. Faults of the store are logged and tried again at the next event or resync.
    pub async fn do_chores(&self, backend: &Arc<dyn Backend>, chores: Chores) {
        if !chores.adopt.is_empty()
            && let Err(error) = self.adopt(&chores.adopt).await
        {
            tracing::error!(backend = %backend.id(), %error, "vms found on the backend could not be adopted");
        }
        let buried = futures_util::stream::iter(chores.missing).for_each_concurrent(8, |id| async move {
            if let Err(error) = self.bury(backend, id).await {
                tracing::error!(backend = %backend.id(), vm = %id, %error, "a vanished vm could not be noted");
            }
        });
        buried.await;
    }

    async fn adopt(&self, found: &[Arc<VmFacts>]) -> Result<()> {
        // A VM that a job of ours is just making has its record already, or gets it with the next change.
        let now = self.inventory.now();
        let strangers: Vec<_> = found
            .iter()
            .filter(|facts| !now.vms.contains_key(&facts.id))
            .cloned()
            .collect();
        if strangers.is_empty() {
            return Ok(());
        }
        let adopted = self.registry.adopt(&strangers, &self.adopted_tenant).await?;
        tracing::info!(
            count = adopted.len(),
            "adopted vms that were not made through the gateway"
        );
        self.inventory.records(adopted);
        Ok(())
    }

    /// Notes that a VM is gone, unless a job of ours is at it (which will note it) or it is there after all.
    async fn bury(&self, backend: &Arc<dyn Backend>, id: VmId) -> Result<()> {
        let now = self.inventory.now();
        let Some(vm) = now.vms.get(&id) else { return Ok(()) };
        if vm.activity.is_some() || vm.record.fault.is_some() || vm.record.backend != *backend.id() {
            return Ok(());
        }
        let call = CallContext::plain(Instant::now() + Duration::from_secs(30), self.keyring.clone());
        let native = VmRef {
            id,
            native: id.to_string(),
        };
        if let Some(facts) = backend.get(&call, &native).await? {
            self.inventory.facts(vec![facts]);
            return Ok(());
        }
        let (record, version) = self
            .registry
            .edit_vm(id, |record| {
                record.gone_at = Some(Timestamp::now());
                Ok(())
            })
            .await?;
        self.inventory.records(vec![(record, version)]);
        Ok(())
    }
}
