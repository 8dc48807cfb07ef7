//! Creating a VM: choosing where it goes and under which names, then one atomic store call that makes both
//! the row that every dialect shows at once and the job that will fill it.

use std::sync::Arc;

use super::placement::Place;
use super::{Core, SubmitOptions, audit, authorise, capable};
use crate::capability::Capability;
use crate::command::{Command, CreateVm};
use crate::error::{Error, Result};
use crate::inventory::Snapshot;
use crate::jobs::seed_volume;
use crate::model::{
    BackendId, Caller, FlavorId, GuestSetup, Image, Job, NicSource, NicSpec, Planned, PoolVolume, Timestamp,
    Vm, VmId, VmOrigin, VmSpec, VolumeFormat, VolumeSource, VolumeSpec,
};
use crate::registry::{Registry, new_vm_writes};
use crate::secret::{Secret, random_text};

/// What libvirt, QEMU and Proxmox can all hold; more is a slip of the client.
const MOST_VCPUS: u32 = 4096;
/// 64 TiB.
const MOST_MEMORY: u64 = 1 << 46;
/// Less than this cannot run firmware.
const LEAST_MEMORY: u64 = 16 << 20;

/// The guest's administrator.
#[derive(Debug, Clone)]
pub struct GuestLogin {
    /// Login; the image's own without.
    pub user: Option<String>,
    /// Password.
    pub password: Secret,
}

/// The console of a new VM.
#[derive(Debug, Clone)]
pub enum ConsoleChoice {
    /// No password.
    Open,
    /// This password.
    Password(Secret),
}

/// A VM that a client asks for, before placement.
#[derive(Debug, Clone)]
pub struct CreateRequest {
    /// Display name.
    pub name: String,
    /// vCPUs.
    pub vcpus: u32,
    /// Memory in bytes.
    pub memory: u64,
    /// Root disk in bytes; at least the image's size is made.
    pub disk: u64,
    /// The image to boot.
    pub image: Arc<Image>,
    /// The flavor that the sizes come from.
    pub flavor: Option<FlavorId>,
    /// The guest's administrator.
    pub login: Option<GuestLogin>,
    /// The console.
    pub console: ConsoleChoice,
    /// Whether to start it.
    pub start: bool,
    /// The lease as the client gave it.
    pub lease_term: Option<i64>,
    /// When a rented VM's term ends.
    pub expires_at: Option<Timestamp>,
    /// Marks.
    pub tags: std::collections::BTreeMap<String, String>,
}

impl Core {
    /// Takes the creation of a VM. The VM is visible at once, without facts and with activity `Creating`.
    ///
    /// # Errors
    /// `InvalidInput` for sizes out of range, `QuotaExceeded`, `NoResources` when no backend that is up has
    /// the image, a pool with room and memory, `Unsupported`; in every case nothing was made.
    pub async fn create_vm(
        &self,
        caller: &Caller,
        request: CreateRequest,
        options: SubmitOptions,
    ) -> Result<(Arc<Vm>, Job)> {
        authorise::may_change(caller)?;
        check_sizes(&request)?;
        let now = self.now();
        let vm = VmId::random();
        let hold = self.holds.begin(&self.inventory, caller, vm, &request.name)?;
        let place = self.place(&now, &request.image, request.memory, request.disk)?;
        let backend = place.location.backend.clone();
        let name = if hold.name_is_contested {
            distinct_name(&request.name, vm)
        } else {
            backend_name(&now, &backend, &request.name, vm)
        };
        let spec = self.specify(vm, name, place, &request)?;
        let command = Command::CreateVm(Box::new(CreateVm {
            vm,
            spec,
            start: request.start,
            from: None,
            importing: false,
        }));
        capable::check(&command, self.backend(&backend)?.as_ref())?;
        audit::asked(caller, &command);

        let alias = self.registry.new_aliases(1).await?.into_iter().next();
        let alias = alias.ok_or_else(|| Error::internal("no alias was given out"))?;
        let Command::CreateVm(create) = &command else {
            return Err(Error::internal("a create command changed its kind"));
        };
        let spec = &create.spec;
        let planned = Planned {
            vcpus: spec.vcpus,
            memory: spec.memory,
            disks: spec.volumes.iter().map(|volume| volume.capacity).collect(),
            networks: spec.nics.iter().map(network_name).collect(),
        };
        let mut record = Registry::new_vm(
            vm,
            alias,
            backend.clone(),
            caller.tenant.clone(),
            VmOrigin::Created,
            Some(planned),
        );
        record.display_name = Some(request.name.clone());
        record.image = Some(request.image.id);
        record.flavor = request.flavor;
        record.lease_term = request.lease_term;
        record.expires_at = request.expires_at;
        record.tags = request.tags.clone();
        record.console_password = spec.console_password.clone();
        if let Some(login) = &request.login {
            record.admin_user = Some(
                login
                    .user
                    .clone()
                    .unwrap_or_else(|| request.image.admin_user.clone()),
            );
            record.admin_password = Some(self.seal(&login.password)?);
        }
        record.volumes = spec
            .volumes
            .iter()
            .map(|volume| PoolVolume {
                pool: volume.pool.clone(),
                name: volume.name.clone(),
            })
            .chain(
                spec.guest
                    .iter()
                    .zip(spec.volumes.first())
                    .map(|(_, root)| seed_volume(vm, &root.pool)),
            )
            .collect();
        let writes = new_vm_writes(std::slice::from_ref(&record))?;
        let job = self.accept(caller, command, backend, writes, options).await?;
        self.inventory.records(vec![(record, 1)]);
        drop(hold);
        Ok((self.vm(caller, vm).await?, job))
    }

    fn specify(&self, vm: VmId, name: String, place: Place<'_>, request: &CreateRequest) -> Result<VmSpec> {
        let location = place.location;
        let capabilities = self.backend(&location.backend)?.capabilities();
        let source = if self.policy.layered_disks && capabilities.get(Capability::VolumeLayer).usable() {
            VolumeSource::Layer {
                image: location.native.clone(),
                format: location.format,
            }
        } else {
            VolumeSource::Copy {
                image: location.native.clone(),
                format: location.format,
            }
        };
        let format = match source {
            VolumeSource::Layer { .. } => VolumeFormat::Qcow2,
            VolumeSource::Copy { format, .. } => format,
            VolumeSource::Blank => VolumeFormat::Qcow2,
        };
        let guest = (self.policy.guest_setup && capabilities.get(Capability::GuestSetup).usable())
            .then(|| -> Result<GuestSetup> {
                Ok(GuestSetup {
                    hostname: host_name(&request.name, vm),
                    admin_user: request
                        .login
                        .as_ref()
                        .and_then(|login| login.user.clone())
                        .unwrap_or_else(|| request.image.admin_user.clone()),
                    admin_password: request
                        .login
                        .as_ref()
                        .map(|login| self.seal(&login.password))
                        .transpose()?,
                    ssh_keys: Vec::new(),
                    ..GuestSetup::default()
                })
            })
            .transpose()?;
        let console_password = match &request.console {
            ConsoleChoice::Open => None,
            ConsoleChoice::Password(password) => Some(self.seal(password)?),
        };
        Ok(VmSpec {
            name,
            title: request.name.clone(),
            vcpus: request.vcpus,
            memory: request.memory,
            firmware: Default::default(),
            volumes: vec![VolumeSpec {
                pool: place.pool,
                name: format!("{vm}-root.{}", format.as_ref()),
                capacity: request.disk.max(request.image.size),
                format,
                source,
                bus: None,
            }],
            nics: vec![NicSpec {
                source: place.network,
                mac: None,
                model: None,
            }],
            console_password,
            guest,
            ..VmSpec::default()
        })
    }
}

fn check_sizes(request: &CreateRequest) -> Result<()> {
    if request.vcpus == 0 || request.vcpus > MOST_VCPUS {
        return Err(Error::invalid(
            "vcpus",
            format!("vcpus must be 1 to {MOST_VCPUS}, not {}", request.vcpus),
        ));
    }
    if request.memory < LEAST_MEMORY || request.memory > MOST_MEMORY {
        let text = format!(
            "memory must be {LEAST_MEMORY} to {MOST_MEMORY} bytes, not {}",
            request.memory
        );
        return Err(Error::invalid("memory", text));
    }
    if request.name.chars().any(|letter| letter == '\0') {
        return Err(Error::invalid("name", "a name must not contain NUL"));
    }
    if request.name.chars().count() > 255 {
        return Err(Error::invalid("name", "a name has at most 255 characters"));
    }
    Ok(())
}

fn network_name(nic: &NicSpec) -> String {
    match &nic.source {
        NicSource::Network(name) | NicSource::Bridge(name) => name.clone(),
        NicSource::User => "user".to_owned(),
    }
}

/// The display name where it is legal and free on the backend, else a slug of it with six of the id.
fn backend_name(now: &Snapshot, backend: &BackendId, name: &str, vm: VmId) -> String {
    let legal = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    let fits =
        !name.is_empty() && name.len() <= 64 && name.chars().all(legal) && !name.starts_with(['-', '.']);
    let taken = now.vms.values().any(|other| {
        other.record.backend == *backend
            && (other.facts.as_ref().is_some_and(|facts| facts.name == name)
                || other.record.display_name.as_deref() == Some(name))
    });
    if fits && !taken {
        return name.to_owned();
    }
    distinct_name(name, vm)
}

/// A name for the backend that nobody else has: a slug of the display name with six of the id.
pub(crate) fn distinct_name(name: &str, vm: VmId) -> String {
    let slug: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(40)
        .collect();
    let tail: String = vm.simple().chars().take(6).collect();
    if slug.is_empty() {
        format!("vm-{tail}")
    } else {
        format!("{slug}-{tail}")
    }
}

/// A legal DNS label for the guest.
fn host_name(name: &str, vm: VmId) -> String {
    let label: String = name
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() {
                letter.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .take(63)
        .collect();
    let label = label.trim_matches('-');
    if label.is_empty() {
        format!("vm-{}", vm.simple().chars().take(6).collect::<String>())
    } else {
        label.to_owned()
    }
}

/// A random name of `length` letters and digits, for dialects that name nameless VMs.
pub fn random_name(length: usize) -> String {
    random_text(length)
}
