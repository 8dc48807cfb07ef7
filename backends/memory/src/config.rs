//! What a `[[backend]]` entry of kind `memory` may say, beside its id.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use babelvisor_core::model::{VmId, VolumeFormat};
use babelvisor_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::capability::Target;
use crate::error;

const GIB: u64 = 1 << 30;

/// The simulated hypervisor's size and habits. Every field has a default; sizes are bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MemoryConfig {
    /// The cluster's name that hosts report.
    pub cluster: String,
    /// The zone's name that hosts report.
    pub zone: String,
    /// The hosts, all alike.
    pub hosts: HostsConfig,
    /// Storage pools.
    pub pools: Vec<PoolConfig>,
    /// Names of the networks.
    pub networks: Vec<String>,
    /// Images that lie in a pool from the start.
    pub images: Vec<ImageConfig>,
    /// How many guests there are from the start: `vm-00001` and so on, with the same ids every time; of four,
    /// three run.
    pub vms: u32,
    /// How long calls take, by method (`power`) or capability (`power.start`, which wins). A start takes its
    /// delay to boot, a shutdown spends it shutting down; any other call waits before its effect. At the
    /// call's deadline a boot or shutdown goes on without the caller, other calls have no effect.
    pub delays: BTreeMap<Target, Delay>,
    /// Calls that fail.
    pub faults: Vec<Fault>,
    /// What this hypervisor shall be unable to do, with the reason.
    pub lacks: BTreeMap<Target, String>,
    /// Where guests and volumes are kept so that they outlive the process; without, they die with it. What
    /// the file holds beats `vms`; images that it lacks are added.
    pub state_file: Option<PathBuf>,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            cluster: "default".to_owned(),
            zone: "default".to_owned(),
            hosts: HostsConfig::default(),
            pools: vec![PoolConfig {
                name: "default".to_owned(),
                capacity: 100 * 1024 * GIB,
            }],
            networks: vec!["default".to_owned()],
            images: Vec::new(),
            vms: 0,
            delays: BTreeMap::new(),
            faults: Vec::new(),
            lacks: BTreeMap::new(),
            state_file: None,
        }
    }
}

/// The hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HostsConfig {
    /// How many; they are called `host-1` and so on.
    pub count: u32,
    /// CPU threads of each.
    pub cpus: u32,
    /// Memory of each, in bytes.
    pub memory: u64,
    /// Where consoles are said to be reached.
    pub address: String,
}

impl Default for HostsConfig {
    fn default() -> Self {
        Self {
            count: 1,
            cpus: 64,
            memory: 512 * GIB,
            address: "127.0.0.1".to_owned(),
        }
    }
}

/// A storage pool. It reserves the whole virtual size of every volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolConfig {
    /// Name.
    pub name: String,
    /// Bytes in all.
    pub capacity: u64,
}

/// An image that lies in a pool from the start. Volume sources name it `name`, `pool/name` or by its native
/// key `/memory/pool/name`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageConfig {
    /// Name within the pool.
    pub name: String,
    /// Virtual size in bytes.
    pub size: u64,
    /// The pool; the first one if left out.
    #[serde(default)]
    pub pool: Option<String>,
    /// Layout.
    #[serde(default = "qcow2")]
    pub format: VolumeFormat,
}

const fn qcow2() -> VolumeFormat {
    VolumeFormat::Qcow2
}

/// How long something takes, in milliseconds: a number, or `{ min, max }` for a random time between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Delay {
    /// Always as long.
    Fixed(u64),
    /// Somewhere between, both included.
    Between {
        /// At least.
        min: u64,
        /// At most.
        max: u64,
    },
}

impl Delay {
    /// Throws the dice.
    pub(crate) fn draw(self) -> Duration {
        Duration::from_millis(match self {
            Self::Fixed(millis) => millis,
            Self::Between { min, max } if min < max => rand::random_range(min..=max),
            Self::Between { min, .. } => min,
        })
    }
}

/// When a call fails, seen from its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Nothing was done.
    #[default]
    Before,
    /// It was done, and the answer was lost.
    After,
}

/// Calls that shall fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Which calls.
    pub on: Target,
    /// Only calls about this VM.
    #[serde(default)]
    pub vm: Option<VmId>,
    /// How many calls.
    #[serde(default = "once")]
    pub times: u32,
    /// The error's kind.
    pub kind: ErrorKind,
    /// Before or after the effect.
    #[serde(default)]
    pub when: When,
}

const fn once() -> u32 {
    1
}

impl Fault {
    /// The next call of `on` fails with `kind`, before its effect.
    pub fn new(on: impl Into<Target>, kind: ErrorKind) -> Self {
        Self {
            on: on.into(),
            vm: None,
            times: 1,
            kind,
            when: When::Before,
        }
    }

    /// The next `times` calls fail.
    #[must_use]
    pub const fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// They fail after their effect.
    #[must_use]
    pub const fn after(mut self) -> Self {
        self.when = When::After;
        self
    }

    /// Only calls about `vm` fail.
    #[must_use]
    pub const fn for_vm(mut self, vm: VmId) -> Self {
        self.vm = Some(vm);
        self
    }
}

impl MemoryConfig {
    /// Looks for what cannot be meant: no host, a pool twice, an image in a pool that does not exist …
    ///
    /// # Errors
    /// `InvalidInput` with the field.
    pub fn check(&self) -> Result<()> {
        if self.hosts.count == 0 || self.hosts.cpus == 0 || self.hosts.memory == 0 {
            return Err(Error::invalid(
                "hosts",
                "count, cpus and memory must be at least 1",
            ));
        }
        unique("pools", self.pools.iter().map(|pool| pool.name.as_str()))?;
        unique("networks", self.networks.iter().map(String::as_str))?;
        for (target, delay) in &self.delays {
            if let Delay::Between { min, max } = delay
                && min > max
            {
                return Err(Error::invalid(
                    "delays",
                    format!("{target}: min {min} is larger than max {max}"),
                ));
            }
        }
        let mut room: BTreeMap<&str, u64> = self
            .pools
            .iter()
            .map(|pool| (pool.name.as_str(), pool.capacity))
            .collect();
        for image in &self.images {
            error::check_name("images", &image.name)?;
            let pool = self.pool_of(image).ok_or_else(|| {
                Error::invalid("images", format!("image {} needs a pool to lie in", image.name))
            })?;
            let left = room.get_mut(pool).ok_or_else(|| {
                Error::invalid("images", format!("image {}: there is no pool {pool}", image.name))
            })?;
            *left = left.checked_sub(image.size).ok_or_else(|| {
                Error::invalid(
                    "images",
                    format!("image {} does not fit into pool {pool}", image.name),
                )
            })?;
        }
        Ok(())
    }

    /// The pool that `image` lies in.
    pub(crate) fn pool_of<'a>(&'a self, image: &'a ImageConfig) -> Option<&'a str> {
        image
            .pool
            .as_deref()
            .or_else(|| self.pools.first().map(|pool| pool.name.as_str()))
    }
}

fn unique<'a>(field: &str, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut seen = BTreeSet::new();
    for name in names {
        error::check_name(field, name)?;
        if !seen.insert(name) {
            return Err(Error::invalid(field, format!("{name} is there twice")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use babelvisor_core::capability::Capability;

    use super::*;
    use crate::Method;

    #[test]
    fn reads_what_a_person_writes() {
        let config: MemoryConfig = toml::from_str(
            r#"
            vms = 20
            networks = ["lan", "wan"]
            images = [{ name = "debian-13", size = 2147483648 }]
            state_file = "/tmp/hypervisor.json"
            [hosts]
            count = 3
            [[pools]]
            name = "fast"
            capacity = 1099511627776
            [delays]
            power = 5
            "power.start" = { min = 10, max = 20 }
            [[faults]]
            on = "create_volume"
            kind = "no_resources"
            when = "after"
            "#,
        )
        .unwrap();
        config.check().unwrap();
        assert_eq!(config.hosts.count, 3);
        assert_eq!(
            config.delays.get(&Target::from(Capability::PowerStart)),
            Some(&Delay::Between { min: 10, max: 20 })
        );
        assert_eq!(
            config.faults,
            [Fault::new(Method::CreateVolume, ErrorKind::NoResources).after()]
        );
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for text in [
            "hostz = 1",
            "[hosts]\ncores = 2",
            "[delays]\nlevitate = 1",
            "[delays]\npower = { min = 1, max = 2, mean = 3 }",
            "[[faults]]\non = \"define\"\nkind = \"bad_hair_day\"",
        ] {
            assert!(toml::from_str::<MemoryConfig>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_the_field_that_cannot_be_meant() {
        let cases = [
            ("hosts", "[hosts]\ncount = 0"),
            (
                "pools",
                "pools = [{ name = \"a\", capacity = 1 }, { name = \"a\", capacity = 1 }]",
            ),
            ("networks", "networks = [\"a/b\"]"),
            ("images", "images = [{ name = \"i\", size = 1, pool = \"none\" }]"),
            (
                "images",
                "pools = [{ name = \"a\", capacity = 1 }]\nimages = [{ name = \"i\", size = 2 }]",
            ),
            ("delays", "[delays]\npower = { min = 2, max = 1 }"),
        ];
        for (field, text) in cases {
            let config: MemoryConfig = toml::from_str(text).unwrap();
            let error = config.check().unwrap_err();
            assert_eq!(error.field.as_deref(), Some(field), "{error}");
        }
    }
}
