//! Hosts, pools and networks, and whether VMs fit to them.

use std::collections::BTreeSet;
use std::sync::Arc;

use babelvisor_core::capability::Capability;
use babelvisor_core::model::{NicSource, Topology};

use super::{Check, VM};
use crate::kit::bench::Bench;
use crate::kit::verdict::{During as _, Verdict, ensure, fail};

const TOPOLOGY: &[Capability] = &[Capability::TopologyList];

pub(super) fn checks() -> Vec<Check> {
    vec![
        Check::new(
            "topology::is_sound",
            "there is a host, every id is there once, belongs to this backend and stays; no pool has more room than it is large",
            &[TOPOLOGY],
            is_sound,
        ),
        Check::new(
            "topology::vms_are_where_it_says",
            "a VM's host, and the network of its interface, are in the topology",
            &[VM, TOPOLOGY],
            fits,
        ),
    ]
}

async fn read(bench: &Bench) -> Verdict<Topology> {
    bench
        .backend
        .topology(&bench.call())
        .await
        .during("reading the topology")
}

async fn is_sound(bench: Arc<Bench>) -> Verdict {
    let (first, second) = (read(&bench).await?, read(&bench).await?);
    ensure!(!first.hosts.is_empty(), "there is no host");
    let ids = |topology: &Topology| {
        let hosts = topology.hosts.iter().map(|host| host.id.0);
        let pools = topology.pools.iter().map(|pool| pool.id.0);
        let networks = topology.networks.iter().map(|network| network.id.0);
        hosts.chain(pools).chain(networks).collect::<Vec<_>>()
    };
    let all = ids(&first);
    let unique: BTreeSet<_> = all.iter().copied().collect();
    ensure!(unique.len() == all.len(), "an id is there twice");
    let later: BTreeSet<_> = ids(&second).into_iter().collect();
    ensure!(
        !bench.config.exclusive || unique == later,
        "two readings have different ids"
    );
    let us = bench.backend.id();
    for host in &first.hosts {
        ensure!(
            host.backend == *us,
            "host {} says that it is on backend {}",
            host.name,
            host.backend
        );
        ensure!(
            host.cpus > 0 && host.memory > 0,
            "host {} has no CPUs or no memory",
            host.name
        );
        ensure!(
            host.memory_free.is_none_or(|free| free <= host.memory),
            "host {} has more memory free than it has",
            host.name
        );
    }
    for pool in &first.pools {
        ensure!(
            pool.backend == *us,
            "pool {} says that it is on backend {}",
            pool.name,
            pool.backend
        );
        ensure!(
            pool.available <= pool.capacity,
            "pool {} has more room than it is large",
            pool.name
        );
    }
    for network in &first.networks {
        ensure!(
            network.backend == *us,
            "network {} says that it is on backend {}",
            network.name,
            network.backend
        );
    }
    Ok(())
}

async fn fits(bench: Arc<Bench>) -> Verdict {
    let vm = bench.off().await?;
    let (facts, topology) = (bench.get(&vm).await?, read(&bench).await?);
    ensure!(
        topology.hosts.iter().any(|host| host.id == facts.host),
        "the VM's host is not in the topology"
    );
    let NicSource::Network(name) = &bench.nic else {
        return Ok(());
    };
    let Some(network) = topology.networks.iter().find(|network| network.name == *name) else {
        return fail(format!(
            "network {name}, which VMs are plugged into, is not in the topology"
        ));
    };
    ensure!(
        facts.nics.iter().all(|nic| nic.network == Some(network.id)),
        "the VM's interface is plugged into {name}, but does not say so by its id"
    );
    Ok(())
}
