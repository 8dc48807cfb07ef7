//! What a network's definition says about the addresses of its guests.

use std::net::Ipv4Addr;

use babelvisor_core::model::AddressRange;

use crate::xml::host::NetworkXml;

/// The IPv4 addresses that its DHCP server gives out, each range with the subnet that it lies in.
pub(crate) fn address_ranges(network: &NetworkXml) -> Vec<AddressRange> {
    let subnets: Vec<(Ipv4Addr, u8)> = network.subnets.iter().filter_map(|text| subnet(text)).collect();
    let ranges = network.dhcp.iter().filter_map(|text| {
        let (first, last) = text.split_once('-')?;
        let (first, last): (Ipv4Addr, Ipv4Addr) = (first.parse().ok()?, last.parse().ok()?);
        subnets.iter().find_map(|(gateway, prefix)| {
            let range = AddressRange {
                first,
                last,
                prefix: *prefix,
                gateway: Some(*gateway),
            };
            let same = gateway.to_bits() & range.netmask().to_bits() == range.network().to_bits();
            same.then_some(range)
        })
    });
    ranges.collect()
}

/// An address with a prefix length or a netmask behind the slash; none if it is not IPv4.
fn subnet(text: &str) -> Option<(Ipv4Addr, u8)> {
    let (address, length) = text.split_once('/')?;
    let prefix = match length.parse::<u8>() {
        Ok(prefix) => Some(prefix).filter(|prefix| *prefix <= 32)?,
        Err(_) => u8::try_from(length.parse::<Ipv4Addr>().ok()?.to_bits().leading_ones()).ok()?,
    };
    Some((address.parse().ok()?, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> NetworkXml {
        NetworkXml::parse(text).unwrap()
    }

    #[test]
    fn a_range_lies_in_the_subnet_that_has_its_first_address() {
        let network = network(
            "<network><name>n</name>
             <ip family='ipv6' address='fd00::1' prefix='64'/>
             <ip address='10.1.0.1' prefix='16'><dhcp><range start='10.1.2.0' end='10.1.2.99'/></dhcp></ip>
             <ip address='192.168.7.1' netmask='255.255.255.0'>
               <dhcp><range start='192.168.7.2' end='192.168.7.254'/></dhcp></ip>
             </network>",
        );
        let ranges = address_ranges(&network);
        let texts: Vec<String> = ranges
            .iter()
            .map(|range| {
                let gateway = range.gateway.unwrap();
                format!("{}-{} {} {gateway}", range.first, range.last, range.netmask())
            })
            .collect();
        assert_eq!(
            texts,
            [
                "10.1.2.0-10.1.2.99 255.255.0.0 10.1.0.1",
                "192.168.7.2-192.168.7.254 255.255.255.0 192.168.7.1"
            ]
        );
        assert_eq!(ranges[1].network(), Ipv4Addr::new(192, 168, 7, 0));
    }

    #[test]
    fn a_bridge_without_addresses_has_no_range() {
        let bridge = network("<network><name>b</name><bridge name='br0'/><forward mode='bridge'/></network>");
        assert_eq!(address_ranges(&bridge), []);
    }
}
