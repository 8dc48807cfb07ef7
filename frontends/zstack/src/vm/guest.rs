//! What a machine's guest is told: host name, SSH key, passwords of its accounts. The gateway delivers host names
//! and keys with the first-boot set-up of a new machine; set later they are remembered and shown.

use babelvisor_core::Error;
use babelvisor_core::model::{NetworkId, VmChange, VmRecord};
use babelvisor_core::secret::Secret;
use bytes::Bytes;
use serde_json::{Value, json};

use super::{nic, tags};
use crate::decode::Call;
use crate::error::mandatory;
use crate::operations::Started;
use crate::{Zstack, encode};

/// The longest key that is taken.
const LONGEST_KEY: usize = 16 << 10;

/// Refuses a host name that RFC 1123 does not allow.
pub(super) fn check_hostname(name: &str) -> Result<(), Error> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() <= 253 && name.split('.').all(label) {
        return Ok(());
    }
    Err(Error::invalid(
        "hostname",
        "invalid field[hostname], a hostname conforms to RFC 1123: letters, digits and hyphens",
    ))
}

/// Refuses what is no public key: a kind and its data on one line.
pub(super) fn check_ssh_key(text: &str) -> Result<(), Error> {
    let mut words = text.split_whitespace();
    let kind = words.next().unwrap_or_default();
    let data = words.next().unwrap_or_default();
    let kind_fits = ["ssh-", "ecdsa-", "sk-"]
        .iter()
        .any(|prefix| kind.starts_with(prefix));
    if kind_fits && !data.is_empty() && text.len() <= LONGEST_KEY && !text.contains(['\n', '\r', '\0']) {
        return Ok(());
    }
    Err(Error::invalid(
        "SshKey",
        "invalid field[SshKey], expected one public key on one line, such as ssh-ed25519 AAAA… name",
    ))
}

/// `SetVmSshKey`.
pub(super) async fn set_ssh_key(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let key = call.needed("SshKey")?.trim();
    check_ssh_key(key)?;
    note(zstack, call, |record| record.ssh_keys = vec![key.to_owned()]).await
}

/// `GetVmSshKey`: without one there is no member.
pub(super) async fn ssh_key(zstack: &Zstack, call: &Call) -> Result<Bytes, Error> {
    let vm = zstack.vm_in(call, "uuid").await?;
    match vm.record.ssh_keys.as_slice() {
        [] => Ok(encode::nothing()),
        keys => encode::json_of(&json!({ "sshKey": keys.join("\n") })),
    }
}

/// `DeleteVmSshKey`.
pub(super) async fn delete_ssh_key(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    note(zstack, call, |record| record.ssh_keys.clear()).await
}

/// `SetVmHostname`.
pub(super) async fn set_hostname(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let hostname = call.needed("hostname")?;
    check_hostname(hostname)?;
    note(zstack, call, |record| record.hostname = Some(hostname.to_owned())).await?;
    Ok(Started::Done(json!({})))
}

/// `GetVmHostname`: without one there is no member.
pub(super) async fn hostname(zstack: &Zstack, call: &Call) -> Result<Bytes, Error> {
    let vm = zstack.vm_in(call, "uuid").await?;
    match &vm.record.hostname {
        Some(hostname) => encode::json_of(&json!({ "hostname": hostname })),
        None => Ok(encode::nothing()),
    }
}

/// `DeleteVmHostname`.
pub(super) async fn delete_hostname(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    note(zstack, call, |record| record.hostname = None).await?;
    Ok(Started::Done(json!({})))
}

/// `SetVmStaticIp`: kept as the tag that the original has for it.
pub(super) async fn set_address(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let vm = zstack.vm_in(call, "vmInstanceUuid").await?;
    let network = call.needed_id("l3NetworkUuid", NetworkId::NOUN)?;
    let network = zstack.network("l3NetworkUuid", network)?.id;
    let ip = nic::address(call.needed("ip")?)?;
    let mut nics = vm.facts.iter().flat_map(|facts| &facts.nics);
    if !nics.any(|nic| nic.network == Some(network)) {
        let text = "invalid field[l3NetworkUuid], the machine has no interface on that network";
        return Err(Error::invalid("l3NetworkUuid", text));
    }
    tags::fix_address(zstack, call, &vm, network, ip).await?;
    Ok(Started::Done(json!({})))
}

/// `DeleteVmStaticIp`.
pub(super) async fn delete_address(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let vm = zstack.vm_in(call, "vmInstanceUuid").await?;
    let named = call
        .asked("l3NetworkUuid")
        .ok_or_else(|| mandatory(&call.operation.id, "l3NetworkUuid"))?;
    let network = crate::decode::uuid(named)
        .ok_or_else(|| crate::error::no_resource("l3NetworkUuid", NetworkId::NOUN, named))?;
    let network = zstack.network("l3NetworkUuid", network)?.id;
    tags::free_address(zstack, call, &vm, network).await?;
    Ok(Started::Done(zstack.vm_value(&vm)?))
}

/// `ChangeVmPassword`: through the guest's agent.
pub(super) async fn change_password(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let vm = zstack.vm_in(call, "uuid").await?;
    let user = call.needed("account")?.to_owned();
    let password = call
        .body
        .get("password")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if password.is_empty() {
        return Err(mandatory(&call.operation.id, "password"));
    }
    if user.len() > 64 || user.chars().any(char::is_control) {
        return Err(Error::invalid(
            "account",
            "invalid field[account], no login is called so",
        ));
    }
    let password = zstack.core.seal(&Secret::new(password))?;
    let change = VmChange::GuestPassword { user, password };
    super::change(zstack, call, vm.id, vec![change]).await
}

/// Changes what is remembered of the machine in the path; its inventory is the result.
async fn note(
    zstack: &Zstack,
    call: &Call,
    change: impl Fn(&mut VmRecord) + Send + Sync,
) -> Result<Started, Error> {
    let vm = zstack.vm_in(call, "uuid").await?;
    let vm = zstack
        .core
        .annotate(&call.caller, vm.id, |record| {
            change(record);
            Ok(())
        })
        .await?;
    Ok(Started::Done(zstack.vm_value(&vm)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_conform_to_rfc_1123() {
        for name in ["web", "web-1", "1a", "web.example.com", "A"] {
            assert!(check_hostname(name).is_ok(), "{name}");
        }
        let long = "a".repeat(64);
        for name in [
            "",
            "-web",
            "web-",
            "we_b",
            "web..com",
            "web.",
            "wéb",
            long.as_str(),
        ] {
            assert!(check_hostname(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_public_key_is_one_line() {
        assert!(check_ssh_key("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 someone").is_ok());
        for text in ["", "ssh-rsa", "password", "ssh-rsa AAAA\nssh-rsa BBBB"] {
            assert!(check_ssh_key(text).is_err(), "{text}");
        }
    }
}
