//! Pure: who calls, as far as a gateway can tell.
//!
//! The sending gateway knows a calling pod by its address alone: attested by address, not cryptographic, and called
//! so. What it tells is believed about its own cluster only, and which cluster that is stands in its certificate.

use std::{fmt, net::SocketAddr, sync::Arc};

use landbridge_model::{ClusterId, Namespace};
use thiserror::Error;

/// The longest RFC-1123 subdomain: the name of a pod or a service account.
const MAX_SUBDOMAIN: usize = 253;

/// The name of a Kubernetes object whose kind allows RFC-1123 subdomains: pods and service accounts.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ObjectName(Arc<str>);

/// A text that names no pod and no service account.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{0:?} is not an RFC-1123 subdomain of at most 253 characters")]
pub struct NotAnObjectName(pub String);

impl ObjectName {
    /// Parses and checks `text`.
    ///
    /// # Errors
    /// [`NotAnObjectName`] where it is no RFC-1123 subdomain.
    pub fn parse(text: &str) -> Result<Self, NotAnObjectName> {
        let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let label = |label: &str| {
            let bytes = label.as_bytes();
            let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else {
                return false;
            };
            alphanumeric(first)
                && alphanumeric(last)
                && bytes.iter().all(|&b| alphanumeric(b) || b == b'-')
        };
        if text.len() <= MAX_SUBDOMAIN && text.split('.').all(label) {
            Ok(Self(text.into()))
        } else {
            Err(NotAnObjectName(text.chars().take(64).collect()))
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A pod, by names that mean something beyond its address.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Workload {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its service account.
    pub account: ObjectName,
    /// Its name.
    pub pod: ObjectName,
}

/// Who opened a connection, as its own cluster's gateway tells it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Source {
    /// The pod, where exactly one that runs has the client's address.
    pub workload: Option<Workload>,
    /// The client's address in its own cluster.
    pub address: Option<SocketAddr>,
}

/// A [`Source`] and the cluster that vouches for it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Caller {
    /// The cluster, by the certificate of its gateway.
    pub cluster: ClusterId,
    /// What that cluster says.
    pub source: Source,
}

impl fmt::Display for Caller {
    /// `<cluster>/<namespace>/<service account>/<pod>`; the three are empty for a caller that is not known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source.workload {
            Some(Workload { namespace, account, pod }) => {
                write!(f, "{}/{namespace}/{account}/{pod}", self.cluster)
            }
            None => write!(f, "{}///", self.cluster),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_and_accounts_are_subdomains() {
        for good in ["a", "web-7d9c-x2", "system.agent", &"a".repeat(253)] {
            assert_eq!(ObjectName::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", ".", "a.", ".a", "a..b", "A", "-a", "a-.b", "a_b", "a/b", &"a".repeat(254)]
        {
            assert!(ObjectName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_caller_is_told_with_four_parts() {
        let mut caller =
            Caller { cluster: ClusterId::parse("berlin").unwrap(), source: Source::default() };
        assert_eq!(caller.to_string(), "berlin///");
        caller.source.workload = Some(Workload {
            namespace: Namespace::parse("shop").unwrap(),
            account: ObjectName::parse("cart").unwrap(),
            pod: ObjectName::parse("cart-0").unwrap(),
        });
        assert_eq!(caller.to_string(), "berlin/shop/cart/cart-0");
    }
}
