//! Flavors: named sizes to create VMs with (instance offerings, packages).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{FlavorId, TenantId, Timestamp};

/// A named size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Flavor {
    /// The flavor's id.
    pub id: FlavorId,
    /// Ten letters and digits, never reused. A new flavor with none is given one when it is stored.
    pub short_id: String,
    /// Display name.
    pub name: String,
    /// vCPUs.
    pub vcpus: u32,
    /// Memory in bytes.
    pub memory: u64,
    /// Root disk in bytes.
    pub disk: u64,
    /// GPUs.
    pub gpus: u32,
    /// GPU model in words.
    #[serde(default)]
    pub gpu_model: Option<String>,
    /// Network bandwidth in Mbit/s; 0 is no limit stated.
    pub bandwidth: u32,
    /// Price for an hour, in the site's currency.
    pub price: f64,
    /// Factor on the price; 1 is none.
    pub discount: f64,
    /// A word that must be equal to the image's where both state one.
    pub family: String,
    /// What the machine is for.
    pub purpose: Purpose,
    /// Which area offers it.
    pub area: Area,
    /// How it may be paid.
    pub billing: Billing,
    /// Free text.
    #[serde(default)]
    pub description: String,
    /// Whether new VMs may be made with it.
    #[serde(default = "super::yes")]
    pub enabled: bool,
    /// CPU speed in MHz as the client stated it; 0 is none stated.
    #[serde(default)]
    pub cpu_speed: u64,
    /// The strategy that the client named for choosing a host; kept unchanged.
    #[serde(default)]
    pub allocator: String,
    /// Where a list shows it; greater comes first.
    #[serde(default)]
    pub sort_key: i64,
    /// Whether the configuration names it: such a flavor cannot be removed by a call.
    #[serde(default)]
    pub seeded: bool,
    /// What a dialect only records.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// When it was made.
    #[serde(default)]
    pub created: Timestamp,
    /// When it was last changed.
    #[serde(default)]
    pub changed: Timestamp,
    /// Whom it belongs to; none is everybody.
    #[serde(default)]
    pub tenant: Option<TenantId>,
}

impl Flavor {
    /// An enabled flavor without GPUs, price or disk, with a random id, made now; `memory` in bytes.
    pub fn new(name: impl Into<String>, vcpus: u32, memory: u64, tenant: Option<TenantId>) -> Self {
        let created = Timestamp::now();
        Self {
            id: FlavorId::random(),
            short_id: String::new(),
            name: name.into(),
            vcpus,
            memory,
            disk: 0,
            gpus: 0,
            gpu_model: None,
            bandwidth: 0,
            price: 0.0,
            discount: 1.0,
            family: String::new(),
            purpose: Purpose::default(),
            area: Area::default(),
            billing: Billing::default(),
            description: String::new(),
            enabled: true,
            cpu_speed: 0,
            allocator: String::new(),
            sort_key: 0,
            seeded: false,
            settings: BTreeMap::new(),
            created,
            changed: created,
            tenant,
        }
    }

    /// Whether it is everybody's or belongs to `tenant`; an administrator (none) sees all.
    pub fn seen_by(&self, tenant: Option<&TenantId>) -> bool {
        super::seen_by(self.tenant.as_ref(), tenant)
    }
}

/// What a machine is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Office work.
    #[default]
    Office,
    /// Image processing.
    Graphics,
    /// Computation.
    Compute,
}

/// Which area offers a flavor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Area {
    /// South.
    #[default]
    South,
    /// West.
    West,
    /// International.
    International,
}

/// How a machine may be paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Billing {
    /// By the hour.
    Hourly,
    /// For a term in advance.
    Term,
    /// Either.
    #[default]
    Both,
}
