//! Pure: an address that was given to a gateway, by name or number, to bring a kind of streams to.

use std::{fmt, net::Ipv6Addr, str::FromStr};

use thiserror::Error;

/// The longest DNS name.
const MAX_HOST: usize = 253;

/// A host and a port. A name is looked up each time that it is used: what is behind it may move.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    host: String,
    port: u16,
}

/// A text that says no such thing.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error(
    "is no HOST:PORT, with a DNS name or an address, one of IPv6 in brackets, and a port from 1 to 65535"
)]
pub struct NoTarget;

impl Target {
    /// The host, an address of IPv6 without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Target {
    type Err = NoTarget;

    fn from_str(text: &str) -> Result<Self, NoTarget> {
        let (host, port) = text.rsplit_once(':').ok_or(NoTarget)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or(NoTarget)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match bracketed {
            Some(inner) => inner.parse::<Ipv6Addr>().map_err(|_| NoTarget)?.to_string(),
            None if is_name(host) => host.to_owned(),
            None => return Err(NoTarget),
        };
        Ok(Self { host, port })
    }
}

/// Addresses of IPv4 are of the same characters.
fn is_name(host: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(allowed);
    host.len() <= MAX_HOST && host.strip_suffix('.').unwrap_or(host).split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses() {
        for good in [
            "kubernetes.default.svc:443",
            "landbridge-authority.landbridge-system.svc.cluster.local.:8443",
            "10.96.0.1:443",
            "[fd00::1]:6443",
            "localhost:1",
        ] {
            assert_eq!(good.parse::<Target>().unwrap().to_string(), good);
        }
        let v6: Target = "[fd00:0::1]:6443".parse().unwrap();
        assert_eq!((v6.host(), v6.port()), ("fd00::1", 6443));
        let long = format!("{}:1", "a".repeat(64));
        for bad in [
            "",
            ":",
            "host",
            "host:",
            "host:0",
            "host:65536",
            "host:+1x",
            ":443",
            "a..b:1",
            "fd00::1:443",
            "[fd00::1]",
            "[host]:1",
            "https://host:443",
            "host/path:1",
            "two words:1",
            &long,
        ] {
            assert_eq!(bad.parse::<Target>(), Err(NoTarget), "{bad:?}");
        }
    }
}
