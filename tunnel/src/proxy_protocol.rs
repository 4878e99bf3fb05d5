//! Headers of the PROXY protocol, version 2, as HAProxy's `proxy-protocol.txt` (section 2.2) has it: what a target
//! reads before the connection's own bytes, to learn the client's address.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, and the command PROXY.
const PROXY: u8 = 0x21;
const UNSPEC: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
const UNIX_STREAM: u8 = 0x31;
/// The length of each path, with zeros at its end.
const UNIX_PATH: usize = 108;

/// Between whom the connection is that is forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Addresses {
    /// The addresses of the client are unknown, or neither TCP nor Unix.
    Unspecified,
    /// TCP. If only one is IPv4, it is written as an IPv4-mapped address.
    Tcp { source: SocketAddr, destination: SocketAddr },
    /// Unix stream sockets. That of a client has mostly no path.
    Unix { source: Option<PathBuf>, destination: PathBuf },
}

/// The TLVs of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tlv {
    /// The host that the client named.
    Authority(String),
    /// The user whose connection it is, in UTF-8: PP2_TYPE_MIN_CUSTOM (0xe0), which the specification leaves to
    /// applications.
    User(String),
}

/// A header that can't be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EncodeError {
    #[error("{0:?} is longer than the {UNIX_PATH} bytes of a path in the PROXY protocol")]
    Path(PathBuf),
    #[error("{0} bytes of addresses and TLVs are more than the 65535 of a PROXY protocol header")]
    TooLong(usize),
}

/// The header for a connection, with TLVs in this order.
pub(crate) fn encode(addresses: &Addresses, tlvs: &[Tlv]) -> Result<Vec<u8>, EncodeError> {
    let (command, family, mut rest) = encode_addresses(addresses)?;
    for tlv in tlvs {
        encode_tlv(tlv, &mut rest)?;
    }
    let length = u16::try_from(rest.len()).map_err(|_| EncodeError::TooLong(rest.len()))?;
    let mut header = SIGNATURE.to_vec();
    header.extend_from_slice(&[command, family]);
    header.extend_from_slice(&length.to_be_bytes());
    header.append(&mut rest);
    Ok(header)
}

/// The command, the family, and the addresses.
fn encode_addresses(addresses: &Addresses) -> Result<(u8, u8, Vec<u8>), EncodeError> {
    Ok(match addresses {
        Addresses::Unspecified => (PROXY, UNSPEC, Vec::new()),
        Addresses::Tcp { source, destination } => {
            let ports = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
            let (family, hosts) = match (source.ip().to_canonical(), destination.ip().to_canonical()) {
                (IpAddr::V4(source), IpAddr::V4(destination)) => {
                    (TCP4, [source.octets(), destination.octets()].concat())
                }
                (source, destination) => (TCP6, [v6_octets(source), v6_octets(destination)].concat()),
            };
            (PROXY, family, [hosts, ports].concat())
        }
        Addresses::Unix { source, destination } => {
            let mut paths = vec![0; 2 * UNIX_PATH];
            let (first, second) = paths.split_at_mut(UNIX_PATH);
            for (path, place) in source.iter().zip([first]).chain([(destination, second)]) {
                let bytes = path.as_os_str().as_encoded_bytes();
                place
                    .get_mut(..bytes.len())
                    .ok_or_else(|| EncodeError::Path(path.clone()))?
                    .copy_from_slice(bytes);
            }
            (PROXY, UNIX_STREAM, paths)
        }
    })
}

fn v6_octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn encode_tlv(tlv: &Tlv, header: &mut Vec<u8>) -> Result<(), EncodeError> {
    let (kind, value) = match tlv {
        Tlv::Authority(name) => (0x02, name.as_bytes()),
        Tlv::User(name) => (0xe0, name.as_bytes()),
    };
    let length = u16::try_from(value.len()).map_err(|_| EncodeError::TooLong(value.len()))?;
    header.push(kind);
    header.extend_from_slice(&length.to_be_bytes());
    header.extend_from_slice(value);
    Ok(())
}

#[cfg(test)]
mod tests;
