//! Calls on several VMs: each on its own, results in the order of the request, the call itself always a success. A
//! failed item still says which VM it is about.

use std::future::Future;

use babelvisor_core::model::Caller;
use babelvisor_schemas::Operation;
use futures_util::StreamExt as _;
use serde_json::{Map, Value};

use super::power::printed;
use crate::V1Compute;
use crate::call::{Call, ComputeIdentifier};
use crate::encode::{BatchOutput, Data};
use crate::error::Fault;
use crate::place;

/// How many VMs of one call are worked on at a time.
const AT_ONCE: usize = 32;
/// How many VMs one call may name.
const MOST: usize = 1000;

/// Does `work` for every VM of `vms`. What it returns is added to the VM's identifier in the result.
///
/// # Errors
/// 10001 for a list that is no list of identifiers, or is longer than anybody can mean.
pub(super) async fn each<'a, F>(
    site: &V1Compute,
    call: &'a Call<'_>,
    work: impl Fn(&'a Caller, &'static Operation, ComputeIdentifier) -> F,
) -> Result<Data, Fault>
where
    F: Future<Output = Result<Map<String, Value>, Fault>>,
{
    let items = identifiers(call, "vms")?;
    let operation = call.operation;
    let shared = call.params.text("cluster_uuid").to_owned();
    let under_way = items.into_iter().map(|mut identifier| {
        if identifier.cluster_uuid.is_empty() {
            identifier.cluster_uuid.clone_from(&shared);
        }
        let outcome = work(&call.caller, operation, identifier.clone());
        async move { (identifier, outcome.await) }
    });
    let mut done = futures_util::stream::iter(under_way).buffered(AT_ONCE);
    let mut batch = BatchOutput::default();
    while let Some((mut identifier, outcome)) = done.next().await {
        name_cluster(site, &mut identifier);
        let (more, outcome) = match outcome {
            Ok(more) => (more, Ok(())),
            Err(fault) => (Map::new(), Err(fault)),
        };
        let data = printed(&identifier, more);
        batch.push(&operation.id, data.clone(), outcome.map(|()| data));
    }
    Data::of(&batch)
}

/// The identifiers in the list `name`.
pub(super) fn identifiers(call: &Call<'_>, name: &str) -> Result<Vec<ComputeIdentifier>, Fault> {
    let items = call.params.get(name).and_then(Value::as_array);
    let items = items.ok_or_else(|| Fault::parameter(format!("{name} is missing")))?;
    if items.len() > MOST {
        return Err(Fault::parameter(format!(
            "{name}: at most {MOST} machines in one call"
        )));
    }
    let read = |item: &Value| {
        serde_json::from_value(item.clone())
            .map_err(|_| Fault::parameter(format!("{name}: an item does not have the documented form")))
    };
    items.iter().map(read).collect()
}

/// Results carry the cluster's name.
fn name_cluster(site: &V1Compute, identifier: &mut ComputeIdentifier) {
    if !identifier.cluster_name.is_empty() {
        return;
    }
    let clusters = place::clusters(&site.core.now());
    let said = identifier.cluster_uuid.as_str();
    let named = clusters
        .iter()
        .find(|cluster| place::names_cluster(said, cluster));
    if let Some(cluster) = named.filter(|_| !said.is_empty()) {
        identifier.cluster_name.clone_from(&cluster.name);
    }
}
