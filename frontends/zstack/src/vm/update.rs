//! `UpdateVmInstance`: what the gateway remembers of a machine, at once.

use babelvisor_core::Error;
use serde_json::Value;

use super::inventory::DEFAULT_NETWORK;
use crate::Zstack;
use crate::decode::Call;
use crate::operations::Started;

/// `UpdateVmInstance`. What is left out stays.
pub(super) async fn update(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let vm = zstack.vm_in(call, "uuid").await?;
    let name = call.text("name");
    // Empty text takes a description away.
    let description = call.body.get("description").and_then(Value::as_str);
    let network = call.id("defaultL3NetworkUuid", "network")?;
    let platform = call.text("platform");
    let vm = zstack
        .core
        .annotate(&call.caller, vm.id, |record| {
            if let Some(name) = name {
                record.display_name = Some(name.to_owned());
            }
            if let Some(description) = description {
                record.remark = description.to_owned();
            }
            if let Some(platform) = platform {
                record.os = Some(platform.to_owned());
            }
            if let Some(network) = network {
                let network = network.simple().to_string();
                record.settings.insert(DEFAULT_NETWORK.to_owned(), network);
            }
            Ok(())
        })
        .await?;
    Ok(Started::Done(zstack.vm_value(&vm)?))
}
