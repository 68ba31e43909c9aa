//! Where a gateway's identity comes from, so that it can be had again: files that somebody renews, or the member's
//! authority, with which the gateway renews its own certificate.

use std::{fmt, io, path::PathBuf, sync::Arc};

use landbridge_model::{Hostname, Timestamp};
use tokio::io::AsyncReadExt;

use super::{Identity, Member, PkiError};

/// The most that is read of one file: eight certificates are a tenth of it.
const MAX_FILE: u64 = 256 << 10;

/// The files that an identity is made of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Source {
    /// A certificate that somebody else issues and renews.
    Gateway {
        /// The gateway's certificate, followed by its member's.
        chain: PathBuf,
        /// Its private key.
        key: PathBuf,
        /// The set's roots.
        roots: PathBuf,
    },
    /// The member's authority, which issues leaves of 24 hours for this very gateway.
    Member {
        /// The member's certificate.
        cert: PathBuf,
        /// Its private key.
        key: PathBuf,
        /// The set's roots.
        roots: PathBuf,
        /// How often the member has joined.
        generation: u64,
        /// The name of this replica.
        name: Hostname,
    },
}

/// What the three files of a source hold, in its order. Holds a key, and is not printed.
#[derive(Clone, Eq, PartialEq)]
pub struct Texts(pub [String; 3]);

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Texts")
    }
}

impl Source {
    /// Whether a new leaf can be issued here.
    #[must_use]
    pub fn issues(&self) -> bool {
        matches!(self, Self::Member { .. })
    }

    /// Makes the identity of what the files hold; one that is issued here begins `now`.
    ///
    /// # Errors
    /// [`PkiError`] says which of the three is wrong.
    pub fn identity(&self, texts: Texts, now: Timestamp) -> Result<Identity, PkiError> {
        let Texts([certificate, key, roots]) = &texts;
        let mut identity = match self {
            Self::Gateway { .. } => Identity::from_pem(certificate, key, roots)?,
            Self::Member { generation, name, .. } => {
                let member = Member::from_pem(certificate, key)?;
                let leaf = member.issue_gateway(*generation, name, now)?;
                Identity::from_pem(&leaf.chain_pem(), &leaf.key_pem(), roots)?
            }
        };
        identity.source = Some(Arc::new((self.clone(), texts)));
        Ok(identity)
    }

    /// Reads the files.
    pub(crate) async fn read(&self) -> io::Result<Texts> {
        let (Self::Gateway { chain: first, key, roots }
        | Self::Member { cert: first, key, roots, .. }) = self;
        let mut texts = [const { String::new() }; 3];
        for (path, text) in [first, key, roots].into_iter().zip(&mut texts) {
            let named = |error: io::Error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            };
            let file = tokio::fs::File::open(path).await.map_err(named)?;
            file.take(MAX_FILE).read_to_string(text).await.map_err(named)?;
        }
        Ok(Texts(texts))
    }
}
