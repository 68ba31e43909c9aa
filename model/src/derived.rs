//! Pure: the names of what is made for an import.
//!
//! Names are hashes, so that every name fits a label whatever the service is called, and so that two controllers
//! never disagree on one.

use data_encoding::BASE32HEX_NOPAD;
use sha2::{Digest, Sha256};

use crate::name::{ClusterId, DerivedName, Hostname, ServiceKey};

/// The name of the Service that gives an import its ClusterSetIP: `derived-` and the first ten characters of the
/// lower-case base32hex SHA-256 of `namespace/name`, as the reference implementation of the Multi-Cluster
/// Services API has it.
#[must_use]
pub fn service(key: &ServiceKey) -> DerivedName {
    hashed(&key.to_string())
}

/// The name of the Service that gives one remote endpoint of a headless import an address that works here: the
/// hash of `namespace/name/cluster/hostname`.
#[must_use]
pub fn endpoint(key: &ServiceKey, cluster: &ClusterId, hostname: &Hostname) -> DerivedName {
    hashed(&format!("{key}/{cluster}/{hostname}"))
}

fn hashed(text: &str) -> DerivedName {
    let hash = BASE32HEX_NOPAD.encode(&Sha256::digest(text.as_bytes())).to_ascii_lowercase();
    DerivedName::parse(&format!("derived-{}", &hash[..10]))
        .expect("base32hex in lower case is label text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_reference_implementation() {
        for (namespace, name, expected) in [
            ("default", "hello", "derived-k5cuvo1ge4"),
            ("my-ns", "my-svc", "derived-a2v4k9sqn6"),
            ("shop", "web", "derived-isrlchlhrq"),
        ] {
            assert_eq!(service(&ServiceKey::parse(namespace, name).unwrap()).as_str(), expected);
        }
    }

    #[test]
    fn every_endpoint_of_a_headless_import_has_a_name_of_its_own() {
        let db = ServiceKey::parse("shop", "db").unwrap();
        for (cluster, hostname, expected) in [
            ("paris", "db-0", "derived-endjhegtnc"),
            ("paris", "db-1", "derived-iip7hlvkla"),
            ("tokyo", "db-0", "derived-e1srscme46"),
            ("paris", "10-244-0-9", "derived-1mqoc0rdbs"),
        ] {
            let (cluster, hostname) =
                (ClusterId::parse(cluster).unwrap(), Hostname::parse(hostname).unwrap());
            assert_eq!(endpoint(&db, &cluster, &hostname).as_str(), expected);
        }
    }
}
