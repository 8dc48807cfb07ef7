//! The one thread that writes. Requests that arrive while it is busy share the next transaction and its one
//! fsync; nobody is answered before that.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use redb::{Database, Durability};
use tokio::sync::oneshot;

use super::super::feed::Feed;
use super::super::rules::unavailable;
use super::super::{Change, Claimed, WorkerId};
use super::board::Board;
use super::operations::{Batch, rebuild};
use super::tables::{Done, Fault, Tables};
use crate::error::{Error, Result};
use crate::model::BackendId;

/// How many requests share a transaction at most: bounds how long the first of them waits.
const MAX_BATCH: usize = 512;

/// How long a failed file is given for its readers to let go of it.
const LET_GO: Duration = Duration::from_millis(500);

/// Answers one caller once the transaction's fate is known: `None` if it is on disk.
pub(super) type Reply = Box<dyn FnOnce(Option<&Error>) + Send>;

/// Opens the file, again after a fault.
pub(super) type Opener = Box<dyn Fn() -> Result<Database> + Send>;

/// An operation with its answer, and the file's fault if there was one.
pub(super) type Work = Box<dyn FnOnce(&mut Batch<'_, '_>) -> (Reply, Option<redb::Error>) + Send>;

/// What the writer is asked to do.
pub(super) enum Message {
    /// Reads and writes the tables; a fault of the file voids the whole transaction.
    Work(Work),
    /// Concerns leases only, which are in memory.
    Memory(Box<dyn FnOnce(&mut Board) + Send>),
    /// Waits for a job.
    Claim(Waiting),
}

/// A worker that waits for a job.
pub(super) struct Waiting {
    pub(super) worker: WorkerId,
    pub(super) backends: Vec<BackendId>,
    pub(super) lease: Duration,
    pub(super) until: Instant,
    pub(super) reply: oneshot::Sender<Result<Option<Claimed>>>,
}

pub(super) struct Writer {
    /// The open file; empty while a fault is being healed.
    pub(super) database: Arc<ArcSwapOption<Database>>,
    pub(super) opener: Opener,
    pub(super) feed: Arc<Feed>,
    pub(super) board: Board,
    pub(super) waiting: Vec<Waiting>,
    /// The last transaction failed: the board may show what is not on disk.
    pub(super) broken: bool,
}

struct Outcome {
    changes: Vec<Change>,
    claims: Vec<(Waiting, Claimed)>,
}

impl Writer {
    /// Serves requests until all senders are gone.
    pub(super) fn run(mut self, requests: &Receiver<Message>) {
        let mut again = false;
        loop {
            let Some(mut messages) = self.wait(requests, again) else {
                return;
            };
            messages.extend(requests.try_iter().take(MAX_BATCH - messages.len()));
            again = self.process(messages);
        }
    }

    /// The first message, or none if there is something to do without one; `None` at the end.
    fn wait(&self, requests: &Receiver<Message>, again: bool) -> Option<Vec<Message>> {
        let timeout = if again {
            Some(Duration::ZERO)
        } else {
            self.waiting
                .iter()
                .map(|waiting| waiting.until)
                .chain(self.board.next_expiry().filter(|_| !self.waiting.is_empty()))
                .min()
                .map(|when| when.saturating_duration_since(Instant::now()))
        };
        match timeout {
            None => requests.recv().ok().map(|message| vec![message]),
            Some(timeout) => match requests.recv_timeout(timeout) {
                Ok(message) => Some(vec![message]),
                Err(RecvTimeoutError::Timeout) => Some(Vec::new()),
                Err(RecvTimeoutError::Disconnected) => None,
            },
        }
    }

    /// Handles what came in; true if a claim came back at once because its worker was gone.
    fn process(&mut self, messages: Vec<Message>) -> bool {
        let mut requests = Vec::with_capacity(messages.len());
        for message in messages {
            match message {
                Message::Claim(waiting) => self.waiting.push(waiting),
                other => requests.push(other),
            }
        }
        self.waiting.retain(|waiting| !waiting.reply.is_closed());
        if self.broken && !self.heal() {
            // Dropping the requests answers them.
            self.dismiss();
            return false;
        }
        self.board.expire(Instant::now());
        let again = if self.needs_file(&requests) {
            self.write(requests)
        } else {
            for request in requests {
                if let Message::Memory(run) = request {
                    run(&mut self.board);
                }
            }
            false
        };
        self.dismiss();
        again
    }

    fn needs_file(&self, requests: &[Message]) -> bool {
        requests.iter().any(|request| matches!(request, Message::Work(_)))
            || self
                .waiting
                .iter()
                .any(|waiting| self.board.next(&waiting.backends).is_some())
    }

    /// Sends those home who have waited long enough.
    fn dismiss(&mut self) {
        let now = Instant::now();
        let (keep, late) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|waiting| waiting.until > now);
        self.waiting = keep;
        for waiting in late {
            // A worker that has gone needs no answer.
            let _ = waiting.reply.send(Ok(None));
        }
    }

    fn write(&mut self, requests: Vec<Message>) -> bool {
        let mut replies = Vec::with_capacity(requests.len());
        match self.transact(requests, &mut replies) {
            Ok(outcome) => {
                self.feed.publish(&outcome.changes);
                for reply in replies {
                    reply(None);
                }
                let mut returned = false;
                for (waiting, claimed) in outcome.claims {
                    let claim = claimed.claim.clone();
                    if waiting.reply.send(Ok(Some(claimed))).is_err() {
                        self.board.release(&claim);
                        returned = true;
                    }
                }
                returned
            }
            Err(fault) => {
                let error = fault.into_error();
                tracing::error!(%error, "the store could not write; nothing of this transaction was kept");
                self.broken = true;
                for reply in replies {
                    reply(Some(&error));
                }
                false
            }
        }
    }

    fn transact(&mut self, requests: Vec<Message>, replies: &mut Vec<Reply>) -> Done<Outcome> {
        let database = self
            .database
            .load_full()
            .ok_or_else(|| unavailable("the file is being reopened"))?;
        let mut transaction = database.begin_write()?;
        transaction
            .set_durability(Durability::Immediate)
            .map_err(|error| Fault::Storage(error.into()))?;
        let outcome = {
            let mut batch = Batch {
                tables: Tables::open(&transaction)?,
                board: &mut self.board,
                changes: Vec::new(),
            };
            for request in requests {
                match request {
                    Message::Work(run) => {
                        let (reply, fault) = run(&mut batch);
                        replies.push(reply);
                        if let Some(fault) = fault {
                            return Err(Fault::Storage(fault));
                        }
                    }
                    Message::Memory(run) => run(batch.board),
                    Message::Claim(waiting) => self.waiting.push(waiting),
                }
            }
            let claims = serve(&mut batch, &mut self.waiting)?;
            Outcome {
                changes: batch.changes,
                claims,
            }
        };
        transaction.commit()?;
        Ok(outcome)
    }

    /// Opens the file again after a fault and takes the board from it: what failed is not on disk.
    fn heal(&mut self) -> bool {
        if let Some(old) = self.database.swap(None) {
            let patience = Instant::now() + LET_GO;
            while Arc::strong_count(&old) > 1 && Instant::now() < patience {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        let opened = (self.opener)().and_then(|database| {
            let board = read_board(&database)?;
            Ok((database, board))
        });
        match opened {
            Ok((database, board)) => {
                let earlier = std::mem::replace(&mut self.board, board);
                self.board.inherit(earlier);
                self.database.store(Some(Arc::new(database)));
                self.broken = false;
                // Readers that looked at the failed file may have missed nothing, but cannot know it.
                self.feed.publish(&[Change::Gap]);
                tracing::info!("the store writes again");
                true
            }
            Err(error) => {
                tracing::error!(%error, "the store cannot be opened again yet");
                false
            }
        }
    }
}

/// Hands ready jobs to those who wait, first come, first served.
fn serve(batch: &mut Batch<'_, '_>, waiting: &mut Vec<Waiting>) -> Done<Vec<(Waiting, Claimed)>> {
    let mut claims = Vec::new();
    for waiter in std::mem::take(waiting) {
        match batch.claim(&waiter.worker, &waiter.backends, waiter.lease)? {
            Some(claimed) => claims.push((waiter, claimed)),
            None => waiting.push(waiter),
        }
    }
    Ok(claims)
}

/// The board as the file says it is.
pub(super) fn read_board(database: &Database) -> Result<Board> {
    let read = || -> Done<Board> {
        let transaction = database.begin_write()?;
        let board = rebuild(&Tables::open(&transaction)?)?;
        transaction.abort()?;
        Ok(board)
    };
    read().map_err(Fault::into_error)
}
