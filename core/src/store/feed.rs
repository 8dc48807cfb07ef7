//! Fan-out of changes to the subscribers inside this process. Publishing never waits: a subscriber that does
//! not keep up gets one [`Change::Gap`] in the last free place and nothing more until it has read that far,
//! because it will load everything again anyway.

use std::sync::Mutex;

use tokio::sync::mpsc;

use super::Change;

/// How many changes a subscriber may lag behind.
const CAPACITY: usize = 4096;

#[derive(Debug)]
struct Subscriber {
    sender: mpsc::Sender<Change>,
    /// A gap stands in the queue and was not read yet.
    behind: bool,
}

#[derive(Debug, Default)]
pub(super) struct Feed {
    subscribers: Mutex<Vec<Subscriber>>,
}

impl Feed {
    pub(super) fn subscribe(&self) -> mpsc::Receiver<Change> {
        self.subscribe_with(CAPACITY)
    }

    fn subscribe_with(&self, capacity: usize) -> mpsc::Receiver<Change> {
        let (sender, receiver) = mpsc::channel(capacity);
        self.lock().push(Subscriber {
            sender,
            behind: false,
        });
        receiver
    }

    /// Sends the changes to all subscribers, in order.
    pub(super) fn publish(&self, changes: &[Change]) {
        if changes.is_empty() {
            return;
        }
        self.lock().retain_mut(|subscriber| {
            for change in changes {
                if subscriber.behind && subscriber.sender.capacity() == subscriber.sender.max_capacity() {
                    subscriber.behind = false;
                }
                if subscriber.behind {
                    continue;
                }
                let change = if subscriber.sender.capacity() > 1 {
                    change.clone()
                } else {
                    subscriber.behind = true;
                    Change::Gap
                };
                if subscriber.sender.try_send(change).is_err() && subscriber.sender.is_closed() {
                    return false;
                }
            }
            true
        });
    }

    // A panic while the list was locked leaves it whole: every step above is complete in itself.
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Subscriber>> {
        self.subscribers
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::RecordKind;

    fn change(key: usize) -> Change {
        Change::Record {
            kind: RecordKind::Setting,
            key: key.to_string(),
            record: None,
        }
    }

    fn drain(receiver: &mut mpsc::Receiver<Change>) -> Vec<String> {
        let mut seen = Vec::new();
        while let Ok(change) = receiver.try_recv() {
            seen.push(match change {
                Change::Record { key, .. } => key,
                Change::Gap => "gap".to_owned(),
                Change::Job(job) => job.id.to_string(),
            });
        }
        seen
    }

    #[test]
    fn a_slow_subscriber_gets_one_gap_and_then_fresh_changes() {
        let feed = Feed::default();
        let mut receiver = feed.subscribe_with(4);
        for key in 0..10 {
            feed.publish(&[change(key)]);
        }
        assert_eq!(drain(&mut receiver), ["0", "1", "2", "gap"]);
        feed.publish(&[change(10)]);
        assert_eq!(drain(&mut receiver), ["10"]);
    }

    #[test]
    fn a_subscriber_that_left_is_forgotten() {
        let feed = Feed::default();
        drop(feed.subscribe());
        feed.publish(&[change(1)]);
        assert!(feed.lock().is_empty());
    }
}
