//! The networks of a rule, and public addresses.
//!
//! Without networks of its own, a rule is about the public Internet. Every other address lies in a *special range*:
//! loopback, link-local, private, and so on. A network names a special range if it lies within it: `10.1.0.0/16` and
//! `10.0.0.0/8` do, `0.0.0.0/0` does not, although it contains 10.1.2.3. So a rule that allows "every address" has not
//! allowed loopback, the private network and the cloud's metadata server by mistake. It has allowed this host's own public
//! addresses, if there are any: they are public like any other.
//!
//! IPv6 has several ways to write an IPv4 address, and a gateway may connect such an address to that IPv4 address. Hence
//! both must be admitted: `64:ff9b::7f00:1` is loopback behind a NAT64 gateway. Only gateways with a prefix of their own
//! cannot be told from other hosts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

const fn v4(address: [u8; 4], prefix: u8) -> Ipv4Net {
    let [a, b, c, d] = address;
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

/// The network of the address whose first groups these are.
const fn v6(first: [u16; 3], prefix: u8) -> Ipv6Net {
    let [a, b, c] = first;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix)
}

/// IANA's registry of special-purpose IPv4 addresses (RFC 6890), multicast, and what is reserved.
const SPECIAL_V4: [Ipv4Net; 16] = [
    v4([0, 0, 0, 0], 8),
    v4([10, 0, 0, 0], 8),
    v4([100, 64, 0, 0], 10),
    v4([127, 0, 0, 0], 8),
    v4([169, 254, 0, 0], 16),
    v4([172, 16, 0, 0], 12),
    v4([192, 0, 0, 0], 24),
    v4([192, 0, 2, 0], 24),
    v4([192, 88, 99, 0], 24),
    v4([192, 168, 0, 0], 16),
    v4([198, 18, 0, 0], 15),
    v4([198, 51, 100, 0], 24),
    v4([203, 0, 113, 0], 24),
    v4([224, 0, 0, 0], 4),
    v4([240, 0, 0, 0], 4),
    v4([255, 255, 255, 255], 32),
];

const COMPATIBLE: Ipv6Net = v6([0, 0, 0], 96);
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0], 96);
const TRANSLATED: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0), 96);
const TEREDO: Ipv6Net = v6([0x2001, 0, 0], 32);
const SIX_TO_FOUR: Ipv6Net = v6([0x2002, 0, 0], 16);

/// What IANA has not given out as global unicast, which is 2000::/3 but for parts of it; the smaller lie in the larger.
const SPECIAL_V6: [Ipv6Net; 19] = [
    v6([0, 0, 0], 3),
    v6([0, 0, 0], 128),
    Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128),
    COMPATIBLE,
    TRANSLATED,
    v6([0x64, 0xff9b, 1], 48),
    v6([0x100, 0, 0], 64),
    v6([0x2001, 0, 0], 23),
    TEREDO,
    v6([0x2001, 2, 0], 48),
    v6([0x2001, 0xdb8, 0], 32),
    v6([0x3fff, 0, 0], 20),
    v6([0x4000, 0, 0], 2),
    v6([0x5f00, 0, 0], 16),
    v6([0x8000, 0, 0], 1),
    v6([0xfc00, 0, 0], 7),
    v6([0xfe80, 0, 0], 10),
    v6([0xfec0, 0, 0], 10),
    v6([0xff00, 0, 0], 8),
];

/// The smallest special range around an address that is not IPv4-mapped.
fn special_range(address: IpAddr) -> Option<IpNet> {
    match address {
        IpAddr::V4(address) => {
            let around = SPECIAL_V4.iter().filter(|range| range.contains(&address));
            around.max_by_key(|range| range.prefix_len()).copied().map(IpNet::V4)
        }
        IpAddr::V6(address) if NAT64.contains(&address) => None,
        IpAddr::V6(address) => {
            let around = SPECIAL_V6.iter().filter(|range| range.contains(&address));
            around.max_by_key(|range| range.prefix_len()).copied().map(IpNet::V6)
        }
    }
}

/// The IPv4 addresses to which a gateway or tunnel might connect an IPv6 address.
fn embedded(address: Ipv6Addr) -> [Option<Ipv4Addr>; 2] {
    let groups = address.segments();
    let at = |index: usize| {
        let [[a, b], [c, d]] = [groups[index].to_be_bytes(), groups[index + 1].to_be_bytes()];
        Ipv4Addr::new(a, b, c, d)
    };
    // The interface identifiers of ISATAP (RFC 5214) go with every prefix.
    let isatap = groups[4] & !0x0200 == 0 && groups[5] == 0x5efe;
    if TEREDO.contains(&address) {
        // The server, and the client, all of whose bits are inverted (RFC 4380, section 4).
        return [Some(at(2)), Some(Ipv4Addr::from_bits(!at(6).to_bits()))];
    }
    let low = NAT64.contains(&address) || TRANSLATED.contains(&address) || isatap;
    let compatible = COMPATIBLE.contains(&address) && !address.is_unspecified() && !address.is_loopback();
    let first = SIX_TO_FOUR.contains(&address).then(|| at(1));
    [first, (low || compatible).then(|| at(6))]
}

/// Whether an address belongs to the public Internet: it and, if it stands for an IPv4 address, that one too lie in no
/// special range.
///
/// Special are loopback, link-local, private (RFC 1918, RFC 4193), shared (100.64.0.0/10), unspecified, multicast and
/// broadcast addresses, and all that IANA has reserved; in IPv6 all but 2000::/3, without the ranges of documentation,
/// benchmarks and Teredo in it. [Rules](crate::Rules) without networks admit nothing else; rules of one's own
/// should ask this too, about the very address that is connected to.
///
/// ```
/// assert!(callosum_tunnel::is_public("8.8.8.8".parse()?));
/// assert!(!callosum_tunnel::is_public("169.254.169.254".parse()?));
/// assert!(!callosum_tunnel::is_public("::ffff:127.0.0.1".parse()?));
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
pub fn is_public(address: IpAddr) -> bool {
    admits(&[], address)
}

/// Whether the rule with these networks allows connections to an address.
pub(super) fn admits(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    let itself =
        if networks.is_empty() { special_range(address).is_none() } else { names(networks, address) };
    let embedded = match address {
        IpAddr::V4(_) => [None; 2],
        IpAddr::V6(address) => embedded(address),
    };
    let behind =
        |address: Ipv4Addr| special_range(address.into()).is_none() || names(networks, address.into());
    itself && embedded.into_iter().flatten().all(behind)
}

/// Whether one of the networks contains the address, and lies within the special range around it, if there is one.
fn names(networks: &[IpNet], address: IpAddr) -> bool {
    let special = special_range(address);
    networks
        .iter()
        .any(|network| network.contains(&address) && special.is_none_or(|range| range.contains(network)))
}

#[cfg(test)]
mod tests;
