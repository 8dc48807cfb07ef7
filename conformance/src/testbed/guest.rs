//! The tiny guest on a private libvirtd: its image, a domain for it, and what happens inside.

use super::error::{Result, TestbedError, file_error};
use super::eventually::eventually_blocking;
use super::libvirtd::Libvirtd;
use super::process::{run, script};
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The kernel of the guest image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kernel {
    /// Debian's cloud kernel: boots in 3 s under emulation, knows virtio and IDE only, as many cloud images do.
    #[default]
    Cloud,
    /// Debian's generic kernel: 6 s, knows SATA and e1000 as well.
    Generic,
}

/// Puts the tiny bootable guest into `directory` and gives the path of the qcow2 file (20 MB).
///
/// It is built from Debian packages on first use (ten seconds, needs a package mirror) and cached; see
/// `scripts/guest-image.sh`.
///
/// # Errors
/// [`TestbedError::Command`] with the script's message.
pub fn image(directory: &Path, kernel: Kernel) -> Result<PathBuf> {
    let kernel = match kernel {
        Kernel::Cloud => "cloud",
        Kernel::Generic => "generic",
    };
    let output = run(Command::new(script("guest-image.sh")).arg(directory).arg(kernel))?;
    Ok(PathBuf::from(output.trim()))
}

/// A NoCloud seed ISO in `directory`, as a client's cloud-init seed looks.
///
/// # Errors
/// When `genisoimage` is missing or the directory cannot be written.
pub fn seed_iso(directory: &Path, name: &str, meta_data: &str, user_data: &str) -> Result<PathBuf> {
    let content = tempfile::tempdir().map_err(file_error("seed"))?;
    for (file, text) in [("meta-data", meta_data), ("user-data", user_data)] {
        let path = content.path().join(file);
        std::fs::write(&path, text).map_err(file_error(&path))?;
    }
    let iso = directory.join(format!("{name}.iso"));
    run(Command::new("genisoimage")
        .args(["-quiet", "-V", "cidata", "-J", "-r", "-o"])
        .arg(&iso)
        .arg(content.path()))?;
    Ok(iso)
}

/// Domain XML for the tiny guest: emulated q35, 192 MiB, one vCPU, virtio disk `disk` (qcow2), a NIC on the network
/// `default`, the agent's channel, VNC, and the serial console logged to [`Libvirtd::serial_log`]. `seed` is attached as a
/// read-only virtio disk. `name` must be plain (letters, digits, `-`).
pub fn domain_xml(libvirtd: &Libvirtd, name: &str, disk: &Path, seed: Option<&Path>) -> String {
    let nic = if libvirtd.has_network() {
        "<interface type='network'><source network='default'/><model type='virtio'/></interface>"
    } else {
        "<interface type='user'><model type='virtio'/></interface>"
    };
    let seed = seed.map_or_else(String::new, |path| {
        format!(
            "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{}'/>\
             <target dev='vdb' bus='virtio'/><readonly/></disk>",
            path.display()
        )
    });
    format!(
        "<domain type='qemu'><name>{name}</name><memory unit='MiB'>192</memory><vcpu>1</vcpu>\
         <os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features><devices>\
         <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{disk}'/>\
         <target dev='vda' bus='virtio'/></disk>{seed}{nic}\
         <serial type='pty'><log file='{log}'/></serial>\
         <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>\
         <graphics type='vnc' port='-1'/></devices></domain>",
        disk = disk.display(),
        log = libvirtd.serial_log(name).display(),
    )
}

/// Waits until the guest has printed `text` on its serial console.
///
/// # Errors
/// [`TestbedError::Deadline`] with all that it did print.
pub fn wait_serial(libvirtd: &Libvirtd, domain: &str, text: &str, deadline: Duration) -> Result<()> {
    let path = libvirtd.serial_log(domain);
    let read = || String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default()).into_owned();
    eventually_blocking(text, deadline, || read().contains(text).then_some(())).map_err(|_| {
        TestbedError::Deadline {
            what: format!("'{text}' on the console of {domain}"),
            waited: deadline,
            detail: format!("; it printed:\n{}", read()),
        }
    })
}

/// Sends one command to the guest agent and gives its `return`.
///
/// # Errors
/// [`TestbedError::Command`] when the agent does not answer or refuses.
pub fn agent(libvirtd: &Libvirtd, domain: &str, command: &Value) -> Result<Value> {
    let text = libvirtd.virsh(&["qemu-agent-command", domain, &command.to_string()])?;
    let answer: Value = serde_json::from_str(&text).map_err(|_| TestbedError::Answer {
        what: command.to_string(),
        answer: text.clone(),
    })?;
    Ok(answer.get("return").cloned().unwrap_or(Value::Null))
}

/// Waits until the guest agent answers.
///
/// # Errors
/// [`TestbedError::Deadline`].
pub fn wait_agent(libvirtd: &Libvirtd, domain: &str, deadline: Duration) -> Result<()> {
    let ping = json!({"execute": "guest-ping"});
    let what = format!("an answer from the guest agent of {domain}");
    eventually_blocking(&what, deadline, || agent(libvirtd, domain, &ping).ok().map(drop))
}

/// Runs a shell command line inside the guest through its agent and gives what it printed on standard output.
///
/// # Errors
/// When the agent does not answer, the command does not end within 30 s or its exit status is not 0.
pub fn run_inside(libvirtd: &Libvirtd, domain: &str, command_line: &str) -> Result<String> {
    let start = json!({"execute": "guest-exec", "arguments": {
        "path": "/bin/sh", "arg": ["-c", command_line], "capture-output": true}});
    let started = agent(libvirtd, domain, &start)?;
    let status = json!({"execute": "guest-exec-status", "arguments": {"pid": started.get("pid")}});
    let ended = eventually_blocking(command_line, Duration::from_secs(30), || {
        agent(libvirtd, domain, &status)
            .ok()
            .filter(|state| state.get("exited") == Some(&Value::Bool(true)))
    })?;
    let text = |key: &str| decode(ended.get(key).and_then(Value::as_str).unwrap_or_default());
    if ended.get("exitcode").and_then(Value::as_i64) == Some(0) {
        return Ok(text("out-data"));
    }
    Err(TestbedError::Command {
        command: format!("in {domain}: {command_line}"),
        status: format!("exit code {}", ended.get("exitcode").unwrap_or(&Value::Null)),
        output: format!("{}{}", text("out-data"), text("err-data")),
    })
}

fn decode(text: &str) -> String {
    String::from_utf8_lossy(&BASE64.decode(text).unwrap_or_default()).into_owned()
}

/// Waits until libvirt says that the domain is in `state` (virsh's words: `running`, `shut off`, `paused` …).
///
/// # Errors
/// [`TestbedError::Deadline`].
pub fn wait_state(libvirtd: &Libvirtd, domain: &str, state: &str, deadline: Duration) -> Result<()> {
    let what = format!("{domain} being {state}");
    eventually_blocking(&what, deadline, || {
        libvirtd
            .virsh(&["domstate", domain])
            .ok()
            .filter(|text| text.trim() == state)
            .map(drop)
    })
}
