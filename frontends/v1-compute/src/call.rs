//! One call on its way: who makes it, what it asks, and what its answer will remark. And the identifier of a
//! machine, which most calls carry in the same form.

use std::sync::Arc;

use babelvisor_core::frontend::Request;
use babelvisor_core::model::{Caller, Role, TenantId, Vm, VmId};
use babelvisor_core::query;
use babelvisor_core::{Error, ErrorKind};
use babelvisor_schemas::{Operation, Remarks};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::V1Compute;
use crate::decode::{Params, uuid};
use crate::error::Fault;
use crate::place;

/// A call that has been let in.
pub(crate) struct Call<'r> {
    /// Towards the core.
    pub(crate) caller: Caller,
    /// The operation.
    pub(crate) operation: &'static Operation,
    /// The request as it came.
    pub(crate) request: &'r Request,
    /// Its parameters, judged by the contract's schema.
    pub(crate) params: Params,
    /// What the answer will say about fields that do not do all.
    pub(crate) remarks: Remarks<'static>,
}

impl Call<'_> {
    /// The caller, acting in `tenant`: only an administrator can do that in another one than its own.
    pub(crate) fn acting_in(&self, tenant: Option<TenantId>) -> Caller {
        let mut caller = self.caller.clone();
        if let Some(tenant) = tenant {
            caller.tenant = tenant;
        }
        caller
    }

    /// Said here and not only in the core, because a call with nothing to do never gets there.
    pub(crate) fn may_change(&self) -> Result<(), Fault> {
        match self.caller.role {
            Role::Admin | Role::User => Ok(()),
            Role::Viewer => Err(Error::new(ErrorKind::Forbidden, "this account may only read").into()),
        }
    }
}

/// What names a machine in requests, and in the results of batch calls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ComputeIdentifier {
    /// Cluster.
    #[serde(deserialize_with = "text")]
    pub(crate) cluster_uuid: String,
    /// Its name, in answers.
    #[serde(deserialize_with = "text")]
    pub(crate) cluster_name: String,
    /// Tenant.
    #[serde(deserialize_with = "text")]
    pub(crate) tenant: String,
    /// The machine.
    #[serde(deserialize_with = "text")]
    pub(crate) compute_uuid: String,
    /// Its name; in requests only for the operation log.
    #[serde(deserialize_with = "text")]
    pub(crate) compute_name: String,
    /// A user whose client is to be told.
    #[serde(deserialize_with = "text")]
    pub(crate) owner: String,
}

fn text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Option::<String>::deserialize(deserializer).map(Option::unwrap_or_default)
}

impl ComputeIdentifier {
    /// The identifier that stands directly in a call's parameters.
    pub(crate) fn of(params: &Params) -> Self {
        let text = |name: &str| params.text(name).to_owned();
        Self {
            cluster_uuid: text("cluster_uuid"),
            cluster_name: text("cluster_name"),
            tenant: text("tenant"),
            compute_uuid: text("compute_uuid"),
            compute_name: text("compute_name"),
            owner: text("owner"),
        }
    }

    /// The identifier as the `data` of a batch item.
    pub(crate) fn value(&self) -> Value {
        // Texts only: this cannot fail.
        serde_json::to_value(self).unwrap_or_default()
    }
}

impl V1Compute {
    /// The machine that `identifier` names, if the caller may see it. A machine in the recycle bin is only found
    /// with `trash`.
    ///
    /// # Errors
    /// 10001 for a missing or malformed uuid; 22001 for a machine that does not exist, is another tenant's or
    /// another cluster's than named, or lies in the recycle bin.
    pub(crate) async fn machine(
        &self,
        caller: &Caller,
        identifier: &ComputeIdentifier,
        trash: bool,
    ) -> Result<Arc<Vm>, Fault> {
        let text = identifier.compute_uuid.as_str();
        if text.is_empty() {
            return Err(Fault::parameter("compute_uuid is missing"));
        }
        let unknown = || Fault::unknown("machine", text);
        let id = VmId(uuid("compute_uuid", text)?);
        let vm = self.core.vm(caller, id).await.map_err(|error| match error.kind {
            ErrorKind::NotFound => unknown(),
            _ => Fault::from(error),
        })?;
        let here = query::may_see(caller, &vm)
            && (vm.record.trashed_at.is_none() || trash)
            && place::names_tenant(&identifier.tenant, &vm.record.tenant)
            && place::names_cluster(
                &identifier.cluster_uuid,
                &place::cluster_of(&self.core.now(), &vm),
            );
        if here { Ok(vm) } else { Err(unknown()) }
    }
}
