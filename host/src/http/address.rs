//! Which kind of place an address or a name leads to: the open network, this machine, the network around it, or a service
//! that hands out a cloud machine's credentials. Pure.
//!
//! Not who may go there: that is for grants to say.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where an address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Public,
    /// RFC 1918, RFC 4193 (unique local), RFC 6598 (shared) and RFC 2544 (benchmarks); also a name whose address only
    /// another machine knows.
    Private,
    /// The machine that the request goes out from.
    Loopback,
    /// RFC 3927 and RFC 4291, 2.5.6.
    LinkLocal,
    /// Where clouds tell a machine its credentials. Nobody may go there.
    Metadata,
    /// Multicast, broadcast, reserved: nothing that could answer a request.
    Nowhere,
}

impl Reach {
    /// As grants name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Reach::Public => "public",
            Reach::Private => "private",
            Reach::Loopback => "loopback",
            Reach::LinkLocal => "link-local",
            Reach::Metadata => "metadata",
            Reach::Nowhere => "reserved",
        }
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// AWS, Azure, Google, DigitalOcean and others; ECS and EKS credentials; Alibaba; Oracle; Azure's wire server.
const METADATA_V4: &[[u8; 4]] = &[
    [169, 254, 169, 254],
    [169, 254, 170, 2],
    [169, 254, 170, 23],
    [100, 100, 100, 200],
    [192, 0, 0, 192],
    [168, 63, 129, 16],
];
/// AWS, EKS credentials, Google.
const METADATA_V6: &[[u16; 8]] = &[
    [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254],
    [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23],
    [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254],
];
/// Names that clouds give these addresses; each also with anything below it.
const METADATA_NAMES: &[&str] =
    &["metadata.google.internal", "metadata.goog", "metadata", "instance-data", "instance-data.ec2.internal"];

/// Where an address leads. An IPv6 address with an IPv4 one inside is judged by the latter.
pub fn of_address(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(address) => of_v4(address),
        IpAddr::V6(address) => embedded(address).map_or_else(|| of_v6(address), of_v4),
    }
}

/// Where a name leads that can be told without asking a resolver. A literal address is no name.
pub fn of_name(name: &str) -> Option<Reach> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let below = |parent: &str| name == parent || name.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'));
    if METADATA_NAMES.iter().any(|parent| below(parent)) {
        return Some(Reach::Metadata);
    }
    // RFC 6761, 6.3.
    below("localhost").then_some(Reach::Loopback)
}

fn of_v4(address: Ipv4Addr) -> Reach {
    let octets = address.octets();
    if METADATA_V4.contains(&octets) {
        return Reach::Metadata;
    }
    match octets {
        // The whole of 0.0.0.0/8 is this machine on Linux.
        [0 | 127, ..] => Reach::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] | [198, 18..=19, ..] | [192, 0, 0, _] => {
            Reach::Private
        }
        [169, 254, ..] => Reach::LinkLocal,
        [224..=255, ..] => Reach::Nowhere,
        _ => Reach::Public,
    }
}

fn of_v6(address: Ipv6Addr) -> Reach {
    let segments = address.segments();
    if METADATA_V6.contains(&segments) {
        return Reach::Metadata;
    }
    if address.is_loopback() || address.is_unspecified() {
        return Reach::Loopback;
    }
    match segments {
        [0xfc00..=0xfdff, ..] => Reach::Private,
        // Site-local addresses are deprecated (RFC 3879) and still used as private ones.
        [0xfec0..=0xfeff, ..] => Reach::Private,
        [0xfe80..=0xfebf, ..] => Reach::LinkLocal,
        [0xff00..=0xffff, ..] => Reach::Nowhere,
        // Network-specific translation prefixes (RFC 8215) lead into somebody's own network.
        [0x64, 0xff9b, 1, ..] => Reach::Private,
        _ => Reach::Public,
    }
}

/// The IPv4 address that packets to this IPv6 address end up at: mapped, compatible (deprecated), NAT64 (RFC 6052) or 6to4
/// (RFC 3056).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let from = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match address.segments() {
        // `::` and `::1` are no IPv4 addresses.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(from(high, low)),
        [0x2002, high, low, ..] => Some(from(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_of_the_kind_that_its_network_is_registered_as() {
        let check = |text: &str, expected: Reach| {
            assert_eq!(of_address(text.parse().unwrap()), expected, "{text}");
        };
        for text in ["1.1.1.1", "172.32.0.1", "172.15.0.1", "192.169.0.1", "100.63.0.1", "100.128.0.1", "9.9.9.9"] {
            check(text, Reach::Public);
        }
        for text in ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "198.18.0.1"] {
            check(text, Reach::Private);
        }
        for text in ["127.0.0.1", "127.255.0.9", "0.0.0.0", "0.1.2.3", "::1", "::"] {
            check(text, Reach::Loopback);
        }
        check("169.254.0.1", Reach::LinkLocal);
        check("fe80::1", Reach::LinkLocal);
        check("fd12::1", Reach::Private);
        check("fc00::1", Reach::Private);
        check("2606:4700::1111", Reach::Public);
        for text in ["224.0.0.1", "255.255.255.255", "240.0.0.1", "ff02::1"] {
            check(text, Reach::Nowhere);
        }
    }

    #[test]
    fn a_metadata_service_is_known_by_every_address_that_it_has() {
        for text in [
            "169.254.169.254",
            "169.254.170.2",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "fd00:ec2::254",
            "fd20:ce::254",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::169.254.169.254",
            "2002:a9fe:a9fe::1",
        ] {
            assert_eq!(of_address(text.parse().unwrap()), Reach::Metadata, "{text}");
        }
    }

    #[test]
    fn an_ipv4_address_inside_of_an_ipv6_one_is_judged_as_itself() {
        for (text, expected) in [
            ("::ffff:127.0.0.1", Reach::Loopback),
            ("::ffff:10.0.0.1", Reach::Private),
            ("64:ff9b::10.0.0.1", Reach::Private),
            ("64:ff9b:1::1", Reach::Private),
            ("2002:7f00:1::", Reach::Loopback),
            ("::ffff:1.1.1.1", Reach::Public),
        ] {
            assert_eq!(of_address(text.parse().unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn a_name_tells_where_it_leads_only_when_it_is_a_special_one() {
        for (name, expected) in [
            ("metadata.google.internal", Some(Reach::Metadata)),
            ("METADATA.google.internal.", Some(Reach::Metadata)),
            ("a.metadata.google.internal", Some(Reach::Metadata)),
            ("instance-data", Some(Reach::Metadata)),
            ("mymetadata.goog", None),
            ("localhost", Some(Reach::Loopback)),
            ("a.localhost.", Some(Reach::Loopback)),
            ("notlocalhost", None),
            ("example.org", None),
        ] {
            assert_eq!(of_name(name), expected, "{name}");
        }
    }
}
