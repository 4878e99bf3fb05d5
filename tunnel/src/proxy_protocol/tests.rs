use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

const START: &[u8] = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a";

fn tcp(source: &str, destination: &str) -> Addresses {
    Addresses::Tcp { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

fn header(addresses: &Addresses, tlvs: &[Tlv]) -> Vec<u8> {
    encode(addresses, tlvs).expect("it fits").strip_prefix(START).expect("the signature").to_vec()
}

#[test]
fn headers_have_the_bytes_of_the_specification() {
    let v4 = header(&tcp("192.168.0.1:56324", "192.168.0.11:443"), &[]);
    assert_eq!(v4, b"\x21\x11\x00\x0c\xc0\xa8\x00\x01\xc0\xa8\x00\x0b\xdc\x04\x01\xbb");
    let v6 = header(&tcp("[2001:db8::1]:56324", "[2001:db8::2]:443"), &[]);
    let (first, second) =
        (b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01", b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02");
    assert_eq!(v6, [b"\x21\x21\x00\x24", &first[..], second, b"\xdc\x04\x01\xbb"].concat());
    assert_eq!(header(&Addresses::Unspecified, &[]), b"\x21\x00\x00\x00");
}

#[test]
fn one_ipv4_address_is_written_as_ipv6() {
    let mixed = header(&tcp("1.2.3.4:1", "[2001:db8::2]:2"), &[]);
    let (first, second) =
        (b"\0\0\0\0\0\0\0\0\0\0\xff\xff\x01\x02\x03\x04", b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02");
    assert_eq!(mixed, [b"\x21\x21\x00\x24", &first[..], second, b"\0\x01\0\x02"].concat());
    // Two IPv4-mapped ones are IPv4.
    let mapped = header(&tcp("[::ffff:1.2.3.4]:1", "5.6.7.8:2"), &[]);
    assert_eq!(mapped, b"\x21\x11\x00\x0c\x01\x02\x03\x04\x05\x06\x07\x08\0\x01\0\x02");
}

#[test]
fn paths_are_padded() {
    let to = |source, destination: &str| Addresses::Unix { source, destination: destination.into() };
    let unnamed = header(&to(None, "/run/a"), &[]);
    assert_eq!(unnamed, [b"\x21\x31\x00\xd8", &[0; 108][..], b"/run/a", &[0; 102]].concat());
    let both = header(&to(Some("/b".into()), "/run/a"), &[]);
    assert_eq!(both, [b"\x21\x31\x00\xd8/b", &[0; 106][..], b"/run/a", &[0; 102]].concat());
    let longest = format!("/{}", "a".repeat(107));
    assert!(header(&to(None, &longest), &[]).ends_with(longest.as_bytes()));
    let longer = format!("{longest}a");
    assert_eq!(encode(&to(None, &longer), &[]), Err(EncodeError::Path(longer.clone().into())));
    assert_eq!(encode(&to(Some(longer.clone().into()), "/a"), &[]), Err(EncodeError::Path(longer.into())));
}

#[test]
fn tlvs_follow_the_addresses() {
    let tlvs = [Tlv::Authority("db".to_owned()), Tlv::User("alice".to_owned())];
    let expected = b"\x21\x11\x00\x19\x01\x02\x03\x04\x05\x06\x07\x08\0\x01\0\x02\x02\0\x02db\xe0\0\x05alice";
    assert_eq!(header(&tcp("1.2.3.4:1", "5.6.7.8:2"), &tlvs), expected);
}

#[test]
fn lengths_are_bounded() {
    let user = |bytes| [Tlv::User("u".repeat(bytes))];
    assert_eq!(header(&Addresses::Unspecified, &user(65_532)).len(), 4 + 65_535);
    assert_eq!(encode(&Addresses::Unspecified, &user(65_533)), Err(EncodeError::TooLong(65_536)));
    assert_eq!(encode(&Addresses::Unspecified, &user(65_536)), Err(EncodeError::TooLong(65_536)));
}

/// Reads what a receiver reads: the two addresses, or none.
fn read(header: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (&[command, family, high, low], rest) = header.strip_prefix(START)?.split_first_chunk()?;
    assert_eq!((command, usize::from(u16::from_be_bytes([high, low]))), (PROXY, rest.len()));
    let (hosts, ports) = rest.split_at(rest.len() - 4);
    let (first, second) = hosts.split_at(hosts.len() / 2);
    let ip = |octets: &[u8]| match family {
        TCP4 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(octets).unwrap())),
        _ => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(octets).unwrap())).to_canonical(),
    };
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    Some((SocketAddr::new(ip(first), port(0)), SocketAddr::new(ip(second), port(2))))
}

proptest! {
    #[test]
    fn what_is_written_is_read(source: (IpAddr, u16), destination: (IpAddr, u16)) {
        let [source, destination] = [source, destination].map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port));
        let header = encode(&Addresses::Tcp { source, destination }, &[]).unwrap();
        prop_assert_eq!(read(&header), Some((source, destination)));
    }
}
