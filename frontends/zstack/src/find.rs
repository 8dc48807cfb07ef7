//! What a call's uuids name. Something that does not exist, or not for this caller, is answered by the field that
//! names it.

use std::sync::Arc;

use babelvisor_core::inventory::Entry;
use babelvisor_core::model::{Host, HostId, Network, NetworkId, Nic, NicId, ResourceId, Vm};
use babelvisor_core::query;
use babelvisor_core::{Error, ErrorKind};
use uuid::Uuid;

use crate::Zstack;
use crate::decode::Call;
use crate::error::no_resource;

impl Zstack {
    /// The image, offering, group … with this id, which `field` names.
    ///
    /// # Errors
    /// `NotFound`; those of the store.
    pub(crate) async fn entry<T: Entry>(&self, call: &Call, field: &str, id: T::Id) -> Result<Arc<T>, Error> {
        let found = self.core.entry::<T>(&call.caller, id).await;
        found.map_err(|error| named(error, field))
    }

    /// The network that `field` names.
    pub(crate) fn network(&self, field: &str, id: Uuid) -> Result<Arc<Network>, Error> {
        let now = self.core.now();
        let found = now.networks.get(&NetworkId(id)).cloned();
        found.ok_or_else(|| no_resource(field, NetworkId::NOUN, &id.simple().to_string()))
    }

    /// The host that `field` names.
    pub(crate) fn host(&self, field: &str, id: Uuid) -> Result<Arc<Host>, Error> {
        let now = self.core.now();
        let found = now.hosts.get(&HostId(id)).cloned();
        found.ok_or_else(|| no_resource(field, HostId::NOUN, &id.simple().to_string()))
    }

    /// The interface with this id, and its machine.
    pub(crate) fn nic(&self, call: &Call, field: &str) -> Result<(Arc<Vm>, Nic), Error> {
        let id = NicId(call.path_id(field, NicId::NOUN)?);
        let now = self.core.now();
        // A machine has few interfaces, and this is asked before a change of one: no index is kept for it.
        let mut machines = now.vms.values().filter(|vm| query::may_see(&call.caller, vm));
        let found = machines.find_map(|vm| {
            let nics = &vm.facts.as_ref()?.nics;
            let nic = nics.iter().find(|nic| nic.id == id)?;
            Some((vm.clone(), nic.clone()))
        });
        found.ok_or_else(|| no_resource(field, NicId::NOUN, &id.simple()))
    }
}

/// The same error, saying which field named what was not found.
pub(crate) fn named(mut error: Error, field: &str) -> Error {
    if error.kind == ErrorKind::NotFound {
        error.field = Some(field.to_owned());
    }
    error
}

/// An id that must exist among `known`.
pub(crate) fn one_of<I: ResourceId>(
    field: &str,
    id: I,
    mut known: impl Iterator<Item = I>,
) -> Result<I, Error> {
    if known.any(|other| other.uuid() == id.uuid()) {
        return Ok(id);
    }
    Err(no_resource(field, I::NOUN, &id.uuid().simple().to_string()))
}
