//! Pure: the numbers on which gateways listen, and what they mean.
//!
//! A derived slice that names gateways is the allotment: (protocol, port) means (service, service port). The
//! controller gives the numbers out, the gateways read them; both take the range and the meaning from here.

use std::{fmt, num::NonZeroU16};

use thiserror::Error;

use crate::{
    name::{ClusterId, Hostname, ServiceKey},
    port::PortKey,
};

/// A port number that gateways of this member listen on: 10000 to 29999, below NodePorts (30000) and the usual
/// ephemeral ports (32768), above what services are wont to use.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AllottedPort(u16);

/// A number outside the range that gateways listen on.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error(
    "port {0} is not one that gateways listen on ({first} to {last})",
    first = AllottedPort::FIRST.0,
    last = AllottedPort::LAST.0
)]
pub struct NotAllottable(pub u16);

impl AllottedPort {
    /// The lowest.
    pub const FIRST: Self = Self(10_000);
    /// The highest.
    pub const LAST: Self = Self(29_999);

    /// Checks that `number` is in the range.
    ///
    /// # Errors
    /// [`NotAllottable`] where it is not.
    pub fn new(number: u16) -> Result<Self, NotAllottable> {
        if (Self::FIRST.0..=Self::LAST.0).contains(&number) {
            Ok(Self(number))
        } else {
            Err(NotAllottable(number))
        }
    }

    /// The number.
    #[must_use]
    pub fn number(self) -> u16 {
        self.0
    }

    /// The next number of the range, from the last one on to the first.
    #[must_use]
    pub fn next(self) -> Self {
        if self == Self::LAST { Self::FIRST } else { Self(self.0 + 1) }
    }
}

impl fmt::Display for AllottedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a connection to an allotted port is for.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Target {
    /// The service that was called.
    pub service: ServiceKey,
    /// The service port that was called. For one endpoint of a headless service: the endpoint's own port.
    pub port: PortKey,
    /// The endpoint that was called, for headless services.
    pub endpoint: Option<EndpointRef>,
}

/// One endpoint of a headless service, by the names that mean the same pod in every cluster.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EndpointRef {
    /// The cluster that it runs in.
    pub cluster: ClusterId,
    /// Its hostname there.
    pub hostname: Hostname,
}

/// A number for nothing is no port.
#[must_use]
pub fn port_number(number: i32) -> Option<NonZeroU16> {
    u16::try_from(number).ok().and_then(NonZeroU16::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_range_below_nodeports_is_allotted() {
        for number in [10_000, 20_000, 29_999] {
            assert_eq!(AllottedPort::new(number).unwrap().number(), number);
        }
        for number in [0, 80, 9_999, 30_000, 65_535] {
            assert_eq!(AllottedPort::new(number), Err(NotAllottable(number)));
        }
    }

    #[test]
    fn after_the_last_comes_the_first() {
        assert_eq!(AllottedPort::LAST.next(), AllottedPort::FIRST);
        assert_eq!(AllottedPort::FIRST.next().number(), 10_001);
    }
}
