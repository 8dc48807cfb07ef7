//! Moving a running VM to the host of another backend.

use std::sync::Arc;

use crate::backend::Backend;
use crate::command::MigrateVm;
use crate::error::{Error, Result};
use crate::jobs::context::JobContext;

pub(super) async fn migrate(context: &mut JobContext, wanted: &MigrateVm) -> Result<()> {
    let vm = wanted.vm;
    let peer = context.peer(&wanted.to)?;
    let native = context.vm_ref(vm);
    // A try that was cut off may have got there.
    let there = peer.get(&context.plain_call(), &native).await?;
    let arrived = context.steps.contains_key("migrate") && there.is_some();
    if !arrived {
        let address = peer.migration_address().ok_or_else(|| {
            Error::unsupported(format!("backend {} has no address to migrate to", wanted.to))
        })?;
        let (native, address) = (&native, address.as_str());
        let call =
            |backend: Arc<dyn Backend>, call| async move { backend.migrate(&call, native, address).await };
        context.step("migrate", None, call).await?;
    }
    let facts = peer.get(&context.plain_call(), &native).await?;
    let facts = facts.ok_or_else(|| {
        Error::internal(format!("the vm left for backend {} and is not there", wanted.to)).about("vm", vm)
    })?;
    context.inventory.facts(vec![facts]);
    Ok(())
}
