//! `MigrateVm`: to the host that is named, else to the one that has most room.

use babelvisor_core::command::PowerAction;
use babelvisor_core::model::{Host, HostId, Vm};
use babelvisor_core::state;
use babelvisor_core::{Error, ErrorKind};

use crate::Zstack;
use crate::decode::Call;
use crate::operations::Started;

/// `MigrateVm`.
pub(super) async fn migrate(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let vm = zstack.vm_in(call, "vmInstanceUuid").await?;
    let host = match call.id("hostUuid", HostId::NOUN)? {
        Some(id) => zstack.host("hostUuid", id)?.id,
        None => {
            let now = zstack.core.now();
            let mut hosts: Vec<&Host> = targets(zstack, &now, &vm);
            hosts.sort_by_key(|host| std::cmp::Reverse(host.memory_free.unwrap_or(host.memory)));
            hosts.first().map(|host| host.id).ok_or_else(|| {
                let text = "there is no other host that the machine could be moved to";
                Error::new(ErrorKind::NoResources, text)
            })?
        }
    };
    let job = zstack
        .core
        .migrate_vm(&call.caller, vm.id, host, call.options.clone())
        .await?;
    Ok(Started::Job(Box::new(job)))
}

/// The hosts that a running machine can be moved to: other ones of its kind of hypervisor that are up, can be
/// reached and have the memory.
pub(super) fn targets<'s>(
    zstack: &Zstack,
    now: &'s babelvisor_core::inventory::Snapshot,
    vm: &Vm,
) -> Vec<&'s Host> {
    use babelvisor_core::capability::Capability;
    let Some(facts) = vm.facts.as_deref() else {
        return Vec::new();
    };
    let backends = zstack.core.backends();
    let Some(home) = backends.get(vm.home()) else {
        return Vec::new();
    };
    let running = state::verdict(PowerAction::Suspend, facts.power) == state::Verdict::Legal;
    let able = home.capabilities().get(Capability::VmMigrate).usable();
    if !running || !able {
        return Vec::new();
    }
    let hosts = now.hosts.values().map(AsRef::as_ref);
    let fits = |host: &&Host| {
        let Some(there) = backends.get(&host.backend) else {
            return false;
        };
        let reached = host.backend == *vm.home() || there.migration_address().is_some();
        host.id != facts.host
            && now.backend_up(&host.backend)
            && there.kind() == home.kind()
            && reached
            && host.memory_free.unwrap_or(host.memory) >= facts.memory.current
    };
    hosts.filter(fits).collect()
}
