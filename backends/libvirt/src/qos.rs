//! Whether the host can limit interfaces at all.

use babelvisor_core::{Error, ErrorKind};
use virt::connect::Connect;

use crate::connection::CallError;
use crate::xml::Element;

/// How the name of a network begins that is only there to try.
pub(crate) const PROBE: &str = "babelvisor-probe-";

/// Tries a limit on a bridge of its own, which vanishes at once.
///
/// A definition takes any limit; a kernel without the queueing disciplines would then keep the VM from starting. libvirt
/// tells it no other way.
///
/// # Errors
/// `Unsupported` with libvirt's reason.
pub(crate) fn probe(connection: &Connect) -> Result<(), CallError> {
    let name = format!("{PROBE}{}", uuid::Uuid::new_v4().simple());
    let bandwidth = Element::new("bandwidth")
        .child(Element::new("inbound").with("average", "1000"))
        .child(Element::new("outbound").with("average", "1000"));
    let xml = Element::new("network")
        .child(Element::new("name").text(name))
        .child(Element::new("bridge").with("stp", "off").with("delay", "0"))
        .child(bandwidth)
        .to_xml()?;
    match connection.create_network_xml(&xml) {
        Ok(network) => Ok(network.destroy()?),
        Err(error) => Err(Error::new(
            ErrorKind::Unsupported,
            format!("the host cannot limit interfaces: {}", error.message()),
        )
        .into()),
    }
}
