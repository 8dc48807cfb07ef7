//! Creating a VM: choosing where it goes and under which names, then one atomic store call that makes both
//! the row that every dialect shows at once and the job that will fill it.

use std::sync::Arc;

use super::{Core, SubmitOptions, audit, authorise, capable};
use crate::capability::Capability;
use crate::command::{Command, CreateVm};
use crate::error::{Error, ErrorKind, Result};
use crate::inventory::Snapshot;
use crate::jobs::seed_volume;
use crate::model::{
    BackendId, Caller, FlavorId, GuestSetup, Image, ImageKind, ImageLocation, Job, NicSource, NicSpec,
    Planned, PoolVolume, Timestamp, Vm, VmId, VmOrigin, VmSpec, VolumeFormat, VolumeSource, VolumeSpec,
};
use crate::query;
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
        check_quota(&now, caller)?;
        let vm = VmId::random();
        let (backend, location) = self.place(&now, &request)?;
        let spec = self.specify(&now, vm, &backend, &location, &request)?;
        let command = Command::CreateVm(Box::new(CreateVm {
            vm,
            spec,
            start: request.start,
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
        Ok((self.vm(caller, vm).await?, job))
    }

    /// The backend to put it on: up, able, with the image, and the most free memory.
    fn place(&self, now: &Snapshot, request: &CreateRequest) -> Result<(BackendId, ImageLocation)> {
        if request.image.kind != ImageKind::Disk {
            return Err(Error::invalid(
                "image",
                format!("image {} is not a disk to boot from", request.image.name),
            ));
        }
        let mut candidates: Vec<(u64, &ImageLocation)> = request
            .image
            .locations
            .iter()
            .filter(|location| {
                now.backend_up(&location.backend) && self.backends.contains_key(&location.backend)
            })
            .filter_map(|location| {
                let hosts = now.hosts.values().filter(|host| host.backend == location.backend);
                let free = hosts.map(|host| host.memory_free.unwrap_or(host.memory)).max()?;
                (free >= request.memory).then_some((free, location))
            })
            .collect();
        candidates.sort_by_key(|(free, _)| std::cmp::Reverse(*free));
        let chosen = candidates.first().ok_or_else(|| {
            Error::new(
                ErrorKind::NoResources,
                format!(
                    "no backend that is up has image {} and {} bytes of free memory",
                    request.image.name, request.memory
                ),
            )
        })?;
        Ok((chosen.1.backend.clone(), chosen.1.clone()))
    }

    fn specify(
        &self,
        now: &Snapshot,
        vm: VmId,
        backend: &BackendId,
        location: &ImageLocation,
        request: &CreateRequest,
    ) -> Result<VmSpec> {
        let capabilities = self.backend(backend)?.capabilities();
        let capacity = request.disk.max(request.image.size);
        let pool = self.choose_pool(now, backend, capacity)?;
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
                })
            })
            .transpose()?;
        let console_password = match &request.console {
            ConsoleChoice::Open => None,
            ConsoleChoice::Password(password) => Some(self.seal(password)?),
        };
        Ok(VmSpec {
            name: backend_name(now, backend, &request.name, vm),
            title: request.name.clone(),
            vcpus: request.vcpus,
            memory: request.memory,
            firmware: Default::default(),
            volumes: vec![VolumeSpec {
                pool,
                name: format!("{vm}-root.{}", format.as_ref()),
                capacity,
                format,
                source,
            }],
            nics: vec![NicSpec {
                source: self.choose_network(now, backend)?,
                mac: None,
            }],
            console_password,
            guest,
        })
    }

    fn choose_pool(&self, now: &Snapshot, backend: &BackendId, bytes: u64) -> Result<String> {
        let mut pools: Vec<_> = now
            .pools
            .values()
            .filter(|pool| pool.backend == *backend && pool.active)
            .filter(|pool| self.policy.pool.as_ref().is_none_or(|name| pool.name == *name))
            .filter(|pool| pool.available >= bytes)
            .collect();
        pools.sort_by(|a, b| a.name.cmp(&b.name));
        pools.first().map(|pool| pool.name.clone()).ok_or_else(|| {
            let which = self
                .policy
                .pool
                .as_ref()
                .map_or_else(String::new, |name| format!(" named {name}"));
            let text = format!("backend {backend} has no active storage pool{which} with {bytes} bytes free");
            Error::new(ErrorKind::NoResources, text)
        })
    }

    fn choose_network(&self, now: &Snapshot, backend: &BackendId) -> Result<NicSource> {
        let mut networks: Vec<_> = now
            .networks
            .values()
            .filter(|network| network.backend == *backend && network.active)
            .collect();
        networks.sort_by(|a, b| a.name.cmp(&b.name));
        match &self.policy.network {
            Some(name) if name == "user" => Ok(NicSource::User),
            Some(name) if networks.iter().any(|network| network.name == *name) => {
                Ok(NicSource::Network(name.clone()))
            }
            Some(name) => Err(Error::new(
                ErrorKind::NoResources,
                format!("backend {backend} has no active network named {name}"),
            )),
            None => Ok(networks.first().map_or(NicSource::User, |network| {
                NicSource::Network(network.name.clone())
            })),
        }
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

fn check_quota(now: &Snapshot, caller: &Caller) -> Result<()> {
    let Some(quota) = caller.vm_quota else {
        return Ok(());
    };
    let has = now.visible(Some(&caller.tenant)).len();
    if has < quota as usize {
        return Ok(());
    }
    debug_assert!(query::scope(caller).is_none_or(|tenant| *tenant == caller.tenant));
    Err(Error::new(
        ErrorKind::QuotaExceeded,
        format!("tenant {} has {has} of {quota} vms", caller.tenant),
    ))
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
