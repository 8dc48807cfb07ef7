//! Network interfaces and displays of a VM.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Bandwidth, NetworkId, NicId};

/// A network interface of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// Computed from the VM and the slot.
    pub id: NicId,
    /// Its place, counted from 0 in the definition's order.
    pub slot: u32,
    /// MAC address, lower case with colons.
    pub mac: String,
    /// `virtio`, `e1000` …
    pub model: String,
    /// Name of the network or bridge, or `user`.
    pub source: String,
    /// The network, if the backend reports it as one.
    #[serde(default)]
    pub network: Option<NetworkId>,
    /// The host's interface behind it, while running.
    #[serde(default)]
    pub target: Option<String>,
    /// Addresses that leases or the agent report.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// Limits of what the guest receives.
    #[serde(default)]
    pub inbound: Option<Bandwidth>,
    /// Limits of what the guest sends.
    #[serde(default)]
    pub outbound: Option<Bandwidth>,
}

/// The protocol of a display.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, strum::AsRefStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum GraphicsKind {
    /// RFB.
    Vnc,
    /// SPICE.
    Spice,
}

/// A display.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Graphics {
    /// Protocol.
    pub kind: GraphicsKind,
    /// TCP port, while there is one.
    #[serde(default)]
    pub port: Option<u16>,
    /// Address that it listens on.
    #[serde(default)]
    pub listen: Option<String>,
    /// Whether a password is set; its text is never kept here.
    #[serde(default)]
    pub has_password: bool,
}
