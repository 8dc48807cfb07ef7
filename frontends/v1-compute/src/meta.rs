//! Basic settings of a machine: its name, group and labels, and what the product has besides. What no backend can
//! act upon is recorded and shown again, and the answer's warning header says so.

use std::collections::BTreeMap;

use babelvisor_core::model::{Firmware, GroupId, PowerState, Vm, VmRecord};
use babelvisor_core::{Error, state};
use serde_json::{Value, json};

use crate::V1Compute;
use crate::call::{Call, ComputeIdentifier};
use crate::encode::{BatchOutput, Data};
use crate::error::Fault;
use crate::groups::Group;
use crate::life::details::more;
use crate::life::entry::setting;
use crate::operations::{Row, row};

/// The operations of this file.
pub(crate) const ROWS: &[Row] = &[
    row!("compute.meta_set", meta_set),
    row!("compute.cpu_reserve", cpu_reserve),
    row!("compute.memory_reserve", memory_reserve),
    row!("compute.vgpu_set", vgpu_set),
    row!("compute.volume_related_set", volume_related_set),
];

/// The longest text that is recorded of one setting.
const LONGEST: usize = 4096;

/// Where a recorded setting stands in the body, and under which name it is recorded. A later row wins: what stands
/// inside `meta` is meant for the machine as a whole, what stands beside it is the newer form.
const RECORDED: [(&str, &str); 17] = [
    ("/meta/ha_mode", more::HA_MODE),
    ("/meta/panic_model", more::PANIC_MODEL),
    ("/meta/startup_setting", more::STARTUP),
    ("/meta/mem_sec_enabled", more::MEMORY_SECURITY),
    ("/meta/shown_ip", setting::SHOWN_IP),
    ("/meta/virt_nested_enable", setting::NESTED),
    ("/meta/data_localization_mode_on", more::LOCALIZATION),
    ("/meta/hyperv_switch", more::HYPERV),
    ("/meta/mouse_input_type", more::MOUSE),
    ("/meta/boot_menu_timeout", more::BOOT_MENU),
    ("/meta/cpu_mode", more::CPU_MODE),
    ("/kvm_clock_enable", setting::KVM_CLOCK),
    ("/virt_nested_enable", setting::NESTED),
    ("/memory_huge_pages_enable", setting::HUGE_PAGES),
    ("/expand_config", more::EXPAND),
    ("/baseline", more::BASELINE),
    ("/data_localization_mode", more::LOCALIZATION),
];

/// A switch of the document that is on.
const ON: u64 = 1;

/// What `meta_set` changes; absent is unchanged.
#[derive(Default)]
struct Settings {
    name: Option<String>,
    /// The inner none is the tenant's default group.
    group: Option<Option<GroupId>>,
    os: Option<String>,
    /// Empty text takes a setting back.
    recorded: BTreeMap<&'static str, String>,
}

impl Settings {
    fn apply(&self, record: &mut VmRecord) {
        if let Some(name) = &self.name {
            record.display_name = Some(name.clone());
        }
        if let Some(group) = self.group {
            record.group = group;
        }
        if let Some(os) = &self.os {
            record.os = Some(os.clone());
        }
        for (name, value) in &self.recorded {
            if value.is_empty() {
                record.settings.remove(*name);
            } else {
                record.settings.insert((*name).to_owned(), value.clone());
            }
        }
    }
}

impl V1Compute {
    /// `compute.meta_set`: a field that is left out stays as it is.
    pub(crate) async fn meta_set(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let identifier = ComputeIdentifier::of(&call.params);
        let vm = self.machine(&call.caller, &identifier, false).await?;
        let body = Value::Object(call.params.map().clone());
        let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str);
        unchangeable(&body, &vm)?;
        let mut settings = Settings {
            recorded: recorded(&body)?,
            ..Settings::default()
        };
        if let Some(name) = text("/meta/compute_name")
            .map(str::trim)
            .filter(|name| !name.is_empty())
        {
            check_name(name)?;
            settings.name = Some(name.to_owned());
        }
        if let Some(said) = text("/object_group") {
            settings.group = Some(self.group_of(call, &vm, said).await?);
        }
        if let Some(os) = text("/os") {
            let before = vm.record.os.as_deref().unwrap_or_default();
            if is_windows(os) != is_windows(before) && !before.is_empty() {
                off(
                    &vm,
                    "the system's label changes its kind only while the machine is off",
                )?;
            }
            settings.os = Some(os.to_owned());
        }
        let change = |record: &mut VmRecord| {
            settings.apply(record);
            Ok(())
        };
        self.core.annotate(&call.caller, vm.id, change).await?;
        Ok(Data::empty())
    }

    /// The group of the machine's own tenant that `said` names.
    async fn group_of(&self, call: &Call<'_>, vm: &Vm, said: &str) -> Result<Option<GroupId>, Fault> {
        let unknown = || Fault::unknown("group", said);
        match self.find_group(&call.caller, "object_group", said).await? {
            Group::Default(tenant) if tenant == vm.record.tenant => Ok(None),
            Group::Made(group) if group.tenant.as_ref() == Some(&vm.record.tenant) => Ok(Some(group.id)),
            Group::Default(_) | Group::Made(_) => Err(unknown()),
        }
    }

    /// `compute.cpu_reserve`: recorded.
    pub(crate) async fn cpu_reserve(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let identifier = ComputeIdentifier::of(&call.params);
        let vm = self.machine(&call.caller, &identifier, false).await?;
        match vm.power() {
            PowerState::Running | PowerState::Blocked => {}
            PowerState::NoState
            | PowerState::Paused
            | PowerState::ShuttingDown
            | PowerState::Off
            | PowerState::Crashed
            | PowerState::Suspended => off(&vm, "it must be off or running")?,
        }
        self.note(call, &identifier, more::CPU_RESERVE, "cpu_reserve_enable")
            .await
    }

    /// `compute.memory_reserve`: recorded.
    pub(crate) async fn memory_reserve(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let identifier = ComputeIdentifier::of(&call.params);
        let vm = self.machine(&call.caller, &identifier, false).await?;
        off(&vm, "memory is reserved only while the machine is off")?;
        self.note(call, &identifier, more::MEMORY_RESERVE, "memory_reserve_enable")
            .await
    }

    /// `compute.vgpu_set`: image compression and streaming of the display, recorded. It has nothing to do with GPUs.
    pub(crate) async fn vgpu_set(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let identifier = ComputeIdentifier::of(&call.params);
        let vm = self.machine(&call.caller, &identifier, false).await?;
        off(&vm, "the display is set up only while the machine is off")?;
        let fields = [("compression", more::COMPRESSION), ("mode", more::STREAMING)];
        let said: Vec<(&str, String)> = fields
            .into_iter()
            .map(|(field, name)| (name, call.params.text(field).to_owned()))
            .filter(|(_, word)| !word.is_empty())
            .collect();
        self.record(call, &identifier, |record| {
            for (name, word) in &said {
                record.settings.insert((*name).to_owned(), word.clone());
            }
        })
        .await?;
        Ok(Data::empty())
    }

    async fn note(
        &self,
        call: &Call<'_>,
        identifier: &ComputeIdentifier,
        name: &'static str,
        field: &str,
    ) -> Result<Data, Fault> {
        let on = call.params.flag(field).to_string();
        self.record(call, identifier, |record| {
            record.settings.insert(name.to_owned(), on.clone());
        })
        .await?;
        Ok(Data::empty())
    }

    /// `compute.volume_related_set`: active-active is off, because there is no second cluster, and stays off.
    pub(crate) async fn volume_related_set(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let Some(Value::Array(infos)) = call.params.get("infos") else {
            return Err(Fault::parameter("infos: expected a list"));
        };
        let mut batch = BatchOutput::default();
        for info in infos {
            let identifier: ComputeIdentifier = serde_json::from_value(info.clone())
                .map_err(|_| Fault::parameter("infos: expected identifiers of machines"))?;
            let outcome = self.machine(&call.caller, &identifier, false).await;
            let outcome = outcome.and_then(|_| no_second_cluster(info));
            let data = json!({
                "tenant": identifier.tenant,
                "compute_uuid": identifier.compute_uuid,
                "compute_name": identifier.compute_name,
            });
            batch.push(&call.operation.id, data.clone(), outcome.map(|()| data));
        }
        Data::of(&batch)
    }
}

/// A machine's name is free text that people can read.
fn check_name(name: &str) -> Result<(), Fault> {
    if name.chars().count() > 255 || name.chars().any(char::is_control) {
        return Err(Fault::parameter(
            "meta.compute_name: expected at most 255 printable characters",
        ));
    }
    Ok(())
}

/// What is recorded, by name, each as text.
fn recorded(body: &Value) -> Result<BTreeMap<&'static str, String>, Fault> {
    let mut recorded = BTreeMap::new();
    for (pointer, name) in RECORDED {
        let value = match body.pointer(pointer) {
            None | Some(Value::Null) => continue,
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        if value.len() > LONGEST {
            let field = pointer.trim_start_matches('/').replace('/', ".");
            return Err(Fault::parameter(format!("{field}: at most {LONGEST} bytes")));
        }
        recorded.insert(name, value);
    }
    Ok(recorded)
}

/// Refuses what cannot be changed by this call, unless it is so already.
fn unchangeable(body: &Value, vm: &Vm) -> Result<(), Fault> {
    if let Some(meta) = body.get("meta") {
        no_second_cluster(meta)?;
    }
    let wanted = match body.pointer("/meta/os_loader_path").and_then(Value::as_str) {
        None => return Ok(()),
        Some("UEFI") => Firmware::Uefi,
        Some(_) => Firmware::Bios,
    };
    match &vm.facts {
        Some(facts) if facts.firmware != wanted => {
            Err(Error::unsupported("the boot loader of a machine that exists cannot be changed").into())
        }
        Some(_) | None => Ok(()),
    }
}

/// Refuses to switch on what needs a second cluster.
fn no_second_cluster(settings: &Value) -> Result<(), Fault> {
    let on = |name: &str| settings.get(name).and_then(Value::as_u64) == Some(ON);
    if on("recover_to_related_zones") || on("master_zone_take_over") {
        return Err(Error::unsupported("there is no second cluster to take over").into());
    }
    Ok(())
}

/// Refuses a machine that is not off.
fn off(vm: &Vm, why: &str) -> Result<(), Fault> {
    if state::fits(state::Occasion::Off, vm.power()) {
        return Ok(());
    }
    Err(Error::illegal_state("vm", vm.id, why).into())
}

/// Labels are of two kinds.
fn is_windows(os: &str) -> bool {
    os.to_lowercase().contains("windows")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_recorded_by_name_and_an_empty_one_is_taken_back() {
        let body = json!({"meta": {"ha_mode": "on", "shown_ip": "", "virt_nested_enable": false},
            "virt_nested_enable": true, "expand_config": {"max_expand_cpu": 4}});
        let settings = Settings {
            recorded: recorded(&body).unwrap(),
            ..Settings::default()
        };
        assert_eq!(
            settings.recorded.get(more::HA_MODE).map(String::as_str),
            Some("on")
        );
        assert_eq!(
            settings.recorded.get(setting::NESTED).map(String::as_str),
            Some("true")
        );
        assert_eq!(
            settings.recorded.get(setting::SHOWN_IP).map(String::as_str),
            Some("")
        );
        assert!(recorded(&json!({"baseline": "x".repeat(LONGEST + 1)})).is_err());
    }

    #[test]
    fn what_needs_a_second_cluster_is_refused_and_switching_it_off_is_not() {
        assert!(no_second_cluster(&json!({"recover_to_related_zones": 1})).is_err());
        assert!(no_second_cluster(&json!({"master_zone_take_over": 1})).is_err());
        assert!(
            no_second_cluster(&json!({"recover_to_related_zones": 2, "master_zone_take_over": 0})).is_ok()
        );
    }
}
