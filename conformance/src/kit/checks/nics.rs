//! Interfaces that come and go, move to other networks and are limited.

use std::sync::Arc;

use babelvisor_core::ErrorKind;
use babelvisor_core::backend::VmRef;
use babelvisor_core::capability::Capability;
use babelvisor_core::model::{Bandwidth, Nic, NicSource, NicSpec, PowerState, VmChange, VmFacts};

use super::settings::obeys;
use super::{Check, RUN, Want};
use crate::kit::bench::Bench;
use crate::kit::equipment::{OCCASIONS, nic_there, nic_with};
use crate::kit::verdict::{Verdict, ensure, fail};

const ATTACH: &[Capability] = &[Capability::NicAttach];
const DETACH: &[Capability] = &[Capability::NicDetach];
const UPDATE: &[Capability] = &[Capability::NicUpdate];
const QOS: &[Capability] = &[Capability::NicQos];

pub(super) fn checks() -> Vec<Check> {
    vec![
        Check::new(
            "nic::is_plugged_in_once",
            "an interface is plugged in as asked, running or off, and stays over a stop; the same again is success",
            &[RUN, ATTACH],
            plugged_in,
        ),
        Check::new(
            "nic::is_unplugged",
            "an interface that is unplugged is gone and the others stay; an absent one is success",
            &[RUN, ATTACH, DETACH],
            unplugged,
        ),
        Check::new(
            "nic::a_running_guest_lets_go_of_it",
            "an interface that is unplugged from a running guest is gone there and in the definition",
            &[RUN, ATTACH, DETACH],
            let_go,
        )
        .wants(&[Want::Listener]),
        Check::new(
            "nic::an_update_keeps_what_it_leaves_out",
            "an update changes address, model or network, and leaves what it does not name; the same again is success",
            &[RUN, UPDATE],
            updated,
        ),
        Check::new(
            "nic::limits_are_shown_and_replaced",
            "an interface's limits are those that were set last, both directions, running or off",
            &[RUN, QOS],
            limits,
        )
        .wants(&[Want::NicLimits]),
    ]
}

fn detach(mac: &str) -> VmChange {
    VmChange::DetachNic { mac: mac.to_owned() }
}

fn macs(facts: &VmFacts) -> Vec<String> {
    facts.nics.iter().map(|nic| nic.mac.clone()).collect()
}

/// How an interface says what it is plugged into.
fn plugged_into(source: &NicSource) -> &str {
    match source {
        NicSource::Network(name) | NicSource::Bridge(name) => name,
        NicSource::User => "user",
    }
}

async fn plugged_in(bench: Arc<Bench>) -> Verdict {
    let vm = bench.off().await?;
    let mut wanted = macs(&bench.get(&vm).await?);
    for state in OCCASIONS {
        bench.bring(&vm, state).await?;
        for model in [None, Some("e1000")] {
            let mac = bench.mac();
            let spec = bench.nic_spec(&mac, model);
            let change = VmChange::AttachNic(spec.clone());
            if bench
                .plug(&vm, &change, "plugging an interface in")
                .await?
                .is_none()
            {
                continue;
            }
            let facts = bench
                .must(&vm, &change, "plugging in an interface that it has")
                .await?;
            let nic = nic_there(&facts, &mac, "plugging it in")?;
            ensure!(
                nic.source == plugged_into(&spec.source),
                "the interface is plugged into {:?}, not {:?}",
                nic.source,
                plugged_into(&spec.source)
            );
            ensure!(
                model.is_none_or(|model| nic.model == model),
                "asked for the model {model:?}, got {:?}",
                nic.model
            );
            wanted.push(mac);
        }
    }
    bench.bring(&vm, PowerState::Off).await?;
    let facts = bench.get(&vm).await?;
    let (mut is, mut was) = (macs(&facts), wanted);
    is.sort();
    was.sort();
    ensure!(is == was, "after a stop the interfaces are {is:?}, not {was:?}");
    let slots: Vec<u32> = facts.nics.iter().map(|nic| nic.slot).collect();
    ensure!(
        slots.iter().collect::<std::collections::BTreeSet<_>>().len() == slots.len(),
        "two interfaces have the same number: {slots:?}"
    );
    Ok(())
}

async fn unplugged(bench: Arc<Bench>) -> Verdict {
    let vm = bench.off().await?;
    let before = macs(&bench.get(&vm).await?);
    for state in OCCASIONS {
        bench.bring(&vm, state).await?;
        let absent = detach(&bench.mac());
        bench.must(&vm, &absent, "unplugging an absent interface").await?;
        // A guest that is not there does not let go.
        if state == PowerState::Running && !(bench.config.hot_plug && obeys(&bench)) {
            break;
        }
        let mac = bench.mac();
        let attach = VmChange::AttachNic(bench.nic_spec(&mac, None));
        bench.must(&vm, &attach, "plugging an interface in").await?;
        for time in ["unplugging an interface", "unplugging it again"] {
            let facts = bench.must(&vm, &detach(&mac), time).await?;
            ensure!(
                macs(&facts) == before,
                "after {time} the interfaces are {:?}, not {before:?}",
                macs(&facts)
            );
        }
    }
    bench.bring(&vm, PowerState::Off).await?;
    let Some(first) = before.first() else {
        return fail("a VM with an interface shows none");
    };
    let last = bench
        .must(&vm, &detach(first), "unplugging the first interface")
        .await?;
    ensure!(
        last.nics.is_empty(),
        "after the last interface was unplugged there is {:?}",
        macs(&last)
    );
    Ok(())
}

async fn let_go(bench: Arc<Bench>) -> Verdict {
    if !bench.config.hot_plug {
        return Ok(());
    }
    let vm = bench.listening().await?;
    let mac = bench.mac();
    let attach = VmChange::AttachNic(bench.nic_spec(&mac, None));
    let facts = bench.must(&vm, &attach, "plugging an interface in").await?;
    nic_there(&facts, &mac, "plugging it in")?;
    let what = "unplugging an interface from a running guest";
    let facts = bench.must(&vm, &detach(&mac), what).await?;
    ensure!(
        nic_with(&facts, &mac)?.is_none(),
        "after {what} it is still there"
    );
    bench.bring(&vm, PowerState::Off).await?;
    let facts = bench.get(&vm).await?;
    ensure!(
        nic_with(&facts, &mac)?.is_none(),
        "after a stop the interface is back"
    );
    Ok(())
}

async fn first(bench: &Bench, vm: &VmRef) -> Verdict<Nic> {
    match bench.get(vm).await?.nics.into_iter().next() {
        Some(nic) => Ok(nic),
        None => fail("a VM with an interface shows none"),
    }
}

async fn updated(bench: Arc<Bench>) -> Verdict {
    let vm = bench.off().await?;
    let was = first(&bench, &vm).await?;
    let plain = NicSpec {
        source: bench.nic.clone(),
        ..NicSpec::default()
    };
    let (other, model) = (bench.mac(), "e1000");
    let steps = [
        (
            "nothing",
            &was.mac,
            plain.clone(),
            (was.mac.clone(), was.model.clone()),
        ),
        (
            "the model",
            &was.mac,
            NicSpec {
                model: Some(model.to_owned()),
                ..plain.clone()
            },
            (was.mac.clone(), model.to_owned()),
        ),
        (
            "the address",
            &was.mac,
            NicSpec {
                mac: Some(other.clone()),
                ..plain.clone()
            },
            (other.clone(), model.to_owned()),
        ),
        (
            "what it is plugged into",
            &other,
            NicSpec {
                source: NicSource::User,
                ..NicSpec::default()
            },
            (other.clone(), model.to_owned()),
        ),
    ];
    for (what, mac, to, (wanted_mac, wanted_model)) in steps {
        let source = plugged_into(&to.source).to_owned();
        let change = VmChange::UpdateNic { mac: mac.clone(), to };
        for time in ["updating", "updating once more"] {
            bench
                .must(&vm, &change, &format!("{time} {what} of an interface"))
                .await?;
            let nic = first(&bench, &vm).await?;
            ensure!(
                (&nic.mac, &nic.model, &nic.source) == (&wanted_mac, &wanted_model, &source),
                "after {time} {what}, an interface that shall be {wanted_mac} ({wanted_model}) on {source} is {} ({}) on {}",
                nic.mac,
                nic.model,
                nic.source
            );
        }
    }
    let back = VmChange::UpdateNic {
        mac: other.clone(),
        to: plain.clone(),
    };
    bench.must(&vm, &back, "plugging an interface back").await?;
    bench.bring(&vm, PowerState::Running).await?;
    let before = bench.get(&vm).await?;
    let same = bench
        .must(&vm, &back, "updating an interface to what it is, while it runs")
        .await?;
    ensure!(
        macs(&same) == macs(&before),
        "an update to what it is changed the interfaces"
    );
    let absent = VmChange::UpdateNic {
        mac: bench.mac(),
        to: plain,
    };
    let what = "updating an absent interface";
    bench.must_not(&vm, &absent, &[ErrorKind::NotFound], what).await?;
    Ok(())
}

async fn limits(bench: Arc<Bench>) -> Verdict {
    let vm = bench.off().await?;
    let mac = first(&bench, &vm).await?.mac;
    let slow = Bandwidth {
        average: 1 << 20,
        ..Bandwidth::default()
    };
    let full = Bandwidth {
        average: 2 << 20,
        peak: 4 << 20,
        burst: 1 << 20,
    };
    for state in OCCASIONS {
        bench.bring(&vm, state).await?;
        for (inbound, outbound) in [
            (Some(slow), None),
            (Some(slow), None),
            (Some(full), Some(slow)),
            (None, Some(full)),
            (None, None),
            (Some(full), Some(slow)),
        ] {
            let change = VmChange::NicQos {
                mac: mac.clone(),
                inbound,
                outbound,
            };
            bench.must(&vm, &change, "limiting an interface").await?;
            let nic = first(&bench, &vm).await?;
            ensure!(
                (nic.inbound, nic.outbound) == (inbound, outbound),
                "while the VM is {} the limits were set to {inbound:?} and {outbound:?}, and are {:?} and {:?}",
                state.as_ref(),
                nic.inbound,
                nic.outbound
            );
        }
        let absent = VmChange::NicQos {
            mac: bench.mac(),
            inbound: Some(slow),
            outbound: None,
        };
        let what = "limiting an absent interface";
        bench.must_not(&vm, &absent, &[ErrorKind::NotFound], what).await?;
    }
    bench.bring(&vm, PowerState::Off).await?;
    let nic = first(&bench, &vm).await?;
    ensure!(
        (nic.inbound, nic.outbound) == (Some(full), Some(slow)),
        "limits that were set while the VM ran are {:?} and {:?} after a stop",
        nic.inbound,
        nic.outbound
    );
    Ok(())
}
