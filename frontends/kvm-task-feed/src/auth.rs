//! Who calls. The original believes whoever names a serial number; here the number must be a configured one, and the
//! site may tie it to an address and a shared secret.

use std::net::{IpAddr, SocketAddr};

use babelvisor_core::frontend::Request;
use babelvisor_core::secret::sha256_hex;
use babelvisor_core::{Error, ErrorKind, Result};
use subtle::ConstantTimeEq as _;

use crate::settings::Agent;

/// The agent that `serial` names, if this request may speak for it.
///
/// # Errors
/// `Forbidden` for another number or address, `Unauthenticated` without the secret. All are answered alike.
pub(crate) fn agent<'a>(agents: &'a [Agent], serial: &str, request: &Request) -> Result<&'a Agent> {
    let agent = agents
        .iter()
        .find(|agent| agent.serial == serial)
        .ok_or_else(|| {
            Error::new(
                ErrorKind::Forbidden,
                "no agent of this serial number is configured",
            )
        })?;
    if let Some(source) = agent.source
        && caller(&request.peer) != Some(source)
    {
        let text = format!(
            "agent {} calls from another address, {}",
            agent.serial, request.peer
        );
        return Err(Error::new(ErrorKind::Forbidden, text));
    }
    let Some(credential) = &agent.credential else {
        return Ok(agent);
    };
    let sent = request.header(&credential.header.to_ascii_lowercase());
    // Digests of equal length are compared, so that neither time nor length says anything of the secret.
    let (sent, wanted) = (
        sha256_hex(sent.unwrap_or_default()),
        credential.sha256.to_ascii_lowercase(),
    );
    if bool::from(sent.as_bytes().ct_eq(wanted.as_bytes())) {
        return Ok(agent);
    }
    let text = format!(
        "agent {}: header {} is missing or wrong",
        agent.serial, credential.header
    );
    Err(Error::new(ErrorKind::Unauthenticated, text))
}

/// The address of a peer, with or without its port. An IPv4 address in IPv6 form is the IPv4 address.
fn caller(peer: &str) -> Option<IpAddr> {
    let address = peer
        .parse::<SocketAddr>()
        .map(|address| address.ip())
        .or_else(|_| peer.parse::<IpAddr>());
    address.ok().map(|address| address.to_canonical())
}
