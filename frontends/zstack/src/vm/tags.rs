//! System tags that a creation understands: `name::value`, some with two values. What they ask for goes into the
//! request; all of them are kept as tags of the machine, but for those that hold secrets.

use std::net::IpAddr;

use babelvisor_core::layers::{ConsoleChoice, CreateRequest, NicRequest};
use babelvisor_core::model::{
    AffinityGroup, AffinityGroupId, GraphicsKind, NetworkId, Tag, TagResource, TenantId, Vm, VmId,
};
use babelvisor_core::secret::Secret;
use babelvisor_core::{Error, ErrorKind};
use base64::Engine as _;

use crate::Zstack;
use crate::decode::{self, Call};
use crate::error::no_resource;

/// The longest first-boot script, decoded.
const LONGEST_SCRIPT: usize = 64 << 10;
/// The longest tag that is kept.
const LONGEST: usize = 2048;

/// A known tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    AffinityGroup,
    UserData,
    SshKey,
    ConsoleMode,
    ConsolePassword,
    StaticIp,
    CustomMac,
    Hostname,
    HaLevel,
    UsbRedirect,
    /// Understood, and nothing that the gateway can do.
    Refused(&'static str),
}

const KNOWN: [(&str, Known); 12] = [
    ("affinityGroupUuid", Known::AffinityGroup),
    ("userdata", Known::UserData),
    ("sshkey", Known::SshKey),
    ("vmConsoleMode", Known::ConsoleMode),
    ("consolePassword", Known::ConsolePassword),
    ("staticIp", Known::StaticIp),
    ("customMac", Known::CustomMac),
    ("hostname", Known::Hostname),
    ("ha", Known::HaLevel),
    ("usbRedirect", Known::UsbRedirect),
    ("pciDevice", Known::Refused("host devices are not passed through")),
    ("vmCpuPinning", Known::Refused("vCPUs are not pinned")),
];

fn known(tag: &str) -> Option<(Known, &str)> {
    let (name, value) = tag.split_once("::")?;
    KNOWN
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, known)| (*known, value))
}

fn invalid(tag: &str, why: impl std::fmt::Display) -> Error {
    let name = tag.split("::").next().unwrap_or_default();
    let name: String = name.chars().take(64).collect();
    Error::invalid("systemTags", format!("system tag[{name}]: {why}"))
}

/// Puts what the tags ask for into `request`, whose interfaces are there already.
///
/// # Errors
/// `InvalidInput`, `NotFound`, `Unsupported`, naming the tag.
pub(super) async fn apply(zstack: &Zstack, call: &Call, request: &mut CreateRequest) -> Result<(), Error> {
    for tag in &call.system_tags {
        let Some((known, value)) = known(tag) else {
            continue;
        };
        let value = value.trim();
        match known {
            Known::AffinityGroup => {
                let id = decode::uuid(value).map(AffinityGroupId);
                let id = id.ok_or_else(|| no_resource("systemTags", AffinityGroupId::NOUN, value))?;
                zstack.entry::<AffinityGroup>(call, "systemTags", id).await?;
                request.wish.affinity = Some(id);
            }
            Known::UserData => request.user_data = Some(script(tag, value)?),
            Known::SshKey => request.ssh_keys.push(ssh_key(tag, value)?),
            Known::ConsoleMode => {
                let kind = match value {
                    "vnc" => GraphicsKind::Vnc,
                    "spice" => GraphicsKind::Spice,
                    _ => return Err(invalid(tag, "expected vnc or spice")),
                };
                request.graphics = vec![kind];
            }
            Known::ConsolePassword => {
                super::console::check_password(value)?;
                request.console = ConsoleChoice::Password(Secret::new(value));
            }
            Known::StaticIp => {
                let (nic, ip) = of_nic(tag, value, request)?;
                nic.address = Some(address(tag, ip)?);
            }
            Known::CustomMac => {
                let (nic, mac) = of_nic(tag, value, request)?;
                nic.mac = Some(super::nic::mac(mac).ok_or_else(|| invalid(tag, "expected a MAC address"))?);
            }
            Known::Hostname => {
                super::guest::check_hostname(value)?;
                request.hostname = Some(value.to_owned());
            }
            Known::HaLevel => {
                if value != "NeverStop" && value != "OnHostFailure" {
                    return Err(invalid(tag, "expected NeverStop or OnHostFailure"));
                }
                let key = super::recorded::HA_LEVEL.to_owned();
                request.settings.insert(key, value.to_owned());
            }
            Known::UsbRedirect => {
                if value != "true" && value != "false" {
                    return Err(invalid(tag, "expected true or false"));
                }
            }
            Known::Refused(why) => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("system tag[{}] cannot be honoured: {why}", first(tag)),
                ));
            }
        }
    }
    Ok(())
}

/// Keeps the tags of a call on its machine.
pub(super) async fn keep(zstack: &Zstack, call: &Call, vm: VmId, tenant: &TenantId) -> Result<(), Error> {
    let texts = |list: &[String], system: bool| -> Vec<(String, bool)> {
        list.iter()
            .filter(|text| !text.is_empty() && text.len() <= LONGEST && !(system && secret(text)))
            .map(|text| (text.clone(), system))
            .collect()
    };
    let all = texts(&call.system_tags, true)
        .into_iter()
        .chain(texts(&call.user_tags, false));
    for (text, system) in all {
        let tag = Tag::new(TagResource::of(vm), text, system, Some(tenant.clone()));
        zstack.core.add_entry(&call.caller, tag).await?;
    }
    Ok(())
}

/// Fixes the address of a machine on a network: the tag that the original has for it.
pub(super) async fn fix_address(
    zstack: &Zstack,
    call: &Call,
    vm: &Vm,
    network: NetworkId,
    ip: IpAddr,
) -> Result<(), Error> {
    free_address(zstack, call, vm, network).await?;
    let text = format!("{}{ip}", fixed(network));
    let tag = Tag::new(TagResource::of(vm.id), text, true, Some(vm.record.tenant.clone()));
    zstack.core.add_entry(&call.caller, tag).await.map(|_| ())
}

/// Forgets the fixed address of a machine on a network, if there is one.
pub(super) async fn free_address(
    zstack: &Zstack,
    call: &Call,
    vm: &Vm,
    network: NetworkId,
) -> Result<(), Error> {
    let now = zstack.core.now();
    let prefix = fixed(network);
    let resource = TagResource::of(vm.id);
    let old = now
        .tags_of(&resource)
        .filter(|tag| tag.system && tag.text.starts_with(&prefix));
    for tag in old {
        zstack.core.remove_entry::<Tag>(&call.caller, tag.id).await?;
    }
    Ok(())
}

/// How the tag of a fixed address on `network` begins.
fn fixed(network: NetworkId) -> String {
    format!("staticIp::{}::", network.simple())
}

/// Whether a tag holds what nobody may read again.
fn secret(tag: &str) -> bool {
    matches!(known(tag), Some((Known::ConsolePassword | Known::UserData, _)))
}

fn first(tag: &str) -> &str {
    tag.split("::").next().unwrap_or_default()
}

/// The interface that `<network>::<rest>` speaks of, and the rest.
fn of_nic<'r, 't>(
    tag: &str,
    value: &'t str,
    request: &'r mut CreateRequest,
) -> Result<(&'r mut NicRequest, &'t str), Error> {
    let (network, rest) = value
        .split_once("::")
        .ok_or_else(|| invalid(tag, "expected a network's uuid, two colons and a value"))?;
    let id = decode::uuid(network).map(NetworkId);
    let id = id.ok_or_else(|| no_resource("systemTags", NetworkId::NOUN, network))?;
    let nics = request.nics.as_deref_mut().unwrap_or_default();
    let nic = nics.iter_mut().find(|nic| nic.network == Some(id));
    let nic = nic.ok_or_else(|| invalid(tag, "the machine has no interface on that network"))?;
    Ok((nic, rest))
}

fn address(tag: &str, text: &str) -> Result<IpAddr, Error> {
    text.parse().map_err(|_| invalid(tag, "expected an IP address"))
}

fn script(tag: &str, encoded: &str) -> Result<Secret, Error> {
    let plain: String = encoded.chars().filter(|letter| !letter.is_whitespace()).collect();
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(plain)
        .map_err(|_| invalid(tag, "expected base64"))?;
    if bytes.len() > LONGEST_SCRIPT {
        return Err(invalid(tag, format!("at most {LONGEST_SCRIPT} bytes are taken")));
    }
    let text = String::from_utf8(bytes).map_err(|_| invalid(tag, "the script is not UTF-8"))?;
    Ok(Secret::new(text))
}

fn ssh_key(tag: &str, text: &str) -> Result<String, Error> {
    super::guest::check_ssh_key(text).map_err(|error| invalid(tag, error.detail))?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_a_name_and_a_value() {
        assert_eq!(known("ha::NeverStop"), Some((Known::HaLevel, "NeverStop")));
        assert_eq!(
            known("staticIp::81a21a81cde84c1084c191354053a3b5::172.20.196.0"),
            Some((Known::StaticIp, "81a21a81cde84c1084c191354053a3b5::172.20.196.0"))
        );
        assert_eq!(known("colour::red"), None);
        assert_eq!(known("ha"), None);
    }

    #[test]
    fn secrets_are_not_kept_as_tags() {
        assert!(secret("consolePassword::made-up") && secret("userdata::IyE="));
        assert!(!secret("sshkey::ssh-ed25519 AAAA"));
    }

    #[test]
    fn a_script_is_base64_even_when_it_is_broken_over_lines() {
        let read = script("userdata", "I2Nsb3Vk\nLWNvbmZpZw==").unwrap();
        assert_eq!(read.expose(), "#cloud-config");
        assert!(script("userdata", "not base64!").is_err());
    }
}
