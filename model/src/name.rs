//! Pure: names, parsed at the border and trusted inside.
//!
//! Each newtype can only be made by parsing, so that a function that takes a [`ClusterId`] need not ask again what
//! the text may hold. All are reference-counted: cloning one copies a pointer.

use std::{fmt, net::IpAddr, str::FromStr, sync::Arc};

use thiserror::Error;

/// The longest RFC-1123 label (RFC 1035 section 2.3.4).
pub const MAX_LABEL: usize = 63;

/// The longest cluster id. Eight characters less than a label, so that `cluster-<id>`, the namespace of a
/// member on the hub, is a label too.
pub const MAX_CLUSTER_ID: usize = 55;

/// Why a text is not the name that it was given as.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum NameError {
    /// A character that the kind of name does not allow, or one at an end that must be alphanumeric.
    #[error(
        "{kind} {text:?} is not valid: use lower-case letters, digits and '-', starting and ending with a letter or digit"
    )]
    Characters {
        /// What the text was meant to be, for example `cluster id`.
        kind: &'static str,
        /// The text as given, cut at 64 characters.
        text: String,
    },
    /// The text is empty.
    #[error("{kind} is empty: give it a name")]
    Empty {
        /// What the text was meant to be.
        kind: &'static str,
    },
    /// The text is longer than the kind of name allows.
    #[error("{kind} {text:?} has {length} characters: use at most {most}")]
    TooLong {
        /// What the text was meant to be.
        kind: &'static str,
        /// The text as given, cut at 64 characters.
        text: String,
        /// Its length in bytes.
        length: usize,
        /// The most that is allowed.
        most: usize,
    },
}

fn excerpt(text: &str) -> String {
    text.chars().take(64).collect()
}

/// Checks an RFC-1123 label of at most `most` bytes.
fn check_label(kind: &'static str, text: &str, most: usize) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty { kind });
    }
    if text.len() > most {
        return Err(NameError::TooLong { kind, text: excerpt(text), length: text.len(), most });
    }
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends = alphanumeric(bytes[0]) && alphanumeric(bytes[bytes.len() - 1]);
    if ends && bytes.iter().all(|&b| alphanumeric(b) || b == b'-') {
        Ok(())
    } else {
        Err(NameError::Characters { kind, text: excerpt(text) })
    }
}

/// Checks what Kubernetes allows as a label value: empty, or alphanumeric ends with `-`, `_` and `.` between.
fn check_label_value(kind: &'static str, text: &str) -> Result<(), NameError> {
    if text.len() > MAX_LABEL {
        return Err(NameError::TooLong {
            kind,
            text: excerpt(text),
            length: text.len(),
            most: MAX_LABEL,
        });
    }
    let bytes = text.as_bytes();
    let inner = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let ends = bytes.first().is_none_or(u8::is_ascii_alphanumeric)
        && bytes.last().is_none_or(u8::is_ascii_alphanumeric);
    if ends && bytes.iter().all(inner) {
        Ok(())
    } else {
        Err(NameError::Characters { kind, text: excerpt(text) })
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses and checks `text`.
            ///
            /// # Errors
            /// [`NameError`] says what is wrong with it and what would be right.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                let check: fn(&'static str, &str) -> Result<(), NameError> = $check;
                check($kind, text)?;
                Ok(Self(text.into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// The id of one member: one RFC-1123 label of at most [`MAX_CLUSTER_ID`] characters, kept in the
    /// ClusterProperty `cluster.clusterset.k8s.io` (KEP-2149).
    ClusterId, "cluster id", |kind, text| check_label(kind, text, MAX_CLUSTER_ID)
);
name!(
    /// The name of a clusterset, kept in the ClusterProperty `clusterset.k8s.io` (KEP-2149); also the trust
    /// domain of its SPIFFE identities.
    ClusterSetId, "clusterset", |kind, text| check_label(kind, text, MAX_LABEL)
);
name!(
    /// The name of a Service made for an import, `derived-<hash>`: see [`crate::derived`].
    DerivedName, "derived service name", |kind, text| {
        check_label(kind, text, MAX_LABEL)?;
        match text.strip_prefix("derived-") {
            Some(hash) if hash.len() == 10 => Ok(()),
            _ => Err(NameError::Characters { kind, text: excerpt(text) }),
        }
    }
);
name!(
    /// The hostname of one endpoint of a headless service.
    Hostname, "hostname", |kind, text| check_label(kind, text, MAX_LABEL)
);
name!(
    /// A Kubernetes namespace. By KEP-1645 "sameness" it means the same thing in every member.
    Namespace, "namespace", |kind, text| check_label(kind, text, MAX_LABEL)
);
name!(
    /// Members with the same network name reach each other's pods directly.
    NetworkName, "network", |kind, text| check_label(kind, text, MAX_LABEL)
);
name!(
    /// The name of a service port.
    PortName, "port name", |kind, text| check_label(kind, text, MAX_LABEL)
);
name!(
    /// A region, a label value such as `eu-west-1`.
    RegionName, "region", check_label_value
);
name!(
    /// The name of a Service, and so of its ServiceExport and ServiceImport.
    ServiceName, "service name", |kind, text| check_label(kind, text, MAX_LABEL)
);
name!(
    /// A failure zone, a label value such as `eu-west-1a`; empty where a node has none.
    ZoneName, "zone", check_label_value
);

/// Which service: by sameness the same key in every cluster means the same service.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ServiceKey {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its name.
    pub name: ServiceName,
}

impl ServiceKey {
    /// Parses a namespace and a name.
    ///
    /// # Errors
    /// [`NameError`] says which of the two is wrong.
    pub fn parse(namespace: &str, name: &str) -> Result<Self, NameError> {
        Ok(Self { namespace: Namespace::parse(namespace)?, name: ServiceName::parse(name)? })
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for ServiceKey {
    type Err = NameError;

    /// Parses `namespace/name`, the form that [`fmt::Display`] writes.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (namespace, name) = text.split_once('/').unwrap_or((text, ""));
        Self::parse(namespace, name)
    }
}

impl Hostname {
    /// The hostname of an endpoint that has none: its address with dashes. A label neither begins nor ends with a
    /// dash, so one at an end gets a `0` beside it.
    ///
    /// # Panics
    /// Never: the text of an address is short and made of digits, letters a to f, dots and colons.
    #[must_use]
    pub fn of_address(address: IpAddr) -> Self {
        let mut label = address.to_string().replace(['.', ':'], "-");
        if label.starts_with('-') {
            label.insert(0, '0');
        }
        if label.ends_with('-') {
            label.push('0');
        }
        Self::parse(&label).expect("an address with dashes and digits at its ends is a label")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_rfc_1123() {
        for good in ["a", "paris", "eu-1", "0", &"a".repeat(55)] {
            assert_eq!(ClusterId::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "ä", &"a".repeat(56)] {
            assert!(ClusterId::parse(bad).is_err(), "{bad:?} was taken as a cluster id");
        }
        assert!(Namespace::parse(&"a".repeat(63)).is_ok());
    }

    #[test]
    fn an_error_names_the_culprit_and_the_remedy() {
        let error = ClusterId::parse("Paris").unwrap_err().to_string();
        assert!(
            error.contains("cluster id \"Paris\"") && error.contains("use lower-case"),
            "{error}"
        );
        let error = ClusterId::parse(&"a".repeat(70)).unwrap_err().to_string();
        assert!(error.contains("70 characters: use at most 55"), "{error}");
    }

    #[test]
    fn a_service_key_reads_what_it_writes() {
        let key = ServiceKey::parse("shop", "web").unwrap();
        assert_eq!(key.to_string().parse::<ServiceKey>().unwrap(), key);
        assert!("shop".parse::<ServiceKey>().is_err());
        assert!("shop/web/x".parse::<ServiceKey>().is_err());
    }

    #[test]
    fn derived_names_are_only_of_our_making() {
        assert!(DerivedName::parse("derived-k5cuvo1ge4").is_ok());
        assert!(DerivedName::parse("derived-k5cuvo1ge").is_err());
        assert!(DerivedName::parse("hello").is_err());
    }

    /// Design, "Import": "the one made at home from its original address with dashes (a trailing dash gets `0`), so
    /// that a name means the same pod in every cluster."
    #[test]
    fn an_address_makes_a_hostname() {
        for (address, hostname) in [
            ("10.244.0.9", "10-244-0-9"),
            ("fd00:10:244::9", "fd00-10-244--9"),
            ("fd00::", "fd00--0"),
            ("::1", "0--1"),
            ("::", "0--0"),
            ("::ffff:10.0.0.1", "0--ffff-10-0-0-1"),
        ] {
            let made = Hostname::of_address(address.parse().unwrap());
            assert_eq!(made.as_str(), hostname);
        }
    }
}
