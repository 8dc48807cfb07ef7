//! A listener at a backend's `watch`, with its bounds.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use babelvisor_core::backend::BackendEvent;
use babelvisor_core::model::{PowerState, VmFacts, VmId};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::bench::{Bench, plain};
use super::verdict::{Verdict, ensure, fail};

/// Events that may wait while the check does something else.
const BACKLOG: usize = 4096;

/// Listens until it is dropped.
pub(crate) struct Watcher {
    events: mpsc::Receiver<BackendEvent>,
    task: JoinHandle<()>,
    bound: Duration,
    settle: Duration,
    /// Every VM as it was told last; `None` once it is gone.
    pub(crate) view: BTreeMap<VmId, Option<VmFacts>>,
    /// How often everything was told.
    pub(crate) resyncs: usize,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watcher {
    /// Starts to listen.
    pub(crate) fn start(bench: &Bench) -> Self {
        let (out, events) = mpsc::channel(BACKLOG);
        let backend = std::sync::Arc::clone(&bench.backend);
        Self {
            events,
            task: tokio::spawn(async move { backend.watch(out).await }),
            bound: bench.config.event_time(),
            settle: bench.config.settle_time(),
            view: BTreeMap::new(),
            resyncs: 0,
        }
    }

    /// Starts to listen and waits until everything was told once.
    pub(crate) async fn ready(bench: &Bench) -> Verdict<Self> {
        let mut watcher = Self::start(bench);
        watcher
            .until("the first event with all VMs", |event| {
                matches!(event, BackendEvent::Resync(_))
            })
            .await?;
        Ok(watcher)
    }

    /// The next event, if one comes until `deadline`.
    pub(crate) async fn next(&mut self, deadline: Instant) -> Verdict<Option<BackendEvent>> {
        match tokio::time::timeout_at(deadline.into(), self.events.recv()).await {
            Err(_) => Ok(None),
            Ok(None) => fail("watch returned although somebody listens"),
            Ok(Some(event)) => {
                self.keep(&event);
                Ok(Some(event))
            }
        }
    }

    fn keep(&mut self, event: &BackendEvent) {
        match event {
            BackendEvent::Resync(all) => {
                self.resyncs += 1;
                for known in self.view.values_mut() {
                    *known = None;
                }
                for facts in all {
                    self.view.insert(facts.id, Some(facts.clone()));
                }
            }
            BackendEvent::Changed(facts) => {
                self.view.insert(facts.id, Some(VmFacts::clone(facts)));
            }
            BackendEvent::Gone(id) => {
                self.view.insert(*id, None);
            }
            BackendEvent::Topology(_) | BackendEvent::Down(_) => {}
        }
    }

    /// Waits for an event, as long as an event may take.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(&BackendEvent) -> bool,
    ) -> Verdict<BackendEvent> {
        let deadline = Instant::now() + self.bound;
        loop {
            match self.next(deadline).await? {
                Some(event) if wanted(&event) => return Ok(event),
                Some(_) => {}
                None => return fail(format!("not told within {} ms: {what}", self.bound.as_millis())),
            }
        }
    }

    /// Waits until the view is as wanted.
    pub(crate) async fn view_until(
        &mut self,
        what: &str,
        wanted: impl Fn(&BTreeMap<VmId, Option<VmFacts>>) -> bool,
    ) -> Verdict {
        let deadline = Instant::now() + self.bound;
        loop {
            if wanted(&self.view) {
                return Ok(());
            }
            ensure!(
                self.next(deadline).await?.is_some(),
                "not told within {} ms: {what}",
                self.bound.as_millis()
            );
        }
    }

    /// Waits until the VM is told to be in `state`, then listens for a while: nothing older may follow.
    pub(crate) async fn state(&mut self, vm: VmId, state: PowerState) -> Verdict {
        let is = |view: &BTreeMap<VmId, Option<VmFacts>>| {
            let told = view.get(&vm).and_then(Option::as_ref);
            told.is_some_and(|facts| plain(facts.power) == state)
        };
        self.view_until(&format!("the VM is {}", state.as_ref()), is)
            .await?;
        self.quiet(|event| match event {
            BackendEvent::Changed(facts) if facts.id == vm && plain(facts.power) != state => Some(format!(
                "after the VM was told to be {}, and nobody changed it, it was told to be {}",
                state.as_ref(),
                facts.power.as_ref()
            )),
            BackendEvent::Gone(id) if *id == vm => {
                Some("a VM that is still there was told to be gone".into())
            }
            BackendEvent::Changed(_)
            | BackendEvent::Gone(_)
            | BackendEvent::Resync(_)
            | BackendEvent::Topology(_)
            | BackendEvent::Down(_) => None,
        })
        .await
    }

    /// Waits until the VM is told to be gone, then listens for a while: it may not come back.
    pub(crate) async fn gone(&mut self, vm: VmId) -> Verdict {
        self.view_until("the VM is gone", |view| view.get(&vm) == Some(&None))
            .await?;
        self.quiet(|event| match event {
            BackendEvent::Changed(facts) if facts.id == vm => {
                Some("a VM was told to have changed after it was told to be gone".into())
            }
            BackendEvent::Changed(_)
            | BackendEvent::Gone(_)
            | BackendEvent::Resync(_)
            | BackendEvent::Topology(_)
            | BackendEvent::Down(_) => None,
        })
        .await
    }

    /// Listens for the time of settling; an event that `wrong` has a word for fails.
    pub(crate) async fn quiet(&mut self, wrong: impl Fn(&BackendEvent) -> Option<String>) -> Verdict {
        let deadline = Instant::now() + self.settle;
        while let Some(event) = self.next(deadline).await? {
            if let Some(word) = wrong(&event) {
                return fail(word);
            }
        }
        Ok(())
    }

    /// Stops listening and waits for `watch` to return.
    pub(crate) async fn hang_up(mut self) -> Verdict {
        self.events.close();
        while self.events.try_recv().is_ok() {}
        match tokio::time::timeout(self.bound, &mut self.task).await {
            Ok(_) => Ok(()),
            Err(_) => fail(format!(
                "watch did not return within {} ms after nobody listened any more",
                self.bound.as_millis()
            )),
        }
    }
}
