//! Consoles: where they are, while there is one, and the password.

use std::sync::Arc;

use babelvisor_core::ErrorKind;
use babelvisor_core::backend::VmRef;
use babelvisor_core::capability::Capability;
use babelvisor_core::command::PowerAction;
use babelvisor_core::model::{PowerState, VmChange, VmId};
use babelvisor_core::secret::Secret;

use super::{Check, RUN, VM};
use crate::kit::bench::{Bench, refer};
use crate::kit::verdict::{During as _, Verdict, ensure, refused};

const ENDPOINT: &[Capability] = &[Capability::ConsoleEndpoint];
const PASSWORD: &[Capability] = &[Capability::ConsolePassword];

pub(super) fn checks() -> Vec<Check> {
    vec![
        Check::new(
            "console::a_running_vm_has_one_of_its_own",
            "the console of a running VM is a host and a port that no other VM has, and that its facts tell, too",
            &[RUN, ENDPOINT],
            endpoint,
        ),
        Check::new(
            "console::a_vm_that_is_off_has_none",
            "the console of a VM that is off is IllegalState",
            &[VM, ENDPOINT],
            off,
        ),
        Check::new(
            "console::the_password_is_what_was_set_last",
            "the password of the spec is read back, a new one replaces it, ten times; it shows in no fact",
            &[VM, PASSWORD],
            password,
        ),
        Check::new(
            "console::the_password_outlives_a_stop",
            "a password that was set on a running VM is live, and in the definition",
            &[RUN, PASSWORD],
            outlives,
        ),
        Check::new(
            "console::the_password_is_removed_while_off",
            "a password that is removed while the VM is off is gone; removing none is success",
            &[VM, PASSWORD],
            removed,
        ),
        Check::new(
            "console::the_password_is_removed",
            "a password that is removed while the VM runs is gone at once, and after a stop",
            &[RUN, PASSWORD],
            removed_live,
        ),
        Check::new(
            "console::a_first_password_on_a_running_vm_is_set_or_refused",
            "a VM that was started without a console password gets one, or the call is IllegalState and sets none",
            &[RUN, PASSWORD],
            first_while_running,
        ),
    ]
}

async fn endpoint(bench: Arc<Bench>) -> Verdict {
    let mut found = Vec::new();
    for _ in 0..2 {
        let vm = bench.running().await?;
        let console = bench
            .backend
            .console(&bench.call(), &vm)
            .await
            .during("asking for the console of a running VM")?;
        ensure!(
            !console.host.is_empty() && console.port > 0,
            "a console at {}:{}",
            console.host,
            console.port
        );
        let facts = bench.get(&vm).await?;
        ensure!(
            facts
                .graphics
                .iter()
                .any(|display| display.kind == console.kind && display.port == Some(console.port)),
            "the console is at port {}, the VM's facts say {:?}",
            console.port,
            facts.graphics
        );
        found.push(console);
    }
    if let [first, second] = found.as_slice() {
        ensure!(
            first != second,
            "two running VMs have the same console {}:{}",
            first.host,
            first.port
        );
    }
    Ok(())
}

async fn off(bench: Arc<Bench>) -> Verdict {
    let vm = bench.off().await?;
    let answer = bench.backend.console(&bench.call(), &vm).await;
    refused(
        answer,
        &[ErrorKind::IllegalState],
        "the console of a VM that is off",
    )?;
    Ok(())
}

async fn password(bench: Arc<Bench>) -> Verdict {
    // At most eight characters: the oldest protocol cuts the rest.
    let first = Secret::new("kitPw-01");
    let mut spec = bench.spec(bench.name("console"), Vec::new());
    spec.console_password = Some(bench.keyring.seal(&first).during("sealing a password")?);
    let made = bench
        .define(&bench.call(), VmId::random(), &spec, &[], None)
        .await
        .during("defining a VM with a console password")?;
    let vm = refer(&made);
    let read = || async {
        bench
            .backend
            .console_password(&bench.call(), &vm)
            .await
            .during("reading the console password")
    };
    ensure!(
        read().await? == Some(first),
        "the password that was asked for is not the one that is read"
    );
    for number in 2..=bench.config.repeats {
        // Each twice: setting what is set already is success.
        let next = Secret::new(format!("kitPw-{:02}", number / 2));
        bench
            .backend
            .set_console_password(&bench.call(), &vm, &next)
            .await
            .during("setting the console password")?;
        ensure!(
            read().await? == Some(next.clone()),
            "the password that was set is not the one that is read"
        );
        let facts = bench.get(&vm).await?;
        ensure!(
            facts.graphics.iter().any(|display| display.has_password),
            "the VM's facts do not say that its console has a password"
        );
        ensure!(
            !format!("{facts:?}").contains(next.expose()),
            "the console password stands in the VM's facts"
        );
    }
    let without = bench.off().await?;
    let none = bench
        .backend
        .console_password(&bench.call(), &without)
        .await
        .during("reading the console password of a VM without one")?;
    ensure!(none.is_none(), "a VM without a console password has one");
    Ok(())
}

async fn outlives(bench: Arc<Bench>) -> Verdict {
    let mut spec = bench.spec(bench.name("console"), Vec::new());
    let first = Secret::new("kitFirst");
    spec.console_password = Some(bench.keyring.seal(&first).during("sealing a password")?);
    let made = bench
        .define(&bench.call(), VmId::random(), &spec, &[], None)
        .await
        .during("defining a VM with a console password")?;
    let vm = refer(&made);
    bench
        .power(&vm, PowerAction::Start)
        .await
        .during("starting a VM with a console password")?;
    let password = Secret::new("kitLive1");
    bench
        .backend
        .set_console_password(&bench.call(), &vm, &password)
        .await
        .during("setting the console password of a running VM")?;
    for action in [PowerAction::ForceOff, PowerAction::Start] {
        bench
            .power(&vm, action)
            .await
            .during(&action.as_ref().replace('_', " "))?;
        let read = bench
            .backend
            .console_password(&bench.call(), &vm)
            .await
            .during("reading the console password")?;
        ensure!(
            read.as_ref() == Some(&password),
            "after {} the console password is another one, or none",
            action.as_ref()
        );
    }
    Ok(())
}

async fn first_while_running(bench: Arc<Bench>) -> Verdict {
    let vm = bench.running().await?;
    let password = Secret::new("kitLive2");
    let answer = bench
        .backend
        .set_console_password(&bench.call(), &vm, &password)
        .await;
    let expected = answer.is_ok().then_some(password);
    if answer.is_err() {
        refused(
            answer,
            &[ErrorKind::IllegalState],
            "setting a first console password on a running VM",
        )?;
    }
    let read = bench
        .backend
        .console_password(&bench.call(), &vm)
        .await
        .during("reading the console password")?;
    ensure!(
        read == expected,
        "a first console password is set though it was refused, or not set though it was taken"
    );
    Ok(())
}

/// Sets or removes the password as a change, and looks whether it is so.
async fn set(bench: &Bench, vm: &VmRef, password: Option<&Secret>) -> Verdict {
    let sealed = match password {
        Some(password) => Some(bench.keyring.seal(password).during("sealing a password")?),
        None => None,
    };
    let change = VmChange::ConsolePassword { password: sealed };
    let facts = bench
        .must(vm, &change, "setting or removing the console password")
        .await?;
    let read = bench
        .backend
        .console_password(&bench.call(), vm)
        .await
        .during("reading the console password")?;
    ensure!(
        read.as_ref() == password,
        "the console password was {} and is {}",
        if password.is_some() { "set" } else { "removed" },
        if read.is_some() {
            "another one"
        } else {
            "not there"
        }
    );
    ensure!(
        facts.graphics.iter().any(|display| display.has_password) == password.is_some(),
        "the VM's facts do not say whether its console has a password"
    );
    Ok(())
}

async fn removed(bench: Arc<Bench>) -> Verdict {
    let vm = bench.off().await?;
    let password = Secret::new("kitGone1");
    for wanted in [
        Some(&password),
        Some(&password),
        None,
        None,
        Some(&password),
        None,
    ] {
        set(&bench, &vm, wanted).await?;
    }
    Ok(())
}

async fn removed_live(bench: Arc<Bench>) -> Verdict {
    let vm = bench.off().await?;
    set(&bench, &vm, Some(&Secret::new("kitGone2"))).await?;
    bench.bring(&vm, PowerState::Running).await?;
    for _ in 0..2 {
        set(&bench, &vm, None).await?;
    }
    bench.bring(&vm, PowerState::Off).await?;
    set(&bench, &vm, None).await
}
