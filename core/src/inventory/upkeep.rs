//! Keeps the inventory true: runs every backend's watch, follows the store's changes, adopts VMs that nobody
//! has a record of, and lays records of vanished VMs to rest.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::entry_kinds::KINDS;
use super::{Chores, Inventory};
use crate::backend::{Backend, BackendEvent, CallContext, VmRef};
use crate::error::Result;
use crate::model::{Account, BackendId, TenantId, Timestamp, VmFacts, VmId, VmRecord};
use crate::registry::{Registry, decode};
use crate::secret::Keyring;
use crate::store::{Change, Record, RecordKind};

/// How many events may wait between a backend and the inventory.
const EVENTS: usize = 1024;
/// How often loose ends are looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

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
        tasks.spawn(upkeep.clone().sweep());
        for backend in upkeep.backends.values() {
            let (sender, events) = mpsc::channel(EVENTS);
            let watched = backend.clone();
            tasks.spawn(async move { watched.watch(sender).await });
            tasks.spawn(upkeep.clone().fold(backend.clone(), events));
        }
        Ok(tasks)
    }

    /// Everything that the store remembers, jobs under way included. What the inventory knows and the store no
    /// longer has, because changes were missed, goes.
    async fn load(&self) -> Result<()> {
        let before = self.inventory.now();
        let open_before = self.inventory.open_jobs();
        let store = self.registry.store();
        let mut records = self.registry.all_vms().await?;
        records.retain(|(vm, _)| vm.gone_at.is_none() || before.vms.contains_key(&vm.id));
        self.inventory.records(records);

        for kind in &KINDS {
            let records = store.load(kind.kind).await?;
            let kept: HashSet<Uuid> = records
                .iter()
                .filter_map(|record| record.key.parse().ok())
                .collect();
            (kind.records)(&self.inventory, &records);
            let mut lost = (kind.known)(&before);
            lost.retain(|id| !kept.contains(id));
            (kind.forget)(&self.inventory, &lost);
        }
        let accounts = store.load(RecordKind::Account).await?;
        let kept: HashSet<&str> = accounts.iter().map(|record| record.key.as_str()).collect();
        for name in before
            .accounts
            .keys()
            .filter(|name| !kept.contains(name.as_str()))
        {
            self.inventory.account(name, None);
        }
        for record in &accounts {
            self.account(record);
        }

        let unfinished = crate::store::JobFilter {
            unfinished: true,
            limit: 0,
        };
        let jobs = store.jobs(&unfinished).await?;
        let open: HashSet<_> = jobs.iter().map(|job| job.id).collect();
        for job in &jobs {
            self.inventory.job(job);
        }
        for (vm, submitted, job) in open_before {
            if !open.contains(&job) {
                self.inventory.job_ended(vm, submitted, job);
            }
        }
        Ok(())
    }

    /// One that cannot be read is left out: it must not hide the others.
    fn account(&self, record: &Record) {
        match decode::<Account>(record) {
            Ok(account) => self.inventory.account(&record.key, Some((&account).into())),
            Err(error) => tracing::error!(%error, "an account is left out"),
        }
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
                kind: RecordKind::Account,
                record,
                key,
            } => match record {
                Some(record) => self.account(record),
                None => self.inventory.account(key, None),
            },
            Change::Record { kind, record, key } => {
                // Kinds that are no entries are read where they are needed.
                if let Some(of) = KINDS.iter().find(|of| of.kind == *kind) {
                    match (record, key.parse()) {
                        (Some(record), _) => (of.records)(&self.inventory, std::slice::from_ref(record)),
                        (None, Ok(id)) => (of.forget)(&self.inventory, &[id]),
                        (None, Err(_)) => {}
                    }
                }
            }
            Change::Job(job) => self.inventory.job(job),
            Change::Gap => self.load().await?,
        }
        Ok(())
    }

    async fn fold(self: Arc<Self>, backend: Arc<dyn Backend>, mut events: mpsc::Receiver<BackendEvent>) {
        let mut tick = tokio::time::interval(LOOK_AGAIN);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let chores = tokio::select! {
                biased;
                event = events.recv() => {
                    let Some(event) = event else { return };
                    // What a lost backend says last is the reason; the log gets it once per loss.
                    if let BackendEvent::Down(error) = &event {
                        tracing::warn!(backend = %backend.id(), %error, "backend is down");
                    }
                    self.inventory.backend_event(backend.id(), event)
                }
                _ = tick.tick() => self.inventory.loose_ends(backend.id()),
            };
            self.do_chores(&backend, chores).await;
        }
    }

    /// Adopts, lays to rest, follows. What cannot be done now, because the store is away or a job is at the VM,
    /// is a loose end that is looked at again.
    pub async fn do_chores(&self, backend: &Arc<dyn Backend>, chores: Chores) {
        if !chores.adopt.is_empty()
            && let Err(error) = self.adopt(backend, &chores.adopt).await
        {
            tracing::error!(backend = %backend.id(), %error, "vms found on the backend could not be adopted");
        }
        let buried = futures_util::stream::iter(chores.missing).for_each_concurrent(8, |id| async move {
            if let Err(error) = self.bury(backend, id).await {
                tracing::error!(backend = %backend.id(), vm = %id, %error, "a vanished vm could not be noted");
            }
        });
        buried.await;
        for (id, to) in chores.moved {
            if let Err(error) = self.follow_move(id, &to).await {
                tracing::error!(vm = %id, %to, %error, "a vm that moved could not be followed");
            }
        }
    }

    async fn adopt(&self, backend: &Arc<dyn Backend>, found: &[Arc<VmFacts>]) -> Result<()> {
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
        let (living, gone): (Vec<_>, Vec<_>) = self
            .registry
            .adopt(&strangers, &self.adopted_tenant)
            .await?
            .into_iter()
            .partition(|(record, _)| record.gone_at.is_none());
        if !living.is_empty() {
            tracing::info!(count = living.len(), "adopted vms that were found on a backend");
        }
        self.inventory.records(living);
        for (record, _) in gone {
            self.revive(backend, record.id).await?;
        }
        Ok(())
    }

    /// A VM that was thought gone is reported: either it is back, or the report is older than its end.
    async fn revive(&self, backend: &Arc<dyn Backend>, id: VmId) -> Result<()> {
        let Some(facts) = self.ask(backend, id).await? else {
            self.inventory.forget_facts(backend.id(), &[id]);
            return Ok(());
        };
        let revived = self
            .registry
            .edit_vm(id, |record| {
                record.gone_at = None;
                record.trashed_at = None;
                record.fault = None;
                record.planned = None;
                record.backend = facts.backend.clone();
                Ok(())
            })
            .await?;
        tracing::info!(vm = %id, backend = %backend.id(), "a vm that was thought gone is back");
        self.inventory.records(vec![revived]);
        self.inventory.facts(vec![facts]);
        Ok(())
    }

    /// Notes that a VM is gone, unless a job of ours is at it (which will note it) or it is there after all.
    async fn bury(&self, backend: &Arc<dyn Backend>, id: VmId) -> Result<()> {
        let now = self.inventory.now();
        let Some(vm) = now.vms.get(&id) else { return Ok(()) };
        let may_be_buried = |record: &VmRecord| {
            // A planned one is not there yet, a faulty one never was: both end otherwise.
            record.planned.is_none() && record.fault.is_none() && record.backend == *backend.id()
        };
        if vm.activity.is_some() || !may_be_buried(&vm.record) {
            return Ok(());
        }
        if let Some(facts) = self.ask(backend, id).await? {
            self.inventory.facts(vec![facts]);
            return Ok(());
        }
        let gone = self
            .registry
            .edit_vm(id, |record| {
                // Somebody may have moved or remade it while the backend was asked.
                if may_be_buried(record) {
                    record.gone_at.get_or_insert_with(Timestamp::now);
                }
                Ok(())
            })
            .await?;
        self.inventory.records(vec![gone]);
        Ok(())
    }

    /// Notes that a VM is at another backend now. Not while its own one may still have it: two hosts may list
    /// one VM while it migrates, or for ever when somebody forgot a definition.
    async fn follow_move(&self, id: VmId, to: &BackendId) -> Result<()> {
        let now = self.inventory.now();
        let Some(vm) = now.vms.get(&id) else { return Ok(()) };
        let from = vm.record.backend.clone();
        if from == *to || vm.activity.is_some() {
            return Ok(());
        }
        let left = match self.backends.get(&from) {
            None => true,
            Some(home) if now.backend_up(&from) => self.ask(home, id).await?.is_none(),
            Some(_) => false,
        };
        if !left {
            tracing::debug!(vm = %id, %from, %to, "a vm is listed by two backends");
            return Ok(());
        }
        let moved = self
            .registry
            .edit_vm(id, |record| {
                if record.backend == from {
                    record.backend = to.clone();
                }
                Ok(())
            })
            .await?;
        tracing::info!(vm = %id, %from, %to, "a vm has moved to another backend");
        self.inventory.records(vec![moved]);
        Ok(())
    }

    async fn ask(&self, backend: &Arc<dyn Backend>, id: VmId) -> Result<Option<VmFacts>> {
        let call = CallContext::plain(Instant::now() + Duration::from_secs(30), self.keyring.clone());
        let now = self.inventory.now();
        let facts = now.vms.get(&id).and_then(|vm| vm.facts.as_ref());
        let facts = facts.filter(|facts| facts.backend == *backend.id());
        let native = facts.map_or_else(|| id.to_string(), |facts| facts.native.clone());
        backend.get(&call, &VmRef { id, native }).await
    }
}
