//! How to serve: what the command line, or whoever else starts a server, decides.

use std::{fmt, net::SocketAddr, num::NonZeroU32, num::NonZeroUsize, time::Duration};

use crate::zone::Zone;

/// How to serve.
#[derive(Clone, Debug)]
pub struct Config {
    /// The secret behind DNS cookies, and whether clients must have one.
    pub cookies: Cookies,
    /// How long to go on answering after having said that the server is not ready any more, so that whoever sends
    /// queries hears of it before they go unanswered.
    pub lame_duck: Duration,
    /// Where to listen, over UDP and TCP each. Port 0 is any free one, the same for both. Answers over UDP come
    /// from the address that was asked only where that address is named: prefer it to `0.0.0.0` and `[::]`.
    pub listen: Vec<SocketAddr>,
    /// One of so many queries is written to the log; none where nothing is given.
    pub log_one_in: Option<NonZeroU32>,
    /// How long the Kubernetes API may be away before the server says that it is not ready; for ever where nothing
    /// is given. It goes on answering in any case.
    pub max_age: Option<Duration>,
    /// How many answers a second over UDP one source may have; any number where nothing is given.
    pub rate: Option<NonZeroU32>,
    /// How long answers may be cached.
    pub ttl: Ttl,
    /// Resolvers that other zones are asked of. Without any, questions for other zones are refused.
    pub upstream: Vec<SocketAddr>,
    /// Threads for UDP at each address; one for each core where nothing is given.
    pub workers: Option<NonZeroUsize>,
    /// What to answer for.
    pub zone: Zone,
}

impl Default for Config {
    /// `clusterset.local`, as CoreDNS would answer it, nowhere.
    fn default() -> Self {
        Self {
            cookies: Cookies::default(),
            lame_duck: Duration::ZERO,
            listen: Vec::new(),
            log_one_in: None,
            max_age: None,
            rate: None,
            ttl: Ttl::default(),
            upstream: Vec::new(),
            workers: None,
            zone: Zone::default(),
        }
    }
}

/// How long answers may be cached, by kind; whole seconds are used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ttl {
    /// A and AAAA records, and what else the zone itself has.
    pub addresses: Duration,
    /// That a name or a type of record is not there (RFC 2308).
    pub negative: Duration,
    /// SRV records.
    pub ports: Duration,
}

impl Default for Ttl {
    /// Five seconds, as CoreDNS has it.
    fn default() -> Self {
        let five = Duration::from_secs(5);
        Self { addresses: five, negative: five, ports: five }
    }
}

/// What is done about DNS cookies (RFC 7873).
#[derive(Clone, Debug, Default)]
pub struct Cookies {
    /// Whether a client that can have a cookie must have one: over UDP it is then answered from its second query on,
    /// and one that knows no cookies is sent to TCP.
    pub required: bool,
    /// The secret, the same for all replicas that answer at one address. Where nothing is given the server draws one.
    pub secret: Option<CookieSecret>,
}

/// What server cookies are made with (RFC 9018 section 6). It is never shown.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct CookieSecret([u8; 16]);

impl CookieSecret {
    /// Octets that nobody else knows.
    #[must_use]
    pub fn new(octets: [u8; 16]) -> Self {
        Self(octets)
    }

    /// Reads 32 hexadecimal digits, as other name servers keep them; white space around them is left out.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.trim();
        if digits.len() != 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        Some(Self(u128::from_str_radix(digits, 16).ok()?.to_be_bytes()))
    }

    pub(crate) fn octets(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for CookieSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CookieSecret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_32_digits_and_is_never_shown() {
        let secret = CookieSecret::parse(" e5e973e5a6b2a43f48e7dc849e37bfcf\n").unwrap();
        assert_eq!(secret.octets()[..3], [0xe5, 0xe9, 0x73]);
        assert_eq!(format!("{secret:?}"), "CookieSecret(…)");
        for text in ["", "e5e9", "+5e973e5a6b2a43f48e7dc849e37bfcf", &"g".repeat(32)] {
            assert_eq!(CookieSecret::parse(text), None, "{text}");
        }
    }
}
