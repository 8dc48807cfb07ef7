//! How the hypervisor misbehaves: slow calls, failing calls. And what it remembers of every call, so that
//! tests can say "no call was made".

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use babelvisor_core::capability::Capability;
use babelvisor_core::model::{JobId, VmId};
use babelvisor_core::{Error, ErrorKind};

use crate::capability::{Method, Target};
use crate::config::{Delay, Fault, When};

/// How many calls are remembered; a long run must not grow for ever.
const LOG_LENGTH: usize = 65_536;

/// One call that the gateway made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRecord {
    /// The method.
    pub method: Method,
    /// What it used.
    pub capability: Capability,
    /// The VM that it was about.
    pub vm: Option<VmId>,
    /// The volume that it was about, as `pool/name`.
    pub volume: Option<String>,
    /// The job that made it.
    pub job: Option<JobId>,
}

/// Delays and faults as they are set now, and the log.
#[derive(Debug)]
pub(crate) struct Quirks {
    pub(crate) delays: BTreeMap<Target, Delay>,
    pub(crate) faults: Vec<Fault>,
    log: VecDeque<CallRecord>,
}

impl Quirks {
    pub(crate) fn new(delays: BTreeMap<Target, Delay>, faults: Vec<Fault>) -> Self {
        Self {
            delays,
            faults,
            log: VecDeque::new(),
        }
    }

    /// How long `call` takes; the capability's delay beats the method's.
    pub(crate) fn delay(&self, call: &CallRecord) -> Duration {
        self.delays
            .get(&Target::Capability(call.capability))
            .or_else(|| self.delays.get(&Target::Method(call.method)))
            .map_or(Duration::ZERO, |delay| delay.draw())
    }

    /// The failure that `call` meets, used up by being asked for.
    pub(crate) fn fault(&mut self, call: &CallRecord) -> Option<(When, Error)> {
        let place = self.faults.iter().position(|fault| {
            fault.times > 0
                && fault.on.meets(call.method, call.capability)
                && (fault.vm.is_none() || fault.vm == call.vm)
        })?;
        let fault = self.faults.get_mut(place)?;
        fault.times -= 1;
        let hit = (fault.when, failure(fault.kind, call, fault.when));
        if fault.times == 0 {
            self.faults.remove(place);
        }
        Some(hit)
    }

    pub(crate) fn note(&mut self, call: CallRecord) {
        if self.log.len() == LOG_LENGTH {
            self.log.pop_front();
        }
        self.log.push_back(call);
    }

    pub(crate) fn log(&self) -> Vec<CallRecord> {
        self.log.iter().cloned().collect()
    }

    pub(crate) fn forget_log(&mut self) {
        self.log.clear();
    }
}

fn failure(kind: ErrorKind, call: &CallRecord, when: When) -> Error {
    let when = match when {
        When::Before => "before it did anything",
        When::After => "after it was done",
    };
    Error::new(
        kind,
        format!(
            "the simulated hypervisor was told to fail {} {when}",
            call.method.as_ref()
        ),
    )
}
