//! What the simulated hypervisor promises, seen through the backend trait and from its owner's side.

#[cfg(test)]
mod bench;
#[cfg(test)]
mod declared;
#[cfg(test)]
mod events;
#[cfg(test)]
mod guests;
#[cfg(test)]
mod power;
#[cfg(test)]
mod quirks;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod scale;
#[cfg(test)]
mod volumes;
