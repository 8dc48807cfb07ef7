//! A canonical VM as the seventeen fields of a guest, and the answers around them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use babelvisor_core::frontend::Reply;
use babelvisor_core::inventory::Snapshot;
use babelvisor_core::layers::Core;
use babelvisor_core::model::{Activity, GraphicsKind, PowerState, Vm};
use babelvisor_core::secret::{Sealed, Secret};
use babelvisor_schemas::Contract;
use bytes::Bytes;
use serde::{Serialize, Serializer};

use crate::cache::{Basis, Cache};
use crate::error::success_state;

/// The content type of every answer. The original calls its JSON `text/html`; no client reads the header.
pub(crate) const CONTENT_TYPE: &str = "application/json; charset=utf-8";

/// Most room that is made for a list before its guests are known.
const MOST_ROOM: usize = 32 << 20;

/// The status of a guest whose creation failed.
const DIRTY: u8 = 255;

/// The fields by which a list can be ordered: all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, strum::EnumString, strum::AsRefStr, strum::EnumIter)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum Field {
    #[default]
    Id,
    Uuid,
    Name,
    Password,
    Remark,
    OsTemplateId,
    CreateTime,
    Status,
    OnHost,
    Cpu,
    Memory,
    Ip,
    Network,
    ManageNetwork,
    VncPort,
    VncPassword,
    Xml,
}

/// A field's value as lists order it: numbers by size, text without letter case, as the original's database does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Number(i64),
    Text(String),
}

/// A guest as it is printed.
#[derive(Serialize)]
struct Guest<'a> {
    id: u64,
    uuid: String,
    name: &'a str,
    #[serde(serialize_with = "expose")]
    password: Option<Secret>,
    remark: &'a str,
    os_template_id: u64,
    create_time: i64,
    status: u8,
    on_host: &'a str,
    cpu: u32,
    memory: u64,
    ip: String,
    network: &'a str,
    manage_network: &'a str,
    vnc_port: u16,
    #[serde(serialize_with = "expose")]
    vnc_password: Option<Secret>,
    xml: &'a str,
}

fn expose<S: Serializer>(secret: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.as_ref().map_or("", Secret::expose))
}

/// Encodes guests.
pub(crate) struct Encoder {
    core: Arc<Core>,
    success: Bytes,
    manage_network: Option<String>,
    shows_secrets: bool,
    cache: Cache,
    /// Bytes of a guest in the last list, the longest and its comma.
    typical: AtomicUsize,
}

impl Encoder {
    pub(crate) fn new(
        core: Arc<Core>,
        contract: &Contract,
        manage_network: Option<String>,
        shows_secrets: bool,
        cache: Cache,
    ) -> Self {
        Self {
            core,
            success: success_state(contract),
            manage_network,
            shows_secrets,
            cache,
            typical: AtomicUsize::new(0),
        }
    }

    /// A good answer with `state` alone.
    pub(crate) fn done(&self) -> Reply {
        good([b"{\"state\":".as_slice(), &self.success, b"}"].concat())
    }

    /// A good answer with one guest.
    pub(crate) fn one(&self, now: &Snapshot, vm: &Vm) -> Reply {
        let guest = self.guest(now, vm);
        good(
            [
                b"{\"state\":".as_slice(),
                &self.success,
                b",\"data\":",
                &guest,
                b"}",
            ]
            .concat(),
        )
    }

    /// A good answer with guests, and the paging block where there is one.
    pub(crate) fn many<'a>(
        &self,
        now: &Snapshot,
        vms: impl Iterator<Item = &'a Arc<Vm>>,
        paging: Option<&[u8]>,
    ) -> Reply {
        // Room as the last list needed it: growing a list of megabytes costs as much as filling it.
        let typical = self.typical.load(Ordering::Relaxed);
        let (least, most) = vms.size_hint();
        let room = most.unwrap_or(least).saturating_mul(typical).min(MOST_ROOM);
        let mut body = Vec::with_capacity(room + self.success.len() + paging.map_or(0, <[u8]>::len) + 64);
        body.extend_from_slice(b"{\"state\":");
        body.extend_from_slice(&self.success);
        body.extend_from_slice(b",\"data\":[");
        let mut longest = 0;
        for (place, vm) in vms.enumerate() {
            if place > 0 {
                body.push(b',');
            }
            let before = body.len();
            if !self.cache.append(vm.id, basis(now, vm), &mut body) {
                body.extend_from_slice(&self.guest(now, vm));
            }
            longest = longest.max(body.len() - before + 1);
        }
        if longest > 0 {
            self.typical.store(longest, Ordering::Relaxed);
        }
        body.push(b']');
        if let Some(paging) = paging {
            body.extend_from_slice(b",\"paging\":");
            body.extend_from_slice(paging);
        }
        body.push(b'}');
        self.cache.sweep(now.vms.len(), |id| now.vms.contains_key(id));
        good(body)
    }

    /// The guest's JSON, from the cache where it is still true.
    pub(crate) fn guest(&self, now: &Snapshot, vm: &Vm) -> Bytes {
        let basis = basis(now, vm);
        if let Some(json) = self.cache.get(vm.id, basis) {
            return json;
        }
        let network = network(vm);
        let guest = Guest {
            id: vm.record.number,
            uuid: vm.id.to_string(),
            name: vm.name(),
            password: self.open(vm, vm.record.admin_password.as_ref()),
            remark: &vm.record.remark,
            os_template_id: template(now, vm),
            create_time: vm.record.first_seen.as_microsecond(),
            status: status(vm),
            on_host: on_host(now, vm),
            cpu: vm.vcpus(),
            memory: gibibytes(vm.memory()),
            ip: address(vm),
            network,
            manage_network: self.manage_network.as_deref().unwrap_or(network),
            vnc_port: vnc_port(vm),
            vnc_password: self.open(vm, vm.record.console_password.as_ref()),
            xml: definition(vm),
        };
        // Numbers and text alone always encode.
        let json = Bytes::from(serde_json::to_vec(&guest).unwrap_or_default());
        self.cache.put(vm.id, basis, json.clone());
        json
    }

    /// The value that a list is ordered by.
    pub(crate) fn key(&self, now: &Snapshot, vm: &Vm, field: Field) -> Key {
        let number = |value: u64| Key::Number(i64::try_from(value).unwrap_or(i64::MAX));
        let text = |value: &str| Key::Text(value.to_lowercase());
        let secret = |sealed| text(self.open(vm, sealed).as_ref().map_or("", Secret::expose));
        match field {
            Field::Id => number(vm.record.number),
            Field::Uuid => Key::Text(vm.id.to_string()),
            Field::Name => text(vm.name()),
            Field::Password => secret(vm.record.admin_password.as_ref()),
            Field::Remark => text(&vm.record.remark),
            Field::OsTemplateId => number(template(now, vm)),
            Field::CreateTime => Key::Number(vm.record.first_seen.as_microsecond()),
            Field::Status => number(status(vm).into()),
            Field::OnHost => text(on_host(now, vm)),
            Field::Cpu => number(vm.vcpus().into()),
            Field::Memory => number(gibibytes(vm.memory())),
            Field::Ip => text(&address(vm)),
            Field::Network => text(network(vm)),
            Field::ManageNetwork => text(self.manage_network.as_deref().unwrap_or(network(vm))),
            Field::VncPort => number(vnc_port(vm).into()),
            Field::VncPassword => secret(vm.record.console_password.as_ref()),
            Field::Xml => text(definition(vm)),
        }
    }

    fn open(&self, vm: &Vm, sealed: Option<&Sealed>) -> Option<Secret> {
        let sealed = sealed.filter(|_| self.shows_secrets)?;
        match self.core.open(sealed) {
            Ok(secret) => Some(secret),
            Err(error) => {
                tracing::warn!(vm = %vm.id, %error, "a guest's password cannot be shown");
                None
            }
        }
    }
}

/// What a guest's text depends on now.
fn basis(now: &Snapshot, vm: &Vm) -> Basis {
    Basis {
        revision: vm.revision,
        surroundings: now.surroundings,
    }
}

fn good(body: Vec<u8>) -> Reply {
    Reply {
        status: 200,
        headers: vec![("content-type", CONTENT_TYPE.to_owned())],
        body: body.into(),
        operation: None,
    }
}

/// Whether it is still being made: what exists of it so far is nothing that a client can use.
fn in_the_making(vm: &Vm) -> bool {
    let up = match vm.power() {
        PowerState::NoState | PowerState::Off => false,
        PowerState::Running
        | PowerState::Blocked
        | PowerState::Paused
        | PowerState::ShuttingDown
        | PowerState::Crashed
        | PowerState::Suspended => true,
    };
    vm.facts.is_none() || (vm.activity == Some(Activity::Creating) && !up)
}

/// libvirt's number of the state; 0 while it is being made, 255 when that failed.
pub(crate) fn status(vm: &Vm) -> u8 {
    if vm.record.fault.is_some() {
        return DIRTY;
    }
    if in_the_making(vm) {
        return 0;
    }
    match vm.power() {
        PowerState::NoState => 0,
        PowerState::Running => 1,
        PowerState::Blocked => 2,
        PowerState::Paused => 3,
        PowerState::ShuttingDown => 4,
        PowerState::Off => 5,
        PowerState::Crashed => 6,
        PowerState::Suspended => 7,
    }
}

/// The host's name; empty while the guest is being made.
pub(crate) fn on_host<'a>(now: &'a Snapshot, vm: &Vm) -> &'a str {
    if in_the_making(vm) {
        return "";
    }
    let host = vm.facts.as_ref().and_then(|facts| now.hosts.get(&facts.host));
    host.map_or("", |host| host.name.as_str())
}

/// The first IPv4 address, or else the first address: the original knows no other kind.
pub(crate) fn address(vm: &Vm) -> String {
    let all = || {
        vm.facts
            .iter()
            .flat_map(|facts| &facts.nics)
            .flat_map(|nic| &nic.addresses)
    };
    all()
        .find(|address| address.is_ipv4())
        .or_else(|| all().next())
        .map(ToString::to_string)
        .unwrap_or_default()
}

fn template(now: &Snapshot, vm: &Vm) -> u64 {
    vm.record
        .image
        .and_then(|id| now.images.get(&id))
        .map_or(0, |image| image.number)
}

/// Bytes as whole GiB, never 0 for something.
const fn gibibytes(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 30)
}

/// The network of the first interface, or the one that is planned.
fn network(vm: &Vm) -> &str {
    match (&vm.facts, &vm.record.planned) {
        (Some(facts), _) => facts.nics.first().map_or("", |nic| nic.source.as_str()),
        (None, Some(planned)) => planned.networks.first().map_or("", String::as_str),
        (None, None) => "",
    }
}

fn vnc_port(vm: &Vm) -> u16 {
    let displays = vm.facts.iter().flat_map(|facts| &facts.graphics);
    displays
        .filter(|display| display.kind == GraphicsKind::Vnc)
        .find_map(|display| display.port)
        .unwrap_or(0)
}

/// The description at creation; of an adopted guest the present one.
fn definition(vm: &Vm) -> &str {
    let now = || vm.facts.as_ref().and_then(|facts| facts.definition.as_deref());
    vm.record.definition.as_deref().or_else(now).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_rounded_up_to_whole_gibibytes() {
        let cases = [
            (0, 0),
            (1, 1),
            (1 << 30, 1),
            ((1 << 30) + 1, 2),
            (4 << 30, 4),
            (512 << 20, 1),
        ];
        for (bytes, shown) in cases {
            assert_eq!(gibibytes(bytes), shown, "{bytes}");
        }
    }
}
