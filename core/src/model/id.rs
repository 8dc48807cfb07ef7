//! Ids. Every resource has one 128-bit id; what a dialect shows is a spelling of it or an alias kept in the
//! registry. A libvirt domain's id is its own UUID; all other ids are computed from the backend, the kind
//! and the native key, so that nothing has to be stored for objects that only a backend knows.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The namespace of all computed ids. Changing it would rename every host, network and pool.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f1d_2a6e_88c3_4f0b_9c1d_5b7e_3a40_e211);

/// What all ids of resources have in common, for code that works on any of them.
pub trait ResourceId:
    Copy + Eq + Ord + std::hash::Hash + fmt::Display + fmt::Debug + Send + Sync + 'static
{
    /// The canonical noun that error messages use.
    const NOUN: &'static str;

    /// The 128 bits.
    fn uuid(self) -> Uuid;

    /// The id with these 128 bits.
    fn of_uuid(uuid: Uuid) -> Self;
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $noun:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// The canonical noun that error messages use.
            pub const NOUN: &'static str = $noun;

            /// A new random id.
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }

            /// The id of an object that only its backend knows: UUIDv5 of backend, kind and native key.
            pub fn computed(backend: &BackendId, native: &str) -> Self {
                let name = format!("{}\u{0}{}\u{0}{native}", backend.as_str(), $noun);
                Self(Uuid::new_v5(&NAMESPACE, name.as_bytes()))
            }

            /// 32 lower-case hex digits without hyphens.
            pub fn simple(&self) -> String {
                self.0.simple().to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($noun, " {}"), self.0.hyphenated())
            }
        }

        impl ResourceId for $name {
            const NOUN: &'static str = $noun;

            fn uuid(self) -> Uuid {
                self.0
            }

            fn of_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    )*};
}

ids! {
    /// A virtual machine.
    VmId = "vm";
    /// A volume in a storage pool.
    VolumeId = "volume";
    /// A network interface of a VM; computed from the VM and its slot, not from the MAC.
    NicId = "nic";
    /// A snapshot of a VM or volume.
    SnapshotId = "snapshot";
    /// A bootable image, template or ISO.
    ImageId = "image";
    /// A layer-2 or layer-3 network.
    NetworkId = "network";
    /// A hypervisor host.
    HostId = "host";
    /// A group of hosts.
    ClusterId = "cluster";
    /// A group of clusters.
    ZoneId = "zone";
    /// A storage pool.
    PoolId = "pool";
    /// A flavor (offering, package).
    FlavorId = "flavor";
    /// A job: the durable record of one command.
    JobId = "job";
    /// An account.
    AccountId = "account";
    /// A named size for a new disk.
    DiskOfferingId = "disk offering";
    /// VMs that shall not share a host.
    AffinityGroupId = "affinity group";
    /// A mark on a resource.
    TagId = "tag";
    /// A group that people sort VMs into.
    GroupId = "group";
    /// A key that signs in without a password.
    ApiKeyId = "api key";
}

/// The permanent name of a `[[backend]]` entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BackendId(std::sync::Arc<str>);

impl BackendId {
    /// The id as configured; the config check has seen that it is a plain word.
    pub fn new(id: impl AsRef<str>) -> Self {
        Self(id.as_ref().into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BackendId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A tenant: whom objects belong to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TenantId(std::sync::Arc<str>);

impl TenantId {
    /// The tenant named `name`.
    pub fn new(name: impl AsRef<str>) -> Self {
        Self(name.as_ref().into())
    }

    /// The tenant's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
