//! Settings that are remembered and shown again, and from which nothing follows on a hypervisor: the original keeps
//! them for services of its own (high availability, guest tools, desktops).

use babelvisor_core::Error;
use babelvisor_core::model::AgentState;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::decode::Call;
use crate::error::mandatory;
use crate::operations::Started;
use crate::{Zstack, encode};

/// `VmRecord::settings`: what the original's high availability shall do.
pub(super) const HA_LEVEL: &str = "ha-level";
/// `VmRecord::settings`: whether the guest's agent is to be used.
const QGA: &str = "qga";
/// `VmRecord::settings`: whether desktops reach it by RDP.
const RDP: &str = "rdp";
/// `VmRecord::settings`: how many screens it has.
const MONITORS: &str = "monitors";
/// More screens than any viewer shows.
const MOST_MONITORS: i64 = 16;

/// `SetVmInstanceHaLevel`.
pub(super) async fn set_ha_level(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let level = call.needed("level")?.to_owned();
    keep(zstack, call, HA_LEVEL, Some(level)).await
}

/// `DeleteVmInstanceHaLevel`.
pub(super) async fn delete_ha_level(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    keep(zstack, call, HA_LEVEL, None).await
}

/// `GetVmInstanceHaLevel`: without one there is no member.
pub(super) async fn ha_level(zstack: &Zstack, call: &Call) -> Result<Bytes, Error> {
    let vm = zstack.vm_in(call, "uuid").await?;
    match vm.record.settings.get(HA_LEVEL) {
        Some(level) => encode::json_of(&json!({ "level": level })),
        None => Ok(encode::nothing()),
    }
}

/// `SetVmQga`.
pub(super) async fn set_qga(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    keep(zstack, call, QGA, Some(enable(call)?.to_string())).await
}

/// `GetVmQga`: as set, else whether the machine has a channel for the agent.
pub(super) async fn qga(zstack: &Zstack, call: &Call) -> Result<Bytes, Error> {
    let vm = zstack.vm_in(call, "uuid").await?;
    let has_channel = || {
        let facts = vm.facts.as_ref();
        facts.is_some_and(|facts| facts.agent != AgentState::Absent)
    };
    let enable = vm
        .record
        .settings
        .get(QGA)
        .map_or_else(has_channel, |set| set == "true");
    encode::json_of(&json!({ "uuid": vm.id.simple(), "enable": enable }))
}

/// `SetVmRDP`.
pub(super) async fn set_rdp(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    keep(zstack, call, RDP, Some(enable(call)?.to_string())).await
}

/// `GetVmRDP`.
pub(super) async fn rdp(zstack: &Zstack, call: &Call) -> Result<Bytes, Error> {
    let vm = zstack.vm_in(call, "uuid").await?;
    let enable = vm.record.settings.get(RDP).is_some_and(|set| set == "true");
    encode::json_of(&json!({ "enable": enable }))
}

/// `SetVmMonitorNumber`.
pub(super) async fn set_monitors(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let number = call.number("monitorNumber");
    let number = number.ok_or_else(|| mandatory(&call.operation.id, "monitorNumber"))?;
    if !(1..=MOST_MONITORS).contains(&number) {
        return Err(Error::invalid(
            "monitorNumber",
            format!("invalid field[monitorNumber], a machine has 1 to {MOST_MONITORS} screens"),
        ));
    }
    keep(zstack, call, MONITORS, Some(number.to_string())).await
}

/// `GetVmMonitorNumber`.
pub(super) async fn monitors(zstack: &Zstack, call: &Call) -> Result<Bytes, Error> {
    let vm = zstack.vm_in(call, "uuid").await?;
    let set = vm.record.settings.get(MONITORS);
    let number = set.and_then(|set| set.parse::<i64>().ok()).unwrap_or(1);
    encode::json_of(&json!({ "monitorNumber": number }))
}

fn enable(call: &Call) -> Result<bool, Error> {
    call.flag("enable")
        .ok_or_else(|| mandatory(&call.operation.id, "enable"))
}

async fn keep(zstack: &Zstack, call: &Call, key: &str, value: Option<String>) -> Result<Started, Error> {
    let vm = zstack.vm_in(call, "uuid").await?;
    zstack
        .core
        .annotate(&call.caller, vm.id, |record| {
            match &value {
                Some(value) => record.settings.insert(key.to_owned(), value.clone()),
                None => record.settings.remove(key),
            };
            Ok(())
        })
        .await?;
    Ok(Started::Done(Value::Object(Default::default())))
}
