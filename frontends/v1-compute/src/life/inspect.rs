//! The reads of one VM: its details, and what is known of its load.

use babelvisor_core::model::{AgentState, PowerState, Role, Timestamp, Vm};
use babelvisor_core::{Error, secret::Secret};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::belonging;
use super::details::{self, View};
use super::entry;
use crate::V1Compute;
use crate::call::{Call, ComputeIdentifier};
use crate::encode::{Data, unwritable};
use crate::error::Fault;

impl V1Compute {
    /// `compute.inspect`.
    pub(crate) async fn inspect(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let trash = call.params.flag("include_trash_vm");
        let vm = self
            .machine(&call.caller, &ComputeIdentifier::of(&call.params), trash)
            .await?;
        let now = self.core.now();
        let password = if call.params.flag("show_plaintext") {
            self.console_password(call, &vm)?
        } else {
            None
        };
        let view = View {
            place: &belonging::of(&now, &vm),
            password,
            port_group: &|nic| self.port_group_of(&now, nic),
            now: &now,
            console_address: self.settings.console_address.as_deref(),
        };
        details::encode(&vm, &view).map(Data::json).map_err(unwritable)
    }

    /// The console's password for whoever may use the console.
    fn console_password(&self, call: &Call<'_>, vm: &Vm) -> Result<Option<Secret>, Fault> {
        match (call.caller.role, &vm.record.console_password) {
            (Role::Admin | Role::User, Some(sealed)) => Ok(Some(self.core.open(sealed)?)),
            (Role::Viewer, _) | (_, None) => Ok(None),
        }
    }

    /// `compute.detail`: of the printed figures those that somebody measures; the others are left out.
    pub(crate) async fn detail(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let vm = self
            .machine(&call.caller, &ComputeIdentifier::of(&call.params), false)
            .await?;
        let agent = vm
            .facts
            .as_ref()
            .map_or_else(Default::default, |facts| facts.agent);
        let refused = |why: &str| Err(Error::illegal_state("vm", vm.id, why).into());
        if vm.power() != PowerState::Running {
            return refused("only a running vm has figures of its load");
        }
        if agent != AgentState::Connected {
            return refused("the guest agent is not connected");
        }
        let now = Timestamp::now();
        let figures = Figures {
            name: vm.name(),
            details: Measured {
                uuid: vm.id.to_string(),
                agent: true,
                cpu: Processors {
                    cores: vm.vcpus(),
                    sockets: vm
                        .facts
                        .as_ref()
                        .and_then(|facts| facts.cpu.topology)
                        .map(|(sockets, ..)| sockets),
                },
                interfaces: entry::nics(&vm)
                    .iter()
                    .map(|nic| Interface {
                        name: nic.target.as_deref().unwrap_or_default(),
                        mac: &nic.mac,
                        addresses: nic.addresses.iter().map(ToString::to_string).collect(),
                    })
                    .collect(),
                memory: Memory { total: vm.memory() },
                time: i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX),
            },
        };
        let figures = serde_json::to_value(figures).map_err(unwritable)?;
        Data::of(&json!({
            "Status": {"code": 0, "message": "", "messageCn": "", "stack": null, "desc": "", "UUID": ""},
            "VmDetails": Map::from_iter([(vm.id.to_string(), figures)]),
            "Ctime": now.as_second(),
        }))
    }

    /// `compute.vm_create_support_config`.
    pub(crate) async fn support_config(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let now = self.core.now();
        super::list::asked_clusters(&now, call.params.text("cluster_uuid"))?;
        let mut config: Map<String, Value> = serde_json::from_str(SUPPORT)
            .map_err(|error| Error::internal(format!("the table of choices cannot be read: {error}")))?;
        config.insert("NetworkTypes".to_owned(), json!([self.settings.layer2]));
        Data::of(&config)
    }
}

/// What machines can be made of, as the product's dialogs offer it.
const SUPPORT: &str = include_str!("support.json");

/// Figures of one VM, in the capitals of the document.
#[derive(Serialize)]
struct Figures<'a> {
    #[serde(rename = "VmName")]
    name: &'a str,
    #[serde(rename = "VmDetails")]
    details: Measured<'a>,
}

#[derive(Serialize)]
struct Measured<'a> {
    #[serde(rename = "UUID")]
    uuid: String,
    #[serde(rename = "GaConnected")]
    agent: bool,
    #[serde(rename = "CpuStat")]
    cpu: Processors,
    #[serde(rename = "InterfaceStats")]
    interfaces: Vec<Interface<'a>>,
    #[serde(rename = "MemoryStat")]
    memory: Memory,
    #[serde(rename = "TimeNano")]
    time: i64,
}

#[derive(Serialize)]
struct Processors {
    #[serde(rename = "Cores")]
    cores: u32,
    #[serde(rename = "Sockets", skip_serializing_if = "Option::is_none")]
    sockets: Option<u32>,
}

#[derive(Serialize)]
struct Interface<'a> {
    #[serde(rename = "Name")]
    name: &'a str,
    #[serde(rename = "Mac")]
    mac: &'a str,
    #[serde(rename = "Addresses")]
    addresses: Vec<String>,
}

#[derive(Serialize)]
struct Memory {
    #[serde(rename = "Total")]
    total: u64,
}
