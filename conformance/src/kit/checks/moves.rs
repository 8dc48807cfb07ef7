//! Moves between hosts, and pictures of screens.

use std::sync::Arc;

use babelvisor_core::backend::{MigrationTarget, VmRef};
use babelvisor_core::capability::Capability;
use babelvisor_core::model::{HostId, PowerState};
use babelvisor_core::{ErrorKind, Result};

use super::{Check, RUN, VM};
use crate::kit::bench::{Bench, lasting};
use crate::kit::verdict::{During as _, Stop, Verdict, ensure, refused};

const MIGRATE: &[Capability] = &[Capability::VmMigrate];
const TOPOLOGY: &[Capability] = &[Capability::TopologyList];
const SCREENSHOT: &[Capability] = &[Capability::ConsoleScreenshot];

pub(super) fn checks() -> Vec<Check> {
    vec![
        Check::new(
            "move::to_where_it_is_is_success",
            "moving a VM to the host that it is on is success, and changes nothing; an absent host is NotFound",
            &[RUN, MIGRATE],
            stays,
        ),
        Check::new(
            "move::to_another_host_and_back",
            "a running VM that is moved is on the other host, runs on, and is otherwise what it was",
            &[RUN, MIGRATE, TOPOLOGY],
            moves,
        ),
        Check::new(
            "screen::of_a_running_vm_is_a_picture",
            "the picture of a running VM's screen is what its media type says",
            &[RUN, SCREENSHOT],
            picture,
        ),
        Check::new(
            "screen::of_a_vm_that_is_off_is_none",
            "a VM that is off has no screen: IllegalState; one that does not exist is NotFound",
            &[VM, SCREENSHOT],
            no_picture,
        ),
    ]
}

async fn send(bench: &Bench, vm: &VmRef, host: HostId) -> Result<()> {
    let to = MigrationTarget { host, address: None };
    bench.backend.migrate(&bench.call(), vm, &to).await
}

async fn stays(bench: Arc<Bench>) -> Verdict {
    let vm = bench.running().await?;
    let before = bench.get(&vm).await?;
    for _ in 0..2 {
        send(&bench, &vm, before.host)
            .await
            .during("moving a VM to the host that it is on")?;
        bench.unchanged(&vm, &before, "a move to where it is").await?;
    }
    let what = "moving a VM to a host that does not exist";
    let nowhere = send(&bench, &vm, HostId::random()).await;
    refused(nowhere, &[ErrorKind::NotFound, ErrorKind::InvalidInput], what)?;
    bench.unchanged(&vm, &before, what).await
}

async fn moves(bench: Arc<Bench>) -> Verdict {
    let topology = bench
        .backend
        .topology(&bench.call())
        .await
        .during("reading the topology")?;
    let vm = bench.running().await?;
    let before = bench.get(&vm).await?;
    let Some(other) = topology.hosts.iter().find(|host| host.id != before.host) else {
        return Err(Stop::Skipped(
            "there is no second host behind this backend".to_owned(),
        ));
    };
    for (host, times) in [(other.id, 2), (before.host, 1)] {
        for _ in 0..times {
            send(&bench, &vm, host).await.during("moving a running VM")?;
            let now = bench.get(&vm).await?;
            ensure!(
                now.host == host,
                "a VM that was moved to host {host} is on {}",
                now.host
            );
            bench.expect_state(&vm, PowerState::Running, "a move").await?;
            let mut same = lasting(&now);
            same.host = before.host;
            same.graphics.clone_from(&before.graphics);
            ensure!(same == lasting(&before), "a move changed what the VM is");
        }
    }
    Ok(())
}

async fn picture(bench: Arc<Bench>) -> Verdict {
    let vm = bench.running().await?;
    let shown = bench
        .backend
        .screenshot(&bench.call(), &vm)
        .await
        .during("taking a picture of a screen")?;
    let begins: &[&[u8]] = match shown.media_type.as_str() {
        "image/png" => &[b"\x89PNG\r\n\x1a\n"],
        "image/x-portable-pixmap" => &[b"P6", b"P3"],
        "image/jpeg" => &[b"\xff\xd8\xff"],
        _ => &[b""],
    };
    ensure!(
        shown.media_type.starts_with("image/") && shown.bytes.len() > 16,
        "the picture is {} bytes of {:?}",
        shown.bytes.len(),
        shown.media_type
    );
    ensure!(
        begins.iter().any(|begin| shown.bytes.starts_with(begin)),
        "the picture is not {}, as it says",
        shown.media_type
    );
    bench
        .expect_state(&vm, PowerState::Running, "taking a picture of its screen")
        .await
}

async fn no_picture(bench: Arc<Bench>) -> Verdict {
    let vm = bench.off().await?;
    let off = bench.backend.screenshot(&bench.call(), &vm).await;
    refused(off, &[ErrorKind::IllegalState], "the screen of a VM that is off")?;
    let nobody = bench.backend.screenshot(&bench.call(), &bench.nobody()).await;
    refused(
        nobody,
        &[ErrorKind::NotFound],
        "the screen of a VM that does not exist",
    )?;
    Ok(())
}
