//! Whom a machine is for: the user that it is assigned to, and the terminals that are bound to it. Both are recorded
//! with the machine and shown again; nobody is told, because there are no terminals here to tell.

use std::sync::Arc;

use babelvisor_core::model::{AccountInfo, VmRecord};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::V1Compute;
use crate::call::{Call, ComputeIdentifier};
use crate::decode::uuid;
use crate::encode::{BatchOutput, Data};
use crate::error::{Code, Fault};
use crate::life::entry::setting;
use crate::operations::{Row, row};
use crate::place;

/// The operations of this file.
pub(crate) const ROWS: &[Row] = &[
    row!("compute.assign", assign),
    row!("compute.unassign", unassign),
    row!("compute.set_vdc_agent", set_vdc_agent),
];

/// Under this name the terminals of a machine are recorded: a JSON list.
pub(crate) const TERMINALS: &str = "compute.vdc_agent_list";
/// How many machines one call may name.
const MOST: usize = 1000;
/// How many terminals one machine may have.
const MOST_TERMINALS: usize = 256;

/// A machine and its terminals.
#[derive(Deserialize)]
struct Bound {
    #[serde(flatten)]
    identifier: ComputeIdentifier,
    #[serde(default)]
    vdc_agent_list: Option<Vec<String>>,
}

impl V1Compute {
    /// `compute.assign`: a user that does not exist fails each machine, as the original's own example prints it.
    pub(crate) async fn assign(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let user = uuid("user_uuid", call.params.text("user_uuid"))?;
        let tenant = call.params.text("tenant");
        let mut accounts = self.core.accounts(&call.caller).into_iter();
        let user =
            accounts.find(|account| account.id.0 == user && place::names_tenant(tenant, &account.tenant));
        let mut batch = BatchOutput::default();
        for identifier in machines(call)? {
            let outcome = self.assign_one(call, &identifier, user.as_ref()).await;
            let mut data = identity(&identifier);
            if let (Some(members), Some(user)) = (data.as_object_mut(), &user) {
                members.insert("owner".to_owned(), user.id.to_string().into());
            }
            batch.push(&call.operation.id, data.clone(), outcome.map(|()| data));
        }
        Data::of(&batch)
    }

    async fn assign_one(
        &self,
        call: &Call<'_>,
        identifier: &ComputeIdentifier,
        user: Option<&Arc<AccountInfo>>,
    ) -> Result<(), Fault> {
        let vm = self.machine(&call.caller, identifier, false).await?;
        // A user who cannot see a machine cannot be given it.
        let user = user.filter(|user| user.tenant == vm.record.tenant);
        let user = user.ok_or_else(|| Fault::code(Code::NoSuchUser))?;
        self.record(call, identifier, |record| {
            let settings = &mut record.settings;
            settings.insert(setting::OWNER.to_owned(), user.id.to_string());
            settings.insert(setting::OWNER_NAME.to_owned(), user.name.clone());
        })
        .await
    }

    /// `compute.unassign`: also of a machine that nobody has.
    pub(crate) async fn unassign(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let mut batch = BatchOutput::default();
        for identifier in machines(call)? {
            let outcome = self.record(call, &identifier, |record| {
                record.settings.remove(setting::OWNER);
                record.settings.remove(setting::OWNER_NAME);
            });
            let outcome = outcome.await;
            let data = identity(&identifier);
            batch.push(&call.operation.id, data.clone(), outcome.map(|()| data));
        }
        Data::of(&batch)
    }

    /// `compute.set_vdc_agent`: the list replaces the one before; without one there are none.
    pub(crate) async fn set_vdc_agent(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let bound: Vec<Bound> = items(call)?;
        let mut batch = BatchOutput::default();
        for Bound {
            identifier,
            vdc_agent_list,
        } in bound
        {
            let terminals = vdc_agent_list.unwrap_or_default();
            let outcome = self.bind(call, &identifier, &terminals).await;
            let mut data = identity(&identifier);
            if let Some(members) = data.as_object_mut() {
                members.insert("vdc_agent_list".to_owned(), json!(terminals));
            }
            batch.push(&call.operation.id, data.clone(), outcome.map(|()| data));
        }
        Data::of(&batch)
    }

    async fn bind(
        &self,
        call: &Call<'_>,
        identifier: &ComputeIdentifier,
        terminals: &[String],
    ) -> Result<(), Fault> {
        if terminals.len() > MOST_TERMINALS {
            return Err(Fault::parameter(format!(
                "vdc_agent_list: at most {MOST_TERMINALS}"
            )));
        }
        for terminal in terminals {
            uuid("vdc_agent_list", terminal)?;
        }
        let list = json!(terminals).to_string();
        self.record(call, identifier, |record| {
            if terminals.is_empty() {
                record.settings.remove(TERMINALS);
            } else {
                record.settings.insert(TERMINALS.to_owned(), list.clone());
            }
        })
        .await
    }

    /// Changes what is recorded of a machine.
    pub(crate) async fn record(
        &self,
        call: &Call<'_>,
        identifier: &ComputeIdentifier,
        change: impl Fn(&mut VmRecord) + Send + Sync,
    ) -> Result<(), Fault> {
        let vm = self.machine(&call.caller, identifier, false).await?;
        let change = |record: &mut VmRecord| {
            change(record);
            Ok(())
        };
        self.core.annotate(&call.caller, vm.id, change).await?;
        Ok(())
    }
}

/// The members of `vms`.
fn items<T: for<'de> Deserialize<'de>>(call: &Call<'_>) -> Result<Vec<T>, Fault> {
    let Some(Value::Array(items)) = call.params.get("vms") else {
        return Err(Fault::parameter("vms: expected a list"));
    };
    if items.len() > MOST {
        return Err(Fault::parameter(format!(
            "vms: at most {MOST} machines in one call"
        )));
    }
    let read = items.iter().map(|item| {
        serde_json::from_value(item.clone())
            .map_err(|_| Fault::parameter("vms: expected identifiers of machines"))
    });
    read.collect()
}

fn machines(call: &Call<'_>) -> Result<Vec<ComputeIdentifier>, Fault> {
    items(call)
}

/// What names the machine in a result.
fn identity(identifier: &ComputeIdentifier) -> Value {
    json!({
        "cluster_uuid": identifier.cluster_uuid,
        "tenant": identifier.tenant,
        "compute_uuid": identifier.compute_uuid,
        "compute_name": identifier.compute_name,
    })
}
