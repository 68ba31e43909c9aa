//! Pure: the PROXY protocol, version 2, which tells a pod who calls (haproxy's `doc/proxy-protocol.txt`).
//!
//! A connection that came through gateways has a gateway's address as its source. Where an export asks for it, the
//! first bytes that the pod reads are the caller's own address and, as a custom field, who it is.

use std::net::{IpAddr, SocketAddr};

use thiserror::Error;

/// "the binary header format starts with a constant 12 bytes block containing the protocol signature".
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and protocol, length.
const FIXED: usize = 16;
/// The type of the field with the caller: "The range 0xE0 to 0xEF is reserved for use by applications".
pub const CALLER: u8 = 0xEA;
/// The most that follows the fixed part: addresses (36 bytes) and a caller (at most 700) leave room for fields of
/// others. A parser reads no more.
pub const MAX_REST: usize = 2048;

/// What a header tells.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ProxyHeader {
    /// The caller's address and the one that was called; none for connections of the gateway itself.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
    /// Who calls: `<cluster>/<namespace>/<service account>/<pod>`.
    pub caller: Option<String>,
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum ProxyError {
    /// More bytes are needed: this many in all, as far as can be told.
    #[error("{0} bytes are needed")]
    Incomplete(usize),
    /// The bytes are not a PROXY header of version 2 for a stream.
    #[error("not a PROXY header of version 2")]
    Malformed,
}

/// Writes a header. Where the two addresses are of different families both are written as IPv6, IPv4 ones mapped.
#[must_use]
pub fn encode(header: &ProxyHeader) -> Vec<u8> {
    let mut rest = Vec::with_capacity(64);
    // Version 2 in the high four bits; command LOCAL is 0, PROXY is 1.
    let (command, family) = match header.addresses {
        None => (0x20, 0x00),
        Some((source, destination)) => (0x21, addresses(&mut rest, source, destination)),
    };
    if let Some(caller) = &header.caller {
        let caller = caller.as_bytes();
        let caller = &caller[..caller.len().min(MAX_REST - 64)];
        rest.push(CALLER);
        rest.extend_from_slice(&length(caller.len()));
        rest.extend_from_slice(caller);
    }
    let mut whole = Vec::with_capacity(FIXED + rest.len());
    whole.extend_from_slice(&SIGNATURE);
    whole.extend_from_slice(&[command, family]);
    whole.extend_from_slice(&length(rest.len()));
    whole.extend_from_slice(&rest);
    whole
}

/// Reads a header from the first bytes of a connection, and tells how many they were.
///
/// # Errors
/// [`ProxyError::Incomplete`] where more must be read first.
pub fn decode(bytes: &[u8]) -> Result<(ProxyHeader, usize), ProxyError> {
    let known = bytes.len().min(SIGNATURE.len());
    if bytes[..known] != SIGNATURE[..known] {
        return Err(ProxyError::Malformed);
    }
    let Some(fixed) = bytes.first_chunk::<FIXED>() else {
        return Err(ProxyError::Incomplete(FIXED));
    };
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if fixed[12] >> 4 != 2 || length > MAX_REST {
        return Err(ProxyError::Malformed);
    }
    let end = FIXED + length;
    let rest = bytes.get(FIXED..end).ok_or(ProxyError::Incomplete(end))?;
    let (addresses, fields) = match (fixed[12] & 0x0f, fixed[13] >> 4) {
        (0, _) | (1, 0) => (None, &rest[..0]),
        (1, 1) => {
            let (chunk, fields) = rest.split_first_chunk::<12>().ok_or(ProxyError::Malformed)?;
            let [a, b, c, d, e, f, g, h, p, q, r, s] = *chunk;
            let ip = |octets: [u8; 4]| IpAddr::from(octets);
            let source = SocketAddr::new(ip([a, b, c, d]), u16::from_be_bytes([p, q]));
            let destination = SocketAddr::new(ip([e, f, g, h]), u16::from_be_bytes([r, s]));
            (Some((source, destination)), fields)
        }
        (1, 2) => {
            let (source, more) = rest.split_first_chunk::<16>().ok_or(ProxyError::Malformed)?;
            let (destination, more) =
                more.split_first_chunk::<16>().ok_or(ProxyError::Malformed)?;
            let (&[p, q, r, s], fields) =
                more.split_first_chunk::<4>().ok_or(ProxyError::Malformed)?;
            let of = |octets: [u8; 16], port| SocketAddr::new(IpAddr::from(octets), port);
            (
                Some((
                    of(*source, u16::from_be_bytes([p, q])),
                    of(*destination, u16::from_be_bytes([r, s])),
                )),
                fields,
            )
        }
        _ => return Err(ProxyError::Malformed),
    };
    let caller = caller(fields)?;
    Ok((ProxyHeader { addresses, caller }, end))
}

/// Writes two addresses and returns what the family byte says of them: stream over IPv4 or IPv6.
fn addresses(rest: &mut Vec<u8>, source: SocketAddr, destination: SocketAddr) -> u8 {
    let family = match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            rest.extend_from_slice(&source.octets());
            rest.extend_from_slice(&destination.octets());
            0x11
        }
        (source, destination) => {
            for ip in [source, destination] {
                let ip = match ip {
                    IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                    IpAddr::V6(ip) => ip,
                };
                rest.extend_from_slice(&ip.octets());
            }
            0x21
        }
    };
    rest.extend_from_slice(&source.port().to_be_bytes());
    rest.extend_from_slice(&destination.port().to_be_bytes());
    family
}

/// The caller among type-length-value fields; those of others are passed over.
fn caller(mut fields: &[u8]) -> Result<Option<String>, ProxyError> {
    let mut found = None;
    while let Some((&[kind, high, low], rest)) = fields.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (value, rest) = rest.split_at_checked(length).ok_or(ProxyError::Malformed)?;
        if kind == CALLER {
            let text = std::str::from_utf8(value).map_err(|_| ProxyError::Malformed)?;
            found = Some(text.to_owned());
        }
        fields = rest;
    }
    if fields.is_empty() { Ok(found) } else { Err(ProxyError::Malformed) }
}

fn length(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(source: &str, destination: &str, caller: Option<&str>) -> Vec<u8> {
        let header = ProxyHeader {
            addresses: Some((source.parse().unwrap(), destination.parse().unwrap())),
            caller: caller.map(str::to_owned),
        };
        let mut bytes = encode(&header);
        let length = bytes.len();
        bytes.extend_from_slice(b"GET / HTTP/1.1");
        assert_eq!(decode(&bytes), Ok((header, length)));
        bytes
    }

    #[test]
    fn a_header_reads_as_it_was_written() {
        check("10.1.2.3:40000", "10.244.0.5:8080", Some("berlin/shop/cart/cart-0"));
        check("[fd00::1]:40000", "[fd00::2]:8080", None);
        let local = ProxyHeader::default();
        assert_eq!(decode(&encode(&local)), Ok((local, FIXED)));
    }

    /// Section 2.2: byte 13 is version and command, 14 family and protocol ("0x11: TCP over IPv4"), 15 and 16 the
    /// length "in network byte order"; then source address, destination address, source port, destination port.
    #[test]
    fn the_bytes_are_those_of_the_specification() {
        let bytes = check("192.0.2.1:258", "198.51.100.2:80", Some("a///"));
        assert_eq!(
            bytes[..FIXED + 12 + 7],
            [
                0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, 0x21, 0x11,
                0, 19, 192, 0, 2, 1, 198, 51, 100, 2, 1, 2, 0, 80, 0xea, 0, 4, b'a', b'/', b'/',
                b'/'
            ]
        );
    }

    #[test]
    fn families_that_differ_meet_in_ipv6() {
        let header = ProxyHeader {
            addresses: Some(("192.0.2.1:1".parse().unwrap(), "[fd00::2]:2".parse().unwrap())),
            caller: None,
        };
        let (read, _) = decode(&encode(&header)).unwrap();
        assert_eq!(read.addresses.unwrap().0, "[::ffff:192.0.2.1]:1".parse().unwrap());
    }

    #[test]
    fn what_is_not_a_header_is_told_at_the_first_byte() {
        assert_eq!(decode(b"G"), Err(ProxyError::Malformed));
        assert_eq!(decode(b"\r\n\r\n"), Err(ProxyError::Incomplete(FIXED)));
        let bytes = check("192.0.2.1:1", "192.0.2.2:2", Some("x"));
        assert_eq!(decode(&bytes[..FIXED]), Err(ProxyError::Incomplete(FIXED + 16)));
    }

    proptest! {
        #[test]
        fn noise_never_panics(tail in proptest::collection::vec(any::<u8>(), 0..256)) {
            let mut bytes = SIGNATURE.to_vec();
            bytes.extend(tail);
            let _ = decode(&bytes);
        }
    }
}
