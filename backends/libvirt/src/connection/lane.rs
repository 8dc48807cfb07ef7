//! A bounded set of work connections, each on a thread of its own, each used by one call at a time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use virt::connect::Connect;

use super::{CallError, HostOptions};

/// How many calls may be left behind before their places stop being given out again.
const MAX_ABANDONED: usize = 16;

/// The life of one call, shared by the caller and the thread that runs it.
const RUNNING: u8 = 0;
const DONE: u8 = 1;
/// Left behind; its place was given to others.
const LEFT: u8 = 2;
/// Left behind; its place comes back only when the call returns.
const HELD: u8 = 3;

type Job = Box<dyn FnOnce(&mut Slot) + Send>;

/// What a worker thread owns.
struct Slot {
    uri: String,
    connection: Option<Connect>,
}

impl Slot {
    fn run<T>(&mut self, call: impl FnOnce(&Connect) -> Result<T, CallError>) -> Result<T, CallError> {
        if self.connection.as_ref().is_some_and(|c| !super::alive(c)) {
            self.connection = None;
        }
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => super::open(&self.uri)?,
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| call(&connection)));
        match outcome {
            Ok(result) => {
                if result.is_ok() || super::alive(&connection) {
                    self.connection = Some(connection);
                }
                result
            }
            Err(_) => Err(CallError::Crashed),
        }
    }
}

struct Worker {
    jobs: mpsc::Sender<Job>,
}

impl Worker {
    fn spawn(name: String, uri: String, idle: Duration) -> Result<Worker, CallError> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        std::thread::Builder::new()
            .name(name)
            .spawn(move || {
                let mut slot = Slot {
                    uri,
                    connection: None,
                };
                loop {
                    let job = match inbox.recv_timeout(idle) {
                        Ok(job) => job,
                        Err(mpsc::RecvTimeoutError::Timeout) => {
                            slot.connection = None;
                            match inbox.recv() {
                                Ok(job) => job,
                                Err(mpsc::RecvError) => break,
                            }
                        }
                        Err(mpsc::RecvTimeoutError::Disconnected) => break,
                    };
                    job(&mut slot);
                }
            })
            .map_err(|e| CallError::Down(format!("no thread for a connection: {e}")))?;
        Ok(Worker { jobs })
    }
}

struct Shared {
    name: &'static str,
    limit: usize,
    host: String,
    uri: String,
    idle_time: Duration,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Worker>>,
    abandoned: AtomicUsize,
    started: AtomicUsize,
}

/// One lane of a host.
pub(super) struct Lane {
    shared: Arc<Shared>,
}

impl Lane {
    pub(super) fn new(name: &'static str, limit: usize, options: &HostOptions) -> Lane {
        Lane {
            shared: Arc::new(Shared {
                name,
                limit,
                host: options.name.clone(),
                uri: options.uri.clone(),
                idle_time: options.idle,
                permits: Arc::new(Semaphore::new(limit)),
                idle: Mutex::new(Vec::new()),
                abandoned: AtomicUsize::new(0),
                started: AtomicUsize::new(0),
            }),
        }
    }

    pub(super) fn abandoned(&self) -> usize {
        self.shared.abandoned.load(Ordering::Relaxed)
    }

    pub(super) async fn call<T, F>(&self, deadline: Instant, call: F) -> Result<T, CallError>
    where
        T: Send + 'static,
        F: FnOnce(&Connect) -> Result<T, CallError> + Send + 'static,
    {
        let begun = Instant::now();
        if begun >= deadline {
            // Sent all the same, it would have its effect with nobody there to hear of it.
            return Err(CallError::Timeout(Duration::ZERO));
        }
        let shared = &self.shared;
        let acquire = Arc::clone(&shared.permits).acquire_owned();
        let permit = match tokio::time::timeout_at(deadline.into(), acquire).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(CallError::Down("the host is being shut down".into())),
            Err(_) => {
                return Err(CallError::Busy {
                    lane: shared.name,
                    limit: shared.limit,
                    waited: begun.elapsed(),
                });
            }
        };
        let worker = shared.take_worker()?;
        let state = Arc::new(AtomicU8::new(RUNNING));
        let (answer, answered) = oneshot::channel();
        let job: Job = {
            let (state, shared) = (Arc::clone(&state), Arc::clone(shared));
            Box::new(move |slot| {
                let result = slot.run(call);
                shared.finished(&state);
                // Nobody waits any more when the call was left behind: its result is dropped here.
                let _ = answer.send(result);
            })
        };
        let sent = worker.jobs.send(job);
        let mut flight = Flight {
            shared: Arc::clone(shared),
            worker: Some(worker),
            permit: Some(permit),
            state,
        };
        if sent.is_err() {
            return Err(CallError::Crashed);
        }
        match tokio::time::timeout_at(deadline.into(), answered).await {
            Ok(Ok(result)) => {
                flight.land();
                result
            }
            Ok(Err(_)) => Err(CallError::Crashed),
            Err(_) => Err(CallError::Timeout(begun.elapsed())),
        }
    }
}

impl Shared {
    fn take_worker(&self) -> Result<Worker, CallError> {
        let waiting = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match waiting {
            Some(worker) => Ok(worker),
            None => {
                let number = self.started.fetch_add(1, Ordering::Relaxed);
                Worker::spawn(
                    format!("{}-{}-{number}", self.host, self.name),
                    self.uri.clone(),
                    self.idle_time,
                )
            }
        }
    }

    fn finished(&self, state: &AtomicU8) {
        match state.swap(DONE, Ordering::AcqRel) {
            LEFT => {
                self.abandoned.fetch_sub(1, Ordering::Relaxed);
            }
            HELD => {
                self.abandoned.fetch_sub(1, Ordering::Relaxed);
                self.permits.add_permits(1);
            }
            _ => {}
        }
    }
}

/// A call that is under way, from its caller's side. Dropped before it landed — at the deadline, or because the
/// caller itself was dropped — it leaves the call and its connection behind.
struct Flight {
    shared: Arc<Shared>,
    worker: Option<Worker>,
    permit: Option<OwnedSemaphorePermit>,
    state: Arc<AtomicU8>,
}

impl Flight {
    fn land(&mut self) {
        if let Some(worker) = self.worker.take() {
            self.shared
                .idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(worker);
        }
        self.permit = None;
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if self.worker.is_none() {
            return;
        }
        let crowded = self.shared.abandoned.fetch_add(1, Ordering::Relaxed) >= MAX_ABANDONED;
        let next = if crowded { HELD } else { LEFT };
        match self
            .state
            .compare_exchange(RUNNING, next, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => {
                tracing::warn!(host = %self.shared.host, lane = self.shared.name,
                    "a call to libvirt was left behind at its deadline; its connection is not used again");
                if let (true, Some(permit)) = (crowded, self.permit.take()) {
                    permit.forget();
                }
                // Without its sender the worker ends, and closes the connection, as soon as the call returns.
                self.worker = None;
            }
            Err(_) => {
                self.shared.abandoned.fetch_sub(1, Ordering::Relaxed);
                self.land();
            }
        }
    }
}
