//! A machine as `compute.inspect` shows it, for those who have no call: the operators' view of all dialects.

use babelvisor_core::model::Vm;
use serde_json::Value;

use super::belonging;
use super::details::{self, View};
use crate::V1Compute;

impl V1Compute {
    /// The data of `compute.inspect`, without the password of the console.
    pub(crate) fn shown(&self, vm: &Vm) -> Option<Value> {
        let now = self.core.now();
        let view = View {
            place: &belonging::of(&now, vm),
            password: None,
            port_group: &|nic| self.port_group_of(&now, nic),
            now: &now,
            console_address: self.settings.console_address.as_deref(),
        };
        let encoded = details::encode(vm, &view).ok()?;
        serde_json::from_slice(&encoded).ok()
    }
}
