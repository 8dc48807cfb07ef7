//! Moving a running VM to the host of another backend.

use std::sync::Arc;

use crate::backend::{Backend, MigrationTarget};
use crate::command::MigrateVm;
use crate::error::{Error, Result};
use crate::jobs::context::JobContext;

pub(super) async fn migrate(context: &mut JobContext, wanted: &MigrateVm) -> Result<()> {
    let vm = wanted.vm;
    let peer = context.peer(&wanted.to)?;
    let native = context.vm_ref(vm);
    // A try that was cut off may have got there.
    let arrived = context.steps.contains_key("migrate")
        && peer
            .get(&context.plain_call(), &native)
            .await?
            .is_some_and(|facts| facts.host == wanted.host);
    if !arrived {
        let target = MigrationTarget {
            host: wanted.host,
            address: match *peer.id() == *context.backend.id() {
                true => None,
                false => Some(peer.migration_address().ok_or_else(|| {
                    Error::unsupported(format!("backend {} has no address to migrate to", wanted.to))
                })?),
            },
        };
        let (native, target) = (&native, &target);
        let call =
            |backend: Arc<dyn Backend>, call| async move { backend.migrate(&call, native, target).await };
        context.step("migrate", None, call).await?;
    }
    let facts = peer.get(&context.plain_call(), &native).await?;
    let facts = facts.ok_or_else(|| {
        Error::internal(format!("the vm left for backend {} and is not there", wanted.to)).about("vm", vm)
    })?;
    context.inventory.facts(vec![facts]);
    Ok(())
}
