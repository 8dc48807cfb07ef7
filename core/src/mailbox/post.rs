//! Putting tasks in, handing them out, hearing of them, and waiting for their end.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::{AGAIN, Mailbox, NewTask, Task, TaskReport, TaskState, decode, encode};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Timestamp;
use crate::store::{Expect, Record, RecordKind, Write};

/// The counter of ids.
const COUNTER: &str = "agent-task";
/// How long an ended task is kept.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// How often a write is tried that other gateways come before.
const TRIES: usize = 50;
/// How long one look at a task may stay the last one.
const LOOK: Duration = Duration::from_secs(5);

/// A task with the version of its record.
type Versioned = (Task, u64);

impl Mailbox {
    /// An id for a task, never given before. Keep it before the task is put in: with it the task is found again.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn reserve(&self) -> Result<u64> {
        self.store.allocate(COUNTER, 1).await
    }

    /// Puts a task in under an id that was reserved for it. One that is there already stays as it is: whoever was cut
    /// off after this call makes it again.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn put(&self, id: u64, task: NewTask) -> Result<Task> {
        let task = task.into_task(id, Timestamp::now());
        match self.store.commit(vec![write(&task, Expect::Absent)?]).await {
            Ok(_) => {
                self.tell();
                Ok(task)
            }
            Err(error) if error.kind == ErrorKind::Conflict => {
                let known = self.look(&task.serial, id).await?;
                known
                    .map(|(task, _)| task)
                    .ok_or_else(|| Error::internal(format!("task {id} was removed while it was put in")))
            }
            Err(error) => Err(error),
        }
    }

    /// One task, `None` if there is none or it ended long ago.
    ///
    /// # Errors
    /// Those of the store; `Internal` for a record that cannot be read.
    pub async fn task(&self, serial: &str, id: u64) -> Result<Option<Task>> {
        Ok(self.look(serial, id).await?.map(|(task, _)| task))
    }

    /// All tasks of a host, those included that ended within the last day, by id.
    ///
    /// # Errors
    /// As [`Mailbox::task`].
    pub async fn tasks(&self, serial: &str) -> Result<Vec<Task>> {
        let all = self.all(serial).await?;
        Ok(all.into_iter().map(|(task, _)| task).collect())
    }

    /// The tasks that a host has not been given and may be given now, in the order of their turns and ids. Each is
    /// marked as given, and never comes again, even if the answer is lost.
    ///
    /// # Errors
    /// Those of the store: then nothing was marked; `Conflict` if other gateways kept coming before.
    pub async fn take(&self, serial: &str) -> Result<Vec<Task>> {
        for _ in 0..TRIES {
            let now = Timestamp::now();
            let all = self.all(serial).await?;
            let (ready, writes) = hand_out(&all, now)?;
            if writes.is_empty() {
                return Ok(ready);
            }
            match self.store.commit(writes).await {
                Ok(_) => {
                    self.tell();
                    return Ok(ready);
                }
                Err(error) if error.kind == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(
            ErrorKind::Conflict,
            format!("other gateways kept changing the tasks of agent {serial}"),
        ))
    }

    /// Notes what a host says of its tasks. What it says of tasks that it was never given, or that have ended, or
    /// under another kind, is not believed; returns how many entries were.
    ///
    /// # Errors
    /// Those of the store: the report is then lost, because an end is reported once.
    pub async fn note(&self, serial: &str, reports: &[TaskReport]) -> Result<usize> {
        let mut believed = 0;
        for report in reports {
            if self.note_one(serial, report).await? {
                believed += 1;
            }
        }
        if believed > 0 {
            self.tell();
        }
        Ok(believed)
    }

    async fn note_one(&self, serial: &str, report: &TaskReport) -> Result<bool> {
        for _ in 0..TRIES {
            let Some((mut task, version)) = self.look(serial, report.id).await? else {
                tracing::debug!(serial, task = report.id, "report of an unknown task");
                return Ok(false);
            };
            let given = matches!(task.state, TaskState::Given { .. });
            if !given || report.kind.is_some_and(|kind| kind != task.kind) {
                let (kind, state) = (task.kind, &task.state);
                tracing::debug!(
                    serial,
                    task = report.id,
                    kind,
                    ?state,
                    ?report,
                    "report of a task not believed"
                );
                return Ok(false);
            }
            let now = Timestamp::now();
            let before = task.clone();
            task.percent = report.percent.unwrap_or(task.percent).min(100);
            match report.status {
                2 => task.state = TaskState::Done { at: now },
                status if status < 0 => {
                    task.state = TaskState::Failed {
                        at: now,
                        message: report.message.chars().take(500).collect(),
                    };
                }
                _ => {}
            }
            if task == before {
                return Ok(true);
            }
            match self
                .store
                .commit(vec![write(&task, Expect::Version(version))?])
                .await
            {
                Ok(_) => return Ok(true),
                Err(error) if error.kind == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(
            ErrorKind::Conflict,
            format!(
                "other gateways kept changing task {} of agent {serial}",
                report.id
            ),
        ))
    }

    /// Waits until a task has ended, and returns it; ends it itself when its time is over. At `deadline` a task that
    /// nobody has fetched is taken back; one that was fetched comes back as it is. A store that cannot be reached
    /// is asked again until then.
    ///
    /// # Errors
    /// `NotFound` for a task that does not exist; at the deadline those of the store.
    pub async fn wait(
        &self,
        serial: &str,
        id: u64,
        deadline: Instant,
        progress: impl Fn(u8),
    ) -> Result<Task> {
        let mut changes = self.changes();
        loop {
            changes.mark_unchanged();
            let left = deadline.saturating_duration_since(Instant::now());
            let pause = match self.settle(serial, id, left.is_zero()).await {
                Ok((task, None)) => return Ok(task),
                Ok((task, Some(pause))) => {
                    progress(task.percent);
                    pause
                }
                Err(error) if error.kind == ErrorKind::Conflict && !left.is_zero() => Duration::ZERO,
                Err(error) if error.kind == ErrorKind::NotFound || left.is_zero() => return Err(error),
                Err(error) => {
                    tracing::warn!(serial, task = id, %error, "a task cannot be looked at, trying again");
                    AGAIN
                }
            };
            let pause = pause.min(LOOK).min(left);
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Looks at a task and ends it if it has to: what it is now, and after what time it is to be looked at again;
    /// never if it has ended or nobody waits for it any longer.
    async fn settle(&self, serial: &str, id: u64, last: bool) -> Result<(Task, Option<Duration>)> {
        let Some((mut task, version)) = self.look(serial, id).await? else {
            return Err(Error::not_found("task", id).about("agent", serial));
        };
        if task.ended().is_some() {
            return Ok((task, None));
        }
        let now = Timestamp::now();
        let father = match task.father {
            Some(father) => self.task(serial, father.id).await?,
            None => None,
        };
        let waits = matches!(task.state, TaskState::Waiting);
        let end = match father.filter(|_| waits) {
            Some(father) if father.ended().is_none() => None,
            Some(father) if father.done().is_none() => Some(orphaned(&father, now)),
            Some(father) => {
                task.created = task.created.max(father.done().unwrap_or(task.created));
                task.overdue(now)
            }
            None => task.overdue(now),
        };
        let end = end.or_else(|| (last && waits).then_some(TaskState::Withdrawn { at: now }));
        if let Some(end) = end {
            task.state = end;
            self.store
                .commit(vec![write(&task, Expect::Version(version))?])
                .await?;
            self.tell();
            return Ok((task, None));
        }
        if last {
            return Ok((task, None));
        }
        let due = task.due().map(|due| due.duration_since(now));
        let pause = due.and_then(|left| Duration::try_from(left).ok());
        Ok((task, Some(pause.unwrap_or(LOOK).max(Duration::from_millis(1)))))
    }

    async fn look(&self, serial: &str, id: u64) -> Result<Option<Versioned>> {
        let record = self.store.get(RecordKind::AgentTask, &key(serial, id)).await?;
        record.map(|record| read(&record)).transpose()
    }

    async fn all(&self, serial: &str) -> Result<Vec<Versioned>> {
        let mut all = Vec::new();
        for record in self.store.load(RecordKind::AgentTask).await? {
            if record
                .key
                .rsplit_once('/')
                .is_some_and(|(owner, _)| owner == serial)
            {
                all.push(read(&record)?);
            }
        }
        all.sort_by_key(|(task, _)| task.id);
        Ok(all)
    }
}

/// Which of `all` are handed out at `now`, and what is to be written for that: those marked, those that have ended
/// unasked for, and the removal of those that ended long ago.
fn hand_out(all: &[Versioned], now: Timestamp) -> Result<(Vec<Task>, Vec<Write>)> {
    let known: HashMap<u64, &Task> = all.iter().map(|(task, _)| (task.id, task)).collect();
    let (mut ready, mut writes) = (Vec::new(), Vec::new());
    for (task, version) in all {
        let expect = Expect::Version(*version);
        if let Some(ended) = task.ended() {
            if ended.checked_add(KEPT).is_ok_and(|until| until < now) {
                let removal = Write {
                    value: None,
                    ..write(task, expect)?
                };
                writes.push(removal);
            }
            continue;
        }
        let mut task = task.clone();
        let waits = matches!(task.state, TaskState::Waiting);
        match task.father.filter(|_| waits).map(|father| known.get(&father.id)) {
            Some(Some(father)) if father.ended().is_none() => continue,
            Some(Some(father)) => match father.done() {
                Some(at) => task.created = task.created.max(at),
                None => {
                    task.state = orphaned(father, now);
                    writes.push(write(&task, expect)?);
                    continue;
                }
            },
            Some(None) | None => {}
        }
        if let Some(end) = task.overdue(now) {
            task.state = end;
            writes.push(write(&task, expect)?);
        } else if waits {
            task.state = TaskState::Given { at: now };
            writes.push(write(&task, expect)?);
            ready.push(task);
        }
    }
    ready.sort_by_key(|task| (task.turn, task.id));
    Ok((ready, writes))
}

/// The end of a task whose father has not ended well.
fn orphaned(father: &Task, now: Timestamp) -> TaskState {
    TaskState::Failed {
        at: now,
        message: format!("its father, task {}-{}, did not end well", father.kind, father.id),
    }
}

fn key(serial: &str, id: u64) -> String {
    format!("{serial}/{id}")
}

fn write(task: &Task, expect: Expect) -> Result<Write> {
    Ok(Write {
        kind: RecordKind::AgentTask,
        key: key(&task.serial, task.id),
        expect,
        value: Some(encode(task)?),
    })
}

fn read(record: &Record) -> Result<Versioned> {
    Ok((decode(&record.value)?, record.version))
}
