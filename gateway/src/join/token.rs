//! Pure: the text of a token: all that a cluster needs to find its hub, to know it again, and to be let in once.
//!
//! `landbridge1-` and base64url of these bytes; every number is big-endian.
//!
//! | bytes | what |
//! | --- | --- |
//! | 2 | how many bytes follow, checksum excepted |
//! | 32 | the secret |
//! | 32 | SHA-256 of the root's certificate |
//! | 8 | when it ends, in milliseconds since 1970 |
//! | 1 + n, three times | set; id of the hub; id that the new cluster has to have, or nothing |
//! | 7 or 19 each | where the hub's gateways are dialled: family, address, port; then one byte 0 |
//! | 4 | checksum: the first bytes of the SHA-256 of all before |

use std::{fmt, str::FromStr};

use data_encoding::{BASE32HEX_NOPAD, BASE64URL_NOPAD, HEXLOWER};
use landbridge_model::{ClusterId, ClusterSetId, GatewayAddress, Timestamp};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::wire::{
    WireError,
    bytes::{Reader, Writer},
};

/// What every token of this version begins with.
pub const PREFIX: &str = "landbridge1-";
/// What tokens of all versions begin with.
const ANY_VERSION: &str = "landbridge";
const CHECKSUM: usize = 4;
/// The most addresses that are written into a token: two families of the three nodes of a small hub, and some more. A
/// token is pasted by people.
pub const MAX_ADDRESSES: usize = 8;
/// The longest text that is looked at. Names and addresses at their longest make 400 characters.
const MAX_TEXT: usize = 1024;

/// What is shown to be let in. It is known to whoever has the token, and to nobody else: the hub keeps its hash.
#[derive(Clone, Eq, PartialEq)]
pub struct TokenSecret([u8; 32]);

impl TokenSecret {
    /// Of 32 bytes that came by chance.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// What is shown, to the set's authority alone.
    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What the hub keeps. One round of SHA-256 is enough: slow hashes are for passwords, of which somebody can try all
    /// that are likely; of 256 bits by chance nobody can try a noticeable part.
    #[must_use]
    pub fn hash(&self) -> Fingerprint {
        Fingerprint::of(&self.0)
    }

    /// What the token is called: by a part of the hash, which tells nothing of the secret.
    #[must_use]
    pub fn id(&self) -> String {
        BASE32HEX_NOPAD.encode(&self.hash().0[..10]).to_ascii_lowercase()[..10].to_owned()
    }
}

impl fmt::Debug for TokenSecret {
    /// Its name instead.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenSecret({})", self.id())
    }
}

/// The SHA-256 of something, by which it is known again.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of these bytes; of a certificate in DER it is what `openssl x509 -fingerprint -sha256` prints.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl FromStr for Fingerprint {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or("is not a SHA-256 in 64 hexadecimal digits")
    }
}

/// What is handed to whoever joins a cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Token {
    /// The set to be joined.
    pub set: ClusterSetId,
    /// The cluster whose gateways are asked: the secret is shown to no other member.
    pub hub: ClusterId,
    /// The id that the new cluster has to have, if it is said.
    pub cluster: Option<ClusterId>,
    /// Where the hub's gateways are dialled.
    pub addresses: Vec<GatewayAddress>,
    /// Of the root's certificate.
    pub root: Fingerprint,
    /// When it ends, by the hub's clock. The hub decides; this is for whoever holds it.
    pub expires: Timestamp,
    /// What is shown to be let in.
    pub secret: TokenSecret,
}

/// Why a text is no token. Whoever copied it can mend all but the last.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum TokenError {
    /// Something else.
    #[error(
        "this is no join token: one begins with {PREFIX}, as `landbridge token issue` prints it"
    )]
    Other,
    /// A later version made it.
    #[error(
        "this is a join token of another version: take the `landbridge` of the hub's version, or issue one with this one"
    )]
    Version,
    /// Its end is missing, or something stands behind it.
    #[error("the join token has {found} characters of {whole}: copy the whole of it")]
    Length {
        /// How many there are.
        found: usize,
        /// How many there should be.
        whole: usize,
    },
    /// It is not what was printed.
    #[error("a character of the join token is wrong: copy it again")]
    Altered,
    /// It is what was printed, and makes no sense.
    #[error("the {0} of the join token cannot be read: issue another one")]
    Field(&'static str),
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut body = Writer::default();
        body.raw(&self.secret.0);
        body.raw(&self.root.0);
        body.raw(&self.expires.as_millis().to_be_bytes());
        body.text(self.set.as_str());
        body.text(self.hub.as_str());
        body.text(self.cluster.as_ref().map_or("", ClusterId::as_str));
        for address in self.addresses.iter().take(MAX_ADDRESSES) {
            body.address(Some(address.0));
        }
        body.address(None);
        let mut all = Writer::default();
        all.counted(&body.finish());
        let mut all = all.finish();
        let checksum = Sha256::digest(&all);
        all.extend_from_slice(&checksum[..CHECKSUM]);
        write!(f, "{PREFIX}{}", BASE64URL_NOPAD.encode(&all))
    }
}

impl FromStr for Token {
    type Err = TokenError;

    /// Reads what [`fmt::Display`] writes. Terminals break long lines, so that white space in between does not count.
    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text: String = text.split_whitespace().collect();
        let Some(encoded) = text.strip_prefix(PREFIX) else {
            let digits = text.strip_prefix(ANY_VERSION).and_then(|rest| rest.split_once('-'));
            let is_other = digits.is_some_and(|(number, _)| number.parse::<u32>().is_ok());
            return Err(if is_other { TokenError::Version } else { TokenError::Other });
        };
        if text.len() > MAX_TEXT {
            return Err(TokenError::Altered);
        }
        let bytes = whole(encoded)?;
        let (body, checksum) = bytes.split_at(bytes.len() - CHECKSUM);
        if Sha256::digest(body)[..CHECKSUM] != *checksum {
            return Err(TokenError::Altered);
        }
        fields(&body[2..])
    }
}

/// The bytes of a text that has the length which it says.
fn whole(encoded: &str) -> Result<Vec<u8>, TokenError> {
    // Four characters are three bytes, the length and one more.
    let head = encoded.get(..4).and_then(|head| BASE64URL_NOPAD.decode(head.as_bytes()).ok());
    let Some([high, low, _]) = head.as_deref() else {
        return Err(TokenError::Altered);
    };
    let bytes = 2 + usize::from(u16::from_be_bytes([*high, *low])) + CHECKSUM;
    let (found, whole) = (encoded.len(), (bytes * 4).div_ceil(3));
    if found != whole {
        let [found, whole] = [found, whole].map(|count| PREFIX.len() + count);
        return Err(TokenError::Length { found, whole });
    }
    BASE64URL_NOPAD.decode(encoded.as_bytes()).map_err(|_| TokenError::Altered)
}

fn fields(body: &[u8]) -> Result<Token, TokenError> {
    let unreadable = |error: WireError| match error {
        WireError::Truncated { field } | WireError::Field { field } => TokenError::Field(field),
        _ => TokenError::Altered,
    };
    let mut reader = Reader::new(body);
    let secret = TokenSecret(reader.array("secret").map_err(unreadable)?);
    let root = Fingerprint(reader.array("fingerprint").map_err(unreadable)?);
    let expires = i64::from_be_bytes(reader.array("end").map_err(unreadable)?);
    let mut text = |field: &'static str| reader.text(field).map_err(unreadable);
    let set = ClusterSetId::parse(text("set")?).map_err(|_| TokenError::Field("set"))?;
    let hub = ClusterId::parse(text("hub")?).map_err(|_| TokenError::Field("hub"))?;
    let cluster = match text("cluster")? {
        "" => None,
        id => Some(ClusterId::parse(id).map_err(|_| TokenError::Field("cluster"))?),
    };
    let mut addresses = Vec::new();
    while let Some(address) = reader.address("address").map_err(unreadable)? {
        addresses.push(GatewayAddress(address));
    }
    let expires = Timestamp::from_millis(expires);
    Ok(Token { set, hub, cluster, addresses, root, expires, secret })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(cluster: Option<&str>, addresses: &[&str]) -> Token {
        Token {
            set: ClusterSetId::parse("prod").unwrap(),
            hub: ClusterId::parse("paris").unwrap(),
            cluster: cluster.map(|id| ClusterId::parse(id).unwrap()),
            addresses: addresses.iter().map(|at| GatewayAddress(at.parse().unwrap())).collect(),
            root: Fingerprint::of(b"root"),
            expires: Timestamp::from_millis(1_790_000_000_000),
            secret: TokenSecret::new([7; 32]),
        }
    }

    #[test]
    fn a_token_reads_as_it_was_written() {
        for token in [
            token(None, &[]),
            token(Some("berlin"), &["192.0.2.1:4433"]),
            token(None, &["192.0.2.1:4433", "[2001:db8::1]:30433"]),
        ] {
            let text = token.to_string();
            assert_eq!(text.parse(), Ok(token));
            assert!(text.len() < 250 && text.bytes().all(|byte| byte.is_ascii_graphic()), "{text}");
        }
    }

    #[test]
    fn the_longest_token_is_read() {
        let long = |length: usize| "a".repeat(length);
        let token = Token {
            set: ClusterSetId::parse(&long(63)).unwrap(),
            hub: ClusterId::parse(&long(55)).unwrap(),
            ..token(Some(&long(55)), &["[2001:db8::1]:30433"; MAX_ADDRESSES])
        };
        assert_eq!(token.to_string().parse(), Ok(token));
    }

    /// What a terminal or a mail makes of a long line.
    #[test]
    fn a_broken_line_does_not_matter() {
        let token = token(Some("berlin"), &["192.0.2.1:4433"]);
        let text = token.to_string();
        let (head, tail) = text.split_at(80);
        assert_eq!(format!("  {head}\n    {tail}\r\n").parse(), Ok(token));
    }

    #[test]
    fn what_is_cut_off_is_told_by_how_much() {
        let text = token(None, &["192.0.2.1:4433"]).to_string();
        for length in PREFIX.len() + 4..text.len() {
            let told = text[..length].parse::<Token>().unwrap_err();
            assert_eq!(told, TokenError::Length { found: length, whole: text.len() });
        }
        let told = format!("{text}x").parse::<Token>().unwrap_err().to_string();
        let whole = text.len();
        assert_eq!(
            told,
            format!("the join token has {} characters of {whole}: copy the whole of it", whole + 1)
        );
    }

    #[test]
    fn another_text_is_told_from_another_version() {
        for text in ["", "landbridge", "landbridge-", "abc", "eyJhbGciOi", "landbridgex-AAAA"] {
            assert_eq!(text.parse::<Token>(), Err(TokenError::Other), "{text}");
        }
        assert_eq!("landbridge2-AAAA".parse::<Token>(), Err(TokenError::Version));
        assert_eq!("landbridge1-".parse::<Token>(), Err(TokenError::Altered));
        assert_eq!("landbridge1-é".parse::<Token>(), Err(TokenError::Altered));
    }

    /// A name that no cluster can have, under a checksum that is right.
    #[test]
    fn a_token_that_makes_no_sense_names_the_field() {
        let mut body = Writer::default();
        body.raw(&[0; 72]);
        body.text("Prod");
        let mut all = Writer::default();
        all.counted(&body.finish());
        let mut all = all.finish();
        let checksum = Sha256::digest(&all);
        all.extend_from_slice(&checksum[..CHECKSUM]);
        let text = format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&all));
        assert_eq!(text.parse::<Token>(), Err(TokenError::Field("set")));
    }

    #[test]
    fn no_secret_is_ever_printed() {
        let token = token(None, &[]);
        let told = format!("{token:?}");
        assert!(told.contains(&format!("TokenSecret({})", token.secret.id())), "{told}");
        assert!(!told.contains("7, 7"), "{told}");
    }

    proptest! {
        /// One wrong character is found, wherever it stands.
        #[test]
        fn a_wrong_character_is_told(at in 0usize..150, to in "[A-Za-z0-9_-]") {
            let good = token(Some("berlin"), &["192.0.2.1:4433"]);
            let text = good.to_string();
            let at = PREFIX.len() + at % (text.len() - PREFIX.len());
            let bad = format!("{}{to}{}", &text[..at], &text[at + 1..]);
            if bad != text {
                prop_assert!(bad.parse::<Token>().is_err());
            }
        }

        /// Input never panics.
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,300}", encoded in "[A-Za-z0-9_-]{0,300}") {
            let _ = text.parse::<Token>();
            let _ = format!("{PREFIX}{encoded}").parse::<Token>();
        }
    }
}
