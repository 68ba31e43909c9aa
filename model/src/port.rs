//! Pure: service ports, and when two of them are the same.

use std::{fmt, num::NonZeroU16, str::FromStr, sync::Arc};

use thiserror::Error;

use crate::{label, name::PortName};

/// A transport protocol of a service port.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Protocol {
    /// Stream Control Transmission Protocol: carried within one network only.
    Sctp,
    /// Transmission Control Protocol, the default of Kubernetes.
    Tcp,
    /// User Datagram Protocol.
    Udp,
}

/// A protocol that Kubernetes does not know.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("protocol {0:?} is not known: use TCP, UDP or SCTP")]
pub struct UnknownProtocol(pub String);

impl Protocol {
    /// As Kubernetes writes it: `TCP`, `UDP` or `SCTP`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sctp => "SCTP",
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }

    /// In lower case, as DNS SRV names and our port names have it.
    #[must_use]
    pub fn lower(self) -> &'static str {
        match self {
            Self::Sctp => "sctp",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Protocol {
    type Err = UnknownProtocol;

    fn from_str(text: &str) -> Result<Self, UnknownProtocol> {
        match text {
            "SCTP" => Ok(Self::Sctp),
            "TCP" => Ok(Self::Tcp),
            "UDP" => Ok(Self::Udp),
            other => Err(UnknownProtocol(other.chars().take(64).collect())),
        }
    }
}

/// What makes a port the same port whatever its name: protocol and number.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PortKey {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub number: NonZeroU16,
}

impl PortKey {
    /// The name that this port has in derived Services and their slices: `tcp-80`. Ours, since a legal union
    /// of exports may hold an unnamed port beside others, which a Service may not.
    ///
    /// # Panics
    /// Never: protocol, dash and number are always a label.
    #[must_use]
    pub fn derived_port_name(self) -> PortName {
        PortName::parse(&format!("{}-{}", self.protocol.lower(), self.number))
            .expect("a protocol, a dash and a number make a label")
    }

    /// Reads a name that [`Self::derived_port_name`] made; none for any other.
    #[must_use]
    pub fn from_derived_port_name(name: &PortName) -> Option<Self> {
        let (protocol, number) = name.as_str().split_once('-')?;
        let key = Self {
            protocol: protocol.to_ascii_uppercase().parse().ok()?,
            number: number.parse().ok()?,
        };
        (key.derived_port_name() == *name).then_some(key)
    }
}

impl fmt::Display for PortKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol)
    }
}

/// The application protocol of a port, a hint that is passed on. API servers take it in the form of a label's key.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AppProtocol(Arc<str>);

impl AppProtocol {
    /// Checks what an exporter told. One that the importers' API servers refuse would keep the slices of all of the
    /// service's ports from them.
    ///
    /// # Errors
    /// A sentence that names it and says what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        if label::is_key(text) {
            return Ok(Self(Arc::from(text)));
        }
        let text: String = text.chars().take(64).collect();
        Err(format!(
            "application protocol {text:?} is not valid: use a registered name, or one with a domain before a slash, like example.com/h2c"
        ))
    }

    /// The protocol as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One port of a service as its clients see it (KEP-1645 "Service Port").
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ServicePort {
    /// Its name; none where the Service leaves it out.
    pub name: Option<PortName>,
    /// Protocol and number.
    pub key: PortKey,
    /// Its application protocol, if the exporter told one.
    pub app_protocol: Option<AppProtocol>,
}

impl fmt::Display for ServicePort {
    /// `http 80/TCP`, the form that condition messages use.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            write!(f, "{name} ")?;
        }
        self.key.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(protocol: Protocol, number: u16) -> PortKey {
        PortKey { protocol, number: NonZeroU16::new(number).unwrap() }
    }

    #[test]
    fn the_names_of_derived_ports_are_protocol_and_number() {
        assert_eq!(key(Protocol::Tcp, 80).derived_port_name().as_str(), "tcp-80");
        assert_eq!(key(Protocol::Sctp, 65535).derived_port_name().as_str(), "sctp-65535");
        let read = |text: &str| PortKey::from_derived_port_name(&PortName::parse(text).unwrap());
        assert_eq!(read("udp-53"), Some(key(Protocol::Udp, 53)));
        for other in ["tcp-080", "tcp-0", "http-80", "tcp", "tcp-65536"] {
            assert_eq!(read(other), None, "{other}");
        }
    }

    #[test]
    fn protocols_read_as_kubernetes_writes_them() {
        for protocol in [Protocol::Sctp, Protocol::Tcp, Protocol::Udp] {
            assert_eq!(protocol.as_str().parse(), Ok(protocol));
        }
        assert_eq!("tcp".parse::<Protocol>(), Err(UnknownProtocol("tcp".into())));
    }
}
