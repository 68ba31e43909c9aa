//! Pure: numbers, short texts and addresses as bytes, and back without ever reading past the end.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::WireError;

/// Appends fields.
#[derive(Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    /// A text of at most 255 bytes. Everything written here is a name, which is shorter; a longer one would be cut.
    pub(crate) fn text(&mut self, text: &str) {
        self.counted_u8(text.as_bytes());
    }

    pub(crate) fn counted_u8(&mut self, bytes: &[u8]) {
        let length = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
        self.u8(length);
        self.0.extend_from_slice(&bytes[..usize::from(length)]);
    }

    pub(crate) fn counted(&mut self, bytes: &[u8]) {
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        self.u16(length);
        self.0.extend_from_slice(&bytes[..usize::from(length)]);
    }

    pub(crate) fn address(&mut self, address: Option<SocketAddr>) {
        let Some(address) = address else {
            return self.u8(0);
        };
        match address.ip() {
            IpAddr::V4(ip) => {
                self.u8(4);
                self.0.extend_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                self.u8(6);
                self.0.extend_from_slice(&ip.octets());
            }
        }
        self.u16(address.port());
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Takes fields off the front.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn take(&mut self, count: usize, field: &'static str) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(WireError::Truncated { field })?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[u8; N], WireError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(WireError::Truncated { field })?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, WireError> {
        self.array(field).map(|[byte]: [u8; 1]| byte)
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, WireError> {
        self.array(field).map(u16::from_be_bytes)
    }

    pub(crate) fn counted_u8(&mut self, field: &'static str) -> Result<&'a [u8], WireError> {
        let length = self.u8(field)?;
        self.take(usize::from(length), field)
    }

    pub(crate) fn text(&mut self, field: &'static str) -> Result<&'a str, WireError> {
        let bytes = self.counted_u8(field)?;
        std::str::from_utf8(bytes).map_err(|_| WireError::Field { field })
    }

    pub(crate) fn address(&mut self, field: &'static str) -> Result<Option<SocketAddr>, WireError> {
        let ip = match self.u8(field)? {
            0 => return Ok(None),
            4 => IpAddr::V4(Ipv4Addr::from(self.array::<4>(field)?)),
            6 => IpAddr::V6(Ipv6Addr::from(self.array::<16>(field)?)),
            _ => return Err(WireError::Field { field }),
        };
        Ok(Some(SocketAddr::new(ip, self.u16(field)?)))
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0
    }
}
