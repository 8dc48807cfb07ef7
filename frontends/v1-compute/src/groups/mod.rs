//! Groups of machines: a tree for each tenant. The group `default` is in no registry: in it are the machines that are
//! in no other group. It is never renamed, moved or deleted, and has no groups below.

mod tree;

use std::collections::HashSet;
use std::sync::Arc;

use babelvisor_core::inventory::Snapshot;
use babelvisor_core::model::{Caller, GroupId, TenantId, Vm, VmGroup};
use babelvisor_core::{Error, ErrorKind, query};
use serde::Serialize;
use serde_json::Value;

use crate::V1Compute;
use crate::call::Call;
use crate::decode::uuid;
use crate::encode::Data;
use crate::error::{Code, Fault};
use crate::operations::{Row, row};
use crate::place;

/// The operations of this file.
pub(crate) const ROWS: &[Row] = &[
    row!("compute.group_create", group_create),
    row!("compute.group_delete", group_delete),
    row!("compute.group_update", group_update),
    row!("compute.group_inspect", group_inspect),
    row!("compute.group_tree", group_tree),
    row!("compute.group_move", group_move),
];

/// The name of the group of machines that are in no other.
pub(crate) const DEFAULT: &str = "default";
/// The type of a machine among the things that a group refers to.
const MACHINE: u8 = 1;

/// A group that a call names.
#[derive(Debug, Clone)]
pub(crate) enum Group {
    /// The default one of a tenant.
    Default(TenantId),
    /// One that somebody made.
    Made(Arc<VmGroup>),
}

#[derive(Serialize)]
struct Metadata {
    #[serde(rename = "UUID")]
    uuid: String,
    #[serde(rename = "Namespace")]
    namespace: String,
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "Desc")]
    desc: &'static str,
    #[serde(rename = "Parent")]
    parent: String,
    #[serde(rename = "Attrs")]
    attrs: Option<Value>,
    #[serde(rename = "RefCount")]
    ref_count: usize,
    #[serde(rename = "Children")]
    children: Option<Vec<String>>,
}

#[derive(Serialize)]
struct Reference {
    #[serde(rename = "UUID")]
    uuid: String,
    #[serde(rename = "Type")]
    kind: u8,
}

/// A group on its own.
#[derive(Serialize)]
struct Shown {
    #[serde(rename = "Metadata")]
    metadata: Metadata,
    #[serde(rename = "Children")]
    children: Option<Vec<String>>,
    #[serde(rename = "Refs")]
    refs: Option<Vec<Reference>>,
    #[serde(rename = "Depth")]
    depth: usize,
}

impl V1Compute {
    /// `compute.group_create`.
    pub(crate) async fn group_create(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let (caller, tenant) = self.group_scope(call)?;
        let name = call.params.text("group_name");
        let parent = self
            .parent(&caller, &tenant, call.params.text("parent_group"))
            .await?;
        free(name, parent)?;
        let group = VmGroup::new(name, parent, Some(tenant));
        let group = self.core.add_entry(&caller, group).await?;
        let now = self.core.now();
        Data::of(&shown(&now, &caller, &Group::Made(group)))
    }

    /// `compute.group_delete`: with all groups below, if no machine is in any of them.
    pub(crate) async fn group_delete(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let (caller, _) = self.group_scope(call)?;
        let group = self
            .made_group(&caller, call.params.text("group_uuid"), "deleted")
            .await?;
        let now = self.core.now();
        let tree = with_below(&now, group.id);
        let holds = |vm: &&Arc<Vm>| vm.record.group.is_some_and(|id| tree.contains(&id));
        if let Some(vm) = now.vms.values().find(holds) {
            let why = format!(
                "machine {} is in it or below it: move it to another group first",
                vm.id
            );
            return Err(Error::illegal_state("group", group.id, why).into());
        }
        // Those at the bottom first: a group goes when nothing is below it.
        for id in tree.into_iter().rev() {
            match self.core.remove_entry::<VmGroup>(&caller, id).await {
                Ok(()) => {}
                Err(error) if error.kind == ErrorKind::NotFound && id != group.id => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Data::empty())
    }

    /// `compute.group_update`: the name alone; without one nothing is changed.
    pub(crate) async fn group_update(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let (caller, _) = self.group_scope(call)?;
        let group = self
            .made_group(&caller, call.params.text("group_uuid"), "renamed")
            .await?;
        let name = call.params.text("group_name");
        if !name.is_empty() {
            free(name, group.parent)?;
            self.core
                .edit_entry::<VmGroup>(&caller, group.id, |group| {
                    name.clone_into(&mut group.name);
                    Ok(())
                })
                .await?;
        }
        Ok(Data::empty())
    }

    /// `compute.group_move`: below another group, or to the top; all groups below go with it.
    pub(crate) async fn group_move(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let (caller, tenant) = self.group_scope(call)?;
        let group = self
            .made_group(&caller, call.params.text("group_uuid"), "moved")
            .await?;
        let parent = self
            .parent(&caller, &tenant, call.params.text("parent_group"))
            .await?;
        free(&group.name, parent)?;
        self.core
            .edit_entry::<VmGroup>(&caller, group.id, |group| {
                group.parent = parent;
                Ok(())
            })
            .await?;
        Ok(Data::empty())
    }

    /// `compute.group_inspect`.
    pub(crate) async fn group_inspect(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        self.group_scope(call)?;
        let group = self
            .find_group(&call.caller, "group_uuid", call.params.text("group_uuid"))
            .await?;
        Data::of(&shown(&self.core.now(), &call.caller, &group))
    }

    /// Who acts in which tenant: the one that the call names, or the caller's own.
    fn group_scope(&self, call: &Call<'_>) -> Result<(Caller, TenantId), Fault> {
        self.cluster(&self.core.now(), call.params.text("cluster_uuid"))?;
        let tenant = self.tenant(&call.caller, call.params.text("tenant"))?;
        let tenant = tenant.unwrap_or_else(|| call.caller.tenant.clone());
        Ok((call.acting_in(Some(tenant.clone())), tenant))
    }

    /// The group that `said`, the parameter `field`, names, if the caller sees it.
    ///
    /// # Errors
    /// 10001 for nothing or something that is no uuid, 22001 for a group that does not exist.
    pub(crate) async fn find_group(&self, caller: &Caller, field: &str, said: &str) -> Result<Group, Fault> {
        if said.is_empty() {
            return Err(Fault::parameter(format!("{field} is missing")));
        }
        let id = uuid(field, said)?;
        let mut tenants = self.core.tenants(caller).into_iter();
        if let Some(tenant) = tenants.find(|tenant| place::default_group(tenant) == id) {
            return Ok(Group::Default(tenant));
        }
        match self.core.entry::<VmGroup>(caller, GroupId(id)).await {
            Ok(group) => Ok(Group::Made(group)),
            Err(error) if error.kind == ErrorKind::NotFound => Err(Fault::unknown("group", said)),
            Err(error) => Err(error.into()),
        }
    }

    /// The same for a group that shall be changed, which the default one cannot be.
    async fn made_group(&self, caller: &Caller, said: &str, changed: &str) -> Result<Arc<VmGroup>, Fault> {
        match self.find_group(caller, "group_uuid", said).await? {
            Group::Made(group) => Ok(group),
            Group::Default(_) => Err(refused(&format!("the group {DEFAULT} cannot be {changed}"))),
        }
    }

    /// The group that shall be above another one; none for the top.
    async fn parent(&self, caller: &Caller, tenant: &TenantId, said: &str) -> Result<Option<GroupId>, Fault> {
        if said.is_empty() {
            return Ok(None);
        }
        match self.find_group(caller, "parent_group", said).await? {
            Group::Made(group) if group.tenant.as_ref() == Some(tenant) => Ok(Some(group.id)),
            Group::Made(_) => Err(Fault::unknown("group", said)),
            Group::Default(_) => Err(refused(&format!("no group can be below the group {DEFAULT}"))),
        }
    }
}

fn refused(why: &str) -> Fault {
    Fault::saying(Code::WrongState, why)
}

/// At the top one name is taken without a record of it.
fn free(name: &str, parent: Option<GroupId>) -> Result<(), Fault> {
    if parent.is_none() && name == DEFAULT {
        return Err(Fault::saying(
            Code::Exists,
            format!("group_name: the group {DEFAULT} is there already"),
        ));
    }
    Ok(())
}

/// A group and all below it, each before those below it. No deeper than groups can be.
fn with_below(now: &Snapshot, root: GroupId) -> Vec<GroupId> {
    let mut found = vec![root];
    let mut seen = HashSet::from([root]);
    let mut level = vec![root];
    for _ in 1..VmGroup::LEVELS {
        let groups = now.entries.vm_groups.values();
        let below = groups.filter(|group| group.parent.is_some_and(|parent| level.contains(&parent)));
        level = below
            .map(|group| group.id)
            .filter(|id| seen.insert(*id))
            .collect();
        found.extend(&level);
    }
    found
}

/// The groups right below `parent` among those of `tenant`, oldest first.
fn below<'s>(now: &'s Snapshot, tenant: &TenantId, parent: Option<GroupId>) -> Vec<&'s Arc<VmGroup>> {
    let groups = now.entries.vm_groups.values();
    let mut found: Vec<&Arc<VmGroup>> = groups
        .filter(|group| group.tenant.as_ref() == Some(tenant) && group.parent == parent)
        .collect();
    found.sort_by(|one, other| (one.created, &one.name).cmp(&(other.created, &other.name)));
    found
}

/// The level of a group: 1 at the top.
fn depth(now: &Snapshot, group: &VmGroup) -> usize {
    let above = std::iter::successors(group.parent, |id| now.entries.vm_groups.get(id)?.parent);
    1 + above.take(VmGroup::LEVELS).count()
}

/// The machines that are in a group and that the caller sees, oldest first.
fn members<'s>(now: &'s Snapshot, caller: &'s Caller, group: &'s Group) -> impl Iterator<Item = &'s Arc<Vm>> {
    let is_in = move |vm: &&Arc<Vm>| match group {
        Group::Default(tenant) => {
            // A group that is gone counts as none.
            let known = |id: GroupId| now.entries.vm_groups.contains_key(&id);
            vm.record.tenant == *tenant && !vm.record.group.is_some_and(known)
        }
        Group::Made(group) => vm.record.group == Some(group.id),
    };
    let visible = now.by_number.values();
    visible.filter(move |vm| query::may_see(caller, vm)).filter(is_in)
}

fn shown(now: &Snapshot, caller: &Caller, group: &Group) -> Shown {
    let refs: Vec<Reference> = members(now, caller, group)
        .map(|vm| Reference {
            uuid: vm.id.to_string(),
            kind: MACHINE,
        })
        .collect();
    let (tenant, children) = match group {
        Group::Default(tenant) => (Some(tenant), Vec::new()),
        Group::Made(made) => {
            let tenant = made.tenant.as_ref();
            let below = tenant
                .map(|tenant| below(now, tenant, Some(made.id)))
                .unwrap_or_default();
            (tenant, below.iter().map(|group| group.id.to_string()).collect())
        }
    };
    Shown {
        metadata: Metadata {
            uuid: match group {
                Group::Default(tenant) => place::default_group(tenant).to_string(),
                Group::Made(made) => made.id.to_string(),
            },
            namespace: tenant
                .map(|tenant| place::tenant_uuid(tenant).to_string())
                .unwrap_or_default(),
            name: match group {
                Group::Default(_) => DEFAULT.to_owned(),
                Group::Made(made) => made.name.clone(),
            },
            desc: "",
            parent: match group {
                Group::Default(_) => String::new(),
                Group::Made(made) => made.parent.map(|parent| parent.to_string()).unwrap_or_default(),
            },
            attrs: None,
            ref_count: refs.len(),
            children: None,
        },
        children: (!children.is_empty()).then_some(children),
        refs: (!refs.is_empty()).then_some(refs),
        depth: match group {
            Group::Default(_) => 1,
            Group::Made(made) => depth(now, made),
        },
    }
}
