//! The tree of groups as it is displayed: clusters, tenants and namespaces are nodes of it, too, that are no groups.

use std::sync::Arc;

use babelvisor_core::inventory::Snapshot;
use babelvisor_core::model::{Caller, GroupId, TenantId, VmGroup};
use serde::Serialize;
use serde_json::Value;

use super::{DEFAULT, Group, below, members};
use crate::V1Compute;
use crate::call::Call;
use crate::encode::{Data, RangeState};
use crate::error::Fault;
use crate::lookups::part_of;
use crate::place::{self, Area};

/// A node of the tree.
#[derive(Serialize)]
struct Node {
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
    children: Vec<Node>,
    fake: bool,
    deny_child_create: bool,
    is_stop: bool,
    is_health: bool,
    cluster_uuid: String,
    cluster_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    tenant: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    tenant_name: String,
}

#[derive(Serialize)]
struct Tree {
    list: Vec<Node>,
    total_count: usize,
    each_range_list_state: Vec<RangeState>,
}

/// What a tree is drawn from.
struct Drawing<'a> {
    now: &'a Snapshot,
    caller: &'a Caller,
    /// Groups are shown whose names have this part, and those above them.
    name: &'a str,
}

impl V1Compute {
    /// `compute.group_tree`: below clusters, tenants and namespaces, or below one tenant where cluster and tenant
    /// are named.
    pub(crate) async fn group_tree(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let (said, wanted) = (call.params.text("cluster_uuid"), call.params.text("tenant"));
        let now = self.core.now();
        let tenant = self.tenant(&call.caller, wanted)?;
        let drawing = Drawing {
            now: &now,
            caller: &call.caller,
            name: call.params.text("filter_name"),
        };
        let mut clusters = place::clusters(&now);
        if !said.is_empty() {
            clusters = vec![self.cluster(&now, said)?];
        }
        let tenants: Vec<TenantId> = match &tenant {
            Some(tenant) => vec![tenant.clone()],
            None => self.core.tenants(&call.caller).into_iter().collect(),
        };
        let mut states = Vec::new();
        for cluster in &clusters {
            states.extend(tenants.iter().map(|tenant| {
                let groups = 1 + drawing.made(tenant).count();
                RangeState::of_namespace(cluster, place::tenant_uuid(tenant), groups)
            }));
        }
        let list: Vec<Node> = match (said.is_empty(), &tenant) {
            (false, Some(tenant)) => clusters
                .iter()
                .map(|cluster| {
                    let uuid = place::tenant_uuid(tenant).to_string();
                    let groups = drawing.groups(cluster, tenant);
                    Node {
                        children: groups,
                        ..drawing.fake(cluster, Some(tenant), uuid, tenant.as_str(), "")
                    }
                })
                .collect(),
            (true, _) | (_, None) => clusters
                .iter()
                .map(|cluster| drawing.cluster(cluster, &tenants))
                .collect(),
        };
        Data::of(&Tree {
            total_count: list.len(),
            list,
            each_range_list_state: states,
        })
    }
}

impl Drawing<'_> {
    fn cluster(&self, cluster: &Area, tenants: &[TenantId]) -> Node {
        let uuid = cluster.uuid.to_string();
        let mut node = self.fake(cluster, None, uuid.clone(), &cluster.name, "");
        node.namespace = String::new();
        node.is_health = self.healthy(cluster);
        node.children = tenants
            .iter()
            .map(|tenant| {
                let own = place::tenant_uuid(tenant).to_string();
                let namespace = Node {
                    children: self.groups(cluster, tenant),
                    deny_child_create: false,
                    ..self.fake(cluster, Some(tenant), own.clone(), tenant.as_str(), &own)
                };
                Node {
                    children: vec![namespace],
                    ..self.fake(cluster, Some(tenant), own, tenant.as_str(), &uuid)
                }
            })
            .collect();
        node
    }

    /// Whether the backend of one of the cluster's hosts answers.
    fn healthy(&self, cluster: &Area) -> bool {
        let mut hosts = self.now.hosts.values();
        hosts.any(|host| host.cluster_id().0 == cluster.uuid && self.now.backend_up(&host.backend))
    }

    /// A node that is no group.
    fn fake(
        &self,
        cluster: &Area,
        tenant: Option<&TenantId>,
        uuid: String,
        name: &str,
        parent: &str,
    ) -> Node {
        Node {
            uuid,
            namespace: String::new(),
            name: name.to_owned(),
            desc: "",
            parent: parent.to_owned(),
            attrs: None,
            ref_count: 0,
            children: Vec::new(),
            fake: true,
            deny_child_create: true,
            is_stop: false,
            is_health: false,
            cluster_uuid: cluster.uuid.to_string(),
            cluster_name: cluster.name.clone(),
            tenant: tenant
                .map(|tenant| place::tenant_uuid(tenant).to_string())
                .unwrap_or_default(),
            tenant_name: tenant
                .map(|tenant| tenant.as_str().to_owned())
                .unwrap_or_default(),
        }
    }

    /// The groups that somebody made in `tenant`.
    fn made<'s>(&'s self, tenant: &'s TenantId) -> impl Iterator<Item = &'s Arc<VmGroup>> {
        let groups = self.now.entries.vm_groups.values();
        groups.filter(move |group| group.tenant.as_ref() == Some(tenant))
    }

    /// All groups of a tenant as nodes below its namespace.
    fn groups(&self, cluster: &Area, tenant: &TenantId) -> Vec<Node> {
        let namespace = place::tenant_uuid(tenant).to_string();
        let mut nodes = Vec::new();
        if part_of(self.name, DEFAULT) {
            nodes.push(Node {
                ref_count: self.counted(cluster, &Group::Default(tenant.clone())),
                fake: false,
                deny_child_create: false,
                namespace: namespace.clone(),
                ..self.fake(
                    cluster,
                    Some(tenant),
                    place::default_group(tenant).to_string(),
                    DEFAULT,
                    &namespace,
                )
            });
        }
        nodes.extend(self.made_nodes(cluster, tenant, None, 1));
        nodes
    }

    fn made_nodes(
        &self,
        cluster: &Area,
        tenant: &TenantId,
        parent: Option<GroupId>,
        level: usize,
    ) -> Vec<Node> {
        if level > VmGroup::LEVELS {
            return Vec::new();
        }
        let namespace = place::tenant_uuid(tenant).to_string();
        let above = parent.map_or_else(|| namespace.clone(), |parent| parent.to_string());
        let nodes = below(self.now, tenant, parent).into_iter().filter_map(|group| {
            let children = self.made_nodes(cluster, tenant, Some(group.id), level + 1);
            let shown = part_of(self.name, &group.name) || !children.is_empty();
            shown.then(|| Node {
                ref_count: self.counted(cluster, &Group::Made(group.clone())),
                children,
                fake: false,
                deny_child_create: level >= VmGroup::LEVELS,
                namespace: namespace.clone(),
                ..self.fake(cluster, Some(tenant), group.id.to_string(), &group.name, &above)
            })
        });
        nodes.collect()
    }

    /// How many of a group's machines are in the cluster.
    fn counted(&self, cluster: &Area, group: &Group) -> usize {
        members(self.now, self.caller, group)
            .filter(|vm| place::cluster_of(self.now, vm) == *cluster)
            .count()
    }
}
