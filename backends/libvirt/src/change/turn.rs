//! One change of a domain at a time.
//!
//! A call that its job has given up still runs, and what it reads of a definition before it writes may be old when the
//! next try has written meanwhile. libvirt guards single calls, not a reading and the writing after it.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use babelvisor_core::{Error, ErrorKind};
use uuid::Uuid;

use crate::connection::CallError;

/// The domains that are being changed, of all hosts of this process.
static CHANGING: Mutex<BTreeSet<Uuid>> = Mutex::new(BTreeSet::new());
const PAUSE: Duration = Duration::from_millis(10);

/// The right to change a domain; dropping it gives it back.
pub(super) struct Turn(Uuid);

impl Turn {
    /// Waits for it. Blocks: for threads that may.
    pub(super) fn take(uuid: Uuid, deadline: Instant) -> Result<Turn, CallError> {
        loop {
            let taken = CHANGING
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(uuid);
            if taken {
                return Ok(Turn(uuid));
            }
            if Instant::now() >= deadline {
                let text = "an earlier change of the VM is not over yet";
                return Err(Error::new(ErrorKind::Timeout, text).about("vm", uuid).into());
            }
            std::thread::sleep(PAUSE);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        CHANGING
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_changed_by_one_at_a_time_and_others_do_not_wait() {
        let uuid = Uuid::new_v4();
        let soon = || Instant::now() + Duration::from_millis(30);
        let first = Turn::take(uuid, soon()).unwrap();
        assert!(Turn::take(uuid, soon()).is_err());
        assert!(Turn::take(Uuid::new_v4(), soon()).is_ok());
        drop(first);
        assert!(Turn::take(uuid, soon()).is_ok());
    }
}
