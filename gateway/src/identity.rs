//! Pure: who a certificate says that its bearer is (design, "Identity and access").
//!
//! Identities are SPIFFE ids in a certificate's only URI name. The set is the trust domain; below it a member's
//! certificate authority is `cluster/<id>`, and a gateway is `cluster/<id>/<generation>/gateway/<name>`.

use std::fmt;

use landbridge_model::{ClusterId, ClusterSetId, Hostname, NameError};
use thiserror::Error;

/// The longest URI that is read: scheme, set, cluster id, generation and name at their longest are 235 bytes.
const MAX_URI: usize = 256;

/// One replica of a cluster's gateway.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct GatewayId {
    /// The clusterset, the trust domain.
    pub set: ClusterSetId,
    /// The cluster that it belongs to.
    pub cluster: ClusterId,
    /// How often that cluster had joined when the certificate was issued.
    pub generation: u64,
    /// The name of the replica.
    pub gateway: Hostname,
}

impl fmt::Display for GatewayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "spiffe://{}/cluster/{}/{}/gateway/{}",
            self.set, self.cluster, self.generation, self.gateway
        )
    }
}

/// What a SPIFFE id of ours names.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum SpiffeId {
    /// The set's authority, which lets clusters in. Its certificate is signed by the root itself.
    Authority(ClusterSetId),
    /// One replica of a cluster's gateway.
    Gateway(GatewayId),
    /// A member's certificate authority.
    Member {
        /// The clusterset.
        set: ClusterSetId,
        /// The cluster, the only one for which it may issue.
        cluster: ClusterId,
    },
    /// The set's root.
    Set(ClusterSetId),
}

/// Why a text is not a SPIFFE id of ours.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum IdentityError {
    /// A name in it is not valid.
    #[error("{uri:?}: {problem}")]
    Name {
        /// The text as given.
        uri: String,
        /// Which name, and what is wrong with it.
        problem: NameError,
    },
    /// It has another form.
    #[error(
        "{uri:?} is not of the form spiffe://<set>, spiffe://<set>/authority, spiffe://<set>/cluster/<id> or \
         spiffe://<set>/cluster/<id>/<generation>/gateway/<name>"
    )]
    Shape {
        /// The text as given, cut at 256 characters.
        uri: String,
    },
}

impl SpiffeId {
    /// Parses a SPIFFE id of ours.
    ///
    /// # Errors
    /// [`IdentityError`] says what is wrong with it.
    pub fn parse(uri: &str) -> Result<Self, IdentityError> {
        let shape = || IdentityError::Shape { uri: uri.chars().take(MAX_URI).collect() };
        let name = |problem| IdentityError::Name { uri: uri.to_owned(), problem };
        if uri.len() > MAX_URI {
            return Err(shape());
        }
        let rest = uri.strip_prefix("spiffe://").ok_or_else(shape)?;
        let parts: Vec<&str> = rest.split('/').collect();
        let set = ClusterSetId::parse(parts[0]).map_err(name)?;
        match parts[1..] {
            [] => Ok(Self::Set(set)),
            ["authority"] => Ok(Self::Authority(set)),
            ["cluster", cluster] => {
                Ok(Self::Member { set, cluster: ClusterId::parse(cluster).map_err(name)? })
            }
            ["cluster", cluster, generation, "gateway", gateway] => {
                let number: u64 = generation.parse().map_err(|_| shape())?;
                // One number, one text: "+1" and "01" would be other names for the same gateway.
                if number.to_string() != generation {
                    return Err(shape());
                }
                Ok(Self::Gateway(GatewayId {
                    set,
                    cluster: ClusterId::parse(cluster).map_err(name)?,
                    generation: number,
                    gateway: Hostname::parse(gateway).map_err(name)?,
                }))
            }
            _ => Err(shape()),
        }
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway(id) => id.fmt(f),
            Self::Member { set, cluster } => write!(f, "spiffe://{set}/cluster/{cluster}"),
            Self::Authority(set) => write!(f, "spiffe://{set}/authority"),
            Self::Set(set) => write!(f, "spiffe://{set}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Design, "Identity and access": `spiffe://<set>/cluster/<id>/<generation>/gateway/<name>`.
    #[test]
    fn ids_read_as_they_are_written() {
        for uri in [
            "spiffe://demo",
            "spiffe://demo/authority",
            "spiffe://demo/cluster/paris",
            "spiffe://demo/cluster/paris/3/gateway/gateway-0",
        ] {
            assert_eq!(SpiffeId::parse(uri).unwrap().to_string(), uri);
        }
        let longest = format!(
            "spiffe://{}/cluster/{}/{}/gateway/{}",
            "s".repeat(63),
            "c".repeat(55),
            u64::MAX,
            "g".repeat(63)
        );
        assert_eq!(SpiffeId::parse(&longest).unwrap().to_string(), longest);
    }

    #[test]
    fn every_other_text_is_refused() {
        for uri in [
            "",
            "spiffe://",
            "https://demo/cluster/paris",
            "spiffe://demo/",
            "spiffe://demo/cluster",
            "spiffe://demo/cluster/",
            "spiffe://demo/cluster/Paris",
            "spiffe://demo/cluster/paris/gateway/a",
            "spiffe://demo/cluster/paris/01/gateway/a",
            "spiffe://demo/cluster/paris/+1/gateway/a",
            "spiffe://demo/cluster/paris/-1/gateway/a",
            "spiffe://demo/cluster/paris/1/gateway/",
            "spiffe://demo/cluster/paris/1/gateway/a/b",
            "spiffe://demo/cluster/paris/1/controller/a",
        ] {
            assert!(SpiffeId::parse(uri).is_err(), "{uri:?} was taken as an id");
        }
        assert!(SpiffeId::parse(&format!("spiffe://{}", "a".repeat(300))).is_err());
    }
}
