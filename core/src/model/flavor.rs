//! Flavors: named sizes to create VMs with (instance offerings, packages).

use serde::{Deserialize, Serialize};

use super::FlavorId;

/// A named size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Flavor {
    /// The flavor's id.
    pub id: FlavorId,
    /// Ten letters and digits, never reused.
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
